"""Serial ports of a host: what is connected, who has it open, and the one port that a build means by a name.

No port is opened for that: opening one moves its DTR and RTS lines, which reset most boards.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final

from mcp_server.errors import BadInput, Conflict, HostUnreachable
from mcp_server.hosts.base import Host, JobId
from mcp_server.hosts.port_names import name_of
from mcp_server.hosts.port_urls import place_of_url
from mcp_server.hosts.script import Script

PORTS = Script("ports")
ROOTS = ("/sys", "/dev", "/proc")
"""Where the script looks. Tests have trees of their own."""

ANSWER_S = 15
MOST_LINES = 4000
MOST_NAMED = 32
COMMAND_CHARS = 100
KEY_CHARS = 120
MONITOR = "The serial monitor of build-orchestrator"  # how the text of that program begins, which is an argument
NO_BOARD = ("option", "qcserial", "sierra", "GobiNet")
"""Drivers of modems: they are listed, and never taken for a board that nobody named."""

CHEAP: Final = re.compile(r".{0,4}|(.)\1*|0*123456789.*|0123456789ABCDEF|12345678")
"""Serial numbers that whole batches of boards share."""

_CONTROLS = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port open. `job` is the id of the job it belongs to, which lies in `jobs_directory`."""

    pid: int
    command: str
    job: JobId | None = None
    jobs_directory: str = ""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port of a host, or the URL of one. `key` is a safe name that stays with the board, also as a folder's.

    `accessible`: this user may open it. `unseen`: other users' processes could not be looked at, so an empty `holders`
    does not mean that it is free. `vid` and `pid` are four hex digits; all that is not known is empty.
    """

    path: str
    key: str
    stable: str | None = None
    text: str = ""
    vid: str = ""
    pid: str = ""
    serial: str = ""
    driver: str = ""
    group: str = ""
    accessible: bool = True
    holders: tuple[Holder, ...] = ()
    unseen: bool = False

    @property
    def is_url(self) -> bool:
        """It is reached over the network: nothing is known of who else has it open."""
        return "://" in self.path

    @property
    def described(self) -> str:
        """`/dev/ttyUSB0 (CP2102N USB to UART (Silicon Labs), serial 0001)`."""
        serial = f", serial {self.serial}" if self.serial else ""
        return f"{self.path} ({self.text}{serial})" if self.text else self.path


@dataclass(frozen=True, slots=True)
class Look:
    """What a host says of its ports. `kinds`: what each name that was asked for is, with the port where it is one."""

    ports: tuple[SerialPort, ...] = ()
    named: dict[str, tuple[str, SerialPort | None]] = field(default_factory=dict[str, tuple[str, SerialPort | None]])
    user: str = ""
    entered: frozenset[str] = frozenset()
    """Groups that the user has been put into and that this login does not have yet."""


async def list_ports(host: Host, named: Sequence[str] = ()) -> tuple[SerialPort, ...]:
    """The USB serial ports of `host`, by path; then those of `named` (paths) that are ports too. HostUnreachable."""
    look = await look_at_ports(host, named)
    more = {port.key: port for _, port in look.named.values() if port is not None}
    return (*look.ports, *(port for key, port in more.items() if key not in {one.key for one in look.ports}))


async def find_port(host: Host, wanted: str | None) -> SerialPort:
    """The port that is meant: by path, name in /dev, link, key or serial number; without a name the only one there is.

    An URL is only checked. BadInput: none there, several and none named, not there, no serial port, not permitted.
    """
    if wanted is not None and "://" in wanted:
        return port_of_url(wanted)
    look = await look_at_ports(host, [] if wanted is None else [_path_of(wanted)])
    port = _only(look, host.name) if not wanted else _named(look, wanted, host.name)
    if not port.accessible:
        raise BadInput("port", f"{not_permitted(look, port)}: {permission(look, port)}")
    return port


def refuse_stranger(port: SerialPort, jobs_directory: str) -> None:
    """Conflict where another program has the port: it would get half of what the board says.

    Jobs in the same directory, what `Host.directory()` says, are no strangers: by its locks they lend the port, or end.
    """
    if taken := stranger(port, jobs_directory):
        raise Conflict(taken)


def stranger(port: SerialPort, jobs_directory: str) -> str:
    """The sentence on who has the port and knows nothing of our locks; "" where none is seen."""
    for holder in port.holders:
        if holder.job is None:
            return f"{port.path} is open in {holder.command} (pid {holder.pid}): close it first"
        if holder.jobs_directory != jobs_directory:
            whose = f"{holder.command} (pid {holder.pid}), job {holder.job[:60]} of another build-orchestrator"
            return f"{port.path} is open in {whose}: wait for its end, or end it there"
    return ""


def lock_folder(jobs_directory: str, key: str) -> str:
    """The folder whose kernel lock is the port's, below what `Host.directory()` says."""
    return f"{jobs_directory}/.ports/{key}"


def port_of_url(url: str) -> SerialPort:
    """The port behind `rfc2217://HOST:PORT` or `socket://HOST:PORT`. BadInput, without a word of it, for others."""
    scheme, place = place_of_url(url)
    text = "port of a terminal server" if scheme == "rfc2217" else "raw TCP port: nothing can reset the board"
    return SerialPort(url, safe(f"{scheme}-{place}"), text=text)


def not_permitted(look: Look, port: SerialPort) -> str:
    """`user ann may not open /dev/ttyUSB0 (group dialout)`."""
    return f"user {look.user or '?'} may not open {port.path} (group {port.group or '?'})"


def permission(look: Look, port: SerialPort) -> str:
    """The command that lets the user open a port."""
    if port.group in look.entered:
        return f"{look.user} was put into group {port.group} after this login: log in again, and end the worker"
    if port.group in ("", "root", "wheel"):
        return f"sudo chown $USER {port.path}, which holds until it is unplugged; a udev rule makes it last"
    return f"sudo usermod -aG {port.group} $USER, then log in again"


# -- one look ----------------------------------------------------------------------------------------------------------


async def look_at_ports(host: Host, named: Sequence[str] = ()) -> Look:
    """One round trip; `named` are paths to look at besides. BadInput: one that is none. HostUnreachable."""
    for path in named:
        if not path.startswith("/") or "\n" in path or "\0" in path or len(path) > 4000:
            raise BadInput("port", f"{path[:100]!r} is no path such as /dev/ttyUSB0")
    try:
        async with asyncio.timeout(ANSWER_S):
            lines = await _ask(host, named[:MOST_NAMED])
    except TimeoutError:
        raise HostUnreachable(host.name, f"says nothing of its serial ports within {ANSWER_S} s") from None
    return _look([line.decode("utf-8", "replace").rstrip("\n") for line in lines])


async def _ask(host: Host, named: Sequence[str]) -> list[bytes]:
    lines: list[bytes] = []
    async with host.channel(PORTS, "list") as channel:
        await channel.write("".join(f"{line}\n" for line in (*ROOTS, *named)).encode("utf-8", "surrogateescape"))
        await channel.end_input()
        while len(lines) < MOST_LINES and (line := await channel.readline()).endswith(b"\n"):
            if line == b"end\n":
                return lines
            lines.append(line)
    raise HostUnreachable(host.name, "what it says of its serial ports was cut off")


@dataclass(slots=True)
class _Block:
    """What the script says of one port."""

    path: str
    named: bool = False
    values: dict[str, str] = field(default_factory=dict[str, str])
    drivers: list[str] = field(default_factory=list[str])
    holders: list[Holder] = field(default_factory=list[Holder])

    @property
    def real(self) -> str:
        return self.values.get("real", self.path)

    @property
    def is_port(self) -> bool:
        return self.values.get("kind") in ("tty", "pty")


def _look(lines: Sequence[str]) -> Look:
    blocks, said = _blocks(lines)
    keys = _keys([block for block in blocks if block.is_port])
    unseen = "unseen" in said
    ports = {
        block.path: _port(block, keys[block.real], unseen) for block in reversed(blocks) if block.is_port
    }  # reversed: of the same path the listed one is told
    listed = {block.real: ports[block.path] for block in blocks if not block.named}
    named: dict[str, tuple[str, SerialPort | None]] = {}
    for block in blocks:
        if block.named:
            kind = block.values.get("kind", "absent")
            named[block.path] = (kind, (listed.get(block.real) or ports[block.path]) if block.is_port else None)
    entered = frozenset(said.get("entered", "").split()) - frozenset(said.get("member", "").split())
    return Look(
        tuple(sorted(listed.values(), key=lambda port: _natural(port.path))), named, said.get("user", ""), entered
    )


def _blocks(lines: Sequence[str]) -> tuple[list[_Block], dict[str, str]]:
    blocks: list[_Block] = []
    said: dict[str, str] = {}
    current: list[_Block] = []
    for line in lines:
        key, _, rest = line.partition(" ")
        if key in ("listed", "named"):
            current = [_Block(rest, key == "named")]
            blocks += current
        elif key == "usb":
            current = [block for block in blocks if block.path == rest]
        elif key == "group":
            for block in blocks:
                if rest.endswith(f" {block.path}"):
                    block.values["group"] = rest.removesuffix(f" {block.path}")
        elif key in ("user", "member", "entered", "unseen"):
            said[key] = rest
        elif key == "holder":
            number, _, real = rest.partition(" ")
            current = [block for block in blocks if block.real == real]
            for block in current:
                block.holders.append(Holder(int(number), "?"))
        else:
            for block in current:
                _more(block, key, rest)
    return blocks, said


def _more(block: _Block, key: str, rest: str) -> None:
    if key == "driver":
        block.drivers.append(clean(rest))
    elif key == "command" and block.holders:
        block.holders[-1] = replace(block.holders[-1], command=_command(rest))
    elif key == "job" and block.holders:
        folder, _, job = rest.rstrip("/").rpartition("/")
        block.holders[-1] = replace(block.holders[-1], job=job or None, jobs_directory=folder)
    else:
        block.values[key] = rest


def _command(line: str) -> str:
    """A process' command line as a name for it; of a monitor it is the program's text, which would tell nothing."""
    return "a serial monitor of build-orchestrator" if MONITOR in line else clean(line, COMMAND_CHARS) or "?"


def _port(block: _Block, key: str, unseen: bool) -> SerialPort:
    said = {name: clean(value) for name, value in block.values.items()}
    vid, pid = said.get("vid", "").lower(), said.get("pid", "").lower()
    text = name_of(vid, pid, said.get("maker", ""), said.get("product", ""))
    if said["kind"] == "pty":
        text = text or "pseudo terminal: a virtual board"
    drivers = block.drivers or [""]
    return SerialPort(
        path=block.path,
        key=key,
        stable=block.values.get("by-id"),
        text=text,
        vid=vid,
        pid=pid,
        serial=said.get("serial", ""),
        driver=drivers[-1] if vid else drivers[0],
        group=said.get("group", ""),
        accessible=said.get("access") == "yes",
        holders=tuple(block.holders),
        unseen=unseen,
    )


# -- keys --------------------------------------------------------------------------------------------------------------


def _keys(blocks: Sequence[_Block]) -> dict[str, str]:
    """A key for each real path: by serial number; what whole batches share, and what is there twice, by place too."""
    first: dict[str, str] = {}
    for block in blocks:
        first[block.real] = _key(block, with_place=False)
    twice = {key for key, count in Counter(first.values()).items() if count > 1}
    for block in blocks:
        if first[block.real] in twice:
            first[block.real] = _key(block, with_place=True)
    twice = {key for key, count in Counter(first.values()).items() if count > 1}
    return {real: safe(f"{key}-{real.rpartition('/')[2]}") if key in twice else key for real, key in first.items()}


def _key(block: _Block, *, with_place: bool) -> str:
    said = block.values
    serial = said.get("serial", "").strip()
    place = said.get("by-path", said.get("place", "")).rpartition("/")[2]
    which = "".join(
        f"-{letter}{number}"
        for letter, name in (("if", "interface"), ("port", "subport"))
        if (number := said.get(name, "").strip()).strip("0")
    )
    if "vid" in said and serial:
        identity = f"{said['vid']}-{said.get('pid', '')}-{serial}{which}".lower()
        shared = with_place or CHEAP.fullmatch(serial)
        return safe(f"{identity}-{place}" if shared and place else identity)
    if place:
        return safe(place)
    return safe(block.real.removeprefix(f"{ROOTS[1]}/").removeprefix("/dev/").replace("/", "-"))


def safe(text: str) -> str:
    """`text` as a name of letters, digits, dot, dash and underscore that is no hidden one, 120 characters at most."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text.replace(":", "-")).lstrip(".-")
    if name and len(name) <= KEY_CHARS:
        return name
    return (
        f"{name[: KEY_CHARS - 17] or 'port'}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    )


def clean(text: str, most: int = 80) -> str:
    """What a device or a process calls itself, without control characters, on one line."""
    text = " ".join(_CONTROLS.sub(" ", text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _natural(path: str) -> list[tuple[int, str]]:
    """ttyUSB10 behind ttyUSB9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


# -- which one is meant ------------------------------------------------------------------------------------------------


def _path_of(wanted: str) -> str:
    """A name without a slash is one in /dev."""
    return wanted if "/" in wanted else str(PurePosixPath(ROOTS[1]) / (wanted or "."))


def _only(look: Look, host: str) -> SerialPort:
    boards = [port for port in look.ports if port.driver not in NO_BOARD]
    if len(boards) == 1:
        return boards[0]
    if boards:
        there = "; ".join(port.described for port in boards[:8])
        raise BadInput("port", f"{len(boards)} boards are connected to {host}, so one must be named: {there}")
    raise BadInput(
        "port",
        f"no board is connected to {host} (no ttyUSB, no ttyACM): plug it in with a cable that carries data,"
        " or name its port",
    )


def _named(look: Look, wanted: str, host: str) -> SerialPort:
    kind, port = look.named.get(_path_of(wanted), ("absent", None))
    if port is not None:
        return port
    if "/" not in wanted:
        found = [port for port in look.ports if wanted in (port.key, port.serial)]
        if len(found) == 1:
            return found[0]
    there = "; ".join(port.described for port in look.ports[:8]) or "none"
    what = {
        "absent": "is not there",
        "dangling": "is a link to nothing: its device is unplugged",
        "file": "is a file, no serial port",
        "folder": "is a folder, no serial port",
        "terminal": "is a console of this machine, no serial port",
    }.get(kind, "is no serial port")
    raise BadInput("port", f"{wanted} {what} on {host}; connected: {there}")
