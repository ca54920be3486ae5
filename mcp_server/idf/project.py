"""Tells an ESP-IDF project from what only looks like one, by reading its CMake files as CMake would include them."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mcp_server.errors import BadInput
from mcp_server.idf.installation import read_text
from mcp_server.model import Model

MAX_CMAKE_BYTES = 1024 * 1024  # ESP-IDF's own largest has 40 kB
OWN_FILES = (".build-orchestrator.yaml", ".build-orchestrator.yml")  # as project_file reads them, which imports more
MAX_INCLUDED = 20
MAX_LISTED = 200  # entries of a folder that are looked at to suggest another folder

_IDF_INCLUDE = re.compile(r"(^|[/}])tools/cmake/project\.cmake$|(^|[/}])tools/cmakev2/idf\.cmake$")
# A bracket comment without an end takes the rest: else a file of `#[[` alone would be read over and over.
_BLOCK = re.compile(r"#\[(=*)\[.*?(?:\]\1\]|\Z)|\"(?:\\.|[^\"\\])*\"|#[^\n]*", re.DOTALL)
_INCLUDE = re.compile(r"\binclude\s*\(\s*(\"(?:\\.|[^\"\\])*\"|[^\s)]+)", re.IGNORECASE)
_PROJECT = re.compile(r"\b(?:project|idf_project_init)\s*\(\s*\"?([^\s\")]+)", re.IGNORECASE)
_COMPONENT = re.compile(r"\b(?:idf_component_register|register_component|idf_component_add)\s*\(", re.IGNORECASE)
_HERE = re.compile(r"\$\{(?:CMAKE_CURRENT_SOURCE_DIR|CMAKE_SOURCE_DIR|PROJECT_DIR|PROJECT_SOURCE_DIR)\}")


DEFAULT_TARGET = "esp32"
"""What idf.py builds for where a project says nothing."""


class IdfProject(Model):
    """A folder that idf.py can build, or may be able to (`certain` False: its includes cannot all be resolved here).

    `target` is what a build without a target would be made for, as far as the files tell; `target_from` which file.
    """

    path: Path
    name: str
    target: str | None = None
    target_from: str | None = None
    certain: bool = True


@dataclass(slots=True)
class _Seen:
    """What the CMake files of a folder say."""

    is_project: bool = False
    is_component: bool = False
    in_doubt: bool = False
    name: str | None = None


def inspect_project(path: Path | str) -> IdfProject:
    """The project at `path`, links and `..` resolved. BadInput says why it is none, and which folder may be. Reads."""
    folder = _folder(Path(path))
    text = read_text(folder / "CMakeLists.txt", MAX_CMAKE_BYTES)
    if text is None:
        raise BadInput("project", _no_cmake(folder))
    seen = _look(folder, text)
    if not seen.is_project and not seen.in_doubt:
        raise BadInput("project", _no_project(folder, seen))
    target, target_from = current_target(folder, folder / "build")
    name = seen.name if seen.name and "$" not in seen.name else folder.name
    return IdfProject(
        path=folder, name=name or folder.name, target=target, target_from=target_from, certain=seen.is_project
    )


def is_project(folder: Path) -> bool:
    """Whether the CMakeLists.txt here includes ESP-IDF's project file, without doubt."""
    text = read_text(folder / "CMakeLists.txt", MAX_CMAKE_BYTES)
    return text is not None and _look(folder, text).is_project


def current_target(folder: Path, build_dir: Path, sdkconfig: Path | None = None) -> tuple[str | None, str | None]:
    """The target a plain `idf.py build` would build for, and the file that says so. Reads."""
    found = sdkconfig_target(sdkconfig or folder / "sdkconfig")
    if found:
        return found, "sdkconfig"
    if found := read_cache(build_dir).get("IDF_TARGET"):
        return found, "CMakeCache.txt"
    if found := sdkconfig_target(folder / "sdkconfig.defaults"):
        return found, "sdkconfig.defaults"
    return None, None


def sdkconfig_target(file: Path) -> str | None:
    """CONFIG_IDF_TARGET of an sdkconfig; of several lines the last counts, as for ESP-IDF."""
    values = re.findall(r'^CONFIG_IDF_TARGET="?([a-z0-9]{1,40})"?[ \t\r]*$', read_text(file) or "", re.MULTILINE)
    return values[-1] if values else None


def read_cache(build_dir: Path) -> dict[str, str]:
    """CMakeCache.txt as names and values; {} where there is none."""
    text = read_text(build_dir / "CMakeCache.txt") or ""
    return dict(re.findall(r"^([^#/:=\n]+):[^:=\n]+=(.*)$", text, re.MULTILINE))


def _folder(path: Path) -> Path:
    shown = repr(os.fspath(path)[:300])
    if "\0" in os.fspath(path):
        raise BadInput("project", f"{shown} is no path: it holds a NUL")
    try:
        folder = path.expanduser().resolve()
        found = folder.is_dir()
        exists = found or folder.exists()
    except (OSError, RuntimeError) as error:
        raise BadInput("project", f"{shown} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not exists:
        raise BadInput("project", f"there is no folder {shown}: name an ESP-IDF project's")
    if not found:
        raise BadInput("project", f"{shown} is a file: name the project's folder, e.g. {str(folder.parent)!r}")
    return folder


def _no_cmake(folder: Path) -> str:
    file = folder / "CMakeLists.txt"
    if file.is_file():
        if not os.access(file, os.R_OK):
            return f"{str(file)!r} cannot be read by this user"
        return f"{str(file)!r} is larger than {MAX_CMAKE_BYTES // 1024} kB and was not read: it is no CMakeLists.txt"
    what = "no CMakeLists.txt, so it is no ESP-IDF project"
    if (folder / "platformio.ini").is_file():
        what = "no CMakeLists.txt but a platformio.ini: PlatformIO builds it, idf.py does not"
    elif own := next((folder / name for name in OWN_FILES if (folder / name).is_file()), None):
        return f"{str(folder)!r} has no CMakeLists.txt but a {own.name}, a pipeline that builds it: pipeline_run {own}"
    near = _suggestion(folder)
    return f"{str(folder)!r} has {what}{f'; there is one in {near}' if near else ''}"


def _no_project(folder: Path, seen: _Seen) -> str:
    near = _suggestion(folder)
    if seen.is_component:
        likely = f"; the project is likely {near}" if near else ""
        return f"{str(folder)!r} is a component, which only builds inside a project{likely}"
    also = f"; there is a project in {near}" if near else ""
    wanted = "include($ENV{IDF_PATH}/tools/cmake/project.cmake)"
    return f"{str(folder)!r} is no ESP-IDF project: its CMakeLists.txt lacks {wanted}{also}"


def _suggestion(folder: Path) -> str:
    """A project around the folder, else those right below it."""
    for above in list(folder.parents)[:3]:
        if is_project(above):
            return repr(str(above))
    try:
        with os.scandir(folder) as entries:
            below = sorted(entry.name for entry in islice(entries, MAX_LISTED) if entry.is_dir())
    except OSError:
        return ""
    projects = [repr(str(folder / name)) for name in below if is_project(folder / name)]
    return ", ".join(projects[:3]) + (f" and {len(projects) - 3} more" if len(projects) > 3 else "")


def _look(folder: Path, text: str) -> _Seen:
    """Reads the file and what it includes from its own tree; what it cannot follow leaves a doubt."""
    seen = _Seen()
    waiting, visited = [(folder, text)], 0
    while waiting and visited < MAX_INCLUDED:
        here, content = waiting.pop(0)
        visited += 1
        code = _without_comments(content)
        seen.is_component = seen.is_component or bool(_COMPONENT.search(code))
        if seen.name is None and (match := _PROJECT.search(code)):
            seen.name = match[1]
        for included in _includes(code):
            if _IDF_INCLUDE.search(included):
                seen.is_project = True
                continue
            found = _resolved(folder, here, included)
            if found is None:
                seen.in_doubt = True
            elif (more := read_text(found, MAX_CMAKE_BYTES)) is not None:
                waiting.append((found.parent, more))
        # A module found by name may lie anywhere once the search path was changed.
        seen.in_doubt = seen.in_doubt or "CMAKE_MODULE_PATH" in code
    return seen


def _without_comments(text: str) -> str:
    """CMake code without comments; a quoted argument stays, whatever it holds."""

    def kept(match: re.Match[str]) -> str:
        return " " if match[0].startswith("#") else match[0]

    return _BLOCK.sub(kept, text)


def _includes(code: str) -> Iterator[str]:
    for match in _INCLUDE.finditer(code):
        yield match[1].strip('"').replace("\\", "/")


def _resolved(folder: Path, here: Path, included: str) -> Path | None:
    """The included file; None where only CMake can know. A module by its bare name is CMake's own: an absent file."""
    near = included.replace("${CMAKE_CURRENT_LIST_DIR}", str(here))
    near = _HERE.sub(lambda _: str(folder), near)
    if "$" in near:
        return None
    return folder / near
