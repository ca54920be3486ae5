"""`hosts trust`: a person compares the fingerprint and says yes; a changed key is never replaced here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.text import Text

from mcp_server.cli.screen import err, out, print_json
from mcp_server.cli.words import typed
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.cli.screen import Screen
    from mcp_server.orchestrator import Orchestrator


class Key(Protocol):
    """The key that a server offers, and whether it is known. `where` is the place of another one that is."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def file(self) -> Path | None: ...
    @property
    def state(self) -> str: ...
    @property
    def where(self) -> str | None: ...


MOST_HOPS = 8  # jump hosts on the way whose keys are asked about one after the other
NO = 1


async def trust(orchestrator: "Orchestrator", name: str, fingerprint: str | None, *, json: bool) -> int:
    """0 once the host's key, and those on the way to it, are known; 1 where the person does not say yes.

    HostError: another key is known; it says how that one is removed. BadInput: nobody to ask, or another fingerprint.
    """
    for _ in range(MOST_HOPS):
        key = await orchestrator.machines.offered_key(name)
        if key.state == "known":
            break
        _show(key, err() if json else out())
        if key.state == "unknown" and not _agreed(key, name, fingerprint):
            err().say("not trusted; nothing was changed")
            return NO
        await orchestrator.machines.trust(key)  # refuses a changed one, with the command that removes the old
        err().say(f"kept in {key.file}")
    else:
        raise BadInput("NAME", f"more than {MOST_HOPS} unknown keys on the way to {name}")
    if json:
        print_json(
            {"host": name, "address": key.host, "port": key.port, "algorithm": key.algorithm}
            | {"fingerprint": key.fingerprint, "state": "known"}
        )
    else:
        out().say(f"the key of {name} is known: {key.algorithm} {key.fingerprint}")
    return 0


def _show(key: "Key", screen: "Screen") -> None:
    state = "is not known yet" if key.state == "unknown" else f"is NOT the one that is known ({key.where})"
    screen.say(
        f"{key.host} port {key.port} offers a key that {state}:",
        Text(f"  {key.algorithm} {key.fingerprint}", "bold"),
    )


def _agreed(key: "Key", name: str, fingerprint: str | None) -> bool:
    if fingerprint is not None:
        if key.fingerprint != fingerprint.strip():
            raise BadInput("--fingerprint", f"{key.host} offers {key.fingerprint}: that is another key")
        return True
    if not sys.stdin.isatty():
        raise BadInput(
            "NAME",
            f"nobody to ask here: run it in a terminal, or {typed()} hosts trust {name} "
            f"--fingerprint {key.fingerprint} if its administrator names the same",
        )
    screen = err()
    screen.say(
        "Compare it with what the server's administrator says: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there."
    )
    screen.ask("Trust it? [y]es, anything else: no: ")
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        screen.say("")
        return False
