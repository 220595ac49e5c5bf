"""What every test shares: the root of the clone, and the rule that a skip is a failure where everything is required."""
import os
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
