"""`tokens`: who may use the service, and for what."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.model import Token
    from mcp_server.tokens import Tokens

Action = Annotated[str, typer.Argument(metavar="ACTION", help="create, list or rm.")]
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Whose it is, e.g. chat-bot.")]
Scope = Annotated[
    str, typer.Option(metavar="SCOPE", help="read, build, flash or admin; each includes those before it.")
]
Days = Annotated[int | None, typer.Option(metavar="N", help="It expires after so many days; without: never.")]


def tokens(action: Action, name: Name = None, scope: Scope = "build", days: Days = None, json: Json = False) -> int:
    """Make, list or take away tokens for the service.

    `create` prints the token once: it is kept as a hash only. Who has it may use /api, /ws and /mcp within its scope.
    """
    from mcp_server.cli.session import with_orchestrator  # noqa: PLC0415  # only what --help does without

    if action not in ("create", "list", "rm"):
        raise BadInput("ACTION", f"{action[:40]!r} is none of create, list, rm")
    if (name is None) != (action == "list"):
        raise BadInput("NAME", "list takes none: it shows all" if name else f"which one? tokens {action} NAME")
    return with_orchestrator(lambda orchestrator: _act(orchestrator.tokens, action, name or "", scope, days, json))


async def _act(kept: "Tokens", action: str, name: str, scope: str, days: int | None, json: bool) -> int:
    from mcp_server.cli import screen  # noqa: PLC0415

    if action == "create":
        token, text = await kept.create(name, scope, days)
        if json:
            screen.print_json({**token.model_dump(mode="json"), "token": text})
        else:
            screen.out().say(text)
            screen.err().say(f"token {name} · {token.scope} · {_until(token)} · it is not shown again")
        return 0
    if action == "rm":
        await kept.remove(name)
        if json:
            screen.print_json({"name": name, "state": "removed"})
        else:
            screen.out().say(f"token {name} is taken away")
        return 0
    found = await kept.list()
    if json:
        screen.print_json([token.model_dump(mode="json") for token in found])
    else:
        screen.out().say(*(f"{token.name} · {token.scope} · {_until(token)} · {_used(token)}" for token in found))
        if not found:
            screen.err().say("there are no tokens: the service admits this machine's users only")
    return 0


def _until(token: "Token") -> str:
    return f"until {token.expires_at:%Y-%m-%d}" if token.expires_at else "never expires"


def _used(token: "Token") -> str:
    return f"last used {token.used_at:%Y-%m-%d %H:%M} UTC" if token.used_at else "never used"
