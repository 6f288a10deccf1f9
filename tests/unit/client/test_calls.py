"""Both clients have every call, with its own parameters and words."""

from __future__ import annotations

import inspect

import pytest

from pushforward_client import AsyncClient, Client, Latents, calls

CALLS = ("models", "describe", "encode", "decode", "reconstruct", "interpolate", "loglik", "picture")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_a_method_of_both_clients(name: str) -> None:
    call = inspect.signature(getattr(calls, name))
    for kind in (Client, AsyncClient):
        method = getattr(kind, name)
        me, *parameters = inspect.signature(method).parameters.values()
        assert me.name == "self"
        assert [given.name for given in parameters] == list(call.parameters)
        assert method.__doc__ == getattr(calls, name).__doc__
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name))


def test_help_says_what_a_method_gives_and_not_how() -> None:
    with Client() as client:
        said = inspect.signature(client.encode)
    assert list(said.parameters) == ["model", "inputs", "label", "version"]
    assert said.return_annotation is Latents


def test_the_two_clients_have_the_same_methods_but_for_how_they_are_entered() -> None:
    ours, theirs = ({name for name in vars(kind) if name[0] != "_"} for kind in (Client, AsyncClient))
    assert ours == theirs
