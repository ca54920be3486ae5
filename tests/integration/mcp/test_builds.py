"""The whole way: client, pipe, server, worker, job, compiler, and the verdict back."""

import asyncio
from pathlib import Path

import anyio
from mcp import Client
from mcp_types import CallToolResult, TextContent

from tests.integration.mcp.conftest import Connect, mend
from tests.support.faults import worker_pid


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert result.structured_content is None
    return content.text


async def build(client: Client, project: Path, **arguments: object) -> CallToolResult:
    with anyio.fail_after(50):
        return await client.call_tool("idf_build", {"project": str(project), **arguments})


async def test_a_mistake_is_named_with_its_line_and_its_correction_builds(spawn: Connect, project: Path) -> None:
    """interfaces: the verdict in at most 700 bytes, then the next build succeeds."""
    async with spawn() as client:
        failed = await build(client, project)
        mend(project)
        mended = await build(client, project)

    assert failed.is_error
    assert "main/thermostat.c:8:9 error" in text_of(failed)
    assert "did you mean 'valve_open'" in text_of(failed)
    assert len(text_of(failed).encode()) <= 700
    assert not mended.is_error
    assert text_of(mended).startswith("build 2 succeeded · linux")
    assert "simulated" in text_of(mended)
    assert len(text_of(mended).encode()) <= 500


async def test_progress_counts_the_steps_of_the_build(connect: Connect, project: Path) -> None:
    """interfaces: `412/1043 compiling …`."""
    mend(project)
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with connect(IDF_DEMO_STEP_S="0.05") as client:
        with anyio.fail_after(50):
            await client.call_tool("idf_build", {"project": str(project)}, progress_callback=note)

    values = [done for done, _, _ in seen]
    assert values == sorted(set(values))
    assert any(total and message and message.startswith(f"{done:.0f}/{total:.0f} ") for done, total, message in seen)


async def test_a_build_outlives_the_server_that_started_it(connect: Connect, project: Path) -> None:
    """Design: nothing lives in a server; any other one has the result. (Its process killed: test_process.)"""
    mend(project)
    async with connect(IDF_DEMO_STEP_S="0.1") as client:
        started = await build(client, project, wait_s=0)
    async with connect("legacy") as other:
        with anyio.fail_after(50):
            ended = await other.call_tool("build_wait", {"build": 1})
            read = await other.call_tool("build_get", {"build": 1})

    assert "build 1 " in text_of(started)
    assert text_of(ended).startswith("build 1 succeeded")
    assert set(text_of(ended).splitlines()) <= set(text_of(read).splitlines())


async def test_two_servers_share_one_worker_and_one_list(spawn: Connect, project: Path, home: Path) -> None:
    """Design: two clients of one machine. The same directory is built by one of them at a time."""
    mend(project)
    async with spawn(IDF_DEMO_STEP_S="0.1") as one, spawn("legacy", IDF_DEMO_STEP_S="0.1") as two:
        first = await build(one, project, wait_s=0)
        second = await build(two, project, clean=True, wait_s=0)
        with anyio.fail_after(50):
            ends = await asyncio.gather(
                two.call_tool("build_wait", {"build": 1}), one.call_tool("build_wait", {"build": 2})
            )
        listed = await one.call_tool("build_list", {})
        same = await two.call_tool("build_list", {"project": "greenhouse"})

    assert worker_pid(home) is not None
    assert "build 1 " in text_of(first)
    assert "build 2 pending" in text_of(second)
    assert [text_of(end).split(" · ")[0] for end in ends] == ["build 1 succeeded", "build 2 succeeded"]
    assert [line.split(" ")[0] for line in text_of(listed).splitlines()] == ["2", "1"]
    assert text_of(listed) == text_of(same)


async def test_a_build_that_hangs_is_cancelled_with_all_its_processes(connect: Connect, project: Path) -> None:
    """Design: cancel within two seconds, said in words."""
    mend(project)
    async with connect(IDF_DEMO_HANG="1") as client:
        started = await build(client, project, wait_s=1)
        with anyio.fail_after(30):
            while "running stage" not in text_of(started):  # a busy machine starts its worker late
                started = await client.call_tool("build_wait", {"build": 1, "timeout_s": 1})
        with anyio.fail_after(10):
            cancelled = await client.call_tool("build_cancel", {"build": 1})
        again = await client.call_tool("build_cancel", {"build": 1})

    assert text_of(started).startswith("build 1 running stage build")
    assert text_of(cancelled).startswith("build 1 cancelled")
    assert not cancelled.is_error
    assert text_of(again) == "build 1 is over already: cancelled"


async def test_doctor_says_what_is_there(connect: Connect, project: Path) -> None:
    """interfaces: at most 1,500 bytes, problems first."""
    async with connect(CLAUDE_PROJECT_DIR=str(project)) as client:
        with anyio.fail_after(50):
            result = await client.call_tool("doctor", {})

    assert not result.is_error
    assert len(text_of(result).encode()) <= 1500
    assert "ESP-IDF" in text_of(result)


async def test_without_esp_idf_a_build_is_refused_in_a_sentence(connect: Connect, tmp_path: Path) -> None:
    """Design: EnvironmentMissing says what brings it."""
    project = tmp_path / "blink"
    project.mkdir()
    (project / "CMakeLists.txt").write_text("include($ENV{IDF_PATH}/tools/cmake/project.cmake)\nproject(blink)\n")
    async with connect(IDF_PATH="/nowhere") as client:
        result = await build(client, project)

    assert result.is_error
    assert "\n" not in text_of(result)
    assert "ESP-IDF" in text_of(result)


async def test_a_mistake_in_the_configuration_is_told_at_the_call_and_can_be_mended(
    connect: Connect, project: Path, home: Path
) -> None:
    """Ours. The server starts all the same: a server that exits is a dead pipe to its client."""
    (home / "config.yaml").write_text("defalts: {}\n")
    async with connect() as client:
        refused = await client.call_tool("build_list", {})
        (home / "config.yaml").write_text("defaults: {}\n")
        mended = await client.call_tool("build_list", {})

    assert refused.is_error
    assert "config.yaml:1" in text_of(refused)
    assert not mended.is_error
