"""A wire between the service and another server, that can be slow and can lie."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Change = Callable[[bytes], bytes]


def honest(answer: bytes) -> bytes:
    """What was said."""
    return answer


class Between:
    """Listens on a port of its own, and passes on both ways.

    Attributes:
        delay_s: how long an answer takes longer, at most; drawn anew for each.
        change: what becomes of an answer.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.change: Change = honest
        self._to = port
        self._dice = random.Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self._open:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                self._open += (ours, theirs)
                threading.Thread(target=self._pass, args=(ours, theirs, honest), daemon=True).start()
                threading.Thread(target=self._pass, args=(theirs, ours, self._answer), daemon=True).start()

    def _answer(self, said: bytes) -> bytes:
        time.sleep(self._dice.uniform(0, self.delay_s))
        return self.change(said)

    def _pass(self, source: socket.socket, sink: socket.socket, change: Change) -> None:
        with source, suppress(OSError):
            while said := source.recv(1 << 16):
                sink.sendall(change(said))
            sink.shutdown(socket.SHUT_WR)
