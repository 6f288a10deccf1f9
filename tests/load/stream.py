"""One client that takes a long stream as fast as it comes: ``python -m tests.load.stream URL MODEL ROWS``.

A process of its own, so that it shares no interpreter with who is measured beside it: to make one stops its
parent for a moment, so it says when it is ready, and begins at a line on its input. Prints seconds, and a
checksum of what came.
"""

from __future__ import annotations

import sys
import time
import zlib

from tests.load.wire import connect, request


def main() -> None:
    """Take it all."""
    _, url, model, rows = sys.argv
    checksum, left, buffer = 0, -1, bytearray(1 << 20)
    with connect(url) as wire:
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        fields = {"model": model, "n": int(rows), "seed": 7}
        wire.sendall(request("sample", fields, Accept="application/x-npy"))
        said = b""
        while b"\r\n\r\n" not in said:
            said += wire.recv(65536)
        head, body = said.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200"), head
        (length,) = (line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line)
        checksum, left = zlib.crc32(body), int(length) - len(body)
        while left:
            got = wire.recv_into(buffer)
            assert got, "the stream broke off"
            checksum, left = zlib.crc32(memoryview(buffer)[:got], checksum), left - got
    print(time.monotonic() - began, checksum)


if __name__ == "__main__":
    main()
