"""Reads build logs into a diagnosis.

May import: model, errors. Never: hosts, store, engine, orchestrator, a front.
"""

from pathlib import Path

from mcp_server.idf.diagnostics.again import is_deterministic
from mcp_server.idf.diagnostics.diagnoser import Diagnoser
from mcp_server.idf.diagnostics.hints import Hints
from mcp_server.idf.diagnostics.render import LIMIT_BYTES, render
from mcp_server.model import Diagnosis

__all__ = ["LIMIT_BYTES", "Diagnoser", "Hints", "diagnose", "is_deterministic", "render"]


def diagnose(
    data: bytes | str,
    exit_code: int | None = None,
    *,
    project: Path | str | None = None,
    hints: Hints | None = None,
    idf_path: str | None = None,
) -> Diagnosis:
    """The diagnosis of a whole saved log."""
    diagnoser = Diagnoser(project, hints, idf_path)
    diagnoser.feed(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    return diagnoser.finish(exit_code)
