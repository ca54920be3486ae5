"""One ESP-IDF installation, as an identity that is stored with a build, and what its files tell."""

import ast
import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from mcp_server.errors import BadInput
from mcp_server.model import Model

MAX_FILE_BYTES = 8 * 1024 * 1024  # a large sdkconfig has 0.3 MB; more is no text that anyone wrote


class Installation(Model):
    """An ESP-IDF that can build: where it is, which, its Python, where its tools are, and how it was found."""

    path: Path
    version: str
    python: Path
    tools_path: Path
    source: str

    @property
    def idf_py(self) -> Path:
        return self.path / "tools" / "idf.py"

    @property
    def release(self) -> str:
        """`6.0` of 6.0.2: what ESP-IDF itself calls ESP_IDF_VERSION and names its Python environment after."""
        return ".".join(self.version.split(".")[:2])

    def targets(self) -> tuple[str, ...]:
        """The chips that idf.py accepts, preview ones last. Reads a file of the installation; () where it cannot."""
        lists = self._lists()
        return lists.get("SUPPORTED_TARGETS", ()) + lists.get("PREVIEW_TARGETS", ())

    def preview_targets(self) -> tuple[str, ...]:
        """Those that need `idf.py --preview`."""
        return self._lists().get("PREVIEW_TARGETS", ())

    def _lists(self) -> dict[str, tuple[str, ...]]:
        text = read_text(self.path / "tools" / "idf_py_actions" / "constants.py")
        try:
            # Parsed, not imported: nothing of an installation may run inside this process.
            tree = ast.parse(text or "")
        except (SyntaxError, ValueError):
            return {}
        found: dict[str, tuple[str, ...]] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
                values = tuple(
                    e.value for e in node.value.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)
                )
                found |= {name.id: values for name in node.targets if isinstance(name, ast.Name)}
        return found


def checked_target(installation: Installation, target: str) -> str:
    """`target` as ESP-IDF spells it: `ESP32-C3` is esp32c3, as for idf.py. BadInput names those that there are."""
    wanted = target.strip().lower().replace("-", "").replace("_", "")
    known = installation.targets()
    if wanted in known or (not known and re.fullmatch(r"[a-z0-9]{1,40}", wanted)):
        return wanted
    preview = set(installation.preview_targets())
    may_be = ", ".join(name + " (preview)" * (name in preview) for name in known) or "letters and digits only"
    raise BadInput("target", f"{target[:40]!r} is unknown to ESP-IDF {installation.version}; it may be {may_be}")


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str | None:
    """The text of a regular file of at most `max_bytes`; None where there is none. Never waits for a FIFO."""
    try:
        with open_file(path) as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError):
        return None
    return data.decode("utf-8", "surrogateescape") if len(data) <= max_bytes else None


def open_file(path: Path | str) -> BinaryIO:
    """A regular file to read from; OSError for anything else, without waiting for a FIFO's writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return os.fdopen(descriptor, "rb")


def read_version(path: Path) -> str | None:
    """The version of the ESP-IDF at `path`, e.g. `6.0.2`; from its files, as git would be slow and may be absent."""
    text = read_text(path / "tools" / "cmake" / "version.cmake") or ""
    numbers = [re.search(rf"IDF_VERSION_{part}\s+(\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    if all(numbers):
        return ".".join(match[1] for match in numbers if match)
    released = re.match(r"\s*v?(\d+\.\d+(?:\.\d+)?)", read_text(path / "version.txt") or "")
    return released[1] if released else None


def version_numbers(version: str) -> tuple[int, ...]:
    """`5.1.2` as (5, 1, 2), so that 5.10 is newer than 5.9."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def file_size(path: Path) -> int:
    """In bytes; 0 where there is none."""
    return int(stamp(path).partition(":")[0] or 0)


def stamp(path: Path) -> str:
    """Changes when the file does: size and time to the nanosecond; "" where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}"
