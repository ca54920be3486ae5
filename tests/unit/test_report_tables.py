"""Tables of a report: lists, stages, events, files, logs, what doctor found."""

from datetime import timedelta

import pytest

from mcp_server import report, report_parts, report_pipeline, report_tables
from mcp_server.idf.doctor import Check
from mcp_server.logs import LogSlice
from mcp_server.model import (
    Artifact,
    BuildStatus,
    Event,
    Plan,
    StageSpec,
    StageStatus,
)
from mcp_server.views import BuildView
from tests.unit.tools.fake import (
    FLASHED,
    NOON,
    PROJECT,
    a_build,
    a_stage,
    a_view,
    succeeded_view,
)


def test_a_list_has_one_line_a_build_whatever_a_project_is_called() -> None:
    """Ours. A folder's name may hold a newline."""
    builds = [a_build(n, BuildStatus.FAILED, duration=3.25, reason="timeout") for n in range(300, 0, -1)]
    projects = {PROJECT.id: PROJECT.model_copy(update={"name": "bl\nink\x1b[2J"})}

    lines = report_tables.build_list(builds, projects).splitlines()

    assert lines[0] == "300 failed · 2026-01-31 12:00 UTC · 3.2 s · bl ink · esp32c3 · idf_build · timed out"
    assert lines[-1] == f"… and {300 - len(lines) + 1} more lines"
    assert report.size("\n".join(lines)) <= 4000
    assert report_tables.build_list([], {}) == "no builds yet: idf_build, remote_build and pipeline_run start one"


def test_what_a_build_left_is_told_against_another() -> None:
    """Issue. By hash, so that a file that is as large as before is still seen to have changed."""

    def left(number: int, **files: tuple[int, str]) -> BuildView:
        kept = [Artifact(path=path, size=size, sha256=mark * 64) for path, (size, mark) in files.items()]
        return a_view(a_build(number), a_stage(StageStatus.SUCCESS), artifacts=tuple(kept))

    now = left(42, app=(1200, "a"), same=(5, "b"), fresh=(7, "c"), touched=(9, "d"))
    then = left(41, app=(1000, "e"), same=(5, "b"), old=(3, "f"), touched=(9, "0"))
    assert report_tables.artifact_changes(now, then).splitlines() == [
        "build 42 against build 41: 1 file unchanged",
        "app changed, 1,200 (+200)",
        "fresh new, 7",
        "old gone, was 3",
        "touched changed, 9 (+0)",
    ]


def test_tables_show_stages_events_and_files() -> None:
    """interfaces: build_get's details."""
    stage = a_stage(StageStatus.FAILED, reason="timeout", exit_code=143, attempt=2)
    view = a_view(a_build(status=BuildStatus.FAILED), stage, artifacts=FLASHED)
    event = Event(id=7, type="build.status", build=42, ts=NOON, data={"status": "failed", "note": "a\nb"})

    assert report_tables.stage_table(view).splitlines()[1] == (
        "build failed · attempt 2 · 38 s · exit code 143 · timeout · idf.build"
    )
    assert report_tables.event_list(view, [event] * 40).splitlines()[:2] == [
        "build 42: 40 events, the newest",
        '7 12:00:00 build.status {"status": "failed", "note": "a\\nb"}',
    ]
    assert (
        report_tables.artifact_table(view).splitlines()[2]
        == f"blink.bin · 182,304 B · app · at 0x10000 · sha256 {'a' * 16}"
    )
    assert report_tables.artifact_table(a_view(a_build())) == "build 42 left no artifacts: it is pending"


def test_files_are_told_with_where_they_are_kept_and_links_within_the_table() -> None:
    """Ours. A long list gives way to the links, of what is flashed first."""
    many = tuple(FLASHED[2].model_copy(update={"path": f"out/{number}.txt", "kind": "file"}) for number in range(200))
    view = a_view(a_build(status=BuildStatus.SUCCESS), a_stage(StageStatus.SUCCESS), artifacts=(*many, *FLASHED))
    paths = report_tables.linked_files(view)
    assert paths[:4] == ["blink.bin", "bootloader/bootloader.bin", "partition_table/partition-table.bin", "blink.elf"]
    assert len(paths) == report_tables.MOST_LINKS

    links = {path: f"http://host/{path}?{'s' * 120}" for path in paths}
    text = report_tables.artifact_table(view, "stored in s3://b", links)
    assert len(text.encode()) <= 4000
    assert " · stored in s3://b" in text.splitlines()[0]
    assert text.splitlines()[-8:] == list(links.values())
    away = report_tables.artifact_table(view, "not here, in s3://b if they are anywhere")
    assert away.splitlines()[0] == "build 42: 204 files · not here, in s3://b if they are anywhere"


def test_sizes_are_compared_file_by_file() -> None:
    """interfaces: compare_to."""
    now = succeeded_view(artifacts=FLASHED)
    before = (
        FLASHED[0],
        FLASHED[1].model_copy(update={"size": 180_000}),
        FLASHED[2].model_copy(update={"path": "old.elf"}),
    )
    then = succeeded_view(artifacts=before)

    assert report_tables.size_table(now).splitlines()[1] == "blink.bin 182,304"
    assert report_tables.size_table(now, then).splitlines() == [
        "build 42 against build 42: bytes on disk",
        "blink.bin 182,304 +2,304",
        "blink.elf 4,112,880 new",
        "bootloader/bootloader.bin 20,512 unchanged",
        "partition_table/partition-table.bin 3,072 new",
        "old.elf gone, was 4,112,880",
    ]


def test_a_log_says_how_to_read_on() -> None:
    """Ours."""
    text = report_tables.log_text(42, LogSlice("build", "a\nb\n", next_offset=4000, note="2 of 9 lines match"))

    assert text.splitlines() == ["a", "b", "[2 of 9 lines match]", '[more: build_log(42, "build", offset=4000)]']
    assert report_tables.log_text(42, LogSlice("build", "")) == "nothing in the log of stage build here"


def test_doctor_tells_problems_with_their_mending_and_the_rest_in_a_line() -> None:
    """interfaces: what is missing and the command that mends it."""
    checks = [
        Check(name="ccache", status="warn", found="absent: builds are slower", mend="apt install ccache"),
        Check(name="ESP-IDF", status="fail", found="none found", mend="git clone …"),
        Check(name="ninja", status="ok", found="1.13"),
        Check(name="git", status="ok", found="2.39"),
    ]

    assert report_tables.doctor_report(checks).splitlines() == [
        "2 problems: an ESP-IDF build could not start here; builds on other hosts are not affected",
        "ESP-IDF: none found",
        "  mend: git clone …",
        "warning: ccache: absent: builds are slower",
        "  mend: apt install ccache",
        "fine: ninja 1.13, git 2.39",
    ]
    assert report_tables.doctor_report(checks[:1]).startswith("1 problem:\nwarning: ccache")
    assert report_tables.doctor_report(checks[2:]).splitlines() == ["all is well", "fine: ninja 1.13, git 2.39"]
    many = [
        Check(name=f"check {n}", status="ok" if n % 2 else "fail", found="d" * 400, mend="m" * 400) for n in range(40)
    ]
    assert report.size(report_tables.doctor_report(many)) <= 1500


def test_a_board_that_was_asked_for_is_told_first_and_whole() -> None:
    """Issue. It was the question; a long list of what else is fine used to clip it away."""
    board = "ESP32-C3 (QFN32) v0.4, MAC 7c:df:a1:00:11:22, 4MB flash, secure boot off"
    checks = [
        *(Check(name=f"tool {n}", status="ok", found="/opt/" + "d" * 60) for n in range(9)),
        *(Check(name=f"missing {n}", status="fail", found="f" * 400, mend="m" * 400) for n in range(9)),
        Check(name="/dev/ttyUSB0", status="ok", found="CP2102N", about="board"),
        Check(name="board on /dev/ttyUSB0", status="ok", found=board, about="board"),
    ]

    text = report_tables.doctor_report(checks)

    assert text.splitlines()[:3] == [
        "/dev/ttyUSB0: CP2102N",
        f"board on /dev/ttyUSB0: {board}",
        "9 problems: an ESP-IDF build could not start here; builds on other hosts are not affected",
    ]
    assert text.splitlines()[-1].startswith("fine: tool 0 ")
    assert report.size(text) <= 1500
    many = [Check(name=f"/dev/ttyUSB{n}", status="ok", found="é" * 200, about="board") for n in range(8)]
    assert report.size(report_tables.doctor_report([*many, *checks])) <= 1500


def test_a_board_that_is_not_there_stops_no_build() -> None:
    """Issue. Its line is the first problem, and the headline says nothing of builds."""
    checks = [
        Check(name="ccache", status="warn", found="absent"),
        Check(name="/dev/ttyUSB7", status="fail", found="is not there on local", mend="plug it in", about="board"),
    ]

    assert report_tables.doctor_report(checks) == (
        "2 problems:\n/dev/ttyUSB7: is not there on local\n  mend: plug it in\nwarning: ccache: absent"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.04 s"), (9.94, "9.9 s"), (38.2, "38 s"), (119.4, "119 s"), (725, "12 min 5 s"), (7400, "2 h 3 min")],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    """Ours."""
    assert report.duration(timedelta(seconds=seconds).total_seconds()) == text


def test_a_stage_that_was_not_run_names_the_one_that_failed() -> None:
    """Ours. The word `dependency` told nobody anything; what a stage waits for may have been skipped for the same."""
    specs = (
        StageSpec(name="lint", kind="command", allow_failure=True),
        StageSpec(name="build", kind="command"),
        StageSpec(name="flash", kind="command", depends_on=("lint", "build")),
        StageSpec(name="boot", kind="command", depends_on=("flash",)),
    )
    ends = [
        a_stage(StageStatus.FAILED, "lint", reason="exit"),
        a_stage(StageStatus.FAILED, "build", reason="exit"),
        a_stage(StageStatus.SKIPPED, "flash", reason="dependency", started_at=None),
        a_stage(StageStatus.SKIPPED, "boot", reason="dependency", started_at=None),
    ]
    later = a_stage(StageStatus.SUCCESS, "build", attempt=2, ended_at=NOON + timedelta(hours=1))
    view = a_view(a_build(status=BuildStatus.FAILED, plan=Plan(stages=specs)), *ends)
    line = report_pipeline.stages_line(view)

    assert "flash not run: build failed · boot not run: build failed" in line
    assert "boot skipped (not run: build failed)" in report_tables.stage_table(view)
    assert report_parts.not_run(a_view(view.build, *ends, later), ends[3]) == "not run: build failed"
    ends[1] = ends[1].model_copy(update={"status": StageStatus.CANCELLED})
    assert report_parts.not_run(a_view(view.build, *ends), ends[3]) == "not run: build was cancelled"
    assert report_parts.not_run(a_view(view.build, ends[3]), ends[3]) == "not run: an earlier stage failed"
    assert report_parts.not_run(view, ends[0]) == ""

    names = ["a", "b", "c", "d"]
    all_before = [*(StageSpec(name=name, kind="command") for name in names)]
    plan = Plan(stages=(*all_before, StageSpec(name="last", kind="command", depends_on=tuple(names))))
    skipped = a_stage(StageStatus.SKIPPED, "last", reason="dependency", started_at=None)

    def said(*statuses: StageStatus) -> str:
        rows = [a_stage(status, name, reason="exit") for name, status in zip(names, statuses, strict=False)]
        return report_parts.not_run(a_view(a_build(plan=plan), *rows, skipped), skipped)

    assert said(StageStatus.FAILED, StageStatus.FAILED) == "not run: a and b failed"
    assert said(*[StageStatus.FAILED] * 3) == "not run: a, b and c failed"
    assert said(*[StageStatus.CANCELLED] * 4) == "not run: a, b and 2 more were cancelled"
    assert said(StageStatus.FAILED, StageStatus.CANCELLED) == "not run: a failed, b was cancelled"
