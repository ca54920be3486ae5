"""The way to a server, from ~/.ssh/config and config.yaml together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.config import Server
from mcp_server.hosts.ssh_config import CONNECT_S, Hop, Keepalive, Sources, SshConfigError, way_to

Way = Callable[..., list[Hop]]


@pytest.fixture
def way(tmp_path: Path) -> Way:
    def find(text: str, **entry: Any) -> list[Hop]:
        folder = tmp_path / ".ssh"
        folder.mkdir(exist_ok=True)
        (folder / "config").write_text(text)
        environment = {"HOME": str(tmp_path), "USER": "me", "SSH_AUTH_SOCK": "/run/agent", "OTHER": "/run/other"}
        sources = Sources(environment, folder / "config")
        settings: dict[str, Any] = {"host": "box", **entry}
        return way_to(Server(**settings), sources)

    return find


def test_without_settings_everything_has_its_default(way: Way, tmp_path: Path) -> None:
    """OpenSSH, but for the keepalive, which is never none."""
    (hop,) = way("")
    assert (hop.address, hop.port, hop.lookup, hop.agent) == ("box", 22, "box", "/run/agent")
    assert hop.identities[0] == tmp_path / ".ssh" / "id_ed25519"
    assert hop.user_known_hosts[0] == tmp_path / ".ssh" / "known_hosts"
    assert hop.keepalive == Keepalive(15, 3)
    assert hop.connect_s == CONNECT_S


def test_settings_are_those_of_the_alias(way: Way, tmp_path: Path) -> None:
    """Issue: Include and Match, too."""
    (tmp_path / "more").write_text("Host box\n Port 2222\n")
    text = f"Include {tmp_path}/more\nMatch originalhost box\n User build\nHost box\n HostName 10.0.0.7\n"
    (hop,) = way(text + " ServerAliveInterval 5\n ServerAliveCountMax 2\n IdentityAgent $OTHER\n ConnectTimeout 3\n")
    assert (hop.address, hop.port, hop.user, hop.lookup) == ("10.0.0.7", 2222, "build", "[10.0.0.7]:2222")
    assert (hop.keepalive, hop.agent, hop.connect_s) == (Keepalive(5, 2), "/run/other", 3)


def test_config_yaml_has_the_last_word(way: Way) -> None:
    """Interfaces: host, user and port."""
    (hop,) = way("Host box\n Port 2222\n User other\n", user="me2", port=2200)
    assert (hop.user, hop.port, hop.given_user, hop.given_port) == ("me2", 2200, "me2", 2200)


def test_each_jump_host_has_its_own_settings(way: Way) -> None:
    """OpenSSH: the first one is reached by its own jumps."""
    text = "Host box\n ProxyJump a,me@b:2200\nHost a\n User ua\n ProxyJump gate\nHost b\n User ub\n ProxyJump never\n"
    hops = way(text)
    assert [(hop.alias, hop.user, hop.port) for hop in hops[1:3]] == [("a", "ua", 22), ("b", "me", 2200)]
    assert [hop.alias for hop in hops] == ["gate", "a", "b", "box"]


def test_jumps_none_and_a_proxy_command_mean_no_jump(way: Way) -> None:
    """OpenSSH."""
    assert len(way("Host box\n ProxyJump none\n")) == 1
    (hop,) = way("Host box\n ProxyCommand nc %h %p\n")
    assert hop.proxy_command == "nc box 22"


@pytest.mark.parametrize("jump", ["box", "a b", "x@", "h:port"])
def test_a_jump_that_leads_nowhere_is_said(way: Way, jump: str) -> None:
    """Ours."""
    with pytest.raises(SshConfigError):
        way(f"Host box\n ProxyJump {jump}\n")


@pytest.mark.parametrize("entry", [{"host": "-o"}, {"host": "a b"}, {"host": "a;b"}, {"user": "$(id)"}, {"user": "-l"}])
def test_a_name_that_a_shell_could_act_on_is_refused(way: Way, entry: dict[str, str]) -> None:
    """Ours: a ProxyCommand is given to one."""
    with pytest.raises(SshConfigError, match="should be"):
        way("", **entry)


def test_known_hosts_files_may_hold_tokens(way: Way, tmp_path: Path) -> None:
    """OpenSSH: ~ and %h."""
    (hop,) = way("Host box\n UserKnownHostsFile ~/.ssh/of_%h\n GlobalKnownHostsFile none\n")
    assert hop.known_hosts == (tmp_path / ".ssh" / "of_box",)
