"""Build the embedded data sets from the registry packages that carry them; anyone can re-run it.

    python data/build.py            download each wheel, check it, write data/*.parquet and data/SHA256SUMS
    python data/build.py --check    the same into a temporary folder, then compare the values with the files here

Every wheel is pinned by version and SHA-256 and its licence text is looked for before a byte is taken. Nothing in a wheel is run or
installed, and no value is changed: columns are renamed and text becomes dates and numbers. What the values mean (zones, open or close
stamps, adjustment) is the business of emp_nb.data.catalog. Needs pip, pandas and pyarrow. Another pyarrow version writes other bytes
for the same values, which is why --check compares values.
"""
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent

WHEELS = {      # requirement: (SHA-256 of the wheel, licence file inside it, words that file must hold)
    "skfolio==1.12.2": ("2d324c62a4188dc0b62a713f8d5cea177e208a5b45987e3d3f204dd56d3a669b",
                        "skfolio-1.12.2.dist-info/licenses/LICENSE", "BSD 3-Clause License"),
    "mlfinpy==0.1.2": ("2e0237e0a5f693bb1c7e9758e52ec03033a4d24ecee1162899d8241d7340e3f2",
                       "mlfinpy-0.1.2.dist-info/LICENSE", "MIT License"),
    "bokeh_sampledata==2026.1": ("f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
                                 "bokeh_sampledata-2026.1.dist-info/licenses/LICENSE.txt", "Redistribution and use in source and binary forms"),
    "gym-anytrading==2.0.0": ("29e88b9d38272ea338c8cfcebc6a0f0302c7a8c02048331ad6a4d22cdd825e54",
                              "gym_anytrading-2.0.0.dist-info/LICENSE", "MIT License"),
}


def sha256(path: Path) -> str:
    "SHA-256 of a file, as hex."
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(requirement: str, folder: Path) -> zipfile.ZipFile:
    "The wheel of a pinned requirement, downloaded, its checksum and licence checked."
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement], check=True)
    name = requirement.split("==")[0].replace("-", "_")
    path = next(folder.glob(f"{name}-*.whl"))
    checksum, licence, words = WHEELS[requirement]
    if sha256(path) != checksum:
        raise SystemExit(f"{path.name} must have SHA-256 {checksum}, got {sha256(path)}; the registry serves another file, do not use it")
    archive = zipfile.ZipFile(path)
    if words not in archive.read(licence).decode():
        raise SystemExit(f"{path.name} must carry its licence in {licence} with the words {words!r}, it does not; look before you copy")
    return archive


def table(archive: zipfile.ZipFile, member: str) -> pd.DataFrame:
    "A CSV of the wheel, gzipped or not, as a frame of the values as they stand."
    raw = archive.read(member)
    return pacsv.read_csv(io.BytesIO(gzip.decompress(raw) if member.endswith(".gz") else raw)).to_pandas()


def dated(frame: pd.DataFrame, column: str = "Date") -> pd.DataFrame:
    "The frame with `column` parsed into dates and named date."
    return frame.rename(columns={column: "date"}).assign(date=lambda f: pd.to_datetime(f["date"]).dt.date)


def spx_close(wheels):
    "S&P 500 index, closes."
    return dated(table(wheels["skfolio==1.12.2"], "skfolio/datasets/data/sp500_index.csv.gz")).rename(columns={"SP500": "close"})


def stocks(wheels):
    "20 members of the S&P 500, adjusted closes."
    return dated(table(wheels["skfolio==1.12.2"], "skfolio/datasets/data/sp500_dataset.csv.gz"))


def etfs(wheels):
    "23 exchange-traded funds, closes."
    return dated(table(wheels["mlfinpy==0.1.2"], "mlfinpy/dataset/data/stock_prices.csv"))


def ticks(wheels):
    "E-mini S&P 500 futures, trades."
    frame = table(wheels["mlfinpy==0.1.2"], "mlfinpy/dataset/data/tick_data.csv")
    return pd.DataFrame({"time": pd.to_datetime(frame["DateTime"]).astype("datetime64[ms]"), "price": frame["Price"], "size": frame["Volume"].astype("int32")})


def tech(wheels):
    "Five technology stocks, unadjusted open, high, low, close, volume and the source's adjusted close."
    archive = wheels["bokeh_sampledata==2026.1"]
    record = next(d for d in json.loads(archive.read("bokeh_sampledata-2026.1.dist-info/licenses/licenses/datasets.json"))["datasets"] if d["module"] == "stocks")
    if record["recorded_license"] != "Public domain":
        raise SystemExit(f"the stocks of bokeh_sampledata must be public domain, the wheel says {record['recorded_license']!r}; look before you copy")
    frame = dated(table(archive, "bokeh_sampledata/_data/stocks.csv.gz"))
    return frame.rename(columns=lambda c: c.lower().replace(" ", "_")).rename(columns={"ticker": "symbol"})


def eurusd(wheels):
    "EUR/USD ask, one hour; `opened` is the stamp of the source, in the source's clock."
    frame = table(wheels["gym-anytrading==2.0.0"], "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv").rename(columns=str.lower)
    frame.insert(0, "opened", pd.to_datetime(frame.pop("time"), format="%d.%m.%Y %H:%M:%S.%f").astype("datetime64[ms]"))
    return frame


SETS = {f.__name__: f for f in (spx_close, stocks, etfs, tech, eurusd, ticks)}


def write(folder: Path):
    "Write every set into `folder`, with SHA256SUMS."
    with tempfile.TemporaryDirectory() as downloads:
        wheels = {requirement: wheel(requirement, Path(downloads)) for requirement in WHEELS}
        for name, build in SETS.items():
            content = pa.Table.from_pandas(build(wheels), preserve_index=False).replace_schema_metadata(None)
            pq.write_table(content, folder / f"{name}.parquet", compression="zstd", compression_level=19)
    sums = [f"{sha256(folder / f'{name}.parquet')}  {name}.parquet\n" for name in SETS]
    (folder / "SHA256SUMS").write_text("".join(sums))


def check():
    "Rebuild beside the files here and compare the values."
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        differ = [name for name in SETS if not pq.read_table(HERE / f"{name}.parquet").equals(pq.read_table(Path(folder) / f"{name}.parquet"))]
    if differ: raise SystemExit(f"data/ must equal what its sources give: {', '.join(differ)} differ; run data/build.py and look at the change")
    print(f"{len(SETS)} data sets equal what their sources give")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]: check()
    elif not sys.argv[1:]: write(HERE)
    else: raise SystemExit(__doc__)
