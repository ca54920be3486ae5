"""Every `--help` is on record, and docs/commands.md is made of them. REMAKE_HELP=1 writes both anew."""

import os
from pathlib import Path

import pytest

from mcp_server.cli.app import COMMANDS
from tests.unit.cli.conftest import Cli

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests" / "recorded" / "help"
DOCUMENT = ROOT / "docs" / "commands.md"
REMAKE = bool(os.environ.get("REMAKE_HELP"))
NAMES = ("build-orchestrator", *COMMANDS)

INTRODUCTION = """\
# Commands

What `--help` prints, of every command. This page is made of it by `REMAKE_HELP=1 pytest tests/unit/cli/test_help.py`.

stdout carries what was asked for, stderr everything else. `--json` prints one JSON value: the model's own keys, times
in ISO 8601 with their zone, durations in seconds. A build reads

| key | is |
|---|---|
| `build` | its row: `id`, `status`, `reason`, `started_at`, `completed_at`, `duration`, `round`, `retry_of`, … |
| `project` | the source tree: `id`, `name`, `path`, `target` |
| `stages` | every attempt at every stage: `stage`, `round`, `attempt`, `status`, `exit_code`, `verdict`, … |
| `verdict` | of the stage that decided: `result`, `summary`, `diagnosis` with `errors`, `hints` and counts |
| `artifacts` | `path`, `size`, `sha256`, `kind`, flash `offset` |
| `blocked_by` | what it waits for: `resource`, `build` |
| `idle` | why nobody works on it: its worker, or the machine it needs, is away |
| `typical_s`, `elapsed_s`, `eta_s` | the median of the last successes, the time so far, a pipeline's time left |

`builds --json` prints a list of rows, `status --json` an object with `open` (builds as above) and `last` (rows),
`hosts --json` a list of hosts with `facts` or `trouble`, `stats --json` counts, rates and causes with the
project's last `builds` in figures, and `run FILE --dry-run --json` the plan's `stages` and its `mermaid` graph.

A refusal is one sentence on stderr and exit code 2. Output that nobody reads any more ends a command with 141, Ctrl-C
with 130.
"""


def document(helps: dict[str, str]) -> str:
    """docs/commands.md."""
    parts = [INTRODUCTION]
    for name, text in helps.items():
        parts.append(f"## {name}\n\n```\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


@pytest.mark.parametrize("name", NAMES)
def test_help_is_as_recorded_and_fits_80_columns(name: str, cli: Cli) -> None:
    shown = cli(*([] if name == NAMES[0] else [name]), "--help")
    text, path = shown.out, RECORDED / f"{name}.txt"
    if REMAKE:
        path.write_text(text, encoding="utf-8")

    assert (shown.code, shown.err) == (0, "")
    assert text == path.read_text(encoding="utf-8")
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_document_is_made_of_the_recorded_helps() -> None:
    text = document({name: (RECORDED / f"{name}.txt").read_text(encoding="utf-8") for name in NAMES})
    if REMAKE:
        DOCUMENT.write_text(text, encoding="utf-8")

    assert text == DOCUMENT.read_text(encoding="utf-8")


def test_nothing_else_is_on_record() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == set(NAMES)
