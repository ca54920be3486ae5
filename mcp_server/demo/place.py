"""Where the demo's parts lie, and how a fresh copy of its firmware is laid out."""

import shutil
import tempfile
from pathlib import Path

from mcp_server.errors import BadInput

MARKER = ".build-orchestrator-demo"
"""The file that makes a folder the demo's project: the simulated ESP-IDF builds no other."""

SELF_TEST_PASSED = "SELF TEST PASSED"
"""The line of a healthy run; the firmware goes on running after it."""

_DEMO = Path(__file__).resolve().parent


def simulated_installation() -> Path:
    """The IDF_PATH of the simulated ESP-IDF."""
    return _DEMO / "idf"


def is_simulated(installation: Path) -> bool:
    """Whether an IDF_PATH is the simulated one, or a copy of it: whatever it builds must be called simulated."""
    return (installation / "SIMULATED.md").is_file()


def is_demo_project(folder: Path) -> bool:
    """Whether the simulated ESP-IDF would build this folder."""
    return (folder / MARKER).is_file()


def fix_patch() -> str:
    """The unified diff that mends the planted mistake; for `patch -p1` in the project's folder."""
    return (_DEMO / "fix.patch").read_text(encoding="utf-8")


def lay_out(folder: Path) -> Path:
    """Put a fresh copy of the firmware, its mistake included, at `folder`; the absolute path of it.

    An earlier copy there is replaced as a whole. A folder that holds anything else is left alone: BadInput.
    """
    folder = folder.absolute()
    if folder.exists() and not is_demo_project(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput("folder", f"{folder} is not empty and not an earlier demo (no {MARKER} in it): name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        fresh = Path(beside) / "fresh"
        # Times are those of now: an installed package may be older than any build directory.
        shutil.copytree(_DEMO / "firmware", fresh, copy_function=shutil.copyfile)
        for path in (fresh, *fresh.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)  # an installed package may be read-only
        if folder.exists():
            folder.rename(Path(beside) / "old")
        fresh.rename(folder)
    return folder
