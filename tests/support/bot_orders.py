"""What tests of bots' orders share: a template of their own, diffs for the agent, callbacks that are verified."""

import asyncio
import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from mcp_server.bot_result import bot_result
from mcp_server.build_spec import BuildResult, BuildSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.secret_store import read_secret
from mcp_server.views import BuildView
from tests.support.git_tree import UserTree
from tests.support.http_peer import Got, Peer

Order = Callable[..., BuildSpec]

TEMPLATE = {
    "copier.yml": "_subdirectory: project\n_templates_suffix: .jinja\nword:\n  type: str\n  help: A word\n",
    "project/page.txt.jinja": "bad {{ word }}\n",
    "project/.build-orchestrator.yaml.jinja": (
        "pipeline:\n  name: page\n  stages:\n    - name: check\n      command: |\n"
        '        test "$(cat page.txt)" = "good {{ word }}" || { echo "page.txt:1:1: error: not good"; exit 1; }\n'
        "      retry: 0\n"
    ),
}
"""A page that is good once it reads `good WORD`; as it is made it reads `bad WORD`."""


def template(folder: Path, changed: Mapping[str, str | None] | None = None) -> str:
    """The template in `folder`; `changed` replaces files by name, None leaves one out."""
    for name, text in {**TEMPLATE, **(changed or {})}.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return str(folder)


def diff(file: Path, name: str, before: str, after: str) -> Path:
    """A diff that makes `after` of the file `name`, which holds `before`; "" where it is new."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{name}" if before else "/dev/null",
        f"b/{name}",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))
    return file


async def callback(peer: Peer, home: Path) -> dict[str, Any]:
    """The next callback, verified as a receiver does with the standard's own library."""
    await peer.arrived.wait()
    peer.arrived.clear()
    return verified(peer.got[-1], home)


def verified(got: Got, home: Path) -> dict[str, Any]:
    """What a delivery says. Raises where its signature is another's."""
    secret = read_secret(home / "secrets", "callback")
    assert secret
    Webhook(secret).verify(got.body, got.headers)
    return json.loads(got.body)


def hook(peer: Peer) -> str:
    return f"http://127.0.0.1:{peer.port}/done"


async def built(orchestrator: Orchestrator, spec: BuildSpec, **more: Any) -> BuildView:
    async with asyncio.timeout(40):
        started = await orchestrator.workflows.create(spec, **more)
        view = await orchestrator.wait(started.build.id, 40)
    assert not view.build.status.is_open
    return view


def summaries(view: BuildView) -> dict[str, str]:
    return {row.stage: row.verdict.summary if row.verdict else str(row.reason) for row in view.stages}


def result_of(view: BuildView) -> BuildResult:
    assert view.build.completed_at is not None
    return bot_result(view.build, view.build.status, view.stages, view.build.completed_at)


def user_of(project: Path, home: Path) -> UserTree:
    return UserTree(project, home)
