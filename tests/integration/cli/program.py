"""The program as a process of its own: in pipes, or in a terminal that a test types into."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (sys.executable, "-P", "-m", "mcp_server")
LIMIT_S = 40  # for what takes one second on an idle machine

# The child takes the terminal as its own, so that Ctrl-C typed into it becomes a signal.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[ -/]*[0-~])")


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, its streams in pipes."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=cwd or "/",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def start(*arguments: str, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """One command, its streams in pipes; ended with the block, whatever became of it."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def await_text(process: subprocess.Popen[bytes], wanted: str) -> None:
    """Return once stderr has shown `wanted`; what was read is gone."""
    assert process.stderr is not None
    deadline, seen = time.monotonic() + LIMIT_S, b""
    while wanted.encode() not in seen:
        ready, _, _ = select.select([process.stderr], [], [], max(0, deadline - time.monotonic()))
        data = os.read(process.stderr.fileno(), 65_536) if ready else b""
        assert data, f"{wanted!r} never came; there was {seen!r}"
        seen += data


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit code, stdout and the rest of stderr, once it has ended."""
    out, err = process.communicate(timeout=2 * LIMIT_S)
    return process.returncode, out.decode(), err.decode()


@dataclass
class Terminal:
    """A command in a terminal of its own. `shown` is all it has printed, without escape sequences."""

    arguments: tuple[str, ...]
    width: int = 80
    height: int = 24
    environment: dict[str, str] = field(default_factory=dict[str, str])
    raw: str = ""

    def __enter__(self) -> "Terminal":
        import fcntl  # noqa: PLC0415  # beside termios, which only terminals need
        import struct  # noqa: PLC0415
        import termios  # noqa: PLC0415

        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.height, self.width, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", **self.environment}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *PROGRAM, *self.arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd="/",
            env=environment,
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)

    @property
    def shown(self) -> str:
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def press(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, wanted: str, times: int = 1) -> None:
        """Return once `wanted` was shown so often."""
        deadline = time.monotonic() + LIMIT_S
        while self.shown.count(wanted) < times:
            if not self._read(deadline):
                raise AssertionError(f"{wanted!r} was not shown {times} times: {self.shown}")

    def end(self) -> int:
        """The exit code, once it has ended and all it printed was read."""
        deadline = time.monotonic() + LIMIT_S
        while self._read(deadline):
            pass
        return self.process.wait(LIMIT_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        try:
            data = os.read(self.master, 65_536) if ready else b""
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)
