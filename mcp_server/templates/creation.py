"""Makes a project of a template: rendered beside its place, checked, renamed into it; a failure leaves nothing."""

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from mcp_server.errors import BadInput, EnvironmentMissing, OrchestratorError
from mcp_server.templates.catalog import Template, check_trust, check_variables, read_template
from mcp_server.templates.program import Bounds, run
from mcp_server.templates.source import Source, bring, find_source
from mcp_server.text import one_line

ANSWERS = ".copier-answers.yml"
"""In each project: which template, of which commit, with which variables; `copier update` reads it, too."""

RENDER_S = 60.0
RENDER_KB = 2_000_000  # of memory, for a template that is not trusted
FILE_BLOCKS = 200_000  # of 512 or 1,024 bytes, as the shell counts: the largest file it may write
STALE_S = 3600.0  # what a killed creation left beside its place is removed after that

_LIMITS = 'ulimit -v "$1" 2>/dev/null; ulimit -f "$2" 2>/dev/null; shift 2; exec "$@"'
_FAULT = re.compile(r"(?:Validation error for question '(?P<name>[^']+)'|Invalid choice for '(?P<choice>[^']+)'): (.*)")
_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Undefined)): (.*)")


@dataclass(frozen=True, slots=True)
class Created:
    """A project that was made. `commit` is the template's, "" for a local one."""

    folder: Path
    template: str
    commit: str
    variables: Mapping[str, str]


def check(template: str, variables: Mapping[str, str]) -> None:
    """What of a new project can be told without making it: all but what only a clone could tell. Reads.

    BadInput: no such template, or not its variables; EnvironmentMissing: copier is absent.
    """
    source = find_source(template, trusted=False)
    _check_copier()
    if source.folder is None:
        return
    read = read_template(source.folder, source.name)
    check_trust(read, trusted=False)
    check_variables(read, variables)


async def create(
    template: str,
    destination: Path,
    variables: Mapping[str, str],
    *,
    trusted: bool = False,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> Created:
    """Make the project `destination`, which must not exist or be empty, in a folder that exists.

    `template` is a built-in one's name, an absolute folder, or an https or ssh Git URL with `#branch` or `#tag`.
    BadInput says what is wrong with it or with `variables`; EnvironmentMissing: copier or git is absent. Whatever
    fails, or is cancelled, leaves nothing behind. `trusted` lets the template run programs of its own as this user.
    """
    await asyncio.to_thread(_check_place, destination)
    source = await asyncio.to_thread(find_source, template, trusted=trusted)
    await asyncio.to_thread(_check_copier)
    work = destination.parent / f".{destination.name}.new-{secrets.token_hex(4)}"
    try:
        await asyncio.to_thread(_begin, work)
        commit = await bring(source, work / "template", trusted=trusted, bounds=bounds)
        read = await asyncio.to_thread(read_template, work / "template", source.name)
        check_trust(read, trusted)
        check_variables(read, variables)
        await _render(read, work, variables, trusted, bounds)
        await asyncio.to_thread(_finish, work / "made", source, commit, variables, destination, bounds)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, work, ignore_errors=True))
    return Created(destination, source.name, commit, dict(variables))


def answers_of(folder: Path) -> Mapping[str, Any]:
    """What `.copier-answers.yml` in `folder` says; empty where there is none. Reads."""
    try:
        with (folder / ANSWERS).open("rb") as file:
            found = yaml.safe_load(file.read(1_000_000))
    except (OSError, yaml.YAMLError, RecursionError, ValueError):
        return {}
    return cast(Mapping[str, Any], found) if isinstance(found, dict) else {}


def created_already(template: str, folder: Path, variables: Mapping[str, str], *, trusted: bool = False) -> bool:
    """Whether `folder` is what `create` makes of these: a worker that begins again leaves it as it is. Reads."""
    answers = answers_of(folder)
    try:
        name = find_source(template, trusted=trusted).name
    except OrchestratorError:
        return False
    return answers.get("_src_path") == name and answers.get("_variables") == dict(variables)


def _check_place(destination: Path) -> None:
    if not destination.is_absolute():
        raise BadInput("destination", "should be an absolute path")
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise BadInput("destination", f"{destination} is there already and no folder")
    if destination.is_dir() and any(destination.iterdir()):
        raise BadInput("destination", f"{destination} is there already and not empty")
    if not destination.parent.is_dir():
        raise BadInput("destination", f"the folder {destination.parent} does not exist")
    if not os.access(destination.parent, os.W_OK | os.X_OK):
        raise BadInput("destination", f"the folder {destination.parent} cannot be written by this user")


def _has_copier() -> bool:
    return importlib.util.find_spec("copier") is not None


def _check_copier() -> None:
    if not _has_copier():
        raise EnvironmentMissing(
            f"templates need copier: {shlex.quote(sys.executable)} -m pip install 'build-orchestrator[agents]'"
        )


def _begin(work: Path) -> None:
    name = work.name.rpartition("-")[0]
    for stale in work.parent.glob(f"{name}-????????"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_S:
                shutil.rmtree(stale)
    try:
        work.mkdir(mode=0o700)
        (work / "home").mkdir()
    except OSError as error:
        raise BadInput("destination", f"{work.parent}: {error.strerror}") from None


async def _render(template: Template, work: Path, variables: Mapping[str, str], trusted: bool, bounds: Bounds) -> None:
    """Run copier, which brings a library under the GPL: a program beside ours, never imported."""
    data = work / "variables.yml"
    await asyncio.to_thread(data.write_text, yaml.safe_dump(dict(variables), allow_unicode=True), "utf-8")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/") if trusted else str(work / "home"),
        "COPIER_SETTINGS_PATH": str(work / "home" / "none.yml"),  # a user's own defaults and trust are not meant here
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "ignore",
        "GIT_CEILING_DIRECTORIES": str(work),
    }
    copier = [sys.executable, "-P", "-m", "copier", "copy", "--defaults", "--overwrite", "--quiet"]
    options = ["--data-file", str(data), *(["--trust"] if trusted else [])]
    limits = [] if trusted else ["sh", "-c", _LIMITS, "sh", str(RENDER_KB), str(FILE_BLOCKS)]
    await asyncio.to_thread(shutil.rmtree, work / "template" / ".git", ignore_errors=True)
    code, said = await run(
        [*limits, *copier, *options, str(work / "template"), str(work / "made")],
        environment,
        work,
        limit_s=RENDER_S,
        writes=work / "made",
        bounds=bounds,
    )
    if code != 0:
        raise _fault(template, said, code)


def _fault(template: Template, said: str, code: int) -> BadInput:
    """What copier says last, as a sentence: which variable, and what it may be."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if found := _FAULT.search(lines[number]):
            name = found["name"] or found["choice"]
            why = one_line(" ".join([found[3], *lines[number + 1 :]]), 400)
            return BadInput("variables", f"{name}: {why}")
    errors = [found[1] for line in lines if (found := _ERROR.match(line))]
    why = (errors or lines or [f"copier ended with {code}"])[-1]
    return BadInput("template", f"{template.name} cannot be rendered: {one_line(why, 400)}")


def _finish(
    made: Path, source: Source, commit: str, variables: Mapping[str, str], destination: Path, bounds: Bounds
) -> None:
    """Check what was made, write down of what, and put it into its place."""
    made.mkdir(exist_ok=True)
    _check_made(made, bounds)
    given = dict(variables)
    answers = {"_src_path": source.name, **({"_commit": commit} if commit else {}), **given, "_variables": given}
    marker = made / ANSWERS
    marker.unlink(missing_ok=True)
    head = "# Which template this project was made of. Changes here are overwritten by an update.\n"
    marker.write_text(head + yaml.safe_dump(answers, allow_unicode=True, sort_keys=True), "utf-8")
    made.chmod(0o755)
    try:
        made.rename(destination)  # replaces an empty folder, and no other
    except OSError as error:
        raise BadInput("destination", f"{destination} cannot be made: {error.strerror}") from None


def _check_made(made: Path, bounds: Bounds) -> None:
    """BadInput: a `.git` of the template's own, a link that leads out, what is neither file nor folder, or too much."""
    files = size = 0
    for place, folders, names in os.walk(made):
        for entry in (*folders, *names):
            path = Path(place, entry)
            inside = path.relative_to(made)
            if entry.lower().rstrip(". ") in (".git", "git~1"):
                raise BadInput("template", f"it makes {inside}, and a repository is not a template's to make")
            mode = path.lstat().st_mode
            files, size = files + 1, size + path.lstat().st_size
            if stat.S_ISLNK(mode):
                target = Path(os.path.realpath(path))
                if Path(os.readlink(path)).is_absolute() or not target.is_relative_to(made.resolve()):  # noqa: PTH115
                    raise BadInput("template", f"it makes the link {inside}, which leads out of the project")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BadInput("template", f"it makes {inside}, which is neither a file nor a folder")
    if files == 0:
        raise BadInput("template", "it makes no file at all")
    if files > bounds.files or size > bounds.size:
        raise BadInput("template", f"what it makes is {bounds.too_much}")
