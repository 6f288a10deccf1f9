"""``python -m service``: serve, in one process or in several. ``python -m service key NAME``: a new key."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any, Final

from pydantic import ValidationError

from service import cores, keys
from service.logs import set_up
from service.processes import supervise
from service.settings import Settings

LOG: Final = logging.getLogger("pushforward")


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
    count = cores.count(settings)
    return _serve(settings) if count == 1 else supervise(settings, given, count)


def _serve(settings: Settings) -> int:
    """Serve in this process; whoever supervises others imports neither the application nor a runtime."""
    import uvloop

    from service.server import serve

    return uvloop.run(serve(settings))


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
    parser.add_argument("--processes", help="that share the port (1), or auto: one for each core")
    commands = parser.add_subparsers(metavar="key")
    commands.add_parser("key", help="make a key").add_argument("name", help="who will hold it")
    return parser


def _given() -> dict[str, Any]:
    return {name: value for name, value in vars(parser().parse_args()).items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
