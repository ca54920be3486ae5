"""The workflow and what agents do, over a real server; a scripted diff is the agent."""

from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from mcp_server.demo.place import fix_patch
from tests.integration.mcp.conftest import Connect, mend
from tests.integration.mcp.test_builds import text_of

CAUSE = "main/thermostat.c:8:9 error"


@pytest.fixture
def agent(tmp_path: Path) -> str:
    """One that applies the diff which mends the demo."""
    diff = tmp_path / "fix.diff"
    diff.write_text(fix_patch())
    return f"patch:{diff}"


async def call(client: Client, tool: str, **arguments: object) -> CallToolResult:
    with anyio.fail_after(50):
        return await client.call_tool(tool, arguments)


async def test_a_workflow_mends_in_a_copy_and_tells_its_story(connect: Connect, project: Path, agent: str) -> None:
    """Issue. Build, fail, mend, build again; the project itself is as it was."""
    before = (project / "main" / "thermostat.c").read_bytes()
    async with connect() as client:
        done = await call(client, "workflow_run", project=str(project), agent=agent, qemu=False)
        told = text_of(await call(client, "build_get", build=1, detail="events"))

    verdict = text_of(done)
    assert not done.is_error
    assert verdict.startswith("build 1 succeeded · workflow · linux · ")
    assert "round 2 of 3" in verdict
    assert "agent patch changed main/thermostat.c · 1 session · branch bo/fix-1" in verdict
    assert "comes into the project itself by `build-orchestrator fix 1 --apply`" in verdict
    assert len(verdict.encode()) <= 800  # 700 and where the project is
    assert (project / "main" / "thermostat.c").read_bytes() == before
    lines = told.splitlines()
    assert [line for line in lines if line.startswith("round ")] == [f"round {n} · {_took(lines, n)}" for n in (1, 2)]
    assert any(line.startswith("  BUILDER build failed · ") and CAUSE in line for line in lines)
    assert any(line.startswith("  DEVELOPER fix success · ") and " · commit " in line for line in lines)
    assert "    - valve_opne();" in lines and "    + valve_open();" in lines
    assert len(told.encode()) <= 2000


def _took(lines: list[str], number: int) -> str:
    return next(line for line in lines if line.startswith(f"round {number} · ")).split(" · ")[1]


async def test_without_an_agent_the_caller_is_told_that_it_is_the_developer(connect: Connect, project: Path) -> None:
    """Ours. The answer names the first cause and the next step."""
    async with connect() as client:
        failed = await call(client, "workflow_run", project=str(project), qemu=False)
        mend(project)
        passed = await call(client, "workflow_run", project=str(project), qemu=False)

    assert failed.is_error
    assert CAUSE in text_of(failed)
    assert 'nobody mends here: you do, then workflow_run again; or workflow_run(agent="default")' in text_of(failed)
    assert text_of(passed).startswith("build 2 succeeded")
    assert "\nagent " not in text_of(passed)


async def test_an_agent_that_does_not_help_is_not_called_a_success(
    connect: Connect, project: Path, tmp_path: Path
) -> None:
    """Issue. The same first cause twice ends it, in plain words."""
    source = "main/thermostat.c"
    first, second = (project / source).read_text().splitlines()[:2]
    head = f"--- a/{source}\n+++ b/{source}\n@@ -1,2 +1,3 @@\n"
    (tmp_path / "no.diff").write_text(f"{head} {first}\n+/* mended */\n {second}\n")

    async with connect() as client:
        failed = await call(client, "workflow_run", project=str(project), agent=f"patch:{tmp_path / 'no.diff'}")

    assert failed.is_error
    assert text_of(failed).startswith("build 1 gave up in stage build")
    assert "stopped: the same first cause came back after it was mended" in text_of(failed)


async def test_an_agent_that_is_not_there_is_one_sentence(connect: Connect, project: Path) -> None:
    """Ours."""
    async with connect() as client:
        unknown = await call(client, "workflow_run", project=str(project), agent="clude")
        rounds = await call(client, "workflow_run", project=str(project), max_rounds=0)

    assert (unknown.is_error, text_of(unknown).partition(":")[0]) == (True, "agent")
    assert "claude" in text_of(unknown)
    assert text_of(rounds) == "max_rounds: 0 is not between 1 and 20"


async def test_an_agents_work_on_a_project_is_built_and_committed(connect: Connect, tmp_path: Path) -> None:
    """Issue. A prompt, an agent, the project's own pipeline, a commit; the files themselves stay as they were."""
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("old\n")
    stages = "  stages:\n    - {name: check, command: grep -q new index.html}\n"
    (page / ".build-orchestrator.yaml").write_text(f"pipeline:\n  name: page\n{stages}")
    (tmp_path / "new.diff").write_text("--- a/index.html\n+++ b/index.html\n@@ -1 +1 @@\n-old\n+new\n")
    agent = f"patch:{tmp_path / 'new.diff'}"

    async with connect() as client:
        done = await call(
            client, "create_and_build", prompt="make it new", project=str(page), agent=agent, auto_commit=True
        )

    verdict = text_of(done)
    assert not done.is_error, verdict
    assert verdict.startswith("build 1 succeeded · create_and_build")
    assert "agent patch changed index.html" in verdict
    assert "check success" in verdict and "commit success" in verdict
    assert (page / "index.html").read_text() == "old\n"


async def test_an_order_that_cannot_be_used_is_one_sentence(connect: Connect) -> None:
    """interfaces: bad input names the argument and what it may be."""
    orders = [
        ({"prompt": " ", "project": "."}, "prompt"),
        ({"prompt": "x"}, "project"),
        ({"prompt": "x", "template": "esp-idf-app"}, "name"),
        ({"prompt": "x", "template": "web-page", "name": "../x"}, "name"),
        ({"prompt": "x", "template": "web-pag", "name": "x"}, "template"),
    ]
    async with connect() as client:
        for arguments, argument in orders:
            refused = await call(client, "create_and_build", **arguments)

            assert refused.is_error
            assert text_of(refused).startswith(f"{argument}: ")
            assert "\n" not in text_of(refused)


async def test_roles_and_the_workflow_are_prompts(connect: Connect, project: Path) -> None:
    """interfaces: `run_workflow(project)`, and one a role."""
    async with connect() as client:
        names = {prompt.name for prompt in (await client.list_prompts()).prompts}
        roles = [path.stem for path in (Path(__file__).parents[3] / "prompts").glob("*.md")]
        texts = [(await client.get_prompt(role, {"task": "build 42"})).messages[0].content for role in sorted(roles)]
        workflow = (await client.get_prompt("run_workflow", {"project": str(project)})).messages[0].content

    assert set(roles) | {"run_workflow", "fix_build", "write_pipeline"} == names
    for role, content in zip(sorted(roles), texts, strict=True):
        text = getattr(content, "text", "")
        assert text.startswith("# ") and text.rstrip().endswith("build 42"), role
    told = getattr(workflow, "text", "")
    assert told.startswith("# The workflow") and str(project) in told and "# What is here" in told
