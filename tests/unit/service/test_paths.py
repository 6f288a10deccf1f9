"""Paths end where they should, and keep their length on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.paths import lerp, slerp

CODES = hnp.arrays(np.float64, 5, elements=st.floats(-3, 3))
T = np.linspace(0, 1, 7)


@given(CODES, CODES)
def test_slerp_keeps_to_the_plane_and_its_length_moves_between_the_ends(a: np.ndarray, b: np.ndarray) -> None:
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    assume(min(lengths) > 0.1 and abs(a @ b) < 0.999 * lengths[0] * lengths[1])
    u, v = a / lengths[0], b / lengths[1]
    walked = slerp(u, v, T)
    np.testing.assert_allclose(np.linalg.norm(walked, axis=1), 1, rtol=1e-9)
    steps = np.einsum("sd,sd->s", walked[1:], walked[:-1])
    np.testing.assert_allclose(steps, steps[0], atol=1e-9)
    np.testing.assert_allclose(walked[[0, -1]], [u, v], atol=1e-9)


def test_slerp_of_codes_with_a_shape_and_nearly_equal_ends_is_smooth() -> None:
    a = np.arange(1.0, 7.0).reshape(2, 3)
    for nudge in (0.0, 1e-15, 1e-12, 1e-7):
        b = a + nudge
        np.testing.assert_allclose(slerp(a, b, T), lerp(a, b, T), rtol=1e-6)


@pytest.mark.parametrize(("a", "b"), [([0, 0], [1, 0]), ([1, 0], [0, 0]), ([1, 2], [-2, -4])])
def test_slerp_without_one_circle_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"direction|opposite"):
        slerp(np.array(a), np.array(b), T)
