"""Reports: what a model reads of a build, to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server import report, report_tables
from mcp_server.model import (
    Artifact,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Plan,
    StageSpec,
    StageStatus,
    Verdict,
)
from tests.unit.tools.fake import (
    FLASHED,
    TWO_ERRORS,
    a_build,
    a_stage,
    a_view,
    failed_view,
    succeeded_view,
)


def test_a_failed_build_is_told_with_place_source_hint_and_the_way_to_the_log() -> None:
    """interfaces: the report of a failed build."""
    text = report.build_report(failed_view(plan=a_build().plan.model_copy(update={"max_rounds": 3})))

    assert text.splitlines() == [
        "build 42 failed in stage build · esp32c3 · 38 s · 2 errors, 36 warnings · round 1 of 3",
        "main/app_main.c:41:5 error: implicit declaration of function 'gpio_set_levl'; did you mean 'gpio_set_level'?",
        "   41 |     gpio_set_levl(LED, 1);",
        "main/app_main.c:57:12 error: 'LED_PIN' undeclared",
        "   57 |     return LED_PIN;",
        "hint: driver/gpio.h needs esp_driver_gpio in PRIV_REQUIRES of main/CMakeLists.txt",
        'more: build_log(42, "build") · do not rebuild to read the log',
    ]
    assert report.size(text) <= 700


@pytest.mark.parametrize(("params", "hint"), [({}, "nobody mends here"), ({"checkout": "/copy"}, "do not rebuild")])
def test_only_a_build_of_the_projects_folder_is_said_to_be_mendable(params: dict[str, str], hint: str) -> None:
    """Ours. Of a commit in a checkout `fix` is refused, so that no report may name it."""
    plan = Plan(stages=(StageSpec(name="build", kind="idf.build", params=params),))

    assert f"· {hint}" in report.build_report(failed_view(name="workflow", plan=plan)).splitlines()[-1]


def test_a_flood_of_errors_stays_within_the_limit_and_says_how_to_see_the_rest() -> None:
    """interfaces: 700 bytes, then build_get."""
    errors = tuple(
        Diagnostic(severity="error", kind="compile", message=f"'é{n}' undeclared " * 9, file=f"main/a{n}.c", line=n)
        for n in range(1, 40)
    )
    flood = Diagnosis(errors=errors, error_count=812, warning_count=9000)

    short = report.build_report(failed_view(flood))
    long = report.build_report(failed_view(flood), limit_bytes=report.DETAIL_BYTES)

    assert report.size(short) <= 700
    assert "812 errors, 9000 warnings" in short
    assert "main/a1.c:1 error" in short
    assert "more: build_get(42)" in short
    assert 700 < report.size(long) <= report.DETAIL_BYTES
    assert "build_get" not in long


@given(
    st.text(max_size=900),
    st.text(max_size=300),
    st.integers(0, 10**7),
    st.sampled_from(["exit", "timeout", "lost", "cancelled", "disk_full"]),
)
def test_no_text_from_a_log_makes_a_report_longer_than_its_limit(
    message: str, summary: str, count: int, reason: str
) -> None:
    """Ours. What is printed by a compiler, a test or a path is not ours to trust."""
    error = Diagnostic(severity="error", kind="compile", message=message, file=summary, line=count, source=message)
    for diagnosis in (None, Diagnosis(errors=(error,) * 3, error_count=count, hints=(message, summary))):
        verdict = Verdict(result="fail", summary=summary, diagnosis=diagnosis, details={"last_lines": [message] * 5})
        stage = a_stage(StageStatus.FAILED, reason=reason, exit_code=1, verdict=verdict, attempt=2)
        view = a_view(a_build(status=BuildStatus.FAILED, target=summary or None, build_output=message), stage)

        text = report.build_report(view, joined=True)

        assert report.size(text) <= 700
        assert "do not rebuild to read the log" in text


def test_a_failure_without_a_known_message_shows_the_last_lines() -> None:
    """Design: evidence, never a guess."""
    view = failed_view(None, build_output="exit code 2\nninja: entering\n\x1b[31mboom\x1b[0m: it broke\n")

    assert report.build_report(view).splitlines()[1:] == [
        "exit code 2",
        "its last lines:",
        "  ninja: entering",
        "  boom: it broke",
        'more: build_log(42, "build") · do not rebuild to read the log',
    ]


@pytest.mark.parametrize(
    ("reason", "summary", "first"),
    [
        ("timeout", "stopped at its time limit", "build 42 timed out in stage build · esp32c3 · 38 s"),
        (
            "lost",
            "the job was lost: its processes were killed, or the machine restarted",
            "build 42 was lost in stage build · esp32c3 · 38 s",
        ),
    ],
)
def test_a_build_that_was_ended_says_why_before_what_its_log_says(reason: str, summary: str, first: str) -> None:
    """Design: lost and timeout are states of their own."""
    verdict = Verdict(result="timeout", summary=summary, diagnosis=TWO_ERRORS)
    stage = a_stage(StageStatus.FAILED, reason=reason, verdict=verdict)

    lines = report.build_report(a_view(a_build(status=BuildStatus.FAILED, reason=reason), stage)).splitlines()

    assert lines[0].startswith(first)
    assert lines[1] == summary
    assert lines[2].startswith("main/app_main.c:41:5 error")


def test_a_refused_stage_tells_its_sentence_and_points_to_no_log() -> None:
    """Ours. Nothing ran, so there is no log to read."""
    sentence = "ESP-IDF 5.1 at /opt/idf is gone: install it, or set IDF_PATH"
    verdict = Verdict(result="fail", summary=sentence)
    stage = a_stage(StageStatus.FAILED, job_id=None, reason="environment", verdict=verdict)

    text = report.build_report(a_view(a_build(status=BuildStatus.FAILED, reason="environment"), stage))

    assert text == f"build 42 was refused in stage build · esp32c3 · 38 s\n{sentence}"


def unbegun(reason: str, sentence: str, **columns: object) -> str:
    verdict = Verdict(result="fail", summary=sentence)
    stage = a_stage(StageStatus.FAILED, job_id=None, reason=reason, host="yocto", verdict=verdict).model_copy(
        update=columns
    )
    return report.build_report(a_view(a_build(status=BuildStatus.FAILED, reason=reason), stage))


def test_a_stage_whose_host_was_not_reached_failed_and_tells_when_to_repeat_it() -> None:
    """Ours. Nothing about the build was wrong, so it was not refused."""
    text = unbegun("unreachable", "host yocto: connection refused at 192.168.1.101 port 22", attempt=2)

    assert text.splitlines() == [
        "build 42 failed in stage build · esp32c3 · 38 s · attempt 2",
        "host yocto could not be reached: connection refused at 192.168.1.101 port 22",
        'more: hosts("yocto") looks again · build_retry(42) when it is back',
    ]


def test_a_long_reason_for_silence_leaves_the_next_step_readable() -> None:
    """Ours."""
    text = unbegun("unreachable", "host yocto: " + "é" * 2000)

    assert text.splitlines()[-1] == 'more: hosts("yocto") looks again · build_retry(42) when it is back'
    assert report.size(text) <= 700


@pytest.mark.parametrize("reason", ["internal", "lost", "disk_full", "host", "job_conflict", "timeout"])
def test_only_what_was_given_wrongly_is_called_refused(reason: str) -> None:
    """Ours. A fault of a host or of ours is a failure that may be tried again."""
    text = unbegun(reason, "something broke")

    assert "refused" not in text
    assert "something broke" in text
    assert "build_retry(42) tries it again" in text


def with_notes(count: int) -> Verdict:
    return Verdict(result="pass", details={"notes": [f"nothing matches out/{n}/*.bin" for n in range(count)]})


def test_a_glob_that_matched_nothing_is_told_of_a_build_that_passed() -> None:
    """Ours. One line, however long the files' list is."""
    many = tuple(Artifact(path=f"{'a' * 100}{n}.bin", size=9, sha256="a" * 64) for n in range(40))
    verdict = with_notes(1)
    view = a_view(a_build(status=BuildStatus.SUCCESS), a_stage(StageStatus.SUCCESS, verdict=verdict), artifacts=many)

    text = report.build_report(view)

    assert text.splitlines()[-1] == "note: nothing matches out/0/*.bin"
    assert report.size(text) <= 500


def test_notes_of_a_pipeline_name_their_stages_and_are_bounded() -> None:
    """Ours."""
    stages = tuple(StageSpec(name=name, kind="command") for name in ("one", "two"))
    rows = [a_stage(StageStatus.SUCCESS, spec.name, "command", verdict=with_notes(9)) for spec in stages]
    view = a_view(a_build(status=BuildStatus.SUCCESS, plan=Plan(stages=stages)), *rows)

    last = report.build_report(view).splitlines()[-1]

    assert last.startswith("note: one: nothing matches out/0/*.bin · one: nothing")
    assert last.endswith(" · and 15 more notes")
    assert report.size(last) < 240
    assert "one success · 38 s · nothing matches out/0/*.bin" in report_tables.stage_table(view)


def test_a_stage_that_passed_only_when_repeated_says_so() -> None:
    """Ours. Who sees only `success` would never look for what is flaky."""
    late = a_stage(StageStatus.SUCCESS, attempt=2)
    plan = Plan(stages=tuple(StageSpec(name=name, kind="command") for name in ("build", "test")))
    other = a_stage(StageStatus.SUCCESS, "test", "command")
    first = a_stage(StageStatus.FAILED, reason="exit", exit_code=1)

    alone = report.build_report(a_view(a_build(status=BuildStatus.SUCCESS), first, late))
    both = a_view(a_build(status=BuildStatus.SUCCESS, plan=plan), first, late, other)

    assert alone.splitlines()[0] == "build 42 succeeded · esp32c3 · 38 s · passed on attempt 2"
    assert "build success 38 s (passed on attempt 2) · test success 38 s" in report.build_report(both)
    assert "build success · passed on attempt 2 · 38 s" in report_tables.stage_table(both)


def test_a_failure_of_our_own_is_called_one() -> None:
    """Ours. No stage to blame, so the build's own words."""
    output = "internal error: KeyError; see logs/worker.log"
    view = a_view(a_build(status=BuildStatus.FAILED, reason="internal", build_output=output))

    assert report.build_report(view) == f"build 42 failed · esp32c3 · 38 s · internal\n{output}"


def test_a_full_disk_is_told_before_what_the_compiler_made_of_it() -> None:
    """Ours. The cause, then its effects."""
    full = "no space left on the disk of /p/build: free some, then retry"
    verdict = Verdict(result="fail", summary=full, diagnosis=TWO_ERRORS)
    stage = a_stage(StageStatus.FAILED, reason="exit", exit_code=2, verdict=verdict)

    text = report.build_report(a_view(a_build(status=BuildStatus.FAILED), stage))

    assert text.splitlines()[1] == full
    assert "main/app_main.c:41:5 error" in text


def test_what_a_simulated_idf_built_is_called_so() -> None:
    """interfaces: each simulated part says in its output that it is simulated."""
    details = {"simulated": "by the simulated ESP-IDF", "notes": ["blink.map is missing"]}
    stage = a_stage(StageStatus.SUCCESS, verdict=Verdict(result="pass", details=details))

    lines = report.build_report(a_view(a_build(status=BuildStatus.SUCCESS), stage)).splitlines()

    assert lines == [
        "build 42 succeeded · esp32c3 · 38 s · simulated ESP-IDF",
        "note: blink.map is missing",
    ]


def test_the_round_that_counts_is_the_last_and_a_failed_fix_is_named() -> None:
    """Design: rounds; the stage that failed in an earlier one is history."""
    plan = Plan(stages=a_build().plan.stages, fix=StageSpec(name="fix", kind="agent.fix"), max_rounds=3)
    old = a_stage(StageStatus.FAILED, verdict=Verdict(result="fail", summary="old"), round=1)
    last = a_stage(StageStatus.FAILED, verdict=Verdict(result="fail", diagnosis=TWO_ERRORS), round=2, attempt=2)
    fix = a_stage(StageStatus.FAILED, "fix", verdict=Verdict(result="fail", summary="hunk 1 does not apply"), round=2)

    text = report.build_report(a_view(a_build(status=BuildStatus.FAILED, plan=plan, round=2), old, last, fix))

    assert "attempt 2 · round 2 of 3" in text
    assert "fix: hunk 1 does not apply" in text
    assert "old" not in text


def test_a_success_names_what_was_made_and_where() -> None:
    """interfaces: success in a few lines, at most 500 bytes."""
    verdict = Verdict(result="pass", diagnosis=Diagnosis(warning_count=36), artifacts=FLASHED)
    stage = a_stage(StageStatus.SUCCESS, verdict=verdict)
    build = a_build(status=BuildStatus.SUCCESS, artifacts_path="/home/me/blink/build")

    text = report.build_report(a_view(build, stage, artifacts=FLASHED))

    assert text.splitlines() == [
        "build 42 succeeded · esp32c3 · 38 s · 36 warnings",
        "app blink.bin 182,304 B · elf blink.elf 4.1 MB",
        "flash 0x0 bootloader/bootloader.bin · 0x8000 partition_table/partition-table.bin · 0x10000 blink.bin",
        "in /home/me/blink/build",
    ]
    assert report.size(text) <= 500
    placed = report.build_report(a_view(build, stage, artifacts=FLASHED), place=True)
    project = next(line for line in placed.splitlines() if line.startswith("project ")).removeprefix("project ")
    near = build.model_copy(update={"artifacts_path": f"{project}/build"})
    assert report.build_report(a_view(near, stage, artifacts=FLASHED), place=True).endswith("\nin build")


def test_a_board_that_is_none_is_called_simulated() -> None:
    """Interfaces: each simulated part says so."""
    stage = a_stage(StageStatus.SUCCESS, verdict=Verdict(result="pass", details={"virtual_board": True}))

    assert report.build_report(a_view(a_build(status=BuildStatus.SUCCESS), stage)).endswith("simulated board")


def test_an_address_that_is_none_is_shown_as_it_is() -> None:
    """Ours. It comes from a JSON file that anything may have written."""
    odd = FLASHED[0].model_copy(update={"offset": "later", "path": "odd.bin"})

    text = report.build_report(succeeded_view(artifacts=(odd, *FLASHED)))

    assert "0x10000 blink.bin · later odd.bin" in text


def test_a_success_tells_what_a_test_saw() -> None:
    """Design: a verdict from a run is the line that decided it."""
    stages = (
        a_stage(StageStatus.SUCCESS, verdict=Verdict(result="pass", artifacts=FLASHED, summary="built")),
        a_stage(StageStatus.SUCCESS, "run", "idf.run", verdict=Verdict(result="pass", summary="SELF TEST PASSED")),
    )

    assert "run: SELF TEST PASSED" in report.build_report(a_view(a_build(status=BuildStatus.SUCCESS), *stages))


def test_a_panic_is_told_by_its_frames_and_not_by_the_end_of_the_log() -> None:
    """Issue: the decoded panic: cause, backtrace as function file:line, the lines before it."""
    said = ["panic: Store access fault, core 0", "  inner main/hello.c:6", "before it:", "  | E (80) app: error line"]
    verdict = Verdict(
        result="fail", summary="Store access fault", details={"panic_report": said, "last_lines": ["Rebooting..."]}
    )
    boot = a_stage(StageStatus.FAILED, "boot", "idf.boot", verdict=verdict, reason="exit", exit_code=0)
    plan = Plan(stages=(StageSpec(name="boot", kind="idf.boot"),))

    text = report.build_report(a_view(a_build(status=BuildStatus.FAILED, plan=plan), boot))

    assert text.splitlines()[1:5] == said
    assert "Rebooting" not in text
