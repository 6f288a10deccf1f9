"""What the processes of one service ask each other: over Unix sockets in a folder that only they may enter.

A question is a word with a value that JSON can say and raw bytes, and so is the answer; each has its own
connection. Who is stuck, dead or not there yet has no answer, which is never an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.seat import Seat

LENGTHS: Final = struct.Struct("<IQ")  # of the JSON and of the bytes
LOG: Final = logging.getLogger("pushforward")


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer."""

    value: Any
    content: bytes = b""


Answer = Callable[[Message], Awaitable[Message]]


class Siblings:
    """The other processes.

    Args:
        answers: what this process answers, by question.
    """

    def __init__(self, seat: Seat, answers: Mapping[str, Answer]) -> None:
        self.seat = seat
        self.others = {index for index in range(seat.count) if index != seat.index}
        self._answers = answers
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_unix_server(self._answer, self.seat.socket(self.seat.index))

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def ask(
        self, question: str, message: Message, timeout_s: float, of: set[int] | None = None
    ) -> dict[int, Message]:
        """What the others answer in time, by their index.

        Args:
            of: whom to ask, all others if not given.
        """
        others = sorted(self.others if of is None else of)
        answers = await asyncio.gather(*(self._ask(index, question, message, timeout_s) for index in others))
        return {index: answer for index, answer in zip(others, answers, strict=True) if answer is not None}

    async def _ask(self, index: int, question: str, message: Message, timeout_s: float) -> Message | None:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self.seat.socket(index))
                with contextlib.closing(writer):
                    await _write(writer, Message([question, message.value], message.content))
                    return await _read(reader)
        except (OSError, EOFError, ValueError):  # TimeoutError is an OSError
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError, ValueError):
            asked = await _read(reader)
            question, value = asked.value
            try:
                answer = await self._answers[question](Message(value, asked.content))
            except Exception:  # whoever asks sees none, and the reason is here
                LOG.exception("the question %s of another process is not answered", question)
                return
            await _write(writer, answer)


async def _write(writer: asyncio.StreamWriter, message: Message) -> None:
    value = orjson.dumps(message.value)
    writer.write(LENGTHS.pack(len(value), len(message.content)) + value + message.content)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Message:
    """The next message; an IncompleteReadError, which is an EOFError, if the other side ends before."""
    value, content = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    return Message(orjson.loads(await reader.readexactly(value)), await reader.readexactly(content))
