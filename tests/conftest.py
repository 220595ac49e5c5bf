"""What every test shares: the root of the clone, compiled kernels of this code alone, Ctrl-C as a terminal sends it, and the rule that a skip is a failure where everything is required."""
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
# Numba renews a kernel when its own file changes, not when a kernel that it calls does: kernels are kept by the hash of all code
CODE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted([*ROOT.glob("emp_nb/**/*.py"), *ROOT.glob("nbs/*.ipynb")]))).hexdigest()[:12]
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache/numba" / CODE))
signal.signal(signal.SIGINT, signal.default_int_handler)           # a shell starts what runs in the background with Ctrl-C ignored


EMP = f"{sys.prefix}/bin/emp"


def notebook(path, *sources):
    "A job of code cells, the first tagged parameters."
    made = [{"cell_type": "code", "id": f"c{i}", "execution_count": None, "outputs": [], "source": s, "metadata": {} if i else {"tags": ["parameters"]}} for i, s in enumerate(sources)]
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A settings.ini of its own in force, with the pipelines and data of the clone and no run yet."
    from emp_nb.core import settings
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    monkeypatch.setenv("EMP_SETTINGS", str(tmp_path / "settings.ini"))
    monkeypatch.setenv("EMP_DATA_DATA_DIR", str(ROOT / "data"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.skipped and os.environ.get("EMP_REQUIRE_ALL") == "1":
        report.outcome, report.longrepr = "failed", f"skipped where everything is required: {report.longrepr}"


@pytest.fixture(scope="session")
def browser():
    "A real Chromium; the test is skipped, and says so, where there is none."
    from playwright.sync_api import sync_playwright
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None: pytest.skip("no Chromium on this machine: apt-get install chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=path, args=quiet)
        yield opened
        opened.close()
