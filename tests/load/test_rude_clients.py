"""Clients that hang up half way, that send slowly, that never read: the others do not notice."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Service, until
from tests.load.conftest import Models
from tests.load.vitals import vitals
from tests.load.wire import connect, request, reset

pytestmark = pytest.mark.chaos

MANY = 60
DEADLINE_S = 1.0


def _whole(service: Service, fields: dict[str, object]) -> None:
    """Ask, and leave before the answer."""
    wire = connect(service.url)
    wire.sendall(request("sample", fields))
    reset(wire)


def _half_a_head(service: Service, fields: dict[str, object]) -> None:
    wire = connect(service.url)
    wire.sendall(request("sample", fields)[:40])
    reset(wire)


def _half_a_body(service: Service, fields: dict[str, object]) -> None:
    wire = connect(service.url)
    wire.sendall(request("sample", fields)[:-10])
    reset(wire)


def _half_an_answer(service: Service, fields: dict[str, object]) -> None:
    wire = connect(service.url, receive_bytes=4096)
    wire.sendall(request("sample", {**fields, "n": 50_000}))
    wire.recv(100)
    reset(wire)


def _half_a_stream(service: Service, fields: dict[str, object]) -> None:
    wire = connect(service.url, receive_bytes=4096)
    wire.sendall(request("sample", {**fields, "n": 2**40}, Accept="application/x-npy"))
    wire.recv(100)
    reset(wire)


def _sends_no_more(service: Service, fields: dict[str, object]) -> None:
    """Ask, say that nothing will follow, and leave before the answer."""
    wire = connect(service.url)
    wire.sendall(request("sample", fields))
    wire.shutdown(socket.SHUT_WR)
    wire.close()


@pytest.mark.parametrize(
    "leave",
    [
        _whole,
        _half_a_body,
        _half_a_stream,
        *(
            pytest.param(way, marks=pytest.mark.long)
            for way in (_half_a_head, _half_an_answer, _sends_no_more)
        ),
    ],
)
def test_clients_that_hang_up_half_way_cost_the_others_nothing_and_leave_nothing_behind(
    start: Start, models: Models, leave: Callable[[Service, dict[str, object]], None]
) -> None:
    service = start(models("linear_flow", "slow")).ready()
    fields: dict[str, object] = {"model": "slow", "n": 3, "seed": 1}
    alone = service.post("sample", **fields)
    before = _calm(service)
    with Load(service.url, lambda _: ("sample", fields), callers=4) as load:
        for i in range(MANY):
            leave(service, {**fields, "model": "linear" if "half" in leave.__name__ else "slow", "seed": i})
        seen = len(load.calls)
        until(lambda: len(load.calls) >= seen + 8, "the others are answered")
    assert all(call.body == alone for call in load.calls)
    _nothing_is_left(service, before)


def test_bodies_that_come_a_byte_at_a_time_end_with_their_deadline(start: Start, models: Models) -> None:
    service = start(models("linear_flow"), deadline_ms=1000 * DEADLINE_S).ready()
    fields: dict[str, object] = {"model": "linear", "n": 3, "seed": 1}
    alone = service.post("sample", **fields)
    before = _calm(service)
    whole = request("sample", {**fields, "seed": 10**9})
    slowly = len(whole) - 40
    with ExitStack() as stack, Load(service.url, lambda _: ("sample", fields), callers=2) as load:
        wires = [stack.enter_context(connect(service.url)) for _ in range(MANY)]
        for wire in wires:
            wire.sendall(whole[:slowly])
        began = time.monotonic()
        for place in range(slowly, slowly + 20):
            for wire in wires:
                wire.sendall(whole[place : place + 1])
            time.sleep(DEADLINE_S / 15)
        heads = [wire.recv(12) for wire in wires]
        assert time.monotonic() - began < 20
    assert set(heads) == {b"HTTP/1.1 504"}
    assert all(call.body == alone for call in load.calls)
    _nothing_is_left(service, before)


@pytest.mark.long
@pytest.mark.parametrize(
    ("accept", "n"),
    [("application/json", 100_000), ("application/x-npy", 2**40), ("application/x-ndjson", 2**40)],
)
def test_clients_that_never_read_are_given_up_and_their_memory_is_free_again(
    start: Start, models: Models, accept: str, n: int
) -> None:
    """An answer in one piece, or one in many: what the kernel does not take is thrown away in the end."""
    service = start(models("linear_flow"), deadline_ms=5000).ready()
    fields: dict[str, object] = {"model": "linear", "n": 3, "seed": 1}
    alone = service.post("sample", **fields)
    asked = request("sample", {"model": "linear", "n": n}, Accept=accept)
    for _ in range(2):  # what the allocator keeps of the first time, it uses for the second
        before = _calm(service)
        with ExitStack() as stack, Load(service.url, lambda _: ("sample", fields), callers=2) as load:
            wires = [stack.enter_context(connect(service.url, receive_bytes=4096)) for _ in range(4)]
            for wire in wires:
                wire.sendall(asked)
                assert wire.recv(12) == b"HTTP/1.1 200"
            time.sleep(6)
            load.finish()
            assert all(call.body == alone for call in load.calls)
            _nobody_waits(service)
            assert all(_left_over(wire) < 30 * n for wire in wires), "thirty bytes are less than a row"
    _nothing_is_left(service, before)


def _left_over(wire: socket.socket) -> int:
    """How much of an answer can still be read."""
    size = 0
    with suppress(ConnectionError):
        while got := wire.recv(1 << 20):
            size += len(got)
    return size


def test_a_client_that_asks_again_and_again_and_never_reads_is_not_listened_to_for_ever(
    start: Start, models: Models
) -> None:
    service = start(models("linear_flow"), deadline_ms=1000 * DEADLINE_S).ready()
    before = _calm(service)
    asked = request("sample", {"model": "linear", "n": 1000})
    with connect(service.url, receive_bytes=4096) as wire:
        wire.settimeout(1.0)
        assert _taken(wire, asked * 1000, times=1000) < 1000
        assert service.post("sample", model="linear")["samples"]
        grown = vitals(service.running.process.pid).resident_bytes - before
        assert grown < 32 << 20
    _nothing_is_left(service, before)


def _taken(wire: socket.socket, sent: bytes, times: int) -> int:
    """How often it could be sent until nobody took more."""
    for turn in range(times):
        try:
            wire.sendall(sent)
        except (TimeoutError, ConnectionError):
            return turn
    return times


def _calm(service: Service) -> int:
    """Descriptors of a service that nobody uses, and the memory of one that has been used."""
    for _ in range(20):
        service.post("sample", model="linear", n=1000)
    return vitals(service.running.process.pid).resident_bytes


def _nobody_waits(service: Service) -> None:
    until(lambda: service.metric("pushforward_requests_in_flight") <= 1, "only the scrape is in flight")
    until(lambda: service.metric("pushforward_queue_rows") == 0, "no rows are queued")


def _nothing_is_left(service: Service, resident_bytes: int) -> None:
    _nobody_waits(service)
    pid = service.running.process.pid
    until(lambda: vitals(pid).resident_bytes - resident_bytes < 32 << 20, "memory is free again")
    assert service.status("/health/ready") == 200
