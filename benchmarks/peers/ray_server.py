"""Ray Serve: FastAPI as ingress, batches by ``serve.batch``.

``python -m benchmarks.peers.ray_server PORT REPLICAS``. Annotations are not postponed here: Ray moves the
routes into a class of its own, where FastAPI would not find the names; and routes see of this file only what
stands above them.
"""

import signal
import sys
from typing import Any

import numpy as np
import orjson
import ray
from fastapi import FastAPI, Request, Response
from ray import serve

from benchmarks.peers.graphs import Array, Graphs, split

BATCHED = {"max_batch_size": 64, "batch_wait_timeout_s": 0.002}
QUIET = {"enable_access_log": False, "log_level": "ERROR"}

app = FastAPI()


def _json(said: dict[str, Any]) -> Response:
    content = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


def _bytes(array: Array) -> Response:
    return Response(array.tobytes(), media_type="application/octet-stream")


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5}, logging_config=QUIET)
@serve.ingress(app)
class Peer:
    def __init__(self) -> None:
        self.graphs = Graphs()

    @serve.batch(**BATCHED)
    async def draw_vae(self, n: list[int]) -> list[Array]:
        return split(self.graphs.sample("vae", sum(n)), n)

    @serve.batch(**BATCHED)
    async def draw_gan(self, n: list[int]) -> list[Array]:
        return split(self.graphs.sample("gan", sum(n)), n)

    @serve.batch(**BATCHED)
    async def code(self, x: list[Array]) -> list[tuple[Array, Array]]:
        mean, std = self.graphs.encode(np.concatenate(x))
        counts = [len(rows) for rows in x]
        return list(zip(split(mean, counts), split(std, counts), strict=True))

    @serve.batch(**BATCHED)
    async def score(self, x: list[Array]) -> list[Array]:
        return split(self.graphs.loglik(np.concatenate(x)), [len(rows) for rows in x])

    @app.post("/vae")
    async def vae(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        samples = await self.draw_vae(asked["n"])
        return _bytes(samples) if asked["format"] == "binary" else _json({"samples": samples})

    @app.post("/gan")
    async def gan(self, request: Request) -> Response:
        return _bytes(await self.draw_gan(orjson.loads(await request.body())["n"]))

    @app.post("/encode")
    async def encode(self, request: Request) -> Response:
        rows = np.asarray(orjson.loads(await request.body())["x"], np.float32)
        mean, std = await self.code(rows)
        return _json({"mean": mean, "std": std})

    @app.post("/loglik")
    async def loglik(self, request: Request) -> Response:
        rows = np.frombuffer(await request.body(), np.float32).reshape(-1, 784)
        return _bytes(await self.score(rows))


def main() -> None:
    port, replicas = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=replicas, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config=QUIET)
    serve.run(Peer.options(num_replicas=replicas).bind())
    signal.pause()


if __name__ == "__main__":
    main()
