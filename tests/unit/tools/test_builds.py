"""The build_* tools: renderings, flags, and what is refused."""

import pytest
from mcp import Client, MCPError

from mcp_server.errors import Conflict
from mcp_server.logs import LogSlice
from mcp_server.model import BuildStatus, Event
from tests.unit.tools.calls import call
from tests.unit.tools.fake import NOON, Fake, a_build, a_view, failed_view, running_view, succeeded_view


async def test_waiting_for_a_failed_build_is_flagged_reading_it_is_not(client: Client, fake: Fake) -> None:
    """interfaces: reading succeeded, whatever was read."""
    fake.push(failed_view())

    waited = await call(client, "build_wait", build=42)
    read = await call(client, "build_get", build=42)
    by_task = await call(client, "build_get", build="0C5C1D70-0000-4000-8000-000000000042")

    assert waited[1]
    assert not read[1]
    assert read == by_task
    assert read[0].splitlines()[0] == waited[0].splitlines()[0]


async def test_a_wait_that_runs_out_tells_how_far_the_build_is(client: Client, fake: Fake) -> None:
    """interfaces: id, what is running, progress, ETA, how to go on."""
    fake.push(running_view(412, 1043, elapsed_s=41))

    text, is_error = await call(client, "build_wait", build=42, timeout_s=0)

    assert not is_error
    assert text.splitlines()[:3] == [
        "build 42 running stage build · esp32c3 · 41 s · about 63 s left",
        "project /home/me/blink",
        "412/1043 compiling gpio.c",
    ]


@pytest.mark.parametrize(
    ("detail", "first"),
    [
        ("verdict", "build 42 failed in stage build"),
        ("stages", "build 42 failed"),
        ("sizes", "build 42 left no binaries"),
        ("artifacts", "build 42 left no artifacts"),
        ("events", "build 42: 1 event"),
    ],
)
async def test_each_detail_has_its_table(client: Client, fake: Fake, detail: str, first: str) -> None:
    """interfaces: build_get."""
    fake.push(failed_view())
    fake.happened = [Event(id=1, type="build.status", build=42, ts=NOON)]

    text, is_error = await call(client, "build_get", build=42, detail=detail)

    assert text.startswith(first)
    assert not is_error


async def test_a_comparison_is_about_sizes(client: Client, fake: Fake) -> None:
    """interfaces: compare_to."""
    fake.views = [succeeded_view(), a_view(a_build(41, BuildStatus.SUCCESS))]

    text, _ = await call(client, "build_get", build=42, compare_to=41)
    refused = await call(client, "build_get", build=42, compare_to=41, detail="stages")

    assert text == "build 42 left no binaries: it is success"
    assert refused == ('compare_to: compares sizes or artifacts: leave it out for detail="stages"', True)


async def test_a_slice_of_the_log_is_asked_for_and_shown(client: Client, fake: Fake) -> None:
    """interfaces: build_log; a pattern that is also JSON stays a pattern."""
    fake.push(failed_view())
    fake.log_slice = LogSlice("build", "8: error: x", note="1 of 9 lines match")

    text, _ = await call(client, "build_log", build="42", stage="build", grep="[8]", max_bytes=99)

    assert text == "8: error: x\n[1 of 9 lines match]"
    how = {"grep": "[8]", "around": None, "tail": None, "offset": None, "max_bytes": 99}
    assert fake.called("log") == {"reference": "42", "stage": "build", **how}


async def test_builds_are_listed_for_a_project_and_a_status(client: Client, fake: Fake) -> None:
    """interfaces: build_list."""
    fake.push(failed_view(duration=38.0))

    text, _ = await call(client, "build_list", project="blink", status="failed", limit=3)
    await call(client, "build_list")

    assert text == "42 failed · 2026-01-31 12:00 UTC · 38 s · blink · esp32c3 · idf_build"
    asked = [arguments for name, arguments in fake.calls if name == "list"]
    assert asked == [
        {"project": "/home/me/blink", "status": "failed", "limit": 3},
        {"project": None, "status": None, "limit": 10},
    ]


async def test_cancelling_answers_with_what_became_of_the_build(client: Client, fake: Fake) -> None:
    """interfaces: build_cancel is no failure."""
    fake.push(a_view(a_build(status=BuildStatus.CANCELLED)))

    text, is_error = await call(client, "build_cancel", build=42)

    assert text.startswith("build 42 cancelled")
    assert not is_error
    assert [name for name, _ in fake.calls][:2] == ["cancel", "get"]


async def test_a_retry_is_waited_for_like_any_build(client: Client, fake: Fake) -> None:
    """interfaces: build_retry, a new build with retry_of."""
    fake.push(failed_view(retry_of=41))

    text, is_error = await call(client, "build_retry", build=41, failed_only=False, wait_s=5)

    assert is_error
    assert "retry of 41" in text
    assert fake.called("retry") == {"reference": 41, "failed_only": False, "agreed": True}


async def test_what_the_state_forbids_is_one_sentence(client: Client, fake: Fake) -> None:
    """interfaces: only failed or cancelled builds can be retried."""
    fake.error = Conflict("build 42 is success: only a failed or cancelled build can be retried")

    assert await call(client, "build_retry", build=42) == (str(fake.error), True)


async def test_builds_and_logs_are_resources_too(client: Client, fake: Fake) -> None:
    """interfaces: build://{id} and build://{id}/log/{stage}{?tail}."""
    fake.push(failed_view())

    verdict = await client.read_resource("build://42")
    await client.read_resource("build://42/log/build?tail=5")

    assert getattr(verdict.contents[0], "text", "").startswith("build 42 failed")
    assert fake.called("log")["tail"] == 5


async def test_a_build_that_does_not_exist_is_no_resource(client: Client, fake: Fake) -> None:
    """MCP: resource not found, in the same words as everywhere."""
    with pytest.raises(MCPError, match="there is no build 7"):
        await client.read_resource("build://7")
    with pytest.raises(MCPError, match="neither a build number"):
        await client.read_resource("build://seven")


async def test_the_prompt_puts_the_developer_before_the_verdict(client: Client, fake: Fake) -> None:
    """interfaces: fix_build(build)."""
    fake.push(failed_view())

    prompt = await client.get_prompt("fix_build", {"build": "42"})
    text = getattr(prompt.messages[0].content, "text", "")

    assert text.startswith("# Developer")
    assert text.rstrip().endswith('more: build_log(42, "build") · do not rebuild to read the log')
    assert "Project: /home/me/blink" in text
    with pytest.raises(MCPError, match="there is no build 7"):
        await client.get_prompt("fix_build", {"build": "7"})
