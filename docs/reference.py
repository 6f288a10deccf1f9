"""The reference, written from the code that it describes, so that it cannot say something else.

``docs/conf.py`` calls :func:`write` before Sphinx reads the pages. A page is a function that gives Markdown.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.manifest import Manifest
from pushforward_client.cli import parser as client_parser
from service import errors
from service.__main__ import parser as service_parser
from service.app import create_app
from service.errors import ServiceError
from service.settings import Settings
from training.cli import parser as training_parser

Schema = Mapping[str, Any]


def write(folder: Path) -> None:
    """Write every page that is not there as it should be."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", page() + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _attributes(docstring: str | None) -> dict[str, str]:
    """What the section ``Attributes:`` says of each name, on one line."""
    section = inspect.cleandoc(docstring or "").partition("\nAttributes:\n")[2].split("\n\n")[0]
    found: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), _words(text))
    return found


def _words(text: str) -> str:
    """On one line, with the code in it marked as Markdown does."""
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def _first(docstring: str | None) -> str:
    """The paragraphs before the first section."""
    text = inspect.cleandoc(docstring or "")
    kept = re.split(r"\n\n(?:Attributes|Args|Reference|Raises|Returns):", text)[0]
    return "\n\n".join(map(_words, kept.split("\n\n")))


# Settings


def settings() -> str:
    """Every knob of the service, with what it allows and its default."""
    meanings = _attributes(Settings.__doc__)
    properties = Settings.model_json_schema()["properties"]
    rows = (
        (
            f"`PUSHFORWARD_{name.upper()}`",
            _allowed(next(schema for key, schema in properties.items() if key.lower().endswith(name))),
            "none" if field.default is None else f"`{field.default}`",
            meanings[name],
        )
        for name, field in Settings.model_fields.items()
    )
    return "\n\n".join(
        ["# Settings", _first(Settings.__doc__), _table(("name", "allowed", "default", "meaning"), rows)]
    )


BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _allowed(schema: Schema) -> str:
    """The type of a value, in few words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        items = schema.get("items") or {
            "type": "/".join({_allowed(p) for p in schema.get("prefixItems", [])})
        }
        return f"list of {_allowed(items)}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties") or next(
            iter(schema.get("patternProperties", {}).values()), 0
        )
        return f"by name: {_allowed(inner)}" if isinstance(inner, dict) else "object"
    bounds = " ".join(f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema)
    pattern = f"like `{schema['pattern']}`" if "pattern" in schema else ""
    return " ".join(filter(None, [schema.get("format") or schema.get("type", "anything"), bounds, pattern]))


# Errors


def problems() -> str:
    """Every code that an answer may carry, from the tree of exceptions."""
    rows = sorted({(error.status, error.code, _meaning(error)) for error in _tree(ServiceError)})
    return "\n\n".join(
        [
            "# Errors",
            "What is refused comes back as `application/problem+json` ([RFC 9457]"
            "(https://www.rfc-editor.org/rfc/rfc9457)) with these members: `type`, `title`, `status`, `code`,"
            " `detail`, and what helps to put it right. Programs look at `code`, people read `detail`.",
            _table(
                ("status", "code", "when"),
                ((str(status), f"`{code}`", meaning) for status, code, meaning in rows),
            ),
        ]
    )


def _tree(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield error
    for leaf in error.__subclasses__():
        yield from _tree(leaf)


def _meaning(error: type[ServiceError]) -> str:
    """What the drawing at the top of ``errors.py`` says of the code, at its first class with a remark."""
    family = [kind for kind in _tree(ServiceError) if kind.code == error.code]
    drawn = (_drawn(kind.__name__) for kind in family)
    said = next(filter(None, drawn), "")
    return said or next((_first(kind.__doc__) for kind in family if kind.__doc__), "")


def _drawn(name: str) -> str:
    found = re.search(rf"── {name} *(?:\d{{3}})? *(.*)$", errors.__doc__ or "", re.MULTILINE)
    return found.group(1) if found else ""


# The manifest


def manifest() -> str:
    """Every part of ``manifest.json``, from the models that read it."""
    schema = Manifest.model_json_schema()
    parts = {"Manifest": schema, **schema["$defs"]}
    return "\n\n".join(
        [
            "# The manifest",
            "What `manifest.json` holds. Nothing unknown is allowed in it, and nothing is coerced.",
            *(_part(name, part) for name, part in parts.items()),
        ]
    )


def _part(name: str, schema: Schema) -> str:
    meanings = _attributes(schema.get("description"))
    needed = set(schema.get("required", ()))
    rows = (
        (
            f"`{field}`",
            _allowed(inner),
            "needed" if field in needed else f"`{inner.get('default')}`",
            meanings.get(field, ""),
        )
        for field, inner in schema["properties"].items()
    )
    said = _first(schema.get("description"))
    table = _table(("member", "allowed", "default", "meaning"), rows)
    return "\n\n".join(filter(None, [f"## {name}", said, table]))


# HTTP


def http() -> str:
    """Every call, with what it takes and gives, from the document that the service publishes."""
    document = create_app(Settings(artifacts=Path("artifacts"))).openapi()
    schemas = document["components"]["schemas"]
    used: dict[str, None] = {}
    calls = [
        _call(path, method, operation, used)
        for path, methods in sorted(document["paths"].items(), key=lambda item: item[0].startswith("/v2"))
        for method, operation in methods.items()
    ]
    return "\n\n".join(["# HTTP", INTRODUCTION, *calls, "## What travels", *_shapes(schemas, used)])


INTRODUCTION: Final = (
    "What a running service says at `/openapi.json`, for programs, and at `/docs`, to be tried."
)


def _call(path: str, method: str, operation: Schema, used: dict[str, None]) -> str:
    takes = _contents(operation.get("requestBody", {}).get("content", {}), used)
    answers = operation.get("responses", {})
    gives = _contents(answers.get("200", {}).get("content", {}), used)
    others = ", ".join(code for code in sorted(answers) if code != "200")
    lines = [
        f"## `{method.upper()} {path}`",
        _words(operation.get("description") or operation.get("summary", "")),
        f"- takes: {takes}" if takes else "",
        f"- gives: {gives}" if gives else "",
        f"- refuses with: {others}" if others else "",
    ]
    return "\n\n".join(filter(None, lines[:2])) + "\n\n" + "\n".join(filter(None, lines[2:]))


def _contents(content: Schema, used: dict[str, None]) -> str:
    """The forms of a body; a schema that has a name is noted as used."""
    said = []
    for form, body in content.items():
        name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name:
            used[name] = None
        said.append(f"`{form}`" + (f" ([{name}](#{name.lower()}))" if name else ""))
    return ", ".join(said)


def _shapes(schemas: Schema, used: dict[str, None]) -> Iterator[str]:
    """The schemas that are used, and those that these use."""
    waiting, seen = list(used), set(used)
    while waiting:
        name = waiting.pop(0)
        if "properties" in schemas[name]:
            yield _part(name, schemas[name]).replace("## ", "### ", 1)
        else:
            yield f"### {name}\n\n{_allowed(schemas[name])}"
        for inner in re.findall(r"#/components/schemas/(\w+)", str(schemas[name])):
            if inner not in seen:
                seen.add(inner)
                waiting.append(inner)


# Commands


def commands() -> str:
    """What every command says when it is asked for help."""
    parsers = {
        "python -m service": service_parser(),
        "python -m training": training_parser(),
        "pushforward": client_parser(),
    }
    return "\n\n".join(["# Commands", *(_help(name, parser) for name, parser in parsers.items())])


def _help(name: str, parser: argparse.ArgumentParser, level: int = 2) -> str:
    parser.prog = name
    parser.formatter_class = _Wide
    text = f"{'#' * level} `{name}`\n\n```text\n{parser.format_help().rstrip()}\n```"
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    below = (_help(f"{name} {verb}", p, level + 1) for action in inner for verb, p in action.choices.items())
    return "\n\n".join([text, *below])


class _Wide(argparse.HelpFormatter):
    """Of one width, whatever the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=110, max_help_position=28)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings": settings,
    "http": http,
    "errors": problems,
    "manifest": manifest,
    "commands": commands,
}
