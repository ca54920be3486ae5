"""The Host port: what every machine that runs jobs can do."""

import hashlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mcp_server.errors import BadInput
from mcp_server.hosts.script import Script

JobId = str
"""`<store uuid, 8 hex>-<build>-<stage>-<round>-<attempt>`; letters, digits, dot, dash and underscore only."""

LOG_CAP_BYTES = 256 * 1024 * 1024

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def check_id(job_id: JobId) -> None:
    """An id is a part of a path and of a request; BadInput where it could be anything else."""
    if not _JOB_ID.fullmatch(job_id):
        raise BadInput("job id", f"{job_id[:60]!r} may hold letters, digits, '.', '_' and '-' only, 200 at most")


class JobState(StrEnum):
    """What the host knows of a job at this moment."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


class ExitReason(StrEnum):
    """Why a job is over."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    DISK_FULL = "disk_full"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Exit:
    """A job's end. `code` is exact (128+n for a signal) and None only where reason is LOST; times are Unix seconds."""

    reason: ExitReason
    code: int | None
    started_at: float | None = None
    ended_at: float | None = None
    log_size: int | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command on one host. The environment is whole: nothing is inherited from whoever starts the job.

    With `login` it is laid over what the host gives its own user: HOME, USER, LOGNAME, SHELL, PATH, LANG.
    `lock` names a folder (made where absent) that the job and all its children hold under an exclusive kernel lock;
    the job waits for it before it runs. A daemon that the job leaves in a session of its own does not keep the lock
    after the job's end; whatever else it leaves in the background does. Zero `timeout_s` means none; `grace_s` lies
    between TERM and KILL. Of a log longer than `log_cap_bytes` the middle is given up (`Host.log_hole`).
    """

    id: JobId
    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout_s: float = 0
    grace_s: float = 5
    lock: str | None = None
    login: bool = False
    log_cap_bytes: int = LOG_CAP_BYTES

    def __post_init__(self) -> None:
        check_id(self.id)

    def sha256(self) -> str:
        """Identity of the specification: the same id with another value is an error, never a join.

        The log's cap is no part of it: it changes nothing of what is run.
        """
        parts = [self.cwd, str(self.timeout_s), str(self.grace_s), self.lock or "", *self.argv]
        parts += [f"{key}={value}" for key, value in sorted(self.env.items())]
        parts += ["login"] if self.login else []
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class JobStatus:
    """State of a job, the spec hash its directory was made for (None where absent), its exit where it has ended."""

    state: JobState
    spec_sha256: str | None = None
    exit: Exit | None = None


class Channel(Protocol):
    """One running `sh SCRIPT OP ARGS`. End of output is the end of the process, whatever ended it."""

    async def write(self, data: bytes) -> None:
        """Send to its stdin, whole even where the caller is cancelled. Raises OSError where it is gone."""
        ...

    async def end_input(self) -> None:
        """Close its stdin: it has all that it will get."""
        ...

    async def read(self, max_bytes: int) -> bytes:
        """What stdout brings next; b"" at its end."""
        ...

    async def readline(self) -> bytes:
        """The next line of stdout with its newline; without one where the channel ended."""
        ...

    async def close(self) -> tuple[int | None, str]:
        """End it and its helpers; its exit code (None where it had none yet) and what it said on stderr."""
        ...


class Host(Protocol):
    """A machine that runs detached jobs: this one, or one behind SSH. Many tasks may call it at once."""

    name: str

    async def directory(self) -> str:
        """Where this machine's jobs are kept there: `<jobs_dir>/<machine id>`. Reaches the host: HostUnreachable."""
        ...

    async def start(self, job: JobSpec) -> bool:
        """Start `job`; return once its directory exists, not when it ends. True if this call started it.

        The same id and spec again joins the job (running, ended, lost or cancelled unstarted) and returns False.
        JobConflict: the id is taken by another spec. HostFull: no space for its records, nothing runs.
        HostUnreachable: it may be running or not, so ask `status`, never start another.
        """
        ...

    async def status(self, job_id: JobId) -> JobStatus:
        """What the host knows now. Raises HostUnreachable, never guesses."""
        ...

    async def wait(self, job_id: JobId) -> Exit:
        """The exit record, once it exists; reason LOST where the job can never write one.

        Woken by the end of the job, not by a poll. Cancelling the wait leaves the job running. An absent job: NotFound.
        """
        ...

    async def read_log(self, job_id: JobId, offset: int, max_bytes: int = 65_536) -> bytes:
        """Log bytes from `offset` (bytes, not lines; negative: from the end). b"" means none yet, not the end.

        Bytes of the log's hole are NUL: who reads a whole log asks `log_hole` and steps over it.
        An absent job: NotFound.
        """
        ...

    async def log_hole(self, job_id: JobId) -> tuple[int, int] | None:
        """Start and end (bytes; the end is not in it) of what a capped log has given up; None: it is whole.

        The start never changes, the end grows while the job runs. An absent job: NotFound.
        """
        ...

    def follow(self, job_id: JobId, offset: int = 0) -> AsyncIterator[bytes]:
        """Every log byte from `offset`, once each and in order, until the job is over and the last byte was given.

        For the bytes of a hole NULs are made here, in pieces that hold nothing else: offsets stay true.
        An absent job: NotFound. Who leaves early closes the iterator (`contextlib.aclosing`), or helpers stay a while.
        """
        ...

    async def kill(self, job_id: JobId, grace_s: float = 1) -> JobStatus:
        """End the job's whole process tree: TERM, after `grace_s` KILL, until none is left; then its status.

        A job that has not started is prevented from ever starting: ENDED, cancelled, `spec_sha256` None. A lost job's
        survivors are ended, too: LOST. An ended job stays as it is. RUNNING means that KILL did not help for 30 s.
        """
        ...

    async def remove(self, job_id: JobId) -> None:
        """Delete the directory of a job that is over; a running one is left alone and Conflict raised.

        An absent one is no error. Afterwards the id is free: the same start would run it again.
        """
        ...

    async def clean(self, store: str, keep_s: float, spare: Collection[JobId] = ()) -> int:
        """Remove old jobs and what else is left over; how many jobs were removed.

        `store` is the first part of this store's ids: its jobs go `keep_s` after their end (lost ones: after the last
        log byte), all others after 90 days or `keep_s`, the longer. Never one that may run, never one in `spare`,
        where `<store>-<build>-` stands for all jobs of a build. May be repeated; 10,000 jobs take seconds.
        """
        ...

    def channel(self, script: Script, op: str, *args: str) -> AbstractAsyncContextManager[Channel]:
        """A running script of ours that has said `ok`, its first line; installed first where it was missing.

        `args` are constants, numbers and safe ids only; all else goes to its stdin. Leaving the context ends it.
        HostUnreachable; HostError with what it said instead of `ok`.
        """
        ...

    async def aclose(self) -> None:
        """Let go of channels and helper processes. Jobs run on."""
        ...
