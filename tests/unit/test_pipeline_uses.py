"""What a pipeline `uses` that is of no tool, as a plan: judges, commits, pushes, and the developer between rounds."""

from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.errors import Conflict, PipelineError
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Plan
from mcp_server.orders import Orders

FARM = "servers:\n  farm: {host: 192.168.1.100, user: build, workdir: /src}\n"
MAKE = "{name: make, command: make}"


def orders(home: Path, security: str = "{}") -> Orders:
    (home / "config.yaml").write_text(f"{FARM}security: {security}\n")
    config = load_config()
    return Orders(config, Hosts(config), {"PATH": "/usr/bin:/bin"})


def planned(made: Orders, folder: Path, *lines: str) -> Plan:
    folder.mkdir(exist_ok=True)
    text = "\n".join(["pipeline:", "  name: p", "  stages:", *(f"  - {line}" for line in lines)])
    return made.pipeline(made.read_pipeline(None, text, {}), folder).plan


DELIVERED = (
    MAKE,
    "{name: doctor, uses: doctor, with: {project: fw}}",
    "{name: qa, uses: qa, depends_on: make}",
    "{name: commit, uses: git.commit, depends_on: qa, with: {message: nightly, branch: bot/1, paths: main}}",
    "{name: push, uses: git.push, depends_on: commit, with: {branch: bot/1, remote: mirror}}",
)


def test_judges_run_also_where_a_build_failed_and_what_delivers_does_not(home: Path, tmp_path: Path) -> None:
    """Docs. None of them is done again unasked, and none leaves this machine."""
    folder = tmp_path.resolve() / "p"
    made = orders(home)
    plan = planned(made, folder, *DELIVERED)
    stages = {stage.name: stage for stage in plan.stages}

    assert [stages[name].kind for name in ("doctor", "qa", "commit", "push")] == [
        *("doctor", "qa", "git.commit", "git.push")
    ]
    assert [stages[name].always for name in stages] == [False, True, True, False, False]
    assert {stage.retry.times for stage in plan.stages} == {1, 0}
    assert {stage.host for stage in plan.stages} == {"local"}
    assert stages["doctor"].params == {"project": str(folder / "fw")}
    assert stages["commit"].params == {
        "project": str(folder),
        "message": "nightly",
        "branch": "bot/1",
        "paths": ["main"],
        "allow_default": False,
        "whole": True,
    }
    assert (plan.fix, plan.max_rounds, plan.workspace) == (None, 1, None)
    assert made.question(plan) == "Push branch bot/1 of p to mirror?"


def test_a_push_is_asked_for_allowed_or_refused_by_the_configuration(home: Path, tmp_path: Path) -> None:
    """interfaces: security.allow_push; also where a plan of before comes again."""
    before = planned(orders(home), tmp_path / "p", *DELIVERED)
    allowed = orders(home, "{allow_push: always, push_to_default: true}")
    plan = planned(allowed, tmp_path / "p", *DELIVERED)

    assert allowed.question(plan) is None
    assert [stage.params["allow_default"] for stage in plan.stages if stage.kind.startswith("git.")] == [True, True]
    never = orders(home, "{allow_push: never}")
    with pytest.raises(PipelineError, match=r"stage 'push': security\.allow_push of config"):
        planned(never, tmp_path / "p", *DELIVERED)
    assert planned(never, tmp_path / "p", MAKE, "{name: push, uses: git.push, when: 'false', with: {branch: x}}")
    with pytest.raises(Conflict, match="allow_push"):
        never.question(before)


def test_agent_fix_is_the_developer_of_the_plan(home: Path, tmp_path: Path) -> None:
    """Docs: between two rounds, in a copy, at most so often."""
    folder = tmp_path.resolve() / "p"
    given = "agent: 'patch:./fix.diff', max_rounds: 4, allow: main/**, commands: [make], prompt: Be brief."
    budget = "budget: {tokens: 5000, cost_usd: 1.5, time: 1h}"
    plan = planned(orders(home), folder, MAKE, f"{{name: mend, uses: agent.fix, with: {{{given}, {budget}}}}}")
    plain = planned(orders(home), folder, MAKE, "{name: mend, uses: agent.fix, timeout: 5m, with: {agent: default}}")
    skipped = planned(orders(home), folder, MAKE, "{name: mend, uses: agent.fix, when: 'false'}")

    assert [stage.name for stage in plan.stages] == ["make"]
    assert (plan.max_rounds, plan.workspace) == (4, str(folder))
    assert plan.fix is not None and plain.fix is not None
    assert (plan.fix.name, plan.fix.kind, plan.fix.role, plan.fix.timeout_s) == ("mend", "agent.fix", "DEVELOPER", 1800)
    assert plan.fix.retry.on == ("lost",)
    assert plan.fix.params == {
        "project": str(folder),
        "agent": f"patch:{folder}/fix.diff",
        "allowed": ["main/**"],
        "commands": ["make"],
        "budget": {"tokens": 5000, "cost_usd": 1.5, "timeout_s": 3600},
        "prompt": "Be brief.",
    }
    assert (plain.fix.params["agent"], plain.fix.timeout_s, plain.max_rounds) == (None, 300, 3)
    assert (skipped.fix, skipped.max_rounds) == (None, 1)


def test_an_agent_of_qa_is_a_stage_that_may_fail_behind_it(home: Path, tmp_path: Path) -> None:
    """Issue: it may add to a check, never overrule it; so nothing waits for it, and it runs where the check passed."""
    qa = "{name: qa, uses: qa, depends_on: make, timeout: 5m, with: {agent: default}}"
    plan = planned(orders(home), tmp_path / "p", MAKE, "{name: qa.remarks, command: make}", qa)
    *others, remarks = plan.stages

    assert [stage.name for stage in others] == ["make", "qa.remarks", "qa"]
    assert (remarks.name, remarks.kind, remarks.depends_on) == ("qa.remarks-", "qa.remarks", ("qa",))
    assert (remarks.allow_failure, remarks.always, remarks.timeout_s) == (True, False, 300)
    assert (remarks.params["agent"], remarks.params["of"]) == (None, "qa")
    assert "agent" not in others[-1].params


@pytest.mark.parametrize(
    ("stage", "with_", "said"),
    [
        ("command: make", "project: fw", "and /P is not in it: name a folder that holds the pipeline's own"),
        ("command: make, workdir: /usr", "project: .", "stage 'a' runs in /usr, outside /P: what 'f' changes would"),
        ("command: make, workdir: /P/../link", "project: .", "runs in /P/../link, outside /P"),
        ("command: make, server: farm", "project: .", "stage 'a' runs on farm in a folder that is not synced from"),
    ],
)
def test_a_build_that_no_change_reaches_is_refused(
    home: Path, tmp_path: Path, stage: str, with_: str, said: str
) -> None:
    """Ours. An agent would be paid for what is never built."""
    folder = tmp_path.resolve() / "p"
    (tmp_path / "link").symlink_to(folder)

    with pytest.raises(PipelineError) as caught:
        planned(
            orders(home),
            folder,
            f"{{name: a, {stage.replace('/P', str(folder))}}}",
            f"{{name: f, uses: agent.fix, with: {{{with_}}}}}",
        )

    assert said in str(caught.value).replace(str(folder), "/P")
    assert planned(orders(home), folder, MAKE, "{name: f, uses: agent.fix, with: {project: ..}}").workspace == str(
        tmp_path.resolve()
    )
