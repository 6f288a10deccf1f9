"""The life of one process: opening, serving, draining, closed; or dead. The probes say which, truthfully.

The engine opens behind a listening socket, so that liveness answers while models warm up. A process that
is told to stop is unready at once, still takes for a moment what was sent before anyone could know, then
refuses, answers whatever it has accepted, and closes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, astuple
from typing import Final

from service.engine import Change, Engine, merged
from service.errors import Draining, EngineDead, NotReady
from service.latents import LatentStore
from service.metrics import Family, Metrics, together
from service.seat import Seat
from service.settings import Settings
from service.siblings import Answer, Message, Siblings
from service.watch import Watches

RELOAD_S: Final = 60.0  # in which another process says what a reload did; it goes on if it takes longer
METRICS_S: Final = 1.0  # in which another process of the service gives its metrics, or is left out
GRACE_S: Final = 0.25
LOG: Final = logging.getLogger("pushforward")


class Lifecycle:
    """What one process holds, and whether it may be used now."""

    def __init__(self, settings: Settings, seat: Seat | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._siblings = Siblings(seat, self._answers(seat)) if seat else None
        self.store = LatentStore(
            settings.latent_ttl_s,
            settings.latent_store_mb << 20,
            settings.redis_url,
            self.metrics,
            siblings=self._siblings,
        )
        self.watches = Watches()
        self.opened = asyncio.Event()
        self.failure: Exception | None = None
        self._engine: Engine | None = None
        self._all_ready = seat is None or seat.again
        self._in_flight = 0
        self._stopping = False
        self._refusing = False
        self._idle = asyncio.Event()  # told to one who drains
        self.metrics.in_flight.set_function(lambda: self._in_flight)
        self.metrics.ready.set_function(lambda: self.why_not_ready() is None)
        self.metrics.refused.set_function(lambda: len(self.refused))
        self.metrics.oldest_batch.set_function(lambda: self._engine.oldest_batch_s if self._engine else 0)
        self.metrics.redis_out.set_function(lambda: self.store.redis_out)

    def _answers(self, seat: Seat) -> dict[str, Answer]:
        """What the other processes of the service may ask."""
        return {
            "metrics": lambda _: self._tell_metrics(seat),
            "latents": lambda asked: self.store.tell(asked),
            "reload": lambda _: self._tell_reloaded(),
        }

    async def open(self) -> None:
        """Load, warm and probe the models; a failure of the engine itself is kept in ``failure``."""
        try:
            if self._siblings is not None:
                await self._siblings.listen()
            self._engine = await Engine.open(self.settings, self.metrics)
        except Exception as error:
            self.failure = error
            LOG.critical("the engine did not start: %s", error)
        finally:
            self.opened.set()

    async def opened_well(self) -> None:
        """Return when requests can be answered.

        Raises:
            Exception: why they never will be.
        """
        await self.opened.wait()
        if self.failure is not None:
            raise self.failure

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
        if self._stopping:
            return "the process is stopping"
        if not self._all_ready:
            return "other processes of the service still load the models"
        return self._engine.trouble

    def all_are_ready(self) -> None:
        """The other processes that were started with this one can answer too: who asks next may meet them."""
        self._all_ready = True

    async def reload(self) -> Change:
        """Take new versions of models, and let go of removed ones, as soon as those of before are open."""
        await self.opened.wait()
        return await self.engine().reload()

    async def reload_everywhere(self) -> Change:
        """The same in all processes of the service; what it did in any of them."""
        self.engine()
        if self._siblings is None:
            return await self.reload()
        asking = self._siblings.ask("reload", Message(None), RELOAD_S)
        ours, answers = await asyncio.gather(self.reload(), asking)
        if silent := self._siblings.others - answers.keys():
            LOG.warning("of processes %s nobody knows yet whether they have reloaded", sorted(silent))
        return merged([ours, *(Change(**answer.value) for answer in answers.values())])

    async def _tell_reloaded(self) -> Message:
        return Message(asdict(await self.reload()))

    async def exposition(self) -> bytes:
        """The text that Prometheus scrapes, of all processes."""
        if self._siblings is None:
            return self.metrics.exposition()
        seat = self._siblings.seat
        asking = self._siblings.ask("metrics", Message(None), METRICS_S)
        ours, answers = await asyncio.gather(self.metrics.families(seat.name), asking)
        theirs = [Family(*parts) for answer in answers.values() for parts in answer.value]
        up = {str(index): index == seat.index or index in answers for index in range(seat.count)}
        return together([*ours, *theirs], up)

    async def _tell_metrics(self, seat: Seat) -> Message:
        return Message([astuple(family) for family in await self.metrics.families(seat.name)])

    @property
    def refused(self) -> dict[str, str]:
        """Models that may not serve, and why."""
        return self._engine.refused if self._engine else {}

    @property
    def dead(self) -> bool:
        """Whether the process cannot go on."""
        return self.failure is not None or (self._engine is not None and not self._engine.alive)

    @property
    def stuck(self) -> bool:
        """Whether a graph has not come back."""
        return self._engine is not None and self._engine.stuck

    def enter(self) -> None:
        """A request has come."""
        self._in_flight += 1

    def leave(self) -> None:
        """It is answered."""
        self._in_flight -= 1
        if self._stopping and not self._in_flight:
            self._idle.set()

    async def drain(self) -> None:
        """Unready at once; return when whatever was accepted is answered, or ``drain_s`` is over."""
        self._stopping = True
        end = time.monotonic() + self.settings.drain_s
        await asyncio.sleep(min(GRACE_S, self.settings.drain_s))
        self._refusing = True
        try:
            async with asyncio.timeout(end - time.monotonic()):
                while self._in_flight:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            LOG.warning("%d requests were not answered within %g s", self._in_flight, self.settings.drain_s)

    async def close(self) -> None:
        """Stop the engine, then let go of the store."""
        self._stopping = self._refusing = True
        if self._engine is not None:
            await self._engine.close(self.settings.drain_s)
        if self._siblings is not None:
            await self._siblings.close()
        await self.store.close()
