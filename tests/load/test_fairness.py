"""A stream of a million rows beside a thousand callers of one row each: both go on."""

from __future__ import annotations

import asyncio
import random
import resource
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, Service
from tests.load.open_loop import quantile
from tests.load.wire import GONE, Connection, request

pytestmark = pytest.mark.chaos

SEEDS = 100


class Callers:
    """Each with a connection of its own, asking for one row now and then."""

    def __init__(self, url: str, count: int, every_s: float, right: Sequence[bytes]) -> None:
        self._url, self._count, self._every_s, self._right = url, count, every_s, right

    async def seconds(self, until: asyncio.Event) -> list[float]:
        """How long answers took, until it is over."""
        taken: list[float] = []
        await asyncio.gather(*(self._call(number, taken, until) for number in range(self._count)))
        return taken

    async def _call(self, number: int, taken: list[float], until: asyncio.Event) -> None:
        dice, seed = random.Random(number), number % SEEDS
        sent = request("sample", {"model": "heavy", "n": 1, "seed": seed})
        await asyncio.sleep(dice.uniform(0, self._every_s))
        connection = await Connection.open(self._url)
        while not until.is_set():
            began = time.monotonic()
            answer = await connection.ask(sent)
            if answer is GONE:  # one that nobody has used for five seconds is closed
                connection = await Connection.open(self._url)
                continue
            taken.append(time.monotonic() - began)
            assert (answer.status, answer.body) == (200, self._right[seed])
            await asyncio.sleep(dice.expovariate(1 / self._every_s))
        connection.close()


@dataclass(frozen=True)
class Round:
    """99 of 100 single rows took less than so many seconds, and the stream so many; alone and beside."""

    single_alone_s: float
    single_beside_s: float
    stream_alone_s: float
    stream_beside_s: float


@dataclass(frozen=True)
class Form:
    """How much of everything; callers ask every few seconds in the mean."""

    rows: int
    callers: int
    every_s: float
    rounds: int
    alone_s: float


BRIEF = Form(rows=50_000, callers=50, every_s=0.1, rounds=1, alone_s=0.3)
# If they asked more often, two cores had no part left that the stream could lose.
FULL = Form(rows=1_000_000, callers=1000, every_s=2.0, rounds=3, alone_s=10.0)


async def _rounds(service: Service, form: Form) -> list[Round]:
    fields = {"model": "heavy", "n": 1}
    right = [service.client.post("/sample", json={**fields, "seed": i}).content for i in range(SEEDS)]
    singles = Callers(service.url, form.callers, form.every_s, right)
    done, checksums = list[Round](), set[str]()
    for _ in range(form.rounds):
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(form.alone_s, over.set)
        alone = await singles.seconds(over)
        stream_alone_s, checksum = await _streamed(await _reader(service, form.rows))
        over, reader = asyncio.Event(), await _reader(service, form.rows)
        beside = asyncio.ensure_future(singles.seconds(over))
        stream_beside_s, other = await _streamed(reader)
        over.set()
        p99s = quantile(alone, 0.99), quantile(await beside, 0.99)
        done.append(Round(*p99s, stream_alone_s, stream_beside_s))
        checksums |= {checksum, other}
    assert len(checksums) == 1
    return done


async def _reader(service: Service, rows: int) -> Process:
    """Who is about to take a stream."""
    command = ["-m", "tests.load.stream", service.url, "heavy", str(rows)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def _streamed(process: Process) -> tuple[float, str]:
    said, _ = await process.communicate(b"go\n")
    assert process.returncode == 0
    seconds, checksum = said.decode().split()
    return float(seconds), checksum


def _model(folder: Path) -> Path:
    graphs.heavy(folder, width=512)
    return folder


def test_single_rows_and_a_stream_have_the_same_bits_beside_each_other_as_alone(
    start: Start, tmp_path: Path
) -> None:
    service = start(_model(tmp_path / "artifacts")).ready()
    asyncio.run(_rounds(service, BRIEF))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [1, 2])
def test_single_rows_wait_three_times_as_long_at_most_and_the_stream_has_most_of_its_speed(
    start: Start, tmp_path: Path, processes: int
) -> None:
    """Alone the thousand ask for 500 rows a second, which is what two cores can send, read and check."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    service = start(_model(tmp_path / "artifacts"), processes=processes).ready()
    rounds = asyncio.run(_rounds(service, FULL))
    print("\n| single row p99 alone, ms | beside, ms | ratio | stream alone, s | beside, s | speed kept |")
    for one in rounds:
        print(
            f"| {1000 * one.single_alone_s:.2f} | {1000 * one.single_beside_s:.2f} "
            f"| {one.single_beside_s / one.single_alone_s:.2f} | {one.stream_alone_s:.1f} "
            f"| {one.stream_beside_s:.1f} | {one.stream_alone_s / one.stream_beside_s:.2f} |"
        )
    waits = statistics.median(one.single_beside_s / one.single_alone_s for one in rounds)
    speed = statistics.median(one.stream_alone_s / one.stream_beside_s for one in rounds)
    assert waits <= 3
    assert speed >= 0.7
