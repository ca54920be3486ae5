"""A build's story for a model: who did what in which round, with which change, for how much, and why it ended.

May import: model, text and other reports. Never: store, engine, hosts, a front.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from mcp_server import report_parts as parts
from mcp_server.model import BuildStatus, Event, Stage, StageStatus
from mcp_server.text import clip, duration, fit, one_line, size

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

STORY_BYTES = 4000
DIFF_BYTES = 700  # of one change; the whole is a commit of the branch
DIFF_LINES = 14
MOST_FILES = 4
SAID_BYTES = 160

NOBODY_MENDS = 'nobody mends here: you do, then workflow_run again; or workflow_run(agent="default")'
WHY = {
    "no_progress": "the same first cause came back after it was mended",
    "budget": "the agent's budget is used up",
    "outside": "the agent changed what it may not, and all of that was taken back",
    "no_change": "the agent changed nothing",
    "agent": "the agent did not come to its end",
}


def has_story(view: "BuildView") -> bool:
    """Whether roles or agents had a part in a build."""
    return any(spec.role for spec in view.build.plan.stages) or bool(worked(view))


def worked(view: "BuildView") -> Sequence[Stage]:
    """The attempts in which a code agent, or a diff in its place, changed the project or was to; oldest first."""
    rows = [row for row in view.stages if row.kind.startswith("agent.")]
    return sorted(rows, key=lambda row: (row.round, row.attempt))


# -- in a verdict ------------------------------------------------------------------------------------------------------


def agent_lines(view: "BuildView") -> Sequence[str]:
    """What agents changed, what that cost, why they stopped, and how it comes into the project; none: no agent was."""
    rows = [row for row in worked(view) if row.resolved and "branch" in row.resolved]
    kept = _kept(view)
    if not rows:
        return kept
    called = (str((row.resolved or {}).get("agent", "")) for row in rows)
    names = list(dict.fromkeys("patch" if name.startswith("patch:") else name for name in called))
    changed = _files(rows)
    what = f"changed {_named(changed)}" if changed else "changed nothing"
    spent = _spent(rows)
    sessions = parts.plural(len(rows), "session")
    branch = str((rows[-1].resolved or {})["branch"])
    words = [f"agent {one_line(', '.join(names), 60)} {what}", sessions, spent, f"branch {branch}" if changed else ""]
    lines = [one_line(" · ".join(word for word in words if word), 260)]
    if view.build.status is BuildStatus.SUCCESS and changed and not _delivered(view):
        lines.append(f"comes into the project itself by `build-orchestrator fix {view.build.id} --apply`")
    elif why := WHY.get(view.build.reason or ""):
        lines.append(f"stopped: {why}")
    return [*lines, *kept]


def _delivered(view: "BuildView") -> bool:
    """Whether the change is in the project already, as a new one's is; the stage says where."""
    return any(row.kind == "git.deliver" and row.status is StageStatus.SUCCESS for row in view.stages)


def _kept(view: "BuildView") -> Sequence[str]:
    """Where a new project is whose build did not come to its end: the next order takes it by its folder."""
    made = [row for row in view.stages if row.kind == "template" and row.status is StageStatus.SUCCESS]
    if not made or view.build.status not in (BuildStatus.FAILED, BuildStatus.CANCELLED):
        return []
    return [f"the new project {one_line(view.project.path, 160)} is kept as its template made it"]


def _files(rows: Sequence[Stage]) -> Sequence[str]:
    found = [_texts(row, "files_changed") for row in rows if row.status is StageStatus.SUCCESS]
    return list(dict.fromkeys(name for names in found for name in names))


def _named(files: Sequence[str]) -> str:
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    return ", ".join(one_line(name, 60) for name in files[:MOST_FILES]) + more


def _spent(rows: Sequence[Stage]) -> str:
    """`3,412 tokens, $0.03`; "" where nothing was told."""
    used = [cast("Mapping[str, Any]", usage) for row in rows if isinstance(usage := _detail(row, "usage"), Mapping)]
    tokens = sum(_number(usage.get(name)) for usage in used for name in ("input_tokens", "output_tokens"))
    costs = [_number(usage["cost_usd"]) for usage in used if usage.get("cost_usd") is not None]
    words = [f"{tokens:,.0f} tokens" if tokens else "", f"${sum(costs):.2g}" if costs and sum(costs) else ""]
    return ", ".join(word for word in words if word)


# -- the whole of it ---------------------------------------------------------------------------------------------------


def story(view: "BuildView", events: Sequence[Event] = ()) -> str:
    """A line for each attempt under its round, each change with its diff, then what came after the end.

    At most 4,000 bytes: what is long is told without the stages that passed, then cut at its end.
    """
    top = [parts.head(view, _state(view)), *agent_lines(view), *_ending(view)]
    after = [line for event in events if (line := _afterwards(event))]
    room = STORY_BYTES - size("\n".join(after)) - 1
    whole = [*top, *_rounds(view, whole=True)]
    if size("\n".join(whole)) > room:
        whole = [*top, *_rounds(view, whole=False)]
    told = fit(whole, room)
    return "\n".join([told, *after])


def _state(view: "BuildView") -> str:
    build = view.build
    if build.status is BuildStatus.FAILED:
        return parts.ENDED_HOW.get(build.reason or "", "failed")
    return {BuildStatus.SUCCESS: "succeeded", BuildStatus.PENDING: "is pending"}.get(build.status, f"is {build.status}")


def _ending(view: "BuildView") -> Iterator[str]:
    """Why a build that failed ended when it did, where no reason of its own says it."""
    build = view.build
    if build.status is not BuildStatus.FAILED or build.reason in WHY:
        return
    if build.plan.fix is None:
        yield "stopped: no agent was to mend it"
    elif build.round >= build.plan.max_rounds:
        yield f"stopped: {parts.plural(build.plan.max_rounds, 'round')} were allowed"


def _rounds(view: "BuildView", *, whole: bool) -> Iterator[str]:
    numbers = sorted({row.round for row in view.stages})
    for number in numbers:
        rows = [row for row in view.stages if row.round == number]
        took = _span(rows)
        yield f"round {number}" + (f" · {duration(took)}" if took is not None else "")
        for row in rows:
            decided = row.status in (StageStatus.FAILED, StageStatus.CANCELLED, StageStatus.RUNNING)
            if whole or decided or row.kind.startswith("agent.") or number == numbers[-1]:
                yield f"  {_row(view, row)}"
            yield from (f"    {line}" for line in _change(row))


def _span(rows: Sequence[Stage]) -> float | None:
    begun = [row.started_at for row in rows if row.started_at]
    ended = [row.ended_at for row in rows if row.ended_at and row.started_at]
    return (max(ended) - min(begun)).total_seconds() if begun and ended else None


def _row(view: "BuildView", row: Stage) -> str:
    """`DEVELOPER fix success · 12 s · claude changed main/a.c +1 -1 · 3,412 tokens, $0.03 · 1 request denied`."""
    plan = view.build.plan
    specs = [*plan.stages, *([plan.fix] if plan.fix else [])]
    spec = next((spec for spec in specs if spec.name == row.stage), None)
    role = f"{spec.role} " if spec and spec.role else ""
    took, denied = parts.seconds_of(row), _number(_detail(row, "denied"))
    skipped = row.status is StageStatus.SKIPPED
    reason = (spec.skip if spec and spec.skip else parts.not_run(view, row) or row.reason) if skipped else row.reason
    told = reason not in (None, "exit", "", "cancelled")
    commit = str(_detail(row, "commit_sha") or "")
    words = [
        f"{role}{row.stage} {row.status}" + (f" ({reason})" if told else ""),
        f"attempt {row.attempt}" if row.attempt > 1 else "",
        duration(took) if took is not None and not skipped else "",
        f"on {row.host}" if row.host != "local" and not skipped else "",
        _said(row),
        _spent([row]),
        f"{denied:.0f} of its requests denied" if denied else "",
        f"commit {commit[:10]}" if commit else "",
    ]
    return one_line(" · ".join(word for word in words if word), 360)


def _said(row: Stage) -> str:
    cause = parts.first_error(row) if row.status is StageStatus.FAILED else ""
    summary = row.verdict.summary if row.verdict else ""
    known = row.exit_code is not None and summary == f"exit code {row.exit_code}"
    return one_line(cause or ("" if known else summary), SAID_BYTES)


def _change(row: Stage) -> Sequence[str]:
    """The lines that a change took away and put there, under their files' names; bounded."""
    diff = _detail(row, "diff")
    if not isinstance(diff, str):
        return []
    lines: list[str] = []
    for line in diff.splitlines():
        if line.startswith("+++ "):
            lines.append(one_line(line.removeprefix("+++ ").removeprefix("b/"), 120))
        elif line[:1] in ("+", "-") and not line.startswith("--- "):
            lines.append(f"{line[0]} {one_line(line[1:], 110)}")
    more = len(lines) - DIFF_LINES
    shown = [*lines[:DIFF_LINES], f"and {more} more lines"] if more > 0 else lines
    return fit(shown, DIFF_BYTES).split("\n") if shown else []


def _afterwards(event: Event) -> str:
    """What was told of the build's end, and to whom it could not be."""
    if not event.type.startswith(("callback.", "notification.", "status.")):
        return ""
    told = " ".join(f"{name}={value}" for name, value in event.data.items() if value is not None)
    return clip(one_line(f"{event.ts:%H:%M:%S} {event.type} {told}", 240), 240)


# -- details, which another version may have written -------------------------------------------------------------------


def _detail(row: Stage, name: str) -> object:
    return row.verdict.details.get(name) if row.verdict else None


def _texts(row: Stage, name: str) -> Sequence[str]:
    found = _detail(row, name)
    return [str(one) for one in cast("Sequence[object]", found)] if isinstance(found, list | tuple) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
