"""The contract: what an exported model says of itself, in ``manifest.json``.

Training writes it, the service reads it, and nothing else passes between the two. This module knows
pydantic and arithmetic only: no torch, no ONNX, no HTTP. It leaves the reading of files and the checking
of checksums to whoever opens an artifact.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "manifest.json"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Density = Literal["exact", "lower_bound", "estimate", "unnormalised", "none"]
Latents = Literal["bijection", "posterior", "code", "none"]
Generator = Literal["one_shot", "sequential", "chain", "none"]
Verb = Literal["sample", "encode", "decode", "reconstruct", "interpolate", "loglik"]
EntryName = Literal["decode", "encode", "log_weight"]
Format = Literal["onnx", "torchscript"]
Role = Literal["data", "latent", "std", "residual", "log_weight", "noise", "label"]
DType = Literal["float32", "float64", "int64"]
Law = Literal["standard_normal", "logistic", "uniform"]


class Contract(BaseModel):
    """Base of every part: immutable, nothing unknown, nothing coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Support(Contract):
    """The values that one dimension of the data may take; ``None`` is unbounded.

    ``lattice`` marks whole numbers: the density is then a probability mass.
    """

    low: float | None = None
    high: float | None = None
    lattice: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"support is {self.low} to {self.high}; low must be below high")
        return self


class DataSpace(Contract):
    """What callers send and receive, in the units that they use.

    Attributes:
        shape: of one row, without the batch axis: ``(D,)`` or ``(C, H, W)``.
        support: one entry for all dimensions alike, or one for each in row-major order.
        levels: how many values a quantised dimension has, ``None`` for continuous data.
        bin_width: distance between two levels, in data units; turns nats into bits per dimension.
        display: the values drawn as black and white, where rows are pictures.
        labels: the names of the classes, in the order of their numbers.
        columns: the names of the dimensions, for tables.
    """

    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, max_length=4)
    dtype: DType = "float32"
    support: tuple[Support, ...] = (Support(),)
    levels: int | None = Field(default=None, ge=2)
    bin_width: float = Field(default=1.0, gt=0)
    display: tuple[float, float] | None = None
    labels: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """The number of dimensions D."""
        return math.prod(self.shape)

    @model_validator(mode="after")
    def _support_fits(self) -> Self:
        if len(self.support) not in (1, self.size):
            raise ValueError(
                f"support has {len(self.support)} entries; allowed are 1, or {self.size} for the dimensions"
            )
        return self

    def bits_per_dim(self, log_p_nats: float) -> float | None:
        """Bits per dimension of a log-likelihood in nats; ``None`` for data without levels.

        Reference: Theis, van den Oord & Bethge 2016, arXiv 1511.01844, section 3.1.
        """
        if self.levels is None:
            return None
        return -log_p_nats / (self.size * math.log(2)) - math.log2(self.bin_width)


class LatentSpace(Contract):
    """Where codes live: the shape of one code, and the law that the generator pushes forward."""

    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, max_length=4)
    prior: Law = "standard_normal"

    @property
    def size(self) -> int:
        """The number of dimensions Z."""
        return math.prod(self.shape)


class Grades(Contract):
    """What the answers are worth."""

    density: Density
    latents: Latents
    generator: Generator


class Tensor(Contract):
    """One named input or output of an entry point.

    Attributes:
        shape: ``("B", ...)``; B is the number of rows.
        unit: what a number means, such as ``nats`` or ``mean of p(x|z)``.
        law: the distribution of a noise input, else ``None``.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    role: Role
    dtype: DType = "float32"
    shape: tuple[Literal["B"] | int, ...] = Field(min_length=1, max_length=5)
    unit: str | None = None
    law: Law | None = None

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row, without B."""
        return tuple(int(n) for n in self.shape[1:])

    @model_validator(mode="after")
    def _batch_first(self) -> Self:
        if self.shape[0] != "B" or "B" in self.shape[1:]:
            raise ValueError(f"{self.name} has shape {list(self.shape)}; 'B' comes first, and once")
        if (self.role == "noise") != (self.law is not None):
            raise ValueError(
                f"{self.name} has role {self.role} and law {self.law}; noise has a law, others none"
            )
        return self


class GraphFile(Contract):
    """One exported graph: where it lies, what it hashes to, how far it is from eager float64.

    Attributes:
        max_deviation: in the unit of the output that deviates most, ``None`` for somebody else's graph.
        export_s: processor time that it took to write it, ``None`` for somebody else's graph.
    """

    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}$")]
    sha256: Sha256
    size_bytes: int = Field(ge=1)
    max_deviation: float | None = Field(default=None, ge=0)
    export_s: float | None = Field(default=None, ge=0)


def _playing(role: Role, tensors: tuple[Tensor, ...]) -> Tensor | None:
    for tensor in tensors:
        if tensor.role == role:
            return tensor
    return None


class EntryPoint(Contract):
    """A pure function of arrays whose first axis is the batch, in each format it was exported to.

    Attributes:
        cost: forward passes that one row takes, 1 for one-shot maps; the lane budgets by it.
    """

    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    files: dict[Format, GraphFile] = Field(min_length=1)
    cost: float = Field(default=1.0, gt=0)

    def input(self, role: Role) -> Tensor | None:
        """The input that plays the role, if any."""
        return _playing(role, self.inputs)

    def output(self, role: Role) -> Tensor | None:
        """The output that plays the role, if any."""
        return _playing(role, self.outputs)


class Check(Contract):
    """One line of the certificate: a measured number against what was allowed."""

    name: str
    value: float
    tolerance: float
    unit: str
    rows: str
    passed: bool


class Certificate(Contract):
    """The laws that export measured on the graphs themselves."""

    checks: tuple[Check, ...] = Field(min_length=1)

    @property
    def passed(self) -> bool:
        """Whether every law held."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The laws that did not hold."""
        return tuple(check for check in self.checks if not check.passed)


class Calibration(Contract):
    """Scores of held-out rows that training never saw, in nats, ascending; p-values are ranks among them.

    Attributes:
        k: importance samples per score, 1 where the density is exact.
        seed: of the noise behind the scores.
    """

    scores: tuple[float, ...] = Field(min_length=1)
    k: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.scores) != sorted(self.scores):
            raise ValueError("calibration scores must be in ascending order")
        return self


class Direction(Contract):
    """A line through the latents along which one attribute of the data grows.

    What is added to a code z, flattened, is strength times ``vector``; 0 leaves it as it is.

    Attributes:
        vector: Z numbers, in row-major order.
        attribute: what grows.
        unit: what a step of strength 1 is.
        source: how it was fitted, and on what.
        correlation: of the attribute of held-out rows with how far their codes lie along the vector.
        effect: pairs of a strength and the mean attribute of held-out rows decoded at it, ascending.
        judge: who told the attribute of decoded rows.
    """

    vector: tuple[float, ...] = Field(min_length=1)
    attribute: str
    unit: str
    source: str
    correlation: float = Field(ge=-1, le=1)
    effect: tuple[tuple[float, float], ...] = Field(min_length=2)
    judge: str

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not any(self.vector):
            raise ValueError("a direction's vector is zero; allowed is one that leads somewhere")
        if any(a[0] >= b[0] for a, b in pairwise(self.effect)):
            raise ValueError("the strengths of a direction's effect must ascend")
        return self


class Probe(Contract):
    """A small input and the output it must give, run before the service calls the model ready.

    Nested lists by tensor name, the batch axis first.
    """

    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    tolerance: float = Field(gt=0)


class Metric(Contract):
    """A number measured by ``evaluate``, with what it is."""

    value: float
    unit: str
    kind: str
    k: int | None = None
    standard_error: float | None = None


class Provenance(Contract):
    """Where the model came from: enough to make it again."""

    recipe: dict[str, Any]
    seed: int | None
    tools: dict[str, str]
    created_at: str
    metrics: dict[str, Metric] = {}


class Manifest(Contract):
    """An exported model, described."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    version: Version
    family: str
    paper: str
    data: DataSpace
    latent: LatentSpace | None
    grades: Grades
    entry_points: dict[EntryName, EntryPoint] = Field(min_length=1)
    probes: dict[EntryName, Probe]
    certificate: Certificate
    calibration: Calibration | None = None
    directions: dict[Name, Direction] = {}
    provenance: Provenance

    @property
    def verbs(self) -> tuple[Verb, ...]:
        """The calls that the entry points can be composed to."""
        has = self.entry_points.keys()
        needs: dict[Verb, set[str]] = {
            "sample": {"decode"},
            "encode": {"encode"},
            "decode": {"decode"},
            "reconstruct": {"encode", "decode"},
            "interpolate": {"decode"},
            "loglik": {"log_weight"},
        }
        return tuple(verb for verb, entries in needs.items() if entries <= has)

    @model_validator(mode="after")
    def _grades_are_kept(self) -> Self:
        promised: dict[EntryName, bool] = {
            "decode": self.grades.generator != "none",
            "encode": self.grades.latents in ("bijection", "posterior") or "encode" in self.entry_points,
            "log_weight": self.grades.density != "none",
        }
        for entry, promise in promised.items():
            if promise != (entry in self.entry_points):
                verb = "lacks" if promise else "has"
                raise ValueError(f"grades are {self.grades.model_dump()}, but the model {verb} {entry}")
        if self.grades.latents == "none" and "encode" in self.entry_points:
            raise ValueError("grades say that there are no latents, but the model has encode")
        if self.probes.keys() != self.entry_points.keys():
            raise ValueError(f"probes cover {sorted(self.probes)}; needed are {sorted(self.entry_points)}")
        return self

    @model_validator(mode="after")
    def _tensors_fit(self) -> Self:
        spaces = {"data": self.data.shape, "latent": self.latent and self.latent.shape}
        for name, entry in self.entry_points.items():
            for tensor in (*entry.inputs, *entry.outputs):
                if tensor.role in spaces and tensor.row_shape != spaces[tensor.role]:
                    raise ValueError(
                        f"{name}: {tensor.name} has rows of shape {tensor.row_shape}, "
                        f"the {tensor.role} space has {spaces[tensor.role]}"
                    )
        return self

    @model_validator(mode="after")
    def _directions_fit(self) -> Self:
        decode = self.entry_points.get("decode")
        if self.directions and (self.latent is None or decode is None or decode.input("latent") is None):
            raise ValueError("the model has directions, but its decode takes no latents to move along them")
        for name, direction in self.directions.items():
            if self.latent is not None and len(direction.vector) != self.latent.size:
                raise ValueError(
                    f"direction {name} has {len(direction.vector)} numbers, "
                    f"the latent space has {self.latent.size}"
                )
        return self
