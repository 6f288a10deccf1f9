"""What the service remembers: codes by id, and codes by the row that was encoded.

Two tiers of bytes under hashed keys. The first is in process; the second is Redis, shared by replicas and
alive after a restart, where a URL is given. A dead, slow, full or lying Redis is a miss: every operation
has 50 ms, the first failure opens a breaker, and a probe in the background closes it again, so requests
pay for an outage once. Values carry a checksum, keys the artifact's digest. What neither has, the other
processes of the same service are asked for, where it cannot be made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from operator import methodcaller
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError, ResponseError

from service.near import Near
from service.siblings import Message, Siblings

REDIS_TIMEOUT_S: Final = 0.05
SIBLING_TIMEOUT_S: Final = 0.25  # no Redis that rests: who is busy must not be taken for one who has nothing
COOL_DOWN_S: Final = 1.0
CONNECTIONS: Final = 32
SLICE_KEYS: Final = 256  # keys of one round trip, and rows between two pauses

_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [high + low for high in _DIGITS for low in _DIGITS]
_SHIFTS: Final = range(150, -1, -10)
_TO_BYTES: Final = methodcaller("tobytes")

Array = NDArray[Any]
T = TypeVar("T")


class CacheObserver(Protocol):
    """Counts what the tiers did."""

    def cache(self, tier: str, result: str, count: int) -> None: ...


def latent_ids(model: str, version: str, digest: str, latents: Array) -> list[str]:
    """The id of each code (B, ...): ``<model>.<version>.<content hash>``."""
    return [f"{model}.{version}.{_content_hash(digest, row.tobytes())}" for row in latents]


def split_id(latent_id: str) -> tuple[str, str, str]:
    """Model, version and content hash of an id."""
    model, version, content = latent_id.split(".")
    return model, version, content


def id_key(digest: str, latent_id: str) -> bytes:
    """Where the code of an id lies."""
    return f"pf:1:id:{digest[:16]}:{latent_id.rpartition('.')[2]}".encode()


def recalled(digest: str, ids: Sequence[str], values: Sequence[bytes | None]) -> list[bytes | None]:
    """The values that really are what their ids name."""
    return [
        value if value is not None and _content_hash(digest, value) == split_id(latent_id)[2] else None
        for latent_id, value in zip(ids, values, strict=True)
    ]


def _content_hash(digest: str, content: bytes) -> str:
    """160 bits in base 32 (RFC 4648), in lower case; the library's takes three times as long."""
    hashed = hashlib.blake2b(content, digest_size=20, key=digest.encode()[:64]).digest()
    number = int.from_bytes(hashed, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def row_keys(digest: str, entry: str, *inputs: Array) -> list[bytes]:
    """Where an entry point's outputs for each row lie: by artifact, entry, dtypes, shapes and content."""
    base = _described(digest, entry, *[(array.dtype.str, array.shape[1:]) for array in inputs])
    return [_row_key(base.copy(), content) for content in concatenated(*inputs)]


@lru_cache(maxsize=256)
def _described(digest: str, entry: str, *arrays: tuple[str, tuple[int, ...]]) -> Any:
    """A hash that has begun with what all rows have in common."""
    described = [digest, entry, *(f"{dtype}{shape}" for dtype, shape in arrays)]
    return hashlib.blake2b("|".join(described).encode(), digest_size=20)


def _row_key(hashed: Any, content: bytes) -> bytes:
    hashed.update(content)
    return f"pf:1:row:{hashed.hexdigest()}".encode()


async def paced(make: Callable[..., list[T]], columns: Sequence[Any]) -> list[T]:
    """What ``make`` gives for all rows, with pauses in which others are served.

    Args:
        columns: arrays or lists with one entry for each row, which ``make`` takes in slices.
    """
    if len(columns[0]) <= SLICE_KEYS:
        return make(*columns)
    made: list[T] = []
    for start in range(0, len(columns[0]), SLICE_KEYS):
        if start:
            await asyncio.sleep(0)
        made += make(*(column[start : start + SLICE_KEYS] for column in columns))
    return made


class LatentStore:
    """Bytes by key in two tiers; a missing key is ``None``, and nothing here ever fails a request."""

    def __init__(
        self,
        ttl_s: float,
        max_bytes: int,
        redis_url: str | None,
        observer: CacheObserver,
        timer: Callable[[], float] = time.monotonic,
        siblings: Siblings | None = None,
    ) -> None:
        self._near = Near(max_bytes, ttl_s, timer)
        self._far = RedisTier(redis_url, ttl_s, observer) if redis_url else None
        self._beside = SiblingTier(siblings, observer) if siblings else None
        self._observer = observer

    @property
    def is_far(self) -> bool:
        """Whether some of what is remembered is elsewhere, and has to be waited for."""
        return self._far is not None

    def held(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys that the near tier has."""
        found = [self._near.get(key) for key in keys]
        missing = found.count(None)
        self._count("process", len(keys) - missing, missing)
        return found

    def keep(self, items: Mapping[bytes, bytes]) -> None:
        """Remember values near."""
        for key, value in items.items():
            self._near.put(key, value)

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, the near tier first."""
        found: list[bytes | None] = []
        for part in _slices(keys):
            found += await self._get_slice(part)
        return found

    async def _get_slice(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = self.held(keys)
        missing = [place for place, value in enumerate(found) if value is None]
        if missing and self._far:
            for place, value in zip(missing, await self._far.get([keys[i] for i in missing]), strict=True):
                found[place] = value
                if value is not None:
                    self._near.put(keys[place], value)
        elif len(keys) == SLICE_KEYS:
            await asyncio.sleep(0)
        return found

    async def find(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The same, and what is in no tier is asked of the other processes of the service."""
        found = await self.get(keys)
        missing = [place for place, value in enumerate(found) if value is None]
        if missing and self._beside:
            theirs = await self._beside.get([keys[place] for place in missing])
            for place, value in zip(missing, theirs, strict=True):
                found[place] = value
                if value is not None:
                    self._near.put(keys[place], value)
        return found

    async def tell(self, asked: Message) -> Message:
        """Another process asks for values: those that are near, with their lengths, -1 for none."""
        keys = [key.encode() for key in asked.value]
        packed = [None if (value := self._near.get(key)) is None else _pack(key, value) for key in keys]
        lengths = [-1 if value is None else len(value) for value in packed]
        return Message(lengths, b"".join(value for value in packed if value is not None))

    async def put(self, items: Mapping[bytes, bytes]) -> None:
        """Remember values; when this returns they can be had from here, and where it lives from Redis."""
        for part in _slices(list(items.items())):
            self.keep(dict(part))
            if self._far:
                await self._far.put(part)
            elif len(part) == SLICE_KEYS:
                await asyncio.sleep(0)

    @property
    def redis_out(self) -> bool:
        """Whether there is a Redis that is not asked, because it did not answer."""
        return self._far is not None and self._far.out

    def _count(self, tier: str, hits: int, misses: int) -> None:
        if hits:
            self._observer.cache(tier, "hit", hits)
        if misses:
            self._observer.cache(tier, "miss", misses)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._far:
            await self._far.close()


class RedisTier:
    """Redis behind a breaker: answers or ``None`` within 50 ms, and nothing at all while it is out."""

    def __init__(self, url: str, ttl_s: float, observer: CacheObserver) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            max_connections=CONNECTIONS,
            timeout=REDIS_TIMEOUT_S,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            # Once, for an idle connection that the server has closed.
            retry=Retry(ExponentialWithJitterBackoff(base=0.005, cap=0.02), 1),
            health_check_interval=30,
        )
        self._client = Redis.from_pool(pool)
        self._ttl_ms = int(ttl_s * 1000)
        self._observer = observer
        self._probe: asyncio.Task[None] | None = None

    @property
    def out(self) -> bool:
        """Whether the breaker is open."""
        return self._probe is not None

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values whose checksum holds."""
        replies = await self._try(lambda: self._client.mget(keys), len(keys))
        if not isinstance(replies, list) or len(replies) != len(keys):
            return [None] * len(keys)
        found = [_unpack(key, reply) for key, reply in zip(keys, replies, strict=True)]
        hits = sum(value is not None for value in found)
        lies = sum(reply is not None for reply in replies) - hits
        for result, count in (("hit", hits), ("error", lies), ("miss", len(keys) - hits - lies)):
            if count:
                self._observer.cache("redis", result, count)
        return found

    async def put(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember values for the time to live; up to a tenth longer, so that they do not end at once."""
        pipe = self._client.pipeline(transaction=False)
        for key, value in items:
            ttl_ms = self._ttl_ms + secrets.randbelow(self._ttl_ms // 10 + 1)
            pipe.set(key, _pack(key, value), px=ttl_ms)
        replies = await self._try(lambda: pipe.execute(raise_on_error=False), len(items))
        refused = sum(isinstance(reply, Exception) for reply in replies or ())
        if refused:
            self._observer.cache("redis", "error", refused)

    async def _try(self, operation: Callable[[], Awaitable[T]], count: int) -> T | None:
        if self._probe is not None:
            self._observer.cache("redis", "skipped", count)
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                return await operation()
        except ResponseError:  # it lives, but will not do this
            self._observer.cache("redis", "error", count)
        except (RedisError, OSError, ValueError, TypeError):  # TimeoutError is an OSError
            self._observer.cache("redis", "error", count)
            self._probe = self._probe or asyncio.create_task(self._until_it_answers())
        return None

    async def _until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(COOL_DOWN_S)
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    await self._client.ping()
            except (RedisError, OSError, ValueError, TypeError):
                continue
            self._probe = None
            return

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        await self._client.aclose(close_connection_pool=True)


class SiblingTier:
    """What the other processes of the service have in theirs; who does not answer in time has nothing."""

    def __init__(self, siblings: Siblings, observer: CacheObserver) -> None:
        self._siblings = siblings
        self._observer = observer

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values whose checksum holds."""
        found: list[bytes | None] = []
        silent: set[int] = set()  # who kept us waiting once is not asked again for the same request
        for part in _slices(keys):
            asked = Message([key.decode() for key in part])
            others = self._siblings.others - silent
            answers = await self._siblings.ask("latents", asked, SIBLING_TIMEOUT_S, others)
            silent |= others - answers.keys()
            found += _first(part, answers.values())
        hits = sum(value is not None for value in found)
        for result, count in (("hit", hits), ("miss", len(keys) - hits)):
            if count:
                self._observer.cache("sibling", result, count)
        return found


def _first(keys: Sequence[bytes], answers: Iterable[Message]) -> list[bytes | None]:
    """For each key the first value that anybody has."""
    found: list[bytes | None] = [None] * len(keys)
    for answer in answers:
        start = 0
        for place, length in enumerate(answer.value):
            if length >= 0:
                found[place] = found[place] or _unpack(keys[place], answer.content[start : start + length])
                start += length
    return found


def _slices(items: Sequence[T]) -> Iterable[list[T]]:
    left = iter(items)
    while part := list(islice(left, SLICE_KEYS)):
        yield part


def _pack(key: bytes, value: bytes) -> bytes:
    """The checksum covers the key, so that a value under a wrong key is no value."""
    return b"PF1\0" + zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "little") + value


def _unpack(key: bytes, packed: Any) -> bytes | None:
    if not isinstance(packed, bytes) or packed[:4] != b"PF1\0":
        return None
    value = packed[8:]
    return value if _pack(key, value) == packed else None


def concatenated(*arrays: Array) -> list[bytes]:
    """For each row, the bytes of its part of every array."""
    columns = [map(_TO_BYTES, array) for array in arrays]
    return list(map(b"".join, zip(*columns, strict=True)))


def separated(values: Sequence[bytes], layout: Sequence[tuple[tuple[int, ...], str]]) -> tuple[Array, ...]:
    """The arrays whose rows were concatenated; ``layout`` is the row shape and dtype of each."""
    table = np.frombuffer(b"".join(values), _row_dtype(tuple(layout)))
    return tuple(np.ascontiguousarray(table[name]) for name in table.dtype.names or ())


@lru_cache(maxsize=256)
def _row_dtype(layout: tuple[tuple[tuple[int, ...], str], ...]) -> np.dtype[Any]:
    """A row as a record of arrays that follow one another."""
    return np.dtype([(str(place), dtype, shape) for place, (shape, dtype) in enumerate(layout)])
