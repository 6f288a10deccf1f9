"""The client that waits, and its downloads."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward_client import calls
from pushforward_client.answers import Likelihood, Model, Walk
from pushforward_client.calls import Ask, End, Flow, Label
from pushforward_client.download import Download, Wanted
from pushforward_client.errors import PushforwardError
from pushforward_client.latents import Latents
from pushforward_client.partial import Partial, Progress
from pushforward_client.patience import Attempts, Patience
from pushforward_client.transport import BROKEN, checked, connection, ours, request

LAST_SEED: Final = 2**53 - 1

Array = NDArray[Any]
T = TypeVar("T")


def drawn_seed() -> int:
    """A seed for a caller who names none; drawn here, so that a download knows its address from the start."""
    return secrets.randbelow(LAST_SEED + 1)


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

    def models(self) -> list[Model]:
        """All models, by their newest versions."""
        return self._run(calls.models())

    def describe(self, model: str, version: str | None = None) -> Model:
        """One model, with everything that the service says of it in ``about``."""
        return self._run(calls.describe(model, version))

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

    def encode(
        self, model: str, inputs: ArrayLike, label: Label | None = None, version: str | None = None
    ) -> Latents:
        """The codes of rows."""
        return self._run(calls.encode(model, inputs, label, version))

    def decode(
        self,
        model: str,
        latents: Latents | Sequence[str] | ArrayLike,
        label: Label | None = None,
        version: str | None = None,
    ) -> Array:
        """The samples of codes, given as latents, as ids or as numbers."""
        return self._run(calls.decode(model, latents, label, version))

    def reconstruct(
        self,
        model: str,
        inputs: ArrayLike,
        label: Label | None = None,
        directions: Mapping[str, float] | None = None,
        version: str | None = None,
    ) -> Array:
        """Rows through their codes and back, moved along directions on the way."""
        return self._run(calls.reconstruct(model, inputs, label, directions, version))

    def interpolate(
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
        return self._run(calls.interpolate(model, start, end, steps, path, label, directions, version))

    def loglik(
        self,
        model: str,
        inputs: ArrayLike,
        k: int | None = None,
        seed: int | None = None,
        label: Label | None = None,
        version: str | None = None,
    ) -> Likelihood:
        """The log-likelihood of rows, or an estimate of it with its error, in nats."""
        return self._run(calls.loglik(model, inputs, k, seed, label, version))

    def picture(self, verb: str, model: str, **fields: Any) -> bytes:
        """What a verb answers, drawn by the service as a grid of pictures: the bytes of a PNG.

        Args:
            fields: as the HTTP contract names them.
        """
        return self._run(calls.picture(verb, model, fields))

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
        response = self._http.send(request(self._http, download.ask(), attempts), stream=True)
        try:
            if response.status_code != 200:
                response.read()
            download.begin(checked(response).headers)
            for data in response.iter_bytes():
                yield from download.feed(data)
            yield from download.take()
            download.end()
        finally:
            response.close()


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
