"""The tree itself: exports are current, notebooks are clean and readable, nothing is too big, nothing secret is tracked."""
import ast, configparser, json, re, shutil, statistics, subprocess, sys
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
JOBS = sorted((ROOT / "pipelines").glob("*.ipynb"))
MODULES = [p for p in sorted((ROOT / "emp_nb").rglob("*.py")) if p.name != "_modidx.py"]


def tracked(): return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
def cells(path): return json.loads(path.read_text())["cells"]
def source(cell): return "".join(cell["source"])
def exported(path): return [source(c) for c in cells(path) if c["cell_type"] == "code" and re.match(r"#\|\s*export\b", source(c))]
def lines(text): return [line for line in text.splitlines() if line.strip() and not line.startswith("#|")]
def wrapped(text): return sum(-(-len(line) // 100) for line in lines(text))
def by_name(paths): return {"argvalues": paths, "ids": [p.stem for p in paths]}


def test_export_changes_nothing(tmp_path):
    for name in ("nbs", "pyproject.toml", "settings.ini"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    (tmp_path / "emp_nb").mkdir()
    shutil.copy(ROOT / "emp_nb/__init__.py", tmp_path / "emp_nb")
    subprocess.run([sys.executable, "-c", "from nbdev.export import nb_export; from nbdev.doclinks import nbdev_export; nbdev_export()"], cwd=tmp_path, check=True, capture_output=True)
    fresh = {p.relative_to(tmp_path): p.read_text() for p in (tmp_path / "emp_nb").rglob("*.py")}
    committed = {p.relative_to(ROOT): p.read_text() for p in (ROOT / "emp_nb").rglob("*.py")}
    assert set(fresh) == set(committed), "a module without its notebook, or the other way round"
    assert [str(p) for p in fresh if fresh[p] != committed[p]] == [], "run nbdev-export and commit"


@pytest.mark.parametrize("path", **by_name(NOTEBOOKS + JOBS))
def test_notebook_is_clean(path):
    book = json.loads(path.read_text())
    assert set(book["metadata"]) <= {"kernelspec"}
    ids = [c.get("id") for c in book["cells"]]
    assert all(ids) and len(set(ids)) == len(ids)
    for cell in book["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("path", **by_name([p for p in NOTEBOOKS if p.name[0].isdigit()]))
def test_notebook_reads_as_an_essay(path):
    book = cells(path)
    prose = sum(wrapped(source(c)) for c in book if c["cell_type"] == "markdown")
    code = [lines(cell) for cell in exported(path)]
    total = sum(map(len, code))
    assert source(book[0]).startswith("#| default_exp ") and path.stem[3:] == source(book[0]).split()[2]
    assert re.match(r"# .+\n\n> ", source(book[1])), "H1 and a one-line blockquote come first"
    assert len(book) <= 90 and total <= 400
    wide = sum(map(wrapped, exported(path)))
    assert 5 * prose >= wide, f"{prose} lines of prose for {wide} exported, at 100 characters a line"
    assert statistics.median(map(len, code)) <= 12
    for cell in book:
        if source(cell).startswith("#| hide"):
            assert all(re.match(r"(from|import|#|%)", line) for line in source(cell).splitlines() if line.strip()), "hidden cells are for imports"


@pytest.mark.parametrize("path", **by_name(JOBS))
def test_job_holds_no_logic(path):
    code = [source(c) for c in cells(path) if c["cell_type"] == "code"]
    parameters = [c for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
    assert len(parameters) == 1
    for line in lines(source(parameters[0])): assert re.match(r"\w+: [\w\[\]]+( = .+)?  # \S", line), f"name: type = value  # unit, got {line}"
    for node in ast.walk(ast.parse("\n".join(code))):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.FunctionDef): assert node.end_lineno - node.lineno < 2, "two-line glue at most"


@pytest.mark.parametrize("path", **by_name(MODULES))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 50, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


def test_sizes():
    assert sum(len(p.read_text().splitlines()) for p in MODULES) <= 20_000
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    big = [f for f in tracked() if (ROOT / f).stat().st_size > 500_000 and not f.startswith("data/")]
    assert not big
    assert sum((ROOT / f).stat().st_size for f in tracked() if f.startswith("data/")) <= 8_000_000


def test_nothing_generated_secret_or_local_is_tracked():
    generated = [f for f in tracked() if re.search(r"(^|/)(runs|\.venv|__pycache__|\.ipynb_checkpoints)/|\.(pkl|pickle|sqlite|db|pyc)$", f)]
    assert not generated
    secret = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|ghp_[0-9A-Za-z]{30}|xox[bp]-[0-9A-Za-z-]{20}")
    local = re.compile(r"(?<![\w.])/(?:work|root|home)/[A-Za-z]|(?<![\w.])/tmp/[A-Za-z]")
    for name in tracked():
        path = ROOT / name
        if path.suffix in {".parquet", ".png", ".gz"} or name == "tests/test_tree.py": continue
        text = path.read_text()
        assert not secret.search(text), f"a secret in {name}"
        assert not local.search(text), f"a path of one machine in {name}: {local.search(text)[0]}"


def test_lock_pins_and_hashes_everything_and_names_no_registry():
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^[a-zA-Z0-9][^ \n]*", text, re.M)
    assert len(pins) > 50 and all("==" in p for p in pins)
    assert "://" not in text
    for block in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()): assert "--hash=sha256:" in block, block.splitlines()[0]


def test_every_setting_is_used():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "settings.ini")
    core = ROOT / "emp_nb/core.py"
    code = "\n".join(p.read_text() for p in MODULES if p != core) + "\n".join("\n".join(source(c) for c in cells(p)) for p in JOBS)
    unused = [f"[{s}] {k}" for s in parser.sections() for k in parser[s] if not re.search(rf"\b{k}\b", code)]
    assert not unused, f"settings that nobody reads: {unused}"
