"""What SSH and exec hosts share: the way from a command channel to a running script.

Only constants, safe words and the folder of our scripts stand on a command line, in a form that bash, dash, fish, tcsh
and zsh read alike; everything else goes to stdin. A login script that prints is no obstacle: a mark says where our own
output begins.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from mcp_server.errors import HostError, HostFull, HostUnreachable
from mcp_server.hosts.base import Channel
from mcp_server.hosts.job import ANSWER_S, CHUNK, JobHost
from mcp_server.hosts.request import quote
from mcp_server.hosts.script import Script

MARK = b"build-orchestrator-begins\n"
MAX_NOISE = 1 << 16  # bytes before the mark; more is no login script that prints a greeting

_SAFE = re.compile(r"[A-Za-z0-9._/+=@%:,-]+")
_PROGRAM = 'IFS= read -r line;eval "$line"'  # what runs is the first line of stdin; the rest of stdin is its input
_NO_SPACE = ("No space left", "Disk quota", "quota exceeded")

# Where the jobs are kept. `stat -f` says what kind of file system the home is on; whose lock or FIFO works only on one
# machine, as on these, must not be shared by several.
_PLACE = """
LC_ALL=C; export LC_ALL
umask 077
case $want in
    '') dir=$HOME/.build-orchestrator/jobs
        case $(stat -f -c %T -- "$HOME" 2>/dev/null) in
            nfs*|cifs*|smb*|afs*|lustre*|gpfs*|ceph*|beegfs*|fhgfs*|9p|v9fs|panfs*|ocfs2|gfs*|coda|ncp*|fuse.sshfs*)
                dir=/var/tmp/build-orchestrator-$(id -u)/jobs ;;
        esac ;;
    '~') dir=$HOME ;;
    '~/'*) dir=$HOME/${want#'~/'} ;;
    /*) dir=$want ;;
    *) dir=$HOME/$want ;;
esac
case $dir in
    /var/tmp/build-orchestrator-*)
        up=${dir%/jobs}
        mkdir -p -- "$up" && [ -O "$up" ] && [ ! -L "$up" ] ||
            { printf "%s belongs to another user" "$up"; exit 77; } ;;
esac
made=$(mkdir -p -- "$dir" 2>&1) || { printf "cannot make %s: %s" "$dir" "${made##*: }"; exit 73; }
[ -O "$dir" ] || { printf "%s belongs to another user" "$dir"; exit 77; }
[ -w "$dir" ] || { printf "cannot write to %s" "$dir"; exit 73; }
printf "at %s\\n" "$dir"
"""

_INSTALL = """
LC_ALL=C; export LC_ALL
umask 077
said=$({
    mkdir -p -- "$dir" && cat >"$dir/$name.$$" && [ $(($(wc -c <"$dir/$name.$$"))) = "$size" ] &&
        mv -f -- "$dir/$name.$$" "$dir/$name"
} 2>&1) && [ -O "$dir" ] && { echo installed; exit; }
rm -f -- "$dir/$name.$$"
printf "cannot write to %s: %s" "$dir" "${said##*: }"
"""


def command_line(program: str) -> str:
    """`program` (no single quote, no backslash before one) as it is given to `sh -c`."""
    return f"echo;echo {MARK.decode().strip()};{program}"


def script_command(folder: str, script: Script, op: str, *args: str) -> str:
    """What runs the script: its absolute path and safe words."""
    path = f"{folder}/{script.name}"
    if not _SAFE.fullmatch(path):  # octal, which no shell between reads as anything but itself
        octal = "".join(f"\\0{byte:03o}" for byte in path.encode("utf-8", "surrogateescape"))
        path = f'"$(printf %b "{octal}")"'
    for word in (op, *args):
        if not _SAFE.fullmatch(word):
            raise ValueError(f"{word!r} may not stand on a command line")
    return command_line(" ".join(["exec sh", path, op, *args]))


def first_line(program: str, **values: str) -> bytes:
    """`program` and its variables as one line of sh."""
    text = "\n".join([*(f"{name}={quote(value).decode()}" for name, value in values.items()), program])
    # quote writes "$BO_NL" for a newline, also for one within a value
    return b'BO_NL=$(printf "\\\\n_");BO_NL=${BO_NL%_};eval ' + quote(text) + b"\n"


class Marked:
    """A channel from the mark on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.begun = False
        self.noise = b""

    async def write(self, data: bytes) -> None:
        await self._channel.write(data)

    async def end_input(self) -> None:
        await self._channel.end_input()

    async def read(self, max_bytes: int) -> bytes:
        return await self._channel.read(max_bytes) if self.begun or await self._begin() else b""

    async def readline(self) -> bytes:
        return await self._channel.readline() if self.begun or await self._begin() else b""

    async def close(self) -> tuple[int | None, str]:
        return await self._channel.close()

    async def _begin(self) -> bool:
        while len(self.noise) < MAX_NOISE:
            with suppress(ValueError):  # a line longer than the channel holds
                line = await self._channel.readline()
                if line == MARK:
                    self.begun = True
                    return True
                if not line:
                    return False
                self.noise += line
        return False


@dataclass(frozen=True)
class _Said:
    """What a program of ours answered: its output, and where that is empty what was said instead of it."""

    output: str
    instead: str


class FarShell(ABC):
    """A Shell port over any channel that runs a command. `jobs_dir` may begin with ~; None: the default place."""

    def __init__(self, name: str, jobs_dir: str | None = None) -> None:
        if jobs_dir and ("\n" in jobs_dir or "\0" in jobs_dir):
            raise ValueError("jobs_dir may not hold a newline")
        self.name = name
        self._jobs_dir = jobs_dir
        self._folder: asyncio.Task[str] | None = None

    @abstractmethod
    async def run(self, program: str) -> Channel:
        """Run `sh -c PROGRAM` there. HostUnreachable where nothing can be run."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of what `run` keeps."""

    async def open(self, script: Script, op: str, *args: str) -> Channel:
        folder = await self.folder()
        return Marked(await self.run(script_command(folder, script, op, *args)))

    async def folder(self) -> str:
        """The folder of jobs there, absolute; asked for once."""
        task = self._folder
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._folder = asyncio.create_task(self._ask_folder())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, also where nobody waits
        return await asyncio.shield(task)

    async def install(self, script: Script) -> None:
        folder = await self.folder()
        line = first_line(_INSTALL, dir=folder, name=script.name, size=str(len(script.text)))
        said = await self._tell(line + script.text)
        if said.output.strip() != "installed":
            raise self._error(said)

    async def _ask_folder(self) -> str:
        said = await self._tell(first_line(_PLACE, want=self._jobs_dir or ""))
        word, _, folder = said.output.removesuffix("\n").partition(" ")
        if word != "at" or not folder.startswith("/") or "\n" in folder:
            raise self._error(said)
        return folder

    async def _tell(self, data: bytes) -> _Said:
        """Run what stands in the first line of `data`; the rest is its input."""
        channel = Marked(await self.run(command_line(_PROGRAM)))
        output = bytearray()
        try:
            async with asyncio.timeout(ANSWER_S):
                with suppress(OSError):  # whoever does not read says why
                    await channel.write(data)
                    await channel.end_input()
                while chunk := await channel.read(CHUNK):
                    output += chunk
        except TimeoutError:
            raise HostUnreachable(self.name, f"no answer within {ANSWER_S} s") from None
        finally:
            code, said = await channel.close()
        words = said.strip() or channel.noise.decode("utf-8", "replace").strip()
        instead = " ".join(words.split("\n")[-1].split())[:300]
        if not channel.begun and not instead:
            instead = "the link was lost" if code is None else f"exit code {code}"
        if not channel.begun:
            instead = f"no command can be run there: {instead}"
        return _Said(output.decode("utf-8", "surrogateescape"), instead)

    def _error(self, said: _Said) -> HostError:
        words = said.output.strip() or said.instead or "the link was lost"
        if any(sign in words for sign in _NO_SPACE):
            return HostFull(self.name, f"{words}; nothing was started")
        return HostUnreachable(self.name, words)


class FarHost(JobHost):
    """The Host port over a FarShell."""

    def __init__(self, shell: FarShell) -> None:
        super().__init__(shell)
        self.shell = shell

    async def aclose(self) -> None:
        await self.closer()()

    def closer(self) -> Callable[[], Awaitable[None]]:
        """What ends the links and holds no reference to this host: for whoever waits until nobody else does."""
        mux, shell = self._mux, self.shell

        async def close() -> None:
            await mux.close()
            await shell.aclose()

        return close
