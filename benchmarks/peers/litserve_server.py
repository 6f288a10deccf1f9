"""LitServe: FastAPI in front, worker processes behind a queue, batches by time and number of requests.

``python -m benchmarks.peers.litserve_server PORT WORKERS``. It reads JSON only, so binary comes in base64;
and it looks at the annotation of ``request``: none stands for the JSON, parsed and not checked.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable
from typing import Any

import litserve
import numpy as np
import orjson
from fastapi import Response

from benchmarks.peers.graphs import Array, Graphs, split

BATCH = 64
WAIT_S = 0.002


def _json(said: dict[str, Array]) -> Response:
    content = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


def _bytes(array: Array) -> Response:
    return Response(array.tobytes(), media_type="application/octet-stream")


class Whole(litserve.LitAPI):
    """A batch is the list of what was decoded, and of what is encoded again."""

    kind = ""

    def setup(self, device: str) -> None:
        self.graphs = Graphs(self.kind)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: Iterable[Any]) -> Iterable[Any]:
        return output


class Vae(Whole):
    kind = "vae"

    def decode_request(self, request) -> tuple[int, str]:
        return request["n"], request["format"]

    def predict(self, x: list[tuple[int, str]]) -> list[tuple[Array, str]]:
        counts = [n for n, _ in x]
        parts = split(self.graphs.sample(self.kind, sum(counts)), counts)
        return list(zip(parts, (form for _, form in x), strict=True))

    def encode_response(self, output: tuple[Array, str]) -> Response:
        samples, form = output
        return _bytes(samples) if form == "binary" else _json({"samples": samples})


class Gan(Vae):
    kind = "gan"


class Encode(Whole):
    kind = "encode"

    def decode_request(self, request) -> Array:
        return np.asarray(request["x"], np.float32)

    def predict(self, x: list[Array]) -> list[tuple[Array, Array]]:
        mean, std = self.graphs.encode(np.concatenate(x))
        counts = [len(rows) for rows in x]
        return list(zip(split(mean, counts), split(std, counts), strict=True))

    def encode_response(self, output: tuple[Array, Array]) -> Response:
        return _json({"mean": output[0], "std": output[1]})


class Loglik(Whole):
    kind = "loglik"

    def decode_request(self, request) -> Array:
        return np.frombuffer(base64.b64decode(request["x"]), np.float32).reshape(-1, 784)

    def predict(self, x: list[Array]) -> list[Array]:
        return split(self.graphs.loglik(np.concatenate(x)), [len(rows) for rows in x])

    def encode_response(self, output: Array) -> Response:
        return _bytes(output)


def main() -> None:
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    server = litserve.LitServer(
        [
            api(api_path=f"/{api.kind}", max_batch_size=BATCH, batch_timeout=WAIT_S)
            for api in (Vae, Gan, Encode, Loglik)
        ],
        accelerator="cpu",
        workers_per_device=workers,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
