"""The client that does not block, and its downloads; :mod:`pushforward_client.client` with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from pushforward_client import calls
from pushforward_client.calls import Ask, Flow, Label
from pushforward_client.download import Download, Wanted, drawn_seed
from pushforward_client.errors import PushforwardError
from pushforward_client.partial import Partial, Progress
from pushforward_client.patience import Attempts, Patience
from pushforward_client.transport import BROKEN, checked, connection, ours, request

Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")


def _asked(
    flow: Callable[P, Flow[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A call as a method, whose parameters and documentation are the call's."""

    @wraps(flow)
    async def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client._run(flow(*args, **kwargs))

    method.__signature__ = calls.method_signature(flow)  # type: ignore[attr-defined]
    return method


class AsyncClient:
    """A service, asked by coroutines; to be closed, or used in an ``async with``.

    Args:
        url, key, patience, transport: as of :class:`~pushforward_client.client.Client`.
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

    models = _asked(calls.models)
    describe = _asked(calls.describe)
    encode = _asked(calls.encode)
    decode = _asked(calls.decode)
    reconstruct = _asked(calls.reconstruct)
    interpolate = _asked(calls.interpolate)
    loglik = _asked(calls.loglik)
    picture = _asked(calls.picture)

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
        asked = request(self._http, download.ask(), attempts)
        async with aclosing(await self._http.send(asked, stream=True)) as response:
            if response.status_code != 200:
                await response.aread()
            download.begin(checked(response).headers)
            async for data in response.aiter_bytes():
                for rows in download.feed(data):
                    yield rows
            for rows in download.take():
                yield rows
            download.end()


class AsyncSamples:
    """The rows of an address, as :class:`~pushforward_client.client.Samples`, in an ``async for``."""

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
        """As :meth:`~pushforward_client.client.Samples.save`."""
        with Partial(Path(path), self.wanted, self._seed_named) as partial:
            download = Download(partial.wanted, partial.rows)
            progress(partial.rows)
            async with aclosing(self._client._chunks(download)) as chunks:
                async for rows in chunks:
                    partial.append(rows, download.wanted)
                    progress(len(rows))
        return download.wanted
