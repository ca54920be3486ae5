"""Ends the worker of a home and makes sure that nothing of it is left."""

import contextlib
import os
import select
import signal
from pathlib import Path

from tests.support.faults import processes_with, worker_pid


def end_worker(home: Path, number: int = signal.SIGTERM) -> None:
    """Signal this home's worker and return once it is gone; nothing happens where there is none."""
    if not home.is_dir() or (pid := worker_pid(home)) is None:
        return
    assert _left(pid, number), f"worker {pid} did not leave"


def end_everything(home: Path) -> None:
    """End the worker, then every job that a test left, and its supervisor; a test that cares asserts before."""
    end_worker(home)
    for pid in processes_with(f"BO_JOB={home}"):
        _left(pid, signal.SIGKILL)
    for pid in processes_with(str(home / "jobs")):  # a supervisor writes its job's end and leaves
        _left(pid)


def _left(pid: int, number: int = 0) -> bool:
    """Whether a process ended within ten seconds of this signal."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return bool(select.select([fd], [], [], 10)[0])
    finally:
        os.close(fd)
