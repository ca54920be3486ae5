"""The commands against a real worker: a build that fails, one that passes, and everything one does with them."""

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.integration.cli.conftest import Lay
from tests.integration.cli.program import LIMIT_S, PROGRAM, await_text, ended, start
from tests.integration.conftest import Cli
from tests.support.faults import worker_pid

CAUSE = "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'"
HANGING = {"IDF_DEMO_HANG": "1"}


def test_a_failed_build_and_all_that_one_does_with_it(cli: Cli, lay: Lay) -> None:
    folder = lay()

    failed = cli("run", "--project", folder)
    assert failed.returncode == 1
    assert failed.stdout.startswith("build 1 failed in stage build · linux · ") and CAUSE in failed.stdout
    assert "more: build-orchestrator logs 1 build" in failed.stdout
    assert "build 1 started\n" in failed.stderr and "stage build: failed after" in failed.stderr

    listed = cli("builds", "--project", folder, "--status", "failed")
    assert listed.stdout.splitlines()[1].split()[:4] == ["1", "greenhouse", "linux", "failed"]
    assert [row["id"] for row in json.loads(cli("builds", "--json").stdout)] == [1]
    assert CAUSE in cli("status", "1").stdout

    matching = cli("logs", "1", "--grep", "error: implicit")
    assert (matching.returncode, matching.stdout.count("\n")) == (0, 1)
    assert "1 of " in matching.stderr
    piece = json.loads(cli("logs", "1", "build", "--offset", "0", "--max-bytes", "100", "--json").stdout)
    assert piece["next_offset"] == 100 and len(piece["text"].encode()) <= 100

    again = cli("retry", "1")
    assert (again.returncode, again.stdout) == (0, "build 2 started, a retry of build 1\n")
    assert cli("status", "2", "--watch").stdout.count(CAUSE) == 1
    over = cli("cancel", "2")
    assert (over.returncode, over.stdout) == (2, "")
    assert over.stderr == "build-orchestrator: build 2 is over already: failed\n"


def test_a_build_that_passes_is_0_and_its_json_is_whole(cli: Cli, lay: Lay) -> None:
    done = cli("run", "--project", lay(mended=True), "--json")

    whole = json.loads(done.stdout)
    assert done.returncode == 0
    assert whole["build"]["status"] == "success" and whole["stages"][0]["exit_code"] == 0
    assert any(artifact["path"].endswith(".elf") for artifact in whole["artifacts"])
    again = cli("retry", str(whole["build"]["id"]))
    assert (again.returncode, again.stdout) == (2, "")


def test_what_cannot_be_built_is_refused_with_2_and_one_sentence(cli: Cli, lay: Lay, tmp_path: Path) -> None:
    folder = lay(mended=True)
    (tmp_path / "plain").mkdir()
    cases = {
        ("--project", str(tmp_path / "plain")): "project: ",
        ("--project", str(tmp_path / "none")): "project: ",
        ("--project", folder, "--target", "esp99"): "target: ",
        ("--project", "$(reboot)"): "project: ",
        ("--project", "x" * 10_000): "project: ",
        ("--project", "a\nb"): "project: ",
    }

    for arguments, argument in cases.items():
        refused = cli("run", *arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert refused.stderr.startswith(f"build-orchestrator: {argument}"), refused.stderr
        assert refused.stderr.count("\n") == 1 and len(refused.stderr) < 700, refused.stderr
    assert cli("builds").stdout == ""


def test_cancel_ends_a_running_build_and_whoever_follows_it_hears_of_it(cli: Cli, lay: Lay) -> None:
    with start("run", "--project", lay(mended=True), **HANGING) as following:
        await_text(following, "running on local")

        cancelled = cli("cancel", "1")
        code, out, err = ended(following)

    assert (cancelled.returncode, cancelled.stdout) == (0, "build 1 is cancelled\n")
    assert (code, out.startswith("build 1 cancelled"), "Traceback" in err) == (1, True, False)


def test_a_signal_without_a_terminal_leaves_the_build_running(cli: Cli, lay: Lay) -> None:
    for build, number in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        with start("run", "--project", lay(f"project-{build}", mended=True), **HANGING) as following:
            await_text(following, "running on local")
            following.send_signal(number)
            code, out, err = ended(following)

        assert (code, out) == (128 + number, "")
        assert f"build {build} goes on without this terminal" in err
        assert f"build-orchestrator cancel {build}" in err
    assert [row["status"] for row in json.loads(cli("builds", "--json").stdout)] == ["running", "running"]
    assert cli("cancel", "1").returncode == cli("cancel", "2").returncode == 0


def test_a_build_that_waits_for_another_says_for_which(cli: Cli, lay: Lay) -> None:
    folder = lay(mended=True)
    with start("run", "--project", folder, **HANGING) as first:
        await_text(first, "running on local")
        with start("run", "--project", folder) as second:
            await_text(second, "build 2 waits for build 1")

            assert "waits for build 1" in cli("status").stdout
            cli("cancel", "2")
            assert ended(second)[0] == 1
        cli("cancel", "1")


def test_a_follower_outlives_a_killed_worker(lay: Lay, home: Path) -> None:
    """Ours. Whoever waits pokes every few seconds: the next worker takes the job over."""
    with start("run", "--project", lay(mended=True), IDF_DEMO_STEP_S="1", IDF_DEMO_FILES="4") as following:
        await_text(following, "running on local")
        pid = worker_pid(home)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        code, out, _ = ended(following)

    assert (code, out.partition(" · ")[0]) == (0, "build 1 succeeded")


def test_a_followed_log_has_every_byte_once(lay: Lay, home: Path) -> None:
    """Ours. Followed from before its job exists, in a pipe."""
    with start("run", "--project", lay(mended=True)) as building:
        await_text(building, "build 1 started")
        followed = subprocess.run([*PROGRAM, "logs", "1", "-f"], capture_output=True, timeout=LIMIT_S, check=False)
        ended(building)

    (log,) = home.glob("jobs/*/*-1-build-1-1/log")
    assert (followed.returncode, followed.stderr) == (0, b"")
    assert followed.stdout == log.read_bytes() != b""


def test_what_is_not_there_is_not_followed_and_a_reader_that_leaves_early_is_no_error(cli: Cli, lay: Lay) -> None:
    cli("run", "--project", lay())

    for arguments in (("logs", "9", "-f"), ("logs", "1", "nonsense", "-f"), ("logs", "1", "$(reboot)")):
        refused = cli(*arguments)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
    read, write = os.pipe()
    os.close(read)

    for arguments in (("builds",), ("logs", "1", "-f")):
        left = subprocess.run(
            [*PROGRAM, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False
        )
        assert (left.returncode, left.stderr) == (141, ""), arguments
    os.close(write)
