"""The playground in a real browser, on the demo models: every panel of each is used, as a visitor would."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from models.noise import Address, draw
from service import keys
from tests import graphs
from tests.e2e.conftest import DEMO
from tests.e2e.processes import Service
from tests.e2e.visitor import DESK, PHONE, Visitor, chromium

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

PANELS = ("samples", "codes", "walk", "likelihood", "about")
DIGITS = [name for name in DEMO if name.endswith("-digits")]
ENCODED = [name for name in DEMO if name != "gan-digits"]


@pytest.fixture(scope="module")
def service(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("page") / "service.log"
    started = Service.start(demo / "artifacts", log).ready()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visitor(browser: Browser, service: Service) -> Iterator[Visitor]:
    """At a desk, by day; goes without a complaint, and without having asked another host."""
    arrived = Visitor.arrive(browser, service.url)
    yield arrived
    arrived.leave()
    assert arrived.complaints == []
    assert arrived.hosts == {service.url.removeprefix("http://")}


Colleague = Callable[[], dict[str, str]]


@pytest.fixture(scope="module")
def phone(browser: Browser, service: Service) -> Iterator[Visitor]:
    """Somebody else, elsewhere."""
    other = Visitor.arrive(browser, service.url, PHONE)
    yield other
    other.leave()


@pytest.fixture
def colleague(phone: Visitor, visitor: Visitor) -> Colleague:
    """Whoever is sent the visitor's link, and opens it on a phone: what is seen there, as pixels."""

    def sees() -> dict[str, str]:
        phone.follow(visitor.page.url)
        assert phone.complaints == []
        return phone.pixels()

    return sees


# Each panel, on each model that has it


def test_samples_of_pictures_are_those_of_the_address(visitor: Visitor, service: Service) -> None:
    model = "gan-digits"
    visitor.look_at(model=model, panel="samples", seed=7)
    first = visitor.pixels("samples")
    visitor.page.get_by_role("button", name="rows after").click()
    visitor.settle()
    assert visitor.fields["offset"] == "64"
    assert visitor.pixels("samples") != first
    answer = service.post("sample", model=model, n=64, seed=7, offset=64)["samples"]
    for row, y, x in ((0, 4, 4), (11, 3, 5), (63, 7, 2)):
        shown = visitor.grey("samples", [_place(visitor, [64, 8, 960], row, y, x)])
        assert shown == [_grey(answer[row][0][y][x])]


def _place(visitor: Visitor, sheet: list[int], row: int, y: int, x: int) -> tuple[float, float]:
    """Where the page draws a pixel of a picture, on a sheet of so many, in so many columns, so wide."""
    left, top, width, height = visitor.module(
        "draw.js", "it.sheet([1, 8, 8], ...given.slice(1)).at(given[0])", [row, *sheet]
    )
    return left + width * (x + 0.5) / 8, top + height * (y + 0.5) / 8


def _grey(value: float) -> Any:
    """A pixel of a digit, as a canvas has it."""
    return pytest.approx(np.clip(255 * value / 16, 0, 255), abs=1)


def test_samples_in_the_plane_are_points_that_can_be_asked_for_their_numbers(
    visitor: Visitor, colleague: Colleague, service: Service
) -> None:
    visitor.look_at(model="flow-moons", panel="samples", seed=3, n=100)
    visitor.shows("samples").press("ArrowRight")
    visitor.shows("samples").press("ArrowRight")
    said = visitor.page.locator(".aside .numbers").inner_text().replace("−", "-")
    (row,) = service.post("sample", model="flow-moons", n=1, seed=3, offset=2)["samples"]
    assert [float(part) for part in said.split()] == pytest.approx(row, abs=1e-4)
    assert colleague() == visitor.pixels()


@pytest.mark.parametrize("model", DEMO)
def test_a_cooler_sample_is_another_one_and_the_same_link_shows_it(
    visitor: Visitor, colleague: Colleague, model: str
) -> None:
    visitor.look_at(model=model, panel="samples")
    plain = visitor.pixels("samples")
    visitor.page.get_by_label("temperature").fill("0.5")
    visitor.settle()
    assert visitor.fields["t"] == "0.5"
    cool = visitor.pixels("samples")
    assert cool != plain
    visitor.page.get_by_label("truncation").fill("1")
    visitor.settle()
    assert visitor.pixels("samples") not in (plain, cool)
    assert colleague() == visitor.pixels()


@pytest.mark.parametrize("model", DEMO)
def test_a_code_is_decoded_while_the_pointer_moves_over_the_map(
    visitor: Visitor, colleague: Colleague, model: str
) -> None:
    visitor.look_at(model=model, panel="codes", base="2.3")
    began, area = visitor.pixels("decoded"), visitor.shows("map")
    area.hover(position={"x": 40, "y": 60})
    visitor.settle()
    assert visitor.pixels("decoded") != began
    assert "z" not in visitor.fields
    visitor.page.get_by_role("heading", level=1).hover()
    visitor.settle()
    assert visitor.pixels("decoded") == began
    area.click(position={"x": 200, "y": 300})
    visitor.settle()
    assert set(re.findall(r"(\d+):", visitor.fields["z"])) == {"0", "1"}
    assert visitor.pixels("decoded") != began
    assert _settled_colleague(visitor, colleague) == visitor.pixels()


def _settled_colleague(visitor: Visitor, colleague: Colleague) -> dict[str, str]:
    """What a colleague sees, when the pointer of the visitor has left the map."""
    visitor.page.get_by_role("heading", level=1).hover()
    visitor.settle()
    return colleague()


@pytest.mark.parametrize("model", DEMO)
def test_a_slider_moves_one_number_of_the_code_as_decode_does(
    visitor: Visitor, service: Service, model: str
) -> None:
    visitor.look_at(model=model, panel="codes", base="middle")
    visitor.page.get_by_label("z2", exact=True).fill("1.5")
    visitor.settle()
    assert visitor.fields["z"] == "1:1.5"
    (size,) = service.client.get(f"/models/{model}").json()["latent_shape"]
    (row,) = service.post("decode", model=model, latents=[[0.0, 1.5] + [0.0] * (size - 2)])["samples"]
    if model == "flow-moons":
        said = visitor.page.locator(".numbers").inner_text().split("→")[1].replace("−", "-")
        assert [float(part) for part in said.split()] == pytest.approx(row, abs=1e-3)
    else:
        assert visitor.grey("decoded", [(60 + 120 * 3, 60 + 120 * 4)]) == [_grey(row[0][4][3])]


def test_a_named_direction_moves_what_is_decoded_and_the_steps_of_a_walk(
    visitor: Visitor, colleague: Colleague
) -> None:
    for panel, seen in (("codes", "decoded"), ("walk", "walk")):
        visitor.look_at(model="vae-digits", panel=panel)
        before = visitor.pixels(seen)
        visitor.page.get_by_label("slanted").fill("2")
        visitor.settle()
        assert visitor.fields["move"] == "slanted:2"
        assert visitor.pixels(seen) != before
        assert colleague() == visitor.pixels()


@pytest.mark.parametrize("model", DIGITS)
def test_a_walk_goes_from_one_address_to_another(visitor: Visitor, service: Service, model: str) -> None:
    visitor.look_at(model=model, panel="walk", a="5.1", b="5.2", steps=6)
    ends = [{"seed": 5, "index": 1}, {"seed": 5, "index": 2}]
    answer = service.post("interpolate", model=model, start=ends[0], end=ends[1], steps=6)["samples"]
    for step in range(6):
        shown = visitor.grey("walk", [_place(visitor, [6, 6, 540], step, 3, 3)])
        assert shown == [_grey(answer[step][0][3][3])]


@pytest.mark.parametrize("model", [name for name in DIGITS if name in ENCODED])
def test_a_picture_that_is_drawn_and_one_from_a_file_are_encoded_and_walked_between(
    visitor: Visitor, colleague: Colleague, tmp_path: Path, model: str
) -> None:
    visitor.look_at(model=model, panel="walk")
    before = visitor.pixels("walk")
    _draw_a_stroke(visitor, "A")
    _give_a_file(visitor, tmp_path)
    assert {"ax", "bx"} <= visitor.fields.keys()
    assert visitor.pixels("walk") != before
    assert visitor.page.locator(".end p.muted").all_inner_texts() == ["your own", "your own"]
    assert {"back A", "back B"} <= visitor.pixels().keys()
    assert colleague() == visitor.pixels()
    visitor.page.get_by_role("button", name="Look around its code").first.click()
    visitor.shows("decoded").wait_for()
    visitor.settle()
    assert visitor.fields["own"]
    assert colleague() == visitor.pixels()


def _draw_a_stroke(visitor: Visitor, end: str) -> None:
    """A line down the middle."""
    box = visitor.shows(f"pad {end}").bounding_box()
    assert box is not None
    mouse = visitor.page.mouse
    mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.2)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8, steps=6)
    mouse.up()
    visitor.settle()


def _give_a_file(visitor: Visitor, folder: Path) -> None:
    """A picture larger than the model's."""
    y, x = np.mgrid[:64, :64] / 63 * 2 - 1
    ring = np.clip(1.5 - 6 * np.abs(np.hypot(x, y) - 0.6), 0, 1)
    Image.fromarray((255 * ring).astype(np.uint8)).save(folder / "ring.png")
    visitor.page.locator(".end input[type=file]").nth(1).set_input_files(folder / "ring.png")
    visitor.page.wait_for_function("() => location.hash.includes('bx=')")
    visitor.settle()


def test_the_ends_of_a_walk_in_the_plane_are_dragged(
    visitor: Visitor, colleague: Colleague, service: Service
) -> None:
    visitor.look_at(model="flow-moons", panel="walk")
    before = visitor.pixels("walk")
    visitor.shows("walk").click(position={"x": 300, "y": 200})
    visitor.settle()
    (own,) = [name for name in ("ax", "bx") if name in visitor.fields]
    row = [float(part) for part in visitor.fields[own].split()]
    assert visitor.pixels("walk") != before
    said = visitor.page.locator(".end p.muted").nth(0 if own == "ax" else 1).inner_text()
    assert [float(part.replace("−", "-")) for part in said.split("·")[0].split()] == pytest.approx(
        row, abs=1e-3
    )
    assert colleague() == visitor.pixels()


@pytest.mark.parametrize("model", ENCODED)
def test_pasted_rows_are_scored_among_those_held_out_the_worst_first(
    visitor: Visitor, colleague: Colleague, service: Service, model: str
) -> None:
    rows = _whole(service.post("sample", model=model, n=5, seed=4)["samples"])
    visitor.look_at(model=model, panel="likelihood")
    visitor.page.get_by_label("Rows, one a line").fill("\n".join(",".join(map(str, row)) for row in rows))
    visitor.page.get_by_role("button", name="Score").click()
    visitor.settle()
    shape = service.client.get(f"/models/{model}").json()["data_shape"]
    answer = service.post("loglik", model=model, inputs=np.reshape(rows, (-1, *shape)).tolist())
    order = np.argsort(answer["log_likelihood"])
    assert [int(row) - 1 for row in _column(visitor, 1)] == order.tolist()
    scores = [float(text.split("±")[0].replace("−", "-")) for text in _column(visitor, 3)]
    assert scores == pytest.approx([answer["log_likelihood"][row] for row in order], abs=0.006)
    assert answer["kind"].replace("_", " ") in visitor.page.locator(".verdict").inner_text()
    assert f"{answer['p_value'][order[0]]:.4f}" in visitor.page.locator("tbody tr").first.inner_text()
    assert colleague() == visitor.pixels()


def _whole(samples: list[Any]) -> list[list[float]]:
    """Flat rows, on the levels that every one of the models takes; of few dimensions, as they are."""
    rows = [np.ravel(sample) for sample in samples]
    return [(row if len(row) < 8 else np.clip(np.rint(row), 0, 16)).round(4).tolist() for row in rows]


def _column(visitor: Visitor, number: int) -> list[str]:
    return visitor.page.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_a_csv_file_with_names_is_scored_and_a_broken_one_is_told_where(
    visitor: Visitor, tmp_path: Path
) -> None:
    visitor.look_at(model="flow-moons", panel="likelihood")
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{i / 1000},0.5\n" for i in range(3000)))
    visitor.page.locator("input[type=file]").set_input_files(tmp_path / "rows.csv")
    visitor.page.wait_for_selector(".verdict:has-text('3,000 rows.csv')")
    assert "the link does not carry" in visitor.page.locator(".verdict").inner_text().lower()
    (tmp_path / "broken.csv").write_text("0.5,0.25\n0.5,oops\n")
    visitor.page.locator("input[type=file]").set_input_files(tmp_path / "broken.csv")
    visitor.page.wait_for_selector(".message:has-text('Line 2 has “oops” in column 2')")


def test_one_model_scores_the_samples_of_another(visitor: Visitor, colleague: Colleague) -> None:
    visitor.look_at(model="flow-digits", panel="likelihood", ln=30)
    own = visitor.pixels("histogram")
    visitor.page.get_by_label("or samples of").select_option("gan-digits")
    visitor.settle()
    assert "30 samples of gan-digits" in visitor.page.locator(".verdict").inner_text()
    assert visitor.pixels("histogram") != own
    assert colleague() == visitor.pixels()


def test_a_model_without_a_likelihood_names_those_that_have_one(visitor: Visitor) -> None:
    visitor.look_at(model="gan-digits", panel="likelihood")
    said = visitor.page.locator(".note").inner_text()
    assert all(name in said for name in ENCODED)


@pytest.mark.parametrize("model", DEMO)
def test_the_certificate_has_every_law_and_the_grades_their_meaning(
    visitor: Visitor, service: Service, model: str
) -> None:
    visitor.look_at(model=model, panel="about")
    detail = service.client.get(f"/models/{model}").json()
    card = visitor.page.locator("section.card", has=visitor.page.get_by_role("heading", name="Certificate"))
    checks = detail["certificate"]["checks"]
    assert card.locator("tbody td:first-child").all_inner_texts() == [check["name"] for check in checks]
    assert card.locator(".ok").count() == len(checks)
    text = visitor.page.locator("#panel").inner_text()
    assert all(grade.replace("_", " ") in text for grade in detail["grades"].values())
    assert all(name.replace("_", " ") in text for name in detail["metrics"])


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Models unlike those of the demo: rows that are neither pictures nor points, classes, no codes."""
    root = tmp_path_factory.mktemp("strangers")
    for build in (
        graphs.linear_flow,
        graphs.gaussian_vae,
        graphs.conditional,
        graphs.image_gan,
        graphs.coded,
    ):
        build(root / "artifacts")
    started = Service.start(root / "artifacts", root / "service.log").ready()
    yield started
    started.stop()


def test_the_page_knows_a_model_by_its_manifest_alone(browser: Browser, strangers: Service) -> None:
    visitor = Visitor.arrive(browser, strangers.url)
    for model in ("linear", "gaussian-vae", "conditional", "image-gan", "coded"):
        for panel in PANELS:
            visitor.look_at(model=model, panel=panel)
            assert visitor.page.locator(".message").inner_text() == "", f"{model} {panel}"
    visitor.leave()
    assert visitor.complaints == []


def test_the_class_that_is_chosen_is_the_one_that_is_drawn(browser: Browser, strangers: Service) -> None:
    visitor = Visitor.arrive(browser, strangers.url)
    visitor.look_at(model="conditional", panel="samples", seed=2, n=100)
    names = strangers.client.get("/models/conditional").json()["data"]["labels"]
    visitor.page.get_by_label("class").select_option(names[1])
    visitor.settle()
    assert visitor.fields["label"] == names[1]
    said = visitor.page.locator(".aside .numbers").inner_text().replace("−", "-")
    (row,) = strangers.post("sample", model="conditional", n=1, seed=2, label=names[1])["samples"]
    assert [float(part) for part in said.split()] == pytest.approx(row, abs=1e-4)
    visitor.leave()
    assert visitor.complaints == []


@pytest.fixture
def closed(strangers: Service, tmp_path: Path) -> Iterator[Service]:
    """A service that asks for a key."""
    artifacts = strangers.running.log_file.parent / "artifacts"
    started = Service.start(artifacts, tmp_path / "closed.log", keys=keys.line("visitor", "pf_v"))
    yield started
    started.stop()


def test_where_a_key_is_asked_for_the_page_works_with_it_and_not_without(
    browser: Browser, closed: Service
) -> None:
    closed.ready()
    assert closed.status("/") == closed.status("/page/main.js") == 401
    visitor = Visitor.arrive(browser, closed.url, key="pf_v")
    for panel in PANELS:
        visitor.look_at(model="linear", panel=panel)
        assert visitor.page.locator(".message").inner_text() == ""
    visitor.leave()
    assert not [each for each in visitor.complaints if "401" not in each]


# What holds on every panel


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_by_day_and_by_night(
    browser: Browser, service: Service, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    visitor = Visitor.arrive(browser, service.url, size, scheme)
    for model, panel in zip(
        ["vae-digits", "flow-moons", "flow-digits", "vae-digits", "gan-digits"], PANELS, strict=True
    ):
        visitor.look_at(model=model, panel=panel)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == size[0], panel
        visitor.page.screenshot(path=tmp_path / f"{panel}-{size[0]}-{scheme}.png", full_page=True)
    assert min(_contrasts(visitor)) >= 4.5
    visitor.leave()
    assert visitor.complaints == []


def _contrasts(visitor: Visitor) -> list[float]:
    """Of everything that is written, with what it is written on (WCAG 2.2, section 1.4.3)."""
    script = (
        "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))"
    )
    names = ["ink", "muted", "accent", "second", "ground", "surface"]
    lights = [_luminance(colour.strip()) for colour in visitor.page.evaluate(script, names)]
    pairs = [(letters, paper) for letters in lights[:4] for paper in lights[4:]]
    return [(max(pair) + 0.05) / (min(pair) + 0.05) for pair in pairs]


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_page_is_used_with_a_keyboard_alone(visitor: Visitor) -> None:
    visitor.look_at(model="vae-digits", panel="samples")
    press = visitor.page.keyboard.press
    visitor.page.get_by_role("tab", name="Samples").focus()
    press("ArrowRight")
    visitor.page.wait_for_function("() => document.activeElement.id === 'tab-codes'")
    visitor.settle()
    before = visitor.pixels("decoded")
    visitor.shows("map").focus()
    press("Shift+ArrowRight")
    visitor.settle()
    assert visitor.pixels("decoded") != before
    visitor.look_at(model="vae-digits", panel="walk")
    visitor.shows("pad A").focus()
    press("ArrowLeft")
    press(" ")
    visitor.settle()
    assert "ax" in visitor.fields


def test_the_strip_shows_the_traffic_of_the_service(visitor: Visitor, service: Service) -> None:
    visitor.look_at(model="flow-moons", panel="samples")
    for _ in range(20):
        service.post("sample", model="flow-moons", n=3)
    gauge = visitor.page.locator(".gauge[data-gauge=traffic] b")
    visitor.page.wait_for_function("gauge => parseFloat(gauge.textContent) > 0", arg=gauge.element_handle())
    latency = visitor.page.locator(".gauge[data-gauge=p50] b").inner_text()
    assert 0 < float(latency) < 10_000


def test_the_back_button_leads_to_what_was_seen_before(visitor: Visitor) -> None:
    visitor.look_at(model="vae-digits", panel="samples", seed=9)
    seen = visitor.pixels("samples")
    visitor.page.get_by_role("button", name="Look around its code").click()
    visitor.page.wait_for_selector("canvas[data-shows=map]")
    visitor.settle()
    assert visitor.fields["base"] == "9.0"
    visitor.page.go_back()
    visitor.page.wait_for_selector("canvas[data-shows=samples]")
    visitor.settle()
    assert visitor.pixels("samples") == seen


SLIPPED_IN = """
const script = document.createElement("script");
script.textContent = "window.ran = true";
document.body.append(script);
"""


def test_a_script_that_somebody_slips_in_does_not_run(visitor: Visitor) -> None:
    visitor.look_at(model="flow-moons", panel="about")
    visitor.page.evaluate(f"() => {{ {SLIPPED_IN} }}")
    assert visitor.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in complaint for complaint in visitor.complaints)
    visitor.complaints.clear()


# The modules, as the browser runs them


@pytest.mark.parametrize("law", ["standard_normal", "logistic", "uniform"])
def test_the_page_draws_the_codes_that_the_service_draws(visitor: Visitor, law: Any) -> None:
    visitor.look_at(model="flow-moons", panel="about")
    for seed, index in ((0, 0), (7, 3), (2**53 - 1, 2**40 + 5)):
        ours = visitor.module("philox.js", "[...it.code(...given)]", [seed, index, law, 10])
        theirs = draw([(Address(seed, index), 1)], law, (10,))[0]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def _exposition(below: int, between: int, total: float) -> str:
    """A histogram of seconds: so many up to 0.1, so many up to 0.2."""
    count = below + between
    counts = {"0.1": below, "0.2": count, "+Inf": count}
    buckets = [f'x_bucket{{a="1",le="{edge}"}} {number}' for edge, number in counts.items()]
    return "\n".join(["# HELP x Seconds.", *buckets, f'x_sum{{a="1"}} {total}', f'x_count{{a="1"}} {count}'])


def test_the_page_reads_quantiles_as_prometheus_does(visitor: Visitor) -> None:
    visitor.look_at(model="flow-moons", panel="about")
    looks = [_exposition(1, 0, 0.1), _exposition(3, 2, 0.7)]

    def said(expression: str, looks: list[str] = looks) -> Any:
        return visitor.module("metrics.js", expression.replace("LOOKS", "...given.map(it.parse)"), looks)

    assert said("it.quantile(LOOKS, 'x', 0.5)") == pytest.approx(0.1)
    assert said("it.quantile(LOOKS, 'x', 0.75)") == pytest.approx(0.15)
    assert said("it.mean(LOOKS, 'x')") == pytest.approx(0.15)
    assert said("it.quantile(LOOKS, 'x', 0.5)", [looks[1], looks[1]]) is None


def test_the_page_reads_rows_as_people_write_them(visitor: Visitor) -> None:
    visitor.look_at(model="flow-moons", panel="about")
    expected = [[1, -2.5], [3e-4, 4]]
    for text in (
        "1,-2.5\n3e-4,4\n",
        "a;b\r\n1; -2.5\r\n\r\n3e-4;4",
        "1\t-2.5\n0.0003\t4",
        '[1, -2.5]\n["3e-4", 4]',
    ):
        assert visitor.module("rows.js", "it.parse(given, 2)", text) == expected
    for text, part in (("1,2\n3", "Line 2 has 1 numbers"), ("1,2\n1,", "column 2"), ("1,NaN", "NaN")):
        refused = visitor.module(
            "rows.js", "(() => { try { it.parse(given, 2) } catch (e) { return e.message } })()", text
        )
        assert part in refused


def test_pictures_survive_the_link(visitor: Visitor) -> None:
    visitor.look_at(model="flow-moons", panel="about")
    for levels in (1, 16, 255, 65535):
        values = [math.floor(levels * i / 62) for i in range(63)]
        assert (
            visitor.module("state.js", "it.unpack(it.pack(...given), given[1], 63)", [values, levels])
            == values
        )
    assert visitor.module("state.js", "it.unpack('&?', 16, 63)") is None
