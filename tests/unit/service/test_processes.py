"""When a process is started again, and when that would be of no use."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from service.processes import DEATHS, WITHIN_S, Record
from service.seat import LONGEST, Seat, check_folder

FIRST = Seat(0, 2, "/tmp/x", {})
AGAIN = replace(FIRST, again=True)


@dataclass
class Dead:
    """A process that has ended."""

    seat: Seat
    ready: bool


def reasons(every_s: float, deaths: list[Dead]) -> list[bool]:
    """Whether each death, that long after the one before, is the last."""
    record = Record()
    return [record.hopeless(dead, number * every_s) is not None for number, dead in enumerate(deaths)]


def test_a_start_that_fails_is_not_tried_again() -> None:
    assert reasons(1, [Dead(FIRST, False)]) == [True]


def test_a_few_accidents_are_allowed_and_one_more_within_a_minute_is_not() -> None:
    deaths = [Dead(FIRST, True), *[Dead(AGAIN, True)] * DEATHS]
    assert reasons(WITHIN_S / (DEATHS + 1), deaths) == [False] * DEATHS + [True]


def test_accidents_that_are_rare_are_allowed_for_ever() -> None:
    assert not any(reasons(WITHIN_S / DEATHS, [Dead(FIRST, True), *[Dead(AGAIN, True)] * 100]))


def test_one_that_is_never_ready_again_is_given_up_however_long_it_takes() -> None:
    deaths = [Dead(FIRST, True), *[Dead(AGAIN, False)] * DEATHS]
    assert reasons(10 * WITHIN_S, deaths) == [False] * DEATHS + [True]


def test_a_place_is_told_by_one_line() -> None:
    said = replace(AGAIN, given={"port": 8000, "artifacts": "a\nb"}).line()
    assert said.count(b"\n") == 1
    assert said.endswith(b"\n")


def test_a_folder_whose_sockets_would_have_too_long_a_path_is_refused() -> None:
    fits = "/" + (LONGEST - len("//9.sock")) * "x"
    check_folder(fits, 10)
    with pytest.raises(OSError, match="TMPDIR"):
        check_folder(fits, 11)
