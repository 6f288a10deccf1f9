"""Whatever comes to a service that asks for keys, with a key or without: no 500, and nothing undocumented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, openapi

from service import keys
from service.app import create_app
from service.settings import Settings
from tests.integration.test_fuzz import OPERATIONS, UNDECIDABLE, InThread

SECRET = f"pf_{token_hex()}"  # not written here: Hypothesis tries what it reads in a test
KEY = {"Authorization": f"Bearer {SECRET}"}
budget = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def url(quick: Path) -> Iterator[str]:
    known = Settings(artifacts=quick, redis_url=None, max_rows=1000, keys=keys.line("caller", SECRET))
    with InThread(create_app(known)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as shared:
        yield shared


@pytest.fixture(scope="module")
def published(url: str) -> Any:
    return openapi.from_url(f"{url}/openapi.json", headers=KEY)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_schema_says_who_needs_a_key_and_what_happens_without(
    published: Any, url: str, method: str, path: str
) -> None:
    seen = set()

    @given(
        case=published[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE), known=st.booleans()
    )
    @budget
    def send(case: schemathesis.Case[Any], known: bool) -> None:
        headers = KEY if known else {}
        answer = case.call_and_validate(
            base_url=url, excluded_checks=UNDECIDABLE, headers=headers, timeout=20
        )
        seen.add((known, answer.status_code == 401))

    send()
    open_to_all = "/health/" in path
    assert seen <= {(True, False), (False, not open_to_all)}


# Bytes that may stand in a header.
values = st.lists(st.integers(32, 255).filter(lambda byte: byte != 127), max_size=60).map(bytes)
NAMES = ("Authorization", "X-API-Key", "X-Request-Id", "Sec-Fetch-Site", "X-Request-Timeout-Ms")
schemes = st.sampled_from([b"", b"Bearer ", b"Basic ", b"Bearer pf_", b"basic cGY6"])


@given(st.dictionaries(st.sampled_from(NAMES), st.builds(bytes.__add__, schemes, values), max_size=3))
@settings(budget, max_examples=150)
def test_no_header_opens_the_door_or_breaks_it(client: httpx.Client, headers: dict[str, bytes]) -> None:
    answer = client.get("/models", headers={name: value.strip() for name, value in headers.items()})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
