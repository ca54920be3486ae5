"""`hosts trust`: the key that a server offers, shown to a person, and kept only when that person says so."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncssh

from mcp_server.config import Server
from mcp_server.errors import BadInput, HostError, HostUnreachable
from mcp_server.hosts.known_hosts import Known, kind, known, line_for
from mcp_server.hosts.ssh import SshOptions, sources_of
from mcp_server.hosts.ssh_config import Hop, SshConfigError, way_to
from mcp_server.hosts.ssh_dial import DialError, KeyNotKnown, dial, offered


@dataclass(frozen=True)
class OfferedKey:
    """The key of the first connection on the way that is not known, else of the server itself.

    `fingerprint` as ssh-keygen -l shows it; `where` is the `file:line` of the key that is known (for "changed": of the
    old one), `line` what makes this one known and `file` where that belongs.
    """

    server: str
    host: str
    port: int
    algorithm: str
    fingerprint: str
    line: str
    file: Path | None
    state: Literal["known", "unknown", "changed"]
    where: str | None = None
    mend: str | None = None


async def offered_key(
    name: str, server: Server, environment: Mapping[str, str] | None = None, options: SshOptions | None = None
) -> OfferedKey:
    """Ask the server (through its jump hosts) for its key, without logging in to it. HostUnreachable; BadInput.

    A jump host whose key is not known yet is answered for first: trust it, then ask again.
    """
    if not server.host:
        raise BadInput("host", f"{name} is not reached over SSH: there is no host key to trust")
    sources = sources_of(os.environ if environment is None else environment, options or SshOptions())
    tunnels: list[asyncssh.SSHClientConnection] = []
    try:
        way = await asyncio.to_thread(way_to, server, sources)
        *jumps, last = way
        if jumps:
            tunnels.append(await dial(name, jumps, sources, tunnels=tunnels, target=False))
        key = await offered(name, last, sources, tunnels[-1] if tunnels else None)
        return await asyncio.to_thread(lambda: _described(name, last, key, known(last)))
    except KeyNotKnown as error:
        hop, key, entries = error.hop, error.key, error.known
        return await asyncio.to_thread(lambda: _described(name, hop, key, entries))
    except (DialError, SshConfigError) as error:
        raise HostUnreachable(name, str(error)) from None
    finally:
        await _close(tunnels)


def trust(key: OfferedKey) -> None:
    """Append the key to the user's known_hosts; nothing where it is known. HostError where another one is there.

    Blocks for two small files.
    """
    if key.state == "known":
        return
    if key.state == "changed":
        raise HostError(
            key.server,
            f"{key.where} holds another key of {key.host}, which is never replaced here. If it was installed anew: "
            f"{key.mend}",
        )
    if key.file is None or str(key.file) == os.devnull:
        raise HostError(key.server, "its ssh configuration keeps no known hosts (UserKnownHostsFile)")
    try:
        key.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _append(key.file, key.line.encode())
    except OSError as error:
        raise HostError(key.server, f"cannot write to {key.file}: {error.strerror}") from None


def _described(name: str, hop: Hop, key: asyncssh.SSHKey, entries: Known) -> OfferedKey:
    old = entries.revoked(key) or entries.changed(key)
    match = None if entries.revoked(key) else entries.match(key)
    return OfferedKey(
        server=name,
        host=hop.address,
        port=hop.port,
        algorithm=kind(key),
        fingerprint=key.get_fingerprint(),
        line=line_for(hop, key),
        file=hop.user_known_hosts[0] if hop.user_known_hosts else None,
        state="known" if match else "changed" if old else "unknown",
        where=match.where if match else old.where if old else None,
        mend=f"ssh-keygen -f {old.file} -R '{hop.lookup}'" if old and not match else None,
    )


def _append(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        unended = size and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * bool(unended) + line)
    finally:
        os.close(descriptor)


async def _close(connections: Sequence[asyncssh.SSHClientConnection]) -> None:
    for connection in reversed(connections):
        connection.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            for connection in connections:
                await connection.wait_closed()
    for connection in connections:
        connection.abort()
