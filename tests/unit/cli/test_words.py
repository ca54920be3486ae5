"""Sentences that name tools, as this program's user reads them."""

import pytest

from mcp_server.cli.words import refusal_in_commands


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("no build of /p is recorded: idf_build first", "no build of /p is recorded: build-orchestrator run first"),
        ("build 3 is running: build_wait(3) first", "build 3 is running: build-orchestrator status 3 --watch first"),
        ("linux runs on no board: qemu_run runs it", "linux runs on no board: build-orchestrator qemu runs it"),
        ("more: build_get(3, detail=\"stages\")", "more: build-orchestrator status 3 --json"),
        ("a pipeline: pipeline_run /p/x.yaml", "a pipeline: build-orchestrator run /p/x.yaml"),
        ("serial_monitor opens one", "build-orchestrator monitor opens one"),
    ],
)  # fmt: skip
def test_a_tool_that_a_refusal_names_is_a_command_here(
    sentence: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. There is no `idf_build` in a shell."""
    monkeypatch.setattr("sys.argv", ["build-orchestrator"])
    monkeypatch.setattr("shutil.which", str)

    assert refusal_in_commands(sentence) == shown
