"""Seeds that are given away with their rows: they are those of the seed, had once, and forgotten in time."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Law
from models.noise import Address, draw
from service.seeds import AT_ONCE, BITS, KEPT, MOST, Seeds

SHAPE = (3, 2)


def seeds(law: Law = "standard_normal") -> Seeds:
    return Seeds(law, SHAPE, np.dtype("float32"))


@pytest.mark.parametrize("law", ["standard_normal", "uniform", "logistic"])
@pytest.mark.parametrize("rows", [1, 3, MOST])
def test_the_rows_that_are_there_are_those_that_are_drawn_alone_to_the_bit(law: Law, rows: int) -> None:
    given = seeds(law)
    for _ in range(AT_ONCE // rows + 3):
        address = Address(given.take(rows))
        noise = given.noise(address, rows)
        assert noise is not None
        assert noise.tobytes() == draw([(address, rows)], law, SHAPE).tobytes()


def test_rows_are_had_once() -> None:
    given = seeds()
    address = Address(given.take(2))
    assert given.noise(address, 2) is not None
    assert given.noise(address, 2) is None


def test_other_rows_of_the_seed_and_those_at_a_temperature_are_not_there() -> None:
    given = seeds()
    seed = given.take(2)
    for other, rows in (
        (Address(seed, 1), 2),
        (Address(seed, scale=0.5), 2),
        (Address(seed, truncation=1.0), 2),
        (Address(seed, stream=1), 2),
        (Address(seed), 1),
        (Address(seed), 3),
    ):
        assert given.noise(other, rows) is None
    assert given.noise(Address(seed), 2) is not None


def test_seeds_differ_and_survive_json() -> None:
    given = seeds()
    taken = [given.take(1 + i % 5) for i in range(2 * AT_ONCE)]
    assert len(set(taken)) == len(taken)
    assert all(0 <= seed < 2**BITS for seed in taken)


def test_rows_that_nobody_asks_for_do_not_pile_up() -> None:
    given = seeds()
    for i in range(20 * AT_ONCE):
        given.take(1 + i % MOST)
        assert sum(map(len, given._noise.values())) == given._kept() <= KEPT + AT_ONCE
