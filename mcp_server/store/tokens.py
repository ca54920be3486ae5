"""Tokens of the service: their hashes, never their text."""

from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Token
from mcp_server.store.tables import TOKENS


def add_token(c: sa.Connection, token: Token, sha256: str) -> bool:
    """Keep a token; False where its name is taken."""
    if c.execute(sa.select(TOKENS.c.id).where(TOKENS.c.name == token.name)).first() is not None:
        return False
    c.execute(sa.insert(TOKENS), {**token.model_dump(), "sha256": sha256})
    return True


def find_token(c: sa.Connection, token_id: str) -> tuple[Token, str] | None:
    """A token and its hash, by the part of its text that is no secret."""
    row = c.execute(sa.select(TOKENS).where(TOKENS.c.id == token_id)).mappings().first()
    return None if row is None else (_token(row), str(row["sha256"]))


def list_tokens(c: sa.Connection) -> list[Token]:
    """All of them, the oldest first."""
    return [_token(row) for row in c.execute(sa.select(TOKENS).order_by(TOKENS.c.created_at)).mappings()]


def touch_token(c: sa.Connection, token_id: str, now: datetime) -> None:
    """Note when a token was last used."""
    c.execute(sa.update(TOKENS).where(TOKENS.c.id == token_id).values(used_at=now))


def remove_token(c: sa.Connection, name: str) -> bool:
    """Whether there was one of that name."""
    return c.execute(sa.delete(TOKENS).where(TOKENS.c.name == name)).rowcount > 0


def _token(row: sa.RowMapping) -> Token:
    return Token(**{name: row[name] for name in Token.model_fields})
