"""Several processes behind one port: started, told what the operator says, and started again when they die.

The supervisor holds the port, but serves nothing: each process listens on it by itself, with an event loop
and an engine of its own. A signal to the supervisor reaches all of them. They are its children, each at the
other end of a socket, so that none outlives it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import orjson

from service.access import OpenToAll, check_host
from service.callers import Callers
from service.keys import KeysError
from service.logs import set_up
from service.ports import hold
from service.seat import ALL_READY, Seat, check_folder
from service.settings import Settings

WRONG_SETTING: Final = 2  # the exit codes of a process that is alone
PORT_TAKEN: Final = 3
DEATHS: Final = 3  # in one place, of which a fourth within ``WITHIN_S`` is no accident: a cause that stays
WITHIN_S: Final = 60.0
LOG: Final = logging.getLogger("pushforward")


def supervise(settings: Settings, given: dict[str, Any], count: int) -> int:
    """Serve in several processes until told to stop; the exit code.

    Args:
        given: the settings of the command line; processes find the others where these were found.
    """
    set_up(settings.log_format)
    try:
        check_host(settings, Callers(settings))
    except (KeysError, OpenToAll) as error:
        LOG.critical("%s", error)
        return WRONG_SETTING
    with ExitStack() as held:
        try:
            sockets = [held.enter_context(one) for one in hold(settings.host, settings.port)]
        except OSError as error:
            LOG.error("%s", error)
            return PORT_TAKEN
        try:
            folder = held.enter_context(TemporaryDirectory(prefix="pushforward-", ignore_cleanup_errors=True))
            check_folder(folder, count)
        except OSError as error:
            LOG.critical("the processes cannot meet: %s", error)
            return WRONG_SETTING
        given = {**given, "port": sockets[0].getsockname()[1]}
        seats = [Seat(index, count, folder, given) for index in range(count)]
        return asyncio.run(Supervisor(seats).run())


class Supervisor:
    """Keeps the processes running until it is told to stop, or one of them cannot be kept."""

    def __init__(self, seats: list[Seat]) -> None:
        self._seats = seats
        self._running: dict[int, Process] = {}
        self._ready: dict[int, list[str]] = {}  # what each said, the first time
        self._stopping = False
        self._code = 0

    async def run(self) -> int:
        """The exit code: 0 if all have ended with 0 when they were told to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        await asyncio.gather(*(self._keep(seat) for seat in self._seats))
        return self._code

    def _stop(self, number: signal.Signals) -> None:
        """Begin to stop, once; a second SIGINT means now, and is theirs to understand."""
        if not self._stopping:
            self._stopping = True
            self._pass_on(signal.SIGTERM)
        elif number == signal.SIGINT:
            self._pass_on(signal.SIGINT)

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._running.values():
            process.signal(number)

    async def _keep(self, seat: Seat) -> None:
        """Have a process in a place until the end."""
        record = Record()
        while not self._stopping:
            process = await self._begin(seat)
            async for sentences in process.says():
                self._is_ready(seat, sentences)
            code = process.ended()
            del self._running[seat.index]
            self._judge(process, code, record)
            seat = replace(seat, again=True)

    async def _begin(self, seat: Seat) -> Process:
        process = self._running[seat.index] = await Process.start(seat)
        if self._stopping:  # meanwhile, so that it has not been told
            process.signal(signal.SIGTERM)
        return process

    def _is_ready(self, seat: Seat, sentences: list[str]) -> None:
        if seat.again:
            LOG.info("process %d answers again", seat.index)
            return
        self._ready[seat.index] = sentences
        if len(self._ready) < len(self._seats):
            return
        for process in self._running.values():
            process.tell_all_ready()
        for sentence in self._ready[0]:
            LOG.info("%s", sentence)

    def _judge(self, process: Process, code: int, record: Record) -> None:
        """A process has ended: as it was told, or else what now?"""
        if self._stopping:
            told = code == 0 or (code == -signal.SIGTERM and not process.ready)  # it had not even begun
            self._code = self._code or (0 if told else 1)
            return
        what = f"process {process.seat.index} (pid {process.pid}) {_end(code)}"
        if (reason := record.hopeless(process, time.monotonic())) is not None:
            LOG.critical("%s; %s, so all end", what, reason)
            self._code = code if code == WRONG_SETTING and not process.seat.again else 1
            self._stop(signal.SIGTERM)
        else:
            LOG.error("%s; it is started again", what)


class Record:
    """The deaths in one place."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS + 1)
        self._in_vain = 0  # starts, one after the other, that no request was answered after

    def hopeless(self, process: Process, now: float) -> str | None:
        """Why it would be of no use to start it again, ``None`` if it might."""
        self._deaths.append(now)
        self._in_vain = 0 if process.ready else self._in_vain + 1
        if not process.ready and not process.seat.again:
            return "it was never ready"
        if self._in_vain == DEATHS:
            return f"started {DEATHS} times it was never ready"
        if len(self._deaths) > DEATHS and now - self._deaths[0] < WITHIN_S:
            return f"it was the {DEATHS + 1}th time within {WITHIN_S:g} s"
        return None


class Process:
    """One of the processes, and this end of the socket to it.

    Attributes:
        ready: whether it has said so.
    """

    def __init__(
        self,
        seat: Seat,
        child: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.seat = seat
        self.ready = False
        self.pid = child.pid
        self._child = child
        self._reader, self._writer = reader, writer

    @classmethod
    async def start(cls, seat: Seat) -> Self:
        """Start it, and say which one it is."""
        ours, theirs = socket.socketpair()
        with theirs:
            child = _spawn(theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(seat.line())
        return cls(seat, child, reader, writer)

    def tell_all_ready(self) -> None:
        """Say that the others are ready too."""
        self._writer.write(ALL_READY)

    async def says(self) -> AsyncIterator[list[str]]:
        """What may be announced, as soon as it is ready; over when it has ended."""
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                self.ready = True
                yield orjson.loads(line)

    def ended(self) -> int:
        """The exit code, or less than 0 for a signal; its end of the socket is closed, so it is at hand."""
        self._writer.close()
        return self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        self._child.send_signal(number)


def _spawn(wire: socket.socket) -> subprocess.Popen[bytes]:
    # A SIGHUP would end a process that has no handler yet; so it is held back until there is one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        # In a session of its own, because a terminal's Ctrl-C would come twice, and twice means at once.
        return subprocess.Popen(
            [sys.executable, "-m", "service.server"], stdin=wire.fileno(), start_new_session=True
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"
