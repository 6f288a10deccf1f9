"""The application in process, on real graphs of a few nodes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from service.app import create_app
from service.settings import Settings
from tests import graphs

JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
Array = NDArray[Any]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that serves in production."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact of each kind, and two versions of one; not to be changed."""
    root = tmp_path_factory.mktemp("artifacts")
    for build in (graphs.linear_flow, graphs.gaussian_vae, graphs.conditional, graphs.image_gan):
        build(root)
    graphs.poison(root)
    graphs.slow(root, 40)
    graphs.linear_flow(root, name="twice", version="1")
    graphs.linear_flow(root, name="twice", version="2")
    return root


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts that are ready at once, for tests that start more than one service."""
    root = tmp_path_factory.mktemp("quick")
    graphs.linear_flow(root)
    graphs.gaussian_vae(root)
    return root


class Client:
    """Calls the application without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://service")

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.get(path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.post(path, **more)

    async def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The answer to a call that must succeed."""
        answer = await self.post(f"/{verb}", json=fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def npy(self, verb: str, **fields: Any) -> Array:
        """The main array of the answer."""
        answer = await self.post(f"/{verb}", json=fields, headers={"Accept": NPY})
        assert answer.status_code == 200, answer.text
        return load(answer.content)

    async def send_npy(self, verb: str, array: Array, **query: Any) -> httpx.Response:
        """Send an array, with the other fields in the query string."""
        return await self.post(f"/{verb}", content=dump(array), params=query, headers={"Content-Type": NPY})

    async def refused(self, verb: str, status: int, code: str, **fields: Any) -> dict[str, Any]:
        """The reason given for a call that must be refused."""
        answer = await self.post(f"/{verb}", json=fields)
        return reason(answer, status, code)


def reason(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem document, as every refusal has to be one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["detail"]
    return dict(problem)


def load(body: bytes) -> Array:
    """The array of an npy body."""
    return np.asarray(np.load(io.BytesIO(body)))


def dump(array: Array) -> bytes:
    """An npy body."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@asynccontextmanager
async def serving(artifacts: Path, **knobs: Any) -> AsyncIterator[Client]:
    """The application from its start to its end, ready in between."""
    settings = Settings(artifacts=artifacts, **{"redis_url": None, "device": "cpu", **knobs})
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.state.life.opened.wait()
        client = Client(app)
        async with client.http:
            yield client


@pytest.fixture(scope="module")
async def client(artifacts: Path) -> AsyncIterator[Client]:
    """A service that the tests of one file share."""
    async with serving(artifacts) as shared:
        yield shared
