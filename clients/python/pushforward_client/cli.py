"""The command ``pushforward``: what the client can, from a shell, with files in and out."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pushforward_client.answers import Model
from pushforward_client.calls import End, slices
from pushforward_client.client import Client, Samples
from pushforward_client.errors import PushforwardError
from pushforward_client.latents import Address
from pushforward_client.patience import Patience
from pushforward_client.progress import bar
from pushforward_client.tables import flat, read, table

ADDRESS: Final = re.compile(r"(\d+):(\d+)")
ROW_OF_FILE: Final = re.compile(r"(.+\.(?:npy|csv)):(\d+)")
SCORES: Final = ("log_likelihood", "bits_per_dim", "standard_error", "p_value", "status")

Array = NDArray[Any]
Command = Callable[[Client, argparse.Namespace], None]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of an output: as an array, and as the columns of a table."""

    main: Array
    columns: Mapping[str, Array]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(arguments)
    try:
        with Client(options.url, options.key, Patience(options.timeout_s)) as client:
            run: Command = options.run
            run(client, options)
    except BrokenPipeError:  # whoever reads has enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PushforwardError, ValueError, OSError) as error:
        print(f"pushforward: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\npushforward: stopped; the same command goes on with a .npy file that was begun",
            file=sys.stderr,
        )
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser("pushforward", description="Ask a Pushforward service.")
    parser.add_argument("--url", help="of the service (PUSHFORWARD_URL, or http://127.0.0.1:8000)")
    parser.add_argument("--key", help="for services that ask for one (better in PUSHFORWARD_KEY)")
    parser.add_argument("--timeout-s", type=float, default=60.0, help="for one answer, with its retries (60)")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(verbs, "models", _models, "what is served")
    sample = _command(verbs, "sample", _sample, "draw rows of a seed", model=True)
    sample.add_argument("-n", type=int, default=1, help="how many (1)")
    sample.add_argument("--seed", type=int, help="whose rows; drawn and said if absent")
    sample.add_argument("--offset", type=int, default=0, help="the first row (0)")
    sample.add_argument("--temperature", type=float, default=1.0, help="multiplies the noise (1)")
    sample.add_argument("--truncation", type=float, help="the largest size of the noise")
    _outputs(sample, pictures=True)
    loglik = _command(verbs, "loglik", _loglik, "score rows", model=True)
    _inputs(loglik)
    loglik.add_argument("-k", type=int, help="draws of an estimate")
    loglik.add_argument("--seed", type=int, help="of the noise behind an estimate")
    _outputs(loglik)
    encode = _command(verbs, "encode", _encode, "give rows their codes", model=True)
    _inputs(encode)
    _outputs(encode)
    walk = _command(verbs, "interpolate", _interpolate, "walk between two codes", model=True)
    for end in ("start", "end"):
        walk.add_argument(end, help="SEED:INDEX, a picture, or FILE.npy:ROW")
    walk.add_argument("--steps", type=int, default=8, help="the ends among them (8)")
    walk.add_argument("--path", choices=("slerp", "lerp"), help="as suits the prior, if absent")
    _outputs(walk, pictures=True)
    return parser


def _command(verbs: Any, name: str, run: Command, what: str, model: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    parser.set_defaults(run=run)
    if model:
        parser.add_argument("model", help="its name")
        parser.add_argument("--version", help="the newest if absent")
        parser.add_argument("--label", help="the class, for models that take one: its number or its name")
    return parser


def _inputs(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--csv", type=Path, dest="rows", help="rows, with or without a line of names")
    given.add_argument("--npy", type=Path, dest="rows", help="rows as one array")


def _outputs(parser: argparse.ArgumentParser, pictures: bool = False) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", type=Path, help="a .npy or a .csv; CSV on the standard output if absent"
    )
    if pictures:
        where.add_argument("--png", type=Path, help="a grid of pictures")


def _models(client: Client, options: argparse.Namespace) -> None:
    lines = [("MODEL", "VERSION", "DATA", "DENSITY", "LATENTS", "GENERATOR", "COMMANDS")]
    for model in client.models():
        shape = "×".join(map(str, model.data_shape))
        grades = model.density, model.latents, model.generator
        lines.append((model.name, model.version, shape, *grades, " ".join(model.verbs)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _sample(client: Client, options: argparse.Namespace) -> None:
    rows = client.sample(
        options.model,
        options.n,
        options.seed,
        options.offset,
        options.temperature,
        options.truncation,
        _label(options.label),
        options.version,
    )
    seed = rows.seed
    if options.png is not None:
        options.png.write_bytes(rows.png())
    elif _ends_in_npy(options):
        seed = _save(rows, options)
    else:
        model = client.describe(options.model, options.version)
        _write(options, options.n, (Part(chunk, flat(chunk, model, "x")) for chunk in rows))
    print(f"pushforward: rows from {options.offset} on, of seed {seed}", file=sys.stderr)


def _save(rows: Samples, options: argparse.Namespace) -> int:
    """Into a file that is gone on with where it was begun, which may be of another seed than a new one."""
    with bar(options.n, options.model) as count:
        return rows.save(options.output, count).seed


def _loglik(client: Client, options: argparse.Namespace) -> None:
    model = client.describe(options.model, options.version)
    rows = read(options.rows, model)

    def scored(part: Array) -> Part:
        found = client.loglik(model.name, part, options.k, options.seed, _label(options.label), model.version)
        columns = {name: column for name in SCORES if (column := getattr(found, name)) is not None}
        return Part(found.log_likelihood, columns)

    _write(options, len(rows), (scored(part) for part, _ in slices(rows, None)))


def _encode(client: Client, options: argparse.Namespace) -> None:
    model = client.describe(options.model, options.version)
    rows = read(options.rows, model)

    def encoded(part: Array) -> Part:
        codes = client.encode(model.name, part, _label(options.label), model.version).vectors
        return Part(codes, flat(codes, None, "z"))

    _write(options, len(rows), (encoded(part) for part, _ in slices(rows, None)))


def _interpolate(client: Client, options: argparse.Namespace) -> None:
    model = client.describe(options.model, options.version)
    asked = {"steps": options.steps, "path": options.path, "label": _label(options.label)}
    start, end = (_end(text, model) for text in (options.start, options.end))
    if options.png is not None:
        drawn = client.picture(
            "interpolate", model.name, start=start, end=end, version=model.version, **asked
        )
        options.png.write_bytes(drawn)
        return
    walk = client.interpolate(model.name, start, end, version=model.version, **asked)
    columns = {"t": walk.t, **flat(walk.samples, model, "x")}
    _write(options, len(walk.t), [Part(walk.samples, columns)])


def _label(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _end(text: str, model: Model) -> End:
    """An end of a walk: an address, a row of a file, or a file of one row.

    Raises:
        ValueError: for anything else.
    """
    if found := ADDRESS.fullmatch(text):
        return Address(int(found[1]), int(found[2]))
    file, row = (found[1], int(found[2])) if (found := ROW_OF_FILE.fullmatch(text)) else (text, 0)
    rows = read(Path(file), model)
    if row >= len(rows):
        raise ValueError(f"{text} names row {row}; {file} has {len(rows)}, counted from 0")
    return np.asarray(rows[row])


def _ends_in_npy(options: argparse.Namespace) -> bool:
    """Whether the output is an array, and no table.

    Raises:
        ValueError: if it is neither.
    """
    ending = ".csv" if options.output is None else options.output.suffix
    if ending not in (".npy", ".csv"):
        raise ValueError(f"the output is {options.output}; allowed: a name that ends in .npy or .csv")
    return bool(ending == ".npy")


def _write(options: argparse.Namespace, rows: int, parts: Iterable[Part]) -> None:
    """Write what was found as an array or as a table, while a bar counts."""
    if _ends_in_npy(options):
        with bar(rows, options.model) as count:
            np.save(options.output, np.concatenate([part.main for part in _counted(parts, count)]))
        return
    with table(options.output) as out, bar(rows, options.model) as count:
        for part in _counted(parts, count):
            out.append(part.columns)


def _counted(parts: Iterable[Part], count: Callable[[int], object]) -> Iterator[Part]:
    for part in parts:
        yield part
        count(len(part.main))
