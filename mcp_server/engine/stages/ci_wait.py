"""`ci.wait`: what CI says of the commit that was pushed."""

from dataclasses import asdict

from mcp_server.clock import Clock, SystemClock
from mcp_server.engine.stages.base import StageContext
from mcp_server.errors import EnvironmentMissing, OrchestratorError
from mcp_server.model import Verdict
from mcp_server.notify.woodpecker import Access, CiVerdict, wait_ci

DAY_S = 86_400.0  # for a stage without a time limit

_WORDS = {
    "none": "CI made no pipeline for the commit: is the repository enabled there, with a .woodpecker.yaml?",
    "blocked": "CI waits for an approval still",
}


class CiWait:
    """Needs no job. Params: `repo` (`owner/name` or a Git remote) and `commit`, else the build's own commit.

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
            commit = str(context.params.get("commit") or context.build.commit_sha).removesuffix("+dirty")
            limit_s = context.spec.timeout_s or DAY_S
            await context.tell("waits for CI")
            found = await wait_ci(access, str(context.params["repo"]), commit, limit_s, self._clock)
        except OrchestratorError as error:
            return Verdict(result="fail", summary=str(error))
        return _judged(found)


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
