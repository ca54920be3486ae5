"""Pushes one commit to one branch with the user's own credentials, and with nothing of the repository's configuration.

The push is made from an empty repository of ours that borrows the objects and knows the remote's URL as it is written:
so no `insteadOf`, proxy, helper or ssh command of the repository decides where to, or who sees a password. What the
user configured for all repositories counts. Never forced, no tags, no hooks.
"""

import asyncio
import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp_server.agents.git import MAX_ERROR, Done, Git, Setting, repository, run_bounded, without_login
from mcp_server.agents.workspace import Workspace
from mcp_server.errors import BadInput

PUSH_S = 120.0
PROTOCOLS = ("https", "http", "ssh", "git")
DEFAULTS = ("main", "master")  # taken for the default branch where the remote does not tell its own
_KEPT = ("HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "USER", "LOGNAME", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT",
         "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE",
         "SSL_CERT_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")  # fmt: skip
_TURNS = re.compile(r"url\..*\.(insteadof|pushinsteadof)|core\.(sshcommand|gitproxy|askpass)|credential\..*|http\..*"
                    r"|remote\..*\.(proxy|receivepack|uploadpack|vcs)", re.DOTALL)  # fmt: skip
_LOGIN = re.compile(r"https?://([^/\s@'\"]*:[^/\s@'\"]*@)", re.I)  # a user with a password, even an empty one
_NO_LOGIN = re.compile(
    r"could not read (Username|Password)|Authentication failed|Permission denied|terminal prompts disabled"
    r"|Host key verification failed|No .*authentication methods|HTTP 40[13]|returned error: 40[13]|Invalid username",
    re.I,
)
_NO_SUCH = re.compile(
    r"does not appear to be a git repository|[Rr]epository .*not found|does not exist|error: 404", re.I
)

_NOT_ALLOWED = re.compile(r"transport '[\w+.-]{1,20}' not allowed")

Outcome = Literal[
    "new", "updated", "unchanged", "not_fast_forward", "refused", "default_branch", "no_remote", "no_login",
    "timeout", "failed",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push. `url` is without user and password; `text` one sentence for people, "" on success.

    `refused`: the remote would not take it, e.g. a protected branch; `text` has its words. `notes` name settings of the
    repository that were not used.
    """

    outcome: Outcome
    branch: str
    remote: str
    url: str = ""
    sha: str = ""
    text: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.outcome in ("new", "updated", "unchanged")


async def push(
    where: Workspace | Path,
    remote: str,
    branch: str,
    *,
    allow_default: bool = False,
    environment: Mapping[str, str] | None = None,
    protocols: tuple[str, ...] | None = None,
    timeout_s: float = PUSH_S,
) -> Pushed:
    """Push HEAD to `branch` of `remote`, which is a remote's name or a URL. Nobody is ever asked for a password.

    BadInput: no repository, no commit, or no name of a branch. Everything the remote has to do with is a `Pushed`.
    """
    git = await repository(where.place if isinstance(where, Workspace) else where, environment)
    if git is None:
        raise BadInput("project", f"{where} is in no Git repository: there is nothing to push")
    if branch.startswith("-") or (await git.run("check-ref-format", f"refs/heads/{branch}", check=False)).code:
        raise BadInput("branch", f"{branch[:120]!r} is no name of a branch")
    if (sha := await git.head()) is None:
        raise BadInput("project", f"{git.top} has no commit yet: there is nothing to push")
    url = url_of(git, remote)
    if url is None:
        names = sorted({one.key.split(".")[1] for one in git.settings if re.fullmatch(r"remote\..*\.url", one.key)})
        known = ", ".join(names) or "none"
        return Pushed(
            "no_remote", branch, without_login(remote), text=f"no remote {without_login(remote)}: there are {known}"
        )
    known = Pushed("failed", branch, without_login(remote), without_login(url), sha, notes=_notes(git))
    async with _sender(git, url, PROTOCOLS if protocols is None else protocols) as sender:
        done = await sender.push(known, allow_default, timeout_s)
    if done.ok and (ref := _tracking(git, remote, branch)) is not None:
        # As Git itself would, so that nobody takes these commits for ones that are nowhere else. Of no consequence
        # for the push, which is done.
        await git.run("update-ref", ref, sha, check=False)
    return done


def _tracking(git: Git, remote: str, branch: str) -> str | None:
    """Where this repository notes that branch of a remote; None: nowhere, as of a URL that has no name here."""
    for one in git.settings:
        source, _, target = one.value.removeprefix("+").partition(":")
        if one.key != f"remote.{remote}.fetch" or not target.startswith("refs/remotes/"):
            continue
        if source == f"refs/heads/{branch}" and "*" not in target:
            return target
        if source == "refs/heads/*" and target.endswith("/*"):
            return f"{target[:-1]}{branch}"
    return None


def url_of(git: Git, remote: str) -> str | None:
    """The URL as it is written down; of a name, that for pushing first."""
    for key in ("pushurl", "url"):
        found = [one.value for one in git.settings if one.key == f"remote.{remote}.{key}"]
        if found:
            return found[0]  # Git pushes to all of them; more than one place is more than was asked for
    return remote if "://" in remote or re.match(r"[\w.\-]+@[\w.\-]+:(?!:)", remote) else None


def _notes(git: Git) -> tuple[str, ...]:
    used = sorted({one.key for one in git.settings if one.of_repository and _TURNS.fullmatch(one.key)})
    return tuple(f"the repository's own setting {without_login(key)[:200]} was not used" for key in used[:10])


@dataclass(frozen=True, slots=True)
class _Sender:
    folder: Path
    env: Mapping[str, str]

    async def run(self, *words: str, timeout_s: float) -> Done:
        fixed = {
            "core.hooksPath": "/dev/null", "core.fsmonitor": "false", "push.followTags": "false",
            "push.gpgSign": "false", "push.recurseSubmodules": "no", "gc.auto": "0", "credential.interactive": "false",
            "safe.directory": str(self.folder),
        }  # fmt: skip
        off = [word for key, value in fixed.items() for word in ("-c", f"{key}={value}")]
        return await run_bounded(["git", *off, *words], self.folder, self.env, timeout_s=timeout_s, limit=1 << 20)

    async def push(self, known: Pushed, allow_default: bool, timeout_s: float) -> Pushed:
        try:
            if not allow_default and (refusal := await self._default(known, timeout_s)):
                return refusal
            done = await self.run(
                "push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no",
                "target", f"{known.sha}:refs/heads/{known.branch}", timeout_s=timeout_s,
            )  # fmt: skip
        except TimeoutError:
            return _as(known, "timeout", f"{known.url} did not answer within {timeout_s:g} s")
        return _judged(known, done)

    async def _default(self, known: Pushed, timeout_s: float) -> Pushed | None:
        """Why the branch may not be pushed to as it is the remote's default, or as the remote does not answer."""
        done = await self.run("ls-remote", "--symref", "target", "HEAD", timeout_s=timeout_s)
        if done.code:
            return _judged(known, done)
        named = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", done.text, re.M)
        if known.branch not in ((named[1],) if named else DEFAULTS):
            return None
        which = f"is the default branch of {known.url}" if named else "may be the default branch"
        return _as(known, "default_branch", f"{known.branch} {which}: name another one, or allow it by allow_default")


@asynccontextmanager
async def _sender(git: Git, url: str, protocols: tuple[str, ...]) -> AsyncGenerator[_Sender]:
    objects = await asyncio.to_thread((await git.path("objects")).resolve)
    shallow = await git.path("shallow")
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="bo-push-")
    place = Path(folder.name)
    try:
        await asyncio.to_thread(_fill, place, objects, shallow, url)
        yield _Sender(place, _environment(git, place, protocols))
    finally:
        await asyncio.to_thread(folder.cleanup)


def _fill(place: Path, objects: Path, shallow: Path, url: str) -> None:
    """A bare repository without anything of its own."""
    for name in ("objects/info", "refs/heads"):
        (place / name).mkdir(parents=True)
    (place / "HEAD").write_text("ref: refs/heads/none\n")
    settings = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
    if login := _LOGIN.match(url):
        # Git hands a URL to its helper on the command line, which everybody on this machine may read.
        url = url.replace(login[1], "", 1)
        _write(place / "login", login[0] + url.removeprefix(login[0].removesuffix(login[1])).partition("/")[0] + "\n")
        helper = _quoted(f"store --file={shlex.quote(str(place / 'login'))}")
        settings += f"[credential]\n\thelper =\n\thelper = {helper}\n\tuseHttpPath = false\n"
    _write(place / "config", f'{settings}[remote "target"]\n\turl = {_quoted(url)}\n')
    (place / "objects/info/alternates").write_text(f"{objects}\n")
    if shallow.is_file():
        (place / "shallow").write_bytes(shallow.read_bytes())


def _quoted(value: str) -> str:
    """A value as Git's configuration has it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def _environment(git: Git, place: Path, protocols: tuple[str, ...]) -> dict[str, str]:
    given = git.environment
    env = {name: given[name] for name in _KEPT if name in given}
    own: Setting | None = next(
        (one for one in reversed(git.settings) if one.key == "core.sshcommand" and not one.of_repository), None
    )
    ssh = given.get("GIT_SSH_COMMAND") or (own.value if own else "ssh")
    return env | {
        "PATH": given.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GIT_DIR": str(place),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_SSH_COMMAND": _unattended(ssh),
    }


def _unattended(ssh: str) -> str:
    """The ssh command, told to ask nobody and to leave nothing running; another program is left as it is."""
    with contextlib.suppress(ValueError):
        words = shlex.split(ssh)
        if words and Path(words[0]).name == "ssh":
            # A shared connection that outlives the push would hold our pipes open.
            return f"{ssh} -o BatchMode=yes -o ControlMaster=no -o ControlPersist=no"
    return ssh


def _judged(known: Pushed, done: Done) -> Pushed:
    said = without_login(done.err[-MAX_ERROR:])
    line = next((one for one in done.text.splitlines() if one[1:2] == "\t" and "refs/heads/" in one), "")
    summary = line.split("\t")[2] if line.count("\t") >= 2 else ""
    words = " ".join(one.removeprefix("remote:").strip() for one in said.splitlines() if one.startswith("remote:"))
    words = re.sub(r"[\x00-\x1f\x7f]", " ", words).strip()[:600]
    place = f"{known.branch} of {known.url}"
    if not done.code and line[:1] in (" ", "*", "="):
        return _as(known, {"*": "new", "=": "unchanged"}.get(line[:1], "updated"), "")  # type: ignore[arg-type]
    if "fetch first" in summary or "non-fast-forward" in summary or "stale info" in summary:
        return _as(known, "not_fast_forward", f"{place} has commits that are not in this one: take them in first")
    if line.startswith("!"):
        reason = summary.partition("(")[2].rstrip(")") or summary
        return _as(known, "refused", f"{place} was refused: {without_login(reason)}{f': {words}' if words else ''}")
    if _NO_LOGIN.search(said):
        return _as(known, "no_login", f"{known.url} wants a login that Git has not got: {_last(said)}")
    if _NO_SUCH.search(said):
        return _as(known, "no_remote", f"{known.url} is no repository that can be reached: {_last(said)}")
    if _NOT_ALLOWED.search(said):
        # The hooks of a repository on this machine would run as its user.
        can = f"only {', '.join(PROTOCOLS[:-1])} and {PROTOCOLS[-1]} URLs are pushed to"
        return _as(known, "failed", f"nothing was pushed to {known.url}, which is not allowed: {can}")
    return _as(known, "failed", f"nothing was pushed to {known.url}: {_last(said) or f'exit code {done.code}'}")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))), lines[-1] if lines else "")
    return re.sub(r"[\x00-\x1f\x7f]", " ", found)[:300]


def _as(known: Pushed, outcome: Outcome, text: str) -> Pushed:
    return Pushed(outcome, known.branch, known.remote, known.url, known.sha, text, known.notes)
