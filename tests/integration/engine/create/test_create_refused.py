"""Orders of bots that cannot be used: one sentence each, and nothing is left of them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput, Conflict
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.bot_orders import Order, built, summaries, template

pytestmark = pytest.mark.worker_inside


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"prompt": " \n"}, "prompt: is empty"),
        ({"prompt": "x" * 1_000_000}, "1,000,000 bytes"),
        ({"name": None}, "needs one"),
        ({"name": "../away"}, "letters, digits"),
        ({"template": None, "name": None}, "give a project"),
        ({"agent": "nobody"}, "no agent 'nobody'"),
        ({"timeout": 0}, "timeout"),
        ({"priority": 101}, "priority"),
        ({"max_rounds": 0}, "max_rounds"),
        ({"idempotency_key": "two words"}, "idempotency_key"),
        ({"variables": {"word": "x" * 10_001}}, "variables"),
        ({"remote": "https://user:hunter2@git.example/a.git"}, "remote"),
        ({"remote": "--upload-pack=x"}, "remote"),
        ({"branch": "-x"}, "branch"),
        ({"callback_url": "http://127.0.0.1:9/x"}, "callback_hosts"),
        ({"callback_url": "https://127.0.0.1/x"}, "no public address"),
        ({"callback_url": "https://169.254.169.254/latest"}, "no public address"),
        ({"callback_url": "ftp://example.org/"}, "https://host/path"),
    ],
)
async def test_an_order_that_cannot_be_used_is_one_sentence(
    orchestrator: Orchestrator, order: Order, home: Path, changed: dict[str, Any], why: str
) -> None:
    """Issue. No row is written."""
    with pytest.raises(BadInput) as refused:
        await orchestrator.workflows.create(order(**changed))
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert await orchestrator.list() == []


@pytest.mark.parametrize(
    ("files", "variables", "why"),
    [
        ({"copier.yml": "_tasks: [touch /tmp/x]\nword: {type: str}\n"}, {"word": "day"}, "template"),
        ({}, {}, "word"),
        ({}, {"word": "day", "other": "x"}, "other"),
    ],
)
async def test_a_template_that_cannot_be_used_is_refused_at_once(
    orchestrator: Orchestrator,
    order: Order,
    tmp_path: Path,
    files: dict[str, str],
    variables: dict[str, str],
    why: str,
) -> None:
    """Docs. Runs code, lacks a variable, has one too many: no build is made of such an order."""
    place = template(tmp_path / "other", files)
    with pytest.raises(BadInput, match=why):
        await orchestrator.workflows.create(order(template=place, variables=variables))

    assert await orchestrator.list() == []


async def test_a_template_that_leads_out_leaves_nothing(
    orchestrator: Orchestrator, order: Order, home: Path, tmp_path: Path
) -> None:
    """Issue. Only seen when it is made; no agent is sent to mend that."""
    place = template(tmp_path / "other", {"project/{{ word }}.txt.jinja": "x"})
    view = await built(orchestrator, order(template=place, variables={"word": "../../out"}))

    assert view.build.status is BuildStatus.FAILED
    assert [row.stage for row in view.stages if row.started_at] == ["create"]
    assert list((home / "projects").iterdir()) == []
    assert not list(tmp_path.rglob("out.txt"))


async def test_a_name_that_is_taken_is_refused_early_and_late(
    orchestrator: Orchestrator, order: Order, home: Path
) -> None:
    """Ours. Of two orders at once for one name the later one finds the other's project, and leaves it alone."""
    first = await orchestrator.workflows.create(order())
    second = await orchestrator.workflows.create(order(prompt="Something else"))
    async with asyncio.timeout(40):
        views = [await orchestrator.wait(build.build.id, 40) for build in (first, second)]

    made, refused = sorted(views, key=lambda view: view.build.status is BuildStatus.FAILED)
    assert (made.build.status, refused.build.status) == (BuildStatus.SUCCESS, BuildStatus.FAILED)
    assert "is there already" in summaries(refused)["create"]
    assert (home / "projects/page/page.txt").read_text() == "good day\n"
    with pytest.raises(Conflict, match="is there already"):
        await orchestrator.workflows.create(order(prompt="A third"))
