"""What only the SSH make of the Host port has: its pool, its keys, its settings, and plain words for what fails."""

import ast
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mcp_server
from mcp_server.config import Server
from mcp_server.errors import HostError, HostUnreachable
from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.job import JOB
from mcp_server.hosts.ssh import SshHost, SshOptions
from mcp_server.hosts.trust import offered_key, trust
from tests.integration.hosts.conftest import NO_SSHD, running
from tests.support.sshd import Sshd

pytestmark = NO_SSHD

Sh = Callable[..., JobSpec]
Open = Callable[..., SshHost]


@pytest.fixture
async def dial(sshd: Sshd, jobs_dir: Path) -> AsyncIterator[Open]:
    """A host by that server's settings, or by others; dials once, and fast."""
    hosts: list[SshHost] = []

    def new(server: Sshd = sshd, *, entry: dict[str, Any] | None = None, **options: Any) -> SshHost:
        options = {"ssh_config": server.ssh_config, "backoff_s": (), "connect_s": 5, **options}
        settings: dict[str, Any] = {"host": "box", "jobs_dir": str(jobs_dir), **(entry or {})}
        hosts.append(SshHost("fast", Server(**settings), {"HOME": str(server.home)}, SshOptions(**options)))
        return hosts[-1]

    yield new
    async with asyncio.timeout(10):
        for host in hosts:
            await host.aclose()


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server that a test may spoil."""
    yield from running(Sshd(tmp_path / "own"))


async def said(host: SshHost) -> str:
    """Why the host is unreachable."""
    async with asyncio.timeout(10):
        with pytest.raises(HostUnreachable) as caught:
            await host.status("a")
    return str(caught.value)


def links(host: SshHost) -> list[int]:
    """Channels in use, a number for each connection."""
    pool = host.shell.pool
    return [link.used for link in pool.links] if pool else []


async def settled(host: SshHost) -> None:
    """Until the multiplexer's is the only channel; nothing tells of it."""
    while links(host) != [1]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_host_keys_are_never_unchecked() -> None:
    """Ours: `known_hosts=None` turns the check off, and is nowhere in the package."""
    for path in Path(mcp_server.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "known_hosts":
                assert not (isinstance(node.value, ast.Constant) and node.value.value is None), path
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    named = isinstance(key, ast.Constant) and key.value == "known_hosts"
                    assert not (named and isinstance(value, ast.Constant) and value.value is None), path


async def test_an_unknown_key_is_told_with_what_mends_it(dial: Open, own_sshd: Sshd) -> None:
    """Issue. Nothing is accepted silently; after `hosts trust` the same host works."""
    own_sshd.known_hosts.write_text("# nothing\n")
    sentence = await said(dial(own_sshd))
    assert "is not known (ED25519 SHA256:" in sentence
    assert sentence.endswith("build-orchestrator hosts trust fast")
    key = await offered_key("fast", Server(host="box"), {}, SshOptions(ssh_config=own_sshd.ssh_config))
    assert (key.state, key.port, key.where) == ("unknown", own_sshd.port, None)
    assert key.fingerprint in sentence

    trust(key)

    assert (await dial(own_sshd).status("a")).state == "absent"
    again = await offered_key("fast", Server(host="box"), {}, SshOptions(ssh_config=own_sshd.ssh_config))
    assert (again.state, again.where) == ("known", f"{own_sshd.known_hosts}:2")


async def test_a_changed_key_is_told_apart_and_never_replaced(dial: Open, own_sshd: Sshd) -> None:
    """Issue: which line holds the old one, that somebody may be listening, and the command."""
    other = own_sshd.make_key("other").with_name("other.pub").read_text().split()[:2]
    own_sshd.known_hosts.write_text(f"# first\n[127.0.0.1]:{own_sshd.port} {' '.join(other)}\n")
    before = own_sshd.known_hosts.read_bytes()
    sentence = await said(dial(own_sshd))
    assert "has CHANGED" in sentence
    assert f"{own_sshd.known_hosts}:2" in sentence
    assert "Somebody may be listening" in sentence
    assert f"ssh-keygen -f {own_sshd.known_hosts} -R '[127.0.0.1]:{own_sshd.port}'" in sentence
    key = await offered_key("fast", Server(host="box"), {}, SshOptions(ssh_config=own_sshd.ssh_config))
    assert (key.state, key.where) == ("changed", f"{own_sshd.known_hosts}:2")
    with pytest.raises(HostError, match="never replaced"):
        trust(key)
    assert own_sshd.known_hosts.read_bytes() == before


async def test_a_key_of_another_kind_is_a_changed_one(dial: Open, own_sshd: Sshd) -> None:
    """Ours: who listens may offer whatever kind is not in the file."""
    own_sshd.make_key("other", "ecdsa")
    other = own_sshd.folder.joinpath("other.pub").read_text().split()[:2]
    own_sshd.known_hosts.write_text(f"[127.0.0.1]:{own_sshd.port} {' '.join(other)}\n")
    assert "has CHANGED" in await said(dial(own_sshd))


async def test_a_known_kind_of_key_is_asked_for(dial: Open, tmp_path: Path) -> None:
    """Ours: a server with several keys, of which only the last one is known."""
    for server in running(Sshd(tmp_path / "two", kinds=("ed25519", "ecdsa"))):
        server.known_hosts.write_text(server.known_hosts.read_text().splitlines(keepends=True)[1])
        assert (await dial(server).status("a")).state == "absent"


async def test_a_revoked_key_is_refused(dial: Open, own_sshd: Sshd) -> None:
    """OpenSSH's @revoked beats the line that knows it."""
    line = own_sshd.known_hosts.read_text()
    own_sshd.known_hosts.write_text(line + "@revoked * " + line.split(" ", 1)[1])
    assert f"is marked as revoked in {own_sshd.known_hosts}:2" in await said(dial(own_sshd))


async def test_the_wrong_user_and_the_keys_that_were_tried_are_named(dial: Open, sshd: Sshd) -> None:
    """Issue. No password is ever asked for."""
    sentence = await said(dial(entry={"user": "nobody-here"}))
    assert "does not let user 'nobody-here' in: tried " + str(sshd.key) in sentence
    assert "ssh-copy-id nobody-here@box" in sentence


async def test_without_a_key_it_is_said_what_is_missing(dial: Open, own_sshd: Sshd) -> None:
    """Issue: a missing IdentityFile is skipped, as OpenSSH does; one with a passphrase is never asked for."""
    own_sshd.configure(IdentityFile="/no/such/key", IdentitiesOnly="yes")
    config = own_sshd.ssh_config.read_text().replace(f"    IdentityFile {own_sshd.key}\n", "")
    own_sshd.ssh_config.write_text(config)
    assert "there was no key to show; no agent is running (SSH_AUTH_SOCK)" in await said(dial(own_sshd))
    protect = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(own_sshd.key)]
    await asyncio.to_thread(subprocess.run, protect, check=True, stdout=subprocess.PIPE)
    own_sshd.ssh_config.write_text(config.replace("/no/such/key", str(own_sshd.key)))
    assert f"{own_sshd.key} needs its passphrase (ssh-add {own_sshd.key})" in await said(dial(own_sshd))


async def test_a_missing_identity_beside_a_good_one_is_no_obstacle(dial: Open, own_sshd: Sshd) -> None:
    """Once broken: asyncssh ends with FileNotFoundError."""
    own_sshd.configure(IdentityFile="/no/such/key")
    assert (await dial(own_sshd).status("a")).state == "absent"


async def test_keys_of_the_agent_are_used(dial: Open, own_sshd: Sshd, jobs_dir: Path) -> None:
    """Issue: the agent that SSH_AUTH_SOCK names."""
    agent = own_sshd.folder / "agent"
    process = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", agent, stdout=subprocess.PIPE)
    try:
        assert process.stdout and await process.stdout.readline()
        environment = {"SSH_AUTH_SOCK": str(agent), "HOME": str(own_sshd.home)}
        add = ["ssh-add", "-q", str(own_sshd.key)]
        await asyncio.to_thread(subprocess.run, add, check=True, env={**os.environ, **environment})
        text = own_sshd.ssh_config.read_text().replace(str(own_sshd.key), "none").replace("IdentityAgent none", "")
        own_sshd.ssh_config.write_text(text)
        options = SshOptions(ssh_config=own_sshd.ssh_config)
        host = SshHost("fast", Server(host="box", jobs_dir=str(jobs_dir)), environment, options)
        assert (await host.status("a")).state == "absent"
        await host.aclose()
    finally:
        process.kill()
        await process.communicate()


async def test_nothing_listens_or_it_speaks_something_else(dial: Open, own_sshd: Sshd) -> None:
    """Issue: each in words of its own."""
    own_sshd.kill()
    assert f"127.0.0.1:{own_sshd.port} refuses the connection" in await said(dial(own_sshd))

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", own_sshd.port):
        assert "SSH" in await said(dial(own_sshd))


async def test_who_listens_and_says_nothing_is_given_up(dial: Open, own_sshd: Sshd) -> None:
    """Ours: within the time for a connection."""
    own_sshd.kill()
    connected: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", own_sshd.port):
        sentence = await said(dial(own_sshd, connect_s=0.3))
        for writer in connected:
            writer.close()
    assert "within 0.3 s" in sentence or "says nothing" in sentence


async def test_a_name_that_dns_does_not_know_is_said(dial: Open, own_sshd: Sshd) -> None:
    """Issue: DNS gone."""
    own_sshd.configure(HostName="no-such-host.invalid")
    assert "the address no-such-host.invalid is not known here (DNS" in await said(dial(own_sshd))


@pytest.mark.parametrize("mistake", ["ServerAliveInterval soon", "ProxyJump box", 'IdentityFile "open'])
async def test_a_mistake_in_the_ssh_configuration_is_said(dial: Open, own_sshd: Sshd, mistake: str) -> None:
    """Ours."""
    name, value = mistake.split(" ", 1)
    own_sshd.configure(**{name: value}, port=None)
    sentence = await said(dial(own_sshd))
    assert "in a circle: box → box" in sentence or f"{own_sshd.ssh_config} line 2" in sentence


async def test_an_unsafe_name_never_reaches_a_command(dial: Open) -> None:
    """Ours: a ProxyCommand is given to a shell."""
    assert "should be a host's name" in await said(dial(entry={"host": "-oProxyCommand=id"}))
    assert "should be a user's name" in await said(dial(entry={"user": "a;id"}))


async def test_a_proxy_jump_is_gone_through_with_its_own_checks(dial: Open, own_sshd: Sshd) -> None:
    """Issue. The jump host's key counts as well, and `hosts trust` answers for it first."""
    with own_sshd.ssh_config.open("a") as config:
        config.write(f"Host far\n  HostName localhost\n  HostKeyAlias far\n  Port {own_sshd.port}\n  ProxyJump box\n")
        config.write(f"  IdentityFile {own_sshd.key}\n  UserKnownHostsFile {own_sshd.known_hosts}\n")
    options = SshOptions(ssh_config=own_sshd.ssh_config)
    key = await offered_key("fast", Server(host="far"), {}, options)
    assert (key.host, key.state, key.line.split()[0]) == ("localhost", "unknown", "far")
    trust(key)
    assert (await dial(own_sshd, entry={"host": "far"}).status("a")).state == "absent"
    far_line = own_sshd.known_hosts.read_text().splitlines(keepends=True)[1]
    own_sshd.known_hosts.write_text(far_line)
    assert "the host key of jump host 127.0.0.1" in await said(dial(own_sshd, entry={"host": "far"}))
    assert (await offered_key("fast", Server(host="far"), {}, options)).host == "127.0.0.1"


async def test_a_proxy_command_is_given_to_a_shell(dial: Open, own_sshd: Sshd) -> None:
    """Ours: as OpenSSH does it; what it says on stderr is not the protocol."""
    relay = "import socket,sys,os,threading; s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
    relay += "def up():\n while d:=os.read(0,65536): s.sendall(d)\nthreading.Thread(target=up,daemon=True).start()\n"
    relay += "while d:=s.recv(65536): os.write(1,d)\n"
    (own_sshd.folder / "relay.py").write_text(relay)
    own_sshd.configure(ProxyCommand=f"echo noise >&2; {sys.executable} '{own_sshd.folder}/relay.py' %h %p")
    assert (await dial(own_sshd).status("a")).state == "absent"


async def test_channels_share_connections_eight_at_most_each(dial: Open, sh: Sh, jobs_dir: Path) -> None:
    """Issue. What is closed makes room, and an idle extra connection leaves."""
    host = dial(idle_s=0.05)
    await host.start(sh("a", "sleep 3100"))
    shell = host.shell
    async with asyncio.timeout(10):
        channels = await asyncio.gather(*(shell.open(JOB, "follow", "a", "0") for _ in range(20)))
        assert [(await channel.readline())[:1] for channel in channels] == [b"0"] * 20
        assert sorted(links(host)) == [5, 8, 8]
        for channel in channels:
            await channel.close()
        await settled(host)
    await host.kill("a", 0)


async def test_two_hundred_tasks_dial_once(dial: Open) -> None:
    """Issue: concurrent openers share the outcome of one dial, also where it is a failure."""
    host = dial()
    async with asyncio.timeout(10):
        await asyncio.gather(*(host.status("a") for _ in range(200)))
    assert links(host) == [1]
    away = dial(entry={"port": 1}, backoff_s=(0.1, 0.1))
    began = asyncio.get_running_loop().time()
    ends = await asyncio.gather(*(away.shell.folder() for _ in range(200)), return_exceptions=True)
    assert {type(end) for end in ends} == {HostUnreachable}
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_server_that_allows_fewer_sessions_is_given_more_connections(
    dial: Open, own_sshd: Sshd, sh: Sh
) -> None:
    """Issue: MaxSessions. Nothing fails."""
    own_sshd.kill()
    own_sshd.start(MaxSessions="2")
    host = dial(own_sshd)
    async with asyncio.timeout(10):
        await host.start(sh("a", "sleep 3100"))
        channels = await asyncio.gather(*(host.shell.open(JOB, "follow", "a", "0") for _ in range(5)))
        assert [(await channel.readline())[:1] for channel in channels] == [b"0"] * 5
        assert sum(links(host)) == 6
        assert max(links(host)) == 2
        for channel in channels:
            await channel.close()
        await host.kill("a", 0)


@pytest.mark.parametrize("login", ["fish", "tcsh", "bash", "dash"])
async def test_any_login_shell_will_do(login: str, dial: Open, tmp_path: Path, sh: Sh) -> None:
    """Issue. Also where the folder of jobs has blanks, quotes and more in its name."""
    program = shutil.which(login)
    if program is None:
        pytest.skip(f"{login} is not installed")
    folder = tmp_path / "a b'c\"$d!e\\f é*"
    for server in running(Sshd(tmp_path / login, login=program)):
        async with asyncio.timeout(10):
            host = dial(server, entry={"jobs_dir": str(folder)})
            await host.start(sh("a", 'printf "%s" "$1"; exit 9', "a'b!\"$c\n\\"))
            assert (await host.wait("a")).code == 9
            assert b"".join([piece async for piece in host.follow("a")]).decode() == "a'b!\"$c\n\\"
            assert await host.shell.folder() == str(folder)
            assert [path.name for path in folder.glob("*/a")] == ["a"]


async def test_what_a_login_script_prints_is_no_obstacle(dial: Open, tmp_path: Path, sh: Sh) -> None:
    """Ours: a .bashrc with an echo breaks scp and rsync."""
    server = Sshd(tmp_path / "noisy", env={"SHLVL": "0", "BASH_ENV": str(tmp_path / "noise")})
    (tmp_path / "noise").write_text("echo 'Welcome to box!'; printf 'no newline'\n")
    for running_server in running(server):
        async with asyncio.timeout(10):
            host = dial(running_server)
            await host.start(sh("a", "printf 0123456789"))
            assert (await host.wait("a")).code == 0
            assert await host.read_log("a", 3) == b"3456789"


async def test_a_login_that_runs_no_commands_is_said(dial: Open, tmp_path: Path) -> None:
    """Ours: with its own words."""
    server = Sshd(tmp_path / "nologin")
    (server.folder / "no").write_text("#!/bin/sh\necho 'This account is currently not available.'; exit 1\n")
    (server.folder / "no").chmod(0o755)
    server.login = str(server.folder / "no")
    for each in running(server):
        assert "no command can be run there: This account is currently not available." in await said(dial(each))


async def test_the_default_folder_is_in_the_home_and_the_users_alone(dial: Open, own_sshd: Sshd, sh: Sh) -> None:
    """Interfaces: ~/.build-orchestrator/jobs."""
    host = dial(own_sshd, entry={"jobs_dir": None})
    await host.start(sh("a", "true"))
    await host.wait("a")
    jobs = own_sshd.home / ".build-orchestrator" / "jobs"
    assert Path(await host.directory()).parent == jobs
    assert jobs.stat().st_mode & 0o077 == jobs.parent.stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_used_is_said(dial: Open, tmp_path: Path) -> None:
    """Issue: unwritable, or another user's."""
    (tmp_path / "file").write_text("")
    assert "cannot make" in await said(dial(entry={"jobs_dir": str(tmp_path / "file" / "jobs")}))
    if os.geteuid():
        pytest.skip("giving a folder to another user needs root")
    (tmp_path / "strange").mkdir()
    os.chown(tmp_path / "strange", 65_534, 65_534)
    assert "strange belongs to another user" in await said(dial(entry={"jobs_dir": str(tmp_path / "strange")}))


async def test_a_cancelled_opening_leaves_no_channel(dial: Open, sh: Sh) -> None:
    """Ours: or each cancelled reader would take a place of its connection for good."""
    host = dial()
    await host.start(sh("a", "sleep 3100"))
    for moment in range(12):
        task = asyncio.create_task(host.shell.open(JOB, "follow", "a", "0"))
        await asyncio.sleep(moment / 4000)  # to be cancelled at any point of its start
        if not task.cancel():
            await task.result().close()
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
    async with asyncio.timeout(5):
        await settled(host)
    await host.kill("a", 0)


async def test_asyncssh_is_not_imported_before_it_is_needed() -> None:
    """Issue: a front that only lists hosts does not pay for it."""
    program = "import sys, mcp_server.hosts.registry; assert 'asyncssh' not in sys.modules"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=Path(mcp_server.__file__).parents[1]
    )
    assert await process.wait() == 0
