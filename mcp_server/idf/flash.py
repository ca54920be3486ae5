"""What is written to a board: the images that a build left, checked, and esptool's command line for them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast
from unicodedata import category

from mcp_server.errors import BadInput, Conflict, NotFound
from mcp_server.idf.installation import file_size, read_text
from mcp_server.idf.products import MAX_JSON_BYTES
from mcp_server.idf.recorded import unchanged
from mcp_server.model import Artifact

BAUD = 460_800  # what idf.py flashes with; every usual USB bridge has it
SLOW_BAUD = 115_200  # the ROM's own: a second try with nothing that could be too fast
SECTOR = 4096  # bytes; the least that can be erased
MOST_BYTES = 128 << 20  # the largest flash that esptool knows
LEAST_ESPTOOL = 5
INSTALL = "pipx install 'esptool>=5'"

FLASHER_ARGS = "flasher_args.json"
SETTINGS = ("--flash-mode", "--flash-freq", "--flash-size")
PLAIN = ("--compress", "--no-compress")
ENCRYPTING = ("--encrypt", "--encrypt-files", "--ignore-flash-enc-efuse", "--force")
"""Options of `write-flash` that can make a board useless: never taken from a file alone."""

_OFFSET: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}")
_VALUE: Final = re.compile(r"[A-Za-z0-9.]{1,20}")
_BEFORE: Final = ("default-reset", "usb-reset", "no-reset", "no-reset-no-sync")
_AFTER: Final = ("hard-reset", "soft-reset", "no-reset", "no-reset-stub", "watchdog-reset")
_SIZE: Final = re.compile(r"([0-9]{1,4})(KB|MB)")
_CHIP: Final = re.compile(r"esp[a-z0-9]{2,20}")


@dataclass(frozen=True, slots=True)
class Image:
    """One file of a flash. `path` is relative to the build directory, `offset` and `size` are in bytes."""

    path: str
    offset: int
    size: int
    sha256: str = ""
    encrypted: bool = False

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def word(self) -> str:
        """Its path as programs take it: no option, no list of arguments, not their stdin."""
        return f"./{self.path}" if self.path[0] in "-@" else self.path

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class FlashPlan:
    """What one flash writes. `settings` are words of `write-flash`; `stub` says that esptool may run its own loader.

    `build` is the number of the build that made the images, None where nobody knows.
    """

    target: str
    images: tuple[Image, ...]
    settings: tuple[str, ...]
    build: int | None = None
    before: str = "default-reset"
    after: str = "hard-reset"
    stub: bool = True

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return sum(image.size for image in self.images)

    @property
    def encrypted(self) -> bool:
        return any(image.encrypted for image in self.images)

    def command(self, port: str, *, baud: int = BAUD, erase: bool = False, careful: bool = False) -> list[str]:
        """The words after `esptool`, for a job in the folder of the images.

        `careful`: slowly, and by the chip's own loader where that can do it, as it cannot erase all.
        """
        words = ["--chip", self.target, "--port", port, "--baud", str(min(baud, SLOW_BAUD) if careful else baud)]
        words += ["--before", self.before, "--after", self.after]
        if not self.stub or (careful and not erase):
            words.append("--no-stub")
        words += ["write-flash", *(["--erase-all"] if erase else []), *self.settings]
        plain = [word for image in self.images if not image.encrypted for word in _pair(image)]
        hidden = [word for image in self.images if image.encrypted for word in _pair(image)]
        if hidden and not plain:
            return [*words, "--encrypt", *hidden]
        return [*words, *plain, *(["--encrypt-files", *hidden] if hidden else [])]


def _pair(image: Image) -> list[str]:
    return [f"{image.offset:#x}", image.word]


def plan_flash(
    build_dir: Path,
    recorded: Sequence[Artifact],
    *,
    target: str | None = None,
    build: int | None = None,
    encrypt: bool = False,
) -> FlashPlan:
    """What is to be written of `build_dir`, where that still is what `build` left there. Reads all of the images.

    `recorded` are the build's artifacts; those with an `offset` are its images. Conflict: a file is another one now, or
    the images do not fit. NotFound: nothing there to be flashed. BadInput: what must not be flashed, or not like this.
    """
    label = build_dir.name or str(build_dir)
    arguments = _arguments(build_dir)
    chip = _chip(arguments, target)
    listed = _listed(arguments, label)
    whose = f"build {build}" if build is not None else "the build"
    images = [_image(artifact, label) for artifact in recorded if artifact.offset is not None]
    _check_listed(build_dir, listed, images, whose)
    settings, size = _settings(arguments, encrypt=encrypt)
    ordered = tuple(sorted(images, key=lambda image: image.offset))
    _check_room(ordered, size)
    for artifact in recorded:
        wanted = artifact.offset is not None or artifact.kind == "flasher-args"
        if wanted and not unchanged(build_dir, artifact):
            raise Conflict(f"{label}/{artifact.path} is not what {whose} made: build again")
    hidden = _encrypted(arguments)
    if hidden and not encrypt:
        raise BadInput(
            "encrypt",
            f"{sorted(hidden)[0]} is to be encrypted as it is written, which a board may never take back: "
            "pass encrypt=true where the board's flash encryption is set up",
        )
    extra = _object(arguments, "extra_esptool_args")
    return FlashPlan(
        target=chip,
        images=tuple(
            Image(one.path, one.offset, one.size, one.sha256, encrypted=encrypt and one.path in hidden)
            for one in ordered
        ),
        settings=settings,
        build=build,
        before=_reset(extra, "before", _BEFORE),
        after=_reset(extra, "after", _AFTER),
        stub=extra.get("stub") not in (False, "false"),
    )


def check_sizes(build_dir: Path) -> None:
    """Conflict where the images in `build_dir`, as large as they are now, do not fit in the flash. None is read."""
    arguments = _arguments(build_dir)
    listed = _listed(arguments, build_dir.name or str(build_dir))
    images = [Image(path, offset, file_size(build_dir / path)) for path, offset in listed.items()]
    _, size = _settings(arguments, encrypt=True)
    _check_room(sorted(images, key=lambda image: image.offset), size)


# -- flasher_args.json -------------------------------------------------------------------------------------------------


def _arguments(build_dir: Path) -> dict[str, Any]:
    text = read_text(build_dir / FLASHER_ARGS, MAX_JSON_BYTES)
    if text is None:
        raise NotFound(f"{build_dir / FLASHER_ARGS} is not there: build for a chip first")
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Conflict(f"{build_dir / FLASHER_ARGS} is garbled: build again")
    return cast("dict[str, Any]", content)


def _object(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _chip(arguments: Mapping[str, Any], target: str | None) -> str:
    named = _object(arguments, "extra_esptool_args").get("chip")
    chip = named if isinstance(named, str) else target
    if chip == "linux" or target == "linux":
        raise BadInput("target", "firmware for the linux target runs on this machine, it is not flashed")
    if chip is None or not _CHIP.fullmatch(chip):
        raise BadInput("target", f"{FLASHER_ARGS} names no chip that can be flashed: build again, or pass the target")
    if target is not None and target != chip:
        raise Conflict(f"the build directory holds firmware for {chip}, not for {target}: build again")
    return chip


def _listed(arguments: Mapping[str, Any], label: str) -> dict[str, int]:
    """Path and address of what is to be flashed."""
    files = _object(arguments, "flash_files")
    if not files:
        raise NotFound(f"{label}/{FLASHER_ARGS} lists nothing to be flashed: build again")
    found: dict[str, int] = {}
    for offset, path in files.items():
        if not isinstance(path, str) or not path or not _OFFSET.fullmatch(offset):
            raise Conflict(f"{label}/{FLASHER_ARGS} is garbled near {offset[:40]!r}: build again")
        _check_name(path)
        found[path] = int(offset, 0)
    return found


def _image(artifact: Artifact, label: str) -> Image:
    offset = artifact.offset or ""
    _check_name(artifact.path)
    if not _OFFSET.fullmatch(offset):
        raise BadInput("images", f"{offset[:40]!r} of {artifact.path[:200]!r} is no flash address such as 0x10000")
    if not artifact.size:
        raise Conflict(f"{label}/{artifact.path} is empty: build again")
    return Image(artifact.path, int(offset, 0), artifact.size, artifact.sha256)


def _check_name(path: str) -> None:
    """`sha256sum -c` reads a backslash as the beginning of a code, a terminal an escape as an order.

    What is no Unicode cannot be recorded, and a separator of lines makes two of one.
    """
    if not path or any(letter == "\\" or category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in path):
        raise BadInput("images", f"{path[:200]!r} has a backslash or control character: rename it, build again")


def _check_listed(build_dir: Path, listed: Mapping[str, int], images: Sequence[Image], whose: str) -> None:
    """The build's record and the build directory's own list must name the same images."""
    recorded = {image.path: image.offset for image in images}
    for path in (*listed, *recorded):
        if not (build_dir / path).resolve().is_relative_to(build_dir.resolve()):
            raise BadInput("images", f"{path[:200]!r} lies outside the build directory: it is not flashed")
        if path.startswith("/") or ".." in path.split("/"):  # of its copy it would say another place
            raise BadInput("images", f"{path[:200]!r} should be a path below the build directory, without '..'")
    if not recorded:
        raise NotFound(f"{whose} left nothing to be flashed: build first")
    for path in sorted(listed.keys() | recorded.keys()):
        if listed.get(path) != recorded.get(path):
            raise Conflict(f"{path} in {build_dir.name}/{FLASHER_ARGS} is not what {whose} made: build again")


def _settings(arguments: Mapping[str, Any], *, encrypt: bool) -> tuple[tuple[str, ...], int | None]:
    """Words of `write-flash`, in the spelling of esptool 5, and the flash size in bytes where one is set."""
    listed: Any = arguments.get("write_flash_args")
    words = [str(word) for word in cast("list[Any]", listed)] if isinstance(listed, list) else []
    found: list[str] = []
    size: int | None = None
    while words:
        word = words.pop(0).replace("_", "-")
        if word in SETTINGS:
            value = words.pop(0) if words else ""
            if not _VALUE.fullmatch(value):
                raise Conflict(f"{word} {value[:40]!r} in {FLASHER_ARGS} is no value for it: build again")
            found += [word, value]
            if word == "--flash-size" and (parts := _SIZE.fullmatch(value)):
                size = int(parts[1]) << (10 if parts[2] == "KB" else 20)
        elif word in PLAIN:
            found.append(word)
        elif word not in ENCRYPTING:
            raise BadInput("build_dir", f"{FLASHER_ARGS} wants {word[:40]!r} of esptool, which is not known here")
        elif not encrypt:
            why = "it can make a board useless for good"
            raise BadInput("encrypt", f"{FLASHER_ARGS} wants {word} of esptool: {why}; pass encrypt=true to allow it")
        elif word not in ("--encrypt", "--encrypt-files"):
            found.append(word)
    return tuple(found), size


def _check_room(images: Sequence[Image], size: int | None) -> None:
    """No two images in one sector, as erasing for the one would take the other; none past the end of the flash."""
    for one, other in pairwise(images):
        if other.offset < one.end:
            raise Conflict(
                f"{one.path} ({one.size} bytes at {one.offset:#x}) reaches into {other.path} at {other.offset:#x}: "
                "make it smaller or change the partition table"
            )
        if one.end > other.offset // SECTOR * SECTOR:
            raise Conflict(f"{one.path} and {other.path} share a sector of the flash: change the partition table")
    for image in images:
        if size is None and image.end > MOST_BYTES:
            raise Conflict(f"{image.path} ({image.size} bytes at {image.offset:#x}) does not fit in any flash")
        if size is not None and image.end > size:
            raise Conflict(
                f"{image.path} ({image.size} bytes at {image.offset:#x}) does not fit: the build is for "
                f"{size >> 10} kB of flash; set CONFIG_ESPTOOLPY_FLASHSIZE to the board's, build again"
            )


def _encrypted(arguments: Mapping[str, Any]) -> set[str]:
    """Paths of the images that are to be encrypted by the chip."""
    listed: Any = arguments.get("write_flash_args")
    words = [str(word) for word in cast("list[Any]", listed)] if isinstance(listed, list) else []
    if "--encrypt" in words:
        return set(map(str, _object(arguments, "flash_files").values()))
    entries = [_object(arguments, name) for name in arguments]
    return {str(entry["file"]) for entry in entries if entry.get("encrypted") in (True, "true") and "file" in entry}


def _reset(extra: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
    """How esptool resets the chip: one of the known ways, the first if nothing is said; esptool 4 wrote underscores."""
    value = str(extra.get(name) or known[0]).replace("_", "-")
    if value not in known:
        raise Conflict(f"{name} {value[:40]!r} in {FLASHER_ARGS} is no way of resetting: build again")
    return value
