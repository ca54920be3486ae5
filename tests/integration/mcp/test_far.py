"""Far hosts and pipelines over a real pipe, in front of a real worker; the hosts are command channels."""

from pathlib import Path

import anyio
import pytest

from tests.integration.mcp.conftest import Connect
from tests.integration.mcp.test_builds import text_of
from tests.support.three_hosts import write_config


@pytest.fixture(autouse=True)
def three_hosts(home: Path, tmp_path: Path) -> None:
    write_config(home, tmp_path / "far")


PIPELINE = """
pipeline:
  name: counted
  stages:
    - {name: image, server: yocto, command: "for i in 1 2 3 4; do echo \\"[$i/4] step\\"; sleep 0.3; done"}
    - {name: check, server: test, command: "echo 'a.c:1:2: warning: odd'", depends_on: [image]}
"""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_hosts_a_task_and_its_record(connect: Connect, mode: str) -> None:
    """interfaces: hosts, remote_build, build_get, build_stats, in both eras of the protocol."""
    async with connect(mode) as client:
        with anyio.fail_after(50):
            hosts = await client.call_tool("hosts", {})
            built = await client.call_tool("remote_build", {"host": "yocto", "task": "linux-s32"})
            log = await client.call_tool("build_log", {"build": 1, "tail": 3})
            counted = await client.call_tool("build_stats", {})

    assert len(text_of(hosts).splitlines()) == 4 and "unreachable" not in text_of(hosts)
    assert len(text_of(hosts).encode()) <= 1500
    assert not built.is_error and "on yocto-builder" in text_of(built)
    assert "made linux-s32" in text_of(log)
    assert "1 build · 1 successful" in text_of(counted)


async def test_progress_of_a_pipeline_counts_its_stages(connect: Connect) -> None:
    """Issue. Stages done of all, what runs with its steps."""
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with connect() as client:
        with anyio.fail_after(50):
            result = await client.call_tool("pipeline_run", {"yaml": PIPELINE}, progress_callback=note)

    assert not result.is_error, text_of(result)
    assert "image success" in text_of(result) and "check success" in text_of(result)
    values = [done for done, _, _ in seen]
    assert values == sorted(set(values))
    assert {total for _, total, _ in seen if total} == {2}
    assert any(message and message.startswith("0/2 stages · image ") for _, _, message in seen)


REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("remote_build", {"host": "yokto", "task": "x"}, "host: no server 'yokto'"),
    ("remote_build", {"host": "host", "task": "x"}, "task: host ccu2-builder has no `build`"),
    ("remote_build", {"host": "yocto"}, "task: give either task or command"),
    ("remote_build", {"host": "yocto", "task": "x", "command": "y"}, "task: give either task or command, not both"),
    ("remote_build", {"host": "yocto", "task": "x", "timeout": "3 hours"}, "timeout: '3 hours' is not a duration"),
    ("remote_build", {"host": "yocto", "task": "x", "env": ["a"]}, "env: ['a'] is not an object"),
    ("remote_build", {"host": "yocto", "task": "x", "project": "absent"}, "project: "),
    ("pipeline_run", {}, "path: give either path or yaml"),
    ("pipeline_run", {"yaml": "pipeline: {stages: 7}"}, ""),
    ("pipeline_run", {"path": "absent.yaml"}, "path: "),
    ("pipeline_run", {"yaml": PIPELINE, "params": {"who": 1}}, "there is no parameter 'who'"),
    ("hosts", {"name": "nobody"}, "host: no server 'nobody'"),
    ("build_stats", {"project": "nobody"}, "project: "),
]


async def test_what_cannot_be_used_is_refused_and_nothing_starts(connect: Connect) -> None:
    """interfaces: bad input is a sentence that names the argument and what it may be."""
    async with connect() as client:
        for tool, arguments, said in REFUSED:
            with anyio.fail_after(30):
                refused = await client.call_tool(tool, arguments)

            assert refused.is_error, (tool, arguments)
            assert text_of(refused).startswith(said) or said in text_of(refused)
            assert len(text_of(refused).encode()) < 600, (tool, arguments)
        with anyio.fail_after(30):
            builds = await client.call_tool("build_list", {})

    assert text_of(builds).startswith("no builds yet: ")
