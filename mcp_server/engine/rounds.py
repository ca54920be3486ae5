"""What makes a build of several rounds: whether a fix changed anything, and where the next round runs."""

import re
from collections.abc import Sequence
from typing import Final

from mcp_server.engine.quality import last_attempts
from mcp_server.model import Stage, StageStatus

AGENTS: Final = ("agent.fix", "agent.work")
"""Kinds of stages in which a code agent works; `resolved["folder"]` of one is its copy of the project."""

STOPS: Final = ("budget", "outside", "no_change", "agent", "no_progress")
"""Reasons of a fix that ended a build: they say more than that its stage failed."""

FINAL: Final = ("doctor", "git.commit", "git.push", "git.deliver", "ci.wait")
"""Kinds of stages whose failure no change of the sources would mend."""

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


def first_cause(stage: Stage) -> str:
    """What an attempt failed of, the same for the same mistake wherever its lines and numbers have moved."""
    verdict = stage.verdict
    if verdict is not None and verdict.diagnosis and verdict.diagnosis.errors:
        error = verdict.diagnosis.errors[0]
        return f"{stage.stage}|{error.file}|{error.kind}|{_NUMBER.sub('0', error.message)}|{error.source}"
    return f"{stage.stage}|{stage.reason}|{_NUMBER.sub('0', verdict.summary if verdict else '')}"


def evidence(rows: Sequence[Stage], *, continued: bool = False) -> Sequence[Stage]:
    """The attempts of a build that tell what is wrong with the project itself, not with a copy that was mended.

    With the copy, where a fix is `continued` there.
    """
    mended = any(row.kind in AGENTS and row.status is StageStatus.SUCCESS for row in rows)
    numbers = [row.round for row in rows if row.kind not in AGENTS]
    wanted = (min if mended and not continued else max)(numbers, default=1)
    return [row for row in last_attempts(rows, wanted) if row.kind not in AGENTS]
