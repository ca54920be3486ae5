"""Where a template comes from: copied or cloned into a folder of ours, checked before anything of it is used."""

import asyncio
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.templates.catalog import BUILT_IN
from mcp_server.templates.program import Bounds, run
from mcp_server.text import one_line

CLONE_S = 120.0

_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9_~/.][^\s:]*")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LOCAL_S = ("/", "~", ".")


@dataclass(frozen=True, slots=True)
class Source:
    """A template as it was named: a local `folder`, or a Git `url` with a `branch` or tag ("" for the default)."""

    name: str
    folder: Path | None = None
    url: str = ""
    branch: str = ""


def find_source(template: str, *, trusted: bool) -> Source:
    """What `template` means. BadInput: nothing that can be used. Reads: call it in a thread."""
    text = template.strip()
    if not text or len(text) > 2000 or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise _refused("should be a built-in template, a folder, or a Git URL")
    if re.fullmatch(r"[a-z0-9-]+", text) and (BUILT_IN / text).is_dir():
        return Source(text, folder=BUILT_IN / text)
    if text.startswith("-"):
        raise _refused("begins with '-', which a program would take for an option")
    if text.startswith(_LOCAL_S):
        return _local(text)
    if "::" in text:
        raise _refused("names a Git helper (…::…); only https and ssh are used")
    if _SCP.fullmatch(text.partition("#")[0]) or _SCHEME.match(text):
        return _git(text, trusted)
    names = ", ".join(sorted(folder.name for folder in BUILT_IN.iterdir() if folder.is_dir()))
    raise _refused(f"no template {text[:60]!r}; built in are {names}; else an absolute folder or a Git URL")


async def bring(source: Source, into: Path, *, trusted: bool, bounds: Bounds) -> str:
    """Bring the template into the folder `into`, which does not exist yet; the commit, "" for a local one.

    BadInput: it cannot be had, is too large, or has links that lead out of it.
    """
    if source.folder is not None:
        await asyncio.to_thread(_copy, source, into, bounds)
        return ""
    commit = await _clone(source, into, trusted, bounds)
    await asyncio.to_thread(_stays_inside, into, source.name, bounds)
    return commit


def _local(text: str) -> Source:
    if not text.startswith(("/", "~")):
        raise _refused("a folder should be an absolute path, or begin with ~")
    try:
        folder = Path(text).expanduser().resolve(strict=True)
    except (OSError, RuntimeError):
        raise _refused(f"no folder {text[:200]}") from None
    if not folder.is_dir():
        raise _refused(f"{text[:200]} is no folder")
    return Source(str(folder), folder=folder)


def _git(text: str, trusted: bool) -> Source:
    url, _, branch = text.partition("#")
    if branch and (not _BRANCH.fullmatch(branch) or ".." in branch):
        raise _refused("what stands behind '#' should be a branch or a tag")
    if _SCP.fullmatch(url):
        return Source(url, url=url, branch=branch)
    try:
        parts = urlsplit(url)
        _ = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise _refused("is no URL") from None
    scheme = parts.scheme.lower()
    if scheme == "file" and not trusted:
        raise _refused("file:// is for trusted templates; name the folder itself")
    if scheme not in ("https", "ssh", "file"):
        raise _refused(f"{scheme}: is not used for templates; https and ssh are")
    if scheme != "file" and (not host or host.startswith("-") or (parts.username or "").startswith("-")):
        raise _refused("names no host that can be used")
    if parts.password or (scheme == "https" and "@" in parts.netloc):
        raise _refused("holds a user or password, which would be recorded: leave it to Git's credentials")
    return Source(url, url=url, branch=branch)


def _copy(source: Source, into: Path, bounds: Bounds) -> None:
    assert source.folder is not None
    _stays_inside(source.folder, source.name, bounds)
    try:
        shutil.copytree(source.folder, into, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    except (OSError, shutil.Error) as error:
        raise _refused(f"{source.name} cannot be read: {one_line(error, 200)}") from None
    _stays_inside(into, source.name, bounds)  # what was changed while it was copied


def _stays_inside(folder: Path, name: str, bounds: Bounds) -> None:
    """BadInput: too many files or bytes, a link that leads out, or what is neither file nor folder."""
    root = Path(os.path.realpath(folder))
    files = size = 0
    for place, folders, names in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        for entry in (*folders, *names):
            path = Path(place, entry)
            found = path.lstat()
            files, size = files + 1, size + found.st_size
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(path)  # noqa: PTH115 - as it is written
                if Path(target).is_absolute() or not Path(os.path.realpath(path)).is_relative_to(root):
                    raise _refused(f"{name}: the link {path.relative_to(root)} leads out of the template")
            elif not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise _refused(f"{name}: {path.relative_to(root)} is neither a file nor a folder")
        if files > bounds.files or size > bounds.size:
            raise _refused(f"{name} is {bounds.too_much}")


async def _clone(source: Source, into: Path, trusted: bool, bounds: Bounds) -> str:
    git = shutil.which("git")
    if git is None:
        raise EnvironmentMissing("git is not installed: apt-get install git")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),  # the user's own keys and credentials
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file" if trusted else "https:ssh",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_TEMPLATE_DIR": "",
    }
    environment |= {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
    options = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "submodule.recurse=false"]
    branch = ["--branch", source.branch] if source.branch else []
    argv = [git, *options, "clone", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", *branch]
    code, said = await run(
        [*argv, "--", source.url, str(into)],
        environment,
        into.parent,
        limit_s=CLONE_S,
        writes=into,
        bounds=Bounds(bounds.files * 2, bounds.size * 2),  # its objects are there, too
    )
    if code != 0:
        lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "ERROR:", "ssh:"))]
        why = (lines or said.splitlines() or [f"git ended with {code}"])[0]
        raise _refused(f"{source.name} cannot be cloned: {one_line(why, 300)}")
    code, said = await run(
        [git, *options, "-C", str(into), "rev-parse", "HEAD"],
        environment,
        into.parent,
        limit_s=CLONE_S,
        writes=into,
        bounds=Bounds(bounds.files * 2, bounds.size * 2),
    )
    return said.strip() if code == 0 else ""


def _refused(why: str) -> BadInput:
    return BadInput("template", why)
