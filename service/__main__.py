"""``python -m service``: one process, one event loop, one engine. ``python -m service key NAME``: a new key.

SIGTERM and SIGINT drain and end with 0; SIGHUP takes new versions of models, and keys; a device that fails,
or an engine that does not start, ends the process with 1, so that whoever supervises it can replace it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from socket import socket
from types import FrameType
from typing import Any, Final

import uvicorn
import uvloop
from pydantic import ValidationError

from models.manifest import Manifest
from service import keys
from service.access import OpenToAll, check_host
from service.app import create_app
from service.callers import Callers
from service.engine import Change, Engine
from service.front import Front
from service.keys import KeysError
from service.lifecycle import Lifecycle
from service.logs import set_up
from service.settings import Settings
from service.traces import TracesMissing

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

    def stop(self) -> None:
        """Drain, then exit."""
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        LOG.info("stopping: unready now, answering what was accepted")
        await self._life.drain()
        self.should_exit = True


def main() -> int:
    """Do what the command line says; the exit code."""
    given = _given()
    if "name" in given:
        return _make_key(given["name"])
    try:
        settings = Settings(**given)
    except ValidationError as error:
        set_up("auto")
        LOG.critical("settings: %s", error)
        return 2
    return uvloop.run(_serve(settings))


def _make_key(name: str) -> int:
    """Print a key, which is kept nowhere, and its line of the key file."""
    key = keys.made()
    try:
        line = keys.line(name, key)
    except keys.KeysError as error:
        print(error, file=sys.stderr)
        return 2
    print("The key, for its holder; it is not shown again:", file=sys.stderr)
    print(key, flush=True)
    print("Its line, for the file that PUSHFORWARD_KEYS_FILE names:", file=sys.stderr)
    print(line, flush=True)
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser("python -m service", description=__doc__)
    parser.add_argument("--host", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, help="where to listen (8000)")
    parser.add_argument("--artifacts", help="folder of exported models (artifacts)")
    commands = parser.add_subparsers(metavar="key")
    commands.add_parser("key", help="make a key").add_argument("name", help="who will hold it")
    return parser


def _given() -> dict[str, Any]:
    return {name: value for name, value in vars(parser().parse_args()).items() if value is not None}


async def _serve(settings: Settings) -> int:
    log = set_up(settings.log_format)
    try:
        app = create_app(settings, log)
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
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _take_what_is_new, life, app.state.callers)
    watching = asyncio.create_task(_announce_and_watch(server, life))
    await server.serve()
    watching.cancel()
    log.flush()
    return 1 if life.dead else 0


def _take_what_is_new(life: Lifecycle, callers: Callers) -> None:
    try:
        callers.reread()
    except KeysError as error:
        LOG.error("the keys stay as they were: %s", error)
    task = asyncio.ensure_future(life.engine().reload())
    _RELOADS.add(task)  # the loop itself holds tasks weakly
    task.add_done_callback(_say_reloaded)


def _say_reloaded(task: asyncio.Task[Change]) -> None:
    _RELOADS.discard(task)
    if (error := task.exception()) is not None:
        LOG.error("not reloaded: %s", error)
        return
    change = task.result()
    LOG.info("reloaded: new %s, gone %s", change.loaded, change.retired)


async def _announce_and_watch(server: Server, life: Lifecycle) -> None:
    await server.listening.wait()
    await life.opened.wait()
    # What is there now stays: a full collection would look at all of it, for 40 ms, again and again.
    gc.collect()
    gc.freeze()
    if not life.dead:
        _announce(server, life.engine())
    await life.died()
    server.should_exit = True


def _announce(server: Server, engine: Engine) -> None:
    """Where it listens, what it serves, what to try."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    LOG.info("listening on %s", url)
    LOG.info("models: %s", _named(engine))
    able = [served.manifest.name for served in engine.models() if _samples_unlabelled(served.manifest)]
    if able:
        body = f'{{"model": "{able[0]}", "n": 2, "seed": 7}}'
        LOG.info("try: curl -s %s/sample -H 'Content-Type: application/json' -d '%s'", url, body)


def _samples_unlabelled(manifest: Manifest) -> bool:
    decode = manifest.entry_points.get("decode")
    return decode is not None and decode.input("label") is None


def _named(engine: Engine) -> str:
    names = sorted(f"{served.manifest.name} {served.manifest.version}" for served in engine.models())
    return ", ".join(names) or "none; export one, then send SIGHUP or POST /models/reload"


if __name__ == "__main__":
    sys.exit(main())
