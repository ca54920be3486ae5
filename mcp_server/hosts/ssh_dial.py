"""One SSH connection, made by the user's own settings, and plain words for why there is none.

Host keys are always checked, against what known_hosts.py found; nothing ever asks for a password or a passphrase.
"""

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.config import ConfigParseError
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from mcp_server.hosts import known_hosts
from mcp_server.hosts.known_hosts import Known, kind
from mcp_server.hosts.ssh_config import Hop, Sources

FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"  # faster than chacha20 where AES is in the hardware

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


class DialError(Exception):
    """No connection. `again`: another try may help, because it is the network and not a key or a setting."""

    def __init__(self, sentence: str, *, again: bool = False) -> None:
        self.again = again
        super().__init__(sentence)


class KeyNotKnown(DialError):
    """The server's key is not one of those that known_hosts has for it."""

    def __init__(self, hop: Hop, key: asyncssh.SSHKey, known: Known, sentence: str) -> None:
        self.hop, self.key, self.known = hop, key, known
        super().__init__(sentence)


@dataclass
class Keys:
    """The private keys that are shown to a server, and why others are not."""

    pairs: list[asyncssh.SSHKeyPair] = field(default_factory=list[asyncssh.SSHKeyPair])
    tried: list[str] = field(default_factory=list[str])
    unusable: list[str] = field(default_factory=list[str])
    identities: list[bytes] = field(default_factory=list[bytes])


class Client(asyncssh.SSHClient):
    """Remembers the key that was offered and not known; tells of the connection's end."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self.offered: asyncssh.SSHKey | None = None
        self._closed = closed

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()


def _nobody() -> None:
    """Is told of the connection's end."""


async def dial(
    name: str,
    way: Sequence[Hop],
    sources: Sources,
    closed: Callable[[], None] = _nobody,
    tunnels: list[asyncssh.SSHClientConnection] | None = None,
    *,
    target: bool = True,
) -> asyncssh.SSHClientConnection:
    """Connect through all hops. The connections on the way go into `tunnels`, for whoever closes them. DialError.

    Without `target` the last one is a jump host, too.
    """
    tunnels = [] if tunnels is None else tunnels
    for number, hop in enumerate(way):
        last = number == len(way) - 1
        through = tunnels[-1] if tunnels else None
        connection = await _connect(name, hop, sources, through, closed if last else _nobody, target=last and target)
        if last:
            return connection
        tunnels.append(connection)
    raise ValueError("no way")


async def offered(
    name: str, hop: Hop, sources: Sources, through: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHKey:
    """The key that a server offers, of a kind that is known where it has one; nobody logs in. DialError."""
    known = await asyncio.to_thread(known_hosts.known, hop)
    client = Client(_nobody)
    options = _options(hop, sources, known, Keys(), through)
    options |= {"known_hosts": ([], [], []), "client_keys": None}  # so that none is trusted, and none is shown
    try:
        connection = await _dialled(hop, client, options, through)
    except asyncssh.HostKeyNotVerifiable:
        if client.offered:
            return client.offered
        raise DialError(f"{hop.where} offers a key that cannot be used") from None
    except Exception as error:
        raise await _why(hop, Keys(), error) from None
    connection.abort()
    raise DialError(f"{hop.where} was let in with a key that nobody trusts")


async def _connect(
    name: str,
    hop: Hop,
    sources: Sources,
    through: asyncssh.SSHClientConnection | None,
    closed: Callable[[], None],
    *,
    target: bool,
) -> asyncssh.SSHClientConnection:
    known, keys = await asyncio.to_thread(lambda: (known_hosts.known(hop), _keys(hop)))
    client = Client(closed)
    try:
        return await _dialled(hop, client, _options(hop, sources, known, keys, through), through)
    except asyncssh.HostKeyNotVerifiable as error:
        raise _unverified(name, hop, known, client.offered, str(error), target=target) from None
    except Exception as error:
        raise await _why(hop, keys, error) from None


async def _dialled(
    hop: Hop, client: Client, options: dict[str, Any], through: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        hop.alias,
        hop.given_port or (),
        tunnel=through,
        username=hop.given_user or (),
        client_factory=lambda: client,
        **options,
    )


def _options(
    hop: Hop, sources: Sources, known: Known, keys: Keys, through: asyncssh.SSHClientConnection | None
) -> dict[str, Any]:
    host_keys, authorities, revoked = known.trusted
    options: dict[str, Any] = {
        "config": [str(path) for path in sources.files],
        "known_hosts": (host_keys, authorities, revoked),
        "x509_trusted_certs": None,
        "x509_trusted_cert_paths": [],
        "client_keys": keys.pairs,
        "public_key_auth": bool(keys.pairs or hop.agent) and hop.public_key_auth,
        "agent_path": hop.agent if keys.identities or not hop.identities_only else "",
        "agent_identities": keys.identities if hop.identities_only and keys.identities else None,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "password_auth": False,
        "kbdint_auth": False,
        "ignore_encrypted": True,
        "request_pty": False,
        "encoding": None,
        "utf8_decode_errors": "replace",
        "connect_timeout": hop.connect_s,
        "login_timeout": hop.connect_s,
        "keepalive_interval": hop.keepalive.interval_s,
        "keepalive_count_max": hop.keepalive.count,
    }
    if through:
        options["proxy_command"] = None
    elif (
        hop.proxy_command
    ):  # by a shell, as OpenSSH does; what it says on stderr is not the protocol, though the pipe must stay open
        options["proxy_command"] = ["sh", "-c", f"exec 3>&2 2>/dev/null; {hop.proxy_command}"]
    if not hop.ciphers_given:
        options["encryption_algs"] = FAST_CIPHERS
    if not hop.host_key_algorithms_given:  # a kind of key that is known first, as OpenSSH does, then any other
        offered = [*known_hosts.names(host_keys), *(name.decode() for name in get_default_public_key_algs())]
        certificates = [name.decode() for name in get_default_certificate_algs()] if authorities else []
        options["server_host_key_algs"] = list(dict.fromkeys([*certificates, *offered]))
    return options


def _keys(hop: Hop) -> Keys:
    """The key files that can be used without asking anybody. One that is missing is skipped, as OpenSSH does."""
    keys = Keys()
    for path in hop.identities:
        keys.identities += _public(path)
        if not path.is_file():
            continue
        try:
            pairs = list(asyncssh.load_keypairs(str(path), ignore_encrypted=False))
        except asyncssh.KeyEncryptionError:
            keys.unusable.append(f"{path} needs its passphrase (ssh-add {path})")
        except (asyncssh.KeyImportError, ValueError, OSError) as error:
            if "passphrase" in str(error).lower():
                keys.unusable.append(f"{path} needs its passphrase (ssh-add {path})")
            elif not _is_public(path):
                keys.unusable.append(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})")
        else:
            keys.pairs += pairs
            keys.tried.append(str(path))
    return keys


def _public(path: Path) -> list[bytes]:
    for name in (Path(f"{path}.pub"), path):
        try:
            return [asyncssh.read_public_key(name).public_data]
        except (OSError, asyncssh.KeyImportError, ValueError):
            continue
    return []


def _is_public(path: Path) -> bool:
    """IdentityFile may name a public key, whose private half is in the agent."""
    try:
        asyncssh.read_public_key(path)
    except (OSError, asyncssh.KeyImportError, ValueError):
        return False
    return True


def _unverified(
    name: str, hop: Hop, known: Known, key: asyncssh.SSHKey | None, said: str, *, target: bool
) -> DialError:
    if key is None:
        return DialError(f"the key of {hop.where} cannot be verified: {said}")
    mend = f"build-orchestrator hosts trust {name}"
    if old := known.revoked(key):
        sentence = f"the key of {hop.where} is marked as revoked in {old.where}: somebody may be listening"
    elif old := known.changed(key):
        sentence = (
            f"the host key of {hop.where} has CHANGED: {old.where} holds another one ({kind(old.key)}) than it "
            f"offers now ({kind(key)} {key.get_fingerprint()}). Somebody may be listening. If it was installed anew: "
            f"ssh-keygen -f {old.file} -R '{hop.lookup}', then {mend}"
        )
    else:
        which = "" if target else "jump host "
        sentence = f"the host key of {which}{hop.where} is not known ({kind(key)} {key.get_fingerprint()}): {mend}"
    return KeyNotKnown(hop, key, known, sentence)


async def _refused(hop: Hop, keys: Keys) -> str:
    """Which user, and which keys were tried."""
    tried = [*keys.tried]
    agent = "no agent is running (SSH_AUTH_SOCK)" if not hop.agent else ""
    if hop.agent:
        try:
            async with asyncio.timeout(5), asyncssh.connect_agent(hop.agent) as client:
                wanted = keys.identities if hop.identities_only else None
                offered = [key for key in await client.get_keys() if wanted is None or key.public_data in wanted]
            comments = ", ".join(key.get_comment() or "?" for key in offered[:3]) + (", …" if len(offered) > 3 else "")
            if offered:
                tried.append(f"{len(offered)} of the agent ({comments})")
            else:
                agent = "the agent has no key for it"
        except (OSError, ValueError, asyncssh.Error):
            agent = f"no agent answers at {hop.agent}"
    refused = f"{hop.where} does not let user {hop.user!r} in"
    what = f"tried {', '.join(tried)}" if tried else "there was no key to show"
    rest = "; ".join(filter(None, [*keys.unusable[:3], agent]))
    return f"{refused}: {what}{f'; {rest}' if rest else ''}. Check the user, or: ssh-copy-id {hop.user}@{hop.alias}"


def _network(hop: Hop, error: OSError) -> str:
    """Why nothing answers there."""
    numbers = {int(number) for number in _ERRNO.findall(str(error))} | {error.errno}
    if isinstance(error, socket.gaierror):
        return f"the address {hop.address} is not known here (DNS: {error.strerror})"
    if isinstance(error, TimeoutError) or errno.ETIMEDOUT in numbers:
        return f"no answer from {hop.where} within {hop.connect_s:g} s"
    if errno.ECONNREFUSED in numbers:
        return f"{hop.where} refuses the connection: no SSH server listens there"
    if numbers & _ROUTE:
        return f"there is no route to {hop.where}"
    said = error.strerror or str(error) or type(error).__name__
    return f"{hop.where} breaks the connection before the login ({said}): is it an SSH server?"


async def _why(hop: Hop, keys: Keys, error: Exception) -> Exception:
    """The DialError for what asyncssh raised; the error itself where it is a mistake of ours."""
    said = " ".join(str(error).split())[:200]
    match error:
        case asyncssh.PermissionDenied():
            return DialError(await _refused(hop, keys))
        case OSError():  # a timeout was long enough already
            return DialError(_network(hop, error), again=not isinstance(error, TimeoutError))
        case ConfigParseError():
            return DialError(f"the ssh configuration cannot be used: {said}")
        case asyncssh.KeyExchangeFailed():
            return DialError(f"{hop.where} and this program have no algorithm in common: {said}")
        case asyncssh.ChannelOpenError():
            return DialError(f"the jump host does not reach {hop.where}: {said}", again=True)
        case asyncssh.ConnectionLost():
            what = "says nothing" if "timeout" in said.lower() else "closes the connection before the login"
            return DialError(f"{hop.where} {what}: is it an SSH server?", again="timeout" not in said.lower())
        case asyncssh.DisconnectError() if "authentication failures" in said:
            return DialError(f"{await _refused(hop, keys)} (too many keys at once: IdentitiesOnly yes shows one)")
        case asyncssh.DisconnectError():
            return DialError(f"{hop.where} speaks no SSH that can be used: {said}")
        case asyncssh.Error() | ValueError():
            return DialError(f"the settings for {hop.alias} cannot be used: {said}")
        case _:
            return error
