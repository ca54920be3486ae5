"""Which component a missing header belongs to, from the build's project_description.json."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any, cast

from mcp_server.idf.diagnostics.finding import Finding

MAX_BYTES = 20_000_000  # hello_world's has 130 kB
_MISSING = re.compile(r"^(?P<header>[^\s:]{1,300}): No such file or directory")
_PRINTED = re.compile(
    r"includes (?P<header>\S{1,300}), provided by (?P<by>.{1,300}?) component\(s\)\..*?"
    r"(?P<verb>add|move) (?P<what>.{1,300}?) (?:to|from PRIV_REQUIRES into) (?P<list>REQUIRES|PRIV_REQUIRES) list of "
    r"idf_component_register call in (?P<file>\S{1,400}?)\.?$"
)
_ELSEWHERE = re.compile(
    r'^Missing "(?P<header>[^"]{1,300})" file name found in the following component\(s\): (?P<where>.{1,2000}?)\. Maybe'
)


def from_printed(text: str) -> str | None:
    """The advice that idf.py printed, in one sentence. Its `BUG: …` right after an edit of REQUIRES is no advice."""
    if found := _PRINTED.search(text):
        if found["verb"] == "move":
            return f"{found['header']} is in component {found['by']}: move it from PRIV_REQUIRES to REQUIRES in {found['file']}"
        return f"{found['header']} is in component {found['by']}: add it to {found['list']} in {found['file']}"
    if found := _ELSEWHERE.search(text):
        names = re.sub(r"\([^)]*\)", "", found["where"])
        return (
            f"{found['header']} exists in component {names}, but not in its INCLUDE_DIRS for this target and configuration: "
            "not supported there, or switched off in menuconfig"
        )
    return None


def missing_header(finding: Finding) -> str | None:
    found = _MISSING.match(finding.message)
    return found["header"] if found and finding.kind == "compile" else None


def advise(finding: Finding, build_dir: Path) -> str | None:
    """`driver/gpio.h is in component esp_driver_gpio: add it to PRIV_REQUIRES in …/CMakeLists.txt`, if the build knows it."""
    header = missing_header(finding)
    if header is None or finding.file is None or header.startswith("/") or ".." in header.split("/"):
        return None
    components = _components(build_dir)
    if not components:
        return None
    includer = posixpath.normpath(posixpath.join(str(build_dir), finding.file))
    user = _owner(includer, components)
    if user is None:
        return None
    holders = [name for name in components if name != user and _public(components[name], header)]
    if not holders:
        return None
    info = components[user]
    required = _names(info, "reqs") | _names(info, "managed_reqs")
    private = _names(info, "priv_reqs") | _names(info, "managed_priv_reqs")
    if any(name in required for name in holders):
        return None  # the description is older than the edit of CMakeLists.txt: any advice would be wrong
    public_header = includer.endswith((".h", ".hpp", ".hh")) and _is_public(includer, info)
    if any(name in private for name in holders):
        if not public_header:
            return None
        return f"{header} is in component {' or '.join(holders[:3])}: move it from PRIV_REQUIRES to REQUIRES in {info.get('dir')}/CMakeLists.txt"
    wanted = "REQUIRES" if public_header else "PRIV_REQUIRES"
    return (
        f"{header} is in component {' or '.join(holders[:3])}: add it to {wanted} in {info.get('dir')}/CMakeLists.txt"
    )


def _components(build_dir: Path) -> dict[str, dict[str, Any]]:
    file = build_dir / "project_description.json"
    try:
        if file.stat().st_size > MAX_BYTES:
            return {}
        data: Any = json.loads(file.read_text("utf-8", "replace"))
        known: Any = data.get("all_component_info") or data.get("build_component_info") or {}
        return {
            name: info for name, info in known.items() if isinstance(info, dict) and isinstance(info.get("dir"), str)
        }
    except (OSError, ValueError, AttributeError):
        return {}


def _owner(path: str, components: dict[str, dict[str, Any]]) -> str | None:
    """The component with the deepest directory around `path`."""
    around = [name for name, info in components.items() if path.startswith(posixpath.normpath(info["dir"]) + "/")]
    return max(around, key=lambda name: len(components[name]["dir"]), default=None)


def _include_dirs(info: dict[str, Any]) -> list[str]:
    dirs: Any = info.get("include_dirs")
    return (
        [posixpath.normpath(posixpath.join(info["dir"], str(one))) for one in cast(list[Any], dirs)]
        if isinstance(dirs, list)
        else []
    )


def _public(info: dict[str, Any], header: str) -> bool:
    return any(Path(one, header).is_file() for one in _include_dirs(info))


def _is_public(path: str, info: dict[str, Any]) -> bool:
    return any(path.startswith(one + "/") for one in _include_dirs(info))


def _names(info: dict[str, Any], key: str) -> set[str]:
    names: Any = info.get(key)
    return {str(name) for name in cast(list[Any], names)} if isinstance(names, list) else set()
