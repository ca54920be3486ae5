"""builds, status and logs: tables that fit, JSON that is whole, pipes that get everything."""

import itertools
import json
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mcp_server.cli import listing
from mcp_server.cli.log_output import TerminalFilter
from mcp_server.idf.verdict import FirmwareLog, judge
from mcp_server.logs import LogSlice
from mcp_server.model import Plan, Project
from tests.unit.cli.builders import NOW, FakeOrchestrator, build, failed_stage, half_done, stage, view
from tests.unit.cli.conftest import Cli

NASTY = ["'quoted\"", "two\nlines", "$(reboot)", "\x1b[2Jcleared", "넓은이름" * 20, "x" * 10_000, ""]


def test_builds_as_a_table(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [
        view(build(43)),
        view(build(42, "failed", target="esp32c3")),
        view(build(8, "failed", name="fix", reason="agent", retry_of=7, plan=Plan(stages=(), fix_first=True))),
        view(build(7, "failed", reason="timeout", retry_of=3)),
    ]

    result = cli("builds", "--limit", "3")

    assert result.code == 0 and result.err == ""
    assert result.out.splitlines() == [
        "BUILD  PROJECT     TARGET   STATUS   STARTED          TOOK  NOTE",
        "   43  greenhouse  linux    running  3 min ago  3 min 20 s",
        "   42  greenhouse  esp32c3  failed   3 min ago        12 s",
        "    8  greenhouse  linux    failed   3 min ago        12 s  the agent failed, fix of 7",
    ]
    assert fake.called == [("list", None, None, 3)]


def test_builds_as_json_has_exact_times_and_the_models_own_keys(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(42, "failed"))]

    (row,) = json.loads(cli("builds", "--json").out)

    assert row["id"] == 42 and row["status"] == "failed" and row["duration"] == 12.0
    assert row["started_at"] == "2026-03-01T11:56:40Z"
    assert row["project"] == {"name": "greenhouse", "path": "/src/greenhouse"}
    assert not {"plan", "args_key", "build_output"} & set(row)


@pytest.mark.parametrize(("arguments", "out"), [(["builds"], ""), (["builds", "--json"], "[]\n"), (["status"], "")])
def test_no_builds_is_said_on_stderr_only(cli: Cli, arguments: list[str], out: str) -> None:
    result = cli(*arguments)

    assert (result.code, result.out) == (0, out)
    assert ("no builds" in result.err) == (out == "")


@pytest.mark.parametrize("limit", ["0", "-1", "10001"])
def test_a_limit_out_of_range_is_refused(cli: Cli, limit: str) -> None:
    result = cli("builds", "--limit", limit)

    assert (result.code, result.out) == (2, "")
    assert result.err == f"build-orchestrator: --limit: {limit} is out of range: 1 to 10000\n"


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_table_is_never_wider_than_the_terminal(name: str, width: int) -> None:
    project = Project(id="p1", name=name, path="/p", created_at=NOW)
    rows = [build(42, "failed", reason="timeout", target="esp32c3"), build(1_000_000, "cancelled")]

    lines = [line.plain for line in listing.build_table(rows, {"p1": project}, NOW, width)]

    # The number, the state and the time stay, come what may: 34 columns.
    assert max(cell_len(line) for line in lines) <= width
    assert all(letter.isprintable() for line in lines for letter in line)
    assert "1000000" in lines[2]
    if width >= 40:
        assert "cancelled" in lines[2]


def test_a_pipe_gets_names_uncut(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(), name="n" * 300)]

    assert "n" * 300 in cli("builds", width=40).out


def test_status_shows_open_builds_in_frames_and_then_the_last(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(44, "pending")), view(build(43), half_done()), view(build(42, "failed"))]

    lines = cli("status").out.splitlines()

    assert [line for line in lines if line.startswith("┌─ build ")] == [lines[0], lines[6]]
    assert lines[0].startswith("┌─ build 43 ") and lines[6].startswith("┌─ build 44 ")
    assert lines[12].startswith("BUILD") and lines[13].startswith("   42")
    assert len(lines) == 14


def test_status_as_json(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(43), half_done()), view(build(42, "failed"))]

    seen = json.loads(cli("status", "--json").out)

    assert [whole["build"]["id"] for whole in seen["open"]] == [43]
    assert seen["open"][0]["stages"][0]["progress"]["done"] == 412
    assert [row["id"] for row in seen["last"]] == [42]


def test_status_watched_in_a_pipe_prints_a_look_a_change_until_ctrl_c(cli: Cli, fake: FakeOrchestrator) -> None:
    """Ours. The fake signal says twice that something changed, then presses Ctrl-C; the same look is printed once."""
    fake.views = [view(build(43), half_done())]

    result = cli("status", "--watch")

    assert result.code == 130
    assert result.out.startswith("┌─ build 43 ") and result.out.count("┌─ build 43 ") == 1
    assert fake.called.count(("get", 43)) == 3  # each look wakes the worker, as `get` does


def test_status_of_one_build_ends_with_its_verdict(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(42, "failed"), failed_stage())]

    result = cli("status", "42")

    assert result.code == 0
    assert result.out.startswith("┌─ build 42 ")
    assert "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'" in result.out
    assert "more: build-orchestrator logs 42 build" in result.out


def test_a_log_slice_goes_to_stdout_and_what_is_said_of_it_to_stderr(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(42, "failed"), failed_stage())]
    fake.slice = LogSlice("build", "one\ntwo", next_offset=7, note="2 of 9 lines match")

    result = cli("logs", "42", "build", "--grep", "o")

    assert (result.code, result.out) == (0, "one\ntwo\n")
    assert result.err == "2 of 9 lines match\nmore: build-orchestrator logs 42 build --offset 7\n"
    assert fake.called == [
        ("log", "42", "build", {"grep": "o", "around": None, "tail": None, "offset": None, "max_bytes": 4000})
    ]


def test_a_log_slice_as_json(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(42, "failed"), failed_stage())]

    assert json.loads(cli("logs", "42", "--json").out) == {
        "stage": "build",
        "text": "one\ntwo",
        "next_offset": None,
        "note": "",
        "start_offset": None,
        "end_offset": None,
        "matches": None,
        "lines": None,
    }


def test_a_followed_log_reaches_a_pipe_byte_for_byte(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.views = [view(build(42), stage())]

    result = cli("logs", "42", "-f")

    assert (result.code, result.out) == (0, "\x1b[31mred\x1b[0m \x1b[2Jline\ntwo\r\n")
    assert fake.called[-1] == ("follow_log", "42", None)


@pytest.mark.parametrize("option", [["--grep", "x"], ["--around", "1"], ["--tail", "1"], ["--offset", "0"], ["--json"]])
def test_following_a_slice_is_refused(cli: Cli, option: list[str]) -> None:
    result = cli("logs", "42", "-f", *option)

    assert (result.code, result.out) == (2, "")
    assert f"{option[0]}: cannot be combined with --follow" in result.err


SAFE = b"\x1b[1;31mred\x1b[0m plain\n\ttab \xc3\xa9\n"


def test_a_terminal_gets_colours_and_nothing_that_moves_its_cursor() -> None:
    data = b"a\x1b[2J\x1b[3;4Hb\x1b]0;title\x07c\x1bP1$r\x1b\\d\x1bce\x1b[6n\x08\x07f\x1b[?25lg\xc2\x9b2Jh" + SAFE

    assert TerminalFilter(coloured=True).feed(data) == b"abcdefg2Jh" + SAFE
    assert TerminalFilter(coloured=True).feed(b"\x1b[\x1b[2J2J\n") == b"[2J\n"
    assert TerminalFilter(coloured=False).feed(SAFE) == b"red plain\n\ttab \xc3\xa9\n"


@given(st.lists(st.integers(0, 80), max_size=8))
def test_where_the_log_is_cut_makes_no_difference(cuts: list[int]) -> None:
    data = b"a\x1b[2Jb\x1b[31mc\x1b]0;title\x07d\xc2\x9be\x1b[0mf\xc3\xa9\n" * 2
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    whole, pieces = TerminalFilter(coloured=True), TerminalFilter(coloured=True)

    fed = b"".join(pieces.feed(data[a:b]) for a, b in itertools.pairwise(places))

    assert fed == whole.feed(data)


def test_times_are_relative_in_tables() -> None:
    rows = [
        build(1, started_at=NOW - timedelta(days=3)),
        build(2, started_at=NOW),
        build(3, started_at=NOW - timedelta(days=90)),
    ]

    lines = [line.plain for line in listing.build_table(rows, {}, NOW, None)]

    assert "3 d ago" in lines[1] and "just now" in lines[2] and "2025-12-01" in lines[3]


def test_tests_of_a_builds_firmware_come_as_junit(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue: Unity and pytest-embedded output become test results in the build's record, JUnit on request."""
    log = FirmwareLog()
    log.feed(b"test_led.c:12:test_blinks:PASS\ntest_led.c:20:test_fades:FAIL: Expected 1 Was 2\n")
    log.feed(b"-----------------------\n2 Tests 1 Failures 0 Ignored\nFAIL\n")
    verdict = judge(log, None)
    fake.views = [view(build(42, "failed", test_results={"qemu": verdict.model_dump(mode="json")}))]

    result = cli("status", "42", "--junit")

    assert result.code == 0
    suite = ElementTree.fromstring(result.out)[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("qemu", "2", "1")
    fake.views = [view(build(42, "success"))]
    assert "has no test results" in cli("status", "42", "--junit").err
    assert "--junit" in cli("status", "--junit").err


def test_a_build_is_compared_with_another(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. Files by hash and sizes, as text or values."""
    fake.views = [view(build(42, "success")), view(build(41, "success"))]
    assert cli("status", "42", "--compare-to", "41").out.startswith("build 42 against build 41: 0 files unchanged\n")
    told = json.loads(cli("status", "42", "--compare-to", "41", "--json").out)
    assert told == {"build": 42, "to": 41, "unchanged": 0, "files": [], "sizes": []}
    assert "--compare-to" in cli("status", "--compare-to", "41").err
    assert "--compare-to" in cli("status", "42", "--compare-to", "41", "--watch").err
