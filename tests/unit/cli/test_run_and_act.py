"""run, cancel and retry: what they ask for, what they print where, and their exit codes."""

import json
from pathlib import Path

import pytest

from mcp_server.errors import EnvironmentMissing
from mcp_server.model import Diagnosis, Diagnostic, Plan, Progress, Verdict
from tests.unit.cli.builders import FakeOrchestrator, build, failed_stage, half_done, spec, stage, view
from tests.unit.cli.conftest import Cli


def test_a_failed_build_is_1_with_its_verdict_on_stdout_and_the_rest_on_stderr(
    cli: Cli, fake: FakeOrchestrator
) -> None:
    fake.views = [view(build(), half_done()), view(build(status="failed"), failed_stage())]

    result = cli("run", "--project", "p", "--target", "linux", "--clean")

    assert result.code == 1
    assert fake.called[0] == ("start_build", "p", {"target": "linux", "clean": True, "host": "local"})
    lines = result.out.splitlines()
    assert lines[0].startswith("build 42 failed in stage build · 12 s · 1 error, 3 warnings")
    assert lines[1] == "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'"
    assert lines[2].endswith("8 |         valve_opne();")
    assert lines[-1] == "more: build-orchestrator logs 42 build · do not rebuild to read the log"
    assert result.err.splitlines() == [
        "build 42 started",
        "stage build: running on local",
        "stage build: 412/1043 Building C object esp-idf/main/app_main.c.obj",
        "stage build: failed after 12 s",
    ]


def test_a_successful_build_is_0(cli: Cli, fake: FakeOrchestrator) -> None:
    passed = stage("run", "success", kind="idf.run", verdict=Verdict(result="pass", summary="SELF TEST PASSED"))
    fake.views = [view(build(status="success"), stage("build", "success"), passed)]

    result = cli("run")

    assert result.code == 0
    assert result.out.startswith("build 42 succeeded")
    assert "run: SELF TEST PASSED" in result.out


def test_what_a_build_came_to_is_said_once(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. In a pipe the last progress line and the report, with its last lines, said the same three times."""
    said = "I (1123) greenhouse: 26.5 C, valve closed"
    summary = f"not printed in 2 s: 'ready'; the last line: {said!r}"
    verdict = Verdict(result="timeout", summary=summary, details={"last_lines": ["I (81) greenhouse: boot", said]})
    boot = stage("boot", "failed", kind="idf.boot", reason="exit", exit_code=0, verdict=verdict)
    plan = Plan(stages=(spec("flash", "idf.flash"), spec("boot", "idf.boot", "flash")))
    flashed = stage("flash", "success", kind="idf.flash", verdict=Verdict(result="pass", summary="3 images verified"))
    fake.views = [
        view(build(plan=plan), flashed),
        view(build(plan=plan), flashed, boot),
        view(build(status="failed", plan=plan), flashed, boot),
    ]

    result = cli("run")

    assert [(result.out + result.err).count(text) for text in (said, "ready", "boot failed")] == [1, 1, 1]
    assert result.err.splitlines()[1:] == ["stage flash: success after 12 s", "stage boot: failed after 12 s"]
    assert "flash success 12 s · boot failed\n" in result.out


def test_a_report_is_folded_in_a_pipe_except_what_is_to_be_copied(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. 80 columns; a compiler's message, a source line and a folder stay whole, as programs read them."""
    words = "m" + " word" * 30
    message = Diagnostic(severity="error", kind="gcc", file="main/a.c", line=8, column=9, message=words, source="x")
    summary = "the firmware did not start: " + "why it did not " * 6
    diagnosis = Diagnosis(errors=(message,), error_count=1)
    wide = stage("build", "failed", exit_code=1, verdict=Verdict(result="fail", summary=summary, diagnosis=diagnosis))
    fake.views = [view(build(status="failed", plan=Plan(stages=(spec("build"),))), wide)]

    lines = cli("run").out.splitlines()

    assert [line[:17] for line in lines if len(line) > 80] == ["main/a.c:8:9 erro"]
    assert len([line for line in lines if "why it did not" in line]) == 2


def test_it_can_be_emulated_and_flashed_after_the_build(cli: Cli, fake: FakeOrchestrator) -> None:
    """Interfaces: run --qemu --flash. A script has said yes by --yes."""
    fake.views = [view(build(status="success"), stage("build", "success"))]

    result = cli("run", "--host", "fast", "--qemu", "--flash", "--yes", "--port", "/dev/ttyUSB0", "--expect", "ready")

    assert result.code == 0
    name, project, options = fake.called[0]
    assert (name, project) == ("order_run", ".")
    assert options == {
        "target": None, "clean": False, "host": "fast", "qemu": True, "flash": True, "port": "/dev/ttyUSB0",
        "expect": ["ready"], "fail_on": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--flash"], "--yes: is needed where nobody can be asked: Write p to /dev/ttyUSB0?"),
        (["--qemu", "--port", "/dev/ttyUSB0"], "--port: belongs to --flash"),
        (["--yes"], "--yes: belongs to --flash"),
        (["--expect", "ready"], "--expect: belongs to --qemu or --flash"),
        (["p.yaml", "--qemu"], "--qemu: cannot be combined with the pipeline 'p.yaml': its stages say that themselves"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(
    arguments: list[str], sentence: str, cli: Cli, fake: FakeOrchestrator
) -> None:
    """Ours. Nothing is started."""
    result = cli("run", *arguments)

    assert result.code == 2
    assert sentence in result.err
    assert "start" not in [name for name, *_ in fake.called]


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1), ("cancelled", 1)])
def test_json_is_one_object_with_the_whole_build(cli: Cli, fake: FakeOrchestrator, status: str, code: int) -> None:
    fake.views = [view(build(status=status), failed_stage())]

    result = cli("run", "--json")

    whole = json.loads(result.out)
    assert result.code == code
    assert set(whole) == {
        "build", "project", "stages", "verdict", "artifacts", "blocked_by", "idle", "typical_s", "elapsed_s", "eta_s",
    }  # fmt: skip
    assert whole["build"]["status"] == status
    assert whole["verdict"]["diagnosis"]["errors"][0]["file"] == "main/thermostat.c"


def test_a_refused_build_is_2(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.error = EnvironmentMissing("no ESP-IDF was found: install it")

    result = cli("run")

    assert (result.code, result.out) == (2, "")
    assert result.err == "build-orchestrator: no ESP-IDF was found: install it\n"


@pytest.mark.parametrize("argument", ["absent.yaml", "$(reboot)", "\0", "x" * 5000, "~nobody-of-that-name/x"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_pipeline_that_is_not_there_is_refused_in_a_line(
    cli: Cli, fake: FakeOrchestrator, argument: str, more: list[str]
) -> None:
    result = cli("run", argument, *more)

    assert (result.code, result.out, fake.called) == (2, "", [])
    assert result.err.count("\n") == 1 and result.err.startswith("build-orchestrator: path: ")


def test_a_folder_given_as_a_pipeline_is_told_how_it_is_built(cli: Cli, fake: FakeOrchestrator, tmp_path: Path) -> None:
    result = cli("run", str(tmp_path))

    assert (result.code, fake.called) == (2, [])
    assert result.err.endswith(f"a folder is built with run --project {tmp_path}\n")


@pytest.mark.parametrize(("reason", "job", "code"), [("environment", None, 2), ("exit", "x-42-build-1-1", 1)])
def test_a_build_refused_in_its_stage_is_2(
    cli: Cli, fake: FakeOrchestrator, reason: str, job: str | None, code: int
) -> None:
    fake.views = [view(build(status="failed"), stage(status="failed", reason=reason, job_id=job))]

    assert cli("run").code == code


def test_what_a_stage_waits_for_is_said_once(cli: Cli, fake: FakeOrchestrator) -> None:
    held = view(build(), stage(status="waiting", progress=Progress(message="waiting for ninja (process 7)")))
    fake.views = [held, held, view(build(status="success"), stage(status="success"))]

    assert cli("run").err.count("build 42: waiting for ninja (process 7)\n") == 1


@pytest.mark.parametrize("name", ["'q\"", "a\nb", "$(reboot)", "\x1b[2J", "x" * 10_000])
def test_foreign_names_and_messages_reach_no_terminal_raw(cli: Cli, fake: FakeOrchestrator, name: str) -> None:
    verdict = Verdict(result="fail", summary=f"{name} \x1b[31m")
    fake.views = [view(build(status="failed", target=name), stage(status="failed", verdict=verdict), name=name)]

    result = cli("run")

    assert "\x1b" not in result.out + result.err
    assert len(result.out) < 2500


def test_cancel_waits_for_the_end_and_says_so(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(), half_done())]

    result = cli("cancel", "42")

    assert result.code == 0
    assert result.out == "build 42 is asked to end; build-orchestrator status shows when it has\n"
    assert fake.called == [("cancel", "42"), ("wait", 42, 10)]


def test_cancelling_what_is_over_is_2(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(status="failed"))]

    result = cli("cancel", "42")

    assert (result.code, result.out) == (2, "")
    assert result.err == "build-orchestrator: build 42 is over already: failed\n"


@pytest.mark.parametrize(("arguments", "failed_only"), [(["42"], True), (["42", "--all"], False)])
def test_retry_starts_a_new_build(cli: Cli, fake: FakeOrchestrator, arguments: list[str], failed_only: bool) -> None:
    fake.views = [view(build(status="failed"))]

    result = cli("retry", *arguments)

    assert (result.code, result.out) == (0, "build 43 started, a retry of build 42\n")
    assert fake.called == [("retry", "42", failed_only)]


def test_retry_as_json_is_the_new_build(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(status="failed"))]

    whole = json.loads(cli("retry", "42", "--json").out)

    assert (whole["build"]["id"], whole["build"]["retry_of"]) == (43, 42)
