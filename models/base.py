"""What every family is: up to three pure functions of arrays, and a description of each.

A family subclasses :class:`Model` once and is final. It computes in the units that callers send: scaling,
dequantisation and logit live inside, with their log-determinants. It draws no random numbers: noise is an
argument. Training loops and file formats are for ``training``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor as Array
from torch import nn

from models.manifest import DataSpace, EntryName, Grades, LatentSpace, Tensor


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs of one entry point.

    Attributes:
        cost: forward passes per row.
        precision: what an exported graph computes in between float32 inputs and outputs. Some log-densities
            need float64: rows far out have z² in the hundreds, which float32 cannot sum to 1e-4 nats. Such a
            graph must do without convolutions, for which ONNX Runtime has no float64 kernel on a CPU.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    cost: float = 1.0
    precision: Literal["float32", "float64"] = "float32"


class Model(nn.Module, ABC):
    """A pair of maps between data X and latents Z.

    A subclass has a method for each entry that it lists: ``decode(z, ...)``, ``encode(x, ...)`` or
    ``log_weight(x, ...)``, taking and giving tensors in the order of its signature, batch axis first.
    The law of ``log_weight``: E over its noise of exp(log_w) = p(x), in nats, in the units of the data.

    Attributes:
        data: what callers send and receive.
        latent: where codes live, ``None`` for a model without codes.
        grades: what the answers are worth.
        paper: the source, author, year and arXiv number.
    """

    family: ClassVar[str]
    paper: str
    grades: ClassVar[Grades]
    data: DataSpace
    latent: LatentSpace | None

    @abstractmethod
    def signatures(self) -> dict[EntryName, Signature]:
        """The entry points that the model has."""

    @abstractmethod
    def fit_statistics(self, x: Array) -> None:
        """Set what is read off the data rather than learned: scales and output biases, before the first step.

        Args:
            x: training rows as the objective will see them (a flow's are dequantised), (N, *data.shape).
        """

    def rows(self, unit: str | None = None) -> Tensor:
        """Description of data rows ``x``, for signatures."""
        return Tensor(name="x", role="data", shape=("B", *self.data.shape), unit=unit)

    def codes(self, unit: str | None = None) -> Tensor:
        """Description of latent rows ``z``, for signatures."""
        assert self.latent is not None
        return Tensor(name="z", role="latent", shape=("B", *self.latent.shape), unit=unit)


class Entry(nn.Module):
    """One entry point of a model as a module of its own: what the exporters trace."""

    def __init__(self, model: Model, name: EntryName) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, *inputs: Array) -> tuple[Array, ...]:
        outputs = getattr(self.model, self.name)(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)
