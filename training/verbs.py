"""What the verbs of the service give, for many rows in this process: the same bits, without a server.

An entry point runs in ONNX Runtime on one thread of the CPU, as in the service. Noise, scores and support
are the contract's. Files, parts and processes are the business of ``bulk``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.manifest import EntryName, Law, Manifest, Tensor
from models.noise import FIXED, LAST, NOISE, Address, draw
from models.scores import DEFAULT_K, judged
from models.subpixel import rewritten
from models.support import Bounds
from training import Mistake
from training.folder import checked, read_manifest
from training.results import Columns

BATCH_ROWS: Final = 256  # of one run, as in the service
BESIDE_CODES: Final = ("std", "residual")

Array = NDArray[Any]


@dataclass(frozen=True)
class Draws:
    """Importance samples of a score: how many, and the seed of their noise."""

    k: int
    seed: int

    @staticmethod
    def of(manifest: Manifest, k: int | None, seed: int | None) -> Draws:
        """Those asked for, or else those of the calibration; one of no noise, where a density takes none.

        Raises:
            Mistake: for a number of samples or a seed that there is not.
        """
        if (k is not None and k < 1) or (seed is not None and not 0 <= seed <= LAST):
            raise Mistake(f"--k is {k}, --seed {seed}; allowed are 1 or more, and 0 to {LAST}")
        if manifest.entry_points["log_weight"].input("noise") is None:
            return Draws(1, 0)
        known = manifest.calibration
        usual = Draws(DEFAULT_K, 0) if known is None else Draws(known.k, known.seed)
        return Draws(k or usual.k, usual.seed if seed is None else seed)


class Runner:
    """An entry point of an artifact, on one thread.

    Args:
        folder: the artifact.

    Raises:
        Mistake: if the model has no such entry point, no ONNX file of it, or the file has changed.
    """

    def __init__(self, folder: Path, entry: EntryName) -> None:
        self.manifest = read_manifest(folder)
        self.point = self.manifest.entry_points[entry]
        self._session = _session(folder, self.manifest, entry)

    def __call__(self, rows: int, main: Array | Address, label: Array | None, source: Address) -> list[Array]:
        """The outputs for some rows, in the manifest's order; NaN in rows that the graph fails on.

        Args:
            main: data or codes, (rows, ...), or the address of codes.
            label: the class of each row, (rows,), for a model that is told one.
            source: of the noise.
        """
        parts = []
        for start in range(0, rows, BATCH_ROWS):
            size = min(BATCH_ROWS, rows - start)
            part = main.skip(start) if isinstance(main, Address) else main[start : start + size]
            classes = None if label is None else label[start : start + size]
            parts.append(self._run(self._inputs(size, part, classes, source.skip(start))))
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _inputs(self, rows: int, main: Array | Address, label: Array | None, source: Address) -> list[Array]:
        """What the graph takes, in its order; each noise has a stream of its own."""
        streams, latent = count(NOISE), self.manifest.latent
        inputs = []
        for tensor in self.point.inputs:
            if tensor.role == "noise":
                assert tensor.law is not None
                inputs.append(_drawn(source._replace(stream=next(streams)), rows, tensor.law, tensor))
            elif tensor.role == "label":
                assert label is not None
                inputs.append(label.astype(tensor.dtype).reshape(rows, *tensor.row_shape))
            elif isinstance(main, Address):
                assert latent is not None
                inputs.append(_drawn(main, rows, latent.prior, tensor))
            else:
                inputs.append(main)
        return inputs

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        """One run; where it fails, halves of it, until the failing row is alone."""
        feed = {tensor.name: rows for tensor, rows in zip(self.point.inputs, inputs, strict=True)}
        rows = len(inputs[0])
        try:
            return list(self._session.run([tensor.name for tensor in self.point.outputs], feed))
        except Exception:  # ONNX Runtime's errors have no common base
            if rows == 1:
                return [np.full((1, *t.row_shape), np.nan, t.dtype) for t in self.point.outputs]
        halves = (self._run([each[part] for each in inputs]) for part in _halves(rows))
        return [np.concatenate(pair) for pair in zip(*halves, strict=True)]


def score(runner: Runner, x: Array, label: Array | None, draws: Draws) -> Columns:
    """What ``/loglik`` says of rows (B, ...): a log-likelihood in nats, and what it is worth."""
    manifest, calibration = runner.manifest, runner.manifest.calibration
    estimated = runner.point.input("noise") is not None
    log_w = np.full((len(x), draws.k), -np.inf)
    inside = ~Bounds.of(manifest.data.support).violations(x).any(axis=1)
    if inside.any():
        log_w[inside] = _log_weights(runner, x[inside], None if label is None else label[inside], draws)
    held_out = np.array(calibration.scores) if calibration and calibration.k == draws.k else None
    said = judged(manifest.data, log_w, held_out, estimated)
    return {**said, "status": np.array(said["status"], "U16")}


def encode(runner: Runner, x: Array, label: Array | None) -> Columns:
    """What ``/encode`` says of rows (B, ...): codes, and what the model says beside them."""
    outputs = runner(len(x), x, label, FIXED)
    by_role = {tensor.role: rows for tensor, rows in zip(runner.point.outputs, outputs, strict=True)}
    return {"latents": by_role["latent"]} | {role: by_role[role] for role in BESIDE_CODES if role in by_role}


def sample(runner: Runner, rows: int, codes: Address, label: Array | None) -> Columns:
    """What ``/sample`` gives at an address: ``rows`` samples."""
    outputs = runner(rows, codes, label, codes._replace(scale=1.0, truncation=math.inf))
    place = next(i for i, tensor in enumerate(runner.point.outputs) if tensor.role == "data")
    return {"samples": outputs[place]}


def _log_weights(runner: Runner, x: Array, label: Array | None, draws: Draws) -> Array:
    """Draws of log_weight, (B, K), float64; draw i has the same noise in every row."""
    place = next(i for i, tensor in enumerate(runner.point.outputs) if tensor.role == "log_weight")
    log_w = np.empty((len(x), draws.k))
    for i in range(draws.k):
        source = FIXED._replace(seed=draws.seed, offset=i)
        log_w[:, i] = runner(len(x), x, label, source)[place].reshape(len(x))
    return log_w


def _drawn(address: Address, rows: int, law: Law, tensor: Tensor) -> Array:
    """Noise (rows, ...); where all rows have the same, it is drawn once."""
    if address.step:
        return draw([(address, rows)], law, tensor.row_shape, tensor.dtype)
    return np.repeat(draw([(address, 1)], law, tensor.row_shape, tensor.dtype), rows, axis=0)


def _halves(rows: int) -> tuple[slice, slice]:
    return slice(None, rows // 2), slice(rows // 2, None)


def _session(folder: Path, manifest: Manifest, entry: EntryName) -> Any:
    file = manifest.entry_points[entry].files.get("onnx")
    if file is None:
        raise Mistake(f"{manifest.name} has no ONNX file of {entry}; bulk work runs on ONNX Runtime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a row that fails is NaN in the answer
    content = rewritten(checked(folder, file).read_bytes())  # as the service runs it
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
