"""The smallest exact flow: x = A z + b. Every law about it can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor as Array

from models.base import Model, Signature
from models.manifest import DataSpace, EntryName, Grades, LatentSpace, Tensor
from training.graphs import Graph, run_eager
from training.subject import Subject


class LinearFlow(Model):
    """x = A z + b with a fixed lower triangular A; ``sign`` -1 makes its log-determinant wrong."""

    family = "linear"
    paper = "Gauss 1809"
    grades = Grades(density="exact", latents="bijection", generator="one_shot")

    def __init__(self, size: int = 3, sign: float = 1.0) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(0)
        matrix = torch.randn(size, size, generator=noise, dtype=torch.float64).tril(-1) / 3
        matrix += torch.diag(torch.linspace(0.5, 2.5, size, dtype=torch.float64))
        self.data, self.latent, self.size = DataSpace(shape=(size,)), LatentSpace(shape=(size,)), size
        self.register_buffer("matrix", matrix)
        self.register_buffer("inverse", torch.linalg.inv(matrix))
        self.shift = torch.nn.Parameter(torch.randn(size, generator=noise))
        log_det = torch.log(torch.diagonal(matrix)).sum()
        self.register_buffer("at_zero", -size / 2 * math.log(2 * math.pi) - sign * log_det)

    def signatures(self) -> dict[EntryName, Signature]:
        log_p = Tensor(name="log_w", role="log_weight", shape=("B",), unit="nats")
        return {
            "decode": Signature((self.codes(),), (self.rows(),)),
            "encode": Signature((self.rows(),), (self.codes(),)),
            "log_weight": Signature((self.rows(),), (log_p,), precision="float64"),
        }

    def fit_statistics(self, x: Array) -> None:
        """Nothing is read off the data."""

    def decode(self, z: Array) -> Array:
        return z @ self.matrix.to(z.dtype).T + self.shift

    def encode(self, x: Array) -> Array:
        return (x - self.shift) @ self.inverse.to(x.dtype).T

    def log_weight(self, x: Array) -> Array:
        return self.at_zero.to(x.dtype) - self.encode(x).square().sum(1) / 2


def subject(model: Model, **graphs: Graph) -> Subject:
    """The model as if exported: eager copies stand in for the files, but for those that are given."""
    running = {entry: {"onnx": run_eager(model, entry, torch.float32)} for entry in model.signatures()}
    running |= {entry: {"onnx": graph} for entry, graph in graphs.items()}
    return Subject(
        data=model.data,
        latent=model.latent,
        grades=model.grades,
        signatures=model.signatures(),
        graphs=running,
        examples=rows(model),
        model=model,
    )


def rows(model: Model, count: int = 200) -> np.ndarray:
    """What the model itself generates."""
    z = torch.randn(count, *model.latent.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.decode(z).numpy()
