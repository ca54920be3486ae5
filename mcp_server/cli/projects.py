"""`projects`: what is known here, and what brings more of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

ACTIONS = ("list", "import", "sync", "rm")
MOST = 500
WAIT_S = 3600

Action = Annotated[str, typer.Argument(metavar="ACTION", help="list, import, sync or rm.")]
Which = Annotated[str | None, typer.Argument(metavar="PROJECT", help="A Git URL or folder to import, else a project.")]
Named = Annotated[str | None, typer.Option("--name", metavar="NAME", help="What an imported one is to be called.")]
Target = Annotated[str | None, typer.Option(metavar="CHIP", help="The chip that it is built for.")]
Branch = Annotated[str | None, typer.Option(metavar="BRANCH", help="The branch to clone; without: the default one.")]
Delete = Annotated[bool, typer.Option("--delete", help="With rm: delete the folder, too, if it was cloned here.")]
Unpushed = Annotated[
    bool, typer.Option("--unpushed", help="With --delete: also what was neither pushed nor committed there.")
]


def projects(
    action: Action = "list",
    project: Which = None,
    name: Named = None,
    target: Target = None,
    branch: Branch = None,
    delete: Delete = False,
    unpushed: Unpushed = False,
    json: Json = False,
) -> int:
    """List projects, or import, sync or remove one.

    A folder is registered as it is; nothing is written there. A Git URL is cloned below the home's projects/, with the
    credentials that your own git has. Exits 1 if cloning or syncing failed.
    """
    from mcp_server.cli.session import with_orchestrator  # noqa: PLC0415  # only what --help does without

    if action not in ACTIONS:
        raise BadInput("ACTION", f"{action[:40]!r} is none of {', '.join(ACTIONS)}")
    if (project is None) != (action == "list"):
        raise BadInput("PROJECT", "list takes none: it shows all" if project else f"which one? projects {action} WHAT")

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import screen  # noqa: PLC0415
        from mcp_server.report_projects import project_line  # noqa: PLC0415

        if action == "list":
            return await _list(orchestrator, json=json)
        if action == "rm":
            said = await orchestrator.projects.remove(project or "", delete=delete, unpushed=unpushed)
            screen.print_json({"removed": said}) if json else screen.out().say(said)
            return 0
        if action == "import":
            made = await orchestrator.projects.import_(project or "", name, target, branch)
            reference, build = made.project.id, made.build
        else:
            started = await orchestrator.projects.sync(project or "")
            reference, build = started.build.project_id, started.build.id
        if build is not None:
            await orchestrator.wait(build, WAIT_S)
        found = await orchestrator.find_project(reference)
        screen.print_json(found.model_dump(mode="json")) if json else screen.out().say(project_line(found))
        return 0 if found.status == "active" and not found.reason else 1

    return with_orchestrator(work)


async def _list(orchestrator: "Orchestrator", *, json: bool) -> int:
    from mcp_server.cli import screen  # noqa: PLC0415
    from mcp_server.report_projects import project_line  # noqa: PLC0415

    found = await orchestrator.projects.list(limit=MOST)
    if json:
        screen.print_json([project.model_dump(mode="json") for project in found])
        return 0
    screen.out().say(*map(project_line, found))
    if not found:
        screen.err().say("no project is known yet: build one, or import one")
    return 0
