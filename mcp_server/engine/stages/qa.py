"""`qa`: what is wrong with a round, and where; it decides by what was recorded, and asks no model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.engine.quality import Issue, examine, last_attempts
from mcp_server.engine.stages.base import StageContext
from mcp_server.idf.installation import Installation
from mcp_server.idf.size import measure
from mcp_server.model import Stage, StageSpec, StageStatus, Verdict

SHOWN_CHARS = 300


class Qa:
    """Params: `project`. Its verdict's `details["issues"]` are those of its round's stages that it comes after."""

    async def run(self, context: StageContext) -> Verdict:
        attempts = last_attempts(await context.history.rows(), context.stage.round)
        plan = context.build.plan.stages
        # Of others it would be a matter of who was quicker; what may fail decides nothing.
        before = _before(plan, context.spec) - {spec.name for spec in plan if spec.allow_failure}
        rows = [row for row in attempts if row.stage in before and row.kind != "qa"]
        issues = examine(rows, await context.history.last_good(), await _sizes(context, rows))
        errors = [issue for issue in issues if issue.severity == "error"]
        return Verdict(
            result="fail" if errors else "pass",
            summary=_summary(issues),
            details={"issues": [issue.model_dump(mode="json", exclude_defaults=True) for issue in issues]},
        )


def _before(plan: Sequence[StageSpec], spec: StageSpec) -> set[str]:
    """The names of all stages that one comes after, however far."""
    after = {one.name: one.depends_on for one in plan}
    found, level = set[str](), [*spec.depends_on]
    while level:
        name = level.pop()
        if name not in found:
            found.add(name)
            level += after.get(name, ())
    return found


def _summary(issues: Sequence[Issue]) -> str:
    """`2 errors, 1 warning: main/app.c:41 implicit declaration …`."""
    if not issues:
        return "no issues"
    counts = Counter(issue.severity for issue in issues)
    told = ", ".join(f"{counts[kind]} {kind}{'s' if counts[kind] > 1 and kind != 'info' else ''}" for kind in counts)
    first = issues[0]
    place = f"{first.file}:{first.line} " if first.file and first.line else f"{first.file} " if first.file else ""
    return f"{told}: {place}{first.message}"[:SHOWN_CHARS]


async def _sizes(context: StageContext, rows: Sequence[Stage]) -> Mapping[str, Any] | None:
    """Those of the round's firmware; measured here where nobody was so quick as to have stored them."""
    built = [row for row in rows if row.kind == "idf.build" and row.status is StageStatus.SUCCESS]
    if not built or built[-1].verdict is None:
        return None
    verdict, spec = built[-1].verdict, next(s for s in context.build.plan.stages if s.name == built[-1].stage)
    if "sizes" in verdict.details:
        return verdict.details["sizes"]
    found = await measure(
        Path((built[-1].resolved or {})["build_dir"]),
        verdict.artifacts,
        target=verdict.details.get("target"),
        python=None
        if verdict.details.get("simulated")
        else Installation.model_validate(spec.params["installation"]).python,
    )
    return None if found is None else found.model_dump(mode="json", exclude_defaults=True)
