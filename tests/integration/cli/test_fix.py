"""`fix`, `agents` and `run --agent` against a real worker; a diff from a file is the agent."""

import json
from pathlib import Path

from mcp_server.demo.place import fix_patch
from tests.integration.cli.conftest import Lay
from tests.integration.conftest import Cli


def _agent(folder: Path, diff: str | None = None) -> str:
    path = folder / "fix.diff"
    path.write_text(fix_patch() if diff is None else diff)
    return f"patch:{path}"


def test_a_failed_build_is_mended_in_a_copy_and_applied_when_asked(cli: Cli, lay: Lay, tmp_path: Path) -> None:
    """Issue. The project is untouched until --apply, which may be said twice."""
    folder = lay()
    source = Path(folder) / "main" / "thermostat.c"
    assert cli("run", "--project", folder).returncode == 1

    mended = cli("fix", "1", "--agent", _agent(tmp_path))
    untouched = source.read_text()
    applied = cli("fix", "2", "--apply")
    again = json.loads(cli("fix", "2", "--apply", "--json").stdout)

    assert (mended.returncode, applied.returncode) == (0, 0)
    assert mended.stdout.startswith("build 2 succeeded · linux · ") and "fix of 1" in mended.stdout.replace("\n ", "")
    assert "agent patch changed main/thermostat.c" in mended.stdout
    assert "stage fix, round 1: success after" in mended.stderr
    assert "valve_opne" in untouched and "valve_opne" not in source.read_text()
    assert applied.stdout == f"applied to {folder}: main/thermostat.c\n"
    assert again == {"build": 2, "project": folder, "applied": ["main/thermostat.c"]}


def test_a_workflow_of_the_terminal_mends_and_applies_nothing(cli: Cli, lay: Lay, tmp_path: Path) -> None:
    """Issue. `run --qemu --agent` is exit code 0 only after a green round."""
    folder = lay()

    wanted = ("--qemu", "--expect", "SELF TEST PASSED")
    done = cli("run", "--project", folder, *wanted, "--agent", _agent(tmp_path), "--json")

    whole = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (whole["build"]["status"], whole["build"]["round"]) == ("success", 2)
    assert [row["stage"] for row in whole["stages"] if row["status"] == "skipped"] == ["qemu"]
    assert "valve_opne" in (Path(folder) / "main" / "thermostat.c").read_text()


def test_a_fix_that_changes_nothing_is_1_and_says_so(cli: Cli, lay: Lay, tmp_path: Path) -> None:
    """Issue. No build counts as mended because an agent came to its end."""
    folder = lay()
    assert cli("run", "--project", folder).returncode == 1

    failed = cli("fix", "1", "--agent", _agent(tmp_path, "no diff at all\n"), "--apply")

    assert failed.returncode == 1
    assert failed.stdout.startswith("build 2 was not mended in stage fix")
    assert "build-orchestrator: result" not in failed.stdout  # a line for the machine, of the job's log
    assert "applied" not in failed.stdout


def test_what_cannot_be_mended_is_refused_with_2_and_one_sentence(cli: Cli, lay: Lay, tmp_path: Path) -> None:
    folder = lay(mended=True)
    assert cli("run", "--project", folder).returncode == 0

    green = cli("fix", "1", "--agent", _agent(tmp_path))
    no_agent_worked = cli("fix", "1", "--apply")
    unknown = cli("fix", "7")
    free = cli("fix", "1", "--max-cost", "0")

    assert [done.returncode for done in (green, no_agent_worked, unknown, free)] == [2] * 4
    assert green.stderr == "build-orchestrator: build 1 succeeded: only a failed build can be mended\n"
    assert "no agent worked in build 1" in no_agent_worked.stderr
    assert "there is no build 7" in unknown.stderr
    assert free.stderr == "build-orchestrator: --max-cost: 0 should be more than 0\n"


def test_agents_are_listed_with_what_they_lack(cli: Cli) -> None:
    """interfaces: `agents`."""
    shown, listed = cli("agents"), json.loads(cli("agents", "--json").stdout)

    lines = shown.stdout.splitlines()
    assert lines[0].split()[:4] == ["AGENT", "PROVIDER", "USABLE", "DEFAULT"]
    assert [line.split()[0] for line in lines[1:]] == ["claude", "opencode", "anthropic", "ollama"]
    assert {agent["name"] for agent in listed} == {"claude", "opencode", "anthropic", "ollama"}
    assert all(agent["text"] for agent in listed)
    assert shown.returncode == (0 if any(agent["available"] for agent in listed) else 1)
