"""Where the simulated ESP-IDF lies, what it calls itself, and the sentences that say so."""

import re
import shutil
import sys
from pathlib import Path

IDF_PATH = Path(__file__).resolve().parents[2]
MARKER = ".build-orchestrator-demo"
GET_ESP_IDF = "https://docs.espressif.com/projects/esp-idf/en/stable/esp32/get-started/"
BANNER = "Simulated ESP-IDF of build-orchestrator's demo: it builds the demo's own project for this machine only."
CHIP = "esp32c3"
"""The virtual chip: its firmware is a program of this machine, in an image that only that chip can run."""
TARGETS = ("linux", CHIP)


class FatalError(Exception):
    """Ends idf.py with exit code 2 and this sentence on stderr, as in ESP-IDF."""


def say(line: str) -> None:
    """One line on stdout, at once: whoever reads a pipe sees it before the next step starts."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def version() -> str:
    """`6.0.2`, from version.cmake."""
    text = (IDF_PATH / "tools/cmake/version.cmake").read_text(encoding="utf-8")
    return ".".join(re.findall(r"set\(IDF_VERSION_[A-Z]+ (\d+)\)", text))


def find_ninja() -> str:
    """ninja on PATH, beside the running Python (its environment may not be active), or in the package `ninja`."""
    found = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    if not found:
        try:
            import ninja  # noqa: PLC0415  # absent where the system's own ninja is used
        except ImportError:
            pass
        else:
            found = shutil.which("ninja", path=ninja.BIN_DIR)
    if not found:
        raise FatalError(
            "To use idf.py, the 'ninja' build tool must be available in the PATH: pip install ninja, or take your "
            "system's package."
        )
    return found


def find_compiler() -> str | None:
    """The C compiler of this machine."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
