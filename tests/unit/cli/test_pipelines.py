"""run PIPELINE: what starts, what a plan shows, and the table of many stages."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from mcp_server.cli.frame import Style, framed
from mcp_server.model import Diagnosis, Plan, Progress, Stage, StageSpec, Verdict
from mcp_server.views import BuildView
from tests.unit.cli.builders import NOW, FakeOrchestrator, build, stage, view
from tests.unit.cli.conftest import Cli

FILE = """
pipeline:
  name: ccu2-full-build
  params: {jobs: 16}
  stages:
    - {name: yocto-image, command: "./build.py -j ${params.jobs}", timeout: 3h}
    - {name: host-build, command: make, depends_on: []}
    - {name: integration-test, command: pytest, depends_on: [host-build]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ci" / "pipeline.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def three(*rows: Stage, **values: object) -> BuildView:
    specs = (
        StageSpec(name="yocto-image", kind="command", host="yocto-builder"),
        StageSpec(name="host-build", kind="command", host="ccu2-builder"),
        StageSpec(name="integration-test", kind="command", host="test-runner", depends_on=("host-build",)),
    )
    running = build(plan=Plan(stages=specs), name="ccu2-full-build")
    return view(running, *rows, name="workspace", **values)


def test_a_pipeline_starts_with_its_parameters_from_its_own_folder(
    cli: Cli, fake: FakeOrchestrator, file: Path
) -> None:
    """Seed. `run pipeline.yaml`; relative paths mean the same wherever it is called from."""
    fake.views = [view(build(status="success"), stage(status="success"))]

    result = cli("run", str(file), "--param", "jobs=8")

    assert result.code == 0
    assert fake.called[0] == ("start_pipeline", "ccu2-full-build", {"jobs": "8"}, file.parent)


def test_a_dry_run_prints_table_and_graph_and_starts_nothing(cli: Cli, fake: FakeOrchestrator, file: Path) -> None:
    """Issue."""
    fake.usual = {"yocto-image": 2700.0, "host-build": 60.0, "integration-test": 30.0}

    result = cli("run", str(file), "--dry-run")

    assert (result.code, fake.called) == (0, [])
    assert result.out.startswith("ccu2-full-build · 3 stages · at most 3 at a time\n#  stage")
    assert "about 45m, by earlier runs" in result.out
    assert "\nflowchart LR\n" in result.out
    assert "nothing was started" in result.err


def test_a_dry_run_as_json_has_the_plan_and_the_graph(cli: Cli, fake: FakeOrchestrator, file: Path) -> None:
    """interfaces: --json on every command that prints."""
    plan = json.loads(cli("run", str(file), "--dry-run", "--json").out)

    assert [row["stage"] for row in plan["stages"]] == ["yocto-image", "host-build", "integration-test"]
    assert plan["params"] == {"jobs": "16"}
    assert plan["mermaid"].startswith("flowchart LR")


def test_a_dry_run_says_that_a_board_is_overwritten(cli: Cli, file: Path) -> None:
    """Issue. In words, and for programs."""
    file.write_text("pipeline: {name: p, stages: [{name: flash, uses: idf.flash}]}")
    note = "note: flash: overwrites the connected board, and asks before the pipeline starts"

    assert cli("run", str(file), "--dry-run").err.startswith(f"{note}\nnothing was started")
    assert json.loads(cli("run", str(file), "--dry-run", "--json").out)["notes"] == [note]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "esp32"], "--target: cannot be combined with the pipeline"),
        (["--host", "far"], "--host: cannot be combined with the pipeline"),
        (["--clean"], "--clean: cannot be combined with the pipeline"),
        (["--param", "jobs"], "--param: 'jobs' should read KEY=VALUE"),
        (["--param", "job=1"], "there is no parameter 'job'"),
        (["--param", "jobs=many"], "params.jobs is a number in the file"),
    ],
)
def test_what_a_pipeline_cannot_take_is_one_sentence(
    cli: Cli, fake: FakeOrchestrator, file: Path, arguments: list[str], said: str
) -> None:
    """Ours."""
    result = cli("run", str(file), *arguments)

    assert (result.code, result.out, fake.called) == (2, "", [])
    assert said in result.err and result.err.count("\n") == 1


def test_parameters_without_a_pipeline_are_refused(cli: Cli, fake: FakeOrchestrator) -> None:
    """Ours."""
    assert cli("run", "--param", "a=b").err.startswith("build-orchestrator: --param: belongs to a pipeline")
    assert cli("run", "--dry-run").err.startswith("build-orchestrator: --dry-run: belongs to a pipeline")
    assert fake.called == []


def test_a_host_is_passed_on(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: run --host."""
    fake.views = [view(build(status="success"), stage(status="success"))]

    cli("run", "--host", "fast")

    assert fake.called[0] == ("start_build", ".", {"target": None, "clean": False, "host": "fast"})


def test_the_seeds_picture_at_80_columns() -> None:
    """Seed. Stage, server, bar or waiting, elapsed; errors, warnings and ETA below."""
    counted = Progress(done=800, total=1000, message="do_compile", errors=0, warnings=12)
    image = stage("yocto-image", host="yocto-builder", progress=counted)

    lines = [line.plain for line in framed(three(image, eta_s=5400.0), NOW, Style(80))]

    assert lines == [
        "┌─ build 42 · ccu2-full-build · workspace · linux ─────────────────── running ─┐",
        "│ Stage 1: yocto-image       yocto-builder  [████████░░]  80%  E0 W12 ·… 3m20s │",
        "│ Stage 2: host-build        ccu2-builder   [waiting]                          │",
        "│ Stage 3: integration-test  test-runner    [waiting]          after host-bui… │",
        "├──────────────────────────────────────────────────────────────────────────────┤",
        "│ Errors: 0  Warnings: 12  ETA: 1h30m  Elapsed: 3m20s                          │",
        "└──────────────────────────────────────────────────────────────────────────────┘",
    ]


def test_the_time_left_goes_on_while_nothing_else_happens() -> None:
    """Ours. Between two changes the clocks on the screen move."""
    lines = framed(three(stage("yocto-image"), eta_s=100.0), NOW + timedelta(seconds=40), Style(80))

    assert "ETA: 1m00s" in lines[-2].plain


def test_a_silent_host_and_an_end_are_told_in_their_lines() -> None:
    """Issue. `unreachable since …`, evidence, why one was skipped."""
    verdict = Verdict(result="fail", diagnosis=Diagnosis(error_count=2, warning_count=1))
    silent = stage("yocto-image", host="yocto-builder", unreachable_since=NOW)
    failed = stage("host-build", "failed", host="ccu2-builder", verdict=verdict)
    skipped = stage("integration-test", "skipped", reason="dependency", started_at=None, ended_at=None)

    lines = [line.plain for line in framed(three(silent, failed, skipped), NOW, Style(80))]

    assert f"[unreachable since {NOW.astimezone():%H:%M}]" in lines[1]
    assert "[failed]" in lines[2] and "E2 W1" in lines[2]
    assert "[skipped]" in lines[3] and "host-build fa" in lines[3]


@pytest.mark.parametrize("height", [3, 10, 19])
def test_of_two_thousand_stages_what_matters_is_shown_in_the_plans_order(height: int) -> None:
    """Issue. Failures first of all, then what runs, then what comes next; the rest is counted."""
    specs = tuple(StageSpec(name=f"stage-{n:04}", kind="command", host="far") for n in range(2000))
    rows = [stage(spec.name, "success") for spec in specs[:900]]
    rows[700] = stage("stage-0700", "failed", exit_code=3)
    rows += [stage(spec.name) for spec in specs[900:904]]
    made = view(build(plan=Plan(stages=specs), name="big"), *rows)

    lines = [line.plain for line in framed(made, NOW, Style(80, rows=height))]

    assert len(lines) == height + 4
    assert "stage-0700" in lines[1] and "[failed]" in lines[1] and "exit code 3" in lines[1]
    assert "running" in lines[2]
    assert "waiting" in lines[height] and "899 success" in lines[height]
    assert {cell_len(line) for line in lines} == {80}
    shown = [int(line.split(":")[0].split()[-1]) for line in lines[1:height]]
    assert shown == sorted(shown)


def test_in_a_pipe_a_line_a_change_also_for_hosts_that_fall_silent(
    cli: Cli, fake: FakeOrchestrator, file: Path
) -> None:
    """Issue. Plain lines, once a change."""
    going = stage("yocto-image", host="yocto-builder", progress=Progress(done=60, total=100, warnings=3))
    silent = going.model_copy(update={"unreachable_since": NOW})
    done = stage("yocto-image", "success", host="yocto-builder")
    fake.views = [three(going), three(silent), three(silent), three(going), three(done)]
    over = view(build(status="success", plan=fake.views[0].build.plan, name="ccu2-full-build"), done)
    fake.views.append(over)

    result = cli("run", str(file))

    assert result.err.splitlines() == [
        "build 42 started",
        "stage yocto-image: running on yocto-builder",
        "stage yocto-image: 60/100; 3 warnings so far",
        f"stage yocto-image: host yocto-builder is unreachable since {NOW.astimezone():%H:%M:%S}; its job may run on",
        "stage yocto-image: host yocto-builder answers again",
        "stage yocto-image: success after 12 s",
    ]
