"""What the two clients share below the calls: where they connect, what they send, what counts as broken."""

from __future__ import annotations

import os
from typing import Any, Final

import httpx

from pushforward_client.calls import Ask
from pushforward_client.errors import PushforwardError, Unreachable, refusal
from pushforward_client.patience import Attempts

URL: Final = "http://127.0.0.1:8000"
USER_AGENT: Final = "pushforward-client/0.1.0"
CONNECT_S: Final = 10.0
BROKEN: Final = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError)


def connection(url: str | None, key: str | None) -> dict[str, Any]:
    """What httpx is to know of the service; what is absent comes from the environment.

    Raises:
        ValueError: if the address is none.
    """
    url = url or os.environ.get("PUSHFORWARD_URL") or URL
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"the service's address is {url!r}; allowed: one with http:// or https://")
    key = key or os.environ.get("PUSHFORWARD_KEY")
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    return {"base_url": url, "headers": headers | ({"Authorization": f"Bearer {key}"} if key else {})}


def request(http: httpx.Client | httpx.AsyncClient, ask: Ask, attempts: Attempts) -> httpx.Request:
    """One attempt, which the service drops too when nobody waits for it any more."""
    left_s = attempts.left_s
    arguments = ask.arguments()
    arguments["headers"]["X-Request-Timeout-Ms"] = f"{left_s * 1000:.0f}"
    timeout = httpx.Timeout(left_s, connect=min(left_s, CONNECT_S))
    return http.build_request(ask.method, ask.path, timeout=timeout, **arguments)


def checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is an answer.

    Raises:
        Refused: if it is a reason.
    """
    if response.status_code != 200:
        raise refusal(response)
    return response


def ours(error: PushforwardError | httpx.RequestError) -> PushforwardError:
    """An error of httpx as one of this package."""
    if isinstance(error, PushforwardError):
        return error
    return Unreachable(f"{error.request.url} gave no answer: {type(error).__name__} {error}".rstrip())
