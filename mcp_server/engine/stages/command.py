"""`command`: any program, judged by its exit code; its log is diagnosed like a build's."""

import asyncio

from mcp_server.engine.stages.base import LogDiagnosis, Observer, Prepared, StageContext, project_path, result_of
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.idf.environment import job_environment
from mcp_server.model import Verdict


class Command:
    """Params: `argv`, `project` (also the working folder), `env`."""

    live = False

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        environment = job_environment({}, context.environment, context.config.env_pass)
        environment.update(context.params.get("env", {}))
        return Prepared(
            argv=list(context.params["argv"]),
            cwd=str(context.params["project"]),
            env=environment,
            lock=context.spec.directory,
        )

    def observe(self, context: StageContext) -> Observer:
        return LogDiagnosis(Diagnoser(project_path(context)))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, LogDiagnosis)
        code = end.code if end.reason is ExitReason.EXIT else 1
        diagnosis = await asyncio.to_thread(observer.diagnoser.finish, code)
        return result_of(end).model_copy(update={"diagnosis": diagnosis})
