"""What GitHub is told of a build that ended: the commit's state, and why in one line."""

from collections.abc import Sequence

from mcp_server.bot_result import sentence_of
from mcp_server.model import BuildStatus, Stage
from mcp_server.notify.github import described
from mcp_server.store.commit_statuses import CommitState

NOT_ITS_FAULT = ("internal", "lost", "unreachable", "disk_full", "invalid")  # reasons that say nothing of the commit


def commit_state(
    status: BuildStatus, reason: str, rows: Sequence[Stage], deciding: Stage | None, sentence: str
) -> tuple[CommitState, str]:
    """`success` or `failure` of the commit; `error` where it was not judged: cancelled, or a fault that is not its own.

    Of a build that passed the first line is what was built, else what the last stage says.
    """
    if status is BuildStatus.SUCCESS:
        made = [row for row in rows if row.kind == "idf.build" and row.verdict] or ([deciding] if deciding else [])
        verdict = made[-1].verdict if made else None
        return "success", described(verdict.summary if verdict else "") or "passed"
    if status is BuildStatus.CANCELLED:
        return "error", described(sentence or "the build was cancelled")
    state: CommitState = "error" if reason in NOT_ITS_FAULT else "failure"
    return state, described(sentence or (sentence_of(deciding) if deciding else reason))
