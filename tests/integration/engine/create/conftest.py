"""What orders of bots begin with: an order that can be changed, and somebody who is called back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.build_spec import BuildSpec
from tests.support.bot_orders import Order, diff, template
from tests.support.http_peer import Peer, http_peer


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """`order(auto_commit=True)`: a page of the tests' own template, made good by the agent."""
    good = diff(tmp_path / "good.diff", "page.txt", "bad day\n", "good day\n")
    made = template(tmp_path / "template")

    def order(**changed: Any) -> BuildSpec:
        said: dict[str, Any] = {
            "template": made,
            "name": "page",
            "variables": {"word": "day"},
            "agent": f"patch:{good}",
        }
        return BuildSpec.model_validate({"prompt": "Make the page good", **said, **changed})

    return order


@pytest_asyncio.fixture
async def receiver(home: Path) -> AsyncIterator[Peer]:
    """Who is called back; config.yaml allows it."""
    (home / "config.yaml").write_text('security: {callback_hosts: ["127.0.0.1"], allow_push: always}\n')
    async with http_peer() as peer:
        yield peer
