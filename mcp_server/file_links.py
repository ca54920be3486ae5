"""Links to single files of builds that carry their own end and signature: whoever has one needs no token for that file.

    /files/42/build/blink.bin?expires=1798761600&key=5f2c91ab&signature=…

Signed is the database, the build, the path and the end, by HMAC-SHA256, so nothing else can be had with it. The key is
the secret `artifact-links` (HOME/secrets, 0600), made when it is first needed. It is not in the database: who sees a
dump of that one finds hashes of tokens there, and should find nothing that opens a file either. Another key revokes all
links that were given; several service machines have the same one.

May import: artifact_files, errors, secret_store, views. Never: store, engine, a front.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from mcp_server.artifact_files import recorded
from mcp_server.errors import BadInput, EnvironmentMissing, Forbidden
from mcp_server.secret_store import make_secret
from mcp_server.views import BuildView

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

SECRET = "artifact-links"  # noqa: S105 - its name
PLACE = "/files/"
LINK_S, MOST_S = 3600, 7 * 86_400
SHORTEST = 32  # letters of a key that somebody set by hand


class FileLinks:
    """Made and checked with this home's key."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def make(
        self, view: BuildView, paths: Sequence[str], base: str, seconds: int = LINK_S
    ) -> tuple[Sequence[str], datetime]:
        """For each of these files of a build a link below `base` ("http://host:8000"), and when they all end.

        NotFound: the build left no such file. BadInput: a time outside of 1 s to 7 days. EnvironmentMissing: the key.
        """
        if not 1 <= seconds <= MOST_S:
            raise BadInput("link_s", f"{seconds} should be 1 to {MOST_S:,} seconds")
        key, store = await self._key(), await (await self._orchestrator.store()).uuid()
        expires = int(self._orchestrator.clock.now().timestamp()) + seconds
        links: list[str] = []
        for path in paths:
            stage, artifact = recorded(view, path)
            whole = f"{stage}/{artifact.path}"
            signature = _signature(key, store, view.build.id, whole, expires)
            query = urlencode({"expires": expires, "key": _name(key), "signature": signature})
            links.append(f"{base.rstrip('/')}{PLACE}{view.build.id}/{quote(whole, errors='replace')}?{query}")
        return links, datetime.fromtimestamp(expires, UTC)

    async def check(self, build: int, path: str, expires: int, key_name: str, signature: str) -> None:
        """Forbidden: that is no link of this service's for this file, or it has ended, or was revoked."""
        key, store = await self._key(), await (await self._orchestrator.store()).uuid()
        right = _signature(key, store, build, path, expires)
        if not hmac.compare_digest(right.encode(), signature.encode()):
            if not hmac.compare_digest(_name(key).encode(), key_name.encode()):
                raise Forbidden("this link was revoked, or made by a service that has another secret artifact-links")
            raise Forbidden("this link is for another file, or was changed on its way")
        if self._orchestrator.clock.now().timestamp() > expires:
            raise Forbidden(f"this link ended at {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M} UTC")

    async def _key(self) -> bytes:
        folder = self._orchestrator.config.secrets_dir
        text = await asyncio.to_thread(make_secret, folder, SECRET, lambda: secrets.token_hex(32))
        if len(text) < SHORTEST:
            raise EnvironmentMissing(f"the secret {SECRET} should have at least {SHORTEST} letters: set a longer one")
        return text.encode()


def _signature(key: bytes, store: str, build: int, path: str, expires: int) -> str:
    said = json.dumps(["a file of a build", 1, store, build, path, expires])
    return urlsafe_b64encode(hmac.digest(key, said.encode(), "sha256")).decode().rstrip("=")


def _name(key: bytes) -> str:
    """Tells keys apart and nothing of them."""
    return hashlib.sha256(b"name of a key of artifact links\0" + key).hexdigest()[:8]
