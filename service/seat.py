"""What one of several processes knows of its place: the supervisor says it at the start, over a socket.

The socket is the standard input. The supervisor writes one line to it, the process answers with one when it
is ready, the supervisor with another when all are, and when the socket ends, so has the other side.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson

WIRE: Final = 0  # the file descriptor
LONGEST: Final = 107  # bytes of a Unix socket's path, by unix(7)
ALL_READY: Final = b"\n"
CLOSING_S: Final = 5.0  # more than closing takes once the drain is over


@dataclass(frozen=True, slots=True)
class Seat:
    """One of the processes that share a port.

    Attributes:
        index: from 0 to ``count`` - 1; a process that is started again keeps that of the one before.
        folder: where the processes find each other; nobody else may look into it.
        given: the settings of the command line, with the port that was chosen.
        again: whether there was one before, so that others answer while this one gets ready.
    """

    index: int
    count: int
    folder: str
    given: dict[str, Any]
    again: bool = False

    def line(self) -> bytes:
        """As it is told to the process."""
        return orjson.dumps(asdict(self), default=str, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def told(cls) -> Self:
        """What this process was told.

        Raises:
            ValueError: if nobody told it anything.
        """
        said = b""
        while not said.endswith(b"\n"):
            part = os.read(WIRE, 65536)
            if not part:
                raise ValueError("nobody says which process this is; it is started by python -m service")
            said += part
        return cls(**orjson.loads(said))

    @property
    def name(self) -> str:
        """The label of its series."""
        return str(self.index)

    def socket(self, index: int) -> str:
        """Where a process of the service answers the others."""
        return _socket(self.folder, index)

    @property
    def limits(self) -> Path:
        """Where the limits of keys are counted."""
        return Path(self.folder) / "limits"

    def tell_ready(self, sentences: list[str]) -> None:
        """Say to the supervisor that callers are answered, and what it may announce."""
        os.write(WIRE, orjson.dumps(sentences, option=orjson.OPT_APPEND_NEWLINE))

    def heed(self, all_ready: Callable[[], None], stop: Callable[[], None], drain_s: float) -> None:
        """Listen to the supervisor on a thread: say when all processes are ready, and end when it is gone.

        Args:
            stop: called when it is gone; if that does not help, the process ends hard.
        """
        threading.Thread(target=self._heed, args=(all_ready, stop, drain_s), name="seat", daemon=True).start()

    def _heed(self, all_ready: Callable[[], None], stop: Callable[[], None], drain_s: float) -> None:
        while os.read(WIRE, len(ALL_READY)):
            all_ready()
        shutil.rmtree(self.folder, ignore_errors=True)  # it cannot do that any more
        stop()
        time.sleep(drain_s + CLOSING_S)
        os._exit(1)


def _socket(folder: str, index: int) -> str:
    return str(Path(folder) / f"{index}.sock")


def check_folder(folder: str, count: int) -> None:
    """Make sure that so many processes can answer each other there.

    Raises:
        OSError: if the paths of their sockets would be too long.
    """
    path = _socket(folder, count - 1)
    if len(os.fsencode(path)) > LONGEST:
        raise OSError(f"the path {path} is too long; allowed: {LONGEST} bytes. TMPDIR names a shorter folder")
