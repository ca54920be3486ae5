"""Who may use the service, and for what: tokens of people and bots, kept as hashes.

May import: config_environment, model, errors, scopes, store. Never: engine, a front.
"""

import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from mcp_server.config_environment import given
from mcp_server.errors import BadInput, Conflict, NotFound, StoreError
from mcp_server.model import Token
from mcp_server.scopes import SCOPES
from mcp_server.store import tokens

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

PREFIX = "bo_"
ENVIRONMENT_NAME = "BUILD_ORCHESTRATOR_TOKEN"
LEAST_CHARS = 20
TOUCH_S = 60  # a token's last use is known to the minute: no write for each request
MAX_DAYS = 3650
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TEXT = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")


class Tokens:
    """Over the store of one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self.fixed = given(orchestrator.environment, ENVIRONMENT_NAME) or ""
        """The token of whoever started the service; it may do everything. "" where there is none."""

    def check_fixed(self) -> None:
        """BadInput: the environment's token is too short to be one."""
        if self.fixed and len(self.fixed) < LEAST_CHARS:
            raise BadInput(ENVIRONMENT_NAME, f"should have {LEAST_CHARS} characters or more; `openssl rand -hex 32`")

    async def create(self, name: str, scope: str, days: int | None = None) -> tuple[Token, str]:
        """A new token, and its text, which is known to nobody afterwards.

        BadInput: an unusable name, scope or number of days. Conflict: the name is taken.
        """
        if not _NAME.fullmatch(name):
            raise BadInput("name", f"{name[:60]!r} should have letters, digits, '.', '_', '@' and '-' only, 64 at most")
        found = scope if scope in SCOPES else None
        if found is None:
            raise BadInput("scope", f"{scope[:40]!r} is none of {', '.join(SCOPES)}")
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise BadInput("days", f"{days} is not between 1 and {MAX_DAYS}")
        secret, token_id, now = secrets.token_urlsafe(32), secrets.token_hex(6), self._orchestrator.clock.now()
        expires = None if days is None else now + timedelta(days=days)
        token = Token(id=token_id, name=name, scope=found, created_at=now, expires_at=expires)
        store = await self._orchestrator.store()
        if not await store.write(lambda c: tokens.add_token(c, token, _hash(secret))):
            raise Conflict(f"there is a token {name} already: `build-orchestrator tokens rm {name}` takes it away")
        return token, f"{PREFIX}{token_id}_{secret}"

    async def list(self) -> Sequence[Token]:
        """All of them, the oldest first."""
        return await (await self._orchestrator.store()).read(tokens.list_tokens)

    async def remove(self, name: str) -> None:
        """Take a token away; it is refused from now on. NotFound: none of that name."""
        if not await (await self._orchestrator.store()).write(lambda c: tokens.remove_token(c, name)):
            raise NotFound(f"there is no token {name[:60]!r}")

    async def any(self) -> bool:
        """Whether there is a token at all; without one only this machine's users are let in."""
        return bool(self.fixed) or bool(await self.list())

    async def of(self, text: str) -> Token | None:
        """The token of this text; None where it is unknown, wrong or expired."""
        now = self._orchestrator.clock.now()
        if self.fixed and hmac.compare_digest(text.encode(), self.fixed.encode()):
            return Token(id="environment", name="environment", scope="admin", created_at=now)
        if (parts := _TEXT.fullmatch(text)) is None:
            return None
        store = await self._orchestrator.store()
        found = await store.read(lambda c: tokens.find_token(c, parts[1]))
        if found is None or not hmac.compare_digest(found[1], _hash(parts[2])):
            return None
        token = found[0]
        if token.expires_at is not None and token.expires_at <= now:
            return None
        if token.used_at is None or (now - token.used_at).total_seconds() >= TOUCH_S:
            with contextlib.suppress(StoreError):  # whoever looks must be let in on a full disk, too
                await store.write(lambda c: tokens.touch_token(c, token.id, now))
        return token


def _hash(secret: str) -> str:
    """A secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
