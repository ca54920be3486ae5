"""`idf.run`: runs firmware built for the linux target as a process of this machine, until what it prints decides."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import anyio

from mcp_server.engine.stages.base import Observer, Prepared, StageContext, result_of
from mcp_server.errors import BadInput, NotFound
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.environment import job_environment
from mcp_server.model import Progress, Verdict

LINE_BYTES = 4096  # a longer line is looked at in parts
KEPT_LINES = 20


class Expectation:
    """Looks for every `expect` pattern, in any order, and for any `fail_on` pattern, line by line."""

    def __init__(self, expect: Sequence[str], fail_on: Sequence[str]) -> None:
        self.missing = [(pattern, _compile("expect", pattern)) for pattern in expect]
        self.failing = [(pattern, _compile("fail_on", pattern)) for pattern in fail_on]
        self.expects = bool(expect)
        self.failed_line: str | None = None
        self.matched: list[str] = []
        self.last_lines: list[str] = []
        self._rest = b""
        self.progress: Progress | None = None

    @property
    def decided(self) -> bool:
        return self.failed_line is not None or (self.expects and not self.missing)

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._look(line.decode("utf-8", "replace").rstrip("\r"))

    def close(self) -> None:
        """Look at the last line, which has no end."""
        if self._rest:
            self._look(self._rest.decode("utf-8", "replace"))
            self._rest = b""

    def _look(self, line: str) -> None:
        if self.decided:
            return
        self.last_lines = [*self.last_lines, line][-KEPT_LINES:]
        self.progress = Progress(message=line[:200])
        if any(pattern.search(line) for _, pattern in self.failing):
            self.failed_line = line
            return
        hit = [text for text, pattern in self.missing if pattern.search(line)]
        if hit:
            self.matched.append(line)
            self.missing = [(text, pattern) for text, pattern in self.missing if text not in hit]


class IdfRun:
    """Params: `project`, `build_dir`, `expect`, `fail_on`."""

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        build_dir = Path(context.params["build_dir"])
        description = anyio.Path(build_dir / "project_description.json")
        try:
            facts = json.loads(await description.read_text(encoding="utf-8"))
            target, elf = str(facts["target"]), build_dir / str(facts["app_elf"])
        except (OSError, ValueError, KeyError) as error:
            raise NotFound(f"{description} tells of no program to run: build first") from error
        if target != "linux":
            raise BadInput("target", f"{target} firmware does not run as a process; only linux does")
        if not await anyio.Path(elf).is_file():
            raise NotFound(f"{elf} is not there: build first")
        return Prepared(
            argv=[str(elf)], cwd=str(build_dir), env=job_environment({}, context.environment, context.config.env_pass)
        )

    def observe(self, context: StageContext) -> Observer:
        return Expectation(context.params.get("expect", ()), context.params.get("fail_on", ()))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, Expectation)
        observer.close()
        evidence = {"matched": observer.matched, "last_lines": observer.last_lines[-5:]}
        if observer.failed_line is not None:
            return Verdict(result="fail", summary=f"printed {observer.failed_line[:300]!r}", details=evidence)
        if observer.expects and not observer.missing:
            return Verdict(result="pass", summary=observer.matched[-1][:300], details=evidence)
        if end.reason is ExitReason.EXIT and observer.expects:
            wanted = observer.missing[0][0]
            return Verdict(result="fail", summary=f"ended ({end.code}) without printing {wanted!r}", details=evidence)
        return result_of(end).model_copy(update={"details": evidence})


def _compile(argument: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadInput(argument, f"{pattern[:60]!r} is no regular expression: {error}") from error
