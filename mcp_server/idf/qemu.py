"""How an installation runs a chip's firmware in Espressif's QEMU: which chips, the flash image, the command line.

All of it follows the installation's own `idf.py qemu` (tools/idf_py_actions/qemu_ext.py), which is read, never run.
"""

import ast
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from mcp_server.errors import BadInput, Conflict, EnvironmentMissing, NotFound
from mcp_server.idf.installation import Installation, read_text, version_numbers
from mcp_server.idf.products import MAX_JSON_BYTES, BuildProducts
from mcp_server.model import Artifact

MB = 1024 * 1024
FLASH_MB = (2, 4, 8, 16)  # with any other size QEMU prints "Drive size error" and goes on without a flash

LIBRARIES = "sudo apt-get install -y libgcrypt20 libglib2.0-0 libpixman-1-0 libsdl2-2.0-0 libslirp0"
"""What Espressif's builds of QEMU need on Debian and Ubuntu; docs/en/api-guides/tools/qemu.rst of ESP-IDF 6.0."""

SERIAL: Final = ("-nographic", "-serial", "stdio", "-monitor", "none")
"""idf.py says `-serial mon:stdio`, which puts QEMU's own console on the same stdin and stdout."""

SETTINGS = ("--flash-mode", "--flash-freq", "--flash-size")


@dataclass(frozen=True, slots=True)
class Emulator:
    """What QEMU needs for one chip: the program, the tool that brings it, its arguments, the eFuses of a fresh chip."""

    target: str
    program: str
    package: str
    arguments: tuple[str, ...]
    efuse: bytes


@dataclass(frozen=True, slots=True)
class QemuWay:
    """One installation's way. `merge` and `pad` are its esptool's words; `octal`: it tells QEMU of octal PSRAM."""

    version: str
    emulators: Mapping[str, Emulator]
    merge: str
    pad: str
    octal: bool

    def emulator(self, target: str) -> Emulator:
        """The one for a chip; BadInput says which chips there are one for."""
        if found := self.emulators.get(target):
            return found
        if target == "linux":
            sentence = "linux firmware runs as a process of this machine, without an emulator: run it by idf.run"
            raise BadInput("target", sentence)
        chips = ", ".join(self.emulators)
        sentence = f"QEMU of ESP-IDF {self.version} emulates {chips}, not {target[:40]}: run it on a board"
        raise BadInput("target", sentence)


@dataclass(frozen=True, slots=True)
class FlashImage:
    """What is merged: esptool's words, each file with its address, and the hashes that they must have. `size` bytes."""

    target: str
    size: int
    words: tuple[str, ...]
    files: tuple[Artifact, ...]
    octal_psram: bool
    notes: tuple[str, ...] = field(default=())


def why_not(installation: Installation, target: str, path: str) -> str:
    """Why firmware for this chip cannot be run here, with what mends that; "" where it can be. Reads the disk."""
    if target == "linux":
        return ""
    try:
        locate(qemu_way(installation).emulator(target), installation, path)
    except (BadInput, EnvironmentMissing) as error:
        return str(error)
    return ""


# -- the installation's table --------------------------------------------------------------------------------------


def qemu_way(installation: Installation) -> QemuWay:
    """Reads qemu_ext.py; where it is absent or written otherwise, the table of ESP-IDF 6.0 counts. Reads the disk."""
    text = read_text(installation.path / "tools" / "idf_py_actions" / "qemu_ext.py") or ""
    # Without the file its version tells which esptool it has.
    new_words = "'merge-bin'" in text if text else version_numbers(installation.version) >= (6,)
    return QemuWay(
        version=installation.version,
        emulators=read_table(text) or BUILT_IN,
        merge="merge-bin" if new_words else "merge_bin",
        pad="--pad-to-size" if new_words else "--fill-flash-size",
        octal="is_octal" in text if text else True,
    )


def read_table(text: str) -> dict[str, Emulator]:
    """QEMU_TARGETS of a qemu_ext.py, parsed, as nothing of an installation may run here; {} where there is none."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    for node in tree.body:
        named = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        is_table = any(isinstance(name, ast.Name) and name.id == "QEMU_TARGETS" for name in named)
        if is_table and isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            found = [_entry(value) for value in node.value.values if isinstance(value, ast.Call)]
            return {one.target: one for one in found if one}
    return {}


_FIELDS = ("target", "qemu_prog", "install_package", "qemu_args", "default_efuse")


def _entry(call: ast.Call) -> Emulator | None:
    given: dict[str, str | bytes] = {}
    named = [(word.arg or "", word.value) for word in call.keywords]
    for name, node in [*zip(_FIELDS, call.args, strict=False), *named]:
        if (value := _constant(node)) is not None:
            given[name] = value
    target, program, package, words, efuse = (given.get(name) for name in _FIELDS)
    if not (isinstance(target, str) and isinstance(program, str) and isinstance(package, str)):
        return None
    if not (isinstance(words, str) and isinstance(efuse, bytes) and re.fullmatch(r"qemu-system-\w+", program)):
        return None
    try:
        return Emulator(target, program, package, tuple(shlex.split(words)), efuse)
    except ValueError:
        return None


def _constant(node: ast.expr) -> str | bytes | None:
    """A string, or the bytes of `binascii.unhexlify("…")` and the like."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str | bytes) else None
    if isinstance(node, ast.Call) and len(node.args) == 1:
        digits = _constant(node.args[0])
        try:
            return bytes.fromhex(digits) if isinstance(digits, str) else None
        except ValueError:
            return None
    return None


def _fresh(size: int, burnt: Mapping[int, int]) -> bytes:
    """eFuses of a chip that only its factory has burnt."""
    return bytes(burnt.get(number, 0) for number in range(size))


BUILT_IN: Final[Mapping[str, Emulator]] = {
    one.target: one
    for one in (
        Emulator(
            "esp32",
            "qemu-system-xtensa",
            "qemu-xtensa",
            ("-M", "esp32", "-m", "4M"),
            _fresh(124, {13: 0x80, 22: 0x10}),  # chip revision 3
        ),
        Emulator(
            "esp32c3",
            "qemu-system-riscv32",
            "qemu-riscv32",
            ("-M", "esp32c3"),
            _fresh(1024, {38: 0x0C}),  # chip revision 0.3
        ),
        Emulator(
            "esp32s3",
            "qemu-system-xtensa",
            "qemu-xtensa",
            ("-M", "esp32s3", "-m", "32M"),
            _fresh(1024, {38: 0x0C}),  # chip revision 0.3
        ),
    )
}
"""The table of ESP-IDF 6.0.2's tools/idf_py_actions/qemu_ext.py."""


def locate(emulator: Emulator, installation: Installation, path: str) -> str:
    """The emulator on the PATH of the activated environment; EnvironmentMissing with the command that installs it."""
    if found := shutil.which(emulator.program, path=path):
        return found
    raise EnvironmentMissing(f"{emulator.program} is not installed: {_install(installation, emulator.package)}")


def not_espressifs(target: str, program: str, installation: Installation) -> str:
    """The sentence for a QEMU that does not know the chip, such as a distribution's."""
    install = _install(installation, Path(program).name.replace("-system", ""))
    return f"{program} knows no {target}, so it is not Espressif's: {install}"


def _install(installation: Installation, package: str) -> str:
    tool = installation.path / "tools" / "idf_tools.py"
    return f"run {installation.python} {tool} install {package} (on Debian and Ubuntu also: {LIBRARIES})"


# -- the flash image -----------------------------------------------------------------------------------------------


def flash_image(build_dir: Path, products: BuildProducts) -> FlashImage:
    """What the build in `build_dir` would be flashed as. Reads its JSON files.

    NotFound: it has no products. Conflict: they do not fit a flash that QEMU emulates.
    """
    if products.target is None or not products.images:
        why = products.notes[0] if products.notes else "no image is listed in flasher_args.json"
        raise NotFound(f"{build_dir} has nothing to emulate ({why}): build first")
    flashing = _object(build_dir / "flasher_args.json")
    listed = cast("dict[str, Any]", flashing.get("flash_files") or {})
    absent = sorted({str(path) for path in listed.values()} - {image.path for image in products.images})
    if absent:
        raise NotFound(f"{build_dir / absent[0]} is not there: build first")
    config = _object(build_dir / "config" / "sdkconfig.json")
    settings = cast("dict[str, Any]", flashing.get("flash_settings") or {})
    said = str(config.get("ESPTOOLPY_FLASHSIZE") or settings.get("flash_size") or "")
    size, notes = _size(said)
    try:
        end = max(int(image.offset or "0", 0) + image.size for image in products.images)
    except ValueError:
        raise Conflict(f"{build_dir / 'flasher_args.json'} is garbled: build again") from None
    if end > size:
        sentence = f"the images reach to {end:#x}, which is beyond the {size // MB} MB flash that they are built for"
        raise Conflict(f"{sentence}: set a larger CONFIG_ESPTOOLPY_FLASHSIZE, or a smaller partition table")
    return FlashImage(
        target=products.target,
        size=size,
        words=_settings(cast("list[object]", flashing.get("write_flash_args") or []), size),
        files=products.images,
        octal_psram=config.get("SPIRAM_MODE_OCT") is True,
        notes=notes,
    )


def _settings(listed: Sequence[object], size: int) -> tuple[str, ...]:
    """The words that `merge-bin` has in common with `write-flash`, spelt as the installation's esptool wants them."""
    words = [str(word) for word in listed]
    pairs = [pair for pair in itertools.pairwise(words) if pair[0].replace("_", "-") in SETTINGS]
    # merge-bin cannot ask a chip for its size
    pairs = [(name, f"{size // MB}MB" if value == "detect" else value) for name, value in pairs]
    return tuple(word for pair in pairs for word in pair)


def _size(said: str) -> tuple[int, tuple[str, ...]]:
    """Bytes of the emulated flash for `4MB`."""
    number = re.fullmatch(r"(\d{1,4})MB", said)
    if number and int(number[1]) in FLASH_MB:
        return int(number[1]) * MB, ()
    if number and int(number[1]) == 1:
        return 2 * MB, ("built for 1 MB of flash, run with 2 MB, as QEMU emulates no smaller one",)
    may_be = ", ".join(map(str, FLASH_MB))
    what = f"this build is for {said[:20]}" if said else "this build does not say its flash's size"
    raise Conflict(f"QEMU emulates flash of {may_be} MB, and {what}: set CONFIG_ESPTOOLPY_FLASHSIZE to one of these")


def _object(file: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(read_text(file, MAX_JSON_BYTES) or "null")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def check_recorded(images: Sequence[Artifact], recorded: Sequence[Artifact] | None, build: int | None) -> None:
    """Conflict where the images in the build directory are not those of build `build`. None: whatever is there."""
    if recorded is None:
        return
    wanted = {one.path: one.sha256 for one in recorded}
    there = {image.path: image.sha256 for image in images}
    for path in sorted(wanted | there):
        if wanted.get(path) != there.get(path):
            raise Conflict(f"{path} is not what build {build} made: build again")


# -- the command lines -----------------------------------------------------------------------------------------------


def merge_command(python: Path | str, way: QemuWay, image: FlashImage, output: Path) -> list[str]:
    """Esptool's, for the build directory as working folder; the image is filled up to the size of the flash."""
    # esptool reads more words from a file named @file
    paths = [f"./{file.path}" if file.path.startswith(("@", "-")) else file.path for file in image.files]
    place = [word for file, path in zip(image.files, paths, strict=True) for word in (file.offset or "0", path)]
    words = [f"--chip={image.target}", way.merge, f"--output={output}", f"{way.pad}={image.size // MB}MB"]
    return [str(python), "-m", "esptool", *words, *image.words, *place]


def command_line(program: str, emulator: Emulator, *, flash: Path, efuse: Path, octal_psram: bool) -> list[str]:
    """QEMU's, in the order of idf.py; stdout is the UART and nothing else. A chip that restarts is emulated on."""
    chip = emulator.target
    return [
        program,
        *emulator.arguments,
        "-drive",
        f"file={_file(flash)},if=mtd,format=raw",
        "-drive",
        f"file={_file(efuse)},if=none,format=raw,id=efuse",
        "-global",
        f"driver=nvram.{chip}.efuse,property=drive,value=efuse",
        "-global",
        f"driver=timer.{chip}.timg,property=wdt_disable,value=true",
        *(["-global", "driver=ssi_psram,property=is_octal,value=true"] if octal_psram else []),
        "-nic",
        "user,model=open_eth",
        *SERIAL,
    ]


def _file(path: Path) -> str:
    """A path as a value of a QEMU option, where one comma ends the value."""
    return str(path).replace(",", ",,")
