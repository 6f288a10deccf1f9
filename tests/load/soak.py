"""Half an hour of mixed traffic with a fault every minute: every answer is held against one given in peace.

``python -m tests.load.soak`` prints what it sees and writes it to ``soak.json``; it ends with 1 if an answer
was wrong or lost, or if the service holds more at the end than it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests import graphs
from tests.e2e.processes import Redis, Service, until
from tests.load.vitals import Vitals, family, vitals
from tests.load.wire import GONE, Answer, Connection, connect, request, reset

CALLERS = 8
PAUSE_S = 0.02  # of a caller between two requests: the machine is busy, not overloaded
FAULT_EVERY_S = 60.0
WATCH_EVERY_S = 2.0
SETTLED_AFTER_S = 300.0
TTL_S = 120
VARIANTS = 12  # of each kind of request
GROWTH = 0.05
SPARE = 6  # descriptors and threads that come and go: sockets that close, threads of a pool that fills


@dataclass(frozen=True)
class Kind:
    """Requests of one kind, and what of an answer must not change."""

    name: str
    requests: list[bytes]
    constant: Callable[[Answer], object] = lambda answer: (answer.status, answer.body)


@dataclass
class Seen:
    """What has been counted."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    broken_by_kill: int = 0
    faults: list[str] = field(default_factory=list)
    resident_mib: list[tuple[float, float]] = field(default_factory=list)


def kinds() -> Iterator[Kind]:
    """All verbs, in several forms of body and answer."""
    npy, png, lines = "application/x-npy", "image/png", "application/x-ndjson"
    rows = [[[i / 7, 1.0, -float(i)]] * (1 + i % 3) for i in range(VARIANTS)]

    def many(verb: str, fields: Callable[[int], dict[str, Any]], **headers: str) -> list[bytes]:
        return [request(verb, fields(i), **headers) for i in range(VARIANTS)]

    yield Kind("sample", many("sample", lambda i: {"model": "linear", "n": 1 + i, "seed": i}))
    yield Kind("sample npy", many("sample", lambda i: {"model": "linear", "n": 64, "seed": i}, Accept=npy))
    yield Kind("stream", many("sample", lambda i: {"model": "linear", "n": 9000, "seed": i}, Accept=lines))
    yield Kind("picture", many("sample", lambda i: {"model": "image-gan", "n": 9, "seed": i}, Accept=png))
    yield Kind(
        "labelled", many("sample", lambda i: {"model": "conditional", "n": 3, "label": i % 3, "seed": i})
    )
    yield Kind("slow", many("sample", lambda i: {"model": "slow", "n": 2, "seed": i}))
    yield Kind("encode", many("encode", lambda i: {"model": "linear", "inputs": rows[i]}), _without_cached)
    yield Kind("reconstruct", many("reconstruct", lambda i: {"model": "gaussian-vae", "inputs": rows[i]}))
    yield Kind("loglik", many("loglik", lambda i: {"model": "linear", "inputs": rows[i]}))
    yield Kind(
        "bound", many("loglik", lambda i: {"model": "gaussian-vae", "inputs": rows[i], "k": 64, "seed": i})
    )
    yield Kind("decode", many("decode", lambda i: {"model": "linear", "latents": rows[i]}))
    yield Kind("walk", many("interpolate", _walk))
    yield Kind("protocol", many("v2/models/linear.log_weight/infer", lambda i: _tensor(rows[i])))


def _walk(i: int) -> dict[str, Any]:
    ends = {"start": {"seed": i, "index": 0}, "end": {"input": [1.0, float(i), 2.0]}}
    return {"model": "linear", **ends, "steps": 5, "path": "slerp"}


def _tensor(rows: list[list[float]]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [len(rows), 3], "datatype": "FP32", "data": rows}]}


def _without_cached(answer: Answer) -> object:
    body = json.loads(answer.body)
    return answer.status, {name: value for name, value in body.items() if name != "cached"}


class Soak:
    """One run.

    Args:
        right: what each request has to be answered, by kind.
    """

    def __init__(self, service: Service, redis: Redis, root: Path, right: dict[str, list[object]]) -> None:
        self.service, self.redis, self.root, self.right = service, redis, root, right
        self.seen = Seen()
        self.began = time.monotonic()
        self._ids: list[str] = []
        self._killed = 0.0
        self._stop = asyncio.Event()
        pids = list(family(service.running.process.pid))
        self.victim_seat, self.oldest = pids[1], pids[-1]

    async def run(self, seconds: float) -> None:
        """Traffic, faults and a look at the process, for so long."""
        callers = [asyncio.ensure_future(self._call(number)) for number in range(CALLERS)]
        others = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._faults())]
        await asyncio.sleep(seconds)
        self._stop.set()
        await asyncio.gather(*callers, *others)

    # Traffic ------------------------------------------------------------------------------------------

    async def _call(self, number: int) -> None:
        """One caller, who goes on."""
        connection: Connection | None = None
        order = [(kind, i) for i in range(VARIANTS) for kind in kinds()]
        turn = number * len(order) // CALLERS
        while not self._stop.is_set():
            kind, i = order[turn % len(order)]
            turn += 1
            began = time.monotonic()
            try:
                if connection is None or not connection.usable:
                    connection = await Connection.open(self.service.url)
                answer = await asyncio.wait_for(connection.ask(kind.requests[i]), 60)
            except (OSError, TimeoutError):
                answer, connection = GONE, None
            self._judge(kind, i, answer, began)
            await asyncio.sleep(PAUSE_S)
        if connection is not None:
            connection.close()

    def _judge(self, kind: Kind, i: int, answer: Answer, began: float) -> None:
        if answer.status == 200:
            self.seen.answers[kind.name] += 1
            if kind.constant(answer) != self.right[kind.name][i]:
                self.seen.wrong.append(f"{kind.name} {i}: {answer.body[:300]!r}")
        elif answer.status:
            self.seen.refused[f"{answer.status} {answer.code}"] += 1
        elif began - 1 < self._killed or time.monotonic() - self._killed < 1:
            self.seen.broken_by_kill += 1
        else:
            self.seen.lost += 1

    # The process --------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while not await self._stopped(WATCH_EVERY_S):
            minutes = (time.monotonic() - self.began) / 60
            self.seen.resident_mib.append((round(minutes, 2), _resident_mib(self.oldest)))

    async def _stopped(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        return self._stop.is_set()

    # Faults -------------------------------------------------------------------------------------------

    async def _faults(self) -> None:
        faults = (
            self._hang_up,
            self._poison,
            self._reload,
            self._kill_redis,
            self._kill_a_process,
            self._never_read,
            self._freeze_redis,
            self._send_slowly,
        )
        turn = 0
        while not await self._stopped(FAULT_EVERY_S):
            fault = faults[turn % len(faults)]
            turn += 1
            self.seen.faults.append(fault.__name__.strip("_").replace("_", " "))
            print(f"{time.monotonic() - self.began:6.0f} s: {self.seen.faults[-1]}", flush=True)
            await asyncio.to_thread(fault)

    def _hang_up(self) -> None:
        """Half way through a head, a body and an answer."""
        for sent in (40, -10, 10**6):
            for number in range(100):
                wire = connect(self.service.url)
                wire.sendall(request("sample", {"model": "slow", "n": 2, "seed": number})[:sent])
                reset(wire)

    def _poison(self) -> None:
        """A bad row among good ones costs itself."""
        for _ in range(50):
            fields = {"model": "poison", "latents": [[1.0], [-2.0], [3.0]]}
            answer = self.service.client.post("/decode", json=fields)
            if (answer.status_code, answer.json().get("rows")) != (500, [1]):
                self.seen.wrong.append(f"poison: {answer.text[:300]}")

    def _reload(self) -> None:
        """A model comes, or the one that came goes."""
        if (self.root / "guest").exists():
            _part(self.service, self.root)
        else:
            _welcome(self.service, self.root)

    def _kill_redis(self) -> None:
        self.redis.kill()
        time.sleep(5)
        self.redis.start()

    def _freeze_redis(self) -> None:
        self.redis.running.signal(signal.SIGSTOP)
        time.sleep(5)
        self.redis.running.signal(signal.SIGCONT)

    def _kill_a_process(self) -> None:
        """Not the oldest one, whose memory is watched."""
        (victim,) = set(list(family(self.service.running.process.pid))[1:]) - {self.oldest}
        self._killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)

    def _never_read(self) -> None:
        with ExitStack() as open_wires:
            for _ in range(8):
                wire = open_wires.enter_context(connect(self.service.url, receive_bytes=4096))
                wire.sendall(request("sample", {"model": "linear", "n": 2**40}, Accept="application/x-npy"))
            time.sleep(20)

    def _send_slowly(self) -> None:
        sent = request("sample", {"model": "linear", "n": 1})
        with ExitStack() as open_wires:
            wires = [open_wires.enter_context(connect(self.service.url)) for _ in range(50)]
            for place in range(len(sent) - 1):
                for wire in wires:
                    wire.sendall(sent[place : place + 1])
                time.sleep(0.1)


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGESIZE") / (1 << 20), 2)


def _right(root: Path, log: Path) -> dict[str, list[object]]:
    """The answers of a process that nobody else asks, and that has no Redis."""

    async def ask() -> dict[str, list[object]]:
        connection = await Connection.open(service.url)
        answers: dict[str, list[object]] = {}
        for kind in kinds():
            given = [await connection.ask(sent) for sent in kind.requests]
            assert all(answer.status == 200 for answer in given), (kind.name, given)
            answers[kind.name] = [kind.constant(answer) for answer in given]
        connection.close()
        return answers

    service = Service.start(root, log, max_batch_rows=1).ready()
    try:
        return asyncio.run(ask())
    finally:
        service.stop()


def _models(root: Path) -> None:
    sound = (graphs.linear_flow, graphs.gaussian_vae, graphs.conditional, graphs.image_gan, graphs.slow)
    for build in (*sound, graphs.poison):
        build(root)


def _welcome(service: Service, root: Path) -> None:
    """Have one more model served, by both processes."""
    graphs.linear_flow(root, name="guest")
    service.running.signal(signal.SIGHUP)
    time.sleep(1)


def _part(service: Service, root: Path) -> None:
    """Have it served no more."""
    shutil.rmtree(root / "guest")
    service.running.signal(signal.SIGHUP)
    time.sleep(1)


def _used(service: Service, root: Path) -> Vitals:
    """What it holds when it has been used, and nobody asks."""
    for _ in range(3):
        _welcome(service, root)
        _part(service, root)
    time.sleep(6)
    return vitals(service.running.process.pid)


def _quiet(service: Service, redis: Redis, root: Path) -> Vitals:
    """The same, after all that may be forgotten is forgotten."""
    if (root / "guest").exists():
        _part(service, root)
    until(lambda: service.metric("pushforward_requests_in_flight") <= 1, "only the scrape is in flight")
    until(lambda: service.metric("pushforward_queue_rows") == 0, "no rows are queued")
    until(lambda: redis.keys == 0, "Redis has forgotten every latent", timeout_s=1.2 * TTL_S)
    time.sleep(6)  # connections that nobody uses are closed after five
    return vitals(service.running.process.pid)


def _growth(resident_mib: list[tuple[float, float]], minutes: float) -> float:
    """How much more memory there is in the last fifth than after it had settled."""
    settled = min(SETTLED_AFTER_S / 60, minutes / 6)
    first = [mib for at, mib in resident_mib if settled <= at < settled + minutes / 10]
    last = [mib for at, mib in resident_mib if at > 0.8 * minutes]
    return (sum(last) / len(last)) / (sum(first) / len(first)) - 1


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser("python -m tests.load.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _soak(Path(folder), given.minutes, given.out)


def _soak(folder: Path, minutes: float, out: Path) -> int:
    root = folder / "artifacts"
    _models(root)
    right = _right(root, folder / "alone.log")
    redis = Redis(folder)
    knobs = {"processes": 2, "redis_url": redis.url, "latent_ttl_s": TTL_S, "deadline_ms": 10_000}
    service = Service.start(root, folder / "service.log", **knobs).ready()
    try:
        until(lambda: "listening on" in service.running.log, "both are ready")
        before = _used(service, root)
        soak = Soak(service, redis, root, right)
        asyncio.run(soak.run(60 * minutes))
        after = _quiet(service, redis, root)
        ended = service.stop()
    finally:
        service.stop()
        redis.stop()
    return _report(soak.seen, minutes, before, after, ended, out)


def _report(seen: Seen, minutes: float, before: Vitals, after: Vitals, ended: int, out: Path) -> int:
    growth = _growth(seen.resident_mib, minutes)
    holds = {
        "no answer is wrong": not seen.wrong,
        "none is lost, but for what a killed process had in its hands": seen.lost == 0,
        "nobody was refused": not seen.refused,
        f"memory grew by less than {GROWTH:.0%} once it had settled": growth < GROWTH,
        "no thread leaked": after.threads <= before.threads + SPARE,
        "no file descriptor leaked": after.descriptors <= before.descriptors + SPARE,
        "told to stop it ended with 0": ended == 0,
    }
    summary = {
        "minutes": minutes,
        "answered": sum(seen.answers.values()),
        "growth": round(growth, 4),
        "before": asdict(before),
        "after": asdict(after),
        "holds": holds,
        **vars(seen),
    }
    out.write_text(json.dumps(summary, indent=1))
    print(f"{summary['answered']} answers in {minutes:g} minutes with {len(seen.faults)} faults")
    print(f"{len(seen.wrong)} wrong, {seen.lost} lost, {seen.broken_by_kill} broken off by a killed process")
    print(f"refused: {dict(seen.refused) or 'nobody'}; memory {growth:+.1%}; {out} has the rest")
    for sentence, held in holds.items():
        print(f"  {'yes' if held else 'NO '}  {sentence}")
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
