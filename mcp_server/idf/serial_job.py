"""The serial monitor's second half: the loop that serves the port, and the program. See `serial_port.py`."""

import argparse
import base64
import binascii
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # in the program that is run, both halves are one file
    from mcp_server.idf.serial_port import (
        AGAIN_S,
        BUSY,
        DENIED,
        NO_PYSERIAL,
        SOON_S,
        TERMINATED,
        UNSENT_BYTES,
        Ended,
        Folder,
        Log,
        Port,
        why_not,
    )

MOST_BORROWERS = 16


class Borrower(NamedTuple):
    """Who asked for the port, for how long it is kept free for him, and the job that will come for it, if one will.

    `then_s`: for so long after him it is left closed, for one who belongs to him.
    """

    who: str
    wait_s: float
    job: str
    then_s: float = 0


class Monitor:
    """The loop: the port's bytes to the log, commands to the port."""

    def __init__(self, options: argparse.Namespace, log: Log) -> None:
        self._options, self._log = options, log
        self.folder = Folder(options.folder, options.port, options.purpose, commands=options.commands)
        self.port = Port(options.port, options.baud)
        self.lent = False
        self._borrower: Borrower = Borrower("", 0, "")
        self._next: list[Borrower] = []  # who asked for the port while another was to have it
        self._wake, self._waker = os.pipe()
        self._unsent = b""
        self._new = True  # not open yet
        self._over_at: float | None = None
        self._commanded_at = self._try_at = time.monotonic()
        self._missing_since, self._patience_s = self._try_at, min(SOON_S, options.gone_s)

    def run(self) -> None:
        """Until Ended."""
        self.folder.take(self._options.wait_s)
        self._missing_since = time.monotonic()
        while True:
            if not self.port.is_open and not self.lent and time.monotonic() >= self._try_at:
                self._open()
            self._turn(self._pause())

    def _pause(self) -> float | None:
        """Seconds until there is something to do by the clock; Ended where its time is over."""
        now = time.monotonic()
        times: list[tuple[float, str]] = []
        if self._options.idle_s:
            times.append((self._commanded_at + self._options.idle_s, "nobody asked for it any more: closed"))
        if self._over_at is not None:
            times.append((self._over_at, "its time is over: closed"))
        for when, remark in times:
            if now >= when:
                raise Ended(0, remark)
        if not self.port.is_open and not self.lent:
            times.append((self._try_at, ""))
        return max(0.0, min(when for when, _ in times) - now) if times else None

    def _turn(self, pause_s: float | None) -> None:
        inputs = [self._wake, *([self.folder.control] if self.folder.control is not None else [])]
        inputs += [self.port.input] if self.port.is_open else []
        outputs = self.port.waits_to_write if self._unsent else []
        ready, writable, _ = select.select(inputs, outputs, [], pause_s)
        if self.port.input in ready:
            self._copy()
        if writable and self.port.is_open:
            self._send()
        if self._wake in ready:
            self._back()
        if self.folder.control in ready:
            for command in self.folder.commands():
                self._commanded_at = time.monotonic()
                self._obey(command)

    def _open(self) -> None:
        now = time.monotonic()
        try:
            self.port.open()
        except (OSError, ValueError) as error:
            self.port.close()
            ended = why_not(self.port.path, error)
            if now - self._missing_since >= self._patience_s or (self._new and ended.code in (BUSY, DENIED)):
                raise ended from None
            self._try_at = now + (1.0 if self.port.is_url else AGAIN_S)
            return
        if not self._new:
            self._log.remark(f"the port is back after {time.monotonic() - self._missing_since:.1f} s")
            return
        self._log.start()
        date = time.strftime("%Y-%m-%d %H:%M:%S %z")
        self._log.remark(f"{self.port.path} open at {self.port.baud} baud, {date}")
        self._new = False
        if self._options.seconds:
            self._over_at = time.monotonic() + self._options.seconds
        if self._options.reset:
            self._reset()

    def _copy(self) -> None:
        data = self.port.read()
        if data is None:
            self._gone()
        elif data:
            self._log.board(data)

    def _gone(self) -> None:
        self.port.close()
        self._log.remark(f"port gone: {self.port.path}; waiting {self._options.gone_s:g} s for it", cut=True)
        self._miss()

    def _miss(self) -> None:
        self._missing_since = time.monotonic()
        self._try_at = self._missing_since + (AGAIN_S if not self.lent else 0)
        self._patience_s = self._options.gone_s
        self._unsent = b""

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self.port.write(self._unsent) :]
        except OSError:
            self._gone()

    def _obey(self, command: dict[str, Any]) -> None:
        op = command.get("op")
        try:
            if op == "send":
                self._take(base64.b64decode(str(command["data"]), validate=True))
            elif op == "reset":
                self._reset()
            elif op == "baud":
                self.port.set_baud(int(command["baud"]))
                self._log.remark(f"now at {self.port.baud} baud")
            elif op == "yield":
                who, job = str(command.get("who", "another job"))[:200], str(command.get("job", ""))[:200]
                then_s = min(max(float(command.get("then_s", 0)), 0.0), 60.0)
                self._lend(Borrower(who, float(command.get("wait_s", 30)), job, then_s))
            elif op == "close":
                raise Ended(0, "closed")
            elif op != "keep":
                raise ValueError("there is no such command")
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            self._log.remark(f"{str(op)[:40]} cannot be done: {str(error)[:200]}")

    def _take(self, data: bytes) -> None:
        if not self.port.is_open or len(self._unsent) + len(data) > UNSENT_BYTES:
            raise ValueError(f"{len(data)} bytes not sent: the port is away, or takes nothing")
        self._unsent += data
        self._send()

    def _reset(self) -> None:
        if not self.port.is_open:
            raise ValueError("the port is away")
        try:
            self.port.reset()
        except (OSError, ValueError, NotImplementedError):
            self._log.remark("this port has no lines to reset the board with: press its button")
        else:
            self._log.remark("board reset", cut=True)

    def _lend(self, borrower: Borrower) -> None:
        if self.folder.gone(borrower.job):
            return
        until = time.monotonic() + min(max(borrower.wait_s, 0.0), 600.0)
        if self.lent and (self.folder.came or borrower.who != self._borrower.who):
            # each is to have its turn, or it waits for ever
            self._next = [*self._next, borrower][:MOST_BORROWERS]
            return
        self.folder.lent_until = until
        if self.lent:
            return
        self.lent, self._borrower = True, borrower
        self.port.close()
        self._log.remark(f"the port is lent to {borrower.who}", cut=True)
        self._miss()
        self.folder.say(lent=borrower.who)
        threading.Thread(target=self._lending, daemon=True).start()

    def _lending(self) -> None:
        came = False
        try:
            came = self.folder.lend(self._borrower.job)
        finally:
            os.write(self._waker, b"1" if came else b"0")

    def _back(self) -> None:
        """The lock is ours again."""
        came = os.read(self._wake, 1) != b"0"
        if not came:
            self._log.remark("nobody came for the port")
        then_s = self._borrower.then_s if came else 0
        self.lent = False
        while self._next:
            self._lend(self._next.pop(0))
            if self.lent:
                return
        self.folder.taken()
        self._try_at = time.monotonic() + then_s
        self._patience_s = self._options.gone_s + self._try_at - self._missing_since


def options_of(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serial monitor")
    parser.add_argument("--port", required=True)
    parser.add_argument("--folder", required=True, help="whose lock stands for the port")
    parser.add_argument("--purpose", default="monitor")
    parser.add_argument("--baud", type=int, default=115200)
    parser.add_argument("--reset", action="store_true")
    parser.add_argument("--no-commands", dest="commands", action="store_false")
    for name, default in (("idle", 900.0), ("seconds", 0.0), ("gone", 60.0), ("wait", 2.0)):
        parser.add_argument("--seconds" if name == "seconds" else f"--{name}-s", type=float, default=default)
    return parser.parse_args(argv)


def has_pyserial() -> bool:
    """There is another package of the same name."""
    try:
        return hasattr(import_module("serial"), "serial_for_url")
    except ImportError:
        return False


def main(argv: list[str]) -> int:
    options, log = options_of(argv), Log()

    def terminated(*_: object) -> None:
        raise Ended(TERMINATED, "ended by a signal")

    monitor = None
    try:
        signal.signal(signal.SIGTERM, terminated)
        if not has_pyserial():
            raise Ended(NO_PYSERIAL, f"no pyserial here: {sys.executable} -m pip install pyserial")
        monitor = Monitor(options, log)
        monitor.run()
    except Ended as error:
        ended = error
    except OSError as error:
        ended = Ended(1, f"the monitor cannot work: {error}")
    else:
        ended = Ended(0, "closed")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(Ended, OSError):
        log.remark(ended.remark, cut=True)
        if monitor is not None:
            monitor.folder.leave()
    if monitor is not None:
        monitor.port.close()
    return ended.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
