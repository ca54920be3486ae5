"""What the server says beside the protocol: a line for people on stderr, the traceback in HOME/logs/mcp.log."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server import process_log


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put back afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def break_down() -> None:
    try:
        raise KeyError("a detail")
    except KeyError:
        logging.getLogger("x").exception("it broke")


def test_a_traceback_goes_to_the_file_and_a_line_to_stderr(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """Ours. stderr is shown to people, by clients, in red."""
    process_log.configure("mcp", {})

    break_down()

    file = home / "logs" / "mcp.log"
    assert capsys.readouterr().err == "build-orchestrator: ERROR it broke\n"
    assert "KeyError: 'a detail'" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_full_file_is_kept_once(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A server that fails at every call must not fill the disk."""
    monkeypatch.setattr(process_log, "LOG_BYTES", 10)
    process_log.configure("mcp", {})

    for _ in range(3):
        break_down()

    assert sorted(path.name for path in (home / "logs").iterdir()) == ["mcp.log", "mcp.log.1"]


@pytest.mark.parametrize(
    ("level", "seen"), [("", "warning"), ("info", "info warning"), ("ERROR", ""), ("nonsense", "warning")]
)
def test_the_level_is_the_environments(capsys: pytest.CaptureFixture[str], level: str, seen: str) -> None:
    """interfaces: BUILD_ORCHESTRATOR_LOG; warnings by default."""
    process_log.configure("mcp", {"BUILD_ORCHESTRATOR_LOG": level})

    logging.getLogger("x").info("info")
    logging.getLogger("x").warning("warning")

    assert " ".join(line.split()[-1] for line in capsys.readouterr().err.splitlines()) == seen


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The line on stderr is then all there is."""
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(os.environ, "BUILD_ORCHESTRATOR_HOME", str(tmp_path / "file"))
    process_log.configure("mcp", {})

    break_down()

    assert capsys.readouterr().err == "build-orchestrator: ERROR it broke\n"
