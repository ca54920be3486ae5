"""GitHub's webhook: forged, replayed and truncated ones, what is built of a push and what is not."""

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server import webhooks
from mcp_server.demo.place import lay_out, simulated_installation
from mcp_server.errors import StoreError
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.projects import Projects
from mcp_server.secret_store import set_secret
from mcp_server.store import builds, callbacks, projects, superseded
from mcp_server.workflows import WorkflowAsk
from tests.support.git_tree import UserTree
from tests.support.http_peer import answer, http_peer
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)
SECRET = "what only GitHub knows"
CONFIG = """
webhooks:
  github:
    secret: ${secret:github}
    token: ${secret:token}
    branches: [main, "release/*"]
    paths: ["main/*", CMakeLists.txt]
"""


@pytest_asyncio.fixture
async def service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service whose builds stay pending, with a project that is a clone of me/greenhouse by hand."""
    tree = UserTree(lay_out(tmp_path / "greenhouse"), tmp_path / "user")
    tree.git("init", "-q", "-b", "main")
    tree.git("remote", "add", "origin", "git@github.com:Me/Greenhouse.git")
    tree.commit("init")
    (home / "config.yaml").write_text(CONFIG)
    async with web_service(PATH=os.environ["PATH"], IDF_PATH=str(simulated_installation())) as service:

        async def nothing() -> None:
            pass

        monkeypatch.setattr(service.orchestrator, "poke", nothing)
        service.orchestrator.config.make_home()
        set_secret(home / "secrets", "github", SECRET)
        await service.orchestrator.projects.import_(str(tree.top))
        yield service


def a_push(commit: str = "a" * 40, **changed: Any) -> dict[str, Any]:
    repository = {"full_name": "Me/Greenhouse", "clone_url": "https://github.com/Me/Greenhouse.git"}
    return {
        "ref": "refs/heads/main",
        "after": commit,
        "deleted": False,
        "repository": repository,
        "head_commit": {"id": commit, "message": "more light"},
        "commits": [{"added": ["main/lamp.c"], "removed": [], "modified": ["README.md"]}],
        **changed,
    }


async def send(
    service: Service, payload: object, delivery: str = "d-1", event: str = "push", **headers: str
) -> tuple[int, str]:
    """Status and what it says; signed, unless a header says otherwise."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    given = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }
    answer = await service.ask(
        "POST",
        "/webhooks/github",
        content=body,
        headers={**given, **{name.replace("_", "-"): value for name, value in headers.items()}},
        client="140.82.115.9",
        host="builds.example",
    )
    await service.orchestrator.webhooks.settled()
    return answer.status_code, str(answer.json().get("said") or answer.json().get("detail"))


async def rows(service: Service) -> list[tuple[str, str | None, str]]:
    found = (await service.ask("GET", "/api/builds")).json()["builds"]
    return [(row["commit_sha"], row["branch"], row["triggered_by"]) for row in found]


async def test_a_build_says_who_has_started_it(service: Service) -> None:
    """Ours. A program over REST, a person by the page, or what the caller says; a webhook only where one came."""
    page = {"X-Requested-With": "build-orchestrator"}
    for target, ask, headers in (("esp32", {}, {}), ("esp32c3", {}, page), ("esp32s3", {"trigger": "webhook"}, page)):
        body = {"target": target, **ask}
        answer = await service.ask("POST", "/api/projects/greenhouse/build", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
    assert [row[2] for row in await rows(service)] == ["webhook", "manual", "api"]


async def test_a_push_builds_its_commit_once(service: Service) -> None:
    """Issue: ping → pong, push → build of that commit, a delivery once however often it comes."""
    assert await send(service, {"zen": "Keep it simple"}, event="ping") == (200, "pong")
    assert await send(service, a_push()) == (202, "accepted")
    assert await send(service, a_push()) == (202, "delivered before")
    assert await send(service, a_push(), "d-2") == (202, "delivered before")  # a replay: only the body is signed
    assert await send(service, a_push(before="f" * 40), "d-5") == (202, "accepted")  # that commit is pending already
    assert await rows(service) == [("a" * 40, "main", "push")]
    release = a_push("b" * 40, ref="refs/heads/release/1.2")
    assert await send(service, release, "d-3") == (202, "accepted")
    assert (await rows(service))[0] == ("b" * 40, "release/1.2", "push")
    stranger = {"full_name": "you/greenhouse", "clone_url": "https://github.com/you/greenhouse.git"}
    assert await send(service, a_push("c" * 40, repository=stranger), "d-4") == (
        202,
        "ignored: no project is of you/greenhouse",
    )
    assert len(await rows(service)) == 2


async def test_what_a_service_took_and_never_ordered_is_ordered_by_the_next(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. Of the newest day, each once; GitHub is told of every build of a push."""
    orchestrator = service.orchestrator
    store, now = await orchestrator.store(), orchestrator.clock.now()
    place = {"places": ["github.com/me/greenhouse"], "full_name": "me/greenhouse", "branch": "main"}
    left = {"old": ("a" * 40, 25.0), "left": ("b" * 40, 23.0), "begun": ("c" * 40, 1.0), "other": ("d" * 40, 1.0)}

    def note(c: sa.Connection) -> None:
        for name, (commit, hours) in left.items():
            at = now - timedelta(hours=hours)
            projects.note_delivery(c, name, at, {**place, "commit": commit})
        projects.end_delivery(c, "other", "build 7")

    await store.write(note)
    project = (await store.read(projects.imported))[0]
    poke = orchestrator.poke

    async def nothing(_: object) -> None:
        await poke()

    monkeypatch.setattr(Orchestrator, "poke", nothing)
    await orchestrator.projects.build(WorkflowAsk(project.id), commit="c" * 40, branch="main", triggered_by="push")
    async with web_service(None, **dict(orchestrator.environment)) as again:
        await again.orchestrator.webhooks.settled()
        assert [commit for commit, *_ in await rows(again)] == ["b" * 40, "c" * 40]
        again.orchestrator.webhooks.resume()
        await again.orchestrator.webhooks.settled()
        assert len(await rows(again)) == 2
    assert await send(service, a_push("b" * 40), "left") == (202, "delivered before")
    due = await store.read(lambda c: callbacks.due(c, orchestrator.clock.now()))
    assert [(row.build, row.event, row.url) for row in due] == [
        (2, "status.pending", f"me/greenhouse/statuses/{'b' * 40}")
    ]


async def test_a_push_is_ordered_once_the_store_is_back(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours. The database went between the answer and the order; or the order was kept, and nobody heard of it."""
    monkeypatch.setattr(webhooks, "AGAIN_S", 0.0)
    store = await service.orchestrator.store()
    build, tried = Projects.build, list[str]()

    async def away(self: Projects, *given: Any, **more: Any) -> Any:
        tried.append(more["commit"])
        if len(tried) == 2:
            await build(self, *given, **more)
        if len(tried) <= 2:
            raise StoreError("the database is away")
        return await build(self, *given, **more)

    monkeypatch.setattr(Projects, "build", away)
    assert await send(service, a_push()) == (202, "accepted")
    assert [row[0] for row in await rows(service)] == ["a" * 40] and len(tried) == 2
    now = service.orchestrator.clock.now()
    assert not await store.read(lambda c: projects.unended_deliveries(c, now - timedelta(days=1), 10))
    assert [record.getMessage() for record in caplog.records] == ["a push waits: the database is away"]


async def test_a_push_that_cannot_be_ordered_is_an_error_at_github_with_the_reason(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: whoever pushed sees beside the commit why nothing was built; the delivery says so, too."""
    monkeypatch.setattr(webhooks, "TELL_AGAIN_S", (0.0,))
    set_secret(home / "secrets", "token", "ghp_x")
    store = await service.orchestrator.store()
    project = (await store.read(projects.imported))[0]
    async with http_peer() as peer:
        peer.answers = [*[answer(502)] * 6, answer(201)]  # for a day, as what builds came to
        api = f"    api: http://127.0.0.1:{peer.port}\n    url: https://builds.example\n"
        (home / "config.yaml").write_text(CONFIG + api)
        await store.write(lambda c: projects.set_project(c, project.id, status="error", reason="no such repository"))
        why = "Project status is 'error', must be 'active': no such repository"
        assert await send(service, a_push()) == (202, f"greenhouse is not built: {why}")
        told = [json.loads(got.body) for got in peer.got]
        assert [got.path for got in peer.got] == ["/repos/me/greenhouse/statuses/" + "a" * 40] * 7
        status = {"state": "error", "context": "build-orchestrator", "description": why}
        assert told == [{**status, "target_url": "https://builds.example/#/"}] * 7
        assert await send(service, a_push()) == (202, "delivered before")

        await store.write(lambda c: projects.set_project(c, project.id, status="active", reason=None))
        (home / "config.yaml").write_text(CONFIG.replace("release/*", "*") + api)
        strange = a_push("b" * 40, ref="refs/heads/a..b")
        assert await send(service, strange, "d-2") == (202, "accepted")
        assert json.loads(peer.got[-1].body)["description"] == "branch: 'a..b' is no name that a branch can have"
    assert await rows(service) == []


async def test_what_github_was_not_told_of_is_left_to_the_next_service(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A service that stops in that day has not ended the delivery."""
    monkeypatch.setattr(webhooks, "TELL_AGAIN_S", (0.0, 3600.0))
    monkeypatch.setattr(webhooks, "ORDERED_S", 0.0)
    set_secret(home / "secrets", "token", "ghp_x")
    store = await service.orchestrator.store()
    project = (await store.read(projects.imported))[0]
    await store.write(lambda c: projects.set_project(c, project.id, status="error", reason="gone"))
    async with http_peer() as peer, asyncio.timeout(20):
        peer.answers = [answer(502), answer(502), answer(201)]
        (home / "config.yaml").write_text(CONFIG + f"    api: http://127.0.0.1:{peer.port}\n")
        waits, sleep = asyncio.Event(), service.orchestrator.clock.sleep

        async def asleep(seconds: float) -> None:
            if seconds:
                waits.set()
            await sleep(seconds)

        monkeypatch.setattr(service.orchestrator.clock, "sleep", asleep)
        sending = asyncio.create_task(send(service, a_push()))
        await waits.wait()
        sending.cancel()
        await service.orchestrator.webhooks.aclose()
        assert len(peer.got) == 2
        service.orchestrator.webhooks.resume()
        await service.orchestrator.webhooks.settled()
        assert len(peer.got) == 3
    now = service.orchestrator.clock.now()
    assert not await store.read(lambda c: projects.unended_deliveries(c, now - timedelta(days=1), 10))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"head_commit": {"message": "docs [skip ci]"}}, "its message says to skip CI"),
        ({"head_commit": {"message": "[CI SKIP] docs"}}, "its message says to skip CI"),
        ({"deleted": True, "after": "0" * 40}, "a branch was deleted"),
        ({"ref": "refs/tags/v1"}, "no branch was pushed"),
        ({"ref": "refs/heads/try"}, "branch try is not in webhooks.github.branches"),
        ({"commits": [{"modified": ["README.md"]}]}, "nothing in webhooks.github.paths was changed"),
        ({"after": "--upload-pack=x"}, "it names no commit"),
        ({"repository": None}, "it names no repository"),
        ({"repository": [1], "commits": 7, "head_commit": "x"}, "it names no repository"),
    ],
)
async def test_what_is_not_built(service: Service, changed: dict[str, Any], said: str) -> None:
    """Issue: filters, `[skip ci]`, deletions; no payload breaks it."""
    assert await send(service, a_push(**changed)) == (202, f"ignored: {said}")
    assert await rows(service) == []


async def test_a_body_that_is_too_large_or_breaks_off_costs_nothing(service: Service) -> None:
    """Issue: 30 MB and truncated ones. Neither is signed for what came."""
    body = json.dumps(a_push()).encode()
    signed = {"X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000_000

    for content in (b" " * 30_000_000, pieces()):
        answer = await service.ask("POST", "/webhooks/github", content=content, headers=signed)
        assert (answer.status_code, answer.json()["title"]) == (413, "too large")
    sent, got = asyncio.Queue[dict[str, Any]](), list[Any]()
    sent.put_nowait({"type": "http.request", "body": body[:-9], "more_body": True})
    sent.put_nowait({"type": "http.disconnect"})
    headers = [(name.lower().encode(), value.encode()) for name, value in signed.items()]
    headers += [(b"x-github-event", b"push"), (b"x-github-delivery", b"d-9")]
    scope = {"type": "http", "method": "POST", "path": "/webhooks/github", "query_string": b"", "headers": headers}

    async def take(message: Any) -> None:
        got.append(message)

    async with asyncio.timeout(5):
        whole = {**scope, "http_version": "1.1", "scheme": "http", "client": ("1.2.3.4", 5), "root_path": ""}
        await service.app({**whole, "asgi": {"version": "3.0"}}, sent.get, take)
    assert got[0]["status"] == 401
    assert await rows(service) == []


async def test_what_is_not_githubs_is_refused(service: Service, home: Path) -> None:
    """Issue: forged, truncated, without a secret."""
    body = json.dumps(a_push()).encode()
    good = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    old = "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
    for wrong in ("", "sha256=", "sha256=" + "0" * 64, good[:-1], good + "0", old, good.removeprefix("sha256=")):
        assert (await send(service, body, X_Hub_Signature_256=wrong))[0] == 401, wrong
    assert (await send(service, body[:-1], X_Hub_Signature_256=good))[0] == 401
    assert (await send(service, b"{"))[0] == (await send(service, b"[]"))[0] == 400
    assert (await send(service, b"[" * 100_000))[0] == 400
    assert (await send(service, body, delivery="../x"))[0] == 400
    assert await send(service, {}, event="issues") == (202, "ignored: only pushes build")
    (home / "config.yaml").write_text("webhooks: {}\n")
    assert (await send(service, body))[0] == 401
    assert await rows(service) == []


async def opened(service: Service) -> dict[int, tuple[str, tuple[str, ...], str | None]]:
    """Of each build: commit, branches, and why it is to end."""
    found = await service.orchestrator.list(limit=50)
    return {
        one.id: (one.commit_sha[:1], one.plan.branches, one.reason if one.cancel_requested else None) for one in found
    }


async def test_a_commit_is_built_once_while_a_build_of_it_is_open(service: Service) -> None:
    """Issue: dedup by commit; also while it runs, and whichever branches it is pushed to. Afterwards anew."""
    orchestrator = service.orchestrator
    store, now = await orchestrator.store(), orchestrator.clock.now()
    await send(service, a_push())
    [number] = await opened(service)
    await store.write(lambda c: builds.set_running(c, number, now))
    await send(service, a_push(again=1), "d-2")
    await send(service, a_push(ref="refs/heads/release/1"), "d-3")
    assert await opened(service) == {number: ("a", ("main", "release/1"), None)}
    [project] = await orchestrator.projects.list(limit=5)
    mine = await orchestrator.projects.build(WorkflowAsk(project.id), commit="a" * 40, branch="main")
    assert mine.build.id != number and mine.build.plan.branches == ()
    await store.write(lambda c: builds.end_build(c, number, BuildStatus.SUCCESS, "exit", now))
    await send(service, a_push(again=True), "d-4")
    assert len(await opened(service)) == 3


async def test_a_push_supersedes_the_builds_of_earlier_ones_to_its_branch(service: Service, home: Path) -> None:
    """Issue: optional; never what a person ordered, never another branch's; the message names the newer build."""
    (home / "config.yaml").write_text(CONFIG + "    supersede: true\n")
    orchestrator = service.orchestrator
    [project] = await orchestrator.projects.list(limit=5)
    mine = (await orchestrator.projects.build(WorkflowAsk(project.id), commit="a" * 40, branch="main")).build.id
    ask = WorkflowAsk(project.id, qemu=False)  # ordered over REST by who says that it is a push
    theirs = (await orchestrator.projects.build(ask, commit="a" * 40, branch="main", triggered_by="push")).build.id
    for number, (commit, branch) in enumerate([("a", "main"), ("a", "release/1"), ("b", "release/1"), ("c", "main")]):
        await send(service, a_push(commit * 40, ref=f"refs/heads/{branch}"), f"d-{number}")
    both, other, newest = theirs + 1, theirs + 2, theirs + 3
    assert await opened(service) == {
        mine: ("a", (), None),
        theirs: ("a", (), None),
        both: ("a", ("main",), "superseded"),
        other: ("b", ("release/1",), None),
        newest: ("c", ("main",), None),
    }
    gone = (await orchestrator.get(both)).build
    assert gone.build_output == f"superseded by build {newest}: cccccccccccc was pushed to main"
    await send(service, a_push(again=True), "d-9")  # back to where it was
    found = await opened(service)
    assert [found[number][2] for number in (mine, other, newest, newest + 1)] == [None, None, "superseded", None]
    store = await orchestrator.store()
    assert await store.read(lambda c: superseded.is_built_anew(c, gone))


async def test_a_push_that_is_ordered_late_supersedes_nothing_newer(service: Service, home: Path) -> None:
    """Ours. A service that takes up what another one left may find that newer pushes were built meanwhile."""
    (home / "config.yaml").write_text(CONFIG + "    supersede: true\n")
    orchestrator = service.orchestrator
    await send(service, a_push("b" * 40), "d-1")
    store, then = await orchestrator.store(), orchestrator.clock.now() - timedelta(hours=1)
    place = {"places": ["github.com/me/greenhouse"], "full_name": "me/greenhouse", "branch": "main"}
    await store.write(lambda c: projects.note_delivery(c, "late", then, {**place, "commit": "a" * 40}))
    orchestrator.webhooks.resume()
    await orchestrator.webhooks.settled()
    assert [why for _, _, why in (await opened(service)).values()] == [None, None]
