"""What the benchmarks count as a right answer, and what not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.values import Expected, WrongAnswer
from benchmarks.workloads import BASE64, BENTO, OURS, PLAIN, WORKLOADS, as_sent, first_body

Array = np.ndarray[Any, Any]
W1, W3, W4, W5 = (WORKLOADS[name] for name in ("W1", "W3", "W4", "W5"))


class Sums:
    """A model of arithmetic: normal pixels, and sums of rows."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)

    def sample(self, kind: str, n: int) -> Array:
        return self.random.normal(0.5, 2.0, (n, 784)).astype(np.float32)

    def encode(self, x: Array) -> tuple[Array, Array]:
        return x[:, :16] * 2, x[:, 16:32]

    def loglik(self, x: Array) -> Array:
        return x.sum(1)


SUMS: Final = Sums()
EXPECTED: Final = Expected(SUMS)


def test_samples_of_the_law_are_right() -> None:
    for work in (W1, W5):
        EXPECTED.check(work, lambda work=work: (SUMS.sample(work.kind, work.rows),))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows + 0.7,
        lambda rows: rows * np.where(np.arange(784) == 400, 8.0, 1.0) + (np.arange(784) == 400) * 9.0,
        lambda rows: 0.5 + (rows - 0.5) * 1.5,
        lambda rows: rows[:, :-1],
        lambda rows: np.full_like(rows, 0.5),
        lambda rows: np.full_like(rows, np.nan),
    ],
    ids=["another mean", "one pixel", "another spread", "another shape", "always the mean", "nan"],
)
def test_samples_of_another_law_are_wrong(spoil: Callable[[Array], Array]) -> None:
    with pytest.raises(WrongAnswer, match="W5"):
        EXPECTED.check(W5, lambda: (spoil(SUMS.sample("gan", W5.rows)),))


def test_an_answer_that_comes_twice_is_wrong() -> None:
    once = SUMS.sample("gan", 512)
    parts = iter([*np.split(once, 32), once[:16]])
    with pytest.raises(WrongAnswer, match="twice"):
        EXPECTED.check(W5, lambda: (next(parts),))


def test_rows_have_to_be_answered_as_the_graph_does() -> None:
    x = EXPECTED.rows
    EXPECTED.check(W3, lambda: (SUMS.loglik(x) + 1e-4,))
    EXPECTED.check(W4, lambda: SUMS.encode(as_sent(x[:1])))
    for work, wrong in (
        (W3, (SUMS.loglik(x) + 0.01,)),
        (W3, (SUMS.loglik(x)[::-1],)),
        (W3, (SUMS.loglik(x)[:8],)),
        (W4, SUMS.encode(x[1:2])),
    ):
        with pytest.raises(WrongAnswer, match=work.name):
            EXPECTED.check(work, lambda wrong=wrong: wrong)


@pytest.mark.parametrize("dialect", [OURS, PLAIN, BASE64, BENTO])
def test_every_dialect_sends_the_same_rows(dialect: Any) -> None:
    x = EXPECTED.rows
    sent = {work.name: first_body(dialect.request(work, x[: work.rows]).body) for work in (W3, W4)}
    numbers = ", ".join(f"{value:.7g}" for value in x[0, 1:])
    assert f"[[0.1000000, {numbers}]]".encode() in sent["W4"]
    raw = x.tobytes()
    assert raw in sent["W3"] or base64.b64encode(raw) in sent["W3"]
