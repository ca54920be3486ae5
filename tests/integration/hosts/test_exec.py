"""What only the exec make of the Host port has: the command that leads there, and how it fails."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import HostUnreachable
from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.exec import ExecHost
from tests.integration.hosts.conftest import STAND_IN

Sh = Callable[..., JobSpec]


def pod(tmp_path: Path, text: str) -> ExecHost:
    """A host whose command channel is the script `text`."""
    script = tmp_path / "kubectl"
    script.write_text("#!/bin/sh\n" + text)
    script.chmod(0o755)
    return ExecHost("pod", [str(script)], {"PATH": os.environ["PATH"], "POD_HOME": str(tmp_path / "pod")})


async def test_jobs_are_kept_in_the_home_over_there(tmp_path: Path, sh: Sh) -> None:
    """Ours: not in ours."""
    (tmp_path / "pod").mkdir()
    host = pod(tmp_path, STAND_IN)
    async with asyncio.timeout(5):
        await host.start(sh("a", "exit 6"))
        assert (await host.wait("a")).code == 6
        assert (await host.directory()).startswith(f"{tmp_path}/pod/.build-orchestrator/jobs/")
    await host.aclose()


async def test_a_lost_channel_is_a_fault_of_the_link(tmp_path: Path, sh: Sh, gate: Any) -> None:
    """Issue: the job runs on, and a new channel hears its end."""
    (tmp_path / "pod").mkdir()
    go = gate()
    host = pod(tmp_path, f'echo $$ >>"$POD_HOME/channels"\n{STAND_IN}')
    async with asyncio.timeout(8):
        await host.start(sh("a", 'read x <"$1"; exit 5', go.path))
        waiting = asyncio.create_task(host.wait("a"))
        await host.status("a")
        for pid in (tmp_path / "pod" / "channels").read_text().split():
            if Path(f"/proc/{pid}").exists():
                os.killpg(int(pid), 9)
        go.open()
        assert (await waiting).code == 5
    await host.aclose()


async def test_why_there_is_no_way_in_is_said(tmp_path: Path) -> None:
    """Ours: in the words of the command."""
    host = pod(tmp_path, "echo 'Error from server (NotFound): pods \"p\" not found' >&2; exit 1\n")
    with pytest.raises(HostUnreachable, match=r'no command can be run there: Error from server .*pods "p" not found'):
        await host.status("a")
    host = ExecHost("pod", ["/no/such/kubectl"], {})
    with pytest.raises(HostUnreachable, match="cannot run /no/such/kubectl: No such file or directory"):
        await host.status("a")
