"""The command line: ``python -m training``, and what comes after it."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.manifest import Metric
from models.noise import Address
from training import Mistake, bulk
from training.amend import add_direction, from_files, from_recipe
from training.attributes import ALLOWED
from training.compare import apart, draw, numbers, open_runs
from training.evaluate import evaluate
from training.export import export
from training.fit import fit, leads
from training.folder import find as find_artifact
from training.gauges import collapse
from training.jobs import Job, of_draw, of_rows
from training.on_ray import on_ray
from training.pack import pack
from training.recipe import Recipe, find, published, read
from training.run import Run
from training.table import page

Command = Callable[[argparse.Namespace], None]

ENGINES: Final[dict[str, bulk.Engine]] = {"local": bulk.local, "ray": on_ray}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 for success, 2 where the caller can put something right.
    """
    args = parser().parse_args(arguments)
    try:
        args.command(args)
    except Mistake as mistake:
        print(f"training: {mistake}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train generative models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    artifacts = _parent()
    artifacts.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), metavar="DIR", help="holds what is exported"
    )
    _add_runs(commands, artifacts)
    artifact = _parent(artifacts)
    artifact.add_argument("artifact", metavar="ARTIFACT", help="a model's name, name/version, or its folder")
    _command(commands, "table", _table, "the certificates of all artifacts, in Markdown", artifacts)
    _add_direction(commands, artifact)
    _add_bulk(commands, artifact)
    packing = _command(commands, "pack", _pack, "make an artifact of a graph from elsewhere", artifacts)
    packing.add_argument("spec", type=Path, metavar="SPEC", help="a .toml file that describes the graph")
    return parser


def _parent(*parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Options that several commands have."""
    return argparse.ArgumentParser(add_help=False, parents=parents)


def _command(
    commands: Any, name: str, run: Command, what: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, parents=parents)
    command.set_defaults(command=run)
    return command


def _add_runs(commands: Any, artifacts: argparse.ArgumentParser) -> None:
    """The commands that train, and look at what was trained."""
    home = _parent()
    home.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="holds the run folders")
    runs = _parent(home)
    runs.add_argument("--data", type=Path, metavar="PATH", help="the file or folder that the recipe reads")

    one = _parent(runs)
    one.add_argument("run", metavar="RUN", help="a run's name, or its folder")

    _command(commands, "list", _list, "the recipes, what they take and give")

    run = _command(commands, "run", _run, "train and evaluate recipes", runs, artifacts)
    run.add_argument("recipes", nargs="+", metavar="RECIPE", help="a name from `list`, or a .toml file")
    run.add_argument("--resume", action="store_true", help="go on with the runs that are there already")
    run.add_argument("--export", action="store_true", help="make artifacts of them too")
    run.add_argument(
        "--devices", type=int, default=1, metavar="N", help="processes, or GPUs, that share every batch"
    )

    _command(commands, "evaluate", _evaluate, "measure a run and draw it", one)

    comparing = _command(commands, "compare", _compare, "draw runs side by side", home)
    comparing.add_argument("compared", nargs="+", metavar="RUN", help="a run's name, or its folder")
    comparing.add_argument(
        "--out", type=Path, default=Path("compare.png"), metavar="FILE", help="the picture to write"
    )

    _command(commands, "export", _export, "make an artifact of a run", one, artifacts)


def _add_direction(commands: Any, artifact: argparse.ArgumentParser) -> None:
    what = "fit a direction of a model's latents, as its next version"
    direction = _command(commands, "direction", _direction, what, artifact)
    direction.add_argument("name", metavar="NAME", help="what callers will name it by")
    source = direction.add_mutually_exclusive_group(required=True)
    source.add_argument("--attribute", help=f"of the rows that the model was trained on: {ALLOWED}")
    source.add_argument("--rows", type=Path, metavar="FILE", help="rows of your own, .npy or .csv")
    direction.add_argument(
        "--labels", type=Path, metavar="FILE", help="a number for each row: 0 and 1, or any"
    )
    direction.add_argument(
        "--classes", type=Path, metavar="FILE", help="of the rows, for models that take them"
    )
    direction.add_argument("--data", type=Path, metavar="PATH", help="where the recipe's data lie")


def _add_bulk(commands: Any, artifact: argparse.ArgumentParser) -> None:
    """The commands that put many rows through an exported model."""
    many = _parent(artifact)
    many.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the result: .npy, .npz, .csv or .parquet"
    )
    many.add_argument(
        "--label", metavar="CLASS", help="of every row, by name or number, or a file with that of each"
    )
    many.add_argument(
        "--engine", choices=list(ENGINES), default="local", help="what computes: this process, or Ray"
    )
    rows = _parent()
    rows.add_argument("rows", type=Path, metavar="ROWS", help="the rows: .npy, .csv or .parquet")

    scoring = _command(commands, "score", _score, "the log-likelihoods of a file of rows", many, rows)
    scoring.add_argument("--k", type=int, help="importance samples of an estimate; by default as calibrated")
    scoring.add_argument("--seed", type=int, help="of the noise behind an estimate; by default as calibrated")

    _command(commands, "encode", _encode, "the codes of a file of rows", many, rows)

    drawing = _command(commands, "draw", _draw, "samples of a seed, as many as you like", many)
    drawing.add_argument("-n", type=int, required=True, metavar="N", help="how many")
    drawing.add_argument("--seed", type=int, default=0, help="of their noise (default 0)")
    drawing.add_argument("--offset", type=int, default=0, help="the number of the first (default 0)")
    drawing.add_argument("--temperature", type=float, default=1.0, help="scales the codes (default 1)")
    drawing.add_argument("--truncation", type=float, default=math.inf, help="the largest size of a code")


def _list(args: argparse.Namespace) -> None:
    rows = [("RECIPE", "FAMILY", "DATA", "TIME, 2 CORES", "RESULT")]
    for path in published():
        recipe = read(path)
        data, expected = getattr(recipe.data, "toy", recipe.data.source), recipe.expected
        rows.append((recipe.name, recipe.model.family, data, _minutes(expected.minutes), expected.result))
    _print_columns(rows)


def _minutes(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 1 else f"{minutes:.0f} min"


def _run(args: argparse.Namespace) -> None:
    # Every recipe is read before the first is trained: a slip in the last one shows at once.
    recipes = {path: read(path) for path in map(find, args.recipes)}
    if args.devices > 1 and len(recipes) > 1:
        raise Mistake(
            f"--devices is {args.devices} for {len(recipes)} recipes; allowed is one recipe at a time"
        )
    for path, recipe in recipes.items():
        started = time.monotonic()
        folder = args.runs / recipe.name
        fit(recipe, folder, args.resume, _data_root(args.data, recipe, path), args.devices)
        if not leads():
            return
        shutil.copyfile(path, folder / "recipe.toml")
        print(f"{recipe.name}: trained in {time.monotonic() - started:.0f} s, in {folder}")
        run = Run.open(folder, args.data)
        _print(evaluate(run))
        if args.export:
            print(f"{recipe.name}: exported to {export(run, args.artifacts)}")


def _data_root(option: Path | None, recipe: Recipe, path: Path) -> Path | None:
    """Where the data lie: as said on the command line, or in the recipe, relative to its file."""
    written = getattr(recipe.data, "path", None)
    return option or (path.parent / written if written else None)


def _evaluate(args: argparse.Namespace) -> None:
    _print(evaluate(_open(args)))


def _compare(args: argparse.Namespace) -> None:
    runs = open_runs([_folder(args, name) for name in args.compared])
    _print_columns(numbers(runs))
    if (sentence := apart(runs)) is not None:
        print(sentence)
    draw(runs).savefig(args.out)
    print(f"drawn to {args.out}")


def _export(args: argparse.Namespace) -> None:
    print(f"exported to {export(_open(args), args.artifacts)}")


def _table(args: argparse.Namespace) -> None:
    print(page(args.artifacts), end="")


def _direction(args: argparse.Namespace) -> None:
    if (args.rows is None) != (args.labels is None):
        raise Mistake("--rows and --labels go together: a file of rows, and one with a number for each")
    rows = (
        from_recipe(args.attribute, args.data)
        if args.rows is None
        else from_files(args.name, args.rows, args.labels, args.classes)
    )
    folder = add_direction(find_artifact(args.artifacts, args.artifact), args.name, rows)
    print(f"{args.name} is in {folder}")


def _score(args: argparse.Namespace) -> None:
    options = {"k": args.k, "seed": args.seed}
    folder = find_artifact(args.artifacts, args.artifact)
    _compute(args, of_rows("score", folder, args.rows, args.out, args.label, options))


def _encode(args: argparse.Namespace) -> None:
    folder = find_artifact(args.artifacts, args.artifact)
    _compute(args, of_rows("encode", folder, args.rows, args.out, args.label))


def _draw(args: argparse.Namespace) -> None:
    address = Address(args.seed, args.offset, scale=args.temperature, truncation=args.truncation)
    folder = find_artifact(args.artifacts, args.artifact)
    _compute(args, of_draw(folder, args.n, address, args.label))


def _compute(args: argparse.Namespace, job: Job) -> None:
    tally = bulk.run(job, args.out, ENGINES[args.engine])
    said = ", ".join(f"{count} {what}" for what, count in tally.most_common() if count)
    print(f"{job.rows} rows in {args.out}: {said}")


def _pack(args: argparse.Namespace) -> None:
    print(f"packed to {pack(args.spec, args.artifacts)}")


def _open(args: argparse.Namespace) -> Run:
    return Run.open(_folder(args, args.run), args.data)


def _folder(args: argparse.Namespace, name: str) -> Path:
    """A run's folder, of its name or its path."""
    named: Path = args.runs / name
    return named if named.is_dir() else Path(name)


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print(metrics: Mapping[str, Metric]) -> None:
    for name, metric in metrics.items():
        error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
        print(f"  {name:<26}{metric.value:>10.4f}{error} {metric.unit} ({metric.kind})")
    if (sentence := collapse(metrics)) is not None:
        print(f"  {sentence}")
