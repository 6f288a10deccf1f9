"""Who may call: named keys, of which only hashes are kept.

A key is 256 random bits, so its plain SHA-256 tells nothing: there is no dictionary to try, and a hash made
slow on purpose, as passwords need it, would only slow every request. The keys are lines of TOML, in a file or
in the environment; one line is one key, with its limits::

    designer = { sha256 = "…", requests_per_s = 20, rows_per_s = 50000 }
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

PREFIX: Final = "pf_"  # so that whoever finds one knows what was lost
NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,39}$"

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Key(BaseModel):
    """What is known of one key.

    Attributes:
        sha256: of the key, in hexadecimal.
        requests_per_s: that it may send, on average and at once; unlimited if absent.
        rows_per_s: that graphs may run for it, on average and at once; unlimited if absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    requests_per_s: Rate | None = None
    rows_per_s: Rate | None = None


Keys = dict[str, Key]
_KEYS: Final = TypeAdapter(dict[Annotated[str, StringConstraints(pattern=NAME)], Key])


class KeysError(ValueError):
    """Keys that cannot be read, and where they were written."""


def made() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def line(name: str, key: str) -> str:
    """The line of the key file.

    Raises:
        KeysError: if no key may have that name.
    """
    if not re.fullmatch(NAME, name):
        raise KeysError(f"the name is {name!r}; allowed: up to 40 of a-z, 0-9, - and _, the first no sign")
    return f'{name} = {{ sha256 = "{hashed(key)}" }}'


def read(file: Path | None, text: str | None) -> Keys:
    """The keys of a file and of the environment together; none if neither is given.

    Raises:
        KeysError: if they cannot be read, or are given but hold no key.
    """
    given = [(text, "PUSHFORWARD_KEYS")] if text is not None else []
    if file is not None:
        given.append((_text(file), str(file)))
    together: Keys = {}
    for part, where in given:
        keys = parsed(part, where)
        if twice := together.keys() & keys.keys():
            raise KeysError(f"{where} and PUSHFORWARD_KEYS both have the key {min(twice)}; one is allowed")
        together |= keys
    _check_distinct(together)
    return together


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"the key file {file} cannot be read: {error}") from None


def parsed(text: str, where: str) -> Keys:
    """The keys of one text.

    Raises:
        KeysError: naming the key and what is wrong with it; never what was taken for a hash.
    """
    try:
        keys = _KEYS.validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise KeysError(
            f"{where} is no TOML: {error}; a line is made by python -m service key NAME"
        ) from None
    except ValidationError as error:
        raise KeysError(f"{where}: {_reason(error)}") from None
    if not keys:
        raise KeysError(f"{where} holds no key; a line is made by python -m service key NAME")
    return keys


def _reason(error: ValidationError) -> str:
    first: Any = error.errors(include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"] if part != "[key]")
    return f"{path}: {first['msg']}; allowed is a line as python -m service key NAME makes it"


def _check_distinct(keys: Keys) -> None:
    """One key under two names would be two callers in one."""
    names: dict[str, str] = {}
    for name, key in keys.items():
        other = names.setdefault(key.sha256, name)
        if other != name:
            raise KeysError(f"{other} and {name} are the same key; make one for each")


def owner(keys: Iterable[tuple[str, Key]], key: str) -> str | None:
    """The name of a key, ``None`` if it is none of ours; takes as long for any wrong one."""
    seen = hashed(key)
    found = None
    for name, known in keys:
        if hmac.compare_digest(known.sha256, seen):
            found = name
    return found
