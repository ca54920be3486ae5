"""What ~/.ssh/config and config.yaml say of a way to a server, read by asyncssh's parser, in OpenSSH's sense.

Blocks (files, `Match exec`): for a thread. Mends what asyncssh does otherwise than OpenSSH: a missing IdentityFile is
skipped, each jump host has its own settings, a ProxyCommand is given to a shell.
"""

import getpass
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from asyncssh.config import ConfigParseError, SSHClientConfig, SSHConfig

from mcp_server.config import Server

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk", "id_dsa")
PORT = 22
MAX_JUMPS = 8

KEEPALIVE_S = 15.0  # a NAT forgets a silent connection after minutes at best
KEEPALIVES = 3
CONNECT_S = 20.0  # with the login; a server under load answers late, one that is stuck never does

_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]*")  # nothing that a ProxyCommand's shell could act on
_USER = re.compile(r"[^\s'\"`$\\;&|<>()!*?{}-][^\s'\"`$;&|<>(){}]*")
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+|[0-9a-fA-F:]+)(?::(?P<port>\d+))?/?")


class SshConfigError(Exception):
    """The ssh configuration cannot be used; one sentence."""


@dataclass(frozen=True)
class Keepalive:
    """How a dead link is noticed: after `interval_s` of silence a question, after `count` of them the link is dead."""

    interval_s: float = KEEPALIVE_S
    count: int = KEEPALIVES


@dataclass(frozen=True)
class Sources:
    """Where settings come from. `ssh_config` None: HOME/.ssh/config, then the system's."""

    environment: Mapping[str, str]
    ssh_config: Path | None = None
    keepalive: Keepalive | None = None
    connect_s: float | None = None

    @property
    def home(self) -> Path:
        return Path(self.environment.get("HOME") or Path.home())

    @property
    def files(self) -> list[Path]:
        if self.ssh_config:
            return [self.ssh_config]
        return [path for path in (self.home / ".ssh" / "config", SYSTEM_CONFIG) if path.is_file()]


@dataclass(frozen=True)
class Hop:
    """One SSH connection on the way; the last one is the server itself. `address` is what is dialled."""

    alias: str
    address: str
    port: int
    user: str
    given_user: str | None
    given_port: int | None
    key_alias: str | None
    user_known_hosts: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    hashed: bool
    identities: tuple[Path, ...]
    identities_only: bool
    agent: str
    proxy_command: str | None
    ciphers_given: bool
    host_key_algorithms_given: bool
    public_key_auth: bool
    keepalive: Keepalive
    connect_s: float

    @property
    def lookup(self) -> str:
        """The name under which known_hosts has its key."""
        if self.key_alias:
            return self.key_alias.lower()
        return self.address.lower() if self.port == PORT else f"[{self.address.lower()}]:{self.port}"

    @property
    def where(self) -> str:
        return self.address if self.port == PORT else f"{self.address}:{self.port}"


class _Config(SSHClientConfig):
    """With what asyncssh has no use for, and tokens where OpenSSH has them."""

    _percent_expand = SSHClientConfig._percent_expand | {"UserKnownHostsFile"}
    _handlers: ClassVar[dict[str, tuple[str, Callable[..., Any]]]] = {
        **cast(dict[str, tuple[str, Callable[..., Any]]], SSHClientConfig._handlers),  # pyright: ignore[reportUnknownMemberType]
        "hashknownhosts": ("HashKnownHosts", SSHConfig._set_bool),
    }


def way_to(server: Server, sources: Sources) -> list[Hop]:
    """All connections from here to the server, the first to be dialled first. SshConfigError; OSError from a file."""
    assert server.host
    return _way(server.host, server.user, server.port, sources, ())


def _way(host: str, user: str | None, port: int | None, sources: Sources, seen: tuple[str, ...]) -> list[Hop]:
    if host in seen or len(seen) == MAX_JUMPS:
        raise SshConfigError(f"ProxyJump goes in a circle: {' → '.join([*seen, host])}")
    config = _load(host, user, port, sources)
    hop = _hop(host, user, port, config, sources)
    jumps = cast(str | None, config.get("ProxyJump"))
    if not jumps or hop.proxy_command:
        return [hop]
    way: list[Hop] = []
    for number, text in enumerate(jumps.split(",")):
        match = _JUMP.fullmatch(text.strip())
        if not match:
            raise SshConfigError(f"ProxyJump {text.strip()!r} should be [user@]host[:port]")
        to = match["host"].strip("[]"), match["user"], int(match["port"]) if match["port"] else None
        if number == 0:  # only the first one is reached by its own settings' jumps
            way = _way(*to, sources, (*seen, host))
        else:
            way.append(_hop(*to, _load(*to, sources), sources, jumped=True))
    return [*way, hop]


def _load(host: str, user: str | None, port: int | None, sources: Sources) -> _Config:
    if not _HOST.fullmatch(host):
        raise SshConfigError(f"{host[:60]!r} should be a host's name or address")
    if user and not _USER.fullmatch(user):
        raise SshConfigError(f"{user[:60]!r} should be a user's name")
    local = sources.environment.get("LOGNAME") or sources.environment.get("USER") or getpass.getuser()
    arguments: tuple[Any, ...] = (local, user or (), host, port or ())
    try:
        return cast(_Config, _Config.load(None, sources.files, False, False, False, *arguments))
    except (ConfigParseError, UnicodeDecodeError) as error:
        raise SshConfigError(f"the ssh configuration cannot be used: {error}") from None
    except OSError as error:
        raise SshConfigError(f"{error.filename} cannot be read: {error.strerror}") from None


def _hop(
    host: str, user: str | None, port: int | None, config: _Config, sources: Sources, *, jumped: bool = False
) -> Hop:
    def paths(names: list[str]) -> tuple[Path, ...]:
        return tuple(_path(name, sources.home) for name in names if name.lower() != "none")

    own = cast(list[str] | None, config.get("UserKnownHostsFile"))
    user_files = paths(own if own is not None else ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"])
    system = paths(cast(list[str], config.get("GlobalKnownHostsFile", list(SYSTEM_KNOWN_HOSTS))))
    identities = cast(list[str] | None, config.get("IdentityFile"))
    return Hop(
        alias=host,
        address=cast(str, config.get("Hostname", host)),
        port=port or cast(int, config.get("Port", PORT)),
        user=user or cast(str, config.get("User") or getpass.getuser()),
        given_user=user,
        given_port=port,
        key_alias=cast(str | None, config.get("HostKeyAlias")),
        user_known_hosts=user_files,
        known_hosts=(*user_files, *system),
        hashed=bool(config.get("HashKnownHosts", False)),
        identities=paths(identities if identities is not None else [f"~/.ssh/{name}" for name in DEFAULT_KEYS]),
        identities_only=bool(config.get("IdentitiesOnly", False)),
        agent=_agent(cast(str | None, config.get("IdentityAgent", "SSH_AUTH_SOCK")), sources),
        proxy_command=None if jumped else _proxy_command(cast(str | None, config.get("ProxyCommand"))),
        ciphers_given=config.get("Ciphers") is not None,
        host_key_algorithms_given=config.get("HostKeyAlgorithms") is not None,
        public_key_auth=bool(config.get("PubkeyAuthentication", True)),
        keepalive=sources.keepalive or _keepalive(config),
        connect_s=sources.connect_s or float(cast(int, config.get("ConnectTimeout", 0)) or CONNECT_S),
    )


def _keepalive(config: _Config) -> Keepalive:
    """Never none: without it a wait on a dead link would hang for ever."""
    interval = cast(int, config.get("ServerAliveInterval", 0)) or KEEPALIVE_S
    return Keepalive(float(interval), max(1, cast(int, config.get("ServerAliveCountMax", KEEPALIVES))))


def _agent(setting: str | None, sources: Sources) -> str:
    """The agent's socket, "" for none."""
    if setting is None or setting.lower() == "none":
        return ""
    if setting == "SSH_AUTH_SOCK" or setting.startswith("$"):
        return sources.environment.get(setting.lstrip("$").strip("{}"), "")
    return str(_path(setting, sources.home))


def _proxy_command(setting: str | None) -> str | None:
    return None if setting is None or setting.lower() == "none" else setting


def _path(name: str, home: Path) -> Path:
    return home / name[2:] if name.startswith("~/") else Path(name).expanduser()
