"""CMakeCache.txt: what a build directory was configured for."""

import re
from pathlib import Path

_ENTRY = re.compile(r"([^#/:=]+):([^:=]+)=(.*)")


def read(build_dir: Path) -> dict[str, str]:
    """The entries; empty where the directory was never configured."""
    path = build_dir / "CMakeCache.txt"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {match[1]: match[3] for line in lines if (match := _ENTRY.fullmatch(line))}


def write(build_dir: Path, entries: dict[str, str]) -> None:
    """All entries; those that CMake itself would add are marked INTERNAL."""
    text = f"# This is the CMakeCache file of the simulated ESP-IDF.\n# For build in directory: {build_dir}\n\n"
    for name, value in sorted(entries.items()):
        kind = "INTERNAL" if name in ("CMAKE_HOME_DIRECTORY", "CMAKE_GENERATOR") else "UNINITIALIZED"
        text += f"{name}:{kind}={value}\n"
    (build_dir / "CMakeCache.txt").write_text(text, encoding="utf-8")
