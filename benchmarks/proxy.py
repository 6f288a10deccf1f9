"""A way to a service that breaks: connections that are cut after so many bytes of answer, once each."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

PIECE_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, as a broken line looks


class CuttingProxy:
    """Listens on loopback and forwards to a port; used in a ``with``.

    Args:
        cuts: after how many bytes the first connections break, in turn; later ones hold.

    Attributes:
        port: where new connections lead; another replica may take over.
        broken: connections that were cut.
    """

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self.port = port
        self._cuts = list(cuts)
        self.broken = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                caller, _ = self._listener.accept()
                service = socket.create_connection(("127.0.0.1", self.port))
                cut = self._cuts.pop(0) if self._cuts else None
                threading.Thread(target=self._forward, args=(caller, service, None), daemon=True).start()
                threading.Thread(target=self._forward, args=(service, caller, cut), daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE_BYTES if left is None else min(PIECE_BYTES, left)):
                to.sendall(data)
                if left is not None and (left := left - len(data)) <= 0:
                    self.broken += 1
                    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
