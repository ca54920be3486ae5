"""What a long-lived process says beside its answers: lines for people or for programs, on stderr and in HOME/logs.

May import: nothing of this package.
"""

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG_BYTES = 1_000_000  # of a log; a full one is kept once as NAME.log.1
WORKER_BYTES = 4_000_000  # of the worker's, which says what it does and not only what went wrong

Mask = Callable[[str], str]
"""What takes secrets out of a text."""

AGAIN_S = 60  # what a worker has to say again and again is said so often

_OF_BUILD = re.compile(r"build %d( stage %s)?")  # how every line about a build begins
_name = "mcp"


def log_file(environment: Mapping[str, str]) -> Path:
    """This process's HOME/logs/NAME.log, known without config.yaml: what is wrong with that is logged, too."""
    home = Path(environment.get("BUILD_ORCHESTRATOR_HOME") or "~/.build-orchestrator").expanduser()
    return home / "logs" / f"{_name}.log"


def configure(
    name: str,
    environment: Mapping[str, str],
    *,
    unseen: Collection[str] = (),
    json_lines: bool = False,
    mask: Mask = str,
) -> None:
    """Log to stderr and, from warnings on, to NAME.log; what the loggers `unseen` say goes to the file only."""
    global _name  # noqa: PLW0603 - a process has one log
    _name = name
    level = logging.getLevelNamesMapping().get(environment.get("BUILD_ORCHESTRATOR_LOG", "").upper(), logging.WARNING)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(
        JsonLines(mask) if json_lines else _OneLine("build-orchestrator: %(levelname)s %(message)s", mask)
    )
    stderr.addFilter(lambda record: record.name.partition(".")[0] not in unseen)
    file = _LogFile(logging.WARNING)
    text = Lines("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s", mask)
    file.setFormatter(JsonLines(mask) if json_lines else text)
    logging.basicConfig(level=level, handlers=[stderr, file], force=True)


def configure_worker(log: Path, level: str, *, json_lines: bool = False, mask: Mask = str) -> None:
    """Log to stderr. Where that is the file `log`, it is bounded: a full one is kept once as worker.log.1."""
    handler = _Bounded(log)
    handler.addFilter(Repeats())
    text = Lines("%(asctime)s %(levelname)s %(name)s %(message)s", mask)
    handler.setFormatter(JsonLines(mask) if json_lines else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Repeats:
    """Drops a warning that was said within the last minute: a database that is away all night fills no log."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        self._said = {one: at for one, at in self._said.items() if 0 <= record.created - at < AGAIN_S}
        if text in self._said:
            return False
        self._said[text] = record.created
        return True


class Lines(logging.Formatter):
    """As the form says, without secrets, tracebacks included."""

    def __init__(self, form: str, mask: Mask = str) -> None:
        super().__init__(form)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line: ts, level, logger, message, pid; build and stage, error and trace where there are any."""

    def __init__(self, mask: Mask = str) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(record.getMessage()),
            "pid": record.process,
            **_of_build(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = self._mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _of_build(record: logging.LogRecord) -> dict[str, Any]:
    """The build and stage that a line begins with."""
    found = _OF_BUILD.match(record.msg) if isinstance(record.msg, str) else None
    if found is None or not isinstance(record.args, tuple) or len(record.args) < 1 + bool(found[1]):
        return {}
    return {"build": record.args[0], **({"stage": str(record.args[1])} if found[1] else {})}


class _Bounded(logging.StreamHandler[Any]):
    """stderr, also of what the interpreter itself says at a sudden end; turned over where it is our file."""

    def __init__(self, log: Path) -> None:
        super().__init__(sys.stderr)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        try:
            facts = os.fstat(2)
            if (
                stat.S_ISREG(facts.st_mode)
                and facts.st_size > WORKER_BYTES
                and os.path.samestat(facts, self._log.stat())
            ):
                self._turn_over()
        except OSError:  # as below: a log ends no process
            return

    def _turn_over(self) -> None:
        self._log.replace(self._log.with_suffix(".log.1"))
        file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            for descriptor in (1, 2):
                if os.path.samestat(os.fstat(descriptor), self._log.with_suffix(".log.1").stat()):
                    os.dup2(file, descriptor)
        finally:
            os.close(file)


class _OneLine(Lines):
    """No traceback: stderr is shown to people."""

    def formatException(self, ei: object) -> str:  # noqa: N802  (the base's name)
        return ""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None
        return super().format(record).rstrip()


class _LogFile(logging.Handler):
    """Warnings and errors with their tracebacks, in a file that is made when there is something to say."""

    def emit(self, record: logging.LogRecord) -> None:
        path = log_file(os.environ)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
            record.exc_text = None
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, f"{self.format(record)}\n".encode(errors="backslashreplace"))
            finally:
                os.close(file)
        except OSError:  # a full or read-only disk must not end the process; stderr has the line
            return
