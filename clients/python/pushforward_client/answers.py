"""What calls give back, beside plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Model:
    """What one model promises.

    Attributes:
        verbs: the calls that it answers.
        density, latents, generator: its grades.
        about: the whole answer of the service, with spaces, limits and certificate where one model was asked.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    family: str
    verbs: tuple[str, ...]
    density: str
    latents: str
    generator: str
    data_shape: tuple[int, ...]
    latent_shape: tuple[int, ...] | None
    about: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of a table's columns, where one model was asked and has them."""
        named = self.about.get("data", {}).get("columns")
        return tuple(named) if named else None


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """What a model thinks of rows, in nats, in the units of the data.

    Attributes:
        kind: ``exact``, ``lower_bound``, ``estimate`` or ``unnormalised``.
        log_likelihood: (B,), float64; -inf outside the support, NaN where the graph gave no number.
        status: (B,), such as ``ok``, ``extrapolating``, ``out_of_support`` and ``numeric``.
        k, seed: draws and noise of an estimate.
        standard_error: (B,), of an estimate.
        p_value: (B,), two-sided rank among held-out scores.
    """

    model: str
    version: str
    kind: str
    unit: str
    log_likelihood: Array
    status: Array
    k: int | None = None
    seed: int | None = None
    bits_per_dim: Array | None = None
    standard_error: Array | None = None
    p_value: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A path between two codes, decoded; the ends are its first and its last step.

    Attributes:
        t: (S,), from 0 to 1.
        samples: (S, ...).
    """

    model: str
    version: str
    path: str
    t: Array
    samples: Array
