"""The short way in, as bytes on a socket: what is unusual about a request is answered as by any server."""

from __future__ import annotations

import gc
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.front import HEADS, MAX_HEAD_BYTES, MAX_HEADS, OneWrite
from service.lane import Lane
from service.settings import Settings
from service.verbs import Short
from tests.integration.test_fuzz import InThread

BODY = b'{"model":"linear","n":2,"seed":7}'
IMPATIENT = "X-Request-Timeout-Ms: 300"
KEEP_ALIVE_S = 2


@pytest.fixture(scope="module")
def app(quick: Path) -> FastAPI:
    return create_app(Settings(artifacts=quick, redis_url=None))


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[tuple[str, int]]:
    with InThread(app, KEEP_ALIVE_S) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


@pytest.fixture
def line(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection; who waits on it for more than a few seconds waits in vain."""
    with socket.create_connection(address, timeout=5) as opened:
        yield opened


def asked(
    path: str = "/sample", body: bytes = BODY, *headers: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    head = [f"{method} {path} HTTP/{version}", "Host: here", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answered(line: socket.socket, already: bytes = b"") -> tuple[int, dict[str, str], bytes, bytes]:
    """Status, headers and body of the next answer, and what came behind it."""
    while b"\r\n\r\n" not in already:
        already += received(line)
    head, _, rest = already.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
    length = int(headers.get("content-length", 0))
    while len(rest) < length:
        rest += received(line)
    return int(first.split()[1]), headers, rest[:length], rest[length:]


def received(line: socket.socket) -> bytes:
    got = line.recv(1 << 16)
    assert got, "the connection was closed"
    return got


def closed(line: socket.socket) -> bool:
    return line.recv(1) == b""


def test_an_answer_has_its_head_its_body_and_the_id_of_the_request(line: socket.socket) -> None:
    line.sendall(asked("/sample", BODY, "X-Request-Id: order-1"))
    status, headers, body, rest = answered(line)
    assert (status, headers["content-type"], headers["x-request-id"]) == (200, "application/json", "order-1")
    assert headers["date"].endswith("GMT")
    assert len(json.loads(body)["samples"]) == 2
    assert rest == b""


def test_a_whole_number_of_thirty_digits_is_a_number(line: socket.socket) -> None:
    line.sendall(asked("/encode", b'{"model":"linear","inputs":[[123456789012345678901234567890,1,2]]}'))
    status, _, body, _ = answered(line)
    assert status == 200
    assert json.loads(body)["latents"][0][0] > 1e28


def test_requests_that_come_together_are_answered_in_order(line: socket.socket) -> None:
    bodies = [b'{"model":"linear","n":%d,"seed":7}' % n for n in (3, 1, 2)]
    line.sendall(b"".join(asked("/sample", body) for body in bodies))
    rest, counts = b"", []
    for _ in bodies:
        status, _, body, rest = answered(line, rest)
        counts.append(len(json.loads(body)["samples"]))
        assert status == 200
    assert counts == [3, 1, 2]


def seeded(seed: int, n: int = 1) -> bytes:
    """A body that is as long as that of every other seed of three digits."""
    return b'{"model":"linear","n":%d,"seed":%d}' % (n, seed)


def is_of(seed: int, answer: bytes) -> bool:
    return bool(json.loads(answer)["seed"] == seed)


def test_a_head_that_is_known_says_the_same_in_whatever_parts_it_comes(line: socket.socket) -> None:
    HEADS.clear()
    first, second = asked("/sample", seeded(100)), asked("/sample", seeded(101))
    cut = first.index(b"\r\n\r\n") + 4
    for parts, seeds in (
        ([first], [100]),
        ([second], [101]),
        ([first[:cut], first[cut:]], [100]),
        ([second[:20], second[20:-3], second[-3:]], [101]),
        ([first + second], [100, 101]),
        ([second, first], [101, 100]),
        ([second + first[:30], first[30:]], [101, 100]),
    ):
        for part in parts:
            line.sendall(part)
            time.sleep(0.03)
        rest = b""
        for seed in seeds:
            status, _, body, rest = answered(line, rest)
            assert status == 200
            assert is_of(seed, body)
        assert rest == b""
    assert first[:cut] in HEADS


@pytest.mark.parametrize(
    ("path", "body", "accept"),
    [
        ("/sample", b'{"model":"linear","n":900,"seed":7}', "application/json"),
        ("/sample", b'{"model":"linear","n":900,"seed":7}', "application/x-ndjson"),
        ("/sample", b'{"model":"linear","n":900,"seed":7}', "application/x-npz"),
        ("/sample", b'{"model":"linear","n":900,"seed":7}', "application/x-npy"),
        (
            "/interpolate",
            b'{"model":"linear","start":{"seed":1,"index":0},"end":{"seed":1,"index":1}}',
            "*/*",
        ),
        ("/encode", b'{"model":"linear","inputs":[[7,8,9]]}', "*/*"),
        ("/sample", b'{"model":"linear","n":0}', "*/*"),
        ("/sample", b'{"model":"linear"', "*/*"),
        ("/sample", b'{"model":"linear"}', "image/png"),
    ],
)
def test_a_known_head_is_answered_alike_whatever_the_answer_takes(
    line: socket.socket, path: str, body: bytes, accept: str
) -> None:
    HEADS.clear()
    answers = []
    for place in range(3):
        headers = [f"Accept: {accept}", f"X-Request-Id: order-{place // 2}"]
        line.sendall(asked(path, body, *headers))
        status, said, sent, rest = answered(line)
        if said.get("transfer-encoding") == "chunked":
            while not rest.endswith(b"0\r\n\r\n"):
                rest += received(line)
            sent, rest = rest, b""
        assert rest == b""
        assert said.pop("x-request-id") == f"order-{place // 2}"
        said = {name: value for name, value in said.items() if name not in ("date", "content-length")}
        answers.append((status, said, sent.replace(b"false", b"true")))
    assert answers[0] == answers[1] == answers[2]


def test_a_body_that_is_too_large_is_so_under_a_known_head_too(quick: Path) -> None:
    settings = Settings(artifacts=quick, redis_url=None, max_body_mb=0.0001)
    with InThread(create_app(settings), KEEP_ALIVE_S) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(3):
            with socket.create_connection((host, int(port)), timeout=5) as line:
                line.sendall(asked("/sample", BODY + b" " * 100))
                status, _, body, _ = answered(line)
            assert (status, json.loads(body)["code"]) == (413, "too_large")


def test_who_hangs_up_leaves_no_circle_either(address: tuple[str, int], held: Lane) -> None:
    def leave(times: int) -> None:
        for _ in range(times):
            with socket.create_connection(address, timeout=5) as leaving:
                leaving.sendall(asked())
                waits(held, 2)
            waits(held, 0)

    leave(3)
    gc.collect()
    gc.disable()
    try:
        leave(20)
        end = time.monotonic() + 5  # the watches forget them within a moment
        while (kept := sum(type(found) in (OneWrite, Short) for found in gc.get_objects())) >= 10:
            assert time.monotonic() < end, f"{kept} are kept"
            time.sleep(0.05)
    finally:
        gc.enable()


@pytest.fixture
def held(app: FastAPI, address: tuple[str, int], line: socket.socket) -> Iterator[Lane]:
    """A lane that runs nothing; the head of every request is known."""
    for message in (asked(), asked("/sample", BODY, IMPATIENT)):
        line.sendall(message)
        answered(line)
    lane: Lane = app.state.life.engine().find("linear")._lanes["decode"]
    lane._awake = True  # it believes that it will look by itself
    yield lane
    lane._awake = False


def waits(lane: Lane, rows: int) -> None:
    """Return when so many rows are in the queue."""
    end = time.monotonic() + 5
    while lane.waiting != rows:
        assert time.monotonic() < end, f"{lane.waiting} rows wait"
        time.sleep(0.005)


def in_flight(app: FastAPI) -> int:
    return int(app.state.life._in_flight)


def test_who_waits_too_long_is_told_so_in_time(app: FastAPI, line: socket.socket, held: Lane) -> None:
    began = time.monotonic()
    line.sendall(asked("/sample", BODY, IMPATIENT))
    status, _, body, _ = answered(line)
    assert status == 504
    assert json.loads(body)["detail"] == "no answer within 300 ms"
    assert time.monotonic() - began >= 0.25
    assert (held.waiting, in_flight(app)) == (0, 0)


def test_rows_of_who_hangs_up_leave_the_queue_at_once(
    app: FastAPI, address: tuple[str, int], held: Lane
) -> None:
    def hung_up() -> float:
        return float(app.state.life.metrics.requests.labels("sample", "linear", "499").total)

    before = hung_up()
    with socket.create_connection(address, timeout=5) as leaving:
        leaving.sendall(asked())
        waits(held, 2)
    waits(held, 0)
    assert (hung_up() - before, in_flight(app)) == (1, 0)


def test_what_waits_is_answered_when_it_has_run(app: FastAPI, line: socket.socket, held: Lane) -> None:
    line.sendall(asked())
    waits(held, 2)
    assert in_flight(app) == 1
    held._awake = False
    held._loop.call_soon_threadsafe(held._wake)
    assert answered(line)[0] == 200
    assert in_flight(app) == 0


def test_what_cannot_run_any_more_is_answered_with_the_reason(
    app: FastAPI, line: socket.socket, held: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    line.sendall(asked())
    waits(held, 2)
    monkeypatch.setattr("service.calls.Run.over", fails)
    held._awake = False
    held._loop.call_soon_threadsafe(held._wake)
    status, _, body, _ = answered(line)
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert in_flight(app) == 0


def test_a_head_means_the_same_on_another_connection(address: tuple[str, int], line: socket.socket) -> None:
    HEADS.clear()
    for seed in (200, 201):
        line.sendall(asked("/sample", seeded(seed), "X-Request-Id: mine"))
        assert answered(line)[1]["x-request-id"] == "mine"
    assert len(HEADS) == 1
    with socket.create_connection(address, timeout=5) as other:
        other.sendall(asked("/sample", seeded(202), "X-Request-Id: mine"))
        assert is_of(202, answered(other)[2])


@pytest.mark.parametrize(
    "headers",
    [
        ["Connection: close"],
        ["Expect: 100-continue"],
        ["X-Twice: 1", "X-Twice: 2"],
        [f"X-Long: {'x' * MAX_HEAD_BYTES}"],
    ],
    ids=["the last", "asks first", "twice", "long"],
)
def test_a_head_that_says_more_of_the_body_or_the_connection_is_never_known(
    line: socket.socket, headers: list[str]
) -> None:
    HEADS.clear()
    line.sendall(asked("/sample", BODY, *headers))
    got = received(line) if headers[0].startswith("Expect") else b""
    assert answered(line, got.partition(b"Continue\r\n\r\n")[2])[0] == 200
    assert not HEADS


def test_a_body_in_chunks_is_read_to_its_end(line: socket.socket) -> None:
    HEADS.clear()
    head = b"POST /sample HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    for seed in (300, 301):
        body = seeded(seed)
        line.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert is_of(seed, answered(line)[2])
    assert not HEADS


def test_strangers_cannot_fill_the_memory_with_heads(line: socket.socket) -> None:
    HEADS.clear()
    for number in range(MAX_HEADS + 10):
        line.sendall(asked("/sample", BODY, f"X-Request-Id: order-{number}"))
        assert answered(line)[1]["x-request-id"] == f"order-{number}"
    assert 0 < len(HEADS) <= MAX_HEADS


def test_a_body_may_come_in_parts(line: socket.socket) -> None:
    whole = asked()
    for part in (whole[:40], whole[40:-20], whole[-20:-1], whole[-1:]):
        line.sendall(part)
        time.sleep(0.05)
    assert answered(line)[0] == 200


def test_who_waits_to_be_told_to_go_on_is_told(line: socket.socket) -> None:
    head, _, body = asked("/sample", BODY, "Expect: 100-continue").partition(b"\r\n\r\n")
    line.sendall(head + b"\r\n\r\n")
    assert received(line).startswith(b"HTTP/1.1 100")
    line.sendall(body)
    assert answered(line)[0] == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_other_methods_are_refused_by_name(line: socket.socket, method: str) -> None:
    line.sendall(asked("/sample", b"", method=method))
    while b"\r\n\r\n" not in (got := received(line)):
        pass
    assert got.startswith(b"HTTP/1.1 405")
    assert b"allow: POST" in got.replace(b"Allow", b"allow")


@pytest.mark.parametrize(("headers", "version"), [(["Connection: close"], "1.1"), ([], "1.0")])
def test_who_wants_no_more_has_the_connection_closed(
    line: socket.socket, headers: list[str], version: str
) -> None:
    line.sendall(asked("/sample", BODY, *headers, version=version))
    status, said, _, _ = answered(line)
    assert (status, said["connection"]) == (200, "close")
    assert closed(line)


def test_a_path_with_a_query_is_the_same_path(line: socket.socket) -> None:
    line.sendall(asked("/sample?n=3"))
    status, headers, body, _ = answered(line)
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert "query" in json.loads(body)["detail"]


def test_what_is_no_http_is_refused_and_ends_the_connection(line: socket.socket) -> None:
    line.sendall(b"POST /sample\r\nnonsense\r\n\r\n")
    assert received(line).startswith(b"HTTP/1.1 400")


def test_an_answer_in_pieces_is_the_rows_of_the_answer_in_one(line: socket.socket) -> None:
    line.sendall(asked())
    rows = json.loads(answered(line)[2])["samples"]
    line.sendall(asked("/sample", BODY, "Accept: application/x-ndjson", "Connection: close"))
    got = b""
    while part := line.recv(1 << 16):
        got += part
    head, _, chunks = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    lines = [chunk for chunk in chunks.split() if chunk.startswith(b"[")]
    assert [json.loads(text) for text in lines] == rows


def test_an_idle_connection_is_closed_and_one_in_use_is_not(line: socket.socket) -> None:
    for _ in range(3):
        line.sendall(asked())
        assert answered(line)[0] == 200
        time.sleep(KEEP_ALIVE_S / 2)
    began = time.monotonic()
    assert closed(line)
    assert time.monotonic() - began < 3 * KEEP_ALIVE_S


@pytest.mark.parametrize(
    "message",
    [
        asked(),
        asked("/encode", b'{"model":"linear","inputs":[[1,2,3]]}'),
        asked("/loglik", b'{"model":"linear","inputs":[[1,2,3]]}'),
        asked("/encode", b'{"model":"linear","inputs":[[1]]}'),
        asked("/sample", b'{"model":"linear","n":-2}'),
        asked("/sample", b'{"model":"nobody","n":1}'),
        asked("/sample", b"{"),
        asked("/decode", b'{"model":"linear","ids":["none"]}'),
    ],
    ids=["sample", "encode", "loglik", "shape", "number", "model", "JSON", "id"],
)
def test_no_request_leaves_a_circle_for_the_garbage_collector(
    address: tuple[str, int], message: bytes
) -> None:
    def ask(times: int) -> None:
        # A line of its own: a collection may take so long that an idle one is closed meanwhile.
        with socket.create_connection(address, timeout=5) as line:
            for _ in range(times):
                line.sendall(message)
                answered(line)

    ask(5)
    gc.collect()
    gc.disable()
    try:
        ask(100)
        assert gc.collect() < 100
    finally:
        gc.enable()
