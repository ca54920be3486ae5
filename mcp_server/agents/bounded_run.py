"""One command that a model asked for: no shell, no input, bounded output, and nothing of it left afterwards."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

HEAD_BYTES = 2500
TAIL_BYTES = 5000  # what failed is said at the end
_DRAIN_S = 1.0  # for what a killed command had written; its pipe is at its end then


class _Output(asyncio.SubprocessProtocol):
    """The first and the last bytes that a process prints; whether it ended, and whether its pipe did."""

    def __init__(self) -> None:
        self.head, self.tail, self.size = b"", b"", 0
        self.exited, self.closed = asyncio.Event(), asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.size += len(data)
        room = max(HEAD_BYTES - len(self.head), 0)
        self.head += data[:room]
        self.tail = (self.tail + data[room:])[-TAIL_BYTES:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.closed.set()

    def process_exited(self) -> None:
        self.exited.set()

    def text(self) -> str:
        left_out = self.size - len(self.head) - len(self.tail)
        middle = f"\n… {left_out:,} bytes left out …\n".encode() if left_out else b""
        return (self.head + middle + self.tail).decode("utf-8", "replace")


async def run(argv: Sequence[str], folder: str, environment: Mapping[str, str], timeout_s: float) -> tuple[int, str]:
    """Exit code (-1: it ran out of time, 127: it cannot be run) and what it printed, at most 7.6 kB.

    Its process group is killed at its end, whatever that is, cancelled too: a child left behind must not go on
    changing files.
    """
    try:
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            _Output,
            *argv,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return 127, f"{argv[0][:200]} cannot be run: {getattr(error, 'strerror', None) or error}"
    note = ""
    try:
        async with asyncio.timeout(timeout_s):
            await output.exited.wait()
        code = transport.get_returncode()
    except TimeoutError:
        code, note = -1, f"\nkilled: it took more than {timeout_s:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        await asyncio.shield(_ended(transport, output))
    return (-1 if code is None else code), output.text() + note


async def _ended(transport: asyncio.SubprocessTransport, output: _Output) -> None:
    # A child that left the group may hold the pipe open: it is not waited for, the job's own end takes it.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            await output.exited.wait()
            await output.closed.wait()
    transport.close()
