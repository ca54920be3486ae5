"""Woodpecker CI by its HTTP API: waits for the verdict on a commit, and finds where it was deployed.

It has no push for API clients, so it is asked again, ever more slowly. Fields are those of Woodpecker 2 and 3.
"""

import asyncio
import base64
import binascii
import json
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

from mcp_server import __version__
from mcp_server.clock import Clock
from mcp_server.errors import BadInput, EnvironmentMissing, NotFound, OrchestratorError
from mcp_server.notify.http import Answer, Place, Request, Unanswered, exchange
from mcp_server.text import one_line

FIRST_S, SLOWER, SLOWEST_S = 1.0, 1.5, 15.0  # pauses between two questions: each longer by half, up to the last
APPEAR_S = 120.0  # a forge tells Woodpecker of a push within seconds; no pipeline after that means none is set up
CALL_S = 20.0  # for one question
MAX_ANSWER_BYTES = 8_000_000  # a log is sent whole
LAST_LINES, LINE_BYTES = 20, 300
MAX_FAILED, MAX_READ = 5, 20  # steps whose logs are read

_EVENTS = ("push", "manual", "tag", "release", "deployment", "cron")  # those of a commit as it stands in the repository
_GOING_ON = ("pending", "running", "created", "blocked")
_FAILED = ("failure", "error", "killed")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)+")
_DEPLOYED = re.compile(r"(?:^|\s)deploy_url=(https?://[^\s\"'<>]{1,1000})")
_URL = re.compile(r"https?://[^\s\"'<>]{1,1000}")


@dataclass(frozen=True, slots=True)
class Access:
    """A Woodpecker server and a personal token for it."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed, with the last lines of its log."""

    name: str
    exit_code: int
    error: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CiVerdict:
    """What CI says of a commit. `status` is Woodpecker's own word at the end (success, failure, error, killed,
    canceled, declined, skipped), `timeout` where it goes on still, `none` where it made no pipeline.

    `url` is the pipeline's page. `errors` are about its configuration. `state` is Woodpecker's last word at a timeout.
    """

    status: str
    url: str = ""
    deploy_url: str = ""
    failed_steps: tuple[FailedStep, ...] = ()
    errors: tuple[str, ...] = ()
    state: str = ""


class _Busy(Exception):
    """No answer that means anything yet; it is asked again. Its words are for a person."""


def repo_of(remote: str) -> str:
    """`owner/name` of a Git remote, or of such a text itself. BadInput: neither."""
    text = remote.strip().removesuffix("/").removesuffix(".git")
    if "://" in text:
        text = urlsplit(text).path.strip("/")
    elif ":" in text:
        text = text.partition(":")[2].strip("/")
    if not _REPO.fullmatch(text) or ".." in text:
        raise BadInput("repo", "should be like owner/name, or a Git remote's URL")
    return text


async def wait_ci(
    access: Access, repo: str, commit: str, timeout_s: float, clock: Clock, *, tls: ssl.SSLContext | None = None
) -> CiVerdict:
    """Wait until Woodpecker is done with `commit` (in full) of `repo` (`owner/name`), `timeout_s` at most.

    EnvironmentMissing: the server refuses the token, is not reached in all that time, or is no Woodpecker. NotFound: it
    does not know the repository. BadInput: an argument. A server that is away for a while is waited for.
    """
    if not _COMMIT.fullmatch(commit):
        raise BadInput("commit", "should be a commit's id in full, 40 or 64 hex digits")
    return await _Watch(access, repo_of(repo), commit, clock, tls).wait(timeout_s)


class _Watch:
    """One wait for one commit."""

    def __init__(self, access: Access, repo: str, commit: str, clock: Clock, tls: ssl.SSLContext | None) -> None:
        self._access, self._repo, self._commit, self._clock, self._tls = access, repo, commit, clock, tls
        self._parts = urlsplit(access.url.rstrip("/"))
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise BadInput("ci.woodpecker.url", "should be like https://ci.example.org")
        self._repo_id: int | None = None
        self._why = ""

    async def wait(self, timeout_s: float) -> CiVerdict:
        began, pause_s, last = self._clock.monotonic(), FIRST_S, None
        while True:
            self._why = ""
            try:
                last = await self._look() or last
                if last is not None and last.get("status") not in _GOING_ON:
                    return await self._verdict(last)
            except _Busy as busy:
                self._why = str(busy)
            passed = self._clock.monotonic() - began
            if passed >= timeout_s or (last is None and not self._why and passed >= APPEAR_S):
                return self._unfinished(last)
            await self._clock.sleep(min(pause_s, timeout_s - passed))
            pause_s = min(pause_s * SLOWER, SLOWEST_S)

    def _unfinished(self, last: Mapping[str, Any] | None) -> CiVerdict:
        if last is not None:
            return CiVerdict("timeout", self._page(last), state=str(last.get("status"))[:40])
        if self._why:
            raise EnvironmentMissing(f"Woodpecker could not be asked: {self._why}")
        return CiVerdict("none")

    async def _look(self) -> dict[str, Any] | None:
        """The newest pipeline of the commit, with its steps; None: there is none yet."""
        if self._repo_id is None:
            found = _mapping(
                await self._get(f"/repos/lookup/{quote(self._repo)}", missing=f"no repository {self._repo}")
            )
            self._repo_id = _number(found, "id")
        query = f"?perPage=50&event={','.join(_EVENTS)}"
        listed = await self._get(f"/repos/{self._repo_id}/pipelines{query}", missing=f"no repository {self._repo}")
        mine = [entry for entry in _mappings(listed) if entry.get("commit") == self._commit]
        mine = [entry for entry in mine if entry.get("event", "push") in _EVENTS]
        if not mine:
            return None
        number = max(_number(entry, "number") for entry in mine)
        return _mapping(await self._get(f"/repos/{self._repo_id}/pipelines/{number}", missing="the pipeline is gone"))

    async def _verdict(self, pipeline: dict[str, Any]) -> CiVerdict:
        steps = [step for flow in _mappings(pipeline.get("workflows")) for step in _mappings(flow.get("children"))]
        failed = [step for step in steps if step.get("state") in _FAILED][:MAX_FAILED]
        status = str(pipeline.get("status"))[:40]
        errors = [entry.get("message") for entry in _mappings(pipeline.get("errors")) if not entry.get("is_warning")]
        errors += [flow.get("error") for flow in _mappings(pipeline.get("workflows")) if flow.get("error")]
        return CiVerdict(
            status,
            self._page(pipeline),
            await self._deployed(pipeline, steps) if status == "success" else "",
            tuple([await self._failed(pipeline, step) for step in failed]),
            tuple(one_line(error, LINE_BYTES) for error in errors[:MAX_FAILED] if error),
        )

    async def _deployed(self, pipeline: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
        """From the pipeline itself, else from a line `deploy_url=https://…` of a step's log, the last such line."""
        flows = _mappings(pipeline.get("workflows"))
        said = [_dict(pipeline.get("variables")).get("DEPLOY_URL"), pipeline.get("deploy_to")]
        said += [_dict(flow.get("environ")).get("DEPLOY_URL") for flow in flows]
        for text in said:
            if isinstance(text, str) and _URL.fullmatch(text):
                return text
        ran = [
            step for step in steps if step.get("state") == "success" and step.get("type") not in ("clone", "service")
        ]
        for step in reversed(ran[-MAX_READ:]):
            for line in reversed(await self._log(pipeline, step)):
                if found := _DEPLOYED.search(line):
                    return found[1]
        return ""

    async def _failed(self, pipeline: Mapping[str, Any], step: Mapping[str, Any]) -> FailedStep:
        lines = await self._log(pipeline, step)
        code = step.get("exit_code")
        return FailedStep(
            one_line(step.get("name"), 100),
            code if isinstance(code, int) else 0,
            one_line(step.get("error") or "", LINE_BYTES),
            tuple(one_line(line, LINE_BYTES) for line in lines[-LAST_LINES:]),
        )

    async def _log(self, pipeline: Mapping[str, Any], step: Mapping[str, Any]) -> list[str]:
        """The lines of a step's log; none where it cannot be had, as the verdict stands without."""
        try:
            path = f"/repos/{self._repo_id}/logs/{int(pipeline['number'])}/{int(step['id'])}"
            entries = _mappings(await self._get(path, missing="no log"))
        except (OrchestratorError, _Busy, KeyError, TypeError, ValueError):
            return []
        texts = [_decoded(entry.get("data")) for entry in entries if entry.get("type", 0) in (0, 1)]
        return [line for text in texts for line in text.splitlines() if line.strip()]

    def _page(self, pipeline: Mapping[str, Any]) -> str:
        return f"{self._access.url.rstrip('/')}/repos/{self._repo_id}/pipeline/{pipeline.get('number')}"

    async def _get(self, path: str, *, missing: str) -> Any:
        """What the server answers, as JSON. _Busy: ask again. The rest as `wait_ci` says."""
        headers = {"Accept": "application/json", "User-Agent": f"build-orchestrator/{__version__}"}
        request = Request(
            "GET", f"{self._parts.path}/api{path}", {**headers, "Authorization": f"Bearer {self._access.token}"}
        )
        try:
            place = await self._place()
            answer = await exchange(place, request, limit_s=CALL_S, max_bytes=MAX_ANSWER_BYTES, tls=self._tls)
        except Unanswered as error:
            raise _Busy(str(error)) from None
        return self._read(answer, missing)

    def _read(self, answer: Answer, missing: str) -> Any:
        host, status = self._parts.hostname, answer.status
        if status in (401, 403):
            raise EnvironmentMissing(
                f"Woodpecker at {host} refuses the token of ci.woodpecker, or its user may not look"
            )
        if status == 404:
            raise NotFound(f"Woodpecker at {host}: {missing}, or the token's user may not see it")
        if status in (408, 429) or status >= 500:
            raise _Busy(f"{host} answered {status}")
        try:
            if status != 200 or not answer.whole:
                raise ValueError
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            more = "more than 8 MB" if not answer.whole else f"{status} and no JSON"
            raise EnvironmentMissing(
                f"{host} does not answer as Woodpecker's API ({more}): is ci.woodpecker.url right?"
            ) from None

    async def _place(self) -> Place:
        host, tls = self._parts.hostname or "", self._parts.scheme == "https"
        port = self._parts.port or (443 if tls else 80)
        try:
            async with asyncio.timeout(CALL_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # TimeoutError is one of the first
            raise Unanswered(f"{host} is not known to the resolver") from None
        return Place(tls, host, port, tuple(dict.fromkeys(str(where[0]) for *_, where in found)))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EnvironmentMissing("Woodpecker's answer is of another form than its API's: is ci.woodpecker.url right?")
    return cast(dict[str, Any], value)


def _number(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int):
        raise EnvironmentMissing(f"Woodpecker's answer has no {key}: is ci.woodpecker.url right?")
    return value


def _dict(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[dict[str, Any]]:
    entries = cast(list[Any], value) if isinstance(value, list) else []
    return [cast(dict[str, Any], entry) for entry in entries if isinstance(entry, dict)]


def _decoded(data: Any) -> str:
    """A log line: bytes in base64, as Go writes them into JSON."""
    try:
        return base64.b64decode(data or "").decode("utf-8", "replace") if isinstance(data, str) else ""
    except (binascii.Error, ValueError):
        return ""
