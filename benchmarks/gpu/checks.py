"""Run tests/devices and write each outcome at once: ``checks.py OUT.json [pytest's options]``."""

import sys
from pathlib import Path

import pytest

from unet_sharp_det.files import write_json

TESTS = Path(__file__).parents[2] / "tests" / "devices"


class Record:
    """A plugin of pytest."""

    def __init__(self, path: str):
        self._path = path
        self._outcomes: dict[str, dict] = {}

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self._note(report, 0.0)

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._note(report, report.duration)

    def _note(self, report, seconds: float) -> None:
        outcome = {"outcome": report.outcome, "seconds": round(seconds, 2)}
        if report.failed:
            outcome["error"] = report.longreprtext[-2000:]
        self._outcomes[report.nodeid.removeprefix("tests/devices/")] = outcome
        write_json(self._path, self._outcomes, indent=1)


if __name__ == "__main__":
    options = ["-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", *sys.argv[2:]]
    sys.exit(pytest.main([str(TESTS), *options], [Record(sys.argv[1])]))
