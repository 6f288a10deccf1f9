"""The playground at ``/``: a page of static files, which asks the service what any other client could ask.

It is made of HTML, CSS and ES modules as they lie in ``service/page``, without a build step. The policy that
goes with every file lets the browser load nothing from another host and run nothing that is not such a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER: Final = Path(__file__).parent / "page"
INDEX: Final = "index.html"
MEDIA: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Kept by the browser, and asked for again by its tag, so that a new release is seen at once.
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page, read once."""

    body: bytes
    media: str
    tag: str

    async def __call__(self, request: Request) -> Response:
        """The file, or 304 for a browser that has it."""
        headers = {**HEADERS, "ETag": self.tag}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media)


def page() -> Iterator[BaseRoute]:
    """``/`` for the document, and ``/page/…`` for each file that it loads."""
    for path in sorted(FOLDER.rglob("*.*")):
        name = path.relative_to(FOLDER).as_posix()
        address = "/" if name == INDEX else f"/page/{name}"
        yield Route(address, _read(path).__call__, methods=["GET"])


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, MEDIA[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
