"""Seeds that are given away with their row: it is the row of the seed, had once, and forgotten in time."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Law
from models.noise import Address, draw
from service.seeds import AT_ONCE, BITS, KEPT, Seeds

SHAPE = (3, 2)


def seeds(law: Law = "standard_normal") -> Seeds:
    return Seeds(law, SHAPE, np.dtype("float32"))


@pytest.mark.parametrize("law", ["standard_normal", "uniform", "logistic"])
def test_the_row_that_is_there_is_the_one_that_is_drawn_alone_to_the_bit(law: Law) -> None:
    given = seeds(law)
    for _ in range(AT_ONCE + 3):
        address = Address(given.take())
        row = given.row(address)
        assert row is not None
        assert row.tobytes() == draw([(address, 1)], law, SHAPE).tobytes()


def test_a_row_is_had_once() -> None:
    given = seeds()
    address = Address(given.take())
    assert given.row(address) is not None
    assert given.row(address) is None


def test_another_row_of_the_seed_and_one_at_a_temperature_are_not_there() -> None:
    given = seeds()
    seed = given.take()
    for other in (
        Address(seed, 1),
        Address(seed, scale=0.5),
        Address(seed, truncation=1.0),
        Address(seed, stream=1),
    ):
        assert given.row(other) is None
    assert given.row(Address(seed)) is not None


def test_seeds_differ_and_survive_json() -> None:
    given = seeds()
    taken = [given.take() for _ in range(2 * AT_ONCE)]
    assert len(set(taken)) == len(taken)
    assert all(0 <= seed < 2**BITS for seed in taken)


def test_rows_that_nobody_asks_for_do_not_pile_up() -> None:
    given = seeds()
    for _ in range(20 * AT_ONCE):
        given.take()
        assert len(given._rows) <= KEPT + AT_ONCE
