"""A build as a framed table, at every width, with names that others chose."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mcp_server.cli.frame import Style, framed
from mcp_server.model import Plan, Progress
from tests.unit.cli.builders import NOW, build, failed_stage, half_done, spec, stage, view

NASTY = ["'quoted\"", "two\nlines", "$(reboot)", "\x1b[2Jcleared", "\u202egpj.exe", "넓은이름" * 20, "x" * 10_000, ""]


def shown(width: int, *stages: object, ascii: bool = False, **values: object) -> list[str]:  # noqa: A002
    made = view(build(), *stages, **values)  # pyright: ignore[reportArgumentType]
    return [line.plain for line in framed(made, NOW, Style(width, ascii))]


def test_a_running_build_at_80_columns() -> None:
    """The users' own picture of a dashboard: a frame, a line a stage with its bar, a foot with counts and ETA."""
    lines = shown(80, half_done(), typical_s=290.0)

    assert lines[0] == "┌─ build 42 · greenhouse · linux ──────────────────────────────────── running ─┐"
    assert lines[1] == "│ Stage 1: build  local  [███░░░░░░░]  39%  412/1043 Building C object … 3m20s │"
    assert lines[2].startswith("│ Stage 2: run    local  [waiting]  ")
    assert lines[4].startswith("│ Errors: 0  Warnings: 0  ETA: 1m30s  Elapsed: 3m20s ")


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("width", [20, 40, 63, 64, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_all_end_in_one_column(name: str, width: int) -> None:
    running = stage(progress=Progress(done=1, total=2, message=name), host=name[:50] or "h")
    made = view(
        build(plan=Plan(stages=(spec(name[:60] or "s"), spec("build"))), target=name or None), running, name=name
    )

    lines = [line.plain for line in framed(made, NOW, Style(width))]

    assert {cell_len(line) for line in lines} == {width}
    assert all(letter.isprintable() for line in lines for letter in line)


@given(st.text(max_size=60), st.integers(20, 130), st.integers(0, 10**6), st.integers(0, 10**6))
def test_any_text_and_any_progress_keep_the_frame_whole(text: str, width: int, done: int, total: int) -> None:
    running = stage(progress=Progress(done=done, total=total, message=text))

    lines = [line.plain for line in framed(view(build(target=text), running, name=text), NOW, Style(width))]

    assert {cell_len(line) for line in lines} == {width}


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    lines = shown(80, half_done(), ascii=True)

    assert all(line.replace("·", "-").replace("…", ".").isascii() for line in lines)
    assert "[###.......]" in lines[1]


def test_forty_columns_keep_stage_bar_and_time() -> None:
    lines = shown(40, half_done())

    assert lines[1].startswith("│ 1 build  [██░░░░]  39%")
    assert lines[2].startswith("│ 2 run    [waiting]")


def test_a_failed_stage_shows_its_counts() -> None:
    made = view(build(status="failed"), failed_stage(), stage("run", "skipped", started_at=None, ended_at=None))

    lines = [line.plain for line in framed(made, NOW, Style(80))]

    assert " failed ─┐" in lines[0]
    assert "[failed]" in lines[1] and "E1 W3" in lines[1] and lines[1].endswith("12s │")
    assert "[skipped]" in lines[2]
    assert lines[4].startswith("│ Errors: 1  Warnings: 3  Took: 12s")


def test_a_fix_has_a_line_once_it_was_begun_and_the_title_counts_rounds() -> None:
    plan = Plan(stages=(spec("build"),), fix=spec("fix", "agent.fix"), max_rounds=2)
    before = framed(view(build(plan=plan), failed_stage()), NOW, Style(80))
    after = framed(view(build(plan=plan), failed_stage(), stage("fix", "running", progress=None)), NOW, Style(80))

    assert len(after) == len(before) + 1
    assert "Stage 2: fix" in after[2].plain
    assert "round 1 of 2" in after[0].plain


def test_the_round_under_way_is_shown_and_not_the_one_before() -> None:
    plan = Plan(stages=(spec("build"),), fix=spec("fix", "agent.fix"), max_rounds=2)
    lines = framed(view(build(plan=plan, round=2), failed_stage(), stage("build", "running", round=2)), NOW, Style(80))

    assert "[running]" in lines[1].plain
    assert "Errors: 0" in lines[-2].plain


def test_an_eta_is_never_negative_and_never_shown_for_what_is_over() -> None:
    late = shown(80, half_done(), typical_s=1.0)
    done = view(build(status="success"), stage("build", "success"), typical_s=500.0)

    assert "-" not in late[-2].replace("─", "")
    assert not any("ETA" in line.plain for line in framed(done, NOW + timedelta(hours=1), Style(80)))
