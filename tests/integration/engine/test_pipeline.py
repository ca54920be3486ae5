"""Pipelines on this machine by a real worker: secrets, artifacts, what a command does to its surroundings."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.errors import BadInput, PipelineError
from mcp_server.model import BuildStatus, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.orders import RemoteAsk
from mcp_server.secret_store import set_secret
from mcp_server.views import BuildView
from tests.support.workers import end_everything, end_worker

pytestmark = pytest.mark.worker_inside

LIMIT_S = 40
SECRET = "s3cr3t-value&\\1"


async def run(orchestrator: Orchestrator, folder: Path, text: str, **params: object) -> BuildView:
    async with asyncio.timeout(LIMIT_S):
        pipeline = await orchestrator.read_pipeline(text=text, params=params)
        started = await orchestrator.start_pipeline(pipeline, folder)
        return await orchestrator.wait(started.build.id, LIMIT_S - 5)


async def log(orchestrator: Orchestrator, view: BuildView, stage: str | None = None) -> str:
    return (await orchestrator.log(view.build.id, stage)).text


def everything_stored(home: Path) -> bytes:
    """Every byte below HOME but the secrets' own folder."""
    files = [path for path in home.rglob("*") if path.is_file() and "secrets" not in path.relative_to(home).parts]
    return b"".join(path.read_bytes() for path in files)


async def test_a_secret_reaches_the_command_and_nothing_else(
    orchestrator: Orchestrator, home: Path, folder: Path
) -> None:
    """Design: secrets are redacted wherever shown. The command prints it; log, rows and events have none of it."""
    orchestrator.config.make_home()
    set_secret(orchestrator.config.secrets_dir, "TOKEN", SECRET)
    view = await run(
        orchestrator,
        folder,
        """
pipeline:
  name: deploy
  stages:
    - name: push
      command: |
        printf '%s' "$TOKEN" | wc -c
        printf 'got %s and %s' "$TOKEN" "$TOKEN"
        echo "error: token $TOKEN refused" >&2
        exit 3
      secrets: [TOKEN]
      retry: 0
""",
    )

    assert (await log(orchestrator, view)).splitlines() == [str(len(SECRET)), "got *** and ***error: token *** refused"]
    assert [row.exit_code for row in view.stages] == [3]
    assert SECRET.encode() not in everything_stored(home)


async def test_a_secret_that_is_not_there_is_named_with_the_command_that_sets_it(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Interfaces."""
    text = "pipeline:\n  name: p\n  stages:\n    - {name: a, command: 'true', secrets: [NOT_THERE]}\n"
    with pytest.raises(PipelineError, match=r"stage .a.: .*build-orchestrator secrets set NOT_THERE"):
        await run(orchestrator, folder, text)

    assert await orchestrator.list() == []


async def test_artifacts_of_one_stage_are_there_for_the_next_by_hash(orchestrator: Orchestrator, folder: Path) -> None:
    """Interfaces: artifacts, needs_artifacts. The same path below the other stage's folder."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    view = await run(
        orchestrator,
        folder,
        """
pipeline:
  name: p
  stages:
    - name: make
      command: mkdir -p out/deep && echo one >'out/a b.txt' && echo two >out/deep/c && echo no >out/x.o
      workdir: a
      artifacts: ["out/*.txt", "*.elf", "out/deep/**", "*.map"]
    - name: use
      command: cat 'out/a b.txt' out/deep/c; ls out
      workdir: b
      needs_artifacts: [make]
""",
    )

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert (await log(orchestrator, view, "use")).split() == ["one", "two", "a", "b.txt", "deep"]
    assert sorted(artifact.path for artifact in view.artifacts) == ["out/a b.txt", "out/deep/c"]
    assert view.stages[0].verdict
    assert view.stages[0].verdict.details["notes"] == ["nothing matches *.elf", "nothing matches *.map"]


async def test_parameters_with_metacharacters_stay_data(orchestrator: Orchestrator, folder: Path) -> None:
    """Issue: shell metacharacters in every field."""
    nasty = "$(touch pwned) `touch pwned` '; touch pwned; \" \\ * ~ \u00e9"
    text = """
pipeline:
  name: p
  params: {who: nobody}
  stages:
    - name: a
      command: printf '%s' "${params.who}"
      env: {W: "${params.who}"}
"""
    view = await run(orchestrator, folder, text, who=nasty)

    assert await log(orchestrator, view) == nasty
    assert list(folder.iterdir()) == []


async def test_a_command_that_reads_its_input_ends_and_one_that_wants_a_terminal_is_told(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Issue."""
    text = "pipeline:\n  name: p\n  stages:\n    - {name: a, command: 'cat; test -t 0 || echo none; tty'}\n"
    view = await run(orchestrator, folder, text.replace("}", ", retry: 0}"))

    assert (await log(orchestrator, view)).splitlines() == ["none", "not a tty"]
    assert view.build.status is BuildStatus.FAILED


async def test_a_workdir_that_is_not_there_is_named(orchestrator: Orchestrator, folder: Path) -> None:
    """Issue."""
    text = "pipeline:\n  name: p\n  stages:\n    - {name: a, command: 'true', workdir: /nowhere/at/all, retry: 0}\n"
    view = await run(orchestrator, folder, text)

    assert "cannot enter /nowhere/at/all" in (view.build.build_output or "")


async def test_a_retry_repeats_only_what_failed_with_what_the_rest_left(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Interfaces: build_retry. Artifacts of the stages that passed are those of the first build."""
    text = """
pipeline:
  name: p
  stages:
    - {name: make, command: "echo made >out.txt", artifacts: [out.txt]}
    - {name: use, command: "cat out.txt; test -e allowed", needs_artifacts: [make], retry: 0}
"""
    failed = await run(orchestrator, folder, text)
    (folder / "allowed").touch()
    (folder / "out.txt").unlink()
    async with asyncio.timeout(LIMIT_S):
        started = await orchestrator.retry(failed.build.id)
        view = await orchestrator.wait(started.build.id, LIMIT_S - 5)

    assert failed.build.status is BuildStatus.FAILED
    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert [row.stage for row in view.stages] == ["use"]


async def test_a_server_added_while_the_worker_runs_is_known_to_it(
    orchestrator: Orchestrator, home: Path, folder: Path, tmp_path: Path
) -> None:
    """Ours. A worker reads config.yaml again when it changes."""
    await run(orchestrator, folder, "pipeline:\n  name: p\n  stages: [{name: a, command: 'true'}]\n")
    there = tmp_path / "there"
    there.mkdir()
    channel = ["env", "-i", f"HOME={there}", f"PATH={os.environ['PATH']}"]
    (home / "config.yaml").write_text(json.dumps({"servers": {"new": {"exec": channel, "workdir": str(there)}}}))
    later = Orchestrator(load_config())
    async with asyncio.timeout(LIMIT_S):
        started = await later.start_remote(RemoteAsk("new", command="pwd; echo $HOME"))
        view = await later.wait(started.build.id, LIMIT_S - 5)
        text = await log(later, view)
    await later.aclose()

    assert text.split() == [str(there), str(there)]


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (RemoteAsk("nowhere", command="x"), r"no server 'nowhere'"),
        (RemoteAsk("local", command="x", task="y", workdir="/"), "give either task or command, not both"),
        (RemoteAsk("local", workdir="/"), "give either task or command"),
        (RemoteAsk("local", task="x", workdir="/"), "no `build` in config.yaml"),
        (RemoteAsk("local", command="x"), "give workdir, or a project to sync"),
        (RemoteAsk("local", command="x", project="/nowhere"), "'/nowhere' is no folder of this machine"),
        (RemoteAsk("local", command="x", workdir="/", timeout="3 hours"), "write 3h"),
    ],
)
async def test_bad_input_is_refused_before_a_row_is_written(
    orchestrator: Orchestrator, ask: RemoteAsk, sentence: str
) -> None:
    """Issue."""
    with pytest.raises(BadInput, match=re.escape(sentence)):
        await orchestrator.start_remote(ask)

    assert await orchestrator.list() == []


async def test_commands_are_run_by_bash(orchestrator: Orchestrator, folder: Path) -> None:
    """Interfaces: by bash -c, no tty."""
    text = "pipeline:\n  name: p\n  stages: [{name: a, command: '[[ a == a ]] && echo ${BASH_VERSION:+bash}'}]\n"
    view = await run(orchestrator, folder, text)

    assert (await log(orchestrator, view)).strip() == "bash"
    assert [row.status for row in view.stages] == [StageStatus.SUCCESS]


async def test_a_server_taken_out_of_the_configuration_keeps_its_job_until_it_is_back(
    home: Path, tmp_path: Path
) -> None:
    """Ours. Another worker cannot reach the job, says so, and has its exact end when the server is named again."""
    there = tmp_path / "there"
    there.mkdir()
    channel = ["env", "-i", f"HOME={there}", f"PATH={os.environ['PATH']}"]
    config = json.dumps({"servers": {"far": {"exec": channel, "workdir": str(there)}}})
    (home / "config.yaml").write_text(config)
    orchestrator = Orchestrator(load_config())
    async with asyncio.timeout(LIMIT_S):
        command = "until [ -e go ]; do sleep 0.05; done; exit 5"
        number = (await orchestrator.start_remote(RemoteAsk("far", command=command))).build.id
        while not any(row.status is StageStatus.RUNNING for row in (await orchestrator.get(number)).stages):
            await orchestrator.wait(number, 0.2)
        (home / "config.yaml").write_text("{}")
        end_worker(home, signal.SIGKILL)
        while not any(row.unreachable_since for row in (await orchestrator.get(number)).stages):
            await orchestrator.wait(number, 0.2)
        (there / "go").touch()
        (home / "config.yaml").write_text(config)
        view = await orchestrator.wait(number, LIMIT_S - 5)
    await orchestrator.aclose()
    end_everything(home)

    assert [(row.exit_code, row.attempt) for row in view.stages] == [(5, 1)]


async def test_what_is_left_at_one_path_by_two_stages_is_refused_where_it_differs(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Ours. One would have silently taken the other's place."""
    text = """
pipeline:
  name: p
  stages:
    - {name: cell, command: "mkdir -p ${matrix.n}; echo ${matrix.n} >${matrix.n}/app.bin",
       matrix: {n: [a, b]}, workdir: ".", artifacts: ["${matrix.n}/app.bin"]}
    - {name: both, command: "cat a/app.bin b/app.bin", needs_artifacts: [cell], retry: 0}
    - {name: x, command: "mkdir -p x && echo x >x/app", workdir: ".", artifacts: [x/app], depends_on: both}
    - {name: y, command: "mkdir -p y/x && echo y >y/x/app", workdir: "."}
    - {name: z, command: "true", workdir: y, artifacts: [x/app], depends_on: y}
    - {name: clash, command: "true", needs_artifacts: [x, z], retry: 0}
"""
    view = await run(orchestrator, folder, text)
    rows = {row.stage: row for row in view.stages}

    assert rows["both"].status is StageStatus.SUCCESS
    assert rows["clash"].verdict
    assert "x/app of x and of z are two files: give them different paths" in rows["clash"].verdict.summary


async def test_reports_of_a_stage_that_may_fail_are_there_for_the_next(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Ours. The usual artifact of a failed test stage is its report."""
    text = """
pipeline:
  name: p
  stages:
    - {name: tests, command: "echo 3 failed >report; exit 1", allow_failure: true, artifacts: [report], retry: 0}
    - {name: show, command: "cat report", needs_artifacts: [tests]}
"""
    view = await run(orchestrator, folder, text)

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert (await log(orchestrator, view, "show")).strip() == "3 failed"


async def test_artifacts_that_cannot_be_taken_leave_the_jobs_own_end_as_it_is(
    orchestrator: Orchestrator, home: Path, folder: Path
) -> None:
    """Ours. A failed compile is that, whatever became of its files; a pass that left nothing to keep is none."""
    orchestrator.config.make_home()
    (home / "artifacts" / "blobs").write_text("in the way\n")
    broken = "echo 'main.c:3:5: error: boom'; touch out; exit 2"
    text = """
pipeline:
  name: p
  stages:
    - {name: bad, command: "BROKEN", artifacts: [out], retry: 0}
    - {name: good, command: "echo fine >out", artifacts: [out], retry: 0}
""".replace("BROKEN", broken)
    view = await run(orchestrator, folder, text)
    rows = {row.stage: row for row in view.stages}

    assert (rows["bad"].reason, rows["bad"].exit_code) == ("exit", 2)
    assert rows["bad"].verdict
    assert rows["bad"].verdict.diagnosis
    assert rows["bad"].verdict.diagnosis.errors[0].message == "boom"
    assert (rows["good"].status, rows["good"].reason, rows["good"].exit_code) == (StageStatus.FAILED, "archive", 0)


async def test_an_attempt_may_leave_a_folder_where_the_last_one_left_a_file(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Ours. The build went from the top for ever."""
    command = "if [ -e out ]; then rm out; mkdir out; echo 2 >out/a; else echo 1 >out; exit 1; fi"
    text = f"""
pipeline:
  name: p
  stages: [{{name: a, command: "{command}", artifacts: ["out", "out/**"], retry: 1}}]
"""
    view = await run(orchestrator, folder, text)

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output


async def test_retries_of_two_builds_are_two(orchestrator: Orchestrator, folder: Path) -> None:
    """Ours. Each goes on from what its own build left."""
    text = "pipeline:\n  name: p\n  stages: [{name: a, command: 'exit 3', retry: 0}]\n"
    first, second = await run(orchestrator, folder, text), await run(orchestrator, folder, text)
    again = [await orchestrator.retry(view.build.id) for view in (first, second)]

    assert [started.build.retry_of for started in again] == [first.build.id, second.build.id]


async def test_the_last_words_of_a_command_are_no_error_of_themselves(orchestrator: Orchestrator, folder: Path) -> None:
    """Ours. `echo x; false` names no cause, so none is made up."""
    text = "pipeline:\n  name: p\n  stages: [{name: a, command: 'echo built 3 files; exit 3', retry: 0}]\n"
    view = await run(orchestrator, folder, text)

    assert view.stages[0].verdict
    assert view.stages[0].verdict.diagnosis
    assert view.stages[0].verdict.diagnosis.error_count == 0
    assert view.stages[0].verdict.summary == "exit code 3"


async def test_a_synced_tree_is_one_builds_at_a_time(home: Path, tmp_path: Path) -> None:
    """Ours. The second sync would have changed what the first build reads; it waits, and then has the new file."""
    there, project = tmp_path / "there", tmp_path / "project"
    there.mkdir()
    project.mkdir()
    (project / "a").write_text("old\n")
    channel = ["env", "-i", f"HOME={there}", f"PATH={os.environ['PATH']}"]
    (home / "config.yaml").write_text(json.dumps({"servers": {"far": {"exec": channel, "slots": 5}}}))
    orchestrator = Orchestrator(load_config())
    async with asyncio.timeout(LIMIT_S):
        command = "until [ -e ~/go ]; do sleep 0.05; done; cat a"
        first = (await orchestrator.start_remote(RemoteAsk("far", command=command, project=str(project)))).build.id
        while not any(row.status is StageStatus.RUNNING for row in (await orchestrator.get(first)).stages):
            await orchestrator.wait(first, 0.2)
        (project / "a").write_text("new\n")
        second = (await orchestrator.start_remote(RemoteAsk("far", command="cat a", project=str(project)))).build.id
        while not any(
            f"which build {first} uses" in (row.progress.message if row.progress else "")
            for row in (await orchestrator.get(second)).stages
        ):
            await orchestrator.wait(second, 0.2)
        (there / "go").touch()
        await orchestrator.wait(second, LIMIT_S - 5)
        logs = [(await orchestrator.log(number)).text for number in (first, second)]
    await orchestrator.aclose()
    end_everything(home)

    assert logs == ["old", "new"]
