"""The files of the playground: all are there, are what they say, and allow nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.playground import FOLDER, MEDIA
from tests.integration.conftest import Client

pytestmark = pytest.mark.anyio

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
MODULES = [name for name in FILES if name.endswith(".js")]


def _address(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_as_it_lies_and_under_the_policy(client: Client, name: str) -> None:
    answer = await client.get(_address(name))
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["content-type"] == MEDIA[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


async def test_a_browser_that_has_a_file_is_told_so(client: Client) -> None:
    tag = (await client.get("/page/main.js")).headers["etag"]
    again = await client.get("/page/main.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await client.get("/page/main.js", headers={"If-None-Match": '"of another release"'})
    assert other.status_code == 200


async def test_what_is_not_a_file_of_the_page_is_not_served(client: Client) -> None:
    for path in ("/page/", "/page/../playground.py", "/page/%2e%2e/app.py", "/page/nothing.js"):
        assert (await client.get(path)).status_code == 404, path


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_is_there(name: str) -> None:
    text = (FOLDER / name).read_text()
    for wanted in re.findall(r'from "([^"]+)"', text):
        assert wanted.startswith("."), f"{name} imports {wanted}"
        assert ((FOLDER / name).parent / wanted).resolve().relative_to(FOLDER).as_posix() in FILES


def test_the_document_has_no_script_and_no_style_of_its_own() -> None:
    text = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son[a-z]+=", text)
    assert not re.search(r"(src|href)=\"(https?:)?//", text)


async def test_the_histogram_of_held_out_scores_counts_each_of_them(client: Client) -> None:
    held = (await client.get("/models/linear")).json()["calibration"]
    assert sum(held["counts"]) == held["rows"] == 200
    assert (held["edges"][0], held["edges"][-1]) == (held["lowest"], held["highest"])
    assert len(held["edges"]) == len(held["counts"]) + 1
