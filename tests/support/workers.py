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
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        os.kill(pid, number)
        gone, _, _ = select.select([fd], [], [], 10)
        os.close(fd)
        assert gone, f"worker {pid} did not leave"


def end_everything(home: Path) -> None:
    """End the worker, then every job that a test left; a test that cares asserts before."""
    end_worker(home)
    for pid in processes_with(f"BO_JOB={home}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
