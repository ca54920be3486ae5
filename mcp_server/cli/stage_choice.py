"""Which stages of a build are shown where there is no room for all: what failed, what runs, what comes next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server.model import Stage, StageSpec, StageStatus

if TYPE_CHECKING:
    from mcp_server.views import BuildView

Row = tuple[StageSpec, Stage | None]
_SOME_COMING = 3  # of those that wait for others, beside whatever failed or runs


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown: number in the plan, stage, newest attempt. `hidden` counts the rest by state; "" where none is.

    `passed` are the names of the stages that are over and well.
    """

    shown: Sequence[tuple[int, StageSpec, Stage | None]]
    hidden: str
    passed: frozenset[str]


def newest_rows(view: "BuildView") -> list[Row]:
    """Each stage of the plan with its newest attempt in the build's round; the fix where it was begun."""
    rows = {row.stage: row for row in sorted(view.stages, key=lambda row: row.attempt) if row.round == view.build.round}
    plan = view.build.plan
    fix = [plan.fix] if plan.fix and plan.fix.name in rows else []
    return [(spec, rows.get(spec.name)) for spec in [*plan.stages, *fix]]


def choose(rows: Sequence[Row], most: int) -> Choice:
    """All of `rows` where they fit into `most` lines, else the weightiest, in the plan's order."""
    passed = frozenset(spec.name for spec, row in rows if row and row.status is StageStatus.SUCCESS)
    numbered = [(number, spec, row) for number, (spec, row) in enumerate(rows, 1)]
    if len(numbered) <= most:
        return Choice(numbered, "", passed)
    weighed = sorted(numbered, key=lambda item: (_weight(item[1], item[2], passed), item[0]))
    room = max(most - 1, 1)  # the last line counts the rest
    coming = [item for item in weighed if _weight(item[1], item[2], passed) >= 3][:_SOME_COMING]
    urgent = [item for item in weighed if _weight(item[1], item[2], passed) < 3][: max(room - len(coming), 1)]
    filled = [*urgent, *[item for item in weighed if item not in urgent][: room - len(urgent)]]
    shown = sorted(filled, key=lambda item: item[0])
    numbers = {number for number, _, _ in shown}
    count = Counter(_status(row) for number, _, row in numbered if number not in numbers)
    hidden = " · ".join(f"{number:,} {status}" for status, number in count.most_common())
    return Choice(shown, f"{hidden} more", passed)


def _weight(spec: StageSpec, row: Stage | None, passed: frozenset[str]) -> int:
    status = _status(row)
    if status in ("failed", "cancelled"):
        return 0
    if status == "running":
        return 1
    if status == "waiting":
        ready = all(name in passed for name in spec.depends_on)
        return 2 if row and row.progress else 3 if ready else 4
    return 5 if status == "skipped" else 6


def _status(row: Stage | None) -> str:
    return "waiting" if row is None else row.status.value
