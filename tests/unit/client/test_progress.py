"""The bar is a comfort: nothing depends on it, nor on what draws it."""

from __future__ import annotations

import sys

import pytest

from pushforward_client.progress import bar


@pytest.mark.parametrize("installed", [True, False])
def test_rows_are_counted_whether_or_not_a_bar_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with bar(10_000, "rows") as count:
        count(4000)
    assert capsys.readouterr().err == ""  # which is no terminal


def test_a_terminal_sees_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with bar(10_000, "rows") as count:
        count(4000)
    assert "40%" in capsys.readouterr().err
