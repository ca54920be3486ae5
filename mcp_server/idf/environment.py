"""The ESP-IDF installations of this machine, the one that a build is to use, and the environment of a build's job."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.idf.installation import Installation, read_text, read_version, stamp, version_numbers

EIM_FOLDERS = (".espressif/tools", ".espressif")
"""Below HOME: where the ESP-IDF Installation Manager keeps eim_idf.json. An administrator's is below `SYSTEM`."""

SYSTEM = (Path("/opt/espressif/tools"), Path("/opt/espressif"))

CUSTOMARY = ("esp/esp-idf", "esp/*/esp-idf", "esp/esp-idf-*", "esp/idf", "esp/v*", ".espressif/*/esp-idf", "esp-idf")
"""Below HOME: Espressif's guides, its editor plugins and EIM clone to one of these."""

GUIDE = "https://docs.espressif.com/projects/esp-idf/en/stable/esp32/get-started/"
NAMED = ("IDF_PATH", "config.yaml")
"""Sources by which a person names an installation, the first before the second."""

MAX_CANDIDATES = 64  # someone who keeps more has a folder full of something else

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_PASSED = {"HOME", "USER", "PATH", "SHELL", "LANG", "TZ", "TMPDIR", *_PROXIES, *(name.upper() for name in _PROXIES)}
_PASSED_PREFIXES = ("LC_", "CCACHE_", "IDF_")

# They describe the client's own activated shell, which may be another version's.
_OF_A_SHELL = {"IDF_PATH", "IDF_TOOLS_PATH", "IDF_PYTHON_ENV_PATH", "IDF_DEACTIVATE_FILE_PATH", "IDF_PATH_OLD"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A folder that was named, or looks like ESP-IDF, and cannot build. `why` ends with the command that mends it."""

    path: Path
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What there is on this machine, first the named ones: IDF_PATH, then config.yaml's, then the others."""

    installations: tuple[Installation, ...] = ()
    broken: tuple[Broken, ...] = ()

    @property
    def may_be_simulated(self) -> bool:
        """Nobody named one and none can build: only then may the demo's simulated one stand in, never silently.

        Whoever names the simulated one itself has said so.
        """
        named = (bad for bad in self.broken if bad.source in NAMED)
        return not self.installations and all((bad.path / SIMULATED).is_file() for bad in named)


SIMULATED = "SIMULATED.md"  # lies in an installation that only plays ESP-IDF


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    source: str
    python: Path | None = None
    tools_path: Path | None = None
    named: bool = True


def find_installations(environment: Mapping[str, str], extra: Sequence[Path] = ()) -> Found:
    """What the environment, `extra`, EIM's list and the customary folders lead to, usable or not. Reads the disk."""
    good: list[Installation] = []
    broken: list[Broken] = []
    seen: set[str] = set()
    for number, candidate in enumerate(_candidates(environment, extra)):
        # A symbolic link stays as it was written: CMake's cache holds that spelling, another one means a full rebuild.
        path = os.path.realpath(candidate.path)
        if path in seen or number >= MAX_CANDIDATES:
            continue
        found = _examine(candidate, environment)
        if found is None:
            continue
        seen.add(path)
        if isinstance(found, Installation):
            good.append(found)
        else:
            broken.append(found)
    return Found(tuple(good), tuple(broken))


def choose_installation(found: Found, wanted: str | None = None) -> Installation:
    """The installation to use: IDF_PATH's, else config.yaml's, else the newest; of version `wanted` where that is set.

    A named one that cannot build is an error, never a reason to take another. EnvironmentMissing says what to do next.
    """
    asked = _asked_version(wanted)
    fitting = [one for one in found.installations if version_numbers(one.version)[: len(asked)] == asked]
    for source in NAMED:
        for bad in found.broken:
            if bad.source == source and not (asked and fitting):
                raise EnvironmentMissing(f"{source} names {bad.path}, but {bad.why}")
        for one in fitting:
            if one.source == source:
                return one
    if fitting:
        return max(fitting, key=lambda one: version_numbers(one.version))
    raise EnvironmentMissing(_none_fits(found, wanted or ""))


def _asked_version(wanted: str | None) -> tuple[int, ...]:
    if not wanted or not wanted.strip():
        return ()
    if not re.fullmatch(r"v?\d{1,4}(\.\d{1,4}){0,2}", wanted.strip()):
        raise BadInput("ESP_IDF_VERSION", f"{wanted[:40]!r} is no version: it is written 5.1, v5.1 or 5.1.2")
    return version_numbers(wanted)


def _none_fits(found: Found, wanted: str) -> str:
    there = ", ".join(f"{one.version} in {one.path}" for one in found.installations)
    broken = "; ".join(f"{bad.path} cannot be used: {bad.why}" for bad in found.broken[:3])
    if there:
        version = wanted.strip().removeprefix("v")
        return f"ESP-IDF {version} is not here; there is {there}: set ESP_IDF_VERSION to one of these"
    if broken:
        return f"no usable ESP-IDF was found; {broken}"
    return f"no ESP-IDF was found: install it ({GUIDE}), or set IDF_PATH to the folder that holds its export.sh"


def _candidates(environment: Mapping[str, str], extra: Sequence[Path]) -> Iterator[_Candidate]:
    home = Path(environment.get("HOME") or Path.home())
    if environment.get("IDF_PATH"):
        yield _Candidate(_absolute(environment["IDF_PATH"]), "IDF_PATH")
    elif on_path := shutil.which("idf.py", path=environment.get("PATH")):
        yield _Candidate(Path(on_path).resolve().parent.parent, "PATH", named=False)
    for path in extra:
        yield _Candidate(_absolute(path), "config.yaml")
    folders = [home / folder for folder in EIM_FOLDERS] + list(SYSTEM)
    if environment.get("IDF_TOOLS_PATH"):
        folders.insert(0, Path(environment["IDF_TOOLS_PATH"]))
    for folder in folders:
        yield from _eim(folder / "eim_idf.json")
    for pattern in CUSTOMARY:
        for path in sorted(home.glob(pattern)):
            yield _Candidate(path, "found", named=False)


def _eim(file: Path) -> Iterator[_Candidate]:
    """The installations in EIM's list (format 1.0 and 2.0); a list that cannot be read is as good as none."""
    try:
        content: Any = json.loads(read_text(file) or "{}")
    except (ValueError, RecursionError):
        return
    listed: Any = cast("dict[str, Any]", content).get("idfInstalled") if isinstance(content, dict) else None
    for entry in cast("list[Any]", listed) if isinstance(listed, list) else []:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        path, python, tools = (_path(fields.get(name)) for name in ("path", "python", "idfToolsPath"))
        if path:
            yield _Candidate(path, "eim", python, tools)


def _path(value: object) -> Path | None:
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    return _absolute(value)


def _absolute(path: str | Path) -> Path:
    """Made absolute, its links left. A NUL or an unknown `~user` only makes a path that does not exist."""
    return Path(os.path.expanduser(os.fspath(path).replace("\0", "?"))).absolute()  # noqa: PTH111


def _examine(candidate: _Candidate, environment: Mapping[str, str]) -> Installation | Broken | None:
    """None: not named by anyone, and not ESP-IDF either."""
    path = candidate.path
    missing = next((name for name in ("idf.py", "idf_tools.py") if not stamp(path / "tools" / name)), None)
    version = None if missing else read_version(path)
    if missing or version is None:
        if not candidate.named:
            return None
        if not stamp(path):
            return Broken(path, candidate.source, f"there is no such folder: correct it, or install ESP-IDF ({GUIDE})")
        lacking = f"it has no tools/{missing}" if missing else "tools/cmake/version.cmake tells no version"
        return Broken(path, candidate.source, f"{lacking}: name the folder that holds ESP-IDF's export.sh")
    release = ".".join(version.split(".")[:2])
    for tools_path, python in _pythons(candidate, release, environment):
        if stamp(python):
            return Installation(
                path=path, version=version, python=python, tools_path=tools_path, source=candidate.source
            )
    return Broken(path, candidate.source, f"its Python environment is missing: run {path / 'install.sh'}")


def _pythons(candidate: _Candidate, release: str, environment: Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    """Folders of tools with the Python to go with them, the likeliest first."""
    home = Path(environment.get("HOME") or Path.home())
    given = environment.get("IDF_TOOLS_PATH")
    default = candidate.tools_path or (Path(given) if given else home / ".espressif")
    if candidate.python:
        # idf.py's first line says `python`, and a build directory refuses the same Python by another name.
        yield default, candidate.python.with_name("python")
        yield default, candidate.python
    active = environment.get("IDF_PYTHON_ENV_PATH")
    if active and _is_of_release(Path(active), release):
        yield default, Path(active) / "bin" / "python"
    for tools_path in dict.fromkeys([default, home / ".espressif", home / ".espressif/tools", candidate.path.parent]):
        environments = tools_path.glob(f"python_env/idf{release}_py*_env/bin/python")
        for python in sorted(
            environments, key=lambda one: version_numbers(one.parts[-3].split("_py")[-1]), reverse=True
        ):
            yield tools_path, python
        # EIM's own layout: tools/python/v5.4.1/venv
        for python in sorted(tools_path.glob(f"python/v{release}*/venv/bin/python")):
            yield tools_path, python


def _is_of_release(environment: Path, release: str) -> bool:
    """ESP-IDF writes its version into the Python environment; an older one's packages do not fit a newer ESP-IDF."""
    written = (read_text(environment / "idf_version.txt", 100) or "").strip()
    return written == release if written else f"idf{release}_" in environment.name or "idf" not in environment.name


def job_environment(
    activated: Mapping[str, str], client_env: Mapping[str, str], env_pass: Sequence[str] = ()
) -> dict[str, str]:
    """The whole environment of a job: the little it takes of the client's, then the activation on top.

    `activated["PATH"]` goes in front of the client's PATH. `activated` may be empty for a job that is not ESP-IDF's.
    """
    environment = {name: value for name, value in client_env.items() if _passes(name) or name in env_pass}
    if activated:
        environment = {name: value for name, value in environment.items() if name not in _OF_A_SHELL}
    agent = client_env.get("SSH_AUTH_SOCK")
    if agent and _listens(agent):
        environment["SSH_AUTH_SOCK"] = agent
    path = environment.get("PATH") or DEFAULT_PATH
    environment |= activated
    environment["PATH"] = joined_path([activated.get("PATH", ""), path])
    return environment


def joined_path(parts: Iterable[str]) -> str:
    """Several PATH values as one, each folder once, where it comes first."""
    return ":".join(dict.fromkeys(folder for part in parts for folder in part.split(":") if folder))


def _passes(name: str) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIXES)


def _listens(path: str) -> bool:
    """Whether an agent answers at this socket. A dead one makes every git and ssh of the build wait or warn."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its queue is full, so somebody lives there
            return True
        except (OSError, ValueError):
            return False
    return True
