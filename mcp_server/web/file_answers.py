"""Files as answers: whole, or the one piece that a Range asks for."""

import asyncio
import re
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mcp_server.web.heads import HEAD

HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{1,15})?|-0*[1-9][0-9]{0,14})")


async def sent_file(path: Path, asked: str) -> FileResponse:
    """A file that nobody's browser shows as a page. `asked` is the Range; 416 where it begins behind the file's end.

    A Range that is none, or of several pieces, is as if it were not there, as HTTP allows.
    """
    found = _RANGE.fullmatch(asked)
    if found is not None and found[1] is not None:
        size = (await asyncio.to_thread(path.stat)).st_size
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= first >= size:
            raise HTTPException(416, f"the file has {size:,} bytes", {"Content-Range": f"bytes */{size}"})
        found = found if last >= first else None
    kind = _Asked if found else _Whole
    return kind(path, media_type="application/octet-stream", filename=_plain(path.name), headers=HEADERS)


def _plain(name: str) -> str:
    """Without what no header can say: bytes of a name that are no UTF-8."""
    return name.encode("utf-8", "replace").decode()


class _Asked(FileResponse):
    """The file or a piece of it; of a HEAD nothing is read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "method": scope.get(HEAD, scope["method"])}, receive, send)


class _Whole(_Asked):
    """The file, whatever the request's Range says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": kept}, receive, send)
