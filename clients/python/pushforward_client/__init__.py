"""A Pushforward service, from Python: NumPy arrays in and out, downloads that go on where they broke.

from pushforward_client import Client

with Client("http://127.0.0.1:8000") as client:
    for rows in client.sample("flow-moons", n=1_000_000, seed=7):
        ...
"""

from pushforward_client.aio import AsyncClient, AsyncSamples
from pushforward_client.answers import Likelihood, Model, Walk
from pushforward_client.client import Client, Samples
from pushforward_client.download import Wanted
from pushforward_client.errors import (
    CapabilityAbsent,
    DeadlinePassed,
    Draining,
    EngineDead,
    Internal,
    InvalidInput,
    LatentSpaceMismatch,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    NotReady,
    OverLimit,
    PushforwardError,
    QueueFull,
    Refused,
    RowFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    UnknownLatent,
    UnknownModel,
    UnknownVersion,
    Unreachable,
    Unresumable,
    UnsupportedMediaType,
)
from pushforward_client.latents import Address, Latents
from pushforward_client.patience import Patience

__all__ = [
    "Address",
    "AsyncClient",
    "AsyncSamples",
    "CapabilityAbsent",
    "Client",
    "DeadlinePassed",
    "Draining",
    "EngineDead",
    "Internal",
    "InvalidInput",
    "LatentSpaceMismatch",
    "Latents",
    "Likelihood",
    "MethodNotAllowed",
    "Model",
    "NotAcceptable",
    "NotFound",
    "NotReady",
    "OverLimit",
    "Patience",
    "PushforwardError",
    "QueueFull",
    "Refused",
    "RowFailed",
    "Samples",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownLatent",
    "UnknownModel",
    "UnknownVersion",
    "Unreachable",
    "Unresumable",
    "UnsupportedMediaType",
    "Walk",
    "Wanted",
]
