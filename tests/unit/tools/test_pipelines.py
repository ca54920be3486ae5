"""pipeline_run: from where a file is read, what a plan shows, and what a pipeline came to."""

from dataclasses import replace
from pathlib import Path

import pytest
from mcp import Client

from mcp_server.config import Channel, Security
from mcp_server.errors import PipelineError
from mcp_server.model import BuildStatus, Diagnosis, Ending, Plan, Progress, StageSpec, StageStatus, Verdict
from mcp_server.pipelines.pipeline import PipelineStage
from tests.unit.tools.calls import call
from tests.unit.tools.fake import (
    NOON,
    PIPELINE,
    STAGES,
    Fake,
    a_build,
    a_stage,
    a_view,
    failed_pipeline,
    pipeline_view,
)


async def test_a_failed_pipeline_tells_the_stage_that_decided_and_then_each(client: Client, fake: Fake) -> None:
    """interfaces: isError with the report, the deciding stage first, at most 700 bytes."""
    fake.push(failed_pipeline())

    text, is_error = await call(client, "pipeline_run", path="/p/pipeline.yaml")

    assert is_error
    lines = text.splitlines()
    assert lines[0] == (
        "build 42 failed in stage host-build · ccu2-full-build · 38 s · on ccu2-builder · 2 errors, 36 warnings"
    )
    assert "main/app_main.c:41:5 error" in text
    assert lines[-2] == (
        "yocto-image success 38 s · host-build failed exit 1 · integration-test not run: host-build failed"
    )
    assert lines[-1] == 'more: build_log(42, "host-build") · do not rebuild to read the log'
    assert len(text.encode()) <= 700


async def test_a_running_pipeline_tells_what_runs_where_and_what_comes(client: Client, fake: Fake) -> None:
    """Issue. Stages done, errors and warnings so far, ETA, since when a host is silent."""
    passed = Verdict(result="pass", diagnosis=Diagnosis(warning_count=9))
    fake.push(
        pipeline_view(
            BuildStatus.RUNNING,
            a_stage(StageStatus.SUCCESS, "host-build", "command", host="ccu2-builder", verdict=passed),
            a_stage(
                StageStatus.RUNNING,
                "yocto-image",
                "command",
                host="yocto-builder",
                progress=Progress(done=800, total=1000, message="do_compile", errors=1, warnings=3),
                unreachable_since=NOON.replace(hour=13, minute=5),
            ),
            eta_s=5400.0,
            elapsed_s=2700,
        )
    )

    text, is_error = await call(client, "pipeline_run", path="/p/pipeline.yaml", wait_s=0)
    row = fake.views[-1].stages[-1].model_copy(update={"unreachable_since": None})
    fake.push(replace(fake.views[-1], stages=[row]))
    heard_again, _ = await call(client, "build_wait", build=42, timeout_s=0)

    assert not is_error
    assert heard_again.splitlines()[0].endswith(" · about 90 min 0 s left")  # no time is told of a silent host
    assert text.splitlines() == [
        "build 42 running · ccu2-full-build · 45 min 0 s · 1 of 3 stages done · 1 error, 12 warnings",
        "project /home/me/blink",
        "yocto-image on yocto-builder: unreachable since 13:05 UTC · 800/1000 do_compile · 1 error, 3 warnings",
        "then integration-test",
        'more: build_wait(42) · build_log(42, "yocto-image", tail=20)',
    ]


async def test_the_stages_of_a_pipeline_show_host_attempt_and_why_one_was_skipped(client: Client, fake: Fake) -> None:
    """Issue. build_get's stages."""
    fake.push(failed_pipeline())

    text, _ = await call(client, "build_get", build=42, detail="stages")

    assert text.splitlines()[1:] == [
        "yocto-image success · 38 s · on yocto-builder",
        "host-build failed · 38 s · exit code 1 · on ccu2-builder · main/app_main.c:41:5 error: implicit declaration"
        " of function 'gpio_set_levl'; did you mean 'gpio_set_level'?",
        "integration-test skipped (not run: host-build failed)",
    ]


async def test_a_file_is_looked_for_in_the_clients_folder_and_paths_start_from_its_own(
    client: Client, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The same file means the same wherever it is started from."""
    monkeypatch.chdir(tmp_path)
    fake.push(failed_pipeline())

    await call(client, "pipeline_run", path="ci/full.yaml", params={"jobs": 8, "debug": True}, wait_s=0)
    await call(client, "pipeline_run", yaml="pipeline: {}", wait_s=0)

    read = [arguments for name, arguments in fake.calls if name == "read_pipeline"]
    started = [arguments for name, arguments in fake.calls if name == "start_pipeline"]
    once = [one for number, one in enumerate(read) if one not in read[:number]]  # also read for whom to ask what
    assert once == [
        {"path": str(tmp_path / "ci/full.yaml"), "text": None, "params": {"jobs": 8, "debug": True}},
        {"path": None, "text": "pipeline: {}", "params": {}},
    ]
    assert [call["folder"] for call in started] == [tmp_path / "ci", tmp_path]
    assert {call["triggered_by"] for call in started} == {"mcp"}


async def test_a_dry_run_shows_table_and_graph_and_starts_nothing(client: Client, fake: Fake) -> None:
    """Issue. dry_run prints the plan as a table and a Mermaid graph."""
    fake.usual = {"yocto-image": 2700.0, "host-build": 300.0, "integration-test": 60.0}

    text, is_error = await call(client, "pipeline_run", path="/p/pipeline.yaml", dry_run=True)

    assert not is_error
    assert [name for name, _ in fake.calls] == ["read_pipeline"]
    assert "ccu2-full-build · 3 stages" in text
    assert "45m, by earlier runs" in text
    assert "nothing was started" in text
    assert "```mermaid\nflowchart LR\n" in text
    assert "s1 --> s2" in text
    assert "note: notify: " not in text


async def test_a_dry_run_names_channels_that_nobody_set_up(client: Client, fake: Fake) -> None:
    """Ours. A misspelt channel would be found out when a build fails and nobody hears of it."""
    fake.pipeline = PIPELINE.model_copy(update={"on_failure": Ending(notify=("discrod",))})
    fake.config = fake.config.model_copy(update={"notifications": {"discord": Channel(target="#builds")}})

    text, _ = await call(client, "pipeline_run", path="/p/pipeline.yaml", dry_run=True)

    assert "note: notify: discrod is not in config.yaml's notifications: it is told nothing\nnothing was" in text


@pytest.mark.parametrize(
    ("allowed", "note"),
    [
        ("ask", "note: flash: overwrites /dev/ttyUSB0, and asks before the pipeline starts\nnothing was"),
        ("always", "note: flash: overwrites /dev/ttyUSB0, and asks nobody: security.allow_flash is `always`\nnothing"),
        ("never", "note: flash: security.allow_flash of config.yaml is `never`: the pipeline will be refused\nnothing"),
    ],
)
async def test_a_dry_run_says_that_a_board_is_overwritten_and_who_is_asked(
    client: Client, fake: Fake, allowed: str, note: str
) -> None:
    """Issue. A stage that is skipped flashes nothing."""
    stage = PipelineStage(name="flash", base="flash", uses="idf.flash", with_={"port": "/dev/ttyUSB0"}, timeout_s=60)
    skipped = stage.model_copy(update={"name": "other", "base": "other", "skip": "when is false"})
    fake.pipeline = PIPELINE.model_copy(update={"stages": (stage, skipped)})
    fake.config = fake.config.model_copy(update={"security": Security.model_validate({"allow_flash": allowed})})

    text, _ = await call(client, "pipeline_run", path="/p/pipeline.yaml", dry_run=True)

    assert note in text
    assert text.count("note: ") == 1


async def test_a_dry_run_says_who_writes_code_and_what_is_committed_and_pushed(client: Client, fake: Fake) -> None:
    """Issue. Who, where, how often at most; and that a push asks first."""
    given = {"agent": "claude", "max_rounds": 4, "allow": ["main/**"], "commands": ["idf.py build"]}
    fix = PipelineStage(name="mend", base="mend", uses="agent.fix", with_=given, timeout_s=1800)
    commit = PipelineStage(name="commit", base="commit", uses="git.commit", with_={"message": "x"}, timeout_s=60)
    push = PipelineStage(name="push", base="push", uses="git.push", with_={"branch": "bot/1"}, timeout_s=60)
    fake.pipeline = PIPELINE.model_copy(update={"stages": (*PIPELINE.stages, commit, push), "fix": fix})

    text, _ = await call(client, "pipeline_run", path="/p/pipeline.yaml", dry_run=True)

    assert [line for line in text.splitlines() if line.startswith("note: ")] == [
        "note: commit: commits what was changed to the current branch, unless that is the default one",
        "note: push: pushes to branch bot/1 of origin, and asks before the pipeline starts",
        "note: mend: agent claude mends what fails, in a copy of the pipeline's folder: at most 4 rounds, so 3 times,"
        " each 30m; it may change main/**; it may run idf.py build",
    ]


async def test_every_mistake_of_a_pipeline_is_told(client: Client, fake: Fake) -> None:
    """interfaces: all mistakes at once, with file, line and column."""
    fake.error = PipelineError("p.yaml", ["p.yaml:3:5: a", "p.yaml:4:7: b"])

    text, is_error = await call(client, "pipeline_run", path="/p/p.yaml")

    assert is_error
    assert text.splitlines() == ["2 mistakes in the pipeline:", "p.yaml:3:5: a", "p.yaml:4:7: b"]


@pytest.mark.parametrize("path", ["zero\0byte", "x" * 5000, "~nobody-of-that-name/x"])
async def test_a_nasty_path_is_refused_in_a_line(client: Client, fake: Fake, path: str) -> None:
    """Ours."""
    text, is_error = await call(client, "pipeline_run", path=path)

    assert is_error
    assert text.startswith("path: ") and "\n" not in text
    assert not fake.calls


async def test_two_thousand_stages_are_told_in_700_bytes_running_or_failed(client: Client, fake: Fake) -> None:
    """Issue. Many stages: only what matters."""
    specs = tuple(StageSpec(name=f"stage-{n:04}", kind="command", host="far") for n in range(2000))
    plan = Plan(stages=specs)
    rows = [a_stage(StageStatus.SUCCESS, spec.name, "command") for spec in specs[:1500]]
    broken = a_stage(StageStatus.FAILED, "stage-1500", "command", reason="exit", exit_code=3)
    going = [a_stage(StageStatus.RUNNING, spec.name, "command", host="far") for spec in specs[1501:1541]]
    fake.push(a_view(a_build(status=BuildStatus.RUNNING, plan=plan, name="big", target=None), *rows, broken, *going))

    running, _ = await call(client, "build_wait", build=42, timeout_s=0)
    table, _ = await call(client, "build_get", build=42, detail="stages")
    fake.push(a_view(a_build(status=BuildStatus.FAILED, plan=plan, name="big", target=None), *rows, broken))
    failed, _ = await call(client, "build_wait", build=42, timeout_s=0)

    assert len(running.encode()) <= 1500
    assert "1501 of 2000 stages done, 1 failed" in running
    assert "and 32 more under way" in running
    assert table.splitlines()[1].startswith("stage-1500 failed")
    assert len(failed.encode()) <= 700
    assert "2000 stages: 1 failed, 499 waiting, 1500 success · stage-1500 failed exit 3" in failed


async def test_an_allowed_failure_is_not_what_a_build_failed_by(client: Client, fake: Fake) -> None:
    """interfaces: allow_failure."""
    plan = Plan(stages=(STAGES[0].model_copy(update={"allow_failure": True}), *STAGES[1:]))
    rows = [a_stage(StageStatus.FAILED, name, "command", reason="exit", exit_code=1) for name in PIPELINE.graph]
    fake.push(a_view(a_build(status=BuildStatus.FAILED, plan=plan), *rows[:2]))

    text, _ = await call(client, "build_wait", build=42, timeout_s=0)

    assert text.startswith("build 42 failed in stage host-build")
    assert "yocto-image failed exit 1 (allowed)" in text
