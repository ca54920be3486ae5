"""How many of twenty seeded mistakes an agent mends, proved by compiling and running what it left.

    python -m benchmarks.fix_rate [--agent NAME] [--rounds 3] [--only WORDS] [--limit 600]

Without an agent the mending diffs are applied by a script, through the same loop: that is the loop's own rate and time.
The firmware is the demo's, built by its simulated ESP-IDF with a real compiler, and run.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.mistakes import MISTAKES, Mistake
from mcp_server.config import load_config
from mcp_server.demo.place import SELF_TEST_PASSED
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.workflows import WorkflowAsk


@dataclass(frozen=True, slots=True)
class Mended:
    """How it went. `seconds` from the order to the end; `broken`: the first round failed, as it must."""

    name: str
    mended: bool
    broken: bool
    rounds: int
    tokens: int
    cost_usd: float
    seconds: float
    agent_s: float
    reason: str


async def mend(
    orchestrator: Orchestrator, mistake: Mistake, place: Path, agent: str | None, rounds: int, limit_s: float
) -> Mended:
    """Plant one mistake below `place` and let it be mended."""
    project, diff = mistake.plant(place / "greenhouse")
    (place / "mend.diff").write_text(diff)
    agent = agent or f"patch:{place / 'mend.diff'}"
    ask = WorkflowAsk(
        str(project), agent=agent, max_rounds=rounds, expect=(SELF_TEST_PASSED,), fail_on=("SELF TEST FAILED",)
    )
    began = time.monotonic()
    started = await orchestrator.workflows.run(ask)
    view = await orchestrator.wait(started.build.id, limit_s)
    fixes = [row for row in view.stages if row.stage == "fix" and row.verdict]
    usages = [row.verdict.details.get("usage", {}) for row in fixes if row.verdict]
    times = [(row.ended_at - row.started_at).total_seconds() for row in fixes if row.ended_at and row.started_at]
    return Mended(
        name=mistake.name,
        mended=view.build.status is BuildStatus.SUCCESS and bool(fixes),
        broken=any(row.round == 1 and str(row.status) == "failed" for row in view.stages),
        rounds=view.build.round,
        tokens=sum(usage.get("input_tokens", 0) + usage.get("output_tokens", 0) for usage in usages),
        cost_usd=sum(usage.get("cost_usd", 0) for usage in usages),
        seconds=time.monotonic() - began,
        agent_s=sum(times),
        reason=view.build.reason or "",
    )


async def run(chosen: Sequence[Mistake], agent: str | None, rounds: int, limit_s: float) -> list[Mended]:
    """One after another, so that their times tell something."""
    found: list[Mended] = []
    with tempfile.TemporaryDirectory(prefix="bo-fix-rate-") as place:
        home = Path(place) / "home"
        home.mkdir()
        orchestrator = Orchestrator(load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}))
        try:
            for number, mistake in enumerate(chosen):
                folder = Path(place) / str(number)
                folder.mkdir()
                one = await mend(orchestrator, mistake, folder, agent, rounds, limit_s)
                found.append(one)
                word = "mended" if one.mended else f"NOT ({one.reason})"
                cost = f"{one.tokens:>8,} tokens  ${one.cost_usd:.3f}"
                print(f"{one.name:<26} {word:<16} rounds {one.rounds}  {cost}  {one.seconds:5.1f} s", flush=True)
        finally:
            await orchestrator.aclose()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agent", help="a name from `build-orchestrator agents`; default: the mending diffs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="mistakes whose name holds this")
    parser.add_argument("--limit", type=float, default=600, help="seconds for each")
    given = parser.parse_args()
    chosen = [mistake for mistake in MISTAKES if given.only in mistake.name]
    found = asyncio.run(run(chosen, given.agent, given.rounds, given.limit))
    mended = [one for one in found if one.mended]
    print(f"{len(mended)} of {len(found)} mended = {100 * len(mended) / len(found):.0f} %")
    print(
        f"median: rounds {median(one.rounds for one in found):g}, {median(one.tokens for one in found):,.0f} tokens, ",
        end="",
    )
    print(
        f"{median(one.seconds for one in found):.1f} s, of these the fix {median(one.agent_s for one in found):.2f} s"
    )
    return 0 if len(mended) == len(found) and all(one.broken for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
