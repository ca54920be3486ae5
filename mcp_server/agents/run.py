"""The program of an agent's job: `python -P -m mcp_server.agents.run TASK.json`.

Prints a line for each thing the agent says or does, and last how it ended (`log.py`, `transcript.py`). Exit code 0: a
result was printed, whatever it says. 2: the task cannot be used, one sentence says why. TERM cancels the task.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from mcp_server.agents.base import CANCEL_S, EXTRA, Agent, AgentRequest, AgentResult, Update, Usage
from mcp_server.agents.log import Log, take_output
from mcp_server.agents.registry import make
from mcp_server.agents.task import AgentSettings, read_task
from mcp_server.errors import OrchestratorError
from mcp_server.redact import Redactor
from mcp_server.text import duration, one_line

STOP_S = CANCEL_S - 1  # an agent that does not end by then is left to the job's end, which must still be in time
UNUSABLE = 2

Stop = tuple[str, str]
"""How an end that is not the agent's own is called, and why: ("limit", …) or ("cancelled", …)."""


class Run:
    """One task. Keeps its budgets, and what it told so far, which outlives an agent that fails."""

    def __init__(self, agent: Agent, request: AgentRequest, log: Log) -> None:
        self._agent, self._request, self._log = agent, request, log
        self._usage = Usage()
        self._session: str | None = None
        self._denied = 0
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, stopped: str, why: str) -> None:
        """End the task; the first reason counts."""
        if not self._stop.done():
            self._stop.set_result((stopped, why))

    async def to_its_end(self, environment: Mapping[str, str]) -> AgentResult:
        """Never raises; at most STOP_S longer than the task's time."""
        work = asyncio.ensure_future(self._guarded(environment))
        both: tuple[asyncio.Future[AgentResult], asyncio.Future[Stop]] = (work, self._stop)
        await asyncio.wait(both, timeout=self._request.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return self._completed(self._outcome(work))
        self.stop("limit", f"the time of {duration(self._request.timeout_s)} was used up")
        stopped, why = self._stop.result()
        work.cancel()
        await asyncio.wait([work], timeout=STOP_S)
        said = self._outcome(work) if work.done() and not work.cancelled() else AgentResult(stopped="cancelled")
        return self._completed(AgentResult.model_validate(dict(said) | {"stopped": stopped, "text": why}))

    async def _guarded(self, environment: Mapping[str, str]) -> AgentResult:
        """A library that exits or interrupts would else end the event loop, and this process without a result."""
        try:
            return await self._agent.run(self._request, environment, self._tell)
        except (SystemExit, KeyboardInterrupt) as error:
            return AgentResult(stopped="error", text=f"{self._agent.name} failed: {in_words(error)}")

    def _tell(self, update: Update) -> None:
        self._log.update(update)
        if update.kind == "session":
            self._session = update.text
        self._denied += update.kind == "denied"
        if update.usage is not None:
            self._usage = update.usage
            if why := used_up(self._request, update.usage):
                self.stop("limit", why)

    def _outcome(self, work: asyncio.Future[AgentResult]) -> AgentResult:
        try:
            return work.result()
        except asyncio.CancelledError:
            return AgentResult(stopped="cancelled", text=f"{self._agent.name} gave up")
        except OrchestratorError as error:
            return AgentResult(stopped="error", text=str(error))
        except ImportError as error:
            return AgentResult(stopped="error", text=f"{self._agent.name} needs {error.name}: {EXTRA}")
        except Exception as error:
            return AgentResult(stopped="error", text=f"{self._agent.name} failed: {in_words(error)}")

    def _completed(self, result: AgentResult) -> AgentResult:
        return result.model_copy(
            update={
                "session": result.session or self._session,
                "usage": self._usage if result.usage == Usage() else result.usage,
                "denied": max(result.denied, self._denied),
            }
        )


def used_up(request: AgentRequest, usage: Usage) -> str | None:
    """Which budget was used up, in one sentence."""
    tokens = usage.input_tokens + usage.output_tokens
    if request.max_tokens is not None and tokens > request.max_tokens:
        return f"{tokens:,} tokens were used: {request.max_tokens:,} were allowed"
    if request.max_cost_usd is not None and (usage.cost_usd or 0) > request.max_cost_usd:
        return f"${usage.cost_usd:.4g} were spent: ${request.max_cost_usd:.4g} were allowed"
    if request.max_turns is not None and usage.turns > request.max_turns:
        return f"{usage.turns} turns were taken: {request.max_turns} were allowed"
    return None


def in_words(error: BaseException) -> str:
    """An exception in one bounded line; of a group its first."""
    if isinstance(error, BaseExceptionGroup):
        return in_words(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 600)


async def _run(agent: Agent, request: AgentRequest, log: Log) -> None:
    run = Run(agent, request, log)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: log.stray(one_line(context.get("message"), 300).encode()))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.stop, "cancelled", "cancelled")
    result = await run.to_its_end(os.environ)
    await asyncio.to_thread(log.flush)
    log.result(result)


def main(argv: Sequence[str], maker: Callable[[AgentSettings], Agent] = make) -> int:
    """The command line. What is still running of the agent then, ends with the process or with the job."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m mcp_server.agents.run TASK.json\n")
        return UNUSABLE
    try:
        task = read_task(Path(argv[0]))
        agent = maker(task.agent)
    except OrchestratorError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    logging.getLogger().addHandler(logging.NullHandler())  # libraries print tracebacks where nobody listens
    log = take_output(Redactor(os.environ[name] for name in task.masked if name in os.environ))
    loop = asyncio.new_event_loop()
    # Not asyncio.run: it would wait for tasks and threads of an agent that does not want to end.
    loop.run_until_complete(_run(agent, task.agent.completed(task.request), log))
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # neither threads nor what libraries do at an exit may keep the job
