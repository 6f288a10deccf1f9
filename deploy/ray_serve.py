"""Replicas of the service under Ray Serve: `serve run deploy/ray/serve.yaml`.

Ray starts, spreads and replaces replicas; each is the whole application, with its own lanes and models.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from ray import serve

from service.app import create_app
from service.lifecycle import Lifecycle
from service.settings import Settings

# Far beyond what a lane lets wait: it is the lane that says 429, and it needs company to fill a batch.
MOST_AT_ONCE: Final = 1000
# For what Ray does around the drain of the service.
MARGIN_S: Final = 5.0


@serve.ingress()
class Replica:
    """One copy of the service, on the settings that the driver has read."""

    _life: Lifecycle

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray, on the loop that will serve."""
        app = create_app(self._settings)
        self._life = app.state.life
        return app

    async def check_health(self) -> None:
        """Called by Ray, first before any traffic; a replica that raises is replaced."""
        await self._life.opened.wait()
        if self._life.dead:
            raise RuntimeError(f"the replica cannot serve: {self._life.failure or 'the device is lost'}")


def app(arguments: dict[str, Any]) -> serve.Application:
    """The application that `serve run` starts.

    Args:
        arguments: fields of the settings by name; the environment of the driver says the rest.
    """
    settings = Settings(**arguments)
    # A replica starts in a folder of its own.
    settings = settings.model_copy(update={"artifacts": settings.artifacts.resolve()})
    deployment = serve.deployment(
        name="Replica",
        num_replicas=2,
        max_ongoing_requests=MOST_AT_ONCE,
        graceful_shutdown_timeout_s=settings.drain_s + MARGIN_S,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(settings.device == "cuda")},
    )
    return deployment(Replica).bind(settings)
