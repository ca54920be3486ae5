"""What CI says, asked of a stand-in for Woodpecker's server (its routes and fields, no CI)."""

import asyncio
import contextlib
from collections.abc import Mapping

import pytest

from mcp_server.errors import BadInput, EnvironmentMissing, NotFound
from mcp_server.notify.woodpecker import Access, CiVerdict, FailedStep, repo_of, wait_ci
from tests.support.http_peer import answer
from tests.support.moved_clock import MovedClock
from tests.support.woodpecker import TOKEN, Woodpecker, pipeline, step, woodpecker

COMMIT = "c0ffee" * 6 + "abcd"


class JumpingClock(MovedClock):
    """Whoever sleeps goes on at once, later."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


async def ask(
    server: Woodpecker,
    clock: JumpingClock | None = None,
    *,
    timeout_s: float = 600,
    with_: Mapping[str, str] | None = None,
) -> CiVerdict:
    said = {"repo": "owner/name", "commit": COMMIT, "token": TOKEN, **(with_ or {})}
    async with asyncio.timeout(10):
        return await wait_ci(
            Access(server.url, said["token"]), said["repo"], said["commit"], timeout_s, clock or JumpingClock()
        )


async def test_a_pipeline_is_waited_for_ever_more_slowly() -> None:
    """Issue. It appears some seconds after the push and runs for a while."""
    async with woodpecker() as server:
        done = pipeline(12, COMMIT, "success", step(3, "build", "success"))
        other = pipeline(13, "0" * 40, "failure")
        server.looks = [[], [other], *[[other, pipeline(12, COMMIT, "running")]] * 10, [other, done]]
        clock = JumpingClock()
        found = await ask(server, clock)

    assert found == CiVerdict("success", f"{server.url}/repos/7/pipeline/12")
    assert clock.slept[:3] == [1.0, 1.5, 2.25]
    assert clock.slept[-1] == 15.0
    assert clock.slept == sorted(clock.slept)


async def test_failed_steps_come_with_their_last_lines() -> None:
    """Issue. Without control characters; a log that cannot be had costs nothing else."""
    async with woodpecker() as server:
        steps = (
            step(1, "clone", "success", type="clone"),
            step(2, "build", "failure", 2, error="exit 2"),
            step(3, "notify", "killed", 137),
            step(4, "deploy", "skipped"),
        )
        server.looks = [[pipeline(5, COMMIT, "failure", *steps)]]
        server.logs = {2: [*[f"line {number}" for number in range(40)], "\x1b[31mmain.c:4: error: no\x1b[0m"]}
        found = await ask(server)

    build, notify = found.failed_steps
    assert (found.status, found.deploy_url) == ("failure", "")
    assert (build.name, build.exit_code, build.error, len(build.lines)) == ("build", 2, "exit 2", 20)
    assert build.lines[-1] == "main.c:4: error: no"
    assert notify == FailedStep("notify", 137, "", ())


@pytest.mark.parametrize(
    ("more", "lines", "url"),
    [
        (
            {},
            ["building", "deploy_url=https://one.example", "deploy_url=https://two.example/x done"],
            "https://two.example/x",
        ),
        ({"variables": {"DEPLOY_URL": "https://v.example"}}, ["deploy_url=https://log.example"], "https://v.example"),
        ({"deploy_to": "https://d.example"}, [], "https://d.example"),
        ({"deploy_to": "production"}, ["+ echo nothing"], ""),
        ({"variables": {"DEPLOY_URL": "javascript:alert(1)"}}, ["deploy_url=file:///etc/passwd"], ""),
    ],
)
async def test_where_it_was_deployed(more: dict[str, object], lines: list[str], url: str) -> None:
    """Ours: the pipeline's own word, else the last such line of a log."""
    async with woodpecker() as server:
        server.looks = [[pipeline(5, COMMIT, "success", step(2, "a", "success"), step(3, "b", "success"), **more)]]
        server.logs = {2: ["deploy_url=https://first.example"] if lines and not more else [], 3: lines}
        found = await ask(server)

    assert found.deploy_url == url


async def test_the_newest_pipeline_of_a_commit_counts_and_no_pull_requests() -> None:
    """Ours. One that was started again has a greater number."""
    async with woodpecker() as server:
        server.looks = [
            [
                pipeline(9, COMMIT, "failure", event="pull_request"),
                pipeline(8, COMMIT, "success"),
                pipeline(7, COMMIT, "failure"),
            ]
        ]
        found = await ask(server)

    assert (found.status, found.url) == ("success", f"{server.url}/repos/7/pipeline/8")


async def test_a_pipeline_that_cannot_be_read_says_why() -> None:
    """Ours. Warnings are none."""
    async with woodpecker() as server:
        errors = [{"type": "linter", "message": "bad habit", "is_warning": True}, {"message": "yaml: line 3\nx"}]
        server.looks = [[{**pipeline(5, COMMIT, "error"), "errors": errors, "workflows": None}]]
        found = await ask(server)

    assert (found.status, found.errors) == ("error", ("yaml: line 3 x",))


@pytest.mark.parametrize("status", ["killed", "canceled", "declined", "skipped"])
async def test_each_end_is_told_in_woodpeckers_word(status: str) -> None:
    """Ours."""
    async with woodpecker() as server:
        server.looks = [[pipeline(5, COMMIT, status)]]
        assert (await ask(server)).status == status


@pytest.mark.parametrize("state", ["blocked", "running", "pending"])
async def test_one_that_is_not_done_in_time_is_told_with_its_state(state: str) -> None:
    """Ours. Not a moment later than asked for."""
    async with woodpecker() as server:
        server.looks = [[pipeline(5, COMMIT, state)]]
        clock = JumpingClock()
        found = await ask(server, clock, timeout_s=100)

    assert (found.status, found.state) == ("timeout", state)
    assert sum(clock.slept) == pytest.approx(100)


async def test_no_pipeline_is_no_long_wait() -> None:
    """Ours. A repository that CI does not know of makes none."""
    async with woodpecker() as server:
        clock = JumpingClock()
        found = await ask(server, clock, timeout_s=3600)

    assert found == CiVerdict("none")
    assert 120 <= sum(clock.slept) <= 135


async def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    """Ours."""
    async with woodpecker() as server:
        server.broken = [answer(502), b"", answer(429)]
        server.looks = [[pipeline(5, COMMIT, "success")]]
        assert (await ask(server)).status == "success"


@pytest.mark.parametrize(
    ("broken", "with_", "error", "why"),
    [
        ([answer(503)] * 99, {}, EnvironmentMissing, "could not be asked: 127.0.0.1 answered 503"),
        ([], {"token": "wrong"}, EnvironmentMissing, "refuses the token of ci.woodpecker"),
        ([], {"repo": "owner/other"}, NotFound, "no repository owner/other"),
        ([answer(200, b"<html>")], {}, EnvironmentMissing, "is ci.woodpecker.url right"),
        ([answer(200, b'{"id": "x"}')], {}, EnvironmentMissing, "has no id"),
        (
            [answer(200, b'{"id": 7}'), answer(200, b'[{"commit": "%s"}]' % COMMIT.encode())],
            {},
            EnvironmentMissing,
            "no number",
        ),
        ([answer(200, b"[1]")], {}, EnvironmentMissing, "is ci.woodpecker.url right"),
        ([answer(302, Location="/login")], {}, EnvironmentMissing, "302 and no JSON"),
        ([answer(200, b"[" * 100_000)], {}, EnvironmentMissing, "is ci.woodpecker.url right"),
        ([], {"commit": "abc"}, BadInput, "commit: should be a commit's id in full"),
        ([], {"repo": "../x"}, BadInput, "repo: should be like owner/name"),
    ],
)
async def test_what_cannot_be_asked_is_one_sentence(
    broken: list[bytes], with_: dict[str, str], error: type[Exception], why: str
) -> None:
    """Ours. The token is in none."""
    async with woodpecker() as server:
        server.broken = list(broken)
        with pytest.raises(error, match=why) as refusal:
            await ask(server, timeout_s=60, with_=with_)

    assert TOKEN not in str(refusal.value)


async def test_odd_fields_end_in_no_traceback() -> None:
    """Ours. Of a version to come, or of something else that answers."""
    async with woodpecker() as server:
        server.looks = [[{"number": 5, "commit": COMMIT, "status": "success", "workflows": [{"children": [3, {}]}]}]]
        with contextlib.suppress(EnvironmentMissing):
            assert (await ask(server)).status == "success"


@pytest.mark.parametrize(
    ("remote", "repo"),
    [
        ("owner/name", "owner/name"),
        ("https://git.example/owner/name.git", "owner/name"),
        ("git@git.example:owner/name.git", "owner/name"),
        ("ssh://git@git.example:22/group/sub/name/", "group/sub/name"),
    ],
)
def test_a_remote_tells_the_repository(remote: str, repo: str) -> None:
    """Ours."""
    assert repo_of(remote) == repo
