"""`idf.run` through a worker: programs in firmware's place, which print what firmware prints."""

import json
import sys
from pathlib import Path

import pytest

from mcp_server import plans
from mcp_server.model import BuildStatus, Plan, Verdict
from mcp_server.orchestrator import Orchestrator
from tests.support.faults import processes_with

pytestmark = pytest.mark.worker_inside

WAIT_S = 40
UNITY = "main/t.c:3:opens:PASS\\nmain/t.c:9:closes:%s\\n\\n---\\n2 Tests %d Failures 0 Ignored\\nFAIL\\n"


@pytest.fixture
def program(folder: Path) -> Path:
    """The build directory of a project whose firmware is to be written."""
    build = folder / "build"
    build.mkdir()
    (build / "project_description.json").write_text(json.dumps({"target": "linux", "app_elf": "app.elf"}))
    return build


async def run(
    orchestrator: Orchestrator, program: Path, text: str, *, expect: tuple[str, ...] = (), timeout_s: float = 20
) -> tuple[BuildStatus, Verdict]:
    """Status of the build and verdict of its only stage, whose firmware is the Python `text`."""
    elf = program / "app.elf"
    elf.write_text(f"#!{sys.executable} -u\nimport os, sys, time\n{text}\n")
    elf.chmod(0o755)
    stage = plans.idf_run(program.parent, expect=expect, fail_on=["FAULT"], timeout_s=timeout_s)
    plan = Plan(stages=(stage.model_copy(update={"depends_on": ()}),))
    started = await orchestrator.start_plan(program.parent, plan, name="run")
    view = await orchestrator.wait(started.build.id, WAIT_S)
    verdict = view.stages[0].verdict
    assert verdict is not None
    return view.build.status, verdict


async def test_expected_line_passes_and_ends_the_program(orchestrator: Orchestrator, program: Path) -> None:
    """Issue. Firmware goes on for ever; the verdict does not wait for it."""
    text = "print('\\033[0;32mI (5) app: ready\\033[0m', flush=True)\ntime.sleep(600)"
    status, verdict = await run(orchestrator, program, text, expect=("app: ready$",))

    assert (status, verdict.result, verdict.summary) == (BuildStatus.SUCCESS, "pass", "I (5) app: ready")
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []


async def test_failed_assertion_is_named_and_its_tests_are_kept(orchestrator: Orchestrator, program: Path) -> None:
    """Issue. A panic in the middle of a run; the words are newlib's and glibc's."""
    text = (
        "print('main/t.c:3:opens:PASS')\n"
        "print('app: main/valve.c:41: turn: Assertion `valve != NULL\\' failed.', flush=True)\nos.abort()"
    )
    status, verdict = await run(orchestrator, program, text, expect=("ready",))

    assert (status, verdict.result) == (BuildStatus.FAILED, "fail")
    assert "valve.c:41" in verdict.summary
    assert [case["result"] for case in verdict.details["tests"]["cases"]] == ["pass", "fail"]


async def test_failed_test_fails_the_build(orchestrator: Orchestrator, program: Path) -> None:
    """Issue. Unity's results, without any pattern."""
    text = f"print('{UNITY % ('FAIL: Expected 1 Was 2', 1)}', flush=True)\ntime.sleep(600)"
    status, verdict = await run(orchestrator, program, text)

    assert status is BuildStatus.FAILED
    assert verdict.summary == "1 of 2 tests failed: closes (main/t.c:9): Expected 1 Was 2"


async def test_crash_without_a_word_is_named(orchestrator: Orchestrator, program: Path) -> None:
    """Ours. A segmentation fault prints nothing."""
    status, verdict = await run(orchestrator, program, "print('hello')\nos.kill(os.getpid(), 11)", expect=("ready",))

    assert status is BuildStatus.FAILED
    assert verdict.summary == "ended by SIGSEGV without printing 'ready'; its last line: 'hello'"


async def test_program_that_says_nothing_is_no_pass_at_its_limit(orchestrator: Orchestrator, program: Path) -> None:
    """Issue. Never "pass" because nothing was said."""
    status, verdict = await run(orchestrator, program, "time.sleep(600)", timeout_s=1)

    assert (status, verdict.result) == (BuildStatus.FAILED, "unknown")
    assert verdict.summary.startswith("nothing was printed in 1 s")


async def test_bad_pattern_fails_before_anything_runs(orchestrator: Orchestrator, program: Path) -> None:
    """Issue."""
    touched = program / "ran"
    status, verdict = await run(orchestrator, program, f"open('{touched}', 'w')", expect=("(",))

    assert status is BuildStatus.FAILED
    assert "expect: '(' is no regular expression" in verdict.summary
    assert not touched.exists()
