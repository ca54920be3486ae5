"""Where a build goes on that mends, or repeats, one whose sources an agent had made in a copy.

May import: model, errors. Never: anything else of ours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mcp_server.errors import Conflict
from mcp_server.model import Build, Plan, Stage, StageStatus


@dataclass(frozen=True, slots=True)
class Begin:
    """`place` is the copy that holds the work, `commit` its last accepted one, `folder` where the plan's paths lead."""

    place: str
    commit: str
    folder: str

    def put_in(self, plan: Plan) -> Plan:
        """The plan whose agent begins with that work, and whose stages follow it from there to its own copy."""
        fix = plan.fix and plan.fix.model_copy(update={"params": {**plan.fix.params, "begin": asdict(self)}})
        return plan.model_copy(update={"fix": fix, "workspace": self.folder})


def begin_of(build: Build, rows: Sequence[Stage]) -> Begin | None:
    """None: the project itself was built. Conflict: what was made in a copy was never built there."""
    plan = build.plan
    given: dict[str, Any] | None = plan.fix.params.get("begin") if plan.fix else None
    if given is None and not any(stage.once and "checkout" not in stage.params for stage in plan.stages):
        return None
    worked = [row for row in rows if row.kind.startswith("agent.") and row.status is StageStatus.SUCCESS]
    told = [(row.resolved, row.verdict.details.get("commit_sha")) for row in worked if row.resolved and row.verdict]
    if plan.expand is None and told and (sha := told[-1][1]):
        resolved = told[-1][0]
        return Begin(str(resolved["place"]), str(sha), given["folder"] if given else str(resolved["folder"]))
    if given is not None:
        return Begin(**given)
    raise Conflict(f"build {build.id} ended before what its agent was to make was built: order it again")
