"""The program around the commands: exit codes, one sentence an error, nothing loaded that is not needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server import __version__
from mcp_server.cli import app
from mcp_server.errors import NotFound
from tests.unit.cli.builders import FakeOrchestrator
from tests.unit.cli.conftest import Cli

HEAVY = ("sqlalchemy", "rich", "mcp", "mcp_server.orchestrator", "mcp_server.model")


def test_version_is_one_line_on_stdout(cli: Cli) -> None:
    result = cli("--version")

    assert (result.code, result.out, result.err) == (0, f"build-orchestrator {__version__}\n", "")


def test_an_error_is_one_sentence_on_stderr_and_2(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.error = NotFound("build 9 builds no firmware: build_list shows those there are")

    result = cli("builds")

    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "build-orchestrator: build 9 builds no firmware: build-orchestrator builds shows those there are\n"
    )


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_kept(
    cli: Cli, fake: FakeOrchestrator, home: Path
) -> None:
    fake.error = KeyError("surprise")

    result = cli("builds")

    log = home / "logs" / "cli.log"
    assert (result.code, result.out) == (2, "")
    assert result.err == f"build-orchestrator: internal error (KeyError); the details are in {log}\n"
    assert "Traceback" in log.read_text() and "surprise" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_unexpected_error_without_a_home_is_one_sentence_too(
    cli: Cli, fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BUILD_ORCHESTRATOR_HOME", str(tmp_path / "file"))
    fake.error = KeyError("surprise")

    assert cli("builds").err == "build-orchestrator: internal error (KeyError); --debug shows the details\n"


@pytest.mark.parametrize("arguments", [("--debug", "builds"), ("builds", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(cli: Cli, fake: FakeOrchestrator, arguments: tuple[str]) -> None:
    fake.error = KeyError("surprise")

    assert "Traceback" in cli(*arguments).err


def test_ctrl_c_ends_a_command_quietly(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.error = KeyboardInterrupt()  # pyright: ignore[reportAttributeAccessIssue]

    result = cli("builds")

    assert (result.code, result.out, result.err) == (130, "", "")


def test_a_reader_that_has_left_is_no_error(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.error = BrokenPipeError()

    result = cli("builds")

    assert (result.code, result.out, result.err) == (141, "", "")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("builds", "--nonsense"), ("builds", "--limit", "many")])
def test_a_usage_error_is_2_with_usage_and_without_traceback(cli: Cli, arguments: tuple[str]) -> None:
    result = cli(*arguments)

    assert result.code == 2
    assert "Usage: build-orchestrator" in result.out + result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments", [("cancel", "\udcff"), ("builds", "--project", "a\udc80b"), ("run", "--project", "\udcff")]
)
def test_bytes_that_are_not_utf_8_are_refused_in_one_sentence(cli: Cli, arguments: tuple[str]) -> None:
    result = cli(*arguments)

    assert result.code == 2
    assert (
        result.err
        == f"build-orchestrator: argument {len(arguments)}: holds bytes that are not UTF-8: use another name\n"
    )


BAD_BUILDS = ("0", "-0", "abc", "4 2", "4.2", "$(reboot)", "'42'", '"', "a\nb", "x" * 10_000, "9" * 30, "#", "४२x")


@pytest.mark.parametrize("bad", BAD_BUILDS)
@pytest.mark.parametrize("command", ["logs", "cancel", "retry", "status"])
def test_a_bad_build_is_one_short_sentence(cli: Cli, fake: FakeOrchestrator, command: str, bad: str) -> None:
    result = cli(command, "--", bad)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("build-orchestrator: build: ")
    assert result.err.count("\n") == 1 and len(result.err) < 200


@pytest.mark.parametrize("command", ["logs", "cancel", "retry", "status"])
def test_an_unknown_build_is_one_sentence(cli: Cli, command: str) -> None:
    result = cli(command, "7")

    assert (result.code, result.out) == (2, "")
    assert result.err == "build-orchestrator: there is no build 7\n"


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    """Ours. The list is written down so that --help need not import the commands."""
    for name, (_, line) in app.COMMANDS.items():
        assert app.command(name).help.partition("\n")[0] == line


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["demo", "--help"], ["builds", "-h"]]
)
def test_help_loads_neither_the_database_nor_rich(arguments: list[str]) -> None:
    script = (
        "import sys; from mcp_server.cli.app import main; code = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
    assert done.stdout
