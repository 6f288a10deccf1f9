"""Every command and snippet of the README and of the docs runs as printed, on the demo models.

A block that is not run says why, in a comment before it: ``<!-- not run: a reason -->``. What it asks of our
own commands is still held against their parsers and the verbs of make.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, groupby, takewhile
from pathlib import Path
from typing import Final

import pytest
from markdown_it import MarkdownIt

from benchmarks.__main__ import parser as benchmarks_parser
from pushforward_client.cli import parser as client_parser
from service.__main__ import parser as service_parser
from tests.e2e.processes import ROOT, Service
from training.cli import parser as training_parser

ADDRESS: Final = "127.0.0.1:8000"
REASON: Final = re.compile(r"<!-- not run[^:]*: .+ -->", re.DOTALL)
PROGRAMS: Final = ("bash", "python")  # what runs
DATA: Final = ("toml", "yaml", "json", "text", "promql", "mermaid")  # what is read, and never a command
COMMAND: Final = re.compile(
    r"^\s*(\$ |curl |python |pip |make |docker |kubectl |pushforward |git |export )", re.MULTILINE
)
WRITTEN: Final = {"_build", "reference"}  # by make docs
VERBS: Final = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
PARSERS: Final = {
    ("python", "-m", "training"): training_parser(),
    ("python", "-m", "service"): service_parser(),
    ("python", "-m", "benchmarks"): benchmarks_parser(),
    ("pushforward",): client_parser(),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code on a page.

    Attributes:
        language: empty where it is only indented.
        line: where it begins.
        excused: whether a comment says why it is not run.
    """

    language: str
    code: str
    line: int
    excused: bool

    @property
    def runs(self) -> bool:
        return self.language in PROGRAMS and not self.excused


def _pages() -> list[Path]:
    docs = [path for path in ROOT.glob("docs/**/*.md") if not WRITTEN & set(path.relative_to(ROOT).parts)]
    beside = [ROOT / name for name in ("README.md", "clients/python/README.md", "deploy/README.md")]
    return sorted([*docs, *filter(Path.exists, beside)])


def _blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    tokens = MarkdownIt().parse(page.read_text())
    found = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in ("fence", "code_block") and not token.info.startswith("{"):
            excused = before is not None and bool(REASON.search(before.content))
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(token.info.partition(" ")[0], token.content, line, excused))
    return found


PAGES: Final = {str(page.relative_to(ROOT)): _blocks(page) for page in _pages()}
RUN: Final = [name for name, blocks in PAGES.items() if any(block.runs for block in blocks)]


@pytest.fixture(scope="module")
def stock(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and artifacts that the pages may change."""
    return Path(shutil.copytree(demo, tmp_path_factory.mktemp("stock"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def service(stock: Path) -> Iterator[Service]:
    """One service for all pages."""
    service = Service.start(stock / "artifacts", stock / "service.log").ready()
    yield service
    service.stop()


@pytest.fixture
def desk(stock: Path, tmp_path: Path) -> Path:
    """A clone of the repository, as a reader has it who ran ``make serve``, and wrote nothing yet."""
    made = {room.name for room in stock.iterdir()}
    rooms = [room for room in ROOT.iterdir() if room.name not in made and not room.name.startswith(".")]
    for room in (*rooms, *stock.iterdir()):
        (tmp_path / room.name).symlink_to(room)
    return tmp_path


def _script(name: str, folder: Path, address: str) -> str:
    """The page as one program of the shell; neighbouring blocks of Python share their names."""
    lines = ["set -euo pipefail", 'curl() { command curl --fail-with-body "$@"; }']
    for language, group in groupby((block for block in PAGES[name] if block.runs), lambda b: b.language):
        blocks = list(group)
        lines.append(f"echo '--- {name}, line {blocks[0].line}' >&2")
        code = "\n".join(block.code for block in blocks).replace(ADDRESS, address)
        if language == "python":
            path = folder / f"{name.replace('/', '-')}-{blocks[0].line}.py"
            path.write_text(code)
            code = f"python {shlex.quote(str(path))}"
        lines.append(code)
    return "\n".join(lines)


@pytest.mark.parametrize("name", RUN)
def test_every_block_of_the_page_runs_as_printed(name: str, service: Service, desk: Path) -> None:
    script = _script(name, desk, service.url.removeprefix("http://"))
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": beside, "PUSHFORWARD_URL": service.url, "PYTHONPATH": str(desk)}
    done = subprocess.run(["bash", "-c", script], cwd=desk, env=known, capture_output=True, text=True)
    assert done.returncode == 0, (
        f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}\n{service.running.log[-2000:]}"
    )
    for printed in re.findall(r"(?:-o|--png|--output) (\S+\.(?:png|npy|csv|npz))", script):
        file = desk / printed
        assert file.stat().st_size > 0, printed
        assert not printed.endswith(".png") or file.read_bytes().startswith(b"\x89PNG"), printed


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_in_a_block_that_runs_or_says_why_not(name: str) -> None:
    for block in PAGES[name]:
        where = f"{name}, line {block.line}"
        if block.language in ("", *DATA):
            assert not COMMAND.search(block.code), f"{where}: a command, in a block that is not bash"
        else:
            assert block.runs or block.excused, f"{where}: say before it why it is not run"


def _words(code: str) -> Iterator[list[str]]:
    """The words of each command, without the settings before it, up to where the shell takes over."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        command = dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)
        yield list(takewhile(lambda word: word not in ("|", "&", "&&", ";", ">"), command))


def _check(words: list[str]) -> None:
    """Raise where one of our own commands is misspelt."""
    if words[:1] == ["make"]:
        assert {word for word in words[1:] if "=" not in word} <= VERBS
    for program, parser in PARSERS.items():
        if tuple(words[: len(program)]) == program:
            parser.parse_args(words[len(program) :])


@pytest.mark.parametrize("name", PAGES)
def test_our_own_commands_are_spelt_right_where_they_are_not_run(name: str) -> None:
    for block in PAGES[name]:
        if block.language == "bash" and block.excused:
            for words in _words(block.code):
                try:
                    _check(words)
                except SystemExit:
                    pytest.fail(f"{name}, line {block.line}: no such command: {shlex.join(words)}")
