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
        how = "move it from PRIV_REQUIRES to" if found["verb"] == "move" else "add it to"
        return f"{found['header']} is in component {found['by']}: {how} {found['list']} in {found['file']}"
    if found := _ELSEWHERE.search(text):
        names = re.sub(r"\([^)]*\)", "", found["where"])
        return (
            f"{found['header']} exists in component {names}, but not in its INCLUDE_DIRS for this target and "
            "configuration: not supported there, or switched off in menuconfig"
        )
    return None


def missing_header(finding: Finding) -> str | None:
    found = _MISSING.match(finding.message)
    return found["header"] if found and finding.kind == "compile" else None


def advise(finding: Finding, build_dir: Path) -> str | None:
    """`driver/gpio.h is in component esp_driver_gpio: add it to PRIV_REQUIRES in …`, if the build knows that."""
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
    public_header = includer.endswith((".h", ".hpp", ".hh")) and _is_public(includer, info)
    how = _how(info, holders, public_header)
    where = f"{info['dir']}/CMakeLists.txt"
    return f"{header} is in component {' or '.join(holders[:3])}: {how} in {where}" if how else None


def _how(info: dict[str, Any], holders: list[str], public_header: bool) -> str | None:
    """What to do with the requirement. One that is there already: the description is older than CMakeLists.txt."""
    required = _names(info, "reqs") | _names(info, "managed_reqs")
    private = _names(info, "priv_reqs") | _names(info, "managed_priv_reqs")
    if required & set(holders):
        return None
    if private & set(holders):
        return "move it from PRIV_REQUIRES to REQUIRES" if public_header else None
    return "add it to REQUIRES" if public_header else "add it to PRIV_REQUIRES"


def _components(build_dir: Path) -> dict[str, dict[str, Any]]:
    file = build_dir / "project_description.json"
    try:
        if file.stat().st_size > MAX_BYTES:
            return {}
        data: Any = json.loads(file.read_text("utf-8", "replace"))
        known: Any = data["all_component_info"]
        items = cast(dict[str, dict[str, Any]], known).items()
        return {name: info for name, info in items if isinstance(info["dir"], str)}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}  # not there, or not as ESP-IDF writes it: then there is no advice


def _owner(path: str, components: dict[str, dict[str, Any]]) -> str | None:
    """The component with the deepest directory around `path`."""
    around = [name for name, info in components.items() if path.startswith(posixpath.normpath(info["dir"]) + "/")]
    return max(around, key=lambda name: len(components[name]["dir"]), default=None)


def _include_dirs(info: dict[str, Any]) -> list[str]:
    dirs: Any = info.get("include_dirs")
    names = [str(one) for one in cast(list[Any], dirs)] if isinstance(dirs, list) else []
    return [posixpath.normpath(posixpath.join(info["dir"], name)) for name in names]


def _public(info: dict[str, Any], header: str) -> bool:
    return any(Path(one, header).is_file() for one in _include_dirs(info))


def _is_public(path: str, info: dict[str, Any]) -> bool:
    return any(path.startswith(one + "/") for one in _include_dirs(info))


def _names(info: dict[str, Any], key: str) -> set[str]:
    names: Any = info.get(key)
    return {str(name) for name in cast(list[Any], names)} if isinstance(names, list) else set()
