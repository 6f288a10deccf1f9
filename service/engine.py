"""Every model that is served: opened, checked, warmed, found by name, replaced and closed.

What stops a model from being right stops it here, with a sentence, while the others serve. Opening happens
on a thread, because it takes seconds; what callers see changes at once, on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.manifest import EntryName, EntryPoint, Manifest, Probe
from service.artifact import Artifact, ArtifactError, discover, fingerprint, open_artifact
from service.backends import DeviceMissing, Graph, GraphError, open_graph
from service.batch import Input, Rows, Stage, Waiter
from service.costs import Costs, measure
from service.errors import CapabilityAbsent, UnknownModel, UnknownVersion
from service.lane import Lane, NoObserver, Observer, ScoreObserver, Worker
from service.seeds import BITS, MOST
from service.settings import Settings

Key = tuple[str, str]  # name and version
Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")

NAMES_SHOWN: Final = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry point that has passed its probe and is warm.

    Attributes:
        inline: whether brief batches may run on the event loop, which nothing may hold for ever.
    """

    stage: Stage
    costs: Costs
    provider: str
    inline: bool


class Served:
    """One version of one model, ready to run.

    Whoever holds it can go on calling it, also after a newer one took its place: its threads end when the
    last reference goes.

    Attributes:
        worked_out: what others keep of its manifest, by type, as long as it lives.
    """

    def __init__(
        self, artifact: Artifact, lanes: Mapping[EntryName, Lane], provider: str, scores: ScoreObserver
    ) -> None:
        self.artifact = artifact
        self.scores = scores
        self.manifest: Manifest = artifact.manifest
        self.name: str = artifact.manifest.name
        self.version: str = artifact.manifest.version
        self.digest: str = artifact.digest
        self.provider = provider
        self.worked_out: dict[type, Any] = {}
        self._lanes = lanes
        self._seeds = lanes["decode"].seeds if "decode" in lanes else None

    def run(
        self,
        entry: EntryName,
        inputs: tuple[Input, ...],
        rows: int,
        deadline: float,
        admitted: bool = False,
    ) -> Coroutine[Any, Any, Rows]:
        """Run an entry point on some rows; see :meth:`service.lane.Lane.submit`.

        Raises:
            CapabilityAbsent: if the model has no such entry point.
        """
        return self._lane(entry).submit(inputs, rows, deadline, admitted)

    def enter(
        self, waiter: Waiter, entry: EntryName, inputs: tuple[Input, ...], rows: int, deadline: float
    ) -> Callable[[], None]:
        """The same, for somebody who is told; see :meth:`service.lane.Lane.enter`.

        Returns:
            What to call when he waits no longer.
        """
        lane = self._lanes.get(entry) or self._lane(entry)
        return partial(lane.forget, lane.enter(waiter, inputs, rows, deadline))

    def _lane(self, entry: EntryName) -> Lane:
        lane = self._lanes.get(entry)
        if lane is None:
            raise CapabilityAbsent(f"{self.name} has no {entry}; it has {', '.join(self._lanes)}")
        return lane

    def seed(self, rows: int) -> int:
        """A seed for so many samples whose caller has named none."""
        return self._seeds.take(rows) if self._seeds and rows <= MOST else random.getrandbits(BITS)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """One for each entry point."""
        return tuple(self._lanes.values())


@dataclass(frozen=True, slots=True)
class Change:
    """What a reload did, as ``name/version``; refused models have their sentence."""

    loaded: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def merged(changes: Sequence[Change]) -> Change:
    """What a reload did in any of several processes."""
    return Change(
        sorted({label for change in changes for label in change.loaded}),
        sorted({label for change in changes for label in change.retired}),
        {label: reason for change in changes for label, reason in change.refused.items()},
    )


class Engine:
    """The models of one process.

    Attributes:
        refused: why a model is not served, by ``name/version``.
        died: set when the device is lost, and nothing but a new process can help.
        stuck: whether a graph still ran when the engine was closed.
    """

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self.refused: dict[str, str] = {}
        self.died = asyncio.Event()
        self.stuck = False
        self._settings = settings
        self._observer = observer
        self._served: dict[Key, Served] = {}
        self._newest: dict[str, Served] = {}
        self._living: weakref.WeakSet[Served] = weakref.WeakSet()
        self._reloading = asyncio.Lock()
        self._opening = ThreadPoolExecutor(1, "opening models")
        self._closed = False

    @classmethod
    async def open(cls, settings: Settings, observer: Observer | None = None) -> Self:
        """Serve everything below ``settings.artifacts`` that is right.

        Raises:
            DeviceMissing: if the device that the settings demand is not there.
        """
        engine = cls(settings, observer or NoObserver())
        await engine.reload()
        return engine

    # What callers ask -----------------------------------------------------------------------------------

    def models(self) -> list[Served]:
        """Every version of every model, by name, the newest first."""
        return sorted(self._served.values(), key=lambda served: (served.name, -int(served.version)))

    def find(self, name: str, version: str | None = None) -> Served:
        """A model by name, the newest version unless told otherwise.

        Raises:
            UnknownModel, UnknownVersion: naming those that there are.
        """
        served = self._newest.get(name) if version is None else self._served.get((name, version))
        if served is None:
            raise self._unknown(name, version)
        return served

    def _unknown(self, name: str, version: str | None) -> UnknownModel | UnknownVersion:
        if name not in self._newest:
            return UnknownModel(f"there is no model {name!r}; there are {_listed(sorted(self._newest))}")
        there = _listed([served.version for served in self.models() if served.name == name])
        return UnknownVersion(f"{name} has no version {version}; it has {there}")

    @property
    def alive(self) -> bool:
        """Whether the device answers."""
        return not self.died.is_set()

    @property
    def trouble(self) -> str | None:
        """Why no request can be answered, ``None`` if all is well."""
        if not self.alive:
            return "the device is lost"
        if self._closed:
            return "the service is stopping"
        if self._served:
            return None
        if self.refused:
            return f"no model is served: {next(iter(self.refused.values()))}"
        return f"no model is served: {self._settings.artifacts} holds none"

    @property
    def oldest_batch_s(self) -> float:
        """How long the oldest batch has been with the device."""
        return max((lane.busy_s() for served in self._living for lane in served.lanes), default=0.0)

    # What changes ---------------------------------------------------------------------------------------

    async def reload(self) -> Change:
        """Take up new and changed versions, and let go of those that are no longer there.

        A version that cannot be opened leaves the one that is served in its place. Requests in flight end on
        the version that they began with.
        """
        async with self._reloading:
            change = Change()
            found = await self._on_thread(discover, self._settings.artifacts)
            for key, path in found.items():
                await self._take_up(key, path, change)
            for key in [key for key in self._served if key not in found]:
                self._swap(key, None)
                change.retired.append("/".join(key))
            self.refused = change.refused
            return change

    async def _take_up(self, key: Key, path: Path, change: Change) -> None:
        label = "/".join(key)
        known = self._served.get(key)
        try:
            if known and known.digest == await self._on_thread(fingerprint, path):
                return
            artifact, opened = await self._on_thread(_open, path, self._settings)
        except ArtifactError as error:
            change.refused[label] = str(error)
            _log.error("refused %s", error)
            return
        if self._closed:
            return
        self._serve(key, artifact, opened)
        change.loaded.append(label)
        _log.info("serving %s on %s", label, self._served[key].provider)

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """On the same one each time: what a model leaves there when it goes is used by the next."""
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._opening, call)

    def _serve(self, key: Key, artifact: Artifact, opened: Mapping[EntryName, Opened]) -> None:
        lanes, closers = {}, []
        for entry, ready in opened.items():
            lanes[entry], closer = self._lane(artifact.manifest, entry, ready)
            closers.append(closer)
        scores = self._scores(artifact.manifest)
        closers.append(scores.closed)
        served = Served(artifact, lanes, next(iter(opened.values())).provider, scores)
        weakref.finalize(served, _call_all, closers).atexit = False
        self._living.add(served)
        self._swap(key, served)

    def _swap(self, key: Key, served: Served | None) -> None:
        """Put a version in its place, or take it away; callers see it from their next request on."""
        self._served.pop(key, None)
        if served is not None:
            self._served[key] = served
        self._newest = {served.name: served for served in reversed(self.models())}

    def _scores(self, manifest: Manifest) -> ScoreObserver:
        if "log_weight" not in manifest.entry_points:
            return NoObserver()
        held_out = manifest.calibration.scores if manifest.calibration else None
        return self._observer.scores(manifest.name, manifest.version, held_out)

    def _lane(self, manifest: Manifest, entry: EntryName, ready: Opened) -> tuple[Lane, Callable[[], None]]:
        worker = Worker(f"{manifest.name}/{manifest.version}/{entry}")
        queue = _Queue()
        observer = self._observer.lane(
            manifest.name, manifest.version, entry, ready.provider, queue.waiting, queue.fullness
        )
        queue_ms, lose = self._settings.queue_ms, self._lose
        lane = Lane(ready.stage, ready.costs, queue_ms, worker, observer, lost=lose, inline=ready.inline)
        queue.lane = weakref.ref(lane)

        def close() -> None:
            worker.close()
            observer.closed()

        return lane, close

    def _lose(self, reason: str) -> None:
        """One lane has lost the device, and so have all."""
        if self.alive:
            self.died.set()
            _log.critical("%s", reason)
            for served in list(self._living):
                for lane in served.lanes:
                    lane.kill(reason)

    async def close(self, drain_s: float) -> None:
        """Refuse new work, answer what is queued until ``drain_s`` have passed, and fail the rest."""
        self._closed = True
        lanes = [lane for served in list(self._living) for lane in served.lanes]
        await asyncio.gather(*(lane.close(drain_s) for lane in lanes))
        self.stuck = self.oldest_batch_s > 0
        self._served, self._newest = {}, {}


class _Queue:
    """The state of a lane's queue, asked by gauges that must not keep the lane alive."""

    lane: weakref.ref[Lane] | None = None

    def waiting(self) -> int:
        lane = self.lane and self.lane()
        return lane.waiting if lane else 0

    def fullness(self) -> float:
        lane = self.lane and self.lane()
        return lane.fullness if lane else 0.0


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) or "none") + more


# Opening one model, on a thread -------------------------------------------------------------------------


def _open(path: Path, settings: Settings) -> tuple[Artifact, dict[EntryName, Opened]]:
    """Check an artifact, load its graphs, run its probes and warm every size of batch."""
    artifact = open_artifact(path)
    manifest, opened = artifact.manifest, {}
    for name, entry in manifest.entry_points.items():
        try:
            opened[name] = _open_entry(artifact, entry, manifest.probes[name], settings)
        except (DeviceMissing, ImportError):  # no fault of the model
            raise
        except Exception as error:  # a graph may raise anything, and the other models must serve
            label = f"{manifest.name}/{manifest.version}"
            raise ArtifactError(f"{label}: {name}: {str(error) or type(error).__name__}") from error
    return artifact, opened


def _open_entry(artifact: Artifact, entry: EntryPoint, probe: Probe, settings: Settings) -> Opened:
    graph = _graph(artifact, entry, settings)
    stage = Stage(graph, artifact.manifest, entry, settings.max_batch_rows)
    rows = _probe(stage, entry, probe)
    costs = measure(lambda size: stage([_tiled(array, size) for array in rows]), settings.max_batch_rows)
    # On a CPU ONNX Runtime gives a row the same bits in a batch of any size, and learns no shape by heart.
    costs = replace(costs, exact=graph.provider == "CPUExecutionProvider")
    return Opened(stage, costs, graph.provider, "cuda" not in graph.provider.lower() and graph.steady)


def _graph(artifact: Artifact, entry: EntryPoint, settings: Settings) -> Graph:
    file = entry.files.get(settings.runtime)
    if file is None:
        raise GraphError(f"there is no {settings.runtime} file; there are {', '.join(entry.files)}")
    return open_graph(artifact.read(file), entry, settings.runtime, settings.device, settings.threads)


def _probe(stage: Stage, entry: EntryPoint, probe: Probe) -> list[Array]:
    """Run the probe, and give its inputs."""
    try:
        inputs = [np.array(probe.inputs[tensor.name], tensor.dtype) for tensor in entry.inputs]
        expected = [np.array(probe.outputs[tensor.name], tensor.dtype) for tensor in entry.outputs]
    except (KeyError, ValueError, TypeError) as error:
        raise GraphError(f"the probe cannot be read: {error!r}") from error
    for tensor, right, output in zip(entry.outputs, expected, stage(inputs), strict=True):
        if right.shape != output.shape or not _close(output, right, probe.tolerance):
            raise GraphError(
                f"the probe failed: {tensor.name} is {_brief(output)}, "
                f"expected is {_brief(right)} within {probe.tolerance:g}"
            )
    return inputs


def _close(output: Array, right: Array, tolerance: float) -> bool:
    return bool(np.allclose(output, right, rtol=0, atol=tolerance, equal_nan=True))


def _brief(array: Array) -> str:
    shown = ", ".join(f"{value:.6g}" for value in array.ravel()[:4])
    return f"{list(array.shape)} [{shown}{', …' if array.size > 4 else ''}]"


def _tiled(rows: Array, count: int) -> Array:
    """The rows again and again, until there are ``count``."""
    return np.resize(rows, (count, *rows.shape[1:]))
