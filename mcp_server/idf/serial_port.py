"""The serial monitor of build-orchestrator, first half: its log, the folder that stands for a port, and the port.

With `serial_job.py` behind it, this is one program, sent as text to the host that has the port and run there by Python
3.8 or newer with pyserial. Nothing of ours is imported in it, and nothing of ours imports it; `idf/monitor.py` speaks
with it.

Its output, a job's log:
  `[12.345] text`   a line of the board; seconds since the port was first opened, when its first byte came
  `[12.345]+text`   the rest of a line that was broken: before it stand a backslash and a newline that are ours
  `--- [12.345] …`  a remark of this program; no line of the board can begin like that
A line is broken after 4096 bytes, or where a remark had to be made in the middle of it. Without stamps, marks and
remarks the board's bytes are all there and in order; only a line that the port's own end cut off gets a newline.

Commands: one JSON object a line, at most 4000 bytes, into the FIFO `control` of the port's folder:
  {"op": "send", "data": BASE64}   {"op": "reset"}   {"op": "baud", "baud": 921600}   {"op": "keep"}   {"op": "close"}
  {"op": "yield", "who": "build 7", "wait_s": 30, "job": "0123abcd-7-flash-1-1"}   lends the port to whoever locks the
    folder next, and takes it back; `job`, if it is there, is whose end means that nobody will come; with "then_s": 15
    it is left closed for so long after that: one who belongs to the first comes next, and would miss what it reads
Whoever has the port holds the kernel lock (flock) of that folder; `holder` there says who it is, as JSON; `reader` has
the process that reads `control`.

Exit codes: 0 closed, idle or its time over; 2 wrong arguments; 3 busy; 4 not permitted; 5 not there, or gone too long;
6 no pyserial.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

LINE_BYTES = 4096
READ_BYTES = 65_536
COMMAND_BYTES = 65_536  # of a command that has no end
UNSENT_BYTES = 262_144
AGAIN_S = 0.2  # between two looks for a port that is gone
LOOK_S = 0.02  # at the lock, by who waits for it or has lent it
RESET_S = 0.1  # as esptool holds EN down
SOON_S = 5.0  # a port that is not there yet: a board that has just been reset may come back
URL_TIMEOUT_S = 0.5
BUSY, DENIED, GONE, NO_PYSERIAL, TERMINATED = 3, 4, 5, 6, 143


class Ended(BaseException):
    """The end of this program, with its exit code and last remark. Raised by a signal anywhere: hence the base."""

    def __init__(self, code: int, remark: str) -> None:
        super().__init__(remark)
        self.code, self.remark = code, remark


class Log:
    """What goes to stdout: the board's lines with stamps, and remarks."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.lines = self.lost = 0
        self._column = 0  # bytes in the line that is open; 0: none is
        self._broken = False  # the next byte of the board goes on with a line
        self._zero = time.monotonic()

    def start(self) -> None:
        self._zero = time.monotonic()

    def stamp(self) -> bytes:
        return b"[%.3f]" % (time.monotonic() - self._zero)

    def board(self, data: bytes) -> None:
        """Bytes of the board, as they came."""
        stamp = self.stamp()
        first, *others = data.split(b"\n")
        self.lines += len(others)
        out = [self._part(first, stamp)] if first or not self._column else []
        if others:
            for line in others[:-1]:
                out += [b"\n", self._line(line, stamp)]
            out.append(b"\n")
            self._column = 0
            if others[-1]:
                out.append(self._part(others[-1], stamp))
        self._write(b"".join(out))

    def remark(self, text: str, *, cut: bool = False) -> None:
        """A line of our own. `cut`: the board's open line will never go on."""
        if self._column:
            self._write(b"\n" if cut else b"\\\n")
            self._broken = not cut
            self._column = 0
        if self._broken and cut:
            self._write(self.stamp() + b"+\n")
            self._broken = False
        clean = "".join(letter if letter.isprintable() else "?" for letter in text)
        self._write(b"--- " + self.stamp() + b" " + clean.encode("utf-8", "replace") + b"\n")

    def _line(self, line: bytes, stamp: bytes) -> bytes:
        self._column = 0
        return self._part(line, stamp)

    def _part(self, part: bytes, stamp: bytes) -> bytes:
        """A part of one line, the open one's rest or a new one, broken where it gets too long."""
        out: list[bytes] = []
        while True:
            if not self._column:
                out.append(stamp + (b"+" if self._broken else b" "))
                self._broken, self._column = False, 1
            room = LINE_BYTES + 1 - self._column
            out.append(part[:room])
            self._column += min(len(part), room)
            part = part[room:]
            if not part:
                return b"".join(out)
            out.append(b"\\\n")
            self._broken, self._column = True, 0

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:  # a full disk: the port is kept, and what is lost is counted
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise Ended(1, "nobody reads the log") from None
            self.lost += len(data)
            return
        if self.lost:
            lost, self.lost = self.lost, 0
            self.remark(f"{lost} bytes of this log were lost: no space on its disk")


class Folder:
    """The port's folder: its kernel lock, who holds it, and the commands that come in."""

    def __init__(self, path: str, port: str, purpose: str, *, commands: bool) -> None:
        self.path, self._port, self._purpose, self._commands = Path(path), port, purpose, commands
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = os.open(path, os.O_RDONLY)
        self.control: int | None = None
        self.lent_until, self.came, self.mine = 0.0, False, False
        self._since = time.time()
        self._rest = b""

    def take(self, wait_s: float) -> None:
        """Lock it, at most so many seconds later. A monitor does not wait for another one, which would never end."""
        end = time.monotonic() + wait_s
        while not self._try(fcntl.LOCK_EX):
            who = self.owner()
            rival = who is not None and who.get("purpose") == self._purpose == "monitor" and not who.get("lent")
            if rival or time.monotonic() >= end:
                raise Ended(BUSY, f"{self._port} is held by {self._described(who)}")
            time.sleep(LOOK_S)
        self.taken()

    def taken(self) -> None:
        """The lock is ours: say so, and be there for commands."""
        self.mine = True
        self.say()
        if self._commands:
            self._listen()

    def say(self, lent: str = "") -> None:
        """Write who has the port; `lent`: to whom it goes for a while."""
        job = os.path.basename(os.environ.get("BO_JOB", ""))  # noqa: PTH119
        who = {"job": job, "pid": os.getpid(), "since": self._since, "purpose": self._purpose, "port": self._port}
        new = self.path / f".holder.{os.getpid()}"
        with suppress(OSError):  # a full disk: the lock itself holds all the same
            new.write_text(json.dumps({**who, **({"lent": lent} if lent else {})}) + "\n", encoding="utf-8")
            new.replace(self.path / "holder")

    def owner(self) -> dict[str, Any] | None:
        """Who wrote itself down and still lives."""
        who: Any = None
        try:
            who = json.loads((self.path / "holder").read_text(encoding="utf-8")[:4096])
            os.kill(int(who["pid"]), 0)
        except PermissionError:
            return who
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return who

    def gone(self, job: str) -> bool:
        """Whether a job of this machine, in its folder beside `.ports`, is over, and so will not come for the port."""
        if not job:
            return False
        place = self.path.parent.parent / Path(job).name
        return not place.is_dir() or (place / "exit").exists()

    def lend(self, job: str) -> bool:
        """Let go; return with the lock after somebody else has had it. False: until `lent_until` nobody came."""
        self.mine = self.came = False
        fcntl.flock(self.lock, fcntl.LOCK_UN)
        while not self.came and time.monotonic() < self.lent_until and not self.gone(job):
            time.sleep(LOOK_S)
            self.came = not self._try(fcntl.LOCK_SH)
            if not self.came:
                fcntl.flock(self.lock, fcntl.LOCK_UN)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        return self.came

    def commands(self) -> list[dict[str, Any]]:
        """What has come in; what is no command is left out."""
        with suppress(BlockingIOError):
            self._rest += os.read(self.control or 0, COMMAND_BYTES)
        *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > COMMAND_BYTES:
            self._rest = b""
        found: list[dict[str, Any]] = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                command: Any = json.loads(line)
                if isinstance(command, dict):
                    found.append(cast("dict[str, Any]", command))
        return found

    def leave(self) -> None:
        """Clear away what is ours; the lock ends with the process."""
        if not self.mine:
            return
        for name in ("control", "reader", "holder") if self.control is not None else ("holder",):
            with suppress(OSError):
                (self.path / name).unlink()

    def _listen(self) -> None:
        control = self.path / "control"
        if self.control is not None:
            with suppress(OSError):
                there, ours = control.stat(), os.fstat(self.control)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return
            os.close(self.control)
        with suppress(FileNotFoundError):
            control.unlink()
        os.mkfifo(control, 0o600)
        self.control = os.open(control, os.O_RDWR | os.O_NONBLOCK)  # also a writer: never at an end
        (self.path / "reader").write_text(f"{os.getpid()}\n", encoding="utf-8")

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _described(self, who: dict[str, Any] | None) -> str:
        if who is None:
            return "another job, which flashes it or talks to it: wait for its end, or cancel it"
        since = time.strftime("%H:%M:%S", time.localtime(float(who["since"])))
        job = f", job {who['job']}" if who.get("job") else ""
        return f"a {who['purpose']} since {since} (process {who['pid']}{job}): close it first"


class Port:
    """The serial port, through pyserial; opened without resetting the board."""

    def __init__(self, path: str, baud: int) -> None:
        self.path, self.baud = path, baud
        self.is_url = "://" in path
        self._serial: Any = None
        self.input = -1  # a descriptor with the board's bytes
        self._output = -1

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Raises OSError, ValueError. Linux raises both lines; RTS goes first, as DTR alone means no reset."""
        import serial  # noqa: PLC0415

        port: Any = serial.serial_for_url(self.path, self.baud, timeout=0, exclusive=True, do_not_open=True)
        port.dtr = port.rts = True
        port.open()
        self._serial = port
        with suppress(OSError, ValueError, NotImplementedError):
            port.rts = False
            port.dtr = False
        with suppress(OSError, ValueError, NotImplementedError, AttributeError):
            port.set_low_latency_mode(True)  # else some adapters keep bytes for 16 ms
        try:
            self.input = self._output = port.fileno()
        except OSError:  # io.UnsupportedOperation: rfc2217 has none
            port.timeout = URL_TIMEOUT_S
            self.input, feeding = os.pipe()
            threading.Thread(target=_pump, args=(port, feeding), daemon=True).start()

    def close(self) -> None:
        port, self._serial = self._serial, None
        if port is None:
            return
        with suppress(Exception):  # it may be gone
            port.close()
        if self._output < 0:
            os.close(self.input)
        self.input = self._output = -1

    def read(self) -> bytes | None:
        """All that is there, 64 kB or a little more at most; None where the port is gone."""
        data = b""
        try:
            while len(data) < READ_BYTES:
                piece = os.read(self.input, READ_BYTES)
                if not piece:
                    return data or None  # the next read says it again
                data += piece
                if not select.select([self.input], [], [], 0)[0]:
                    break
        except BlockingIOError:
            return data
        except OSError:
            return data or None
        return data

    def write(self, data: bytes) -> int:
        """Send some of it; how much. Raises OSError."""
        if self._output < 0:
            return int(self._serial.write(data) or len(data))
        try:
            return os.write(self._output, data)
        except BlockingIOError:
            return 0

    @property
    def waits_to_write(self) -> list[int]:
        return [self._output] if self._output >= 0 else []

    def reset(self) -> None:
        """EN down and up by RTS, with IO0 high. Raises OSError where the port has no such lines."""
        self._serial.dtr = False
        self._serial.rts = True
        time.sleep(RESET_S)
        self._serial.rts = False

    def set_baud(self, baud: int) -> None:
        """Raises OSError, ValueError."""
        if self._serial is not None:
            self._serial.baudrate = baud
        self.baud = baud


def _pump(port: Any, feeding: int) -> None:
    """Bytes of a port that has no descriptor, into a pipe; its end is the port's."""
    with suppress(Exception):
        while True:
            os.write(feeding, port.read(max(1, port.in_waiting)))
    os.close(feeding)


def why_not(path: str, error: Exception) -> Ended:
    """What to say and end with where a port cannot be opened."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return Ended(DENIED, f"no permission for {path}: sudo usermod -aG dialout $USER, then log in again")
    if number in (errno.EBUSY, errno.EAGAIN):
        return Ended(BUSY, f"{path} is in use by {user_of(path)}: close it first")
    if number == errno.ENOENT:
        return Ended(GONE, f"{path} is not there: is the board plugged in?")
    return Ended(GONE, f"{path} cannot be opened: {str(error)[:300]}")


def command_of(process: Path) -> str:
    """The command line below /proc, as a name for the program."""
    line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    if "The serial monitor of build-orchestrator" in line:
        return "a serial monitor of build-orchestrator"
    return " ".join(line.split())[:100] or "a program"


def user_of(path: str) -> str:
    """The program that has a device open, as far as /proc tells."""
    real = os.path.realpath(path)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) == real and link.parts[2] != str(os.getpid()):  # noqa: PTH115
                return f"{command_of(link.parents[1])} (process {link.parts[2]})"
    return "another program"
