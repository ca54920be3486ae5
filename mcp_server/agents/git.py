"""Runs git where nothing that lies in a repository is to be run: one place, a time limit and bounded output.

A repository's own configuration may name programs: hooks, filters, fsmonitor, editors, transports. Here every one of
them is off, the environment is built anew, and no transport is allowed but where `agents/push.py` says so.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.errors import BadInput, EnvironmentMissing, OrchestratorError

LOCAL_S = 120.0  # one git command on local files; a status of 100,000 files on a cold disk takes some tens of seconds
MAX_OUTPUT = 64 << 20  # bytes; the names of some 500,000 files
MAX_ERROR = 16 << 10  # bytes of stderr that are kept, the last ones: git says at its end why it stopped
_MAX_FILTERS = 200  # names that are switched off on the command line; three are many

_OFF = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.splitIndex", "false"),
    ("core.sparseCheckout", "false"),
    ("core.ignoreStat", "false"),
    ("core.checkStat", "default"),
    ("core.safecrlf", "false"),
    ("core.quotePath", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("core.askPass", ""),
    ("core.alternateRefsCommand", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("apply.whitespace", "nowarn"),
    ("apply.ignoreWhitespace", "no"),
)
_CARRIED = ("core.autocrlf", "core.eol", "core.precomposeunicode", "core.bigfilethreshold")
_REPOSITORYS = ("local", "worktree")
_FILTER = re.compile(r"filter\.(.+)\.[^.]+", re.DOTALL)
_LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+@")


class GitFailed(OrchestratorError):
    """git ended with an error. `code` is its exit code, `said` the end of what it wrote to stderr."""

    reason = "git"

    def __init__(self, what: str, code: int, said: str) -> None:
        self.code, self.said = code, said
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
        named = [line for line in lines if line.startswith(("fatal:", "error:"))]
        told = lines[-3:] if set(named) & set(lines[-3:]) else named[-1:] or lines[-3:]  # advice may follow the fault
        super().__init__(f"git {what}: {' '.join(told)[:600] or f'exit code {code}'}")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. `cut`: it wrote more than was wanted and was stopped there."""

    code: int
    out: bytes
    err: str
    cut: bool = False

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "surrogateescape").strip("\n")


async def run_bounded(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    stdin: bytes = b"",
    timeout_s: float = LOCAL_S,
    limit: int = MAX_OUTPUT,
) -> Done:
    """Run to the end, at most `timeout_s` and `limit` bytes of stdout; its process group is killed where it is left.

    TimeoutError. EnvironmentMissing: there is no such program. BadInput: the folder is gone.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # no terminal to ask at, and one group to kill
        )
    except FileNotFoundError as error:
        if error.filename == str(cwd):
            raise BadInput("project", f"{cwd} is not there") from None
        raise EnvironmentMissing(f"{argv[0]} is not on the PATH: install it, e.g. apt install git") from None
    except OSError as error:
        raise BadInput("project", f"git cannot be run in {cwd}: {error.strerror}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout_s):
            _, (out, cut), err = await asyncio.gather(
                _feed(process, stdin), _head(process, process.stdout, limit), _tail(process.stderr)
            )
            code = await process.wait()
    except BaseException:
        _kill(process)
        await asyncio.shield(_gone(process))
        raise
    return Done(code, out, err.decode("utf-8", "replace"), cut)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _gone(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(OSError, ValueError):
        await process.communicate()  # closes the pipes too


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()
    with contextlib.suppress(ConnectionError):
        await process.stdin.wait_closed()


async def _head(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, limit: int) -> tuple[bytes, bool]:
    kept, cut = bytearray(), False
    while piece := await stream.read(65536):
        if cut:
            continue  # to the end, so that the pipe is closed
        kept += piece
        if len(kept) > limit:
            cut = True
            _kill(process)
    return bytes(kept[:limit]), cut


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while piece := await stream.read(65536):
        kept = (kept + piece)[-MAX_ERROR:]
    return kept


def without_login(text: str) -> str:
    """The text with `***` for the user and password of each URL in it."""
    return _LOGIN.sub("***@", text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of a configuration. `scope` is Git's word: system, global, local or worktree."""

    scope: str
    key: str
    value: str

    @property
    def of_repository(self) -> bool:
        return self.scope in _REPOSITORYS


@dataclass(frozen=True, slots=True)
class Git:
    """git in the work tree `top`, with its configuration as it was when this was made.

    `excludes` is the user's own list of ignored names, or one that stands for it.
    """

    top: Path
    settings: tuple[Setting, ...]
    environment: Mapping[str, str]
    excludes: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    async def at(cls, top: Path, environment: Mapping[str, str] | None = None) -> "Git":
        """Read the configuration that git sees in `top`: no program that it names is run for that.

        Made anew for each folder and HEAD: `includeIf` lets a filter appear on one branch only.
        """
        given = os.environ if environment is None else environment
        words = ["git", "-c", f"safe.directory={top}", "config", "--list", "-z", "--show-scope"]
        env = {**_base(given, top), **{name: given[name] for name in ("HOME", "XDG_CONFIG_HOME") if name in given}}
        done = await _limited(words, top, env, "config --list", 20)
        if done.code:
            raise GitFailed("config --list", done.code, without_login(done.err))
        settings = tuple(_settings(done.out))
        return cls(top, settings, given, _excludes(settings, given))

    def last(self, key: str) -> Setting | None:
        """The entry that counts, by its lower-case key."""
        return next((one for one in reversed(self.settings) if one.key == key), None)

    def filters(self) -> list[str]:
        """The names of all filters that some configuration knows. BadInput: one cannot be switched off."""
        names = sorted({match[1] for one in self.settings if (match := _FILTER.fullmatch(one.key))})
        if len(names) > _MAX_FILTERS or any("=" in name for name in names):
            raise BadInput("project", f"Git's configuration in {self.top} has filters that cannot be switched off")
        return names

    def words(self) -> list[str]:
        """The beginning of every command line: what is off, the user's own choices that change what files mean."""
        chosen = [(key, one.value) for key in _CARRIED if (one := self.last(key)) and not one.of_repository]
        off = [
            (f"filter.{name}.{what}", "false" if what == "required" else "")
            for name in self.filters()
            for what in ("clean", "smudge", "process", "required")
        ]
        pairs = [("safe.directory", str(self.top)), *_OFF, *chosen, *off]
        pairs.append(("core.excludesFile", str(self.excludes or "/dev/null")))
        return ["git", *(word for key, value in pairs for word in ("-c", f"{key}={value}"))]

    async def run(
        self,
        *words: str,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
        limit: int = MAX_OUTPUT,
        timeout_s: float = LOCAL_S,
        check: bool = True,
    ) -> Done:
        """One command in `top`. GitFailed: it did not succeed in time (unless `check` is off) or said too much."""
        env = {
            **_base(self.environment, self.top),
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            **self.variables,
            **(variables or {}),
        }
        done = await _limited([*self.words(), *words], self.top, env, words[0], timeout_s, stdin=stdin, limit=limit)
        if check and done.cut:
            raise GitFailed(words[0], done.code, f"it printed more than {limit:,} bytes")
        if check and done.code:
            raise GitFailed(words[0], done.code, without_login(done.err))
        return done

    async def text(self, *words: str, variables: Mapping[str, str] | None = None, check: bool = True) -> str:
        """What one command printed; "" where it failed and `check` is off."""
        done = await self.run(*words, variables=variables, check=check)
        return "" if done.code else done.text

    async def path(self, name: str) -> Path:
        """Where a file of Git's own lies, e.g. `index`."""
        return self.top / await self.text("rev-parse", "--git-path", name)

    async def head(self) -> str | None:
        """The commit of HEAD; None: there is none yet."""
        return await self.text("rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False) or None

    async def branch(self) -> str | None:
        """The branch that HEAD is on, e.g. `bo/fix-1`, also one without a commit; None: detached."""
        return (await self.text("symbolic-ref", "--quiet", "--short", "HEAD", check=False)) or None


async def _limited(
    words: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    what: str,
    timeout_s: float,
    *,
    stdin: bytes = b"",
    limit: int = MAX_OUTPUT,
) -> Done:
    try:
        return await run_bounded(words, cwd, env, stdin=stdin, timeout_s=timeout_s, limit=limit)
    except TimeoutError:
        raise GitFailed(what, -1, f"it did not end within {timeout_s:g} s") from None


def _base(given: Mapping[str, str], top: Path) -> dict[str, str]:
    return {
        "PATH": given.get("PATH", os.defpath),
        "LC_ALL": "C",  # its sentences are read
        **({"TMPDIR": given["TMPDIR"]} if "TMPDIR" in given else {}),
        "GIT_CEILING_DIRECTORIES": str(top.parent),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_EDITOR": "false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_NO_LAZY_FETCH": "1",
    }


def _settings(listed: bytes) -> list[Setting]:
    parts = listed.decode("utf-8", "surrogateescape").split("\0")
    found: list[Setting] = []
    for scope, entry in zip(parts[::2], parts[1::2], strict=False):
        key, _, value = entry.partition("\n")
        found.append(Setting(scope, key, value))
    return found


def _excludes(settings: Sequence[Setting], given: Mapping[str, str]) -> Path | None:
    home = given.get("HOME", "")
    named = next((one.value for one in reversed(settings) if one.key == "core.excludesfile"), None)
    if named is None:
        base = given.get("XDG_CONFIG_HOME") or (home and f"{home}/.config")
        named = f"{base}/git/ignore" if base else ""
    if named.startswith("~/"):
        named = home + named[1:]
    return Path(named) if named.startswith("/") else None


def real_path(path: Path) -> Path:
    """`path` with every link resolved, whatever is there."""
    return Path(os.path.realpath(path))


def work_tree(folder: Path) -> Path | None:
    """The nearest folder, `folder` or above it, that has a `.git`; all links resolved."""
    real = real_path(folder)
    return next((place for place in (real, *real.parents) if os.path.lexists(place / ".git")), None)


async def repository(project: Path, environment: Mapping[str, str] | None = None) -> Git | None:
    """git for the work tree that `project` belongs to; None: to none.

    A folder of which nothing is tracked does not belong to the repository around it: that may be a whole home.
    BadInput: the repository cannot be read, or says that its files are somewhere else.
    """
    real = await asyncio.to_thread(real_path, project)
    if not await asyncio.to_thread(real.is_dir):
        raise BadInput("project", f"{project} is not a folder")
    top = await asyncio.to_thread(work_tree, real)
    if top is None:
        return None
    try:
        git = await Git.at(top, environment)
        says = await git.text("rev-parse", "--show-toplevel")
    except GitFailed as error:
        raise BadInput("project", f"{top}/.git is there, but Git cannot use it ({error})") from None
    if await asyncio.to_thread(real_path, Path(says)) != top:
        raise BadInput(
            "project", f"the Git repository in {top} says that its files are in {says} (core.worktree): unset that"
        )
    if top != real and not await git.text("ls-files", "--", str(real.relative_to(top))):
        return None
    return git
