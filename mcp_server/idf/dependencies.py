"""The components that a project asks for and those it got: idf_component.yml files and dependencies.lock, bounded.

Only read: whether a version exists, was yanked or is in conflict is the component manager's to say, in the build's log.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from mcp_server.idf.installation import read_text

LOCK: Final = "dependencies.lock"
MANIFEST: Final = "idf_component.yml"
MAX_BYTES = 512 * 1024  # a lock of 50 components has 20 kB
MAX_COMPONENTS = 500
MAX_DEPENDENCIES = 500
ESP_IDF: Final = "idf"


@dataclass(frozen=True, slots=True)
class Asked:
    """One dependency as a manifest asks for it. `manifest` is relative to the project, `spec` as written, e.g. ^2.0."""

    name: str
    spec: str
    manifest: str


def read_asked(folder: Path) -> tuple[Asked, ...]:
    """What the project's own manifests ask for: main/ and components/*/. One that is no YAML asks for nothing."""
    found: list[Asked] = []
    for component in _components(folder):
        content = _yaml(component / MANIFEST)
        manifest = str((component / MANIFEST).relative_to(folder))
        for name, wanted in _named(content.get("dependencies")):
            version: Any = cast("dict[str, Any]", wanted).get("version", "*") if isinstance(wanted, dict) else wanted
            found.append(Asked(_full_name(name), str(version if version is not None else "*")[:100], manifest))
    return tuple(found[:MAX_DEPENDENCIES])


def read_lock(folder: Path) -> Mapping[str, str]:
    """Name and version of each locked component; a version that is not written, as of a local path, is ""."""
    locked = {
        _full_name(name): str(cast("dict[str, Any]", entry).get("version") or "")[:100]
        for name, entry in _named(_yaml(folder / LOCK).get("dependencies"))
        if isinstance(entry, dict)
    }
    return dict(islice(sorted(locked.items()), MAX_DEPENDENCIES))


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What became of the components, as JSON: `added` and `removed` with their version, `changed` as `1.0.0 → 2.0.0`.

    {} where nothing did. ESP-IDF itself counts as a change only; every first lock names it.
    """
    found = {
        "added": {name: version for name, version in new.items() if name not in old and name != ESP_IDF},
        "removed": {name: version for name, version in old.items() if name not in new and name != ESP_IDF},
        "changed": {
            name: f"{old[name] or '?'} → {version or '?'}"
            for name, version in new.items()
            if name in old and old[name] != version
        },
    }
    return {what: names for what, names in found.items() if names}


def _components(folder: Path) -> Iterator[Path]:
    yield folder / "main"
    try:
        entries = sorted((folder / "components").iterdir())
    except OSError:
        return
    yield from entries[:MAX_COMPONENTS]


def _full_name(name: str) -> str:
    """`led_strip` is espressif/led_strip; ESP-IDF itself has no namespace."""
    return name if "/" in name or name == ESP_IDF else f"espressif/{name}"


def _named(content: object) -> list[tuple[str, object]]:
    fields = cast("dict[object, object]", content) if isinstance(content, dict) else {}
    return [(name[:200], value) for name, value in islice(fields.items(), MAX_DEPENDENCIES) if isinstance(name, str)]


def _yaml(file: Path) -> Mapping[str, Any]:
    """The mapping in a file; {} where there is none, or no YAML."""
    text = read_text(file, MAX_BYTES)
    if not text:
        return {}
    import yaml  # noqa: PLC0415  (15 ms, and most projects have neither file)

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content: Any = yaml.load(text, Loader=loader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
