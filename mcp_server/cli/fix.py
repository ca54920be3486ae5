"""`fix`: let an agent mend a failed build, and bring what it changed into the project."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.device import Yes, agreed_to
from mcp_server.cli.options import Agent, BuildNumber, Json
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import one_line
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

MaxRounds = Annotated[int, typer.Option("--max-rounds", metavar="N", help="Mend, and build again, at most so often.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", metavar="USD", help="Spend at most so much, all in all.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", metavar="N", help="Use at most so many tokens.")]
Apply = Annotated[bool, typer.Option("--apply", help="Bring the change into the project once it is proved.")]


def fix(
    build: BuildNumber,
    agent: Agent = None,
    max_rounds: MaxRounds = 3,
    max_cost: MaxCost = None,
    max_tokens: MaxTokens = None,
    apply: Apply = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Let an agent mend a failed build, proved by building again.

    It works in a copy, on a branch of its own; the project changes only with --apply. Of a build that an agent has
    mended already, --apply brings the change in and builds nothing. Exits 0 only where what was changed builds and
    passes its tests, 1 if it does not, 2 if it was refused, 128 + the signal's number if you detached.
    """
    budget = _budget(max_cost, max_tokens)

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import follow, here  # noqa: PLC0415  # the model and rich, which --help does without

        number = await _mended(orchestrator, build) if apply else None
        if number is not None:
            return await _apply(orchestrator, number, json=json)
        async with follow.signals_heard() as heard:
            started = await agreed_to(
                lambda agreed: orchestrator.workflows.fix(
                    build, agent=agent, max_rounds=max_rounds, budget=budget, agreed=agreed
                ),
                yes=yes,
            )
            if started is None:
                return 1
            code = await here.follow_here(orchestrator, started, heard, json=json)
        if code or not apply:
            return code
        return await _apply(orchestrator, started.build.id, json=False, quiet=json)

    return with_orchestrator(work)


def _budget(cost: float | None, tokens: int | None) -> dict[str, float]:
    given = {"--max-cost": cost, "--max-tokens": tokens}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise BadInput(name, f"{value:g} should be more than 0")
    budget = {"cost_usd": cost, "tokens": tokens}
    return {name: value for name, value in budget.items() if value is not None}


async def _mended(orchestrator: "Orchestrator", build: str) -> int | None:
    """The build's number, where it succeeded: then there is nothing to mend any more."""
    found = (await orchestrator.get(build)).build
    return found.id if found.status == "success" else None


async def _apply(orchestrator: "Orchestrator", number: int, *, json: bool, quiet: bool = False) -> int:
    """Bring the change in and say which files; on stderr where `quiet`: stdout has its one JSON value already."""
    from rich.text import Text  # noqa: PLC0415  # as above

    from mcp_server.cli import screen  # noqa: PLC0415

    project = (await orchestrator.get(number)).project.path
    files = await orchestrator.workflows.apply(number)
    if json:
        screen.print_json({"build": number, "project": project, "applied": list(files)})
        return 0
    out = screen.err() if quiet else screen.out()
    if not files:
        out.say(f"build {number} changed nothing: nothing was applied")
        return 0
    names = ", ".join(one_line(name, 100) for name in files[:10])
    more = f" and {len(files) - 10} more" if len(files) > 10 else ""
    out.say_text(Text(f"applied to {one_line(project, 200)}: {names}{more}"))
    return 0
