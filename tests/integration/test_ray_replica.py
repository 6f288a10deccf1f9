"""A replica as Ray Serve holds it, without Ray around it: when it is said to be well."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings

pytestmark = pytest.mark.anyio


def _replica(settings: Settings) -> Any:
    with warnings.catch_warnings():
        # Ray declares its own fields in words that pydantic wants to forget, while it is imported.
        warnings.simplefilter("ignore")
        from deploy.ray_serve import Replica
    # What `serve.ingress` wraps; only a replica's process makes the wrapper.
    return Replica.__mro__[1](settings)


async def test_a_replica_is_well_once_its_models_are_open_and_until_its_device_is_lost(quick: Path) -> None:
    replica = _replica(Settings(artifacts=quick, redis_url=None, device="cpu"))
    app = replica.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        await replica.check_health()
        engine = app.state.life.engine()
        assert len(engine.models()) == 2
        engine.died.set()
        with pytest.raises(RuntimeError, match="the device is lost"):
            await replica.check_health()
