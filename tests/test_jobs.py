"""Jobs as a person runs them: the real command line, real kernels, real data, in a home of their own."""
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import EMP, ROOT, notebook
from emp_nb.core import DataError, SourceError, settings
from emp_nb.jobs import runner
from emp_nb.jobs.notebook import inspect, jobs
from emp_nb.live.store import ledger

SMALL = {"EMP_EVOLUTION_POPULATION": "16", "EMP_EVOLUTION_GENERATIONS": "2"}


@pytest.fixture
def home(home, monkeypatch):
    "A home in which a search is small."
    for name, value in SMALL.items(): monkeypatch.setenv(name, value)
    settings.cache_clear()
    return home


@pytest.fixture
def toys(home):
    "A home with two jobs of its own: `count` writes a number, `double` builds on it."
    (home / "pipelines").mkdir()
    write = 'from pathlib import Path\nimport json\nPath(out, "n.txt").write_text(str({}))\nPath(out, "summary.json").write_text(json.dumps({{"verdict": "fine", "lines": ["n was written"]}}))'
    notebook(home / "pipelines/count.ipynb", 'n: int  # things\nwait: float = 0.0  # seconds\nout: str = "."  # folder', "import time\ntime.sleep(wait)", write.format("n"))
    notebook(home / "pipelines/double.ipynb", 'count: str = "count(n=4)"  # a count run\nout: str = "."  # folder', "from pathlib import Path\nm = 2 * int(Path(count, 'n.txt').read_text())", write.format("m"))
    notebook(home / "pipelines/refuse.ipynb", 'n: int  # things\nout: str = "."  # folder', 'from emp_nb.core import DataError\nraise DataError(f"n must be even, got {n}; take another")')
    return home


def emp(*words, **more):
    "The command line in a process of its own."
    return subprocess.run([EMP, *map(str, words)], capture_output=True, text=True, **more)


def kept(home): return {p: p.stat().st_mtime_ns for p in (home / "runs").rglob("*") if p.is_file() and "ledger" not in p.name}


# -- parameters ---------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, says", [(["-p", "n=1", "-p", "m=2"], "does not know parameter 'm'; valid are n: int (things)"), ([], "needs parameter n"),
                                         (["-p", "n=1.5"], "parameter n must be int"), (["-p", "n"], "-p name=value")])
def test_bad_parameters_are_refused_before_anything_starts(toys, given, says):
    done = emp("run", "count", *given)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not kept(toys)


def test_unknown_job_is_refused_with_the_list(toys):
    done = emp("run", "nothing")
    assert done.returncode == 2 and "jobs are count, double, refuse" in done.stderr


def test_every_shipped_job_declares_typed_parameters_with_units():
    for job in jobs():
        for p in inspect(job).values(): assert p.help and p.kind


# -- runs ---------------------------------------------------------------------------------------------------------------------------------------

def test_the_same_content_runs_once_and_other_content_again(toys):
    first, again, other, forced = (runner.run("count", {"n": n}, force=f) for n, f in ((4, False), ("04", False), (5, False), (4, True)))
    assert [r.status for r in (first, again, other, forced)] == ["done", "reused", "done", "done"]
    assert again.artefacts == first.artefacts and first.peak_memory_mb > 10 and first.verdict == "fine"
    assert runner.run("double").status == "done" and runner.summary_of(runner.run("double")) == ["n was written"]


def test_outputs_that_were_touched_are_made_again(toys):
    first = runner.run("count", {"n": 4})
    (runner.runs_dir() / first.artefacts["folder"] / "n.txt").write_text("tampered")
    assert runner.run("count", {"n": 4}).status == "done"


def test_a_request_is_served_once_whatever_its_content(toys):
    first = runner.run("count", {"n": 4}, request="monday")
    second = runner.run("count", {"n": 9}, request="monday")
    assert second.id == first.id and second.parameters["n"] == 4
    assert runner.run("count", {"n": 4}, request="tuesday").status == "reused"


def test_a_missing_upstream_run_is_named_with_the_command_that_makes_it(toys):
    with pytest.raises(DataError, match="first `emp run count -p n=4`"): runner.run("double")
    with pytest.raises(DataError, match=r"job\(name=value"): runner.run("double", {"count": "count(n)"})
    with pytest.raises(DataError, match="does not know m; it takes n, wait"): runner.run("double", {"count": "count(m=4)"})
    runner.run("count", {"n": 4})
    folder = runner.runs_dir() / runner.run("count", {"n": 4}).artefacts["folder"]
    assert runner.run("double", {"count": str(folder)}).status == "done"


def test_a_failed_job_keeps_its_notebook_and_leaves_the_rest_alone(toys):
    runner.run("count", {"n": 4})
    before = kept(toys)
    done = emp("run", "refuse", "-p", "n=3")
    assert done.returncode == 1 and "n must be even, got 3; take another" in done.stderr and "Traceback" not in done.stderr
    row = ledger().runs("refuse")[0]
    book = json.loads((toys / "runs" / row.artefacts["notebook"]).read_text())
    assert row.status == "failed" and "n must be even" in "".join(book["cells"][0]["source"]) and "raise DataError" in "".join(book["cells"][1]["source"])
    assert {p: t for p, t in kept(toys).items() if p in before} == before


def test_a_new_ledger_may_be_opened_by_many_at_once(toys):
    go = time.time() + 2
    opening = f"import time; from emp_nb.live.store import ledger; s = ledger(); time.sleep(max(0, {go} - time.time())); print(len(s.runs()))"
    many = [subprocess.Popen([sys.executable, "-c", opening], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [p.communicate() for p in many] == [("0\n", "")] * 6


def test_two_starts_at_once_run_once(toys):
    with ThreadPoolExecutor(2) as pool: both = list(pool.map(lambda _: emp("run", "count", "-p", "n=4", "-p", "wait=1.5"), range(2)))
    assert [b.returncode for b in both] == [0, 0], both
    assert sorted(r.status for r in ledger().runs("count")) == ["done", "reused"]
    assert any("is running already" in b.stderr for b in both)


def started(*words):
    "The command line under way: its process, once its row stands in the ledger."
    process = subprocess.Popen([EMP, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not ledger().runs(words[1]) and time.monotonic() < deadline: time.sleep(.05)
    return process


def test_who_finds_the_same_run_under_way_waits_and_reuses_it(toys, capsys):
    other = started("run", "count", "-p", "n=4", "-p", "wait=2")
    mine = runner.run("count", {"n": 4, "wait": 2.})
    assert other.wait(30) == 0 and mine.status == "reused" and "is running already" in capsys.readouterr().err
    other.stderr.close()


@pytest.mark.process
@pytest.mark.parametrize("how, left", [(signal.SIGTERM, "interrupted"), (signal.SIGKILL, "running")])
def test_a_run_that_was_ended_is_marked_or_taken_over_and_runs_anew(toys, how, left):
    process = started("run", "count", "-p", "n=4", "-p", "wait=60")
    process.send_signal(how)
    process.wait(30)
    assert ledger().runs("count")[0].status == left
    assert how != signal.SIGTERM or (process.returncode == 130 and "resumes where it stopped" in process.stderr.read())
    process.stderr.close()
    notebook(toys / "pipelines/count.ipynb", *[c["source"].replace("time.sleep(wait)", "") for c in json.loads((toys / "pipelines/count.ipynb").read_text())["cells"]])
    assert runner.run("count", {"n": 4, "wait": 60.}).status == "done"


def test_an_equal_run_that_died_is_taken_over(toys):
    store, values = ledger(), {"n": 4, "wait": 0.}
    content = runner.content_of("count", values, runner.data_hash("count", values))
    dead = subprocess.run([sys.executable, "-c", f"from emp_nb.live.store import ledger; print(ledger().claim('count', 'content {content}', '{content}')[0].id)"], capture_output=True, text=True)
    assert store.get(dead.stdout.strip()).status == "running"
    assert runner.run("count", values).status == "done"
    gone = store.get(dead.stdout.strip())
    assert gone.status == "interrupted" and "taken over" in gone.error


def test_a_crash_of_the_runner_itself_closes_the_row(toys):
    book = json.loads((toys / "pipelines/count.ipynb").read_text())
    book["nbformat"] = "four"
    (toys / "pipelines/count.ipynb").write_text(json.dumps(book))
    with pytest.raises(nbformat.NBFormatError): runner.run("count", {"n": 4})
    assert ledger().runs("count")[0].status == "failed"


def test_a_place_that_cannot_be_written_is_refused(toys, monkeypatch):
    (toys / "file").write_text("")
    for name, value, says in (("EMP_DATA_RUNS_DIR", "file/runs", "runs need a folder to write to"), ("EMP_LIVE_STORE_URL", "sqlite:///file/x.sqlite", "run ledger must be readable")):
        monkeypatch.setenv(name, value)
        done = emp("run", "count", "-p", "n=4")
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1
        monkeypatch.delenv(name)
    monkeypatch.setenv("EMP_DATA_RUNS_DIR", "file/runs")
    settings.cache_clear()
    with pytest.raises(SourceError, match="runs need a folder"): runner.run("count", {"n": 4})


def test_kernels_are_kept_by_code_version_unless_somebody_provides_for_them(toys, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "somewhere")
    assert runner.compiled() == {}
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert runner.compiled()["NUMBA_CACHE_DIR"].endswith(runner.code_version())


@pytest.mark.parametrize("text", ["steps: 3", "nothing", "steps:\n  - {task: count}\n"])
def test_a_broken_pipeline_is_refused(toys, text):
    (toys / "pipelines/daily.yaml").write_text(text)
    with pytest.raises(DataError, match=r"daily\.yaml"): runner.daily()


def test_the_pipeline_stops_at_the_first_failure_and_resumes(toys):
    (toys / "pipelines/daily.yaml").write_text("steps:\n  - {job: count, parameters: {n: 4}}\n  - {job: refuse, parameters: {n: 3}}\n  - {job: double}\n")
    assert [r.status for r in runner.daily()] == ["done", "failed"]
    (toys / "pipelines/daily.yaml").write_text("steps:\n  - {job: count, parameters: {n: 4}}\n  - {job: double}\n")
    assert [r.status for r in runner.daily()] == ["reused", "done"]


def test_settings_that_a_job_does_not_read_do_not_make_it_run_again(toys, monkeypatch):
    notebook(toys / "pipelines/reads.ipynb", 'n: int = 1  # things\nout: str = "."  # folder', "from emp_nb.core import settings\nprint(settings().risk.max_gross)")
    runner.run("reads")
    monkeypatch.setenv("EMP_EVOLUTION_SEED", "99")
    settings.cache_clear()
    assert runner.run("reads").status == "reused"
    monkeypatch.setenv("EMP_RISK_MAX_GROSS", "1.4")
    settings.cache_clear()
    assert runner.run("reads").status == "done"
    notebook(toys / "pipelines/all.ipynb", 'n: int = 1  # things\nout: str = "."  # folder', "from emp_nb.core import settings\ns = settings()\nprint(s)")
    assert set(runner.settings_used(toys / "pipelines/all.ipynb")) == {"data", "senses", "fitness", "evolution", "risk", "live"}
    assert runner.data_hash("ingest", {}) if "ingest" in jobs() else True


# -- bad files, through the real command ----------------------------------------------------------------------------------------------------------

def good_frame():
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(.01 * rng.standard_normal(300)))
    index = pd.date_range("2020-01-01 21:00", periods=300, freq="B", tz="UTC", name="time")
    return pd.DataFrame({"open": close, "high": close * 1.01, "low": close * .99, "close": close, "volume": 1e6}, index=index)


def spoilt(column, value):
    frame = good_frame()
    frame.iloc[7, list(frame).index(column)] = value
    return frame


def refusal(done):
    "The sentence of a job that was refused; the transport of a dying kernel may speak before it."
    return next(line for line in done.stderr.splitlines() if line.startswith("ingest: "))


BAD = {"nan": (lambda: spoilt("close", np.nan), "NaN or infinite"), "inf": (lambda: spoilt("close", np.inf), "NaN or infinite"), "zero": (lambda: spoilt("low", 0.), "zero or negative"),
       "negative": (lambda: spoilt("close", -3.), "zero or negative"), "crossed": (lambda: spoilt("high", 1.), "high < low"), "unsorted": (lambda: good_frame().iloc[::-1], "unsorted"),
       "duplicate": (lambda: good_frame().iloc[[0, 0, *range(1, 300)]], "duplicates"), "naive": (lambda: good_frame().tz_localize(None), "time zone"),
       "empty": (lambda: good_frame().iloc[:0], "at least one row"), "noclose": (lambda: good_frame().drop(columns="close"), "column close")}


@pytest.mark.process
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_sentence_and_touches_nothing(home, name):
    make, says = BAD[name]
    make().to_parquet(home / "x.parquet")
    done = emp("run", "ingest", "-p", f"dataset={home / 'x.parquet'}")
    assert done.returncode == 1 and says in refusal(done) and "Traceback" not in done.stderr
    assert [p.suffix for p in kept(home)] == [".ipynb"], "only the notebook of the failed run is kept"


@pytest.mark.process
def test_truncated_missing_and_unknown_sources_give_one_sentence(home):
    good_frame().to_parquet(home / "x.parquet")
    (home / "x.parquet").write_bytes((home / "x.parquet").read_bytes()[:-200])
    for words, says in (((f"dataset={home / 'x.parquet'}",), "may be cut short"), ((f"dataset={home / 'absent.parquet'}",), "does not; check the name"),
                        (("dataset=dax",), "must be one of spx"), (("dataset=stocks", "symbols=NOPE"), "must be among")):
        done = emp("run", "ingest", *(w for p in words for w in ("-p", p)))
        assert done.returncode == 1 and says in refusal(done) and "Traceback" not in done.stderr


@pytest.mark.process
def test_a_good_file_of_ones_own_is_ingested(home):
    good_frame().to_csv(home / "mine.csv")
    done = emp("run", "ingest", "-p", f"dataset={home / 'mine.csv'}")
    assert done.returncode == 0, done.stderr
    assert "300 rows" in done.stdout and "quality 1.000" in done.stdout


# -- the pipeline and its page --------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def daily_home(tmp_path_factory):
    "A home in which the real daily pipeline ran twice, small."
    home = tmp_path_factory.mktemp("daily")
    (home / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    env = {**os.environ, "EMP_SETTINGS": str(home / "settings.ini"), "EMP_DATA_DATA_DIR": str(ROOT / "data"), **SMALL}
    return home, emp("run", "daily", env=env), emp("run", "daily", env=env)


@pytest.mark.jit
@pytest.mark.xdist_group("daily")
def test_daily_ends_with_a_summary_and_a_page_and_the_second_time_does_nothing(daily_home):
    home, first, second = daily_home
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0 and second.stderr.count(" reused ") == 9 and " done " not in second.stderr
    for word in ("SENSES", "EVOLUTION", "RISK", "STRESS", "absent: none", "report.html"): assert word in first.stdout
    assert any(v in first.stdout for v in ("NO EDGE", "EDGE", "INSUFFICIENT DATA"))


@pytest.mark.jit
@pytest.mark.xdist_group("daily")
def test_every_job_left_a_row_with_who_when_what(daily_home, monkeypatch):
    monkeypatch.setenv("EMP_SETTINGS", str(daily_home[0] / "settings.ini"))
    settings.cache_clear()
    rows = [r for r in ledger().runs(limit=50) if r.status == "done"]
    assert sorted(r.job for r in rows) == ["evolve", "ingest", "ingest", "ingest", "report", "risk", "sense", "stress", "validate"]
    for r in rows: assert r.who and r.host and r.started and r.ended and r.data_hash and r.code_version and r.duration_s > 0 and r.artefacts["files"]
    settings.cache_clear()


@pytest.mark.jit
@pytest.mark.xdist_group("daily")
@pytest.mark.browser
def test_the_page_opens_in_a_browser_asks_nobody_and_draws_its_charts(daily_home, browser):
    page_file = next((daily_home[0] / "runs/report").rglob("report.html"))
    page, asked, errors = browser.new_page(), [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(page_file.as_uri())
    page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    assert [u for u in asked if not u.startswith(("file:", "data:", "blob:"))] == [] and errors == []
    assert page.locator(".bk-Figure").count() >= 15
    words = page.inner_text("body")
    for word in ("S&P 500 index", "5,031", "8,313", "1999-01-04", "2022-12-28", "2009-03-09", "2020-03-23", "Hold-out", "Stress", "Black Monday", "absent"): assert word in words, word
    assert any(v in words for v in ("No edge was found", "An edge was found", "do not suffice"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out to the right"
