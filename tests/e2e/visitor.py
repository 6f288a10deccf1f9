"""A visitor of the playground: a real Chromium, whose complaints and requests are written down."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright

from tests.e2e.processes import program

DESK, PHONE = (1440, 900), (390, 844)
# As root Chromium has no sandbox, and in a container little shared memory.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]
TURN = """fragment => new Promise(done => {
    addEventListener("hashchange", done, { once: true });
    location.hash = fragment;
}).then(() => null)"""
PIXELS = "all => all.map(each => [each.dataset.shows, each.width, each.height, each.toDataURL()])"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    path = program("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One tab.

    Attributes:
        complaints: errors of the page, and what the console says.
        hosts: that were asked for anything.
    """

    url: str
    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    @classmethod
    def arrive(
        cls, browser: Browser, url: str, size: tuple[int, int] = DESK, scheme: Any = "light", key: str = ""
    ) -> Visitor:
        """Open a tab; its screen is so large, in day or night, and asked for a key it has this one."""
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            has_touch=size == PHONE,
            http_credentials={"username": "visitor", "password": key} if key else None,
        )
        visitor = cls(url, context.new_page())
        page = visitor.page
        page.set_default_timeout(60_000)
        page.on("console", lambda message: visitor.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visitor.complaints.append(f"error: {error.message}"))
        page.on("requestfailed", visitor._failed)
        page.on("request", lambda request: visitor.hosts.add(urlsplit(request.url).netloc))
        return visitor

    def _failed(self, request: Request) -> None:
        # What the page still waited for when it was left is given up, and no failure.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure}: {request.url}")

    def look_at(self, **fields: Any) -> None:
        """Go to what a link with these fields shows."""
        fragment = "&".join(f"{name}={value}" for name, value in fields.items())
        if self.page.url.startswith(self.url):
            self.page.evaluate(TURN, f"#{fragment}")
            self.settle()
        else:
            self.follow(f"{self.url}/#{fragment}")

    def follow(self, link: str) -> None:
        """Open a link in a tab that shows nothing of this page yet."""
        self.page.goto("about:blank")
        self.page.goto(link)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has nothing left to do."""
        self.page.wait_for_selector("main[aria-busy=false] #panel[aria-busy=false]")

    @property
    def fields(self) -> dict[str, str]:
        """What the address says."""
        return dict(parse_qsl(urlsplit(self.page.url).fragment))

    def shows(self, name: str) -> Locator:
        """A canvas by what it shows."""
        return self.page.locator(f'canvas[data-shows="{name}"]')

    def pixels(self, name: str | None = None) -> dict[str, str]:
        """Each canvas that shows something, with its size and all its pixels."""
        chosen = self.page.locator(f'canvas[data-shows="{name}"]' if name else "canvas[data-shows]")
        return {row[0]: json.dumps(row[1:]) for row in chosen.evaluate_all(PIXELS)}

    def grey(self, name: str, places: list[tuple[float, float]]) -> list[int]:
        """How bright a canvas is at these pixels, 0 to 255."""
        address: str = self.shows(name).evaluate("canvas => canvas.toDataURL()")
        image = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("L")
        return [int(np.asarray(image)[int(y), int(x)]) for x, y in places]

    def module(self, file: str, expression: str, argument: Any = None) -> Any:
        """What an expression of a module of the page gives; the module is called ``it``."""
        script = f"async given => {{ const it = await import('/page/{file}'); return {expression}; }}"
        return self.page.evaluate(script, argument)

    def leave(self) -> None:
        self.page.context.close()
