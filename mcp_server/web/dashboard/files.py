"""The page's files, each at an address of its own: there is no path that a request could bend."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked after each time: by its ETag that is one small answer
}

_FOLDER = Path(__file__).with_name("static")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES: Mapping[str, Path] = {
    ("/" if path.name == "index.html" else f"/page/{path.name}"): path
    for path in sorted(_FOLDER.iterdir())
    if path.suffix in TYPES
}
"""By address. They say nothing of this home: what they show, they ask the API for."""

router = APIRouter()


def _serves(path: Path) -> Callable[[Request], Awaitable[Response]]:
    data = path.read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    kind = TYPES[path.suffix]
    headers = {**HEADERS, "ETag": tag}

    async def file(request: Request) -> Response:
        """A file of the page; 304 where the browser has it already."""
        known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=f"{kind}; charset=utf-8", headers=headers)

    return file


for _address, _path in FILES.items():
    router.add_api_route(_address, _serves(_path), methods=["GET", "HEAD"], include_in_schema=False)
