"""mosec: a front end in Rust, worker processes in Python, batches by time and number of requests.

``python -m benchmarks.peers.mosec_server WORKERS BATCH``, and mosec's own options behind. A route has its
own workers, each of which waits a millisecond for a batch to fill, as in mosec's examples.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import orjson
from mosec import Runtime, Server, Worker

from benchmarks.peers.graphs import Graphs, split

WAIT_MS = 1


class Json(Worker):
    """JSON in; out JSON, or the bytes of an array."""

    kind = ""

    def __init__(self) -> None:
        self.graphs = Graphs(self.kind)

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        if isinstance(data, bytes):
            return data
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


class Vae(Json):
    kind = "vae"

    def forward(self, data: list[Any]) -> list[Any]:
        counts = [request["n"] for request in data]
        parts = split(self.graphs.sample(self.kind, sum(counts)), counts)
        return [
            part.tobytes() if request["format"] == "binary" else {"samples": part}
            for part, request in zip(parts, data, strict=True)
        ]


class Gan(Vae):
    kind = "gan"


class Encode(Json):
    kind = "encode"

    def forward(self, data: list[Any]) -> list[Any]:
        rows = [np.asarray(request["x"], np.float32) for request in data]
        codes = self.graphs.encode(np.concatenate(rows))
        parts = zip(*(split(code, [len(row) for row in rows]) for code in codes), strict=True)
        return [{"mean": mean, "std": std} for mean, std in parts]


class Loglik(Json):
    kind = "loglik"

    def deserialize(self, data: bytes) -> Any:
        return np.frombuffer(data, np.float32).reshape(-1, 784)

    def forward(self, data: list[Any]) -> list[Any]:
        scores = self.graphs.loglik(np.concatenate(data))
        return [part.tobytes() for part in split(scores, [len(rows) for rows in data])]


def main() -> None:
    workers, batch = int(sys.argv.pop(1)), int(sys.argv.pop(1))
    server = Server()
    server.register_runtime(
        {
            f"/{worker.kind}": [
                Runtime(worker, num=workers, max_batch_size=batch, max_wait_time=WAIT_MS, timeout=30)
            ]
            for worker in (Vae, Gan, Encode, Loglik)
        }
    )
    server.run()


if __name__ == "__main__":
    main()
