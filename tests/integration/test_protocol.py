"""The Open Inference Protocol, byte by byte: what it says, what it takes, and how it refuses."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from tests.integration.conftest import Array, Client, serving

pytestmark = pytest.mark.anyio

HEADER = "Inference-Header-Content-Length"
X = np.array([[0.5, 0.25, -1.0], [1.0, 2.0, 3.0]], np.float32)


def tensor(array: Array, name: str = "inputs", datatype: str = "FP32") -> dict[str, Any]:
    """An input as JSON, flat."""
    return {"name": name, "shape": [*array.shape], "datatype": datatype, "data": array.ravel().tolist()}


def binary(array: Array, name: str = "inputs", datatype: str = "FP32") -> dict[str, Any]:
    """The JSON of an input whose bytes lie behind it."""
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": [*array.shape], "datatype": datatype, "parameters": size}


def body_of(fields: dict[str, Any], *arrays: Array) -> tuple[bytes, dict[str, str]]:
    """The JSON with the bytes behind it, and the header that says where they begin."""
    head = orjson.dumps(fields)
    return head + b"".join(array.tobytes() for array in arrays), {HEADER: str(len(head))}


def data(answer: dict[str, Any], name: str) -> list[Any]:
    """The numbers of an output."""
    (found,) = (output["data"] for output in answer["outputs"] if output["name"] == name)
    return list(found)


async def infer(client: Client, model: str, *inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    answer = await client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def error(answer: httpx.Response, status: int) -> str:
    """What a refusal says, in the only form that the protocol has."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert answer.json().keys() == {"error"}
    return str(answer.json()["error"])


# What it says -----------------------------------------------------------------------------------------------


async def test_the_server_is_live_ready_and_says_who_it_is(client: Client) -> None:
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    server = (await client.get("/v2")).json()
    assert server["name"] == "pushforward"
    assert server["extensions"] == ["binary_tensor_data", "parameters", "model_configuration"]


async def test_a_service_without_a_model_is_live_and_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as empty:
        assert (await empty.get("/v2/health/live")).status_code == 200
        assert "no model is served" in error(await empty.get("/v2/health/ready"), 503)


async def test_an_entry_point_shows_the_tensors_of_the_manifest(client: Client) -> None:
    said = (await client.get("/v2/models/gaussian-vae.log_weight")).json()
    assert said == {
        "name": "gaussian-vae.log_weight",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "eps", "datatype": "FP32", "shape": [-1, 2]},
        ],
        "outputs": [{"name": "log_w", "datatype": "FP32", "shape": [-1]}],
    }


async def test_a_verb_shows_what_has_rows(client: Client) -> None:
    sample = (await client.get("/v2/models/conditional.sample")).json()
    assert [port["name"] for port in sample["inputs"]] == ["n", "label"]
    loglik = (await client.get("/v2/models/gaussian-vae.loglik")).json()
    assert "standard_error" in [port["name"] for port in loglik["outputs"]]
    exact = (await client.get("/v2/models/linear.loglik")).json()
    names = [port["name"] for port in exact["outputs"]]
    assert names == ["log_likelihood", "p_value", "status"]


async def test_every_output_that_the_metadata_names_is_in_the_answer(client: Client) -> None:
    for name in ("linear", "gaussian-vae"):
        said = (await client.get(f"/v2/models/{name}.loglik")).json()
        answer = await infer(client, f"{name}.loglik", tensor(X))
        found = [{k: output[k] for k in ("name", "datatype")} for output in answer["outputs"]]
        assert found == [{k: port[k] for k in ("name", "datatype")} for port in said["outputs"]]


async def test_versions_are_found_by_their_path(client: Client) -> None:
    assert (await client.get("/v2/models/twice.sample")).json()["versions"] == ["2", "1"]
    assert (await client.get("/v2/models/twice.sample/versions/1")).json()["name"] == "twice.sample"
    assert (await client.get("/v2/models/twice.sample/versions/1/ready")).json()["ready"]
    answer = await client.post("/v2/models/twice.sample/versions/1/infer", json={"inputs": []})
    assert answer.json()["model_version"] == "1"
    assert (await infer(client, "twice.sample"))["model_version"] == "2"
    assert "it has 2, 1" in error(await client.get("/v2/models/twice.sample/versions/7"), 404)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/v2/models/nothing.sample", "there is no model 'nothing'"),
        ("/v2/models/linear", "linear.decode, linear.encode, linear.log_weight, linear.sample"),
        ("/v2/models/image-gan.loglik/ready", "of image-gan there are image-gan.decode, image-gan.sample"),
        ("/v2/models/linear.sample/stats", "there is nothing at"),
        ("/v2/nowhere", "there is nothing at"),
    ],
)
async def test_what_is_not_there_is_refused_in_the_form_of_the_protocol(
    client: Client, path: str, why: str
) -> None:
    assert why in error(await client.get(path), 404)


async def test_a_method_that_there_is_not_is_refused_in_the_form_of_the_protocol(client: Client) -> None:
    assert "does not allow GET" in error(await client.get("/v2/models/linear.sample/infer"), 405)


async def test_the_index_names_what_serves_and_why_the_rest_does_not(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick, tmp_path / "artifacts")
    (tmp_path / "artifacts/linear/1/decode.onnx").write_bytes(b"spoiled")
    async with serving(tmp_path / "artifacts") as half:
        index = (await half.post("/v2/repository/index")).json()
    states = {entry["name"]: (entry["state"], entry["reason"]) for entry in index}
    assert states["gaussian-vae.loglik"] == ("READY", "")
    state, reason = states["linear"]
    assert state == "UNAVAILABLE"
    assert "decode.onnx" in reason


# What it answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["linear", "gaussian-vae", "image-gan"])
async def test_samples_are_those_of_the_verb(client: Client, model: str) -> None:
    fields = {"n": 5, "seed": 7, "offset": 2, "temperature": 0.5}
    verb = await client.ask("sample", model=model, **fields)
    answer = await infer(client, f"{model}.sample", parameters=fields, id="row-2")
    assert data(answer, "samples") == np.ravel(verb["samples"]).tolist()
    assert answer["parameters"] == {"seed": 7, "offset": 2}
    assert answer["id"] == "row-2"


async def test_the_seed_of_an_answer_leads_to_the_same_answer(client: Client) -> None:
    first = await infer(client, "linear.sample")
    again = await infer(client, "linear.sample", parameters=first["parameters"])
    assert again == first


async def test_the_number_of_samples_may_be_a_tensor(client: Client) -> None:
    n = {"name": "n", "shape": [1], "datatype": "INT64", "data": [4]}
    by_tensor = await infer(client, "linear.sample", n, parameters={"seed": 1})
    assert by_tensor == await infer(client, "linear.sample", parameters={"seed": 1, "n": 4})


@pytest.mark.parametrize("model", ["linear", "gaussian-vae"])
async def test_likelihoods_are_those_of_the_verb(client: Client, model: str) -> None:
    verb = await client.ask("loglik", model=model, inputs=X.tolist())
    answer = await infer(client, f"{model}.loglik", tensor(X))
    for name in (output["name"] for output in answer["outputs"]):
        assert data(answer, name) == verb[name]
    assert answer["parameters"] == {k: verb[k] for k in ("kind", "unit", "k", "seed") if k in verb}


async def test_a_p_value_is_left_out_where_there_is_none(client: Client) -> None:
    with_it = await infer(client, "linear.loglik", tensor(X))
    assert "p_value" in [output["name"] for output in with_it["outputs"]]
    asked = {"inputs": [tensor(X)], "parameters": {"k": 2}, "outputs": [{"name": "p_value"}]}
    answer = await client.post("/v2/models/gaussian-vae.loglik/infer", json=asked)
    assert "p_value" in error(answer, 422)


async def test_a_number_that_json_cannot_say_is_null_with_a_status(client: Client) -> None:
    far = np.full((1, 3), 1e30, np.float32)
    answer = await infer(client, "linear.loglik", tensor(far))
    verb = await client.ask("loglik", model="linear", inputs=far.tolist())
    assert data(answer, "log_likelihood") == verb["log_likelihood"] == [None]
    assert data(answer, "status") == verb["status"]


async def test_reconstructions_move_along_directions_as_those_of_the_verb(client: Client) -> None:
    verb = await client.ask("reconstruct", model="linear", inputs=X.tolist(), directions={"first": 1.5})
    answer = await infer(client, "linear.reconstruct", tensor(X), parameters={"directions.first": 1.5})
    assert data(answer, "samples") == np.ravel(verb["samples"]).tolist()


async def test_entry_points_give_what_the_verbs_compose(client: Client) -> None:
    codes = await client.ask("encode", model="gaussian-vae", inputs=X.tolist())
    encoded = await infer(client, "gaussian-vae.encode", tensor(X, "x"))
    assert data(encoded, "z") == np.ravel(codes["latents"]).tolist()
    assert data(encoded, "std") == np.ravel(codes["std"]).tolist()
    z = np.array(codes["latents"], np.float32)
    rows = await client.ask("decode", model="gaussian-vae", latents=z.tolist())
    decoded = await infer(client, "gaussian-vae.decode", tensor(z, "z"))
    assert data(decoded, "x") == np.ravel(rows["samples"]).tolist()


async def test_a_weight_takes_the_noise_that_it_is_given(client: Client) -> None:
    nothing, much = np.zeros((2, 2), np.float32), np.full((2, 2), 2, np.float32)
    still = await infer(client, "gaussian-vae.log_weight", tensor(X, "x"), tensor(nothing, "eps"))
    moved = await infer(client, "gaussian-vae.log_weight", tensor(X, "x"), tensor(much, "eps"))
    assert data(still, "log_w") != data(moved, "log_w")
    exact = await infer(client, "linear.log_weight", tensor(X, "x"))
    verb = await client.ask("loglik", model="linear", inputs=X.tolist())
    assert data(exact, "log_w") == pytest.approx(verb["log_likelihood"], abs=1e-6)


@pytest.mark.parametrize(
    ("inputs", "parameters"),
    [
        ([{"name": "label", "shape": [2], "datatype": "UINT8", "data": [1, 1]}], {}),
        ([{"name": "label", "shape": [2], "datatype": "BYTES", "data": ["east", "east"]}], {}),
        ([{"name": "label", "shape": [1], "datatype": "BYTES", "data": ["east"]}], {}),
        ([], {"label": "east"}),
        ([], {"label": 1}),
    ],
)
async def test_labels_are_numbers_or_names(
    client: Client, inputs: list[dict[str, Any]], parameters: dict[str, Any]
) -> None:
    verb = await client.ask("sample", model="conditional", n=2, seed=3, label=[1, 1])
    answer = await infer(client, "conditional.sample", *inputs, parameters={"n": 2, "seed": 3, **parameters})
    assert data(answer, "samples") == np.ravel(verb["samples"]).tolist()


async def test_names_of_classes_may_come_as_bytes(client: Client) -> None:
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"north", b"origin"))
    label = {
        "name": "label",
        "shape": [2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(texts)},
    }
    head = orjson.dumps({"inputs": [tensor(X[:, :2], "x"), label]})
    url, headers = "/v2/models/conditional.encode/infer", {HEADER: str(len(head))}
    answer = await client.post(url, content=head + texts, headers=headers)
    verb = await client.ask(
        "encode", model="conditional", inputs=X[:, :2].tolist(), label=["north", "origin"]
    )
    assert data(answer.json(), "z") == np.ravel(verb["latents"]).tolist()
    cut = await client.post(url, content=(head + texts)[:-1], headers=headers)
    assert "announce" in error(cut, 422)


async def test_an_entry_point_takes_labels_beside_its_rows(client: Client) -> None:
    verb = await client.ask("encode", model="conditional", inputs=X[:, :2].tolist(), label=[0, 2])
    label = {"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 2]}
    answer = await infer(client, "conditional.encode", tensor(X[:, :2], "x"), label)
    assert data(answer, "z") == np.ravel(verb["latents"]).tolist()


async def test_requests_are_counted_under_what_they_ask_for(client: Client) -> None:
    await infer(client, "twice.log_weight", tensor(X, "x"))
    counted = 'pushforward_requests_total{model="twice",status="200",verb="log_weight"} 1.0'
    assert counted in (await client.get("/metrics")).text


# How tensors travel -----------------------------------------------------------------------------------------


async def test_numbers_may_be_nested_or_flat(client: Client) -> None:
    flat = tensor(X)
    nested = {**flat, "data": X.tolist()}
    assert await infer(client, "linear.loglik", nested) == await infer(client, "linear.loglik", flat)


@pytest.mark.parametrize("datatype", ["FP64", "FP16", "INT8", "UINT64", "INT64"])
async def test_numbers_of_another_datatype_are_taken_where_they_fit(client: Client, datatype: str) -> None:
    whole = np.array([[0, 1, 2], [3, 4, 5]])
    dtype = {"FP": "<f", "IN": "<i", "UI": "<u"}[datatype[:2]] + str(int(datatype.lstrip("FPINTU")) // 8)
    content, headers = body_of(
        {"inputs": [binary(whole.astype(dtype), datatype=datatype)]}, whole.astype(dtype)
    )
    answer = await client.post("/v2/models/linear.loglik/infer", content=content, headers=headers)
    expected = await infer(client, "linear.loglik", tensor(whole.astype(np.float32)))
    assert answer.json() == expected


async def test_bytes_come_in_and_go_out(client: Client) -> None:
    asked = [{"name": "status", "parameters": {"binary_data": True}}, {"name": "p_value"}]
    asked += [{"name": "log_likelihood", "parameters": {"binary_data": True}}]
    content, headers = body_of({"inputs": [binary(X)], "outputs": asked}, X)
    answer = await client.post("/v2/models/linear.loglik/infer", content=content, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    end = int(answer.headers[HEADER])
    said = orjson.loads(answer.content[:end])
    assert [output["name"] for output in said["outputs"]] == ["status", "p_value", "log_likelihood"]
    verb = await client.ask("loglik", model="linear", inputs=X.tolist())
    texts = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in verb["status"])
    scores = np.array(verb["log_likelihood"], "<f8").tobytes()
    assert answer.content[end:] == texts + scores
    sizes = [output.get("parameters", {}).get("binary_data_size") for output in said["outputs"]]
    assert sizes == [len(texts), None, len(scores)]
    assert data(said, "p_value") == verb["p_value"]


async def test_one_parameter_makes_every_output_bytes_but_those_that_say_otherwise(client: Client) -> None:
    parameters = {"seed": 1, "n": 2, "binary_data_output": True}
    url = "/v2/models/linear.sample/infer"
    answer = await client.post(url, json={"inputs": [], "parameters": parameters})
    rows = np.frombuffer(answer.content[int(answer.headers[HEADER]) :], "<f4").reshape(2, 3)
    assert rows.tobytes() == (await client.npy("sample", model="linear", n=2, seed=1)).tobytes()
    output = {"name": "samples", "parameters": {"binary_data": False}}
    said = await infer(client, "linear.sample", parameters=parameters, outputs=[output])
    assert np.array(data(said, "samples"), np.float32).tobytes() == rows.tobytes()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_bodies_may_be_compressed(client: Client, coding: str) -> None:
    rows = np.tile(X, (300, 1))
    content, headers = body_of({"inputs": [binary(rows)]}, rows)
    squeezed = gzip.compress(content) if coding == "gzip" else zlib.compress(content)
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    answer = await client.post("/v2/models/linear.loglik/infer", content=squeezed, headers=headers)
    assert answer.headers["content-encoding"] == coding
    assert int(answer.headers["content-length"]) < len(answer.content)
    plain = {HEADER: headers[HEADER], "Accept-Encoding": "identity"}
    same = await client.post("/v2/models/linear.loglik/infer", content=content, headers=plain)
    assert "content-encoding" not in same.headers
    assert answer.content == same.content


async def test_a_large_body_is_inflated_on_a_thread_to_the_same(client: Client) -> None:
    rows = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    content, headers = body_of({"inputs": [binary(rows, "x")], "outputs": [{"name": "z"}]}, rows)
    url, accept = "/v2/models/linear.encode/infer", {"Accept-Encoding": "gzip"}
    squeezed = gzip.compress(content, 1)
    many = await client.post(url, content=squeezed, headers=headers | accept | {"Content-Encoding": "gzip"})
    plain = await client.post(url, content=content, headers=headers)
    assert many.content == plain.content


async def test_what_would_inflate_beyond_the_limit_is_refused(quick: Path) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    headers = {"Content-Encoding": "gzip"}
    async with serving(quick, max_body_mb=1) as small:
        answer = await small.post("/v2/models/linear.sample/infer", content=bomb, headers=headers)
    assert len(bomb) < 100_000
    assert "more than 1000000 bytes inflated" in error(answer, 413)


@pytest.mark.parametrize(
    ("coding", "content", "status", "why"),
    [
        ("gzip", b'{"inputs": []}', 422, "is not gzip"),
        ("gzip", gzip.compress(b'{"inputs": []}', mtime=0)[:-4], 422, "no end"),
        (
            "gzip",
            gzip.compress(b'{"inputs"', mtime=0) + gzip.compress(b": []}", mtime=0),
            422,
            "more than one part",
        ),
        ("deflate", b"\x00" * 9, 422, "is not deflate"),
        ("br", b'{"inputs": []}', 415, "allowed: gzip, deflate, identity"),
    ],
)
async def test_a_body_that_is_not_what_its_coding_says_is_refused(
    client: Client, coding: str, content: bytes, status: int, why: str
) -> None:
    headers = {"Content-Encoding": coding}
    answer = await client.post("/v2/models/linear.sample/infer", content=content, headers=headers)
    assert why in error(answer, status)


# What it refuses --------------------------------------------------------------------------------------------

ROWS = tensor(X)
REFUSED: list[tuple[str, Any, str]] = [
    ("linear.loglik", {"inputs": []}, "/inputs/inputs is missing; allowed: FP32 of shape [n, 3]"),
    ("linear.loglik", {}, "/inputs is missing"),
    ("linear.loglik", {"inputs": [{**ROWS, "name": "rows"}]}, "/inputs/rows is there; allowed: the inputs"),
    ("linear.loglik", {"inputs": [ROWS, ROWS]}, "each name once"),
    ("linear.loglik", {"inputs": [{**ROWS, "shape": [6]}]}, "/inputs/inputs/shape is [6]; allowed: [n, 3]"),
    ("linear.loglik", {"inputs": [{**ROWS, "shape": [3, 3]}]}, "allowed: 9 values"),
    ("linear.loglik", {"inputs": [{**ROWS, "shape": [0, 3]}]}, "/inputs/0/shape/0"),
    ("linear.loglik", {"inputs": [{**ROWS, "data": [[1, 2], [3]]}]}, "nested or flat"),
    ("linear.loglik", {"inputs": [{**ROWS, "data": [1, 2, 3, 4, 5, "6"]}]}, "/inputs/inputs/data/5 is '6'"),
    ("linear.loglik", {"inputs": [{**ROWS, "data": [1, 2, 3, 4, 5, 1e300]}]}, "/inputs/inputs/data/5"),
    ("linear.loglik", {"inputs": [{**ROWS, "data": None}]}, "/inputs/inputs/data is missing"),
    ("linear.loglik", {"inputs": [{**ROWS, "datatype": "BYTES"}]}, "/inputs/inputs/datatype is 'BYTES'"),
    ("linear.loglik", {"inputs": [{**ROWS, "datatype": "FP16"}]}, "FP16 as binary data"),
    (
        "linear.loglik",
        {"inputs": [{**ROWS, "datatype": "INT64", "data": [1.5] * 6}]},
        "/inputs/inputs/data/0",
    ),
    (
        "linear.loglik",
        {"inputs": [{**ROWS, "parameters": {"shared_memory_region": "a"}}]},
        "binary_data_size",
    ),
    ("linear.loglik", {"inputs": [ROWS], "outputs": [{"name": "score"}]}, "/outputs is 'score'"),
    ("linear.loglik", {"inputs": [ROWS], "outputs": [{"name": "status"}] * 2}, "each once"),
    (
        "linear.loglik",
        {"inputs": [ROWS], "outputs": [{"name": "status", "parameters": {"classification": 3}}]},
        "binary_data, a boolean",
    ),
    ("linear.sample", {"inputs": [], "parameters": {"sead": 1}}, "/parameters/sead is 1"),
    ("linear.sample", {"inputs": [], "parameters": {"seed": -1}}, "/parameters/seed is -1"),
    ("linear.sample", {"inputs": [], "parameters": {"model": "other"}}, "/parameters/model is 'other'"),
    ("linear.sample", {"inputs": [], "parameters": {"timeout": 0}}, "microseconds > 0"),
    ("linear.sample", {"inputs": [], "parameters": {"binary_data_output": 1}}, "true or false"),
    ("linear.sample", {"inputs": [], "unknown": 1}, "/unknown is 1"),
    (
        "linear.reconstruct",
        {"inputs": [ROWS], "parameters": {"directions.up": 1}},
        "the directions of linear",
    ),
    (
        "linear.reconstruct",
        {"inputs": [ROWS], "parameters": {"directions": 1, "directions.up": 1}},
        "not both",
    ),
    ("linear.encode", {"inputs": [tensor(X, "x")], "parameters": {"k": 1}}, "an entry point has none"),
    (
        "gaussian-vae.log_weight",
        {"inputs": [tensor(X, "x"), tensor(X[:1, :2], "eps")]},
        "/inputs/eps/shape is 1 rows; allowed: 2",
    ),
    (
        "conditional.sample",
        {"inputs": [{"name": "label", "shape": [1], "datatype": "FP32", "data": [1]}]},
        "/inputs/label/datatype is 'FP32'",
    ),
    ("conditional.sample", {"inputs": []}, "/label is missing"),
]


@pytest.mark.parametrize(("model", "fields", "why"), REFUSED)
async def test_what_is_wrong_is_named_with_what_is_allowed(
    client: Client, model: str, fields: Any, why: str
) -> None:
    answer = await client.post(f"/v2/models/{model}/infer", json=fields)
    assert why in error(answer, 422)


@pytest.mark.parametrize(
    ("content", "header", "why"),
    [
        (b"", None, "JSON"),
        (b'{"inputs": []}', "15", "0 to 14"),
        (b'{"inputs": []}', "-1", "0 to 14"),
        (b'{"inputs": []}', "١", "0 to 14"),
        (b'{"inputs": []}left over', "14", "9 bytes lie behind the JSON; its inputs announce 0"),
    ],
)
async def test_a_body_whose_parts_do_not_add_up_is_refused(
    client: Client, content: bytes, header: str | None, why: str
) -> None:
    headers = {} if header is None else {HEADER: header.encode()}
    answer = await client.post("/v2/models/linear.sample/infer", content=content, headers=headers)
    assert why in error(answer, 422)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"parameters": {"binary_data_size": 20}}, "its inputs announce 20"),
        ({"parameters": {"binary_data_size": -24}}, "a number of bytes"),
        ({"parameters": {"binary_data_size": True}}, "a number of bytes"),
        ({"data": [1]}, "no data beside it"),
        ({"shape": [1, 3]}, "allowed: 12"),
        ({"datatype": "FP64"}, "allowed: 48"),
    ],
)
async def test_bytes_that_do_not_fill_their_tensor_are_refused(
    client: Client, change: dict[str, Any], why: str
) -> None:
    content, headers = body_of({"inputs": [{**binary(X), **change}]}, X)
    answer = await client.post("/v2/models/linear.loglik/infer", content=content, headers=headers)
    assert why in error(answer, 422)


async def test_numbers_that_are_not_finite_are_refused_as_bytes_too(client: Client) -> None:
    bad = X.copy()
    bad[1, 2] = np.nan
    content, headers = body_of({"inputs": [binary(bad)]}, bad)
    answer = await client.post("/v2/models/linear.loglik/infer", content=content, headers=headers)
    assert "/inputs/1/2 is nan" in error(answer, 422)


async def test_more_rows_than_one_request_may_have_are_413(quick: Path) -> None:
    async with serving(quick, max_rows=2) as small:
        three = np.zeros((3, 3), np.float32)
        for model, inputs in (("encode", [tensor(three, "x")]), ("loglik", [tensor(three)]), ("sample", [])):
            fields = {"inputs": inputs, "parameters": {} if inputs else {"n": 3}}
            answer = await small.post(f"/v2/models/linear.{model}/infer", json=fields)
            assert "at most 2" in error(answer, 413)


async def test_a_deadline_in_microseconds_is_kept(client: Client) -> None:
    waiting = {"inputs": [], "parameters": {"n": 512, "seed": 1, "timeout": 1000}}
    answer = await client.post("/v2/models/slow.sample/infer", json=waiting)
    error(answer, 504)


async def test_a_row_on_which_the_graph_fails_is_named(client: Client) -> None:
    rows = tensor(np.array([[0], [-1]], np.float32), "z")
    answer = await client.post("/v2/models/poison.decode/infer", json={"inputs": [rows]})
    assert "failed on 1 of 2 rows" in error(answer, 500)
