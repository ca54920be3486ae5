"""What came before an agent's task in its build: rounds, sessions, what was spent, which commit is to be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.agents.base import Usage
from mcp_server.engine.brief import Round
from mcp_server.engine.quality import last_attempts
from mcp_server.engine.rounds import AGENTS, evidence
from mcp_server.engine.stages.base import StageContext
from mcp_server.errors import OverBudget
from mcp_server.model import Stage, StageStatus
from mcp_server.text import duration


async def rounds_of(context: StageContext) -> Sequence[Round]:
    """The rounds so far, the failed build's first where this one was started to mend it."""
    rows, name = await context.history.rows(), context.spec.name
    found: list[Round] = []
    if context.build.plan.fix_first and (before := await context.history.retried()):
        told = evidence(before, continued="begin" in context.params)
        found.append(Round(1, told, _fix_of(rows, name, 1)))
    for number in sorted({row.round for row in rows if row.stage != name}):
        attempts = [row for row in last_attempts(rows, number) if row.stage != name]
        found.append(Round(number, attempts, _fix_of(rows, name, number)))
    now = context.stage.round
    return [one if one.number < now else Round(one.number, one.rows) for one in found if one.number <= now]


def _fix_of(rows: Sequence[Stage], name: str, round_: int) -> Stage | None:
    return next((row for row in reversed(rows) if row.stage == name and row.round == round_), None)


def session_of(rows: Sequence[Stage], name: str) -> str | None:
    """The agent's session of an earlier round, or of an attempt that was lost."""
    told = [row.verdict.details.get("session") for row in rows if row.stage == name and row.verdict]
    return next((str(session) for session in reversed(told) if session), None)


def trusted_commit(rows: Sequence[Stage]) -> str | None:
    """The last commit in which an agent's accepted change is; None: none was accepted yet.

    Never HEAD: an agent that was cut off may have committed what nobody has looked at.
    """
    ended = [row for row in rows if row.kind in AGENTS and row.status is StageStatus.SUCCESS and row.verdict]
    told = [row.verdict.details.get("commit_sha") for row in ended if row.verdict]
    return next((str(sha) for sha in reversed(told) if sha), None)


def left_of(context: StageContext, rows: Sequence[Stage]) -> dict[str, Any]:
    """What is left of the build's budget, as an AgentRequest has it; `timeout_s` only where time is bounded.

    OverBudget: nothing.
    """
    budget: Mapping[str, Any] = context.params.get("budget") or {}
    worked = [row for row in rows if row.kind in AGENTS and row.ended_at is not None]
    spent, left = _spent(worked), dict[str, Any]()
    used_up: list[str] = []
    if (tokens := budget.get("tokens")) is not None:
        used = spent.input_tokens + spent.output_tokens
        left["max_tokens"] = int(tokens) - used
        used_up += [f"{used:,} tokens of {tokens:,.0f}"] if used >= int(tokens) else []
    if (cost := budget.get("cost_usd")) is not None:
        left["max_cost_usd"] = round(float(cost) - (spent.cost_usd or 0), 6)
        used_up += [f"${spent.cost_usd or 0:.4g} of ${cost:.4g}"] if left["max_cost_usd"] <= 0 else []
    if (seconds := budget.get("timeout_s")) is not None:
        took = sum(_seconds(row) for row in worked)
        left["timeout_s"] = float(seconds) - took
        used_up += [f"{duration(took)} of {duration(float(seconds))}"] if left["timeout_s"] <= 0 else []
    if used_up:
        raise OverBudget(f"the agent's budget of this build is used up: {', '.join(used_up)}")
    return left


def _seconds(row: Stage) -> float:
    return (row.ended_at - row.started_at).total_seconds() if row.ended_at and row.started_at else 0.0


def _spent(rows: Sequence[Stage]) -> Usage:
    told = [row.verdict.details.get("usage") for row in rows if row.verdict]
    used = [Usage.model_validate(usage) for usage in told if usage]
    costs = [usage.cost_usd for usage in used if usage.cost_usd is not None]
    return Usage(
        turns=sum(usage.turns for usage in used),
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
        cost_usd=sum(costs) if costs else None,
    )
