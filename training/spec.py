"""The description of somebody else's model: TOML, a page long. ``specs/example.toml`` explains every key."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, model_validator

from models.manifest import (
    Contract,
    DataSpace,
    DType,
    EntryName,
    Format,
    Grades,
    LatentSpace,
    Law,
    Metric,
    Name,
    Role,
)
from training import Mistake

# What an entry point is: the roles of which it has to take one, and the role that it has to give.
ROLES: Final[dict[EntryName, tuple[frozenset[Role], Role]]] = {
    "decode": (frozenset({"latent", "noise"}), "data"),
    "encode": (frozenset({"data"}), "latent"),
    "log_weight": (frozenset({"data"}), "log_weight"),
}
TAKEN: Final[frozenset[Role]] = frozenset({"data", "latent", "noise", "label"})
GIVEN: Final[frozenset[Role]] = frozenset({"data", "latent", "std", "log_weight"})


class Port(Contract):
    """What an input or output of a graph is.

    Attributes:
        source: its name inside the ONNX file, where that differs from the name it shall have.
        law: of noise.
        shape: of one row; needed for noise where the file leaves it open.
        dtype: needed for TorchScript alone, whose files do not tell.
    """

    role: Role
    source: str | None = None
    unit: str | None = None
    law: Law | None = None
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    dtype: DType | None = None


class EntrySpec(Contract):
    """One entry point: its files, and its inputs and outputs in the order in which TorchScript takes them."""

    onnx: str | None = None
    torchscript: str | None = None
    cost: float = Field(default=1.0, gt=0)
    inputs: dict[str, Port] = Field(min_length=1)
    outputs: dict[str, Port] = Field(min_length=1)

    @property
    def files(self) -> dict[Format, str]:
        """The files by format."""
        named: dict[Format, str | None] = {"onnx": self.onnx, "torchscript": self.torchscript}
        return {form: path for form, path in named.items() if path}

    def check(self, entry: EntryName) -> None:
        """Raise ValueError unless the roles make it this entry point."""
        if not self.files:
            raise ValueError(f"{entry} names no file; allowed are onnx, torchscript, or both")
        takes, gives = ROLES[entry]
        for ports, allowed in ((self.inputs, TAKEN), (self.outputs, GIVEN)):
            for name, port in ports.items():
                if port.role not in allowed:
                    raise ValueError(f"{entry}.{name} has role {port.role}; allowed are {listed(allowed)}")
        if not takes & {port.role for port in self.inputs.values()}:
            raise ValueError(
                f"{entry} takes no {' or '.join(sorted(takes))}; one input has to have that role"
            )
        if gives not in {port.role for port in self.outputs.values()}:
            raise ValueError(f"{entry} gives no {gives}; one output has to have that role")


class Spec(Contract):
    """A description of somebody else's model.

    Attributes:
        examples: a ``.npy`` file of rows that training never saw; they are what laws are tried on, and where
            there is a log_weight, what p-values are ranks among.
    """

    name: Name
    title: str = ""
    family: str
    paper: str
    data: DataSpace
    latent: LatentSpace | None = None
    grades: Grades
    examples: str | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    decode: EntrySpec | None = None
    encode: EntrySpec | None = None
    log_weight: EntrySpec | None = None

    @property
    def entries(self) -> dict[EntryName, EntrySpec]:
        """The entry points that the model has."""
        named: dict[EntryName, EntrySpec | None] = {
            "decode": self.decode,
            "encode": self.encode,
            "log_weight": self.log_weight,
        }
        return {entry: spec for entry, spec in named.items() if spec}

    @model_validator(mode="after")
    def _something_to_run(self) -> Spec:
        if not self.entries:
            raise ValueError("there is no entry point; allowed are decode, encode and log_weight")
        for entry, spec in self.entries.items():
            spec.check(entry)
        if self.examples is None and self.decode is None:
            raise ValueError("there are no examples and no decode to draw some from; give examples")
        return self


def read(path: Path) -> tuple[Spec, dict[str, Any]]:
    """A description from its file, checked and as it was written.

    Raises:
        Mistake: if it cannot be read, naming every key that is wrong.
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Mistake(f"{path} cannot be read as TOML: {error}") from error
    with sentences(str(path)):
        # Through JSON, where strictness still lets a list be a tuple and a whole number a float.
        return Spec.model_validate_json(json.dumps(written, default=str)), written


@contextlib.contextmanager
def sentences(source: str) -> Iterator[None]:
    """Turn what pydantic finds wrong into one sentence for each key."""
    try:
        yield
    except ValidationError as error:
        told = []
        for detail in error.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in detail["loc"])
            told.append(f"{where}: {detail['msg']}".removeprefix(": ").replace("Value error, ", ""))
        raise Mistake(f"{source}: " + "; ".join(told)) from error


def listed(names: Any) -> str:
    """Names in alphabetical order, for messages."""
    return ", ".join(sorted(map(str, names))) or "nothing"
