"""The life of one process: opening, serving, draining, closed; or dead. The probes say which, truthfully.

The engine opens behind a listening socket, so that liveness answers while models warm up. A process that
is told to stop is unready at once, still takes for a moment what was sent before anyone could know, then
refuses, answers whatever it has accepted, and closes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from service.engine import Engine
from service.errors import Draining, EngineDead, NotReady
from service.latents import LatentStore
from service.metrics import Metrics
from service.settings import Settings
from service.watch import Watches

GRACE_S: Final = 0.25
LOG: Final = logging.getLogger("pushforward")


class Lifecycle:
    """What one process holds, and whether it may be used now."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.store = LatentStore(
            settings.latent_ttl_s, settings.latent_store_mb << 20, settings.redis_url, self.metrics
        )
        self.watches = Watches()
        self.opened = asyncio.Event()
        self.failure: Exception | None = None
        self._engine: Engine | None = None
        self._in_flight = 0
        self._stopping = False
        self._refusing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics.in_flight.set_function(lambda: self._in_flight)
        self.metrics.ready.set_function(lambda: self.why_not_ready() is None)
        self.metrics.refused.set_function(lambda: len(self.refused))
        self.metrics.oldest_batch.set_function(lambda: self._engine.oldest_batch_s if self._engine else 0)
        self.metrics.redis_out.set_function(lambda: self.store.redis_out)

    async def open(self) -> None:
        """Load, warm and probe the models; a failure of the engine itself is kept in ``failure``."""
        try:
            self._engine = await Engine.open(self.settings, self.metrics)
        except Exception as error:
            self.failure = error
            LOG.critical("the engine did not start: %s", error)
        finally:
            self.opened.set()

    async def died(self) -> None:
        """Return when the process cannot go on."""
        await self.opened.wait()
        if self._engine is not None:
            await self._engine.died.wait()

    def engine(self) -> Engine:
        """The engine, for work that may begin now.

        Raises:
            NotReady, Draining, EngineDead: if none may.
        """
        if self._engine is None:
            raise NotReady("the models are still being loaded; ask again in a moment")
        if self._refusing:
            raise Draining("the process is stopping; another replica may answer")
        if not self._engine.alive:
            raise EngineDead("the device failed; the process is ending")
        return self._engine

    def why_not_ready(self) -> str | None:
        """Why callers should go elsewhere, ``None`` if they need not."""
        if self._engine is None:
            return "the models are still being loaded"
        return "the process is stopping" if self._stopping else self._engine.trouble

    @property
    def refused(self) -> dict[str, str]:
        """Models that may not serve, and why."""
        return self._engine.refused if self._engine else {}

    @property
    def dead(self) -> bool:
        """Whether the process cannot go on."""
        return self.failure is not None or (self._engine is not None and not self._engine.alive)

    def enter(self) -> None:
        """A request has come."""
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """It is answered."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def drain(self) -> None:
        """Unready at once; return when whatever was accepted is answered, or ``drain_s`` is over."""
        self._stopping = True
        end = time.monotonic() + self.settings.drain_s
        await asyncio.sleep(min(GRACE_S, self.settings.drain_s))
        self._refusing = True
        try:
            async with asyncio.timeout(end - time.monotonic()):
                await self._idle.wait()
        except TimeoutError:
            LOG.warning("%d requests were not answered within %g s", self._in_flight, self.settings.drain_s)

    async def close(self) -> None:
        """Stop the engine, then let go of the store."""
        self._stopping = self._refusing = True
        if self._engine is not None:
            await self._engine.close(self.settings.drain_s)
        await self.store.close()
