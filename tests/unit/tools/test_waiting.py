"""Waiting: progress in order and not too often, nothing blocked, and a lost call leaves the build alone."""

import asyncio
import logging
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError

from mcp_server.model import BuildStatus, Progress, StageStatus
from mcp_server.server import make_server
from mcp_server.tools.answers import Teller
from tests.unit.tools.calls import call
from tests.unit.tools.fake import (
    Fake,
    a_build,
    a_stage,
    a_view,
    failed_view,
    pipeline_view,
    running_view,
    succeeded_view,
)

Seen = list[tuple[float, float | None, str | None]]


class Context:
    """Keeps what a client would be told."""

    def __init__(self) -> None:
        self.seen: Seen = []

    async def report_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.seen.append((progress, total, message))


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_progress_is_told_at_most_four_times_a_second_and_only_upwards() -> None:
    """MCP: progress must grow; ours: 4/s."""
    context, clock = Context(), Seconds()
    tell = Teller(context, clock)  # type: ignore[arg-type]

    for done in range(100):
        clock.now = 100 + done * 0.05
        await tell.update(running_view(done, 100))

    values = [value for value, _, _ in context.seen]
    assert values == sorted(set(values))
    assert len(values) == 20
    assert context.seen[0] == (0, 100, "0/100 compiling gpio.c")


async def test_a_second_stage_or_round_goes_on_where_the_first_ended() -> None:
    """MCP: never backwards, though the next stage counts from one again."""
    context, clock = Context(), Seconds()
    tell = Teller(context, clock)  # type: ignore[arg-type]
    pending, second = a_view(a_build()), running_view(1, 5, "running")
    second = a_view(second.build.model_copy(update={"round": 2}), *second.stages)

    for view in (pending, running_view(3, 10), running_view(10, 10, "linking"), second, running_view(4, 10)):
        clock.now += 1
        await tell.update(view)

    assert context.seen == [
        (0, None, "waits for the worker"),
        (3, 10, "3/10 compiling gpio.c"),
        (10, 10, "10/10 linking"),
        (11, 15, "1/5 running"),
        (15, 21, "4/10 compiling gpio.c"),
    ]


async def test_the_same_state_is_told_once_and_an_end_not_at_all() -> None:
    """Ours. The answer itself tells the end."""
    context, clock = Context(), Seconds()
    tell = Teller(context, clock)  # type: ignore[arg-type]
    stage = a_stage(StageStatus.RUNNING)
    started = a_view(a_build(status=BuildStatus.RUNNING), stage)

    for view in (started, started, running_view(0, 0, "configuring"), failed_view()):
        clock.now += 1
        await tell.update(view)

    assert context.seen == [(0, None, "stage build"), (0.01, None, "configuring")]


async def test_progress_reaches_the_client_while_it_waits(client: Client, fake: Fake) -> None:
    """interfaces: `412/1043 compiling …` while the call is open."""
    seen: Seen = []
    told = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))
        told.set()

    fake.push(running_view(412, 1043))
    waiting = asyncio.create_task(client.call_tool("build_wait", {"build": 42}, progress_callback=note))
    with anyio.fail_after(5):
        await told.wait()
    fake.push(succeeded_view())
    result = await waiting

    assert seen == [(412, 1043, "412/1043 compiling gpio.c")]
    assert not result.is_error


async def test_calls_beside_a_wait_are_answered_at_once(client: Client, fake: Fake) -> None:
    """Peers: a build in the event loop leaves every other call without an answer."""
    fake.push(running_view(1, 2))
    waiting = asyncio.create_task(client.call_tool("build_wait", {"build": 42}))

    with anyio.fail_after(5):
        await asyncio.gather(*(call(client, "build_get", build=42) for _ in range(20)))

    assert not waiting.done()
    fake.push(succeeded_view())
    await waiting


async def test_a_call_that_is_given_up_leaves_the_build_running(client: Client, fake: Fake) -> None:
    """Design: a cancelled or timed-out call never cancels a build."""
    fake.push(running_view(1, 2))

    with anyio.move_on_after(0.1):
        await client.call_tool("idf_build", {"project": "/p"})
    with pytest.raises(MCPError):
        await client.call_tool("build_wait", {"build": 42}, read_timeout_seconds=0.1)

    assert "cancel" not in [name for name, _ in fake.calls]
    assert (await call(client, "build_get", build=42))[0].startswith("build 42 running")


async def test_a_start_that_is_given_up_half_way_is_finished(fake: Fake, mode: str) -> None:
    """Ours. A row without a woken worker would wait for the next caller."""
    fake.push(running_view(1, 2))
    half_way, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
    start = fake.start_build

    async def slow(project: str, **arguments: object) -> object:
        half_way.set()
        await go_on.wait()
        finished.set()
        return await start(project, **arguments)

    fake.start_build = slow  # type: ignore[method-assign,assignment]
    async with Client(make_server(fake.open), mode=mode) as client:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as asking:
                asking.start_soon(client.call_tool, "idf_build", {"project": "/p"})
                await half_way.wait()
                asking.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await call(client, "build_get", build=42)  # the cancellation has arrived by now
                    go_on.set()
                    await finished.wait()


async def test_what_nobody_foresaw_is_a_sentence_and_a_traceback_in_the_log(
    client: Client, fake: Fake, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours. No traceback ever reaches a client."""
    fake.error = KeyError("secret thing")

    with caplog.at_level(logging.ERROR, "mcp_server.server"):
        text, is_error = await call(client, "build_get", build=42)

    assert (text, is_error) == (f"internal error: KeyError; see {home}/logs/mcp.log", True)
    assert "secret thing" in caplog.text


async def test_a_pipelines_progress_counts_stages_and_never_goes_back() -> None:
    """Issue. Stages done of all, what runs, errors and warnings so far."""
    image = a_stage(StageStatus.RUNNING, "yocto-image", "command", progress=Progress(done=50, total=100, warnings=2))
    built = a_stage(StageStatus.SUCCESS, "host-build", "command")
    views = [
        pipeline_view(BuildStatus.RUNNING, image),
        pipeline_view(BuildStatus.RUNNING, image, a_stage(StageStatus.RUNNING, "host-build", "command")),
        pipeline_view(BuildStatus.RUNNING, image, built, eta_s=90.0),
    ]
    context, clock = Context(), Seconds()
    teller = Teller(context, clock)  # pyright: ignore[reportArgumentType]
    for view in views:
        await teller.update(view)
        clock.now += 1

    assert [(round(done, 3), total) for done, total, _ in context.seen] == [(0.5, 3), (0.5, 3), (1.5, 3)]
    assert context.seen[0][0] < context.seen[1][0] < context.seen[2][0]
    assert context.seen[-1][2] == "1/3 stages · yocto-image 50/100 · 2 warnings · about 90 s left"


async def test_another_message_at_the_same_step_leaves_the_total_as_it_is() -> None:
    """Ours. A pipeline that was told to wait for a worker had a total of 3.0001 stages ever after."""
    steps = (Progress(), Progress(message="fetch"), Progress(done=1, total=4), Progress(done=2, total=4))
    stages = [a_stage(StageStatus.RUNNING, "yocto-image", "command", progress=progress) for progress in steps]
    context, clock = Context(), Seconds()
    teller = Teller(context, clock)  # pyright: ignore[reportArgumentType]
    for view in (pipeline_view(BuildStatus.PENDING), *(pipeline_view(BuildStatus.RUNNING, stage) for stage in stages)):
        await teller.update(view)
        clock.now += 1

    values = [value for value, _, _ in context.seen]
    assert values == sorted(set(values))
    assert [round(value, 2) for value in values] == [0, 0, 0.25, 0.5]
    assert {total for _, total, _ in context.seen} == {3}
