"""Connections to public addresses only: what a name means is checked and dialled in one, and cannot change between.

    python -I public_net.py [NAMED…] -- COMMAND…

runs COMMAND, git say, with this between it and the network: its https and http by a proxy on loopback, its ssh and git://
by a program that dials for them. So every connection is checked, those of submodules and redirects, too. NAMED
(`host` or `host:port`) may be private. `--dial HOST PORT` in the place of `-- COMMAND…` is that program.

Where the user's git goes through a proxy of its own, that one decides what https and http reach.

May import: nothing of this package, as it runs as a file.
"""

import ipaddress
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

DIAL_S = 15.0
HEAD_S, HEAD_BYTES = 30.0, 16_384
PIECE = 65_536
_UNICAST_6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",  # shared by a provider's customers
        "192.0.0.0/24",  # protocols' own
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # Teredo, ORCHID and other special purposes
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
]
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy")


class NotPublicError(Exception):
    """A host is no public one, and nobody named it."""


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet, by itself and not as a way to another one."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (ip not in _UNICAST_6 or ip.scope_id):
        return False  # mapped, NAT64, local, multicast, …
    if any(ip in network for network in _NOT_PUBLIC if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_private or ip.is_unspecified)


def not_public(host: str, address: str) -> str:
    """`localhost is 127.0.0.1, no public address`; of an address only that it is none."""
    return f"{host} is no public address" if host == address else f"{host} is {address}, no public address"


def is_named(host: str, port: int | None, named: Collection[str]) -> bool:
    """Whether config.yaml allows a host, or a port of it."""
    allowed = {entry.lower().rstrip(".") for entry in named}
    return host in allowed or f"{host}:{port}" in allowed


def around(command: Sequence[str], named: Collection[str]) -> list[str]:
    """The command line that runs `command` with nothing but public and `named` hosts in reach of its git."""
    return [sys.executable, "-I", str(Path(__file__).resolve()), *named, "--", *command]


def dial(host: str, port: int, named: Collection[str]) -> socket.socket:
    """A connection to a host. NotPublicError: it is not to be had from here. OSError: it is not there."""
    host = host.strip("[]").rstrip(".").lower()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
    if not is_named(host, port, named):
        for address in addresses:
            if not is_public(address):
                raise NotPublicError(f"{not_public(host, address)}; security.project_hosts in config.yaml allows it")
    for address in addresses[:-1]:
        with suppress(OSError):
            return _connected(address, port)
    return _connected(addresses[-1], port)


def _connected(address: str, port: int) -> socket.socket:
    connection = socket.create_connection((address, port), DIAL_S)
    connection.settimeout(None)
    return connection


def copy(read: Callable[[], bytes], write: Callable[[bytes], object], end: Callable[[], object]) -> None:
    """Until there is no more, or nobody takes it."""
    with suppress(OSError):
        while piece := read():
            write(piece)
    with suppress(OSError):
        end()


def join(one: socket.socket, other: socket.socket) -> None:
    """Give each what the other says, until both have ended."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        copy(lambda: source.recv(PIECE), target.sendall, lambda: target.shutdown(socket.SHUT_WR))

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()


class Proxy:
    """An HTTP proxy on loopback for the programs of one command; `refuse` is told what was not public or not there."""

    def __init__(self, named: Collection[str], refuse: Callable[[str], None]) -> None:
        self._named, self._refuse = named, refuse
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(HEAD_S)
            head = _head(client)
            client.settimeout(None)
            asked = _asked(head)
            if asked is None:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            host, port, forward = asked
            try:
                server = dial(host, port, self._named)
            except NotPublicError as error:
                self._refuse(str(error))
                client.sendall(b"HTTP/1.1 403 not public\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            except (OSError, UnicodeError) as error:
                self._refuse(f"{host}: {error}")  # git knows no more than the 502
                client.sendall(b"HTTP/1.1 502 not there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with server:
                if forward:
                    server.sendall(forward)
                else:
                    client.sendall(b"HTTP/1.1 200 connected\r\n\r\n")
                join(client, server)


def _head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
        if not (piece := client.recv(4096)):
            break
        head += piece
    return head


def _asked(head: bytes) -> tuple[str, int, bytes] | None:
    """Host, port, and what the host is sent first: nothing of a CONNECT, of plain http all that came."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split()
    if b"\r\n\r\n" not in head or len(words) != 3:
        return None
    try:
        if words[0] == "CONNECT":
            at = urlsplit(f"//{words[1]}")
            return (at.hostname or "", at.port or 443, b"")
        at = urlsplit(words[1])
        return (at.hostname or "", at.port or 80, head) if at.scheme == "http" and at.hostname else None
    except ValueError:
        return None


def _outlive(number: int, frame: object) -> None:
    """A signal that is another's to act on."""


def run(command: Sequence[str], named: Collection[str]) -> int:
    """Run a command as the module says; its exit code, 128 and the number of a signal that ended it."""
    signal.signal(signal.SIGTERM, _outlive)  # the command has it too, and is waited for
    with tempfile.TemporaryDirectory(prefix="build-orchestrator-") as folder:
        refused = Path(folder) / "refused"
        dialler = Path(folder) / "dial"
        me = shlex.join([sys.executable, "-I", str(Path(__file__).resolve()), *named])
        dialler.write_text(f'#!/bin/sh\nexec {me} --dial "$@" 2>>{shlex.quote(str(refused))}\n')
        dialler.chmod(0o700)
        lines: list[str] = []
        child = subprocess.Popen(command, env=_environment(os.environ, str(dialler), Proxy(named, lines.append).url))
        code = child.wait()
        if refused.exists():
            lines += refused.read_text(errors="replace").splitlines()
    for line in dict.fromkeys(lines):
        sys.stderr.write(f"fatal: {line}\n")
    return code if code >= 0 else 128 - code


def _environment(given: Mapping[str, str], dialler: str, proxy: str) -> dict[str, str]:
    """git's settings for it; those in the environment count for submodules, too."""
    made = {name: value for name, value in given.items() if name not in ("GIT_PROXY_COMMAND", "GIT_CONFIG_COUNT")}
    settings = {"core.gitProxy": dialler}
    own = subprocess.run(["git", "config", "--get", "http.proxy"], capture_output=True, check=False).stdout.strip()
    if not own and not any(given.get(name) for name in _PROXIES):
        settings["http.proxy"] = proxy
        for name in ("no_proxy", "NO_PROXY"):
            made.pop(name, None)
    made["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings.items()):
        made |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    ssh = given.get("GIT_SSH_COMMAND") or "ssh"
    through = shlex.quote(f"ProxyCommand={shlex.quote(dialler)} %h %p")
    made["GIT_SSH_COMMAND"] = f"{ssh} -o {through} -o ProxyUseFdpass=no -o ControlPath=none"
    return made


def relay(host: str, port: int, named: Collection[str]) -> int:
    """Dial, then carry stdin there and what comes back to stdout."""
    try:
        server = dial(host, port, named)
    except (NotPublicError, OSError, UnicodeError) as error:
        sys.stderr.write(f"{error}\n" if isinstance(error, NotPublicError) else f"{host}: {error}\n")
        return 1
    threading.Thread(
        target=copy,
        args=(lambda: os.read(0, PIECE), server.sendall, lambda: server.shutdown(socket.SHUT_WR)),
        daemon=True,
    ).start()
    copy(lambda: server.recv(PIECE), _to_stdout, lambda: os.close(1))
    return 0


def _to_stdout(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(arguments: Sequence[str]) -> int:
    """As the module says."""
    if "--dial" in arguments:
        place = list(arguments).index("--dial")
        host, port = arguments[place + 1 : place + 3]
        return relay(host, int(port), arguments[:place])
    place = list(arguments).index("--")
    return run(arguments[place + 1 :], arguments[:place])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
