"""The client that waits, and its downloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
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


def _asked(flow: Callable[P, Flow[T]]) -> Callable[Concatenate[Client, P], T]:
    """A call as a method, whose parameters and documentation are the call's."""

    @wraps(flow)
    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._run(flow(*args, **kwargs))

    method.__signature__ = calls.method_signature(flow)  # type: ignore[attr-defined]
    return method


class Client:
    """A service, asked from a thread that waits for its answers.

    Whatever breaks, and whatever passes by itself (a full queue, a restart), is asked again until patience
    ends; that is safe because every call is a pure function of what is sent. It may be used by several
    threads, and closed or used in a ``with``.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(transport=transport, **connection(url, key))
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
    ) -> Samples:
        """Rows ``offset`` to ``offset + n`` of a seed, any number of them; nothing is asked for yet."""
        known = drawn_seed() if seed is None else seed
        wanted = Wanted(model, n, known, offset, temperature, truncation, calls.plain(label), version)
        return Samples(self, wanted, seed_named=seed is not None)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        try:
            ask = next(flow)
            while True:
                ask = flow.send(self._answer(ask))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _answer(self, ask: Ask) -> httpx.Response:
        attempts = Attempts(self._patience)
        while True:
            try:
                return checked(self._http.send(request(self._http, ask, attempts)))
            except (PushforwardError, *BROKEN) as error:
                time.sleep(attempts.pause_s(ours(error)))

    def _chunks(self, download: Download) -> Iterator[Array]:
        """The rows that are missing, whatever breaks."""
        attempts = Attempts(self._patience)
        while download.left:
            try:
                for rows in self._stream(download, attempts):
                    yield rows
                    attempts.progress()
            except (PushforwardError, *BROKEN) as error:
                for rows in download.take():
                    yield rows
                    attempts.progress()
                time.sleep(attempts.pause_s(ours(error)))

    def _stream(self, download: Download, attempts: Attempts) -> Iterator[Array]:
        asked = request(self._http, download.ask(), attempts)
        with closing(self._http.send(asked, stream=True)) as response:
            if response.status_code != 200:
                response.read()
            download.begin(checked(response).headers)
            for data in response.iter_bytes():
                yield from download.feed(data)
            yield from download.take()
            download.end()


class Samples:
    """The rows of an address: iterate over them some thousands at a time, hold them, save them or see them.

    Attributes:
        wanted: the address.
    """

    def __init__(self, client: Client, wanted: Wanted, seed_named: bool = True) -> None:
        self._client = client
        self._seed_named = seed_named
        self.wanted = wanted

    @property
    def seed(self) -> int:
        return self.wanted.seed

    def __len__(self) -> int:
        return self.wanted.n

    def __iter__(self) -> Iterator[Array]:
        """The rows from the first on, in arrays of about a megabyte, in constant memory."""
        return self._client._chunks(Download(self.wanted))

    def array(self) -> Array:
        """All rows in one array."""
        return np.concatenate(list(self))

    def png(self) -> bytes:
        """A grid of the rows, which must be pictures."""
        fields = self.wanted.beyond(0)
        return self._client.picture("sample", fields.pop("model"), **fields)

    def save(self, path: str | Path, progress: Progress = lambda rows: None) -> Wanted:
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
            for rows in self._client._chunks(download):
                partial.append(rows, download.wanted)
                progress(len(rows))
        return download.wanted
