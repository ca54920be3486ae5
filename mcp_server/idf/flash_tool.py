"""esptool as a program: which one of this machine is run, and how another machine's is found."""

import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from shutil import which
from typing import Final

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.flash import INSTALL, LEAST_ESPTOOL, Image
from mcp_server.idf.installation import Installation, version_numbers

CHANGED = 66
"""Exit code of a job that found other images than it was to flash."""

ABSENT = 67
"""Exit code of a job that found no esptool to run."""

_SAY: Final = """
say() { echo "build-orchestrator: $*" >&2; }
run() { exec "$@"; }
"""

_COPY: Final = r"""
run() { "$@"; exit; }
changed() { say "the images were changed after the flash was asked for: build again"; exit 66; }
copy() {
    [ -f "$1" ] || changed
    [ -d "$copies/${1%/*}" ] || [ "$1" = "${1#*/}" ] || mkdir -p -- "$copies/${1%/*}" || return
    cp -- "$1" "$copies/$1"
}
wanted=$1 copies=$2
shift 2
trap 'cd / && rm -rf -- "$copies"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf -- "$copies"
(umask 077; mkdir -p -- "${copies%/*}" && mkdir -- "$copies") || { say "no folder can be made at $copies"; exit 65; }
printf '%s' "$wanted" | while IFS= read -r line; do
    copy "${line#*  }" || { say "the images cannot be copied to $copies"; exit 65; }
done || exit
cd -- "$copies" || exit 65
if command -v sha256sum >/dev/null 2>&1; then check="sha256sum -c"; else check="shasum -a 256 -c"; fi
printf '%s' "$wanted" | $check >/dev/null 2>&1 || changed
"""

HERE: Final = _SAY + _COPY + 'run "$@"\n'
"""What sh runs in the folder of the images on this machine: `$1` are lines for `sha256sum -c`, `$2` is a folder for
copies that nobody else uses and that is removed afterwards; the rest is the command, run in there. So it reads the very
bytes that were checked, whatever becomes of the images meanwhile.
"""

_FIND: Final = r"""
idf=$1
shift
old=
newest() {
    said=$("$@" version 2>/dev/null | sed -n 's/^esptool\(\.py\)\{0,1\} v\([0-9][0-9.]*\).*/\2/p') || return 1
    case $said in
        "") return 1 ;;
        [0-4].*) old=$said; return 1 ;;
    esac
}
[ ! -f "$idf" ] || idf=${idf%/*}
if command -v esptool >/dev/null 2>&1 && newest esptool; then run esptool "$@"; fi
for python in python3 "$HOME"/.local/share/pipx/venvs/esptool/bin/python "${IDF_PYTHON_ENV_PATH-}/bin/python" \
    "${IDF_TOOLS_PATH-}"/python_env/*/bin/python "$HOME"/.espressif/python_env/*/bin/python \
    "$HOME"/.espressif/tools/python/*/venv/bin/python "${idf%/*}"/python_env/*/bin/python \
    "${idf%/*}"/tools/python_env/*/bin/python /opt/esp/python_env/*/bin/python; do
    if command -v "$python" >/dev/null 2>&1 && newest "$python" -m esptool; then run "$python" -m esptool "$@"; fi
done
if [ -n "$idf" ] && [ -f "$idf/export.sh" ] && command -v bash >/dev/null 2>&1; then
    tool=$(IDF_PATH=$idf bash -c '. "$IDF_PATH/export.sh" >/dev/null 2>&1; command -v python')
    if [ -n "$tool" ] && newest "$tool" -m esptool; then run "$tool" -m esptool "$@"; fi
fi
if [ -n "$old" ]; then say "esptool $old is too old, 5 or newer is needed: pipx install 'esptool>=5'"
else say "no esptool here: pipx install 'esptool>=5'"; fi
exit 67
"""

FIND: Final = _SAY + _FIND
"""What sh runs on another machine: its arguments are that machine's ESP-IDF or "", then esptool's words."""

FAR: Final = _SAY + _COPY + _FIND
"""As FIND, behind the first two arguments of HERE and in copies as there."""

ENVIRONMENT: Final = {"PYTHONSAFEPATH": "1", "NO_COLOR": "1"}
"""Nothing in the folder of the images is taken for a module of esptool's."""


def checked(images: Sequence[Image]) -> str:
    """The images as `sha256sum -c` reads them."""
    return "".join(f"{image.sha256}  {image.word}\n" for image in images)


def copies(lock: str) -> str:
    """The folder for the images that are written, where `lock` is the folder whose kernel lock is the port's."""
    return f"{lock}/images"


def find_esptool(installation: Installation | None, environment: Mapping[str, str]) -> list[str]:
    """The words that run esptool 5 on this machine: the installation's, else this program's own, else PATH's.

    Nothing is run for that: versions are read from what pip left. EnvironmentMissing says what installs it. Blocks.
    """
    old: list[str] = []
    pythons = [installation.python] if installation else []
    for python in (*pythons, Path(sys.executable)):
        version = esptool_version(python)
        if version is None:
            continue
        if version_numbers(version)[:1] >= (LEAST_ESPTOOL,):
            return [str(python), "-m", "esptool"]
        old.append(f"{version} of {python}")
    if (path := which("esptool", path=environment.get("PATH"))) and (python := _interpreter(Path(path))):
        version = esptool_version(python)
        if version is not None and version_numbers(version)[:1] >= (LEAST_ESPTOOL,):
            return [path]
        old += [f"{version} of {path}"] if version else []
    if old:
        raise EnvironmentMissing(f"esptool {', '.join(old)} is too old, {LEAST_ESPTOOL} or newer is needed: {INSTALL}")
    raise EnvironmentMissing(f"there is no esptool on this machine: {INSTALL}")


def esptool_version(python: Path) -> str | None:
    """The version of esptool that this Python's environment has; None where it has none."""
    folders = [python.parent.parent / "lib", python.parent.parent / "lib64"]
    if python == Path(sys.executable) and (own := _own_version()):
        return own
    for folder in folders:
        for found in folder.glob("python3*/site-packages/esptool-*.dist-info"):
            if match := re.fullmatch(r"esptool-(\d[\w.]*)\.dist-info", found.name):
                return match[1]
    return None


@cache
def _own_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  (30 ms that only a flash needs)

    try:
        return version("esptool")
    except PackageNotFoundError:
        return None


def _interpreter(script: Path) -> Path | None:
    """The Python that a program installed by pip or pipx runs by."""
    try:
        with script.open("rb") as file:
            first = file.read(400).split(b"\n")[0]
    except OSError:
        return None
    return Path(first[2:].decode("utf-8", "surrogateescape").strip()) if first.startswith(b"#!/") else None
