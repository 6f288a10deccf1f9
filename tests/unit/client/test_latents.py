"""Codes as values: they interpolate as the service does, and know where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from pushforward_client import Latents
from service import paths

RNG = np.random.default_rng(0)
T = np.linspace(0, 1, 7)


def codes(count: int = 1, model: str = "m", version: str | None = "1") -> Latents:
    return Latents(model, RNG.normal(size=(count, 3, 2)).astype(np.float32), version)


@pytest.mark.parametrize("path", ["lerp", "slerp"])
def test_they_walk_the_paths_of_the_service(path: str) -> None:
    a, b = codes(), codes()
    found = getattr(a, path)(b, T)
    expected = getattr(paths, path)(a.vectors[0], b.vectors[0], T).astype(np.float32)
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-6, atol=1e-7)
    assert (found.model, found.version, found.ids) == ("m", "1", None)


def test_one_place_on_a_path_is_one_code_and_the_ends_are_the_ends() -> None:
    a, b = codes(), codes()
    assert len(a.slerp(b, 0.5)) == 1
    np.testing.assert_allclose(a.slerp(b, [0, 1]).vectors, np.concatenate([a.vectors, b.vectors]), rtol=1e-6)
    np.testing.assert_allclose(a.slerp(a, 0.3).vectors, a.vectors, rtol=1e-6)


def test_a_path_has_two_ends_of_one_space() -> None:
    a = codes()
    for other in (codes(2), codes(model="other"), codes(version="2")):
        with pytest.raises(ValueError, match="allowed"):
            a.lerp(other, 0.5)
    zero = Latents("m", np.zeros((1, 3, 2), np.float32), "1")
    opposite = Latents("m", -a.vectors, "1")
    for other in (zero, opposite):
        with pytest.raises(ValueError, match="or lerp"):
            a.slerp(other, 0.5)


def test_a_part_keeps_what_is_known_of_its_codes() -> None:
    whole = Latents(
        "m", np.zeros((3, 2)), "1", std=np.ones((3, 2)), ids=("a", "b", "c"), cached=np.arange(3) > 0
    )
    for part in (whole[1], whole[1:2], list(whole)[1], whole[-2]):
        assert (part.ids, len(part), part.std.shape) == (("b",), 1, (1, 2))  # type: ignore[union-attr]
        assert part.cached == [True]
    with pytest.raises(IndexError):
        whole[3]
    _, last = whole[1:]
    assert last.ids == ("c",)


def test_moves_add_up() -> None:
    moved = codes().move(slanted=2, very_bold=1).move(slanted=-0.5)
    assert moved.strengths == {"slanted": 1.5, "very-bold": 1}
    assert moved[0].strengths == moved.strengths
