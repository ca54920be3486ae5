"""`ci.wait`: what CI says of the commit that was pushed."""

from dataclasses import asdict
from typing import Any

from mcp_server.clock import Clock, SystemClock
from mcp_server.engine.stages.base import StageContext
from mcp_server.errors import BadInput, EnvironmentMissing, OrchestratorError
from mcp_server.model import Verdict
from mcp_server.notify.woodpecker import Access, CiVerdict, wait_ci

DAY_S = 86_400.0  # for a stage without a time limit

_WORDS = {
    "none": "CI made no pipeline for the commit: is the repository enabled there, with a .woodpecker.yaml?",
    "blocked": "CI waits for an approval still",
}


class CiWait:
    """Needs no job. Params: `repo` (`owner/name` or a Git remote) and `commit`; else those of the build's last push.

    May be begun again: it only looks.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def run(self, context: StageContext) -> Verdict:
        try:
            server = context.config.ci.woodpecker
            if server is None:
                raise EnvironmentMissing("config.yaml names no CI: ci: {woodpecker: {url: …, token: …}}")
            access = Access(server.url, context.secrets.resolve(server.token).strip())
            repo, commit = await _pushed(context)
            limit_s = context.spec.timeout_s or DAY_S
            await context.tell("waits for CI")
            found = await wait_ci(access, repo, commit, limit_s, self._clock)
        except OrchestratorError as error:
            return Verdict(result="fail", summary=str(error))
        return _judged(found)


async def _pushed(context: StageContext) -> tuple[str, str]:
    """Where to and what: as the stage says, else as the build pushed it. BadInput: neither."""
    rows = [row.verdict.details for row in await context.history.rows() if row.kind == "git.push" and row.verdict]
    last = next((found for found in reversed(rows) if found.get("pushed_to")), dict[str, Any]())
    repo = context.params.get("repo") or last.get("pushed_to")
    commit = context.params.get("commit") or last.get("commit_sha") or context.build.commit_sha.removesuffix("+dirty")
    if not repo or not commit:
        raise BadInput("repo", "the build has pushed nothing: name a repository and a commit to wait for")
    return str(repo), str(commit)


def _judged(found: CiVerdict) -> Verdict:
    details = {key: value for key, value in asdict(found).items() if value}
    if found.status == "success":
        return Verdict(
            result="pass", summary=f"CI passed{f', {found.deploy_url}' if found.deploy_url else ''}", details=details
        )
    if found.status == "timeout":
        words = _WORDS.get(found.state, f"CI is not done ({found.state})")
        return Verdict(result="timeout", summary=f"{words}: {found.url}", details=details)
    steps = ", ".join(step.name for step in found.failed_steps)
    words = _WORDS.get(found.status) or f"CI says {found.status}{f' in {steps}' if steps else ''}: {found.url}"
    if found.errors:
        words = f"{words}; {found.errors[0]}"
    return Verdict(result="cancelled" if found.status == "canceled" else "fail", summary=words[:600], details=details)
