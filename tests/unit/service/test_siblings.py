"""Whoever is asked answers, or is a miss in time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from service.seat import Seat
from service.siblings import Message, Siblings

LONG = bytes(range(256)) * 20_000


@pytest.fixture
def folder() -> Iterator[str]:
    """A short path, as sockets need."""
    with TemporaryDirectory() as folder:
        yield folder


def _gone(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _echo(asked: Message) -> Message:
    return Message({"heard": asked.value}, asked.content[::-1])


async def _fail(_: Message) -> Message:
    raise RuntimeError("broken")


def among(folder: str, talk: Callable[[list[Siblings]], Awaitable[None]], count: int = 3) -> None:
    """Have as many processes as that, all in this one, and talk."""

    async def run() -> None:
        all_ = [Siblings(Seat(i, count, folder, {}), {"echo": _echo, "fail": _fail}) for i in range(count)]
        for one in all_:
            await one.listen()
        try:
            await talk(all_)
        finally:
            for one in all_:
                await one.close()

    asyncio.run(run())


def test_all_others_answer_at_once_and_as_long_as_it_takes(folder: str) -> None:
    async def talk(all_: list[Siblings]) -> None:
        for content in (b"", LONG):
            answers = await all_[1].ask("echo", Message([1, "é"], content), 10)
            assert answers == dict.fromkeys((0, 2), Message({"heard": [1, "é"]}, content[::-1]))
        assert (await all_[1].ask("echo", Message(None), 10, {2})).keys() == {2}

    among(folder, talk)


def test_who_is_not_there_fails_or_does_not_understand_is_a_miss(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(all_: list[Siblings]) -> None:
        await all_[0].close()
        _gone(all_[0].seat.socket(0))
        assert (await all_[1].ask("echo", Message(None), 10)).keys() == {2}
        assert await all_[1].ask("fail", Message(None), 10) == {}
        assert "broken" in caplog.text
        assert await all_[1].ask("what", Message(None), 10) == {}
        assert (await all_[1].ask("echo", Message(None), 10)).keys() == {2}

    among(folder, talk)


@pytest.mark.parametrize("said", [b"", b"\xff" * 12, b"\x01\0\0\0" + bytes(8) + b"{"])
def test_who_is_stuck_or_mad_costs_the_timeout_and_no_more(folder: str, said: bytes) -> None:
    async def talk(all_: list[Siblings]) -> None:
        path = all_[0].seat.socket(0)
        await all_[0].close()
        _gone(path)
        with socket.socket(socket.AF_UNIX) as mad:
            mad.bind(path)
            mad.listen()
            began = time.monotonic()
            asking = asyncio.create_task(all_[1].ask("echo", Message(None), 0.2))
            await asyncio.sleep(0.05)
            with mad.accept()[0] as wire:
                wire.sendall(said)
                assert (await asking).keys() == {2}
            assert time.monotonic() - began < 5

    among(folder, talk)


def test_one_that_is_started_again_takes_the_place_of_the_one_before(folder: str) -> None:
    async def talk(all_: list[Siblings]) -> None:
        again = Siblings(Seat(0, 3, folder, {}, again=True), {"echo": _echo})
        await again.listen()
        assert (await all_[1].ask("echo", Message(None), 10)).keys() == {0, 2}
        await again.close()

    among(folder, talk)
