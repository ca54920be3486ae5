"""hosts and remote_build: what is passed on, what is answered, and how short."""

from pathlib import Path

import pytest
from mcp import Client
from mcp_types import TextContent, TextResourceContents

from mcp_server.config import Server
from mcp_server.errors import BadInput
from mcp_server.hosts.probe import HostFacts, OtherProcess
from mcp_server.machines import HostView
from mcp_server.model import BuildStatus, Lease, Progress, StageStatus
from mcp_server.orders import RemoteAsk
from tests.unit.tools.calls import call
from tests.unit.tools.fake import NOON, Fake, a_build, a_stage, a_view, succeeded_view

GIB = 1 << 30
YOCTO = Server(host="192.168.1.101", alias="yocto", build="bitbake {task}", workdir="/workspace", purpose="images")


def facts(**changes: object) -> HostFacts:
    values: dict[str, object] = {
        "system": "Linux 6.1 x86_64",
        "cpus": 16,
        "load": (3.21, 2.0, 1.0),
        "memory_free": 30 * GIB,
        "disk_free": 120 * GIB,
        "disk_total": 500 * GIB,
        "work_free": None,
        "clock_off_s": 0.0,
        "running_jobs": ("abcdef01-42-build-1-1",),
        "other_builds": (OtherProcess("bitbake", 4, ("build",)),),
        "warnings": (),
        "latency_s": 0.0123,
    }
    return HostFacts(**{**values, **changes})  # type: ignore[arg-type]


def lease() -> Lease:
    return Lease(resource="host:yocto-builder", slot=0, build=42, stage="build", reason="stage build", taken_at=NOON)


async def test_hosts_are_a_line_each_and_one_that_is_down_says_why(client: Client, fake: Fake) -> None:
    """interfaces: reachability, latency, load, disk, slots, our jobs, other people's builds, what tasks are."""
    down = HostView("ccu2-builder", Server(host="192.168.1.102"), 3, trouble="connection refused at port 22")
    fake.host_views = [HostView("yocto-builder", YOCTO, 3, [lease()], facts(warnings=("no rsync there",))), down]

    text, is_error = await call(client, "hosts")

    assert not is_error  # looking has succeeded, whatever was seen
    assert text.splitlines() == [
        "yocto-builder (yocto) · 12 ms · load 3.2 of 16 cpus · disk 120 of 500 GiB free · 30 GiB memory free"
        " · slots 1/3 · 1 job · other builds: bitbake x 4 (build) · in /workspace · tasks: bitbake {task} · images"
        " · ! no rsync there",
        "ccu2-builder · unreachable: connection refused at port 22 · slots 0/3 · no workdir"
        " · no `build`: needs a command",
    ]


async def test_what_was_not_looked_at_is_not_told(client: Client, fake: Fake) -> None:
    """Ours. check=false asks no host anything."""
    fake.host_views = [HostView("yocto-builder", YOCTO, 3)]

    text, _ = await call(client, "hosts", name="yocto", check=False)

    assert text == "yocto-builder (yocto) · slots 0/3 · in /workspace · tasks: bitbake {task} · images"
    assert fake.called("look_at_hosts") == {"name": "yocto", "check": False}


async def test_without_servers_the_file_that_would_name_them_is_told(client: Client, fake: Fake) -> None:
    """Ours. Nothing to see, and how that changes."""
    fake.host_views = [HostView("local", Server(), 3, facts=facts(other_builds=(), running_jobs=()))]

    text, _ = await call(client, "hosts")

    assert text.splitlines()[0].startswith("local · 12 ms · load")
    assert text.splitlines()[1] == f"no other hosts: `servers` in {fake.config.file} names them"


@pytest.mark.parametrize("count", [1, 3, 12, 100])
async def test_hosts_stay_short_however_many_there_are(client: Client, fake: Fake, count: int) -> None:
    """interfaces: 1,500 bytes."""
    wordy = facts(warnings=("w" * 300, "x" * 300), other_builds=(OtherProcess("é" * 50, 9, ("u" * 99,)),) * 9)
    fake.host_views = [HostView(f"builder-{n}", YOCTO, 3, [lease()], wordy) for n in range(count)]

    text, _ = await call(client, "hosts")

    assert len(text.encode()) <= 1500
    assert text.startswith("builder-0 (yocto)")


async def test_a_task_goes_to_the_host_as_it_was_meant(client: Client, fake: Fake) -> None:
    """interfaces: remote_build's arguments; what is left out is the configuration's."""
    fake.push(succeeded_view())

    await call(client, "remote_build", host="yocto", task="linux-s32")

    assert fake.called("start_remote") == {"ask": RemoteAsk(host="yocto", task="linux-s32"), "triggered_by": "mcp"}


async def test_a_command_goes_with_folder_files_environment_and_limit(
    client: Client, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """interfaces: remote_build's arguments; models write numbers where texts are meant."""
    monkeypatch.chdir(tmp_path)
    fake.push(succeeded_view())

    await call(
        client,
        "remote_build",
        host="fast",
        command="make -j8 && echo 'done'",
        workdir="/w",
        project=".",
        artifacts=["out/*.bin"],
        env={"JOBS": 8, "V": True, "NAME": "x y"},
        timeout=90,
    )

    assert fake.called("start_remote")["ask"] == RemoteAsk(
        host="fast",
        command="make -j8 && echo 'done'",
        workdir="/w",
        project=str(tmp_path),
        artifacts=("out/*.bin",),
        env={"JOBS": "8", "V": "true", "NAME": "x y"},
        timeout="90",
    )


async def test_a_host_without_build_asks_for_the_command(client: Client, fake: Fake) -> None:
    """Issue. The sentence says what to pass; the skill asks the user for it."""
    fake.error = BadInput("task", "host ccu2-builder has no `build` in config.yaml that makes a command of it: …")

    text, is_error = await call(client, "remote_build", host="host", task="vam")

    assert is_error
    assert text.startswith("task: host ccu2-builder has no `build`")


async def test_a_host_that_does_not_answer_is_told_with_its_time(client: Client, fake: Fake) -> None:
    """Issue. `unreachable since` is neither lost nor running for ever."""
    row = a_stage(
        StageStatus.RUNNING,
        kind="command",
        host="yocto-builder",
        unreachable_since=NOON.replace(minute=3),
        progress=Progress(done=412, total=1043, message="do_compile", errors=0, warnings=12),
    )
    fake.push(a_view(a_build(status=BuildStatus.RUNNING, started_at=NOON, target=None), row))

    text, is_error = await call(client, "remote_build", host="yocto", task="linux-s32", wait_s=0)

    assert not is_error
    assert text.splitlines() == [
        "build 42 running stage build · 38 s · on yocto-builder · 12 warnings",
        "project /home/me/blink",
        "412/1043 do_compile · unreachable since 12:03 UTC",
        'more: build_wait(42) · build_log(42, "build", tail=20)',
    ]


async def test_a_host_is_a_resource(client: Client, fake: Fake) -> None:
    """interfaces: host://{name}."""
    fake.host_views = [HostView("yocto-builder", YOCTO, 3, facts=facts())]

    (content,) = (await client.read_resource("host://yocto")).contents

    assert isinstance(content, TextResourceContents)
    assert content.text.startswith("yocto-builder (yocto) · 12 ms")
    assert fake.called("look_at_hosts") == {"name": "yocto", "check": True}


async def test_a_goal_is_put_behind_the_guide_and_the_hosts(client: Client, fake: Fake) -> None:
    """interfaces: write_pipeline(goal). No host is asked for it."""
    fake.host_views = [HostView("yocto-builder", YOCTO, 3)]

    (message,) = (await client.get_prompt("write_pipeline", {"goal": "build the image, then test it"})).messages

    assert isinstance(message.content, TextContent)
    assert message.content.text.startswith("# Pipelines: from a request to YAML")
    assert "yocto-builder (yocto)" in message.content.text and "tasks: bitbake {task}" in message.content.text
    assert "build the image, then test it" in message.content.text
    assert fake.called("look_at_hosts")["check"] is False
