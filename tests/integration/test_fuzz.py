"""Whatever the published schema allows, and whatever it forbids: no 500, and nothing undocumented.

The schema is fuzzed as it is published, and narrowed to models and shapes that are there, so that requests
get past the door.
"""

from __future__ import annotations

import copy
import gzip
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks, openapi

from models.manifest import Verb
from service.app import create_app
from service.front import Front
from service.protocol import INFER
from service.settings import Settings
from tests.integration.conftest import NPY

EXAMPLES = 30
# A row of the wrong shape is allowed by a schema that cannot know the shapes of models, and refused by us.
UNDECIDABLE = [checks.positive_data_acceptance]

budget = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class InThread(uvicorn.Server):
    """A server that is ready when its ``with`` begins."""

    def __init__(self, app: FastAPI, keep_alive_s: int = 5) -> None:
        config = uvicorn.Config(
            app,
            port=0,
            http=Front,
            ws="none",
            log_level="critical",
            proxy_headers=False,  # as the service does: nothing lies around the application
            timeout_keep_alive=keep_alive_s,
        )
        super().__init__(config)
        self.app = app
        self._thread = threading.Thread(target=self.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not (self.started and self.app.state.life.opened.is_set()):
            time.sleep(0.01)
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def app(quick: Path) -> FastAPI:
    return create_app(Settings(artifacts=quick, redis_url=None, max_rows=1000, deadline_ms=5000))


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with InThread(app) as address:
        yield address


@pytest.fixture(scope="module")
def published(app: FastAPI, url: str) -> Any:
    return openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def narrowed(app: FastAPI, url: str) -> Any:
    document = copy.deepcopy(httpx.get(f"{url}/openapi.json").json())
    number = {"type": "number", "minimum": -100, "maximum": 100}
    row = {"type": "array", "items": number, "minItems": 3, "maxItems": 3}
    for path in document["paths"].values():
        path.get("post", {}).get("requestBody", {}).get("content", {}).pop(NPY, None)
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        fields = schema.get("properties", {})
        if name.endswith("Request") and "label" in fields:  # those of our own verbs
            fields["model"] = {"enum": ["linear"]}
            fields["version"] = {"enum": ["1"]}
            fields.pop("label")
        if "directions" in fields and name.endswith("Request"):
            strength = {"type": "number", "minimum": -10, "maximum": 10}
            fields["directions"] = {"type": "object", "properties": {"first": strength}}
            fields["directions"] |= {"additionalProperties": False, "minProperties": 1}
        for field in ("inputs", "latents"):
            if field in fields and name.endswith("Request"):
                fields[field] = {"type": "array", "items": row, "minItems": 1, "maxItems": 5}
        for field in ("input", "latent"):
            if field in fields:
                fields[field] = row
    schemas["DecodeRequest"]["properties"].pop("ids")
    schemas["SampleRequest"]["properties"]["n"]["maximum"] = 1000
    schemas["InterpolateRequest"]["properties"]["steps"]["maximum"] = 100
    schemas["LoglikRequest"]["properties"]["k"] = {"type": "integer", "minimum": 1, "maximum": 100}
    return openapi.from_dict(document)


ABOUT = ("", "/ready", "/config")
PROTOCOL_MODEL = (*ABOUT, *(f"/versions/{{model_version}}{about}" for about in ABOUT))
OPERATIONS = [
    *(("POST", f"/{verb}") for verb in get_args(Verb)),
    *(("GET", path) for path in ("/models", "/models/{name}", "/health/live", "/health/ready", "/metrics")),
    ("POST", "/models/reload"),
    *(("GET", f"/v2{path}") for path in ("", "/health/live", "/health/ready")),
    *(("GET", f"/v2/models/{{model_name}}{path}") for path in PROTOCOL_MODEL),
    *(("POST", path) for path in INFER),
    ("POST", "/v2/repository/index"),
]


def fuzz(schema: Any, method: str, path: str, url: str, mode: GenerationMode) -> Counter[int]:
    """Send cases of one operation, with every check that can be decided; the statuses of the answers."""
    statuses: Counter[int] = Counter()

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @budget
    def send(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(base_url=url, excluded_checks=UNDECIDABLE, timeout=20)
        statuses[answer.status_code] += 1

    send()
    return statuses


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_schema_allows_is_answered_as_it_says(
    published: Any, url: str, method: str, path: str
) -> None:
    fuzz(published, method, path, url, GenerationMode.POSITIVE)


@pytest.mark.parametrize("verb", get_args(Verb))
def test_what_the_schema_forbids_is_refused_as_it_says(published: Any, url: str, verb: str) -> None:
    fuzz(published, "POST", f"/{verb}", url, GenerationMode.NEGATIVE)


@pytest.mark.parametrize("verb", get_args(Verb))
def test_requests_that_get_past_the_door_are_answered(narrowed: Any, url: str, verb: str) -> None:
    statuses = fuzz(narrowed, "POST", f"/{verb}", url, GenerationMode.POSITIVE)
    assert statuses[200] > EXAMPLES / 4, statuses


def test_every_path_is_fuzzed(published: Any) -> None:
    documented = {(o.ok().method.upper(), o.ok().path) for o in published.get_all_operations()}
    assert documented == set(OPERATIONS)


@given(
    verb=st.sampled_from(["encode", "decode", "reconstruct", "loglik"]),
    query=st.text(max_size=40).map(quote) | st.just("model=linear"),
    body=st.binary(max_size=200),
    shape=st.lists(st.integers(0, 4), max_size=3),
    magic=st.booleans(),
)
@budget
def test_bytes_that_pretend_to_be_npy_are_refused(
    url: str, verb: str, query: str, body: bytes, shape: list[int], magic: bool
) -> None:
    if magic:
        described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}".encode()
        body = b"\x93NUMPY\x01\x00" + len(described).to_bytes(2, "little") + described + body
    answer = httpx.post(f"{url}/{verb}?{query}", content=body, headers={"Content-Type": NPY})
    # Any bytes are numbers, and some so far apart in size that a bijection does not give the row back.
    assert answer.status_code in (200, 404, 422) or answer.json()["code"] == "row_failed", answer.text


MAIN = {"loglik": "inputs", "reconstruct": "inputs", "encode": "x", "decode": "z", "log_weight": "x"}
scalars = st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
# What may be wrong with an input of two rows of three numbers, and with the members beside it.
slips = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "inputs", "n", "label"]),
        "shape": st.lists(st.integers(-1, 9), max_size=3),
        "datatype": st.sampled_from(["FP64", "FP16", "INT64", "UINT8", "BYTES", "BOOL", ""]),
        "data": st.none() | st.lists(scalars | st.lists(scalars, max_size=3), max_size=6),
        "parameters": st.dictionaries(st.just("binary_data_size"), st.just(24) | scalars),
    },
)
parameters = st.dictionaries(
    st.sampled_from(["n", "seed", "k", "timeout", "binary_data_output", "directions.first", "directions"])
    | st.text(max_size=5),
    st.integers(1, 9) | scalars,
    max_size=2,
)


@st.composite
def inferences(draw: st.DrawFn) -> tuple[str, dict[str, str], bytes]:
    """A protocol model, and headers and a body in which little or much is wrong."""
    part = draw(st.sampled_from(["sample", *MAIN]))
    row = st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6)
    rows = {"name": MAIN.get(part), "shape": [2, 3], "datatype": "FP32", "data": draw(row)}
    inputs = [{**rows, **draw(st.just({}) | slips)}] if part in MAIN else []
    outputs = draw(st.none() | st.lists(st.sampled_from([{"name": "samples"}, {"name": "status"}, {}])))
    fields = {"inputs": inputs, "parameters": draw(st.just({}) | parameters), "outputs": outputs}
    head = json.dumps(fields).encode()
    body = head + draw(st.just(b"") | st.just(bytes(24)) | st.binary(max_size=30))
    length = draw(st.just(len(head)) | st.integers(-2, 2 * len(head)))
    coding = draw(st.sampled_from(["identity", "gzip", "deflate", "zstd"]))
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)
    headers = {"Content-Encoding": coding, "Inference-Header-Content-Length": str(length)}
    return f"linear.{part}", headers, draw(st.sampled_from([squeeze, bytes]))(body)


def test_whatever_is_sent_to_the_protocol_has_an_answer_in_its_form(url: str) -> None:
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=url) as client:

        @given(request=inferences())
        @settings(budget, max_examples=10 * EXAMPLES)
        def send(request: tuple[str, dict[str, str], bytes]) -> None:
            model, headers, body = request
            answer = client.post(f"/v2/models/{model}/infer", headers=headers, content=body)
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 413, 415, 422, 504), answer.text
            assert (answer.json().keys() == {"error"}) == (answer.status_code != 200)

        send()
    assert statuses[200] > EXAMPLES / 4, statuses
