"""`hosts` and `hosts trust`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

TRUST = "trust"

Word = Annotated[str | None, typer.Argument(metavar="trust", help="Show the host's key, ask, and keep it as known.")]
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="A name, alias or tag; by default every host.")]
Check = Annotated[bool, typer.Option("--no-check", help="Only what config.yaml says: ask no host.")]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="SHA256:KEY", help="With trust: do not ask, the key must have this one."),
]


def hosts(
    trust: Word = None, name: Name = None, no_check: Check = False, fingerprint: Fingerprint = None, json: Json = False
) -> int:
    """Show each host: reachable, load, disk, slots, jobs, other builds.

    Exits 0 if every host that was asked for answers, 1 if one does not. `hosts trust NAME` exits 0 once the key is
    known, 1 if you said no, 2 if another key is known already: then the command that removes it is shown.
    """
    if trust != TRUST:
        if name is not None:
            raise BadInput("NAME", f"one name at a time: hosts {name}, or hosts trust {name}")
        if fingerprint is not None:
            raise BadInput("--fingerprint", "belongs to hosts trust NAME")
        return with_orchestrator(lambda orchestrator: _show(orchestrator, trust, check=not no_check, json=json))
    if name is None:
        raise BadInput("NAME", "whose key? hosts trust NAME")

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import host_key  # noqa: PLC0415  # as below

        return await host_key.trust(orchestrator, name, fingerprint, json=json)

    return with_orchestrator(work)


async def _show(orchestrator: "Orchestrator", name: str | None, *, check: bool, json: bool) -> int:
    from mcp_server import record  # noqa: PLC0415
    from mcp_server.cli import host_table, screen  # noqa: PLC0415  # rich, once there is something to show

    views = await orchestrator.look_at_hosts(name, check=check)
    if json:
        screen.print_json([record.of_host(view) for view in views])
    else:
        out = screen.out()
        out.say(*host_table.host_lines(views, out.width if out.console.is_terminal else None))
        for line in host_table.notes(views):
            out.say_text(line)
        if name is None:
            out.say(f"workers: {(await orchestrator.crew()).text}")
        if [view.name for view in views] == ["local"] and name is None:
            screen.err().say(f"no other hosts: `servers` in {orchestrator.config.file} names them")
    return 1 if any(view.trouble for view in views) else 0
