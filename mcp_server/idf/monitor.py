"""The serial monitor seen from here: how its job is started, what it is told, and how its log is read.

The job itself is `serial_port.py` and `serial_job.py`, which say what its log and its commands look like.
"""

import asyncio
import base64
import json
import re
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from mcp_server.errors import BadInput
from mcp_server.hosts import console
from mcp_server.hosts.base import Host, JobId
from mcp_server.idf.patterns import Pattern, compile_patterns

IDLE_S = 900
BAUD = 115_200
MOST_BAUD = 12_000_000  # an FT232H; more than any adapter's
SEND_BYTES = 2048  # of one command: base64 makes 2732 of them, and a command may have 4000
MOST_SEND_BYTES = 65_536
LEND_S = 30  # how long a lent port is kept for whoever asked for it
REMARKS = 20
REMARK_BYTES = 4096

PROGRAM = "\n\n".join(
    files("mcp_server.idf").joinpath(name).read_text(encoding="utf-8") for name in ("serial_port.py", "serial_job.py")
)
"""What runs where the port is."""

FIND_PYTHON = r"""
text=$1 idf=$2
shift 2
[ ! -f "$idf" ] || idf=${idf%/*}
for python in python3 "${IDF_PYTHON_ENV_PATH-}/bin/python" "${IDF_TOOLS_PATH-}"/python_env/*/bin/python \
    ~/.espressif/python_env/*/bin/python ~/.espressif/tools/python/*/venv/bin/python "$idf"/python_env/*/bin/python \
    "${idf%/*}"/python_env/*/bin/python "${idf%/*}"/tools/python_env/*/bin/python /opt/esp/python_env/*/bin/python; do
    command -v "$python" >/dev/null 2>&1 || continue
    "$python" -c 'import serial, sys; sys.exit(sys.version_info < (3, 8) or not serial.serial_for_url)' 2>/dev/null ||
        continue
    exec "$python" -c "$text" "$@"
done
echo "--- [0.000] no Python with pyserial here: sudo apt install python3-serial, or set idf_path of this host"
exit 6
"""
"""What sh runs on another machine: ESP-IDF's own Python has pyserial, too."""

_SENTENCES = {
    3: "the port is busy",
    4: "no permission for the port: add the user to its group (dialout)",
    5: "the port is not there, or was gone for too long",
    6: "no Python with pyserial on that machine: sudo apt install python3-serial",
    143: "ended by a signal",
}

_STAMP = re.compile(rb"\[\d{1,9}\.\d{3}\]([ +])")
_STAMP_BYTES = 16
_REMARK = re.compile(rb"--- \[\d{1,9}\.\d{3}\] (.*)")


@dataclass(frozen=True, slots=True)
class Session:
    """What the job is to do. Times in seconds; `seconds` 0: until it is closed. `commands`: it can be spoken to.

    `gone_s`: how long an unplugged port is waited for; `wait_s`: one that another job has locked.
    """

    port: str
    folder: str
    baud: int = BAUD
    reset: bool = False
    idle_s: float = IDLE_S
    seconds: float = 0
    purpose: str = "monitor"
    commands: bool = True
    gone_s: float = 60
    wait_s: float = 2


def monitor_argv(session: Session, *, far: bool, idf_path: str | None = None) -> list[str]:
    """The job's command; on another machine (`far`) a Python with pyserial is looked for, also in its ESP-IDF.

    It is to run in `/`, lest a project's own serial.py is taken for pyserial. BadInput: a baud rate that none is.
    """
    options = ["--port", session.port, "--folder", session.folder, "--purpose", session.purpose]
    options += ["--baud", str(checked_baud(session.baud)), "--idle-s", f"{session.idle_s:g}"]
    options += ["--seconds", f"{session.seconds:g}", "--gone-s", f"{session.gone_s:g}"]
    options += ["--wait-s", f"{session.wait_s:g}"]
    options += [*(["--reset"] if session.reset else []), *([] if session.commands else ["--no-commands"])]
    if far:
        return ["sh", "-c", FIND_PYTHON, "sh", PROGRAM, idf_path or "", *options]
    return [sys.executable, "-c", PROGRAM, *options]


def checked_baud(baud: object) -> int:
    """`baud` as a rate. BadInput: it is none."""
    if isinstance(baud, bool) or not isinstance(baud, int) or not 50 <= baud <= MOST_BAUD:
        raise BadInput("baud", f"{str(baud)[:40]!r} should be a rate such as 115200, {MOST_BAUD} at most")
    return baud


def sentence(code: int | None) -> str:
    """Why the job ended with this exit code; "" where that needs no words."""
    return "" if code == 0 else _SENTENCES.get(code or -1, f"the monitor ended with exit code {code}")


# -- what it is told ---------------------------------------------------------------------------------------------------


def command_bytes(op: str, **more: str | float) -> bytes:
    """One command as the job reads it."""
    return json.dumps({"op": op, **more}).encode() + b"\n"


async def send(host: Host, key: str, data: bytes) -> bool:
    """Give bytes to the board, in order. False: nobody watches this port. BadInput: more than 64 kB."""
    if len(data) > MOST_SEND_BYTES:
        raise BadInput("data", f"{len(data)} bytes; {MOST_SEND_BYTES} at most at a time")
    parts = [data[at : at + SEND_BYTES] for at in range(0, len(data), SEND_BYTES)]
    commands = [command_bytes("send", data=base64.b64encode(part).decode()) for part in parts]
    return await console.say(host, key, b"".join(commands) or command_bytes("keep"))


async def reset(host: Host, key: str) -> bool:
    """Reset the board by its lines; where the port has none, the log says so. False: nobody watches this port."""
    return await console.say(host, key, command_bytes("reset"))


async def set_baud(host: Host, key: str, baud: int) -> bool:
    """Go on at another rate. False: nobody watches this port."""
    return await console.say(host, key, command_bytes("baud", baud=checked_baud(baud)))


async def keep(host: Host, key: str) -> bool:
    """Somebody still looks: the idle time begins anew. False: nobody watches this port."""
    return await console.say(host, key, command_bytes("keep"))


async def close(host: Host, key: str) -> bool:
    """End the session; its job ends with 0 at once. False: nobody watches this port."""
    return await console.say(host, key, command_bytes("close"))


async def yield_port(
    host: Host, key: str, who: str, wait_s: float = LEND_S, job: JobId = "", then_s: float = 0
) -> bool:
    """Have the monitor of this port let it go for `who` (words), who locks its folder within `wait_s` seconds.

    It takes the port back when that lock is free again, or when `job`, which was to lock it, is over; `then_s` seconds
    later, where the next to ask belongs to the first. True: it was told, and lets go as soon as it reads that; so wait
    for the lock. False: no monitor is there.
    """
    command = command_bytes("yield", who=who[:200], wait_s=wait_s, job=job, then_s=then_s)
    return await console.say(host, key, command)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has the port: `purpose` is monitor or boot, `job` the job's id, `lent` to whom a monitor has lent it."""

    pid: int
    job: str
    purpose: str
    since: float
    lent: str = ""


async def owner(host: Host, key: str) -> Owner | None:
    """The monitor or boot watch that has this port; None where neither does. A flash does not write itself down."""
    said = await console.holder(host, key)
    try:
        return said and Owner(  # pyright: ignore[reportReturnType]
            int(said["pid"]), str(said["job"]), str(said["purpose"]), float(said["since"]), str(said.get("lent", ""))
        )
    except (KeyError, TypeError, ValueError):
        return None


# -- its log -----------------------------------------------------------------------------------------------------------


class BoardBytes:
    """Takes the board's bytes out of the log as it grows: no stamps, no break marks, no remarks.

    `remarks` are the last lines that are not the board's, `lines` counts the board's ended ones.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.remarks: deque[str] = deque(maxlen=REMARKS)
        self._rest = b""
        self._inside: str | None = None  # "board" or "other": what the open line is; None: a line begins
        self._mark = b""  # the end of the last line, should the next one not go on with it

    def feed(self, data: bytes) -> bytes:
        """What of it is the board's. A few bytes may be kept back until it is clear what they are."""
        return b"".join(self._parts(self._rest + data))

    def close(self) -> bytes:
        """What was kept back, at the log's end."""
        rest, self._rest = self._rest, b""
        mark, self._mark = self._mark, b""
        if self._inside == "board":
            return rest
        if rest:
            self._note(rest)
        return mark

    def _parts(self, data: bytes) -> Iterator[bytes]:
        self._rest, at = b"", 0
        while at < len(data):
            if self._inside is None:
                stamp = _STAMP.match(data, at)
                if stamp is None and len(data) - at < _STAMP_BYTES and b"\n" not in data[at:]:
                    self._rest = data[at:]
                    return
                self._inside = "other" if stamp is None else "board"
                if stamp is not None:
                    yield self._joined(stamp[1])
                    at = stamp.end()
            end = data.find(b"\n", at) + 1
            if not end:
                yield self._open(data[at:])
                return
            if self._inside == "board":
                yield self._line(data[at:end])
            else:
                self._note(data[at : end - 1])
            self._inside, at = None, end

    def _joined(self, sign: bytes) -> bytes:
        """What stood at the last line's end, if it was the board's own."""
        mark, self._mark = self._mark, b""
        if not mark or sign == b"+":
            return b""
        self.lines += 1
        return mark

    def _line(self, line: bytes) -> bytes:
        if line.endswith(b"\\\n"):
            self._mark = line[-2:]
            return line[:-2]
        self.lines += 1
        return line

    def _open(self, part: bytes) -> bytes:
        if self._inside != "board":
            self._rest = part[:REMARK_BYTES]
            return b""
        if part.endswith(b"\\"):
            self._rest = b"\\"
            return part[:-1]
        return part

    def _note(self, line: bytes) -> None:
        remark = _REMARK.fullmatch(line)
        self.remarks.append((remark[1] if remark else line).decode("utf-8", "replace").strip()[:500])


LONGEST_LINE = 4200  # bytes of the log: the monitor breaks lines after 4096
PIECE_BYTES = 65_536
LOOK_BACK_S = 10  # for reading what the log has already, however short the wait


async def read(host: Host, job_id: JobId, offset: int, max_bytes: int) -> tuple[bytes, int]:
    """Log bytes from `offset`, stamps and all, and the offset after them; whole lines where more than that is there.

    What a log over its cap has given up is stepped over. NotFound: an absent job.
    """
    hole = await host.log_hole(job_id)
    if hole is not None and hole[0] <= offset < hole[1]:
        offset = hole[1]
    if hole is not None and offset < hole[0]:
        max_bytes = min(max_bytes, hole[0] - offset)
    piece = await host.read_log(job_id, offset, max_bytes)
    if len(piece) == max_bytes and (end := piece.rfind(b"\n") + 1):
        piece = piece[:end]
    return piece, offset + len(piece)


async def wait_for(host: Host, job_id: JobId, offset: int, pattern: str, timeout_s: float) -> tuple[str | None, int]:
    """The first line of the board in which `pattern` is found behind `offset`, and the offset to go on from.

    A match counts if its end came after `offset`; a line need not have ended, so that a prompt is found. What the log
    has already is searched first. (None, offset): not found in `timeout_s` seconds, or the job ended. BadInput: no
    regular expression, or one that takes too long. NotFound: an absent job.
    """
    finder = _Finder(compile_patterns("wait_for", [pattern])[0], offset, await _line_start(host, job_id, offset))
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    try:
        async with asyncio.timeout(max(timeout_s, LOOK_BACK_S)):
            found = await _search_there(host, job_id, finder)
        if found is None:
            async with asyncio.timeout_at(end):
                found = await _search_coming(host, job_id, finder)
    except TimeoutError:
        found = None
    return found, finder.offset


async def _line_start(host: Host, job_id: JobId, offset: int) -> int:
    """Where the line begins that `offset` lies in."""
    if offset < 0:
        raise BadInput("offset", f"{offset} must be 0 or more")
    start = max(0, offset - LONGEST_LINE)
    before = await host.read_log(job_id, start, offset - start) if offset else b""
    newline = before.rfind(b"\n")
    return start + newline + 1 if newline >= 0 or not start else offset


async def _search_there(host: Host, job_id: JobId, finder: "_Finder") -> str | None:
    while True:
        piece, end = await read(host, job_id, finder.read_to, PIECE_BYTES)
        finder.skip(end - len(piece))
        if not piece:
            return None
        if (found := finder.feed(piece)) is not None:
            return found
        await asyncio.sleep(0)


async def _search_coming(host: Host, job_id: JobId, finder: "_Finder") -> str | None:
    following = cast("AsyncGenerator[bytes]", host.follow(job_id, finder.read_to))  # every make of a host has one
    async with aclosing(following) as pieces:
        async for piece in pieces:
            if (found := finder.feed(piece)) is not None:
                return found
    return None


class _Finder:
    """Looks through a log, line by line. `read_to` is how far it was given, `offset` where the next look may begin."""

    def __init__(self, pattern: Pattern, floor: int, start: int) -> None:
        self._pattern, self._floor = pattern, floor
        self.read_to: int = start
        self._line_at = start
        self.offset = floor
        self._line = b""
        self._before = ""  # the end of a line that was broken

    def skip(self, offset: int) -> None:
        """What lies before `offset` is not there any more."""
        if offset != self.read_to:
            self.read_to = self._line_at = offset
            self._line, self._before = b"", ""

    def feed(self, piece: bytes) -> str | None:
        """The line with a match, if it has one now."""
        self.read_to += len(piece)
        if not piece.strip(b"\0"):  # a hole of the log, or nothing that a pattern could be for
            self._line_at += len(piece)
            return None
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            found, self._before = self._look(line)
            self._line_at += len(line) + 1
            if found is not None:
                self.offset = self._line_at
                return found
        self._line_at += max(0, len(self._line) - LONGEST_LINE)
        self._line = self._line[:LONGEST_LINE]
        self.offset = max(self._floor, self.read_to)
        return self._look(self._line)[0]

    def _look(self, line: bytes) -> tuple[str | None, str]:
        """The line where it has a match, and what of it the next one may go on with."""
        stamp = _STAMP.match(line)
        if stamp is None:
            return None, self._before
        text = line[stamp.end() :].decode("utf-8", "replace").rstrip("\r")
        whole = self._before + text if stamp[1] == b"+" else text
        old = line[stamp.end() : max(0, self._floor - self._line_at)].decode("utf-8", "replace")
        found = self._found(whole, len(whole) - len(text) + len(old))
        return whole if found else None, whole[:-1][-LONGEST_LINE:] if text.endswith("\\") else ""

    def _found(self, text: str, first_new: int) -> bool:
        """Whether a match ends behind the first `first_new` letters."""
        if self._pattern.search(text) and (not first_new or self._pattern.search_behind(text, first_new)):
            return True
        if self._pattern.given_up:
            raise BadInput("wait_for", f"{self._pattern.text[:60]!r} takes too long to search for: write it simpler")
        return False
