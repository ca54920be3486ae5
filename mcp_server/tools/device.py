"""Boards and emulators: flashing after a yes, running in QEMU, serial sessions."""

from typing import Annotated, Any

from mcp.server.mcpserver import Elicit, Resolve
from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field

from mcp_server.errors import BadInput
from mcp_server.model import Plan
from mcp_server.tools import consent
from mcp_server.tools.answers import Roots, answer, follow, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import BuildRef, Ctx, Project, Text, Texts, WaitS, none_is_empty
from mcp_server.tools.consent import Yes

Seconds = Annotated[int, Field(ge=0, le=3600)]
Session = Annotated[BuildRef | None, Field(description="a session's number")]


MEND = "pass confirm=true"


async def ask_to_flash(
    project: str, build: Any, port: str, host: str, erase: bool, confirm: bool, roots: Roots, ctx: Ctx
) -> Yes | Elicit[Yes]:
    """The question that names build, board and host, once all of them are known to be there."""

    async def plan() -> Plan:
        orchestrator = await orchestrator_of(ctx)
        path = await project_path(orchestrator, project, roots)
        order = await orchestrator.devices.order_flash(
            path, build=build, port=port or None, host=host or "local", erase=erase
        )
        return order.plan

    return await consent.ask(ctx, plan(), confirm=confirm)


Agreed = Annotated[consent.Agreed, Resolve(ask_to_flash)]
"""A parameter that the SDK fills; no client sees it."""


async def idf_flash(
    ctx: Ctx,
    roots: Roots,
    agreed: Agreed,
    project: Project = ".",
    build: BuildRef | None = None,
    port: Text = "",
    host: Text = "local",
    erase: bool = False,
    expect: Texts = [],  # noqa: B006  (never changed)
    fail_on: Texts = [],  # noqa: B006
    monitor_s: Annotated[int, Field(ge=0, le=600)] = 10,
    confirm: bool = False,
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Flash what was built, watch it boot (expect, fail_on: regexes): pass, or the decoded panic."""
    if (refused := consent.refusal(ctx, agreed, MEND, "confirm")) is not None:
        return refused
    orchestrator = await orchestrator_of(ctx)
    start = orchestrator.devices.flash(
        await project_path(orchestrator, project, roots),
        build=build,
        port=port or None,
        host=host or "local",
        erase=erase,
        expect=expect,
        fail_on=fail_on,
        seconds=monitor_s,
        triggered_by="mcp",
        agreed=True,
    )
    started = await to_the_end(start)
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=not project.startswith("/"))


async def qemu_run(
    ctx: Ctx,
    roots: Roots,
    project: Project = ".",
    build: BuildRef | None = None,
    expect: Texts = [],  # noqa: B006
    fail_on: Texts = [],  # noqa: B006
    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 30,
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Run what was built in the emulator (expect, fail_on: regexes): pass, or the decoded panic."""
    orchestrator = await orchestrator_of(ctx)
    start = orchestrator.devices.emulate(
        await project_path(orchestrator, project, roots),
        build=build,
        expect=expect,
        fail_on=fail_on,
        seconds=timeout_s,
        triggered_by="mcp",
    )
    started = await to_the_end(start)
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=not project.startswith("/"))


async def serial_monitor(
    ctx: Ctx,
    port: Text = "",
    host: Text = "local",
    session: Session = None,
    wait_for: Text = "",
    timeout_s: Annotated[int, Field(ge=0, le=55)] = 10,
    max_bytes: Annotated[int, Field(ge=100, le=100_000)] = 4000,
    close: bool = False,
) -> CallToolResult:
    """Open a board's output, or read on in a session: what is new, up to a line that matches wait_for."""
    devices = (await orchestrator_of(ctx)).devices
    if session is None:
        if close:
            raise BadInput("close", "needs session: the number of the one to be closed")
        opened = await to_the_end(devices.open_session(port or None, host or "local", triggered_by="mcp"))
        session = opened.build.id
    elif close:
        return answer(await to_the_end(devices.close_session(session)))
    reading = await devices.read(session, wait_for=wait_for or None, timeout_s=timeout_s, max_bytes=max_bytes)
    return answer(f"{reading.text.rstrip()}\n{reading.summary()}".lstrip(), is_error=reading.failed)


async def serial_send(
    ctx: Ctx,
    session: Annotated[BuildRef, Field(description="a session's number")],
    data: Annotated[str, BeforeValidator(none_is_empty)] = "",
    reset: bool = False,
) -> CallToolResult:
    """Send text to a session's board, or reset it."""
    devices = (await orchestrator_of(ctx)).devices
    return answer(await to_the_end(devices.send(session, data, reset=reset)))
