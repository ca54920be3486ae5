"""Whether an attempt that failed is made again: by its cause and exit code, never by its text."""

from collections.abc import Sequence

from mcp_server.idf.diagnostics import is_deterministic
from mcp_server.model import Retry, Stage, StageStatus

CAUSES = ("lost", "timeout", "unreachable", "disk_full")
"""Ends that say nothing of what was built."""

LONGEST_BACKOFF_S = 3600


def asks_again(retry: Retry, made: Sequence[Stage]) -> bool:
    """Whether one more attempt is due after those in `made`, the last of which is the one to judge."""
    last = made[-1]
    if last.status is not StageStatus.FAILED or len(made) > retry.times:
        return False
    cause = cause_of(last)
    if cause is None:
        return False
    if retry.on is None:
        return cause != "compile"
    return cause in retry.on or (last.reason == "exit" and str(last.exit_code) in retry.on)


def cause_of(stage: Stage) -> str | None:
    """One of the causes that `retry.on` may name; None where the stage was refused: it would be again."""
    if stage.reason in CAUSES:
        return stage.reason
    if stage.reason != "exit":
        return None
    diagnosis = stage.verdict.diagnosis if stage.verdict else None
    return "compile" if is_deterministic(diagnosis) else "exit"


def pause_s(retry: Retry, made: int) -> float:
    """Seconds between the end of attempt number `made` and the next one."""
    return min(retry.backoff_s * 2 ** (made - 1), LONGEST_BACKOFF_S)
