"""Pushes that GitHub tells of: whether they are GitHub's, what they mean, and the build that comes of one.

May import: model, config, errors, git_source, notify, projects, secret_store, store, workflows. Never: engine, a front.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa

from mcp_server import git_source
from mcp_server.config import GitHub
from mcp_server.errors import OrchestratorError, StoreError
from mcp_server.model import Project, Pushed
from mcp_server.secret_store import Secrets
from mcp_server.store import builds, projects
from mcp_server.store.schema import Newer
from mcp_server.store.superseded import PUSH, supersede
from mcp_server.workflows import WorkflowAsk

if TYPE_CHECKING:
    from mcp_server.notify.callback import Outcome
    from mcp_server.notify.github import Teller
    from mcp_server.orchestrator import Orchestrator

log = logging.getLogger(__name__)

T = TypeVar("T")

SKIP = re.compile(r"\[(skip ci|ci skip|no ci)\]", re.IGNORECASE)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECTION = re.compile(r"\s*\[(.*)\]\s*")
_URL = re.compile(r"\s*url\s*=\s*(\S+)\s*")
_FULL_NAME = re.compile(r"(?!\.+/)[A-Za-z0-9._-]{1,100}/(?!\.+$)[A-Za-z0-9._-]{1,100}")
CONTEXT = "build-orchestrator"  # of a commit's status
HEADS = "refs/heads/"
RESUMED_S, MOST_RESUMED = 86_400.0, 100  # deliveries that a service which died has left
ORDERED_S = 30.0  # no order takes that long while its service lives and the store is there
AGAIN_S, MOST_PAUSE_S = 1.0, 60.0  # the store is away: the first pause, and the longest
TELL_AGAIN_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)  # what GitHub did not take of a push that came to no build
TOLD_S = 86_400.0  # for so long, as the statuses of builds are
LISTED_COMMITS = 20  # a push of more may have changed files that it does not name


@dataclass(frozen=True, slots=True)
class Push:
    """What was pushed where. `places` are `host/owner/name`, `full_name` is `owner/name`, in lower case."""

    commit: str
    branch: str
    places: frozenset[str]
    full_name: str


class Webhooks:
    """Over one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._working: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # pushes are ordered as they came: what is newer supersedes what is older

    async def signed(self, body: bytes, signature: str) -> bool:
        """Whether the body is signed with the secret of config.yaml; False without one.

        EnvironmentMissing: the secret is not set.
        """
        await self._orchestrator.refresh()
        settings = self._orchestrator.config.webhooks.github
        if settings is None or not signature.startswith("sha256="):
            return False
        secrets = Secrets(self._orchestrator.config, self._orchestrator.environment)
        secret = await asyncio.to_thread(secrets.resolve, settings.secret)
        made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return bool(secret) and hmac.compare_digest(made.encode(), signature[len("sha256=") :].encode())

    async def pushed(self, delivery: str, payload: Mapping[str, Any], body: bytes) -> str:
        """What becomes of a push, in a sentence; a build is ordered behind the answer, once for a delivery.

        And once for a body: the delivery's id is not signed, so whoever has one could send it again under another.
        """
        settings = self._orchestrator.config.webhooks.github
        assert settings is not None
        push = read_push(payload)
        if isinstance(push, str):
            return f"ignored: {push}"
        if (why := unwanted(payload, push, settings)) is not None:
            return f"ignored: {why}"
        store, now = await self._orchestrator.store(), self._orchestrator.clock.now()
        if not (meant := await self._meant(push)):
            return f"ignored: no project is of {push.full_name[:200]}"
        signed = hashlib.sha256(body).hexdigest()

        def is_new(c: sa.Connection) -> bool:
            first = projects.first_brought(c, signed, delivery, now)
            return first and projects.note_delivery(c, delivery, now, _noted(push))

        if not await store.write(is_new):
            return "delivered before"
        self._begin(self._order(projects.Delivery(delivery, now, _noted(push)), push, again=False))
        if not (refused := await self._refused(meant)):
            return "accepted"
        built = [project.name for project in meant if project.name not in refused]
        words = [f"accepted for {', '.join(built)}"] if built else []
        return "; ".join([*words, *(f"{name} is not built: {why}" for name, why in refused.items())])[:1000]

    async def _refused(self, meant: Sequence[Project]) -> Mapping[str, str]:
        """Which cannot be built now, by name, and why."""
        found: dict[str, str] = {}
        for project in meant:
            try:
                await self._orchestrator.projects.check(project)
            except OrchestratorError as error:
                found[project.name] = str(error)
        return found

    async def _meant(self, push: Push) -> Sequence[Project]:
        known = await (await self._orchestrator.store()).read(projects.imported)
        return await asyncio.to_thread(_of_repository, known, push)

    def resume(self) -> None:
        """Order, behind the caller, what was answered and never ordered: a service died in between.

        Of the newest day. One that came just now may be another service's work: it is looked at again later.
        """
        if self._orchestrator.config.webhooks.github is not None:
            self._begin(self._resume())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def aclose(self) -> None:
        """Let go of what is being ordered: the next service that starts takes it up."""
        for task in (left := set(self._working)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _resume(self) -> None:
        clock = self._orchestrator.clock
        try:
            store, since = await self._orchestrator.store(), clock.now() - timedelta(seconds=RESUMED_S)
            unended = await self._insist(
                lambda _: store.read(lambda c: projects.unended_deliveries(c, since, MOST_RESUMED))
            )
            for row in unended:
                age = max((clock.now() - row.received_at).total_seconds(), 0.0)
                await clock.sleep(max(ORDERED_S - age, 0.0))
                ended = partial(_is_ended, row)
                if not await self._insist(lambda _, ended=ended: store.read(ended)):
                    log.info("delivery %s was not ordered by the service that took it", row.id)
                    self._begin(self._order(row, _push_of(row.push), again=True))  # one may have to tell for a day
        except StoreError as error:  # the next service that starts orders them
            log.warning("deliveries of before: %s", error)
        except Exception:  # a redelivery tries again
            log.exception("deliveries of before")

    async def settled(self) -> None:
        """Return once nothing that was accepted is still being ordered."""
        while self._working:
            await asyncio.gather(*self._working)

    async def _order(self, row: projects.Delivery, push: Push, *, again: bool) -> None:
        """Order what a delivery asks for. `again`: another service may have begun to."""
        try:
            await self._order_each(row, push, again=again)
        except StoreError as error:
            log.warning("delivery %s is left to the next service: %s", row.id, error)
        except Exception:  # it is answered already: a redelivery tries again
            log.exception("delivery %s", row.id)

    async def _order_each(self, row: projects.Delivery, push: Push, *, again: bool) -> None:
        said: list[str] = []
        failed: dict[str, str] = {}
        async with self._turn:
            meant = await self._insist(lambda _: self._meant(push))
            for project in meant:
                part = project.name if len(meant) > 1 else ""
                ordered, before = partial(self._ordered, row, push, project, part), row.received_at if again else None
                try:
                    number = await self._insist(lambda tried, order=ordered: order(again or tried))
                    await self._insist(lambda _, one=number, then=before: self._supersede(one, push, then))
                    said.append(f"build {number}")
                except StoreError:
                    raise
                except OrchestratorError as error:
                    log.warning("delivery %s: %s: %s", row.id, project.name, error)
                    said.append(f"{project.name}: {error}")
                    if (told := self._told(push, part)) is not None:
                        failed[told.context] = str(error)
            end = "; ".join(said) or f"no project is of {push.full_name}"
            if not failed:
                await self._insist(lambda _: self._end(row, end))
        if failed:  # it ends once it is told, so that a service which stops meanwhile leaves it to the next one
            await self._tell_failures(push, failed)
            await self._insist(lambda _: self._end(row, end))

    async def _insist(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """What `work` comes to, once the store is there; it is told whether it was tried before.

        StoreError: for a day it was away, or it is of a newer version.
        """
        clock, said, pause = self._orchestrator.clock, "", AGAIN_S
        until = clock.monotonic() + RESUMED_S
        while True:
            try:
                return await work(bool(said))
            except Newer:
                raise
            except StoreError as error:
                if clock.monotonic() + pause > until:
                    raise
                if str(error) != said:
                    log.warning("a push waits: %s", error)
                said = str(error)
                await clock.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE_S)

    async def _ordered(self, row: projects.Delivery, push: Push, project: Project, part: str, again: bool) -> int:
        """The number of the project's build; `again`: it may have been ordered before."""
        store = await self._orchestrator.store()
        number = await store.read(partial(_begun, project, push, row)) if again else None
        return number or await self._build(project, push, part)

    async def _end(self, row: projects.Delivery, end: str) -> None:
        await (await self._orchestrator.store()).write(lambda c: projects.end_delivery(c, row.id, end))

    async def _tell_failures(self, push: Push, failed: Mapping[str, str]) -> None:
        """Tell GitHub of what could not even be ordered; there is no build whose story that would be."""
        from mcp_server.notify import github  # noqa: PLC0415 - few pushes need it

        settings, environment = self._orchestrator.config.webhooks.github, self._orchestrator.environment
        if not failed or settings is None or settings.token is None:
            return
        secrets = Secrets(self._orchestrator.config, environment)
        token = await asyncio.to_thread(secrets.resolve, settings.token)
        teller = github.Teller(settings.api, token, settings.url)
        place = f"{push.full_name}/statuses/{push.commit}"
        for context, why in failed.items():
            body = json.dumps({"state": "error", "context": context, "description": github.described(why)})
            outcome = await self._tell(teller, place, body)
            if not outcome.ok:
                log.warning("%s of %s was not told: %s", context, push.commit, outcome.why)

    async def _tell(self, teller: "Teller", place: str, body: str) -> "Outcome":
        """What became of the last attempt: GitHub took it, never will, or a day is over."""
        from mcp_server.notify import github  # noqa: PLC0415 - as above

        clock = self._orchestrator.clock
        until = clock.monotonic() + TOLD_S
        for pause in chain(TELL_AGAIN_S, repeat(TELL_AGAIN_S[-1])):
            outcome = await github.tell(teller, place, None, body)
            if outcome.ok or outcome.gone or clock.monotonic() + pause > until:
                return outcome
            await clock.sleep(max(pause, outcome.retry_after_s or 0.0))
        raise AssertionError("repeat has no end")

    async def _build(self, project: Project, push: Push, part: str) -> int:
        """The number of the build of a push: a new one, or the open one of the same commit."""
        started = await self._orchestrator.projects.build(
            WorkflowAsk(project.id),
            commit=push.commit,
            branch=push.branch,
            pushed=self._told(push, part),
            branches=(push.branch,),
            triggered_by=PUSH,
        )
        return started.build.id

    async def _supersede(self, number: int, push: Push, before: datetime | None) -> None:
        """Cancel what earlier pushes to the branch ordered, where config.yaml says so.

        `before`: when a push came that is ordered late, as newer ones may have been ordered since.
        """
        settings = self._orchestrator.config.webhooks.github
        if settings is None or not settings.supersede:
            return
        store, now = await self._orchestrator.store(), self._orchestrator.clock.now()
        ended = await store.write(lambda c: supersede(c, builds.get_build(c, number), push.branch, before, now))
        if ended:
            log.info("build %d supersedes %s", number, ", ".join(map(str, ended)))
            await self._orchestrator.poke()

    def _told(self, push: Push, part: str) -> Pushed | None:
        """What GitHub is told of, where a token is there for it; several projects of a repository are told apart."""
        settings = self._orchestrator.config.webhooks.github
        if settings is None or settings.token is None or not _FULL_NAME.fullmatch(push.full_name):
            return None
        return Pushed(repository=push.full_name, commit=push.commit, context=f"{CONTEXT}/{part}" if part else CONTEXT)


def _is_ended(row: projects.Delivery, c: sa.Connection) -> bool:
    return projects.is_ended(c, row.id)


def _begun(project: Project, push: Push, row: projects.Delivery, c: sa.Connection) -> int | None:
    """The build that was ordered before, by a service that died or before the store went away."""
    return projects.pushed_build(c, project.id, push.commit, row.received_at)


def _noted(push: Push) -> Mapping[str, Any]:
    return {**asdict(push), "places": sorted(push.places)}


def _push_of(noted: Mapping[str, Any]) -> Push:
    return Push(noted["commit"], noted["branch"], frozenset(noted["places"]), noted["full_name"])


def read_push(payload: Mapping[str, Any]) -> Push | str:
    """The push of a payload, or why there is nothing to build."""
    reference, commit = str(payload.get("ref", "")), str(payload.get("after", ""))
    if payload.get("deleted") is True or set(commit) == {"0"}:
        return "a branch was deleted"
    if not reference.startswith(HEADS):
        return "no branch was pushed"
    if not _SHA.fullmatch(commit):
        return "it names no commit"
    repository = _mapping(payload.get("repository"))
    urls = [str(repository.get(name) or "") for name in ("clone_url", "ssh_url", "git_url", "html_url")]
    places = frozenset(place for url in urls if (place := git_source.same_place(url)))
    name = str(repository.get("full_name") or "").lower()
    return Push(commit, reference.removeprefix(HEADS), places, name) if places and name else "it names no repository"


def unwanted(payload: Mapping[str, Any], push: Push, settings: GitHub) -> str | None:
    """Why config.yaml or the commit's message says that it is not to be built."""
    head = _mapping(payload.get("head_commit"))
    if SKIP.search(str(head.get("message", ""))):
        return "its message says to skip CI"
    if settings.branches and not any(fnmatchcase(push.branch, glob) for glob in settings.branches):
        return f"branch {push.branch[:100]} is not in webhooks.github.branches"
    if not settings.paths:
        return None
    given = payload.get("commits")
    commits = [_mapping(one) for one in cast("Sequence[object]", given)] if isinstance(given, list) else []
    if not commits or len(commits) >= LISTED_COMMITS:
        return None
    lists = [one.get(kind) for one in commits for kind in ("added", "removed", "modified")]
    changed = [str(path) for one in lists if isinstance(one, list) for path in cast("Sequence[object]", one)]
    if any(fnmatchcase(path, glob) for path in changed for glob in settings.paths):
        return None
    return "nothing in webhooks.github.paths was changed"


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _of_repository(known: Sequence[Project], push: Push) -> list[Project]:
    """The projects whose source, or whose folder's origin, is the repository. Reads."""
    found: list[Project] = []
    for project in known:
        source = project.source if project.source and git_source.is_url(project.source) else _origin(project.path)
        if git_source.same_place(source or "") in push.places:
            found.append(project)
    return found


def _origin(folder: str) -> str | None:
    """The URL of a folder's remote `origin`, read without running anything of it."""
    try:
        text = (Path(folder) / ".git" / "config").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    section = ""
    for line in text.splitlines():
        if header := _SECTION.fullmatch(line):
            section = header[1]
        elif section == 'remote "origin"' and (url := _URL.fullmatch(line)):
            return url[1]
    return None
