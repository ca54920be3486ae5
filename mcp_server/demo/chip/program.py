"""The firmware of a virtual chip: a host program, whose standard streams are the UART, from reset to reset.

It gets a terminal of its own, so it prints line by line, and its newlines leave as CR LF as ESP-IDF's do. It is
killed by SIGKILL, with all of its process group; when the chip itself is killed, it goes too: its terminal hangs up.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import tty
from collections.abc import Callable
from pathlib import Path

_READ = 1 << 16
MAX_INPUT = 1 << 16
"""Bytes of input that the program did not take yet; beyond them input is lost, as in a full UART buffer."""
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05  # where the system has no pidfd


class Program:
    """One run. `output` gets what it prints; `ended` its exit code, negative for a signal, unless it was killed."""

    def __init__(
        self,
        output: Callable[[bytes], None],
        ended: Callable[[int], None],
        congested: Callable[[Callable[[], None]], bool],
    ) -> None:
        """`congested(resume)`: whether output must wait now; if so, `resume` is called when it may go on."""
        self._output, self._ended, self._congested = output, ended, congested
        self._loop = asyncio.get_running_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="virtual-chip-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._terminal = self._pidfd = -1
        self._input = bytearray()
        self._killed = False
        self.gone = asyncio.Event()

    def start(self, program: bytes) -> None:
        """OSError where this machine cannot start it."""
        executable = self._folder / "firmware"
        executable.write_bytes(program)
        executable.chmod(0o700)
        self._terminal, inner = os.openpty()
        try:
            tty.setraw(inner)
            raw = termios.tcgetattr(inner)
            raw[1] |= termios.OPOST | termios.ONLCR
            termios.tcsetattr(inner, termios.TCSANOW, raw)
            self._process = subprocess.Popen(
                [str(executable)],
                stdin=inner,
                stdout=inner,
                stderr=inner,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=_belong_to_parent,  # noqa: PLW1509  # this process has one thread
            )
        except BaseException:
            self._close_terminal()
            self._clean()
            raise
        finally:
            os.close(inner)
        os.set_blocking(self._terminal, False)
        self._loop.add_reader(self._terminal, self._read)
        self._watch()

    def write(self, data: bytes) -> None:
        """Input for the program."""
        if self._terminal < 0 or len(self._input) + len(data) > MAX_INPUT:
            return
        self._input += data
        self._feed()

    def kill(self) -> None:
        """End it now, silently; `gone` is set when it has ended."""
        self._killed = True
        self._close_terminal()
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _feed(self) -> None:
        try:
            del self._input[: os.write(self._terminal, self._input)]
        except BlockingIOError:
            pass
        except OSError:
            self._input.clear()
        if self._input:
            self._loop.add_writer(self._terminal, self._feed)
        else:
            self._loop.remove_writer(self._terminal)

    def _read(self) -> bool:
        """One piece of output; whether there may be more."""
        try:
            data = os.read(self._terminal, _READ)
        except BlockingIOError:
            return False
        except OSError:  # EIO: every process that had the terminal is gone
            data = b""
        if not data:
            self._loop.remove_reader(self._terminal)
            return False
        self._output(data)
        if self._congested(self._resume):
            self._loop.remove_reader(self._terminal)
        return True

    def _resume(self) -> None:
        if self._terminal >= 0:
            self._loop.add_reader(self._terminal, self._read)

    def _watch(self) -> None:
        assert self._process is not None
        if sys.platform == "linux":
            self._pidfd = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._pidfd, self._reap)
        else:
            self._loop.call_later(_POLL_S, self._poll)

    def _poll(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        code = self._process.wait()  # it has ended: this returns at once
        if not self._killed:
            while self._terminal >= 0 and self._read():
                pass
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # children that it left
        self._close_terminal()
        self._clean()
        if not self._killed:
            self._ended(code)

    def _close_terminal(self) -> None:
        if self._terminal >= 0:
            self._loop.remove_reader(self._terminal)
            self._loop.remove_writer(self._terminal)
            os.close(self._terminal)
            self._terminal = -1

    def _clean(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self.gone.set()


def _belong_to_parent() -> None:
    """In the child: take the terminal as controlling one, so that it hangs up with the chip; die with the parent."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
