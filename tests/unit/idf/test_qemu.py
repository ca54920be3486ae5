"""How an installation would run firmware in QEMU, compared with what the real `idf.py qemu` runs."""

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput, Conflict, EnvironmentMissing, NotFound
from mcp_server.idf import qemu, qemu_job
from mcp_server.idf.installation import Installation
from mcp_server.idf.products import BuildProducts
from mcp_server.model import Artifact

EFUSES = {  # SHA-256 of `default_efuse` in tools/idf_py_actions/qemu_ext.py of ESP-IDF 6.0.2
    "esp32": "96405fb1e2f3ffa576ca85e08cf03a4be82153ac407ceb7eb9971d091b254fda",
    "esp32c3": "2054600a17c72426ac024ae851e7ea26f9cf612f31140b445ff713ba15ac09c8",
    "esp32s3": "2054600a17c72426ac024ae851e7ea26f9cf612f31140b445ff713ba15ac09c8",
}

COMMANDS = {
    # What qemu_ext.py of ESP-IDF 6.0.2 runs in the foreground, image paths shortened; for esp32c3 it is also the line
    # "Running qemu (fg)" of fixtures/logs/idf-qemu-c3.log. Only its `-serial mon:stdio` is another one here.
    "esp32": "qemu-system-xtensa -M esp32 -m 4M -drive file=/b/flash.bin,if=mtd,format=raw "
    "-drive file=/b/efuse.bin,if=none,format=raw,id=efuse -global driver=nvram.esp32.efuse,property=drive,value=efuse "
    "-global driver=timer.esp32.timg,property=wdt_disable,value=true -nic user,model=open_eth -nographic",
    "esp32c3": "qemu-system-riscv32 -M esp32c3 -drive file=/b/flash.bin,if=mtd,format=raw "
    "-drive file=/b/efuse.bin,if=none,format=raw,id=efuse "
    "-global driver=nvram.esp32c3.efuse,property=drive,value=efuse "
    "-global driver=timer.esp32c3.timg,property=wdt_disable,value=true -nic user,model=open_eth -nographic",
    "esp32s3": "qemu-system-xtensa -M esp32s3 -m 32M -drive file=/b/flash.bin,if=mtd,format=raw "
    "-drive file=/b/efuse.bin,if=none,format=raw,id=efuse "
    "-global driver=nvram.esp32s3.efuse,property=drive,value=efuse "
    "-global driver=timer.esp32s3.timg,property=wdt_disable,value=true -nic user,model=open_eth -nographic",
}

TABLE = """
import binascii
QEMU_TARGETS: dict[str, QemuTarget] = {
    'esp32c3': QemuTarget(
        'esp32c3', 'qemu-system-riscv32', 'qemu-riscv32', '-M esp32c3 -m 8M', binascii.unhexlify('00' '0c'), '-global x'
    ),
    'esp32c61': QemuTarget(
        target='esp32c61', qemu_prog='qemu-system-riscv32', install_package='qemu-riscv32', qemu_args='-M esp32c61',
        default_efuse=bytes.fromhex('0102'),
    ),
    'esp32h2': QemuTarget(make_it_up()),
    'esp32x': QemuTarget('esp32x', 'rm', 'rm', '-rf', b''),
}
raise SystemExit('this file was run')
"""


def way(installation: Installation, text: str | None = None) -> qemu.QemuWay:
    if text is not None:
        (installation.path / "tools" / "idf_py_actions" / "qemu_ext.py").write_text(text)
    return qemu.qemu_way(installation)


@pytest.mark.parametrize("chip", COMMANDS)
def test_the_command_line_is_the_one_of_idf_py(chip: str, installation: Installation) -> None:
    """Issue: through the installation's own way. stdout is the UART alone, without QEMU's console."""
    emulator = way(installation).emulator(chip)

    command = qemu.command_line(
        emulator.program, emulator, flash=Path("/b/flash.bin"), efuse=Path("/b/efuse.bin"), octal_psram=False
    )

    assert shlex.join(command) == f"{COMMANDS[chip]} -serial stdio -monitor none"


@pytest.mark.parametrize("chip", EFUSES)
def test_a_fresh_chip_has_the_efuses_of_idf_py(chip: str) -> None:
    """Ours. The chip's revision lies there; firmware refuses a wrong one at boot."""
    assert hashlib.sha256(qemu.BUILT_IN[chip].efuse).hexdigest() == EFUSES[chip]


def test_octal_psram_and_commas_reach_qemu(installation: Installation) -> None:
    """Ours. A comma in a folder's name would end the value of the option."""
    emulator = way(installation).emulator("esp32s3")
    folder = Path("/home/me/a,b")

    command = qemu.command_line("q", emulator, flash=folder / "f", efuse=folder / "e", octal_psram=True)

    assert "file=/home/me/a,,b/f,if=mtd,format=raw" in command
    assert "file=/home/me/a,,b/e,if=none,format=raw,id=efuse" in command
    assert "driver=ssi_psram,property=is_octal,value=true" in command


def test_the_installations_own_table_counts_and_is_not_run(installation: Installation) -> None:
    """Ours. A newer ESP-IDF emulates more chips, with other arguments; an entry that cannot be read is left out."""
    found = way(installation, TABLE)

    assert list(found.emulators) == ["esp32c3", "esp32c61"]
    assert found.emulator("esp32c3").arguments == ("-M", "esp32c3", "-m", "8M")
    assert found.emulator("esp32c3").efuse == b"\0\x0c"
    assert found.emulator("esp32c61").efuse == b"\1\2"


@pytest.mark.parametrize("text", ["", "QEMU_TARGETS = make()", "def (", "x = 1\n" + "(" * 300, "QEMU_TARGETS = {1: 2}"])
def test_an_unreadable_table_is_replaced_by_the_known_one(text: str, installation: Installation) -> None:
    """Ours."""
    assert list(way(installation, text).emulators) == ["esp32", "esp32c3", "esp32s3"]


def test_other_chips_are_refused_in_one_sentence(installation: Installation) -> None:
    """Issue: which targets it supports said plainly."""
    with pytest.raises(BadInput) as refused:
        way(installation).emulator("esp32c6")
    with pytest.raises(BadInput, match=r"idf\.run"):
        way(installation).emulator("linux")

    wanted = "target: QEMU of ESP-IDF 6.0.2 emulates esp32, esp32c3, esp32s3, not esp32c6: run it on a board"
    assert str(refused.value) == wanted


def test_a_missing_emulator_says_what_installs_it(installation: Installation, programs: Callable[..., Path]) -> None:
    """Issue: where no emulator is installed, the command that installs it."""
    emulator = way(installation).emulator("esp32c3")

    with pytest.raises(EnvironmentMissing) as missing:
        qemu.locate(emulator, installation, "/nowhere")

    said = str(missing.value)
    assert f"run {installation.python} {installation.path}/tools/idf_tools.py install qemu-riscv32 " in said
    assert "libslirp0" in said
    folder = programs("qemu-system-riscv32")
    assert qemu.locate(emulator, installation, str(folder)) == str(folder / "qemu-system-riscv32")


# -- the flash image -----------------------------------------------------------------------------------------------


def lay_out(folder: Path, *, flash_size: str = "4MB", app_size: int = 1000, **config: object) -> BuildProducts:
    """A build directory as ESP-IDF leaves it, with images of nothing in particular, and what `collect` finds in it."""
    sizes = {"bootloader/bootloader.bin": 200, "partition_table/partition-table.bin": 100, "lamp.bin": app_size}
    offsets = dict(zip(("0x0", "0x8000", "0x10000"), sizes, strict=True))
    for path, size in sizes.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(bytes(size))
    words = ["--flash-mode", "dio", "--flash-size", flash_size, "--flash-freq", "80m"]
    settings = {"flash_size": flash_size}
    flashing = {"write_flash_args": words, "flash_settings": settings, "flash_files": offsets}
    (folder / "flasher_args.json").write_text(json.dumps(flashing))
    if config:
        (folder / "config").mkdir()
        (folder / "config" / "sdkconfig.json").write_text(json.dumps(config))
    images = [
        Artifact(path=path, size=sizes[path], sha256=hashlib.sha256(bytes(sizes[path])).hexdigest(), offset=offset)
        for offset, path in offsets.items()
    ]
    return BuildProducts(target="esp32c3", app_elf="lamp.elf", images=tuple(images))


def test_the_merge_is_the_one_of_idf_py(tmp_path: Path, installation: Installation) -> None:
    """Issue: a flash image merged by esptool. The line of fixtures/logs/idf-qemu-c3.log, in the order of the JSON."""
    image = qemu.flash_image(tmp_path, lay_out(tmp_path, flash_size="2MB"))

    command = qemu.merge_command("python", way(installation), image, Path("/b/flash.bin"))

    assert shlex.join(command) == (
        "python -m esptool --chip=esp32c3 merge-bin --output=/b/flash.bin --pad-to-size=2MB "
        "--flash-mode dio --flash-size 2MB --flash-freq 80m "
        "0x0 bootloader/bootloader.bin 0x8000 partition_table/partition-table.bin 0x10000 lamp.bin"
    )


def test_esptool_4_is_asked_in_its_own_words(tmp_path: Path, installation: Installation) -> None:
    """Ours. qemu_ext.py of ESP-IDF 5.3 says `merge_bin` and `--fill-flash-size`, and knows no octal PSRAM."""
    found = way(installation, TABLE + "\nsubprocess.check_call(['esptool', 'merge_bin'])")

    command = qemu.merge_command("python", found, qemu.flash_image(tmp_path, lay_out(tmp_path)), Path("/b/f"))

    assert command[4:7] == ["merge_bin", "--output=/b/f", "--fill-flash-size=4MB"]
    assert not found.octal


def test_the_builds_own_configuration_names_size_and_psram(tmp_path: Path) -> None:
    """Ours. With CONFIG_ESPTOOLPY_HEADER_FLASHSIZE_UPDATE flasher_args.json says `detect`, and no chip can be asked."""
    products = lay_out(tmp_path, flash_size="detect", ESPTOOLPY_FLASHSIZE="8MB", SPIRAM_MODE_OCT=True)

    image = qemu.flash_image(tmp_path, products)

    assert (image.size, image.octal_psram) == (8 * qemu.MB, True)
    assert image.words == ("--flash-mode", "dio", "--flash-size", "8MB", "--flash-freq", "80m")


def test_one_megabyte_is_run_with_two_and_said_so(tmp_path: Path) -> None:
    """Ours. QEMU prints `Drive size error` for 1 MB and goes on without a flash, as seen in its source."""
    image = qemu.flash_image(tmp_path, lay_out(tmp_path, flash_size="1MB"))

    assert image.size == 2 * qemu.MB
    assert image.notes == ("built for 1 MB of flash, run with 2 MB, as QEMU emulates no smaller one",)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"flash_size": "32MB"}, "QEMU emulates flash of 2, 4, 8, 16 MB, and this build is for 32MB"),
        ({"flash_size": ""}, "this build does not say its flash's size"),
        ({"flash_size": "2MB", "app_size": 2 * qemu.MB}, "the images reach to 0x210000, which is beyond the 2 MB"),
    ],
)
def test_images_that_fit_no_flash_of_qemu_are_refused(given: Mapping[str, Any], sentence: str, tmp_path: Path) -> None:
    """Issue: a merged image larger than flash."""
    with pytest.raises(Conflict, match=sentence):
        qemu.flash_image(tmp_path, lay_out(tmp_path, **given))


def test_a_folder_without_products_says_build_first(tmp_path: Path) -> None:
    """Ours."""
    products = lay_out(tmp_path)
    for left in (BuildProducts(), products.model_copy(update={"images": products.images[:2]})):
        with pytest.raises(NotFound, match="build first"):
            qemu.flash_image(tmp_path, left)


def test_only_the_recorded_images_are_run(tmp_path: Path) -> None:
    """Ours. The directory may hold a later build, of another commit."""
    images = lay_out(tmp_path).images
    other = [*images[:2], images[2].model_copy(update={"sha256": "0" * 64})]

    qemu.check_recorded(images, None, None)
    qemu.check_recorded(images, images, 42)

    for stale in (other, images[:2]):
        with pytest.raises(Conflict, match=r"lamp\.bin is not what build 42 made: build again"):
            qemu.check_recorded(images, stale, 42)


# -- the job's program ---------------------------------------------------------------------------------------------


def run_job(folder: Path, **changed: Any) -> subprocess.CompletedProcess[str]:
    """The job of a build directory; its emulator prints its arguments."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.bin")}
    plan: dict[str, Any] = {
        "work": str(folder / "qemu" / "7-run-1-1"),
        "merge": ["sh", "-c", f"head -c 4096 /dev/zero >{shlex.quote(str(folder))}/qemu/7-run-1-1/flash.bin"],
        "size": 4096,
        "images": digests,
        "efuse": "00ff",
        "burnt": str(folder / "qemu_efuse.bin"),
        "command": ["/bin/echo", "firmware"],
    }
    argv = [sys.executable, "-I", qemu_job.__file__, json.dumps(plan | changed)]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=20)


def test_the_job_becomes_the_emulator(tmp_path: Path) -> None:
    """Ours. Its exit code is the emulator's, all after the start is the emulator's; an earlier attempt is replaced."""
    work = tmp_path / "qemu" / "7-run-1-1"
    work.mkdir(parents=True)
    (work / "old").write_text("")
    emulator = tmp_path / "emulator"
    emulator.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "$1"; exit 3; }\n')
    emulator.chmod(0o700)

    done = run_job(tmp_path, command=[str(emulator), "firmware"])

    assert done.returncode == 3, done.stderr
    assert done.stdout.endswith(f"build-orchestrator: {qemu_job.START}\nfirmware\n")
    assert sorted(path.name for path in work.iterdir()) == ["efuse.bin", "flash.bin"]
    assert (work / "efuse.bin").read_bytes() == b"\0\xff"


def test_the_users_own_efuses_are_copied_never_written(tmp_path: Path) -> None:
    """Ours. idf.py keeps burnt eFuses in build/qemu_efuse.bin, and secure boot needs them."""
    burnt = tmp_path / "qemu_efuse.bin"
    burnt.write_bytes(b"burnt")

    done = run_job(tmp_path, images={})

    assert "with the eFuses of" in done.stdout
    assert (tmp_path / "qemu" / "7-run-1-1" / "efuse.bin").read_bytes() == b"burnt"
    assert burnt.read_bytes() == b"burnt"


@pytest.mark.parametrize(
    ("changed", "code", "sentence"),
    [
        ({"merge": ["sh", "-c", "exit 2"]}, 70, "esptool could not merge the flash image (exit code 2)"),
        ({"merge": ["/nowhere/python"]}, 70, "/nowhere/python cannot be run: No such file or directory"),
        ({"size": 8192}, 70, "the merged image has 4096 bytes, which is not the 8192 of the flash"),
        ({"images": {"app.bin": "0" * 64}}, 70, "app.bin was changed by another build in the meantime"),
        ({"command": ["/bin/false"]}, 126, "/bin/false does not run (exit code 1)"),
        ({"command": ["/etc/passwd"]}, 126, "/etc/passwd cannot be run: Permission denied"),
    ],
)
def test_a_step_that_fails_ends_with_its_sentence(
    changed: Mapping[str, Any], code: int, sentence: str, tmp_path: Path
) -> None:
    """Ours. The emulator is not started then."""
    (tmp_path / "app.bin").write_bytes(b"app")

    done = run_job(tmp_path, **changed)

    assert done.returncode == code
    assert sentence in done.stdout.splitlines()[-1]
    assert qemu_job.START not in done.stdout


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Ours. A run that goes on now, a link and a folder of the user's stay."""
    folder, elsewhere = tmp_path / "qemu", tmp_path / "elsewhere"
    for path in (folder / "3-run-1-1", folder / "4-run-1-1", folder / "images", elsewhere):
        path.mkdir(parents=True)
    (folder / "5-run-1-1").symlink_to(elsewhere)
    for name in ("3-run-1-1", "images"):
        subprocess.run(["touch", "-d", "2 days ago", str(folder / name)], check=True)

    qemu_job.clear(folder)
    qemu_job.clear(tmp_path / "absent")

    assert sorted(path.name for path in folder.iterdir()) == ["4-run-1-1", "5-run-1-1", "images"]


def test_nothing_is_deleted_where_a_link_leads(tmp_path: Path) -> None:
    """Ours. The project is not trusted to say which folder is emptied."""
    build, elsewhere = tmp_path / "build", tmp_path / "elsewhere"
    build.mkdir()
    (elsewhere / "7-qemu-1-1").mkdir(parents=True)
    (build / "qemu").symlink_to(elsewhere)

    with pytest.raises(qemu_job.Refused, match="is a link"):
        qemu_job.prepare({"burnt": "", "merge": [], "images": {}}, build / "qemu" / "7-qemu-1-1")

    assert (elsewhere / "7-qemu-1-1").is_dir()


@pytest.mark.skipif(find_spec("esptool") is None, reason="esptool is not installed (extra `demo`)")
def test_the_real_esptool_merges_what_is_asked(tmp_path: Path, installation: Installation) -> None:
    """Issue: merged by esptool, as big as the flash, each image at its address."""
    products = lay_out(tmp_path, flash_size="2MB", app_size=5000)
    (tmp_path / "lamp.bin").write_bytes(b"x" * 5000)
    output = tmp_path / "flash.bin"
    image = qemu.flash_image(tmp_path, products)

    command = qemu.merge_command(sys.executable, way(installation), image, output)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 0, done.stdout
    merged = output.read_bytes()
    assert len(merged) == 2 * qemu.MB
    assert merged[0x10000 : 0x10000 + 5001] == b"x" * 5000 + b"\xff"
