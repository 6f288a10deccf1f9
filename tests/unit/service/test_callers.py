"""Where a process may listen, and who its callers are."""

from __future__ import annotations

from base64 import b64encode

import pytest

from service import keys
from service.access import OpenToAll, check_host
from service.callers import ANYONE, Callers
from service.errors import OverLimit, Unauthenticated
from service.settings import Settings

LINES = keys.line("designer", "pf_d") + "\n" + keys.line("quality", "pf_q")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_host(Settings(host=host), Callers(Settings()))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1", "example.org", ""])
def test_any_other_address_needs_keys_or_a_word(host: str) -> None:
    with pytest.raises(OpenToAll, match=f"host is {host}, "):
        check_host(Settings(host=host), Callers(Settings()))
    check_host(Settings(host=host), Callers(Settings(keys=LINES)))
    check_host(Settings(host=host, open=True), Callers(Settings()))


def test_without_keys_anyone_is_let_in_and_latents_lie_under_the_artifact_s_digest() -> None:
    assert Callers(Settings()).find("GET", {}) is ANYONE
    assert ANYONE.space("digest") == "digest"


def test_everybody_has_a_space_of_his_own_in_every_artifact_and_always_the_same() -> None:
    spaces = set()
    for _ in range(2):
        callers = Callers(Settings(keys=LINES))
        for key in (b"pf_d", b"pf_q"):
            caller = callers.find("GET", {b"x-api-key": key})
            spaces |= {caller.space("one"), caller.space("two")}
    assert len(spaces) == 4


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"pf_d",
        b"Bearer pf_d pf_q",
        b"Bearer \xff",
        b"Basic",
        b"Basic pf_d",
        b"Basic \xff\xfe",
        b"Basic " + b64encode(b"pf_d:"),
        b"Basic " + b64encode(b"\xff\xfe"),
        b"Digest pf_d",
    ],
)
def test_what_is_no_key_lets_nobody_in(authorization: bytes) -> None:
    with pytest.raises(Unauthenticated):
        Callers(Settings(keys=LINES)).find("GET", {b"authorization": authorization})


@pytest.mark.parametrize(
    "authorization", [b"Bearer pf_d", b"bearer  pf_d ", b"BASIC " + b64encode(b"x:pf_d")]
)
def test_schemes_are_read_as_the_standard_says(authorization: bytes) -> None:
    assert Callers(Settings(keys=LINES)).find("GET", {b"authorization": authorization}).name == "designer"


def test_who_has_not_changed_keeps_what_is_left_of_the_limit() -> None:
    limited = LINES.replace(" }", ", requests_per_s = 1 }", 1)
    callers = Callers(Settings(keys=limited))
    callers.find("GET", {b"x-api-key": b"pf_d"}).admit()
    callers.reread()
    with pytest.raises(OverLimit):
        callers.find("GET", {b"x-api-key": b"pf_d"}).admit()
