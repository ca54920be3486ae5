"""`secrets`: kept for pipelines, hosts and notifications; a value is typed or piped in and never shown."""

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.errors import BadInput

Action = Annotated[str, typer.Argument(metavar="ACTION", help="set, list or rm.")]
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="The secret's name: ${secret:NAME} means it.")]
MOST_BYTES = 65_537  # one more than a secret may have, so that a longer one is refused and not cut


def secrets(action: Action, name: Name = None, json: Json = False) -> int:
    """Set, list or take away secrets; no value is ever shown.

    `set` asks for the value, or reads it from stdin where that is no terminal: it is never an argument, which others
    could see. Kept in HOME/secrets, readable by you alone.
    """
    from mcp_server import secret_store  # noqa: PLC0415  # only what --help does without
    from mcp_server.cli import screen  # noqa: PLC0415
    from mcp_server.config import load_config  # noqa: PLC0415

    config = load_config()
    folder: Path = config.secrets_dir
    if action == "list":
        if name is not None:
            raise BadInput("NAME", "list takes none: it shows all names")
        found = secret_store.list_secrets(folder)
        if json:
            screen.print_json(found)
        else:
            screen.out().say(*found)
            if not found:
                screen.err().say("no secrets are set")
        return 0
    if action not in ("set", "rm"):
        raise BadInput("ACTION", f"{action[:40]!r} is none of set, list, rm")
    if name is None:
        raise BadInput("NAME", f"which one? secrets {action} NAME")
    if action == "set":
        config.make_home()
        secret_store.set_secret(folder, name, _value(name))
    else:
        secret_store.delete_secret(folder, name)
    done = {"name": name, "state": "set" if action == "set" else "removed"}
    if json:
        screen.print_json(done)
    else:
        screen.out().say(f"secret {done['name']} is {done['state']}")
    return 0


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return getpass(f"value of {name[:60]} (not shown): ")
    try:
        return sys.stdin.buffer.read(MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise BadInput("value", "a secret is text in UTF-8") from None
