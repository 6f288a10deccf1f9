"""What may be left out: on a laptop anything that is missing, under CI only what needs a GPU, MNIST or root.

A pytest plug-in, named in ``pyproject.toml``. On a laptop a skip is a line of the summary; under ``CI=true``
it is a failure with the same sentence, because a green run there has to mean that everything ran.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

STRICT = os.environ.get("CI", "").lower() in ("1", "true")
# What a machine may lack, and cannot be given by installing something.
LACKING = ("gpu", "mnist", "root")


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"left out under CI, where only tests of {' or '.join(LACKING)} may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail") or any(item.get_closest_marker(name) for name in LACKING)
    if STRICT and report.skipped and not expected:
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if STRICT and report.skipped:
        _refuse(report)
    return report
