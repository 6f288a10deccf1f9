"""Who calls: whoever holds a key, each with its limits; or anyone, where there are no keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Final, NoReturn

from service.errors import OverLimit, Unauthenticated
from service.keys import Key, Keys, owner, read
from service.limits import Bucket, Ledger
from service.settings import Settings

ALLOWED: Final = "Authorization: Bearer KEY, or X-API-Key: KEY"
OURS: Final = (b"none", b"same-origin")  # where a browser says that a request comes from


class Caller:
    """One key's holder.

    Attributes:
        name: of the key, empty for anyone.
        key: what is known of it.
    """

    def __init__(self, name: str = "", key: Key | None = None, ledger: Ledger | None = None) -> None:
        self.name = name
        self.key = key
        self._requests = self._bucket("requests", key.requests_per_s if key else None, ledger)
        self._rows = self._bucket("rows", key.rows_per_s if key else None, ledger)

    def _bucket(self, what: str, rate: float | None, ledger: Ledger | None) -> Bucket | None:
        if rate is None:
            return None
        if ledger is None:
            return Bucket(rate)
        assert self.key is not None
        # A key that is changed has another bucket, full, as it has where there is one process.
        whose = f"{what}|{self.name}|{self.key.model_dump_json()}"
        return Bucket(rate, level=partial(ledger.level, whose))

    def admit(self) -> None:
        """A request has come.

        Raises:
            OverLimit: if it came too early.
        """
        if self._requests is None:
            return
        if short_s := self._requests.short_s(1):
            self._refuse("requests", self._requests.rate, short_s)
        self._requests.take(1)

    def charge(self, rows: int, begun: bool) -> None:
        """Graphs are about to run rows.

        Args:
            begun: rows of the same request have run, so that it is too late to refuse.

        Raises:
            OverLimit: if they come too early.
        """
        if self._rows is None:
            return
        if not begun and (short_s := self._rows.short_s(rows)):
            self._refuse("rows", self._rows.rate, short_s)
        self._rows.take(rows)

    async def pause(self, rows: int) -> None:
        """Wait until so many rows may be charged: an answer that has begun is slowed down, not refused."""
        if self._rows is not None and (short_s := self._rows.short_s(rows)):
            await asyncio.sleep(short_s)

    def at_once(self, rows: int) -> int:
        """As many of the rows as a second brings."""
        return rows if self._rows is None else min(rows, self._rows.room)

    def space(self, digest: str) -> str:
        """Under which this caller's latents of an artifact lie; nobody else's do."""
        return _space(digest, self.name) if self.name else digest

    def _refuse(self, what: str, rate: float, short_s: float) -> NoReturn:
        raise OverLimit(
            f"the key {self.name} asks for more {what} than it may; allowed: {rate:g} a second", short_s
        )


ANYONE: Final = Caller()


@lru_cache(maxsize=4096)
def _space(digest: str, name: str) -> str:
    return hashlib.blake2b(f"{digest}|{name}".encode(), digest_size=32).hexdigest()


class Callers:
    """Everyone who may call.

    Attributes:
        known: whether callers need a key.

    Args:
        ledger: where the limits of keys are counted for several processes together.

    Raises:
        KeysError: if the settings name keys that cannot be read.
    """

    def __init__(self, settings: Settings, ledger: Ledger | None = None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._callers: dict[str, Caller] = {}
        self.reread()

    def reread(self) -> None:
        """Take new keys and limits, and forget removed ones; who has not changed keeps what is left."""
        keys: Keys = read(self._settings.keys_file, self._settings.keys)
        known = self._callers
        self._callers = {
            name: known[name] if name in known and known[name].key == key else Caller(name, key, self._ledger)
            for name, key in keys.items()
        }
        self.known = bool(keys)

    def find(self, method: str, headers: Mapping[bytes, bytes]) -> Caller:
        """Who sent a request.

        Raises:
            Unauthenticated: if it has no key, or one that nobody has.
        """
        if not self._callers:
            return ANYONE
        key = _key(method, headers)
        if key is None:
            raise Unauthenticated(f"the request has no key; allowed: {ALLOWED}")
        name = owner(((name, caller.key) for name, caller in self._callers.items() if caller.key), key)
        if name is None:
            raise Unauthenticated("the key is none of those that are known here; allowed: a known one")
        return self._callers[name]


def _key(method: str, headers: Mapping[bytes, bytes]) -> str | None:
    """The key of a request, wherever it is."""
    given = headers.get(b"authorization")
    if given is None:
        key = headers.get(b"x-api-key")
        return None if key is None else key.decode("latin1")
    scheme, _, credentials = given.decode("latin1").strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic" if method == "GET" or headers.get(b"sec-fetch-site", b"none") in OURS:
            return _password(credentials)
    return None


def _password(credentials: str) -> str | None:
    """The password of basic authentication: a browser asks for it, and then sends it by itself.

    It would also send it with a form on somebody else's page, so :func:`_key` looks where that comes from.
    """
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode("latin1").partition(":")[2]
    except (binascii.Error, ValueError):
        return None
