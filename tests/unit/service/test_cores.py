"""How many processes a service has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service import cores
from service.settings import Settings

MINE = len(os.sched_getaffinity(0))


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """Where control groups are mounted."""
    return tmp_path / "cgroup"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_control_groups_it_is_the_affinity_that_counts(groups: Path) -> None:
    assert cores.cores(groups, groups / "none") == MINE


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", MINE),
        ("100000 100000", 1),
        ("190000 100000", 1),
        ("50000 100000", 1),
        ("900000 1000", MINE),
    ],
)
@pytest.mark.parametrize("where", ["", "service", "outer/service"])
def test_a_group_may_spend_whole_cores_and_at_least_one(
    groups: Path, where: str, quota: str, expected: int
) -> None:
    written(groups / where / "cpu.max", quota + "\n")
    own = written(groups.parent / "own", "1:name=systemd:/x\n0::/outer/service\n")
    assert cores.cores(groups, own) == (expected if where != "service" else MINE)


@pytest.mark.parametrize(("quota", "expected"), [("-1", MINE), ("150000", 1)])
def test_the_groups_of_old_say_it_in_two_files(groups: Path, quota: str, expected: int) -> None:
    written(groups / "cpu" / "cpu.cfs_quota_us", quota + "\n")
    written(groups / "cpu" / "cpu.cfs_period_us", "100000\n")
    own = written(groups.parent / "own", "4:cpu,cpuacct:/docker/0123\n")
    assert cores.cores(groups, own) == expected


def test_a_number_is_that_many_and_auto_is_one_where_a_gpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.count(Settings(processes=3, device="cuda")) == 3
    assert cores.count(Settings(processes="auto", device="cuda")) == 1
    assert cores.count(Settings(processes="auto", device="cpu")) == cores.cores()
    monkeypatch.setattr(cores, "NVIDIA", Path("/dev/null"))
    assert cores.count(Settings(processes="auto", runtime="torchscript")) == 1
    monkeypatch.setattr(cores, "NVIDIA", Path("/dev/no-such-device"))
    assert cores.count(Settings(processes="auto", runtime="torchscript")) == cores.cores()
