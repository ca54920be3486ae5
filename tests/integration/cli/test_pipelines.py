"""Pipelines over several hosts in a terminal: the live table, Ctrl-C, a second terminal that watches."""

import json
from pathlib import Path

import pytest

from tests.integration.cli.program import Terminal
from tests.integration.conftest import Cli
from tests.support.three_hosts import write_config

QUESTION = "Detach or cancel? [d]etach, [c]ancel, Enter follows on: "
# Nine steps at once, then it waits for a file in the host's folder: what a test sees does not depend on speed.
IMAGE = 'for i in 1 2 3 4 5 6 7 8; do echo "[$i/10] do_compile"; done; while [ ! -e go ]; do sleep 0.05; done'
BROKEN = "echo \"src/container.cpp:41:5: error: 'vam' was not declared in this scope\"; exit 1"


@pytest.fixture
def file(home: Path, tmp_path: Path) -> Path:
    """The seed's pipeline: an image that waits for `far/yocto-builder/go`, a build that breaks, a test behind that."""
    write_config(home, tmp_path / "far")
    stages = [
        {"name": "yocto-image", "server": "yocto", "command": IMAGE},
        {"name": "host-build", "server": "host", "command": BROKEN, "retry": 0},
        {"name": "integration-test", "server": "test", "command": "true", "depends_on": ["host-build"]},
    ]
    path = tmp_path / "pipeline.yaml"
    path.write_text(json.dumps({"pipeline": {"name": "ccu2-full-build", "stages": stages}}))  # JSON is YAML
    return path


def go(file: Path) -> None:
    (file.parent / "far" / "yocto-builder" / "go").touch()


def status_of(cli: Cli, number: int) -> str:
    return json.loads(cli("status", str(number), "--json").stdout)["build"]["status"]


def test_a_pipeline_is_painted_watched_from_another_terminal_and_left_standing(file: Path) -> None:
    """Seed. Stage, server, bar or waiting, errors so far; the same from `status --watch`; then the verdict."""
    with Terminal(("run", str(file))) as terminal:
        terminal.expect("[████████░░]  80%")
        terminal.expect("[failed]")
        with Terminal(("status", "--watch")) as watching:
            watching.expect("[████████░░]  80%")
            go(file)
            watching.expect("    1  ")  # the table of builds that are over
            watching.press("\x03")
            assert watching.end() == 130
        code = terminal.end()

    assert code == 1
    last = terminal.shown.rpartition("┌─ ")[2].splitlines()
    assert last[0].startswith("build 1 · ccu2-full-build · ") and last[0].endswith(" failed ─┐")
    assert last[1].startswith("│ Stage 1: yocto-image       yocto-builder  [██████████] 100%")
    assert last[2].startswith("│ Stage 2: host-build        ccu2-builder   [failed]           E1 W0")
    assert last[3].startswith("│ Stage 3: integration-test  test           [skipped]          host-build")
    assert last[5].startswith("│ Errors: 1  Warnings: 0  Took: ")
    assert "src/container.cpp:41:5 error: 'vam' was not declared" in terminal.shown
    assert "integration-test not" in terminal.shown  # folded there: not run: host-build failed


@pytest.mark.parametrize(("answer", "code", "status"), [("d\n", 130, "running"), ("c\n", 1, "cancelled")])
def test_ctrl_c_asks_and_a_pipeline_is_left_or_cancelled(
    cli: Cli, file: Path, answer: str, code: int, status: str
) -> None:
    """Seed. Every stage of a cancelled pipeline ends, on whichever host; a detached one goes on."""
    with Terminal(("run", str(file))) as terminal:
        terminal.expect("[████████░░]  80%")
        terminal.press("\x03")
        terminal.expect(QUESTION)
        terminal.press(answer)

        assert terminal.end() == code
    assert status_of(cli, 1) == status
    go(file)
    if status == "cancelled":
        assert "build 1 cancelled" in terminal.shown
    else:
        assert "build 1 goes on without this terminal" in terminal.shown
        cli("status", "1", "--watch")


def test_the_seeds_own_file_is_shown_by_a_dry_run(cli: Cli, home: Path, tmp_path: Path) -> None:
    """Seed. Its servers and its pipeline load as they stand; a dry run dials nobody."""
    (home / "config.yaml").write_text(
        "servers:\n"
        "  yocto-builder: {host: 192.168.1.101, user: build, workdir: /workspace/CCU_GEN2.0_SONATUS.manifest}\n"
        "  ccu2-builder: {host: 192.168.1.102, user: build, workdir: /workspace/ccu-2.0}\n"
        "  test-runner: {host: 192.168.1.103, user: test, workdir: /workspace/snt-integration-tests}\n"
    )
    example = Path(__file__).parents[3] / "examples" / "ccu2-full-build.yaml"

    shown = cli("run", str(example), "--dry-run")

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("ccu2-full-build · 3 stages · at most 3 at a time")
    assert "integration-test  test-runner" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())


def test_a_retry_leaves_out_what_passed(cli: Cli, file: Path) -> None:
    """interfaces: build_retry, failed_only."""
    go(file)
    assert cli("run", str(file)).returncode == 1

    cli("retry", "1")
    retried = json.loads(cli("status", "2", "--watch").stdout and cli("status", "2", "--json").stdout)

    assert retried["build"]["retry_of"] == 1
    assert "yocto-image" not in {row["stage"] for row in retried["stages"]}
