"""known_hosts: who is known by which line, and what is added to it."""

import stat
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from mcp_server.config import Server
from mcp_server.errors import HostError
from mcp_server.hosts.known_hosts import Known, known, line_for
from mcp_server.hosts.ssh_config import Hop, Sources, way_to
from mcp_server.hosts.trust import OfferedKey, trust

KEY, OTHER = (asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(2))


def text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


@pytest.fixture
def hop(tmp_path: Path) -> Hop:
    (tmp_path / "config").write_text(
        f"Host box\n HostName Box.Example\n Port 2222\n UserKnownHostsFile {tmp_path}/known\nHost alias\n"
        f" HostName 10.0.0.1\n HostKeyAlias Named\n UserKnownHostsFile {tmp_path}/known\n HashKnownHosts yes\n"
    )
    return way_to(Server(host="box"), Sources({"HOME": str(tmp_path)}, tmp_path / "config"))[0]


def found(hop: Hop, *lines: str) -> Known:
    hop.user_known_hosts[0].write_text("\n".join(lines) + "\n")
    return known(hop)


@pytest.mark.parametrize(
    "pattern",
    ["[box.example]:2222", "a,[box.example]:2222", "[*.example]:2222", "[box.exampl?]:2222", "*", "box.example"],
)
def test_a_line_that_names_the_host_makes_its_key_known(hop: Hop, pattern: str) -> None:
    """OpenSSH: a name without the port is enough to trust, too."""
    entries = found(hop, "# a comment", "broken", "", f"{pattern} {text(KEY)}")
    match = entries.match(KEY)
    assert match and match.line == 4
    assert entries.trusted[0] == [KEY]


@pytest.mark.parametrize("pattern", ["box.example2", "[box.example]:22", "*,!*.example,![box.example]:*", "example"])
def test_other_lines_do_not(hop: Hop, pattern: str) -> None:
    """OpenSSH."""
    assert found(hop, f"{pattern} {text(KEY)}").trusted == ([], [], [])


def test_another_key_of_the_very_host_is_a_change(hop: Hop) -> None:
    """Ours: of the name without the port it is not, because that may be another server."""
    changed = found(hop, f"[box.example]:2222 {text(OTHER)}").changed(KEY)
    assert changed and changed.where == f"{hop.user_known_hosts[0]}:1"
    assert found(hop, f"box.example {text(OTHER)}").changed(KEY) is None


def test_a_revoked_key_is_never_trusted(hop: Hop) -> None:
    """OpenSSH."""
    entries = found(hop, f"* {text(KEY)}", f"@revoked * {text(KEY)}")
    assert entries.trusted[0] == []
    assert entries.revoked(KEY)


def test_an_authority_is_no_host_key(hop: Hop) -> None:
    """OpenSSH: @cert-authority."""
    assert found(hop, f"@cert-authority *.example,[*.example]:* {text(KEY)}").trusted == ([], [KEY], [])


def test_a_hashed_line_is_found_and_written(hop: Hop, tmp_path: Path) -> None:
    """Issue: hashed where the ssh configuration has HashKnownHosts; HostKeyAlias stands for the name."""
    hashed = way_to(Server(host="alias"), Sources({"HOME": str(tmp_path)}, tmp_path / "config"))[0]
    line = line_for(hashed, KEY)
    assert line.startswith("|1|")
    assert found(hashed, line).match(KEY)
    assert not found(hop, line).match(KEY)
    assert line_for(hop, KEY) == f"[box.example]:2222 {text(KEY)}\n"


def offered(hop: Hop) -> OfferedKey:
    fingerprint = KEY.get_fingerprint()
    line = line_for(hop, KEY)
    return OfferedKey("box", hop.address, hop.port, "ED25519", fingerprint, line, hop.user_known_hosts[0], "unknown")


def test_trust_appends_a_line_of_its_own(hop: Hop) -> None:
    """Ours: to a file whose last line has no end, and 0600 where it is new."""
    key = replace(offered(hop), file=hop.user_known_hosts[0].parent / "new" / "known")
    assert key.file
    trust(key)
    assert stat.S_IMODE(key.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.file.parent.stat().st_mode) == 0o700
    key.file.write_text("other ssh-ed25519 AAAA")
    trust(key)
    assert key.file.read_text().splitlines() == ["other ssh-ed25519 AAAA", key.line.strip()]


def test_trust_never_replaces_and_never_writes_twice(hop: Hop) -> None:
    """Ours."""
    key = offered(hop)
    trust(replace(key, state="known"))
    with pytest.raises(HostError, match="ssh-keygen -f x -R y"):
        trust(replace(key, state="changed", where="x:1", mend="ssh-keygen -f x -R y"))
    assert not hop.user_known_hosts[0].exists()


def test_a_place_that_keeps_nothing_is_said(hop: Hop) -> None:
    """Ours: UserKnownHostsFile none or /dev/null."""
    for file in (None, Path("/dev/null")):
        with pytest.raises(HostError, match="UserKnownHostsFile"):
            trust(replace(offered(hop), file=file))
