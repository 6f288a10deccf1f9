"""The client that does not block, and its downloads; :mod:`pushforward_client.client` with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward_client import calls
from pushforward_client.answers import Likelihood, Model, Walk
from pushforward_client.calls import Ask, End, Flow, Label
from pushforward_client.client import drawn_seed
from pushforward_client.download import Download, Wanted
from pushforward_client.errors import PushforwardError
from pushforward_client.latents import Latents
from pushforward_client.partial import Partial, Progress
from pushforward_client.patience import Attempts, Patience
from pushforward_client.transport import BROKEN, checked, connection, ours, request

Array = NDArray[Any]
T = TypeVar("T")


class AsyncClient:
    """A service, asked by coroutines.

    Whatever breaks, and whatever passes by itself (a full queue, a restart), is asked again until patience
    ends; that is safe because every call is a pure function of what is sent. To be closed, or used in an
    ``async with``.

    Args:
        url: of the service; ``PUSHFORWARD_URL`` or http://127.0.0.1:8000 if absent.
        key: for services that ask for one; ``PUSHFORWARD_KEY`` if absent.
        patience: how long to wait, and how often to ask again.
        transport: another way to the service than a socket.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        patience: Patience = Patience(),  # noqa: B008 -- a frozen value
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(transport=transport, **connection(url, key))
        self._patience = patience

    async def models(self) -> list[Model]:
        """All models, by their newest versions."""
        return await self._run(calls.models())

    async def describe(self, model: str, version: str | None = None) -> Model:
        """One model, with everything that the service says of it in ``about``."""
        return await self._run(calls.describe(model, version))

    def sample(
        self,
        model: str,
        n: int = 1,
        seed: int | None = None,
        offset: int = 0,
        temperature: float = 1.0,
        truncation: float | None = None,
        label: Label | None = None,
        version: str | None = None,
    ) -> AsyncSamples:
        """Rows ``offset`` to ``offset + n`` of a seed, any number of them; nothing is asked for yet."""
        known = drawn_seed() if seed is None else seed
        wanted = Wanted(model, n, known, offset, temperature, truncation, calls.plain(label), version)
        return AsyncSamples(self, wanted, seed_named=seed is not None)

    async def encode(
        self, model: str, inputs: ArrayLike, label: Label | None = None, version: str | None = None
    ) -> Latents:
        """The codes of rows."""
        return await self._run(calls.encode(model, inputs, label, version))

    async def decode(
        self,
        model: str,
        latents: Latents | Sequence[str] | ArrayLike,
        label: Label | None = None,
        version: str | None = None,
    ) -> Array:
        """The samples of codes, given as latents, as ids or as numbers."""
        return await self._run(calls.decode(model, latents, label, version))

    async def reconstruct(
        self,
        model: str,
        inputs: ArrayLike,
        label: Label | None = None,
        directions: Mapping[str, float] | None = None,
        version: str | None = None,
    ) -> Array:
        """Rows through their codes and back, moved along directions on the way."""
        return await self._run(calls.reconstruct(model, inputs, label, directions, version))

    async def interpolate(
        self,
        model: str,
        start: End,
        end: End,
        steps: int = 8,
        path: str | None = None,
        label: Label | None = None,
        directions: Mapping[str, float] | None = None,
        version: str | None = None,
    ) -> Walk:
        """A walk between two codes; an end is a code, an :class:`Address`, an id, or a row of data."""
        return await self._run(calls.interpolate(model, start, end, steps, path, label, directions, version))

    async def loglik(
        self,
        model: str,
        inputs: ArrayLike,
        k: int | None = None,
        seed: int | None = None,
        label: Label | None = None,
        version: str | None = None,
    ) -> Likelihood:
        """The log-likelihood of rows, or an estimate of it with its error, in nats."""
        return await self._run(calls.loglik(model, inputs, k, seed, label, version))

    async def picture(self, verb: str, model: str, **fields: Any) -> bytes:
        """What a verb answers, drawn by the service as a grid of pictures: the bytes of a PNG.

        Args:
            fields: as the HTTP contract names them.
        """
        return await self._run(calls.picture(verb, model, fields))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            ask = next(flow)
            while True:
                ask = flow.send(await self._answer(ask))
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _answer(self, ask: Ask) -> httpx.Response:
        attempts = Attempts(self._patience)
        while True:
            try:
                return checked(await self._http.send(request(self._http, ask, attempts)))
            except (PushforwardError, *BROKEN) as error:
                await asyncio.sleep(attempts.pause_s(ours(error)))

    async def _chunks(self, download: Download) -> AsyncGenerator[Array, None]:
        """The rows that are missing, whatever breaks."""
        attempts = Attempts(self._patience)
        while download.left:
            try:
                async with aclosing(self._stream(download, attempts)) as stream:
                    async for rows in stream:
                        yield rows
                        attempts.progress()
            except (PushforwardError, *BROKEN) as error:
                for rows in download.take():
                    yield rows
                    attempts.progress()
                await asyncio.sleep(attempts.pause_s(ours(error)))

    async def _stream(self, download: Download, attempts: Attempts) -> AsyncGenerator[Array, None]:
        response = await self._http.send(request(self._http, download.ask(), attempts), stream=True)
        try:
            if response.status_code != 200:
                await response.aread()
            download.begin(checked(response).headers)
            async for data in response.aiter_bytes():
                for rows in download.feed(data):
                    yield rows
            for rows in download.take():
                yield rows
            download.end()
        finally:
            await response.aclose()


class AsyncSamples:
    """The rows of an address: iterate over them some thousands at a time, hold them, save them or see them.

    Attributes:
        wanted: the address.
    """

    def __init__(self, client: AsyncClient, wanted: Wanted, seed_named: bool = True) -> None:
        self._client = client
        self._seed_named = seed_named
        self.wanted = wanted

    @property
    def seed(self) -> int:
        return self.wanted.seed

    def __len__(self) -> int:
        return self.wanted.n

    def __aiter__(self) -> AsyncIterator[Array]:
        """The rows from the first on, in arrays of about a megabyte, in constant memory."""
        return self._client._chunks(Download(self.wanted))

    async def array(self) -> Array:
        """All rows in one array."""
        return np.concatenate([rows async for rows in self])

    async def png(self) -> bytes:
        """A grid of the rows, which must be pictures."""
        fields = self.wanted.beyond(0)
        return await self._client.picture("sample", fields.pop("model"), **fields)

    async def save(self, path: str | Path, progress: Progress = lambda rows: None) -> Wanted:
        """Write the rows into an npy file; one that was begun before is gone on with.

        Until it is complete it is called ``<path>.part``, with its address beside it.

        Args:
            progress: told the number of rows, whenever some are written; first those that were there.

        Returns:
            The address of the rows, with the version of the model.

        Raises:
            Unresumable: if what was begun there is another download.
        """
        with Partial(Path(path), self.wanted, self._seed_named) as partial:
            download = Download(partial.wanted, partial.rows)
            progress(partial.rows)
            async with aclosing(self._client._chunks(download)) as chunks:
                async for rows in chunks:
                    partial.append(rows, download.wanted)
                    progress(len(rows))
        return download.wanted
