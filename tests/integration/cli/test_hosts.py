"""`hosts` and `hosts trust` with a real OpenSSH server: unknown, trusted, changed, and down."""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.program import Terminal
from tests.integration.conftest import Cli
from tests.support.sshd import Sshd, why_not

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen: openssh-client is not installed"),
]
QUESTION = "Trust it? [y]es, anything else: no: "


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[Sshd]:
    """A server that config.yaml names `far` and that nobody trusts yet; its settings are the user's ~/.ssh/config."""
    sshd = Sshd(tmp_path / "sshd")
    sshd.known_hosts.unlink()
    settings = tmp_path / "user" / ".ssh" / "config"
    settings.parent.mkdir(mode=0o700)
    settings.write_text(sshd.ssh_config.read_text())
    (home / "config.yaml").write_text(
        "servers:\n  far: {host: box, workdir: " + str(tmp_path) + ", alias: f, build: 'make {task}'}\n"
    )
    sshd.start()
    yield sshd
    sshd.kill()


def fingerprint(server: Sshd) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", server.host_keys[0]], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def test_an_unknown_host_is_trusted_after_a_question_and_then_looked_at(cli: Cli, server: Sshd) -> None:
    """Issue. The fingerprint is ssh-keygen's; nothing is written before the yes."""
    before = cli("hosts", "f")
    with Terminal(("hosts", "trust", "f")) as refused:
        refused.expect(QUESTION)
        refused.press("\n")
        assert refused.end() == 1
    assert not server.known_hosts.exists()
    with Terminal(("hosts", "trust", "f")) as trusted:
        trusted.expect(QUESTION)
        trusted.press("yes\n")
        assert trusted.end() == 0
    after = cli("hosts", "f")

    assert before.returncode == 1 and "is not known" in before.stdout
    assert fingerprint(server) in trusted.shown and fingerprint(server) in before.stdout
    assert "ssh-ed25519" in server.known_hosts.read_text()
    assert after.returncode == 0, after.stdout
    assert after.stdout.splitlines()[1].split()[:2] == ["far", "f"]


def test_a_changed_key_is_refused_until_the_named_command_has_run(cli: Cli, server: Sshd) -> None:
    """Issue. The exact command that removes the old one; then the new key is asked about like any other."""
    cli("hosts", "trust", "far", "--fingerprint", fingerprint(server))
    server.kill()
    server.make_key("host_ed25519")
    server.start()

    seen = cli("hosts", "far")
    refused = cli("hosts", "trust", "far", "--fingerprint", fingerprint(server))
    assert seen.returncode == 1 and "CHANGED" in seen.stdout
    assert refused.returncode == 2 and "NOT the one that is known" in refused.stdout
    command = refused.stderr[refused.stderr.index("ssh-keygen") :].strip()
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    again = cli("hosts", "trust", "far", "--fingerprint", fingerprint(server))

    assert again.returncode == 0, again.stderr
    assert cli("hosts", "far").returncode == 0


def test_a_server_that_is_down_says_so_and_keeps_nobody_waiting(cli: Cli, server: Sshd) -> None:
    """interfaces: reachability; the others are shown all the same."""
    cli("hosts", "trust", "far", "--fingerprint", fingerprint(server))
    server.kill()

    looked = cli("hosts")

    assert looked.returncode == 1
    assert "far" in looked.stdout and "unreachable" in looked.stdout
    assert looked.stdout.splitlines()[1].split()[:2] == ["local", "ok"]
