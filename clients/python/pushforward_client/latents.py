"""Codes as values: a batch of them, where they live, and what moves between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Address:
    """The code behind row ``index`` of a seed of ``sample``."""

    seed: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Codes of one model; one code is a batch of one.

    Attributes:
        vectors: (B, ...), as the model's encoder gave them.
        version: of the model that they are codes of; the newest if absent.
        std: of the posterior, (B, ...), where the model has one.
        residual: by how much a row and the sample of its code differ, (B,), where the way back was learned.
        ids: under which the service remembers them for a while.
        cached: whether the service remembered the row.
        strengths: by the names of directions, along which the codes are moved before they are decoded.
    """

    model: str
    vectors: Array
    version: str | None = None
    std: Array | None = None
    residual: Array | None = None
    ids: tuple[str, ...] | None = None
    cached: Array | None = None
    strengths: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: int | slice) -> Latents:
        """Some of the codes; a number gives a batch of one."""
        if isinstance(rows, int):
            rows = slice(range(len(self))[rows], range(len(self))[rows] + 1)
        return replace(
            self,
            vectors=self.vectors[rows],
            std=None if self.std is None else self.std[rows],
            residual=None if self.residual is None else self.residual[rows],
            ids=None if self.ids is None else self.ids[rows],
            cached=None if self.cached is None else self.cached[rows],
        )

    def __iter__(self) -> Iterator[Latents]:
        return (self[row] for row in range(len(self)))

    def move(self, **strengths: float) -> Latents:
        """The same codes, moved along named directions when they are decoded.

        ``GET /models/{name}`` lists the names and what a strength of 1 is; a dash in a name is written
        as an underscore. Strengths along one direction add up.
        """
        moved = dict(self.strengths)
        for name, strength in strengths.items():
            name = name.replace("_", "-")
            moved[name] = moved.get(name, 0.0) + strength
        return replace(self, strengths=moved)

    def lerp(self, other: Latents, t: ArrayLike) -> Latents:
        """Codes on the straight line from this one to another, at each t from 0 to 1.

        Raises:
            ValueError: for codes of another model, or more than one.
        """
        a, b, at = self._ends(other, t)
        along = at.reshape(-1, *[1] * a.ndim)
        return self._between((1 - along) * a + along * b)

    def slerp(self, other: Latents, t: ArrayLike) -> Latents:
        """Codes on the great circle from this one to another, at each t from 0 to 1.

        It keeps the length that codes of a standard normal prior have, which a straight line does not.

        Reference: Shoemake 1985, "Animating rotation with quaternion curves"; White 2016, arXiv 1609.04468.

        Raises:
            ValueError: for codes of another model, more than one, or no one circle between them.
        """
        a, b, at = self._ends(other, t)
        length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        if min(length_a, length_b) == 0:
            raise ValueError("an end of slerp is zero; allowed: ends with a direction, or lerp")
        u, v = a / length_a, b / length_b
        # This form of the angle stays accurate for ends that nearly coincide or nearly oppose (Kahan).
        angle = 2 * math.atan2(float(np.linalg.norm(u - v)), float(np.linalg.norm(u + v)))
        if math.pi - angle < 1e-6:
            raise ValueError("the ends of slerp are opposite; allowed: ends on one great circle, or lerp")
        if angle < 1e-9:
            return self.lerp(other, t)
        along = at.reshape(-1, *[1] * a.ndim)
        walked = np.sin((1 - along) * angle) * a + np.sin(along * angle) * b
        return self._between(walked / math.sin(angle))

    def _ends(self, other: Latents, t: ArrayLike) -> tuple[Array, Array, Array]:
        for end in (self, other):
            if len(end) != 1:
                raise ValueError(f"an end has {len(end)} codes; allowed: 1, such as latents[0]")
        if (self.model, self.version) != (other.model, other.version):
            raise ValueError(
                f"the other end is of {other.model} version {other.version}; "
                f"allowed: codes of {self.model} version {self.version}"
            )
        a, b = (end.vectors[0].astype(np.float64) for end in (self, other))
        return a, b, np.atleast_1d(np.asarray(t, np.float64))

    def _between(self, vectors: Array) -> Latents:
        """Codes that no row has, so that nothing else is known of them."""
        return Latents(self.model, vectors.astype(self.vectors.dtype), self.version)
