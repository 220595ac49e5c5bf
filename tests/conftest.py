"""What every test shares: the root of the clone, and the rule that a skip is a failure where everything is required."""
import os
import shutil
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]


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
