"""Under CI a skip is a failure, unless it is for want of a GPU, of MNIST's files or of a right of root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

def test_without_a_server():
    pytest.skip("no redis-server")

@pytest.mark.gpu
def test_without_a_gpu():
    pytest.skip("no GPU")

@pytest.mark.mnist
def test_without_the_files():
    pytest.skip("no files")

@pytest.mark.root
def test_without_a_right():
    pytest.skip("not root")

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail():
    assert False
"""
MODULE = 'import pytest; pytest.importorskip("no_such_module")'


@pytest.mark.parametrize(
    ("ci", "result"), [("true", "1 failed, 3 skipped, 1 xfailed, 1 error"), ("", "5 skipped, 1 xfailed")]
)
def test_what_is_left_out_under_ci_is_a_failure_unless_the_machine_lacks_it(
    tmp_path: Path, ci: str, result: str
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  gpu: needs a GPU\n  mnist: needs files\n  root: needs root\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.required",
        "-ra",
        "--continue-on-collection-errors",
    ]
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result in ended.stdout
    assert (
        "where only tests of gpu or mnist or root may be: Skipped: no redis-server" in ended.stdout
    ) == bool(ci)
