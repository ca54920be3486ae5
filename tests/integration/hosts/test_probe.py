"""The probe on this machine under real conditions: missing tools, mounts, folders, jobs and other people's builds."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_server.clock import SystemClock
from mcp_server.errors import BadInput, HostUnreachable
from mcp_server.hosts import probe as module
from mcp_server.hosts.base import Host, JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.probe import probe
from tests.support.small_disk import mounted

Sh = Callable[..., JobSpec]
TOOLS = (
    "awk bash cat date env fallocate find flock grep head mkdir mkfifo mv perl rm rsync setsid sleep sort tail tr wc"
)
MORE = "df id ls nproc sed sh timeout uname"


def tools(folder: Path, without: str = "") -> str:
    """A PATH with all that a host needs but some."""
    folder.mkdir()
    for tool in f"{TOOLS} {MORE}".split():
        program = shutil.which(tool)
        if tool not in without.split() and program:
            (folder / tool).symlink_to(program)
    return str(folder)


async def test_a_host_tells_its_facts(host: Host, tmp_path: Path) -> None:
    """Issue. Compared with what this machine itself says."""
    await probe(host)
    found = await probe(host, str(tmp_path))
    disk = shutil.disk_usage(tmp_path)
    assert found.system == f"{os.uname().sysname} {os.uname().release} {os.uname().machine}"
    assert found.cpus == len(os.sched_getaffinity(0))
    assert found.load and all(load >= 0 for load in found.load)
    assert found.memory_free and 0 < found.memory_free < 1 << 46
    assert found.disk_total and abs(found.disk_total - disk.total) < disk.total * 0.01
    assert found.disk_free and found.work_free and abs(found.disk_free - disk.free) < disk.total * 0.05
    assert abs(found.clock_off_s) < 1
    assert found.latency_s < 1
    assert not [warning for warning in found.warnings if "workdir" in warning]


async def test_running_jobs_are_told_and_not_taken_for_strangers(host: Host, sh: Sh, gate: Any, tmp_path: Path) -> None:
    """Issue. Another's `bitbake` is counted with its user; our own job's is not; an ended job is no running one."""
    (tmp_path / "bitbake").symlink_to(shutil.which("sleep") or "/missing")
    up = gate()
    await host.start(sh("over", "true"))
    await host.wait("over")
    before = {other.name: other.count for other in (await probe(host)).other_builds}
    await host.start(sh("mine", 'echo up >"$1"; ./bitbake 3000; true', up.path))
    await up.line()
    stranger = await asyncio.create_subprocess_exec(tmp_path / "bitbake", "3000")
    try:
        found = await probe(host)
    finally:
        stranger.kill()
        await stranger.wait()
    assert found.running_jobs == ("mine",)
    other = next(other for other in found.other_builds if other.name == "bitbake")
    assert other.count == before.get("bitbake", 0) + 1
    assert other.users


@pytest.mark.parametrize("tool", ["rsync", "bash", "flock", "fallocate"])
async def test_a_missing_tool_is_told(jobs_dir: Path, tmp_path: Path, tool: str) -> None:
    """Issue. By a PATH that has all the others."""
    host = LocalHost(jobs_dir, path=tools(tmp_path / "tools", tool))
    found = [warning for warning in (await probe(host)).warnings if "missing" in warning]
    await host.aclose()
    assert len(found) == 1 + (tool != "rsync" and shutil.which("rsync") is None)
    assert any(warning.startswith(f"{tool} is missing") for warning in found)


async def test_neither_setsid_nor_perl_is_told(jobs_dir: Path, tmp_path: Path) -> None:
    """Issue."""
    host = LocalHost(jobs_dir, path=tools(tmp_path / "tools", "setsid perl"))
    found = (await probe(host)).warnings
    await host.aclose()
    assert any("neither setsid nor perl" in warning for warning in found)


@pytest.mark.parametrize(("linger", "told"), [("no", True), ("yes", False)])
async def test_a_logout_that_ends_jobs_is_told(jobs_dir: Path, tmp_path: Path, linger: str, told: bool) -> None:
    """Issue. A fake systemd; root itself is spared, so `id` says somebody else."""
    path = tools(tmp_path / "tools", "id")
    scripts = {
        "busctl": "echo 'b true'",
        "loginctl": f"echo {linger}",
        "id": 'case $1 in -un) echo ann ;; *) echo "$UIDS" ;; esac',
    }
    for name, text in scripts.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\nUIDS={os.getuid()}\n{text}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    host = LocalHost(jobs_dir, path=path)
    found = (await probe(host)).warnings
    await host.aclose()
    assert any("loginctl enable-linger ann" in warning for warning in found) is told


async def test_a_workdir_that_cannot_be_used_is_told(host: Host, tmp_path: Path) -> None:
    """Issue: absent, a file; a name with blanks and quotes is but a name."""
    (tmp_path / "file").write_text("")
    odd = tmp_path / "it's a; $(touch x)  folder"
    odd.mkdir()
    for workdir, word in ((tmp_path / "none", "does not exist"), (tmp_path / "file", "is no folder"), (odd, "")):
        found = [warning for warning in (await probe(host, str(workdir))).warnings if "workdir" in warning]
        assert [word in warning for warning in found] == ([True] if word else [])
    with pytest.raises(BadInput):
        await probe(host, "relative")
    with pytest.raises(BadInput):
        await probe(host, "/a\n/b")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
async def test_anothers_files_are_told(host: Host, jobs_dir: Path, tmp_path: Path) -> None:
    """Issue: other user's files, and a workdir that is not ours."""
    await host.status("a")
    (jobs_dir / "x").write_text("")
    os.chown(jobs_dir / "x", 65534, 65534)
    (tmp_path / "work").mkdir()
    os.chown(tmp_path / "work", 65534, 65534)
    found = (await probe(host, str(tmp_path / "work"))).warnings
    assert any(f"{jobs_dir}/x belongs to another user" in warning for warning in found)
    assert any(f"workdir {tmp_path}/work belongs to another user" in warning for warning in found)
    shutil.rmtree(jobs_dir)


@pytest.fixture
def small_disk(jobs_dir: Path) -> Iterator[Path]:
    """jobs_dir on a file system of its own: 2 MB large, noexec."""
    yield from mounted(jobs_dir, "2m,noexec")


async def test_a_small_noexec_disk_is_told(small_disk: Path, host: Host) -> None:
    """Issue. Jobs run there all the same: the shell reads our script, nobody executes it."""
    found = await probe(host, str(small_disk))
    assert found.disk_total == 2 << 20
    assert any("nearly full" in warning for warning in found.warnings)
    assert any("jobs' folder is mounted noexec" in warning for warning in found.warnings)
    assert any(f"workdir {small_disk} is mounted noexec" in warning for warning in found.warnings)


class Off(SystemClock):
    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=30)


async def test_a_clock_that_is_off_is_told(host: Host) -> None:
    """Issue. Ours is moved instead of the machine's."""
    found = await probe(host, clock=Off())
    assert 29 < found.clock_off_s < 31
    assert any(re.search(r"(29|30|31) s ahead of ours", warning) for warning in found.warnings)


async def test_a_host_that_hangs_is_unreachable(
    jobs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: a dead network file system holds df for ever."""
    path = tools(tmp_path / "tools", "df")
    (tmp_path / "tools" / "df").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "tools" / "df").chmod(0o755)
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    host = LocalHost(jobs_dir, path=path)
    with pytest.raises(HostUnreachable, match="says nothing of itself"):
        await probe(host)
    await host.aclose()
