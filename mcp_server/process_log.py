"""What a long-lived front says beside its answers: a line for people on stderr, the traceback in a file of HOME/logs.

May import: nothing of this package.
"""

import logging
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

LOG_BYTES = 1_000_000  # of a log; a full one is kept once as NAME.log.1


_name = "mcp"


def log_file(environment: Mapping[str, str]) -> Path:
    """This process's HOME/logs/NAME.log, known without config.yaml: what is wrong with that is logged, too."""
    home = Path(environment.get("BUILD_ORCHESTRATOR_HOME") or "~/.build-orchestrator").expanduser()
    return home / "logs" / f"{_name}.log"


def configure(name: str, environment: Mapping[str, str], *, unseen: Collection[str] = ()) -> None:
    """Log to stderr and, from warnings on, to NAME.log; what the loggers `unseen` say goes to the file only."""
    global _name  # noqa: PLW0603 - a process has one log
    _name = name
    level = logging.getLevelNamesMapping().get(environment.get("BUILD_ORCHESTRATOR_LOG", "").upper(), logging.WARNING)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(_OneLine("build-orchestrator: %(levelname)s %(message)s"))
    stderr.addFilter(lambda record: record.name.partition(".")[0] not in unseen)
    file = _LogFile(logging.WARNING)
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[stderr, file], force=True)


class _OneLine(logging.Formatter):
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
