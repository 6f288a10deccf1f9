"""One process that serves: one event loop, one engine; alone, or one of several that share a port.

SIGTERM and SIGINT drain and end with 0; SIGHUP takes new versions of models, and keys; a device that fails,
or an engine that does not start, ends the process with 1, so that whoever supervises it can replace it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from socket import socket
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from models.manifest import Manifest
from service.access import OpenToAll, check_host
from service.app import create_app
from service.callers import Callers
from service.engine import Change, Engine
from service.front import Front
from service.keys import KeysError
from service.lifecycle import Lifecycle
from service.logs import set_up
from service.ports import listeners
from service.seat import Seat
from service.settings import Settings
from service.traces import TracesMissing

GARBAGE: Final = 20_000  # objects between two collections: a request leaves none behind that need one
LOG: Final = logging.getLogger("pushforward")
_RELOADS: Final[set[asyncio.Task[Change]]] = set()


class Server(uvicorn.Server):
    """uvicorn, but told to stop it first answers what it has accepted, and then ends with 0."""

    def __init__(self, config: uvicorn.Config, life: Lifecycle) -> None:
        super().__init__(config)
        self._life = life
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen; a port that is taken ends the process here."""
        await super().startup(sockets)
        self.listening.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, once; a second SIGINT means now."""
        if self._stopping is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
        self._loop.call_soon_threadsafe(self.stop)

    def elsewhere(self, call: Callable[[], None]) -> Callable[[], None]:
        """The same, for another thread."""

        def called() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(call)

        return called

    def stop(self) -> None:
        """Drain, then exit."""
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        LOG.info("stopping: unready now, answering what was accepted")
        await self._life.drain()
        self.should_exit = True


async def serve(settings: Settings, seat: Seat | None = None) -> int:
    """Serve until told to stop; the exit code.

    Args:
        seat: which of several processes this is, ``None`` if it is the only one.
    """
    log = set_up(settings.log_format)
    try:
        app = create_app(settings, log, seat)
        check_host(settings, app.state.callers)
    except (KeysError, OpenToAll, TracesMissing) as error:
        LOG.critical("%s", error)
        return 2
    life: Lifecycle = app.state.life
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Front,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nobody here asks where a caller sits
        timeout_graceful_shutdown=1,  # by then the drain has waited
    )
    server = Server(config, life)
    _take_what_is_new_at_sighup(life, app.state.callers)
    if seat is not None:
        seat.heed(server.elsewhere(life.all_are_ready), server.elsewhere(server.stop), settings.drain_s)
    watching = asyncio.create_task(_announce_and_watch(server, life, seat))
    await server.serve(listeners(settings.host, settings.port) if seat else None)
    watching.cancel()
    log.flush()
    code = 1 if life.dead else 0
    if life.stuck:  # the runtime would abort if it were taken down while it runs
        os._exit(code)
    return code


def _take_what_is_new_at_sighup(life: Lifecycle, callers: Callers) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _take_what_is_new, life, callers)
    # The supervisor starts processes that hold it back until here, where it no longer ends them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def _take_what_is_new(life: Lifecycle, callers: Callers) -> None:
    try:
        callers.reread()
    except KeysError as error:
        LOG.error("the keys stay as they were: %s", error)
    task = asyncio.ensure_future(life.reload())
    _RELOADS.add(task)  # the loop itself holds tasks weakly
    task.add_done_callback(_say_reloaded)


def _say_reloaded(task: asyncio.Task[Change]) -> None:
    _RELOADS.discard(task)
    if task.cancelled():  # with the process
        return
    if (error := task.exception()) is not None:
        LOG.error("not reloaded: %s", error)
        return
    change = task.result()
    LOG.info("reloaded: new %s, gone %s", change.loaded, change.retired)


async def _announce_and_watch(server: Server, life: Lifecycle, seat: Seat | None) -> None:
    await server.listening.wait()
    await life.opened.wait()
    # What is there now stays: a full collection would look at all of it, for 40 ms, again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    if not life.dead:
        _announce(_sentences(server, life.engine()), seat)
    await life.died()
    server.should_exit = True


def _announce(sentences: list[str], seat: Seat | None) -> None:
    if seat is not None:
        seat.tell_ready(sentences)
        return
    for sentence in sentences:
        LOG.info("%s", sentence)


def _sentences(server: Server, engine: Engine) -> list[str]:
    """Where it listens, what it serves, what to try."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    said = [f"listening on {url}", f"models: {_named(engine)}"]
    able = [served.manifest.name for served in engine.models() if _samples_unlabelled(served.manifest)]
    if able:
        body = f'{{"model": "{able[0]}", "n": 2, "seed": 7}}'
        said.append(f"try: curl -s {url}/sample -H 'Content-Type: application/json' -d '{body}'")
    return said


def _samples_unlabelled(manifest: Manifest) -> bool:
    decode = manifest.entry_points.get("decode")
    return decode is not None and decode.input("label") is None


def _named(engine: Engine) -> str:
    names = sorted(f"{served.manifest.name} {served.manifest.version}" for served in engine.models())
    return ", ".join(names) or "none; export one, then send SIGHUP or POST /models/reload"


def main() -> int:
    """Serve as one of several; the exit code."""
    try:
        seat = Seat.told()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return uvloop.run(serve(Settings(**seat.given), seat))


if __name__ == "__main__":
    sys.exit(main())
