"""`command`: any program, judged by its exit code; its log is diagnosed like a build's."""

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import PurePosixPath

from mcp_server.config_rules import LOCAL
from mcp_server.engine.stages import ninja_times
from mcp_server.engine.stages.base import LogDiagnosis, Observer, Prepared, StageContext, project_path, result_of
from mcp_server.engine.stages.masking import masked
from mcp_server.errors import BadInput, OrchestratorError
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.idf.environment import job_environment
from mcp_server.model import Diagnosis, Verdict
from mcp_server.redact import Redactor

SHELL = 'if command -v bash >/dev/null 2>&1; then exec bash -c "$1"; else exec sh -c "$1"; fi'
"""Runs `$1` by bash, as pipelines are written for it, or by sh where there is none."""

_TROUBLE = re.compile(
    r"error|fail|fatal|cannot|can't|could not|unable|not found|no such|denied|refused|exception|panic|abort|invalid",
    re.IGNORECASE,
)


class CommandLog(LogDiagnosis):
    """Masks once more what is kept of the log, should a value have come in another way."""

    def __init__(self, diagnoser: Diagnoser, secrets: Sequence[str]) -> None:
        super().__init__(diagnoser)
        self._redactor = Redactor(secrets) if secrets else None

    def feed(self, data: bytes) -> None:
        super().feed(self._redactor.feed(data) if self._redactor else data)

    def close(self) -> None:
        """Take what may have been the beginning of a value, and was not."""
        if self._redactor:
            super().feed(self._redactor.finish())


class Command:
    """Params: `command` (for a shell), `task` (for the host's `build`) or `argv`; `workdir`, `env`, `secrets`.

    `project` is the working folder on this machine; on another one it is `workdir`, else one of its own where a tree is
    synced, else the host's.
    """

    live = False

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        params = context.params
        environment = dict(context.server.env)
        if context.host.name == LOCAL:
            environment = job_environment({}, context.environment, context.config.env_pass) | environment
        environment |= params.get("env", {})
        if params.get("secrets"):
            environment |= await asyncio.to_thread(_secrets, context)
        return Prepared(
            argv=_argv(context),
            cwd=await working_folder(context),
            env=environment,
            lock=context.spec.directory,
            login=context.host.name != LOCAL,
        )

    def observe(self, context: StageContext) -> Observer:
        folder = (context.stage.resolved or {}).get("cwd") or project_path(context)
        return CommandLog(Diagnoser(folder), _values(context))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, CommandLog)
        observer.close()
        code = end.code if end.reason is ExitReason.EXIT else None
        diagnosis = await asyncio.to_thread(observer.diagnoser.finish, code)
        verdict = result_of(end).model_copy(update={"diagnosis": _stated(diagnosis)})
        if verdict.result != "pass" or not observer.diagnoser.ran_ninja:
            return verdict
        folder = str((context.stage.resolved or {})["cwd"])
        return verdict.model_copy(update={"details": await ninja_times.below(context, folder, end)})


def _stated(diagnosis: Diagnosis) -> Diagnosis:
    """Without errors that are only the last words of a command: `echo x; false` states none."""
    if any(error.kind != "unknown" or _TROUBLE.search(error.message) for error in diagnosis.errors):
        return diagnosis
    return diagnosis.model_copy(update={"errors": (), "error_count": 0, "hints": ()})


async def working_folder(context: StageContext) -> str:
    """Where the job is to run, absolute on its host. BadInput where nothing says it."""
    given, base = context.params.get("workdir"), context.server.workdir
    if context.host.name == LOCAL:
        base = str(project_path(context))
    elif context.spec.sync is not None and (given is None or base is None):
        base = await own_tree(context)
    if given is None and base is None:
        raise BadInput(
            "workdir", f"host {context.host.name} has none in config.yaml: give one, or sync a tree to build in"
        )
    folder = PurePosixPath(base or "", given or "")
    if not folder.is_absolute():
        raise BadInput("workdir", f"{str(folder)[:200]!r} should be an absolute folder of host {context.host.name}")
    return str(folder)


async def own_tree(context: StageContext) -> str:
    """A folder for one tree of one project of this home, beside the jobs of the host."""
    project, sync = project_path(context), context.spec.sync
    jobs = PurePosixPath(await context.host.directory())
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in project.name) or "tree"
    parts = [context.store_id, str(project), *([sync.source, sync.path] if sync else [])]
    which = sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return str(jobs.parent.parent / "trees" / f"{name}-{which}")


def _argv(context: StageContext) -> Sequence[str]:
    params = context.params
    if "argv" in params:
        return list(params["argv"])
    command = params.get("command")
    if command is None:
        if context.server.build is None:
            raise BadInput("task", f"host {context.host.name} has no `build` in config.yaml: pass a command instead")
        command = context.server.build.replace("{task}", shlex.quote(str(params["task"])))
    if secrets := params.get("secrets"):
        return masked(["sh", "-c", SHELL, "sh", command], secrets)
    return ["sh", "-c", SHELL, "sh", command]


def _secrets(context: StageContext) -> Mapping[str, str]:
    return {name: context.secrets.get(name) for name in context.params.get("secrets", ())}


def _values(context: StageContext) -> Sequence[str]:
    """Secrets as far as they are to be had now: a log is read also after one was deleted."""
    found: list[str] = []
    for name in context.params.get("secrets", ()):
        try:
            found.append(context.secrets.get(name))
        except OrchestratorError:
            continue
    return found
