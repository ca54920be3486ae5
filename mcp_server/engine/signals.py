"""One process wakes another through a FIFO: fronts the worker (`wake`), and whoever changes a row those who watch.

A FIFO costs nothing while nothing happens, knows no stale addresses and no length limit, and a byte more or less does
not matter: the tables say what is to be done.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

WAKE = "wake"
WATCH = "watch"
PIPE_ATOMIC = 512  # POSIX's least PIPE_BUF: a shorter write is never mixed with another


class Signal:
    """The reading end of one FIFO. `lines` keeps what was written since the last `take_lines`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._arrived = asyncio.Event()
        self._text = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._text = (self._text + os.read(self._fd, 4096))[-4096:]
        self._arrived.set()

    def set(self) -> None:
        """Wake the waiter from within this process."""
        self._arrived.set()

    async def wait(self) -> None:
        """Return once something was written since the last wait."""
        await self._arrived.wait()
        self._arrived.clear()

    def take_lines(self) -> list[str]:
        """Whole lines written so far, each given once."""
        *lines, self._text = self._text.split(b"\n")
        return [line.decode("ascii", "replace") for line in lines if line]

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def open_fifo(path: Path) -> int:
    """The reading end. Open for writing as well: no end-of-file comes when the last writer closes."""
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _make_fifo(folder: Path) -> tuple[Path, int]:
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    os.mkfifo(folder / f".{name}", 0o600)
    fd = open_fifo(folder / f".{name}")
    # Seen only now that it has a reader, so that `announce` may remove those without.
    return (folder / f".{name}").rename(folder / name), fd


def make_wake(home: Path) -> Path:
    """The FIFO that the worker of `home` reads; made once."""
    path = home / WAKE
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return path


def write_signal(path: Path, text: bytes) -> bool:
    """Write to a FIFO without waiting; False where nobody reads. A full one has a reader about to look: True."""
    assert len(text) <= PIPE_ATOMIC
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: no reader; ENOENT: none yet
        return False
    try:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(fd, text)
    finally:
        os.close(fd)
    return True


@asynccontextmanager
async def watch(home: Path) -> AsyncGenerator[Signal]:
    """A signal that arrives whenever a row of `home` may have changed. Look at the rows once more after entering."""
    path, fd = await asyncio.to_thread(_make_fifo, home / WATCH)
    signal = Signal(fd)
    try:
        yield signal
    finally:
        path.unlink(missing_ok=True)
        signal.close()


def announce(home: Path) -> None:
    """Tell all watchers that a row may have changed; sweep away what a killed one left."""
    with contextlib.suppress(OSError), os.scandir(home / WATCH) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not write_signal(Path(entry.path), b"!"):
                Path(entry.path).unlink(missing_ok=True)
