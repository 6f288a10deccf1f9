"""How the service is set up: made once from the environment, and handed down.

Every field is an environment variable, ``PUSHFORWARD_`` and its name in capitals; ``REDIS_URL`` also works
without the prefix. Nothing else in the service reads the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

RedisUrl = Annotated[str, StringConstraints(pattern=r"^(rediss?|unix)://")]


class Settings(BaseSettings):
    """The knobs, each with its unit.

    Attributes:
        host, port: where to listen; loopback unless told otherwise.
        open: listen on another address without keys.
        processes: that share the port, each with an engine and memory of its own; ``auto`` is one for each
            core on a CPU, and one on a GPU.
        keys_file: names, hashes and limits of the keys that callers need; none asks for no key.
        keys: the same lines, in place of the file or beside it.
        log_format: ``auto`` writes for people on a terminal, and one JSON object a line elsewhere.
        otlp_url: where traces are sent; none makes none.
        artifacts: the folder of exported models, ``<name>/<version>/manifest.json``.
        device: ``auto`` takes CUDA where the runtime really offers it; ``cuda`` refuses to start without.
        runtime: which exported format runs; TorchScript can carry code, so it is never chosen silently.
        threads: of one graph run on a CPU.
        redis_url: where latents outlive the process; none keeps them in process.
        latent_ttl_s: how long an id is remembered.
        latent_store_mb: memory for latents in process; the least recently used leave first.
        max_batch_rows: the largest batch given to a graph.
        queue_ms: work that may wait in one lane, measured in graph time, before callers get 429.
        deadline_ms: how long a request may take; callers may ask for less.
        max_body_mb: the largest request body.
        max_rows: the most rows of one request; streamed samples have no bound.
        drain_s: how long a stopping process answers what it has accepted.
    """

    model_config = SettingsConfigDict(
        env_prefix="PUSHFORWARD_", frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    open: bool = False
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    keys_file: Path | None = None
    keys: str | None = None
    log_format: Literal["auto", "text", "json"] = "auto"
    otlp_url: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = None
    artifacts: Path = Path("artifacts")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    runtime: Literal["onnx", "torchscript"] = "onnx"
    threads: int = Field(default=1, ge=1)
    redis_url: RedisUrl | None = Field(
        default=None, validation_alias=AliasChoices("PUSHFORWARD_REDIS_URL", "REDIS_URL")
    )
    latent_ttl_s: int = Field(default=3600, ge=1)
    latent_store_mb: int = Field(default=256, ge=1)
    max_batch_rows: int = Field(default=256, ge=1)
    queue_ms: float = Field(default=2000, gt=0)
    deadline_ms: float = Field(default=30_000, gt=0)
    max_body_mb: float = Field(default=32, gt=0)
    max_rows: int = Field(default=100_000, ge=1)
    drain_s: float = Field(default=20, ge=0)
