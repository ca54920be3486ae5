"""What others have cloned here reaches public hosts only, whatever a name means by then, and submodules, too."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server import git_source, public_net
from tests.integration.web.test_projects import git_port, origin, over
from tests.support.git_tree import UserTree
from tests.support.http_peer import answer, http_peer
from tests.support.web_service import Service, web_service
from tests.support.workers import end_everything, worker_inside

__all__ = ["git_port", "origin"]
pytestmark = pytest.mark.timeout(60)


@pytest_asyncio.fixture
async def service(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    async def public(host: str, port: int | None, named: Collection[str]) -> None:
        """As a name is that says something else a moment later."""

    monkeypatch.setattr(git_source, "check_public", public)
    async with worker_inside(home), web_service(PATH="/usr/local/bin:/usr/bin:/bin") as service:
        yield service
    end_everything(home)


async def imported(service: Service, source: str, name: str) -> tuple[str, str]:
    """What became of an import: the project's status and reason."""
    made = await service.ask("POST", "/api/projects", json={"source": source, "name": name})
    assert made.status_code == 202, made.text
    await over(service, made.json()["build_id"])
    project = (await service.ask("GET", f"/api/projects/{name}")).json()
    return project["status"], str(project["reason"])


async def test_a_name_that_turns_private_after_it_was_checked_is_not_dialled(service: Service, git_port: int) -> None:
    """Issue: SSRF by rebinding. The address that is dialled is the one that was checked, of each protocol."""
    async with http_peer() as peer:
        for number, source in enumerate(
            (
                f"git://localhost:{git_port}/lamp/.git",
                f"https://localhost:{peer.port}/me/lamp",
                f"ssh://git@localhost:{peer.port}/me/lamp",
                f"git@localhost:{git_port}",
            )
        ):
            status, reason = await imported(service, source, f"lamp{number}")
            assert status == "error", source
            assert "localhost is " in reason and "no public address; security.project_hosts" in reason, reason
        assert peer.connections == 0


async def test_a_submodule_is_held_to_the_same(
    service: Service, home: Path, origin: UserTree, git_port: int, tmp_path: Path
) -> None:
    """Issue. Else a repository on a public host would do what its URL may not."""
    (home / "config.yaml").write_text(f"security: {{project_hosts: ['127.0.0.1:{git_port}']}}\n")
    url = f"git://127.0.0.1:{git_port}/lamp/.git"
    assert await imported(service, url, "lamp") == ("active", "None")
    synced = await service.ask("POST", "/api/projects/lamp/sync", json={})
    assert await over(service, synced.json()["build_id"]) == "success"

    inner = f'[submodule "dark"]\n\tpath = dark\n\turl = git://localhost:{git_port}/lamp/.git\n'
    origin.write(".gitmodules", inner)
    sha = origin.git("rev-parse", "HEAD")
    (origin.top / "dark").mkdir()
    origin.git("update-index", "--add", "--cacheinfo", f"160000,{sha},dark")
    origin.commit("a way in")
    status, reason = await imported(service, url, "dark")
    assert (status, "localhost is " in reason) == ("error", True), reason


ASK = """
import os, socket, sys
port, proxied = int(sys.argv[1]), int(os.environ["GIT_CONFIG_VALUE_1"].rpartition(":")[2])
proxy = socket.create_connection(("127.0.0.1", proxied))
proxy.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % port)
assert proxy.recv(1000) == b"HTTP/1.1 200 connected\\r\\n\\r\\n"
proxy.sendall(b"GET /tls HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
assert b"204" in proxy.recv(1000)
proxy = socket.create_connection(("127.0.0.1", proxied))
proxy.sendall(b"GET http://127.0.0.1:%d/plain HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % port)
assert b"204" in proxy.recv(1000)
for bad in (b"CONNECT x", b"CONNECT [::1]:%d HTTP/1.1" % port, b"GET ftp://x/ HTTP/1.1", b"GET / HTTP/1.1"):
    proxy = socket.create_connection(("127.0.0.1", proxied))
    proxy.sendall(bad + b"\\r\\n\\r\\n")
    assert b" 40" in proxy.recv(1000), bad
sys.exit(7)
"""


async def test_what_is_named_is_reached_and_the_commands_end_is_told(tmp_path: Path) -> None:
    """Ours: https by CONNECT, plain http, anything else refused; the exit code is the command's own."""
    async with http_peer() as peer:
        peer.answers = [answer(204)]
        command = public_net.around([sys.executable, "-c", ASK, str(peer.port)], [f"127.0.0.1:{peer.port}"])
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (
        7,
        "fatal: ::1 is no public address; security.project_hosts in config.yaml allows it\n",
    )
