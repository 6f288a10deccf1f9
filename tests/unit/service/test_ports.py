"""A port is shared by those who hold it, and by nobody else."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.ports import ANY, hold, listeners

HOST = "127.0.0.1"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what is put into it."""
    with ExitStack() as stack:
        yield stack


def held(opened: ExitStack, host: str = HOST, port: int = ANY) -> int:
    """Hold a port, and give it."""
    sockets = [opened.enter_context(one) for one in hold(host, port)]
    (port,) = {one.getsockname()[1] for one in sockets}
    return port


def listening(opened: ExitStack, port: int) -> list[socket.socket]:
    sockets = [opened.enter_context(one) for one in listeners(HOST, port)]
    for one in sockets:
        one.listen()
    return sockets


def alone(opened: ExitStack, port: int) -> socket.socket:
    """Listen as a server does that shares nothing."""
    made = opened.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((HOST, port))
    made.listen()
    return made


@pytest.mark.parametrize("begun", [False, True])
def test_nobody_else_gets_it_neither_before_nor_after_they_listen(opened: ExitStack, begun: bool) -> None:
    port = held(opened)
    if begun:
        listening(opened, port)
    for other in (lambda: held(opened, HOST, port), lambda: alone(opened, port)):
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            other()


def test_who_holds_it_is_told_that_a_server_has_it_already(opened: ExitStack) -> None:
    port = alone(opened, 0).getsockname()[1]
    with pytest.raises(OSError, match=rf"bind on address \('127.0.0.1', {port}\): address already in use"):
        hold(HOST, port)


def test_connections_reach_all_who_listen_and_none_the_one_that_holds(opened: ExitStack) -> None:
    port = held(opened)
    servers = listening(opened, port) + listening(opened, port)
    for server in servers:
        server.setblocking(False)
    for _ in range(100):
        opened.enter_context(socket.create_connection((HOST, port)))
    accepted = Counter(_accepted(opened, server) for server in servers)
    assert sum(accepted) == 100
    assert min(accepted) > 0


def _accepted(opened: ExitStack, server: socket.socket) -> int:
    for count in range(101):
        try:
            opened.enter_context(server.accept()[0])
        except BlockingIOError:
            return count
    raise AssertionError("more than were sent")


def test_a_port_is_free_again_at_once_although_connections_to_it_have_just_ended(opened: ExitStack) -> None:
    with ExitStack() as first:
        port = held(first)
        (server,) = listening(first, port)
        client = first.enter_context(socket.create_connection((HOST, port)))
        server.accept()[0].close()  # it closes first, so that its side is the one that waits
        client.close()
    with ExitStack() as second:
        held(second, HOST, port)
    alone(opened, port)


def test_every_address_of_a_name_has_the_same_port(opened: ExitStack) -> None:
    port = held(opened, "localhost")
    families = {one.family for one in listening_on(opened, "localhost", port)}
    assert socket.AF_INET in families


def listening_on(opened: ExitStack, host: str, port: int) -> list[socket.socket]:
    return [opened.enter_context(one) for one in listeners(host, port)]


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_somebody_else_is_refused(host: str) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1|not known|resolution|No address"):
        hold(host, ANY)
