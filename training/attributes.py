"""What grows along a direction: attributes that are measured on a row, and judges who learned to tell one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training import Mistake
from training.card import is_picture
from training.data import Rows, Splits

Floats = NDArray[np.float64]
Classes = NDArray[np.int64] | None  # of rows, (N,), for models that are told

CLASS: Final = "label:"
PARTS: Final = ("train", "test")
PENALTIES: Final = np.logspace(-1, 5, 7)
# The normal equations of a picture's pixels need some thousands of rows, and gain little from more.
MOST_TOLD: Final = 5000


@dataclass(frozen=True)
class Examples:
    """Rows and their attribute.

    Attributes:
        x: (N, *shape), float32, in data units.
        y: (N,), float64: 0 and 1, or any numbers.
        classes: for models that are told the class of a row.
    """

    x: Rows
    y: Floats
    classes: Classes = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[np.intp]) -> Examples:
        """Some of them."""
        return Examples(self.x[rows], self.y[rows], None if self.classes is None else self.classes[rows])

    def spread(self, most: int) -> Examples:
        """At most so many, taken evenly: files may be sorted."""
        return self.take(np.linspace(0, len(self) - 1, min(most, len(self))).astype(int))


@dataclass(frozen=True)
class Judge:
    """Tells the attribute of rows that nobody has labelled: (N, *shape) to (N,).

    Attributes:
        who: in words.
    """

    tell: Callable[[Rows], Floats]
    who: str


@dataclass(frozen=True)
class Labelled:
    """All that a direction is fitted from.

    Attributes:
        attribute: what grows along it, in words.
        fitted: rows to learn from.
        held_out: rows to measure it on.
        judge: who tells the attribute of decoded rows.
    """

    attribute: str
    fitted: Examples
    held_out: Examples
    judge: Judge


def ink(x: Rows, display: tuple[float, float]) -> Floats:
    """How much of a picture is drawn, light on dark: its mean, 0 for black and 1 for white; (N,)."""
    low, high = display
    return ((x.astype(np.float64) - low) / (high - low)).mean(axis=(1, 2, 3))


def slant(x: Rows, display: tuple[float, float]) -> Floats:
    """How far what is drawn leans to the right, in columns for each row upwards; (N,).

    The shear that would set it upright, from the second moments of its light; 0 where there is no height.
    """
    low, high = display
    light = np.clip((x.astype(np.float64) - low) / (high - low), 0, None).mean(axis=1)  # (N, H, W)
    mass = light.sum(axis=(1, 2), keepdims=True)
    light = np.divide(light, mass, out=np.zeros_like(light), where=mass > 0)
    height, width = light.shape[1:]
    up, right = np.arange(height)[::-1, None], np.arange(width)[None]
    above = up - (light * up).sum(axis=(1, 2), keepdims=True)
    aside = right - (light * right).sum(axis=(1, 2), keepdims=True)
    together, alone = ((light * above * other).sum(axis=(1, 2)) for other in (aside, above))
    return np.divide(together, alone, out=np.zeros_like(together), where=alone > 0)


MEASURES: Final[dict[str, tuple[Callable[[Rows, tuple[float, float]], Floats], str]]] = {
    "ink": (ink, "the mean of the picture, 0 black to 1 white"),
    "slant": (slant, "the lean of what is drawn, columns to the right for each row up"),
}
ALLOWED: Final = f"{', '.join(MEASURES)} and {CLASS}<class>"


def _known(text: str) -> str:
    if text not in MEASURES and not (text.startswith(CLASS) and text != CLASS):
        raise ValueError(f"{text!r} is no attribute; allowed are {ALLOWED}")
    return text


AttributeName = Annotated[str, AfterValidator(_known)]


def of_data(attribute: str, splits: Splits) -> Labelled:
    """The rows that a model was trained on and its test rows, with an attribute of theirs.

    Raises:
        Mistake: if there is no such attribute, or these data do not have it.
    """
    if attribute in MEASURES:
        return _measured(attribute, splits)
    if not attribute.startswith(CLASS):
        raise Mistake(f"{attribute!r} is no attribute; allowed are {ALLOWED}")
    if splits.labels is None:
        raise Mistake(f"{attribute}: the data have no labels; allowed are {', '.join(MEASURES)}")
    names, wanted = splits.space.labels or (), attribute.removeprefix(CLASS)
    if wanted not in names:
        raise Mistake(
            f"the data have no class {wanted!r}; they have {', '.join(names) or 'none with a name'}"
        )
    train, test = (_with(splits, part, _is(splits.labels[part], names.index(wanted))) for part in PARTS)
    return Labelled(attribute, train, test, learned(train, test))


def _measured(attribute: str, splits: Splits) -> Labelled:
    display, (measure, who) = splits.space.display, MEASURES[attribute]
    if display is None or not is_picture(splits.space):
        raise Mistake(
            f"{attribute} is measured on pictures; these are rows of shape {list(splits.space.shape)}"
        )

    def tell(x: Rows) -> Floats:
        return measure(x, display)

    train, test = (_with(splits, part, tell(getattr(splits, part))) for part in PARTS)
    return Labelled(attribute, train, test, Judge(tell, who))


def _with(splits: Splits, part: str, y: Floats) -> Examples:
    return Examples(getattr(splits, part), y, None if splits.labels is None else splits.labels[part])


def _is(labels: NDArray[np.int64], number: int) -> Floats:
    return (labels == number).astype(np.float64)


def learned(fitted: Examples, held_out: Examples) -> Judge:
    """A ridge regression of the attribute on the numbers of a row; it has never seen a code.

    Linear and without bound, so that its mean still moves where a probability would have settled.
    """
    told = fitted.spread(MOST_TOLD)
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(_flat(told.x), told.y)

    def tell(x: Rows) -> Floats:
        return np.asarray(model.predict(_flat(x)), np.float64)

    skill = correlation(tell(held_out.x), held_out.y)
    return Judge(tell, f"a ridge regression on {len(told)} rows, correlation {skill:.2f} on held-out ones")


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's, 0 where one of them does not vary."""
    if not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return 0.0
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def _flat(x: Rows) -> Floats:
    return x.reshape(len(x), -1).astype(np.float64)
