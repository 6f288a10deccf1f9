"""Graphs on the device that the engine takes: bare, through the engine, and held against each other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort

from models.manifest import EntryName, EntryPoint
from models.noise import Address
from service.artifact import open_artifact
from service.backends import Graph, open_graph
from service.batch import Input
from service.engine import Engine, Served
from service.lane import NoObserver
from service.settings import Settings

Array = np.ndarray[Any, Any]

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
CUDA_OPTIONS: Final = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}  # as the service has them
CALLERS: Final = 4  # each with a batch: one runs, the next is ready, and two are on their way
QUEUE_MS: Final = 1e6  # callers wait for their answers, so the queue needs no other bound
FOLLOWED: Final = 8  # rows that the batch law is tried on
LOOK_S: Final = 0.02


@dataclass(frozen=True)
class Case:
    """An entry point of a model, on noise that the engine draws or on rows that a caller sends."""

    model: str
    entry: EntryName
    drawn: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.model} {self.entry}, {'noise drawn' if self.drawn else 'rows sent'}"


@dataclass(frozen=True)
class Bare:
    """The graph alone; ``recorded`` if the device replays it as one launch."""

    rows_per_s: float
    recorded: bool


@dataclass(frozen=True)
class Speed:
    """Of the engine.

    Attributes:
        batch: rows in the mean batch; a graph that gains nothing from large ones is run in smaller.
        in_graph: part of the time in which the lane's thread ran batches, with gathering and copies.
        busy: part of the time in which the GPU computed; on a CPU, how many cores did.
    """

    rows_per_s: float
    batch: float
    in_graph: float
    busy: float


@dataclass(frozen=True)
class Law:
    """How far the answer of a typical row moves, in the unit of the output.

    Attributes:
        same_bits: whether it is the same wherever in a batch of the size it stands, whoever is beside it.
        from_alone: from a batch of one.
        from_cpu: from a batch of one on the CPU.
    """

    same_bits: bool
    from_alone: float
    from_cpu: float


def _opened(artifacts: Path, case: Case) -> tuple[EntryPoint, bytes]:
    """What the manifest says of the entry point, and its ONNX file."""
    artifact = open_artifact(artifacts / case.model / "1")
    point = artifact.manifest.entry_points[case.entry]
    return point, artifact.read(point.files["onnx"])


def _rows(point: EntryPoint, count: int, seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.random((count, *tensor.row_shape)).astype(tensor.dtype) for tensor in point.inputs]


def provider(artifacts: Path, case: Case) -> str:
    """What computes where the service looks for a device by itself."""
    point, content = _opened(artifacts, case)
    return open_graph(content, point, "onnx", "auto", 1).provider


# Bare -----------------------------------------------------------------------------------------------------


def replay(artifacts: Path, case: Case, size: int, seconds: float, gpu: bool) -> Bare:
    """The graph in a loop: inputs and outputs stay on the device, and nothing is copied."""
    point, content = _opened(artifacts, case)
    if not gpu:
        return Bare(_rate(_fixed(content, size, [CPU]), point, size, seconds), recorded=False)
    onnxruntime.preload_dlls()
    with suppress(ort.Fail, ort.NotImplemented, ort.RuntimeException):  # not every graph can be recorded
        recording = (CUDA, CUDA_OPTIONS | {"enable_cuda_graph": "1"})
        return Bare(_rate(_fixed(content, size, [recording, CPU]), point, size, seconds), recorded=True)
    return Bare(
        _rate(_fixed(content, size, [(CUDA, CUDA_OPTIONS), CPU]), point, size, seconds), recorded=False
    )


def _rate(session: onnxruntime.InferenceSession, point: EntryPoint, size: int, seconds: float) -> float:
    """Rows per second."""
    binding = _bound(session, point, size)
    for _ in range(3):  # the first of them record the graph
        session.run_with_iobinding(binding)
    began, runs = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        session.run_with_iobinding(binding)
        runs += 1
    return runs * size / (time.perf_counter() - began)


def _fixed(content: bytes, size: int, providers: list[Any]) -> onnxruntime.InferenceSession:
    """A session for one size of batch: shapes become constants, which a recorded graph needs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for value in onnxruntime.InferenceSession(content, options, providers=[CPU]).get_inputs():
        options.add_free_dimension_override_by_name(value.shape[0], size)
    return onnxruntime.InferenceSession(content, options, providers=providers)


def _bound(session: onnxruntime.InferenceSession, point: EntryPoint, size: int) -> onnxruntime.IOBinding:
    kind = "cuda" if session.get_providers()[0] == CUDA else "cpu"
    binding = session.io_binding()
    for tensor, rows in zip(point.inputs, _rows(point, size, 0), strict=True):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(rows, kind, 0)
        binding.bind_ortvalue_input(tensor.name, value)
    for tensor in point.outputs:
        shape, dtype = [size, *tensor.row_shape], np.dtype(tensor.dtype).type
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, kind, 0)
        binding.bind_ortvalue_output(tensor.name, value)
    return binding


# Through the engine ---------------------------------------------------------------------------------------


class _Batches(NoObserver):
    """Adds up what the lanes ran."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count, self.rows, self.run_s = 0, 0, 0.0

    def ran(self, rows: int, padding_rows: int, run_s: float, waits_s: Sequence[float]) -> None:
        self.count += 1
        self.rows += rows
        self.run_s += run_s


class _Busy:
    """How busy the device was in between: a GPU as its driver says, a CPU by this process's time."""

    def __init__(self, gpu: bool) -> None:
        self.ratio = 0.0
        self._gpu = gpu

    @contextmanager
    def watched(self) -> Iterator[None]:
        over, seen = threading.Event(), []
        watcher = threading.Thread(target=self._look, args=(over, seen))
        began, spent_s = time.perf_counter(), time.process_time()
        if self._gpu:
            watcher.start()
        yield
        if self._gpu:
            over.set()
            watcher.join()
            self.ratio = float(np.mean(seen))
        else:
            self.ratio = (time.process_time() - spent_s) / (time.perf_counter() - began)

    def _look(self, over: threading.Event, seen: list[float]) -> None:
        import pynvml

        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not over.wait(LOOK_S):
            seen.append(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)


async def through_engine(artifacts: Path, cases: Sequence[Case], size: int, seconds: float) -> list[Speed]:
    """Callers that ask again and again, each for a batch of rows; one case after the other."""
    batches = _Batches()
    settings = Settings(artifacts=artifacts, max_batch_rows=size, queue_ms=QUEUE_MS)
    engine = await Engine.open(settings, batches)
    try:
        return [await _speed(engine.find(case.model), case, size, seconds, batches) for case in cases]
    finally:
        await engine.close(0)


async def _speed(served: Served, case: Case, size: int, seconds: float, batches: _Batches) -> Speed:
    await _ask(served, case, size, 0.0)
    batches.clear()
    busy = _Busy(served.provider == CUDA)
    began = time.perf_counter()
    with busy.watched():
        await asyncio.gather(*(_ask(served, case, size, began + seconds) for _ in range(CALLERS)))
        took_s = time.perf_counter() - began
    mean = batches.rows / batches.count
    return Speed(batches.rows / took_s, mean, batches.run_s / took_s, busy.ratio)


async def _ask(served: Served, case: Case, size: int, until: float) -> None:
    """At least once."""
    sent: tuple[Input, ...] = tuple(_rows(served.manifest.entry_points[case.entry], size, 0))
    while True:
        inputs = (Address(seed=1),) if case.drawn else sent
        await served.run(case.entry, inputs, rows=size, deadline=time.monotonic() + 60)
        if time.perf_counter() >= until:
            return


# The batch law --------------------------------------------------------------------------------------------


def law(artifacts: Path, case: Case, size: int) -> Law:
    """Follow some rows through two batches of a size: first among strangers, then last among others."""
    point, content = _opened(artifacts, case)
    graph, on_cpu = (open_graph(content, point, "onnx", device, 1) for device in ("auto", "cpu"))
    count = min(FOLLOWED, size)
    followed = _rows(point, count, 1)
    first = [np.concatenate(pair) for pair in zip(followed, _rows(point, size - count, 2), strict=True)]
    last = [np.concatenate(pair) for pair in zip(_rows(point, size - count, 3), followed, strict=True)]
    among = [output[:count] for output in graph(first)]
    others = [output[size - count :] for output in graph(last)]
    alone = _one_by_one(graph, followed)
    return Law(
        all(np.array_equal(one, two) for one, two in zip(among, others, strict=True)),
        _apart(among, alone),
        _apart(alone, _one_by_one(on_cpu, followed)),
    )


def _one_by_one(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    answers = [graph([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def _apart(some: Sequence[Array], others: Sequence[Array]) -> float:
    return max(float(np.abs(one - two).max()) for one, two in zip(some, others, strict=True))
