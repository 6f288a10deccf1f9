"""Directions through the latents along which an attribute grows: fitted, and measured before they count.

A direction is how codes change, on average, with the attribute: the least-squares regression of the codes on
it. For an attribute that is there or not, that is the difference between the mean codes of the two kinds of
rows (Larsen et al. 2016, arXiv 1512.09300; White 2016, arXiv 1609.04468; Kingma & Dhariwal 2018, arXiv
1807.03039). The other way round, the regression of the attribute on the codes, gives the normal of a plane
between the kinds (Shen et al. 2020, arXiv 1907.10786). That one tells rows apart better, but leans on latents
that hardly vary, along which nothing has ever been decoded.

Whatever goes along with the attribute in the rows goes along with the direction, too (White 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from models.manifest import Direction, EntryName, Role
from training import Mistake, pictures
from training.artifact import step
from training.attributes import Classes, Floats, Labelled, correlation, of_data
from training.card import STRIP, is_picture
from training.data import Rows, Splits
from training.subject import Subject, chunks, draws

LEAST_ROWS: Final = 40
LEAST_OF_A_KIND: Final = 10
MOST_FITTED: Final = 20_000
MOST_HELD_OUT: Final = 500
STRENGTHS: Final = (-2.0, -1.0, 0.0, 1.0, 2.0)
DRAWN: Final = np.linspace(-2, 2, 9)
DRAWN_ROWS: Final = 6
# Deviations of artanh of a correlation, which for N pairs that have nothing to do with each other is nearly
# normal with variance 1 / (N - 3): Fisher 1921. Chance goes beyond in a tenth of a percent of cases.
CHANCE: Final = 3.0


def of_recipe(wanted: Mapping[str, str], subject: Subject, splits: Splits) -> dict[str, Direction]:
    """The directions that a recipe names; one that does not hold is left out, and the reason printed."""
    found = {}
    for name, attribute in wanted.items():
        try:
            with step(f"fit the direction {name}"):
                found[name] = fit(subject, of_data(attribute, splits))
        except Mistake as mistake:
            print(f"  {name} is left out: {mistake}")
    return found


def fit(subject: Subject, labelled: Labelled) -> Direction:
    """A direction from rows and their attribute, which has been seen to do what it says.

    Raises:
        Mistake: if the model has no codes to move or no way to them, there are too few rows or only one
            kind, codes know no more of the attribute than chance, or decoded rows do not follow.
    """
    _check(subject, labelled)
    fitted, held_out = labelled.fitted.spread(MOST_FITTED), labelled.held_out.spread(MOST_HELD_OUT)
    vector = slope(codes(subject, fitted.x, fitted.classes), fitted.y) * unit(fitted.y)  # (Z,)
    z = codes(subject, held_out.x, held_out.classes)
    return Direction(
        vector=tuple(vector.tolist()),
        attribute=labelled.attribute,
        unit=_meaning(fitted.y),
        source=f"regression of the codes of {len(fitted)} rows on it",
        correlation=_known(labelled.attribute, z @ vector, held_out.y),
        effect=_effect(subject, labelled, vector, z, held_out.classes),
        judge=labelled.judge.who,
    )


def slope(z: Floats, y: Floats) -> Floats:
    """How codes (N, Z) change with an attribute (N,), for each unit of it: (Z,)."""
    away = y - y.mean()
    return (away @ (z - z.mean(0))) / (away @ away)


def unit(y: Floats) -> float:
    """How much of the attribute strength 1 stands for: all of it, or where it has degrees a deviation."""
    return 1.0 if is_binary(y) else float(y.std())


def is_binary(y: Floats) -> bool:
    """Whether the attribute is there (1) or not (0)."""
    return bool(np.isin(y, (0.0, 1.0)).all())


def codes(subject: Subject, x: Rows, classes: Classes) -> Floats:
    """The codes of rows by the exported graph, flattened, (N, Z), float64."""
    z = _run(subject, "encode", x, classes, "latent").reshape(len(x), -1)
    broken = ~np.isfinite(z).all(1)
    if broken.any():
        raise Mistake(f"encode gives no finite code for {broken.sum()} of {len(z)} rows; leave them out")
    return z.astype(np.float64)


def decoded(subject: Subject, z: Floats, classes: Classes) -> Rows:
    """What flattened codes (N, Z) are decoded to, (N, *shape)."""
    assert subject.latent is not None
    return _run(subject, "decode", z.reshape(len(z), *subject.latent.shape), classes, "data")


def draw(
    subject: Subject, directions: Mapping[str, Direction], x: Rows, classes: Classes, folder: Path
) -> None:
    """``directions.png``, where rows are pictures: for each direction a few rows at strengths -2 to 2."""
    display = subject.data.display
    if not directions or display is None or not is_picture(subject.data):
        return
    few = np.linspace(0, len(x) - 1, DRAWN_ROWS).astype(int)
    kinds = None if classes is None else classes[few]
    z, panels = codes(subject, x[few], kinds), {}
    for name, direction in directions.items():
        walks = [decoded(subject, z + s * np.array(direction.vector), kinds) for s in DRAWN]
        lines = np.stack(walks, axis=1).reshape(-1, *subject.data.shape)
        panels[f"{name}, -2 to 2"] = pictures.grid(lines, display, columns=len(DRAWN))
    pictures.beside(panels).save(folder / STRIP)


def _check(subject: Subject, labelled: Labelled) -> None:
    decode, attribute = subject.signatures.get("decode"), labelled.attribute
    if decode is None or not any(tensor.role == "latent" for tensor in decode.inputs):
        raise Mistake("decode of this model takes no codes, so there is nothing to move")
    if "encode" not in subject.signatures:
        raise Mistake("this model has no encode, so rows cannot show where their codes lie")
    y = np.concatenate([labelled.fitted.y, labelled.held_out.y])
    if len(y) < LEAST_ROWS:
        raise Mistake(f"{attribute}: there are {len(y)} labelled rows; needed are at least {LEAST_ROWS}")
    values, counts = np.unique(y, return_counts=True)
    if len(values) == 1:
        raise Mistake(f"{attribute}: every row has the label {y[0]:g}; needed are 0 and 1, or numbers")
    if is_binary(y) and counts.min() < LEAST_OF_A_KIND:
        raise Mistake(
            f"{attribute}: {counts.min()} rows have the label {values[counts.argmin()]:g}; "
            f"needed are at least {LEAST_OF_A_KIND} of each kind"
        )


def _meaning(y: Floats) -> str:
    if is_binary(y):
        return "from the mean code of rows without it to the mean code of rows with it"
    return f"how codes differ, on average, for one standard deviation of it, {y.std():.3g}"


def _known(attribute: str, along: Floats, y: Floats) -> float:
    """How well held-out codes tell the attribute by how far they lie along a direction, (N,)."""
    known, chance = correlation(along, y), np.tanh(CHANCE / np.sqrt(max(len(y) - 3, 1)))
    if known <= chance:
        raise Mistake(
            f"{attribute}: the codes of {len(y)} held-out rows tell it with a correlation of {known:.2f}; "
            f"needed is more than {chance:.2f}, which may be chance"
        )
    return known


def _effect(
    subject: Subject, labelled: Labelled, vector: Floats, z: Floats, classes: Classes
) -> tuple[tuple[float, float], ...]:
    """The mean attribute of what codes (N, Z) are decoded to at each strength; it has to grow around 0."""
    moved = (decoded(subject, z + strength * vector, classes) for strength in STRENGTHS)
    means = [float(labelled.judge.tell(x).mean()) for x in moved]
    if not means[1] < means[2] < means[3]:
        shown = ", ".join(f"{mean:.4g}" for mean in means[1:-1])
        raise Mistake(
            f"{labelled.attribute}: of decoded rows it is {shown} at strengths -1, 0 and 1; it has to grow"
        )
    return tuple(zip(STRENGTHS, means, strict=True))


def _run(subject: Subject, entry: EntryName, main: Rows | Floats, classes: Classes, gives: Role) -> Rows:
    """One output of an entry point for all rows; noise is the same whenever it runs."""
    signature = subject.signatures[entry]
    if any(tensor.role == "label" for tensor in signature.inputs) and classes is None:
        raise Mistake(f"{entry} of this model takes the class of each row, and the rows come without")
    noise = draws(subject.data, subject.latent, signature, len(main))
    given = {"label": classes, "data": main, "latent": main}
    inputs = tuple(
        drawn if tensor.role == "noise" else np.asarray(given[tensor.role], tensor.dtype).reshape(drawn.shape)
        for tensor, drawn in zip(signature.inputs, noise, strict=True)
    )
    place = [tensor.role for tensor in signature.outputs].index(gives)
    return np.concatenate([subject.run(entry, chunk)[place] for chunk in chunks(inputs)])
