"""The port that several processes share: held by the one that started them, listened on by each of them.

Linux gives every connection to one of the sockets that listen on an address with SO_REUSEPORT. That also lets
a stranger of the same user join unseen, so the port is held first, in a way that tells whether it is taken.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

Address = tuple[socket.AddressFamily, Any]
ANY: Final = 0  # the port that stands for one that is free


def hold(host: str, port: int) -> list[socket.socket]:
    """Keep a port for processes that will listen on it, on every address of the host.

    Args:
        port: ``ANY`` takes a free one, the same on every address.

    Returns:
        Sockets that do not listen; as long as they are open nobody takes the port who does not share it.

    Raises:
        OSError: if the port is taken, by whomsoever, or the host is no address of this machine.
    """
    with ExitStack() as undo:
        held: list[socket.socket] = []
        for family, address in _addresses(host, port):
            if held:
                address = (address[0], held[0].getsockname()[1], *address[2:])
            held.append(undo.enter_context(_bound(family, address, shared=True)))
            _refuse_company(held[-1])
        undo.pop_all()
        return held


def listeners(host: str, port: int) -> list[socket.socket]:
    """For one of the processes: a socket for each address of the host, bound to the port that is held."""
    return [_bound(family, address, shared=True) for family, address in _addresses(host, port)]


def _addresses(host: str, port: int) -> Iterable[Address]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, address) for family, *_, address in found if _exists(family))


def _exists(family: socket.AddressFamily) -> bool:
    """Whether the kernel has it: a name may stand for an IPv6 address where there is no IPv6."""
    try:
        socket.socket(family).close()
    except OSError:
        return False
    return True


def _bound(family: socket.AddressFamily, address: Any, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended a moment ago
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise _named(error, address) from None
    return made


def _refuse_company(held: socket.socket) -> None:
    """Make sure that nobody else has the port, and from now on takes it.

    Who listens without sharing, if only for a moment, finds anyone who listens or holds. Without
    SO_REUSEADDR the held socket then stands in the way of everybody who comes later and does the same.
    """
    address = held.getsockname()
    with _bound(held.family, address, shared=False) as alone:
        try:
            alone.listen()
        except OSError as error:
            raise _named(error, address) from None
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _named(error: OSError, address: Any) -> OSError:
    """The same, in the words that asyncio has for it."""
    reason = (error.strerror or str(error)).lower()
    return OSError(error.errno, f"error while attempting to bind on address {address!r}: {reason}")
