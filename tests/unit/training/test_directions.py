"""A fitted direction is the one that the data were made with, or there is a reason why there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from models.manifest import Tensor
from tests.unit.training.linear import LinearFlow, rows, subject
from training import Mistake
from training.attributes import Examples, Floats, Judge, Labelled, learned
from training.directions import STRENGTHS, codes, fit, slope, unit
from training.subject import Subject

FLOW = LinearFlow()
W = np.array([1.0, -2.0, 0.5])


def known(kind: str, noise: float = 0.0, count: int = 4000) -> tuple[Labelled, Floats]:
    """Rows of a linear-Gaussian model with an attribute that is a known function of their codes."""
    x = rows(FLOW, count)
    z = codes(subject(FLOW), x, None)
    y = z @ W + noise * np.random.default_rng(0).normal(size=count)
    if kind == "kinds":
        y = (y > 0).astype(float)
    half = count // 2
    fitted, held_out = Examples(x[:half], y[:half]), Examples(x[half:], y[half:])
    return Labelled("w", fitted, held_out, learned(fitted, held_out)), z


def test_a_direction_is_the_one_that_the_attribute_was_made_with() -> None:
    labelled, _ = known("numbers")
    direction = fit(subject(FLOW), labelled)
    np.testing.assert_allclose(direction.vector, W / np.linalg.norm(W), atol=0.05)
    assert direction.correlation > 0.99
    assert [strength for strength, _ in direction.effect] == list(STRENGTHS)
    # Along it, one unit of strength is one standard deviation of the attribute: what the sentence says.
    assert np.diff([mean for _, mean in direction.effect]) == pytest.approx(np.linalg.norm(W), rel=0.05)
    assert direction.unit.endswith(f"one standard deviation of it, {labelled.fitted.y.std():.3g}")


def test_noise_in_the_labels_shortens_a_direction_and_does_not_turn_it() -> None:
    direction = fit(subject(FLOW), known("numbers", noise=float(np.linalg.norm(W)))[0])
    np.testing.assert_allclose(direction.vector, W / np.linalg.norm(W) / np.sqrt(2), atol=0.06)
    assert direction.correlation == pytest.approx(1 / np.sqrt(2), abs=0.05)


def test_of_what_is_there_or_not_strength_1_leads_from_one_mean_to_the_other() -> None:
    labelled, z = known("kinds")
    direction = fit(subject(FLOW), labelled)
    half, there = len(z) // 2, labelled.fitted.y == 1
    np.testing.assert_allclose(
        direction.vector, z[:half][there].mean(0) - z[:half][~there].mean(0), atol=1e-9
    )
    # Of a half of a normal, the mean is √(2/π) from the middle.
    np.testing.assert_allclose(direction.vector, 2 * np.sqrt(2 / np.pi) * W / np.linalg.norm(W), atol=0.08)
    assert direction.unit.startswith("from the mean code of rows without it")


def test_the_regression_on_0_and_1_is_the_difference_of_means() -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(90, 5)), (rng.random(90) < 0.2).astype(float)
    np.testing.assert_allclose(slope(z, y), z[y == 1].mean(0) - z[y == 0].mean(0), atol=1e-12)
    assert unit(y) == 1
    assert unit(3 * y) == pytest.approx(3 * y.std())


def without(entry: str) -> Subject:
    whole = subject(FLOW)
    signatures = {name: signature for name, signature in whole.signatures.items() if name != entry}
    return dataclasses.replace(whole, signatures=signatures)


def deaf() -> Subject:
    """A model whose decode does not listen to its codes."""
    return subject(FLOW, decode=lambda inputs: (np.zeros_like(inputs[0]),))


def upside_down() -> Subject:
    return subject(FLOW, decode=lambda inputs: (FLOW.decode(-torch.from_numpy(inputs[0])).detach().numpy(),))


def blind() -> Subject:
    """A model whose encode finds no finite code for one row."""

    def encode(inputs: Any) -> tuple[np.ndarray]:
        z = np.zeros_like(inputs[0])
        z[0] = np.nan
        return (z,)

    return subject(FLOW, encode=encode)


def choosy() -> Subject:
    """A model that has to be told the class of a row."""
    whole = subject(FLOW)
    label = Tensor(name="label", role="label", dtype="int64", shape=("B",))
    encode = dataclasses.replace(
        whole.signatures["encode"], inputs=(*whole.signatures["encode"].inputs, label)
    )
    return dataclasses.replace(whole, signatures={**whole.signatures, "encode": encode})


def picked(**counts: int) -> Labelled:
    """So many rows without and with an attribute, and as many in both parts."""
    labelled, _ = known("kinds")
    without, having = (np.flatnonzero(labelled.fitted.y == kind) for kind in (0, 1))
    chosen = np.concatenate([without[: counts["none"]], having[: counts["some"]]])
    part = labelled.fitted.take(chosen)
    return dataclasses.replace(labelled, fitted=part, held_out=part)


def shuffled() -> Labelled:
    labelled, _ = known("numbers")
    y = np.random.default_rng(3).permutation(labelled.fitted.y)
    return dataclasses.replace(labelled, fitted=dataclasses.replace(labelled.fitted, y=y))


@pytest.mark.parametrize(
    ("model", "labelled", "words"),
    [
        (without("encode"), known("kinds")[0], "has no encode"),
        (without("decode"), known("kinds")[0], "decode of this model takes no codes"),
        (subject(FLOW), picked(none=5, some=4), "there are 18 labelled rows; needed are at least 40"),
        (subject(FLOW), picked(none=30, some=0), "every row has the label 0"),
        (subject(FLOW), picked(none=30, some=4), "8 rows have the label 1; needed are at least 10"),
        (subject(FLOW), shuffled(), "may be chance"),
        (deaf(), known("numbers")[0], "at strengths -1, 0 and 1; it has to grow"),
        (upside_down(), known("numbers")[0], "it has to grow"),
        (blind(), known("numbers")[0], "no finite code for 1 of 2000 rows"),
        (choosy(), known("numbers")[0], "takes the class of each row, and the rows come without"),
    ],
)
def test_what_is_no_direction_has_a_reason(model: Subject, labelled: Labelled, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        fit(model, labelled)


def test_a_few_rows_do_where_their_codes_tell_the_attribute_well() -> None:
    labelled, _ = known("numbers")
    few = dataclasses.replace(
        labelled, fitted=labelled.fitted.spread(30), held_out=labelled.held_out.spread(10)
    )
    assert fit(subject(FLOW), few).correlation > 0.81  # tanh(3 / √7)


def test_who_tells_is_kept_with_what_was_told() -> None:
    labelled, _ = known("numbers")
    judge = Judge(lambda x: -x.sum(axis=1).astype(float), "the sum, turned")
    direction = fit(subject(FLOW), dataclasses.replace(labelled, judge=judge))
    assert (direction.judge, direction.attribute) == ("the sum, turned", "w")
