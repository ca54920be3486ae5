"""Firmware in the emulator, through a real worker and the real esptool.

The emulator is a stand-in: a shell script with the name and the command line of Espressif's QEMU that looks at its
arguments as that does and then plays a log, recorded from the real one. It emulates nothing.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mcp_server.idf.installation import Installation
from mcp_server.model import BuildStatus, Plan, Stage, StageSpec
from mcp_server.orchestrator import Orchestrator
from tests.support.faults import processes_with
from tests.unit.idf.made_up import make_idf

pytestmark = [
    pytest.mark.worker_inside,
    pytest.mark.skipif(find_spec("esptool") is None, reason="esptool is not installed (extra `demo`)"),
]

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"
WAIT_S = 30

STAND_IN = r"""#!/bin/sh
# A stand-in, no emulator: checks the arguments of idf.py's command line and plays a log.
me=qemu-system-riscv32
[ "$1" = --version ] && { cat "$0.version"; exit 0; }
flash='' efuse='' all=" $* "
for word; do
    case $word in
        file=*,if=mtd,format=raw) flash=${word#file=} flash=${flash%%,if=*} ;;
        file=*,if=none,format=raw,id=efuse) efuse=${word#file=} efuse=${efuse%%,if=*} ;;
    esac
done
for wanted in '-M esp32c3' '-nographic' '-serial stdio' '-monitor none' '-nic user,model=open_eth' \
    'driver=nvram.esp32c3.efuse,property=drive,value=efuse' 'driver=timer.esp32c3.timg,property=wdt_disable,value=true'
do
    case $all in *" $wanted "*) ;; *) echo "$me: stand-in: no $wanted in$all" >&2; exit 1 ;; esac
done
[ "$(wc -c <"$flash")" = 2097152 ] || { echo "$me: Drive size error" >&2; exit 1; }
[ "$(wc -c <"$efuse")" = 1024 ] || { echo "$me: stand-in: efuse of another size" >&2; exit 1; }
if read -r line; then echo "$me: stand-in: stdin has $line" >&2; exit 1; fi
echo 'Adding SPI flash device' >&2
"""


class Bench:
    """A made-up ESP-IDF with the stand-in in it, and a build directory of an esp32c3's firmware."""

    def __init__(self, folder: Path, orchestrator: Orchestrator) -> None:
        self.orchestrator = orchestrator
        tools_path = folder / "tools"
        idf = make_idf(folder / "esp-idf", tools_path=tools_path)
        python = tools_path / "python_env" / "idf6.0_py3.11_env" / "bin" / "python"
        python.unlink()
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # it has esptool
        python.chmod(0o755)
        self.installation = Installation(
            path=idf, version="6.0.2", python=python, tools_path=tools_path, source="IDF_PATH"
        )
        self.emulator = tools_path / "tools" / "gcc" / "bin" / "qemu-system-riscv32"
        self.emulator.parent.mkdir(parents=True)
        self.plays("")
        self.project = folder / "lamp"
        self.build = self.project / "build"
        sizes = {"bootloader/bootloader.bin": 300, "partition_table/partition-table.bin": 64, "lamp.bin": 900}
        for path, size in sizes.items():
            (self.build / path).parent.mkdir(parents=True, exist_ok=True)
            (self.build / path).write_bytes(b"\0" * size)
        flashing = {
            "write_flash_args": ["--flash-mode", "dio", "--flash-size", "2MB", "--flash-freq", "80m"],
            "flash_settings": {"flash_size": "2MB"},
            "flash_files": dict(zip(("0x0", "0x8000", "0x10000"), sizes, strict=True)),
        }
        about = {"target": "esp32c3", "project_name": "lamp", "app_elf": "lamp.elf", "app_bin": "lamp.bin"}
        (self.build / "flasher_args.json").write_text(json.dumps(flashing))
        (self.build / "project_description.json").write_text(json.dumps(about))

    def plays(self, script: str) -> None:
        """What the stand-in does after it has looked at its arguments."""
        self.emulator.write_text(f"{STAND_IN}\n{script}\n")
        self.emulator.chmod(0o755)
        (self.emulator.parent / "qemu-system-riscv32.version").write_text("QEMU emulator version 9.2.2 (stand-in)\n")

    async def run(self, *, timeout_s: float = 20, **params: Any) -> Stage:
        spec = self.stage(timeout_s=timeout_s, **params)
        async with asyncio.timeout(WAIT_S):
            started = await self.orchestrator.start_plan(self.project, Plan(stages=(spec,)), name="qemu")
            view = await self.orchestrator.wait(started.build.id, WAIT_S)
        assert view.build.status in (BuildStatus.SUCCESS, BuildStatus.FAILED)
        return view.stages[-1]

    def stage(self, *, timeout_s: float = 20, **params: Any) -> StageSpec:
        given = {
            "project": str(self.project),
            "build_dir": str(self.build),
            "installation": self.installation.model_dump(mode="json"),
        }
        return StageSpec(name="qemu", kind="idf.qemu", params=given | params, timeout_s=timeout_s)


@pytest.fixture
def bench(tmp_path: Path, orchestrator: Orchestrator) -> Bench:
    return Bench(tmp_path, orchestrator)


def verdict_of(stage: Stage) -> tuple[str, str, dict[str, Any]]:
    assert stage.verdict is not None
    return stage.verdict.result, stage.verdict.summary, dict(stage.verdict.details)


async def test_an_expected_line_passes_and_ends_the_emulator(bench: Bench) -> None:
    """Issue: one plan, no board. The firmware itself would go on for ever."""
    bench.plays(f"cat {SERIAL / 'serial-ok-c3-qemu.log'}; echo 'lamp: ready'; exec sleep 600")

    stage = await bench.run(expect=["lamp: ready"], timeout_s=600)

    result, summary, details = verdict_of(stage)
    assert (result, summary) == ("pass", "lamp: ready")
    assert details["simulated"] == "in QEMU, not on a board"
    assert details["emulator"] == "QEMU emulator version 9.2.2 (stand-in)"
    assert list((bench.build / "qemu").iterdir()) == []
    assert processes_with(str(bench.emulator)) == []


async def test_what_esptool_and_qemu_say_is_not_the_firmware(bench: Bench) -> None:
    """Ours. A line of the preparation must not satisfy a rule for the firmware."""
    bench.plays("echo 'qemu-system-riscv32: warning: this is not the UART' >&2; echo up; exec sleep 600")

    stage = await bench.run(expect=["up"], fail_on=["esptool|SHA|QEMU|SPI flash|warning|merging"])

    result, _, details = verdict_of(stage)
    assert result == "pass"
    assert details["emulator_said"] == ["warning: this is not the UART"]


async def test_a_panic_fails_with_its_cause_and_says_why_it_is_not_decoded(bench: Bench) -> None:
    """Issue: the panic, recorded from a real emulation; without its ELF its addresses stay numbers."""
    bench.plays(f"cat {SERIAL / 'serial-crash-c3-qemu.log'}; exec sleep 600")

    stage = await bench.run(expect=["never printed"], timeout_s=600)

    result, summary, details = verdict_of(stage)
    assert result == "fail"
    assert "Store access fault" in summary
    assert details["panic_report"][0].startswith("panic: ")
    assert "lamp.elf cannot be read" in str(details["panic"]["notes"])


@pytest.mark.skipif(shutil.which("riscv64-unknown-elf-gcc") is None, reason="no RISC-V compiler is installed")
async def test_a_panic_is_decoded_by_the_builds_elf(bench: Bench) -> None:
    """Issue: backtrace as function and line. The ELF is a real one, the dump is made up for it."""
    source = bench.project / "main" / "lamp.c"
    source.parent.mkdir()
    source.write_text("void light(volatile int *lamp)\n{\n    *lamp = 1;\n}\n")
    words = ["-march=rv32imc", "-mabi=ilp32", "-g", "-O0", "-nostdlib", "-Wl,-Ttext=0x42000000", "-Wl,-e,light", "-o"]
    argv = ["riscv64-unknown-elf-gcc", *words, str(bench.build / "lamp.elf"), str(source)]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    addr2line = shutil.which("riscv64-unknown-elf-addr2line")
    assert addr2line is not None
    (bench.emulator.parent / "riscv32-esp-elf-addr2line").symlink_to(addr2line)
    dump = (SERIAL / "serial-crash-c3-qemu.log").read_text(errors="replace")
    dump = re.sub("ELF file SHA256: .*", "", re.sub(r"(MEPC +: 0x)[0-9a-f]{8}", r"\g<1>4200000c", dump))
    (bench.project / "panic.log").write_text(dump)
    bench.plays(f"cat {bench.project / 'panic.log'}; exec sleep 600")

    stage = await bench.run(timeout_s=600)

    _, _, details = verdict_of(stage)
    frame = details["panic"]["frames"][0]
    assert (frame["function"], frame["file"]) == ("light", "main/lamp.c")
    assert frame["line"] in (2, 3)
    assert any("light main/lamp.c:" in line for line in details["panic_report"])


async def test_the_time_limit_is_a_timeout_with_the_last_lines(bench: Bench) -> None:
    """Issue: killed at the limit."""
    bench.plays("echo 'I (80) main_task: Calling app_main()'; echo waiting for the network; exec sleep 600")

    stage = await bench.run(timeout_s=3, expect=["connected"])

    result, summary, details = verdict_of(stage)
    assert result == "timeout"
    assert "'connected'" in summary
    assert details["last_lines"][-1] == "waiting for the network"


async def test_an_emulator_that_hangs_silently_is_killed_and_said_to_be_silent(bench: Bench) -> None:
    """Issue: QEMU that hangs. It takes no notice of SIGTERM either."""
    bench.plays("trap '' TERM; while :; do sleep 600; done")

    stage = await bench.run(timeout_s=2, expect=["ready"])

    result, summary, _ = verdict_of(stage)
    assert result in ("timeout", "unknown")
    assert "nothing was printed in 2 s" in summary
    assert processes_with(str(bench.emulator)) == []


async def test_qemus_own_failure_is_not_the_firmwares(bench: Bench) -> None:
    """Issue: its own error and exit code, told apart from what firmware prints."""
    bench.plays("echo \"qemu-system-riscv32: -drive file=x: Could not open 'x'\" >&2; exit 1")

    stage = await bench.run(expect=["ready"], fail_on=["Could not open"])

    result, summary, _ = verdict_of(stage)
    assert (result, summary) == (
        "fail",
        "QEMU ended by itself (exit code 1): -drive file=x: Could not open 'x'",
    )


async def test_a_missing_library_names_the_packages(bench: Bench) -> None:
    """Issue: QEMU that is missing a part: the dynamic loader's message, and what installs it."""
    loader = "error while loading shared libraries: libslirp.so.0: cannot open shared object file"
    bench.emulator.write_text(f"#!/bin/sh\necho '{bench.emulator}: {loader}' >&2\nexit 127\n")

    stage = await bench.run(expect=["ready"])

    result, summary, _ = verdict_of(stage)
    assert result == "fail"
    assert "does not run (exit code 127)" in summary
    assert "libslirp.so.0" in summary
    assert "sudo apt-get install -y libgcrypt20" in summary


async def test_another_qemu_that_knows_no_esp32c3_is_recognised(bench: Bench) -> None:
    """Ours. What Debian's qemu-system-riscv32 7.2 prints; it is often on PATH where Espressif's is not."""
    bench.plays("printf 'qemu-system-riscv32: unsupported machine type\\nUse -machine help to list' >&2; exit 1")

    _, summary, _ = verdict_of(await bench.run(expect=["ready"]))

    assert f"{bench.emulator} knows no esp32c3, so it is not Espressif's: run " in summary
    assert "install qemu-riscv32" in summary


async def test_no_emulator_says_what_installs_it(bench: Bench) -> None:
    """Issue: where no emulator is installed, the command that installs it."""
    bench.emulator.unlink()

    stage = await bench.run(expect=["ready"])

    _, summary, _ = verdict_of(stage)
    assert stage.reason == "environment"
    assert "idf_tools.py install qemu-riscv32" in summary


def spoil(bench: Bench, name: str) -> None:
    if name == "no build":
        shutil.rmtree(bench.build)
    elif name == "linux":
        about = bench.build / "project_description.json"
        about.write_text(about.read_text().replace("esp32c3", "linux"))
    elif name == "esp32c6":
        about = bench.build / "project_description.json"
        about.write_text(about.read_text().replace("esp32c3", "esp32c6"))
    else:
        (bench.build / "lamp.bin").write_bytes(b"\0" * 2_100_000)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no build", "build first"),
        ("linux", "linux firmware runs as a process of this machine"),
        ("esp32c6", "QEMU of ESP-IDF 6.0.2 emulates esp32, esp32c3, esp32s3, not esp32c6"),
        ("too large", "beyond the 2 MB flash"),
    ],
)
async def test_what_cannot_be_emulated_is_refused_in_one_sentence(name: str, sentence: str, bench: Bench) -> None:
    """Issue: a merged image larger than flash, a chip that has no emulator. Nothing is run."""
    spoil(bench, name)

    stage = await bench.run(expect=["ready"])

    result, summary, _ = verdict_of(stage)
    assert result == "fail"
    assert sentence in summary
    assert "\n" not in summary
    assert stage.job_id is None


OTHER = {"path": "lamp.bin", "size": 9, "sha256": "0" * 64, "kind": "app", "offset": "0x10000"}


async def test_images_of_another_build_are_not_run(bench: Bench) -> None:
    """Ours. A verdict must be that of the firmware which the build made."""
    stage = await bench.run(expect=["ready"], images=[OTHER], build=42)

    _, summary, _ = verdict_of(stage)
    assert "is not what build 42 made: build again" in summary


async def test_gdb_gets_a_port_that_listens_before_qemu_runs(bench: Bench) -> None:
    """Issue: gdb port optional; free ports only. The stand-in inherits the socket, as QEMU does by `fd=`."""
    bench.plays(
        'case $all in *"-gdb chardev:gdb -S "*) ;; *) exit 9 ;; esac\n'
        "fd=${all#*socket,id=gdb,fd=} fd=${fd%%,*}\n"
        f'exec {sys.executable} -c "import socket, sys\n'
        "listener = socket.socket(fileno=int(sys.argv[1]))\n"
        "client, _ = listener.accept()\n"
        "print(client.recv(9).decode(), flush=True)\n"
        'client.recv(9)" "$fd"'
    )
    spec = bench.stage(expect=["hello"], gdb=True)
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def look(view: Any) -> None:
        message = view.stages[-1].progress.message if view.stages and view.stages[-1].progress else ""
        if "target remote" in message:
            seen.put_nowait(message)

    async with asyncio.timeout(WAIT_S):
        started = await bench.orchestrator.start_plan(bench.project, Plan(stages=(spec,)), name="qemu")
        waiting = asyncio.create_task(bench.orchestrator.wait(started.build.id, WAIT_S, look))
        message = await seen.get()
        host, _, port = message.rpartition(" ")[2].partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()
        view = await waiting

    result, summary, details = verdict_of(view.stages[-1])
    assert (result, summary) == ("pass", "hello")
    assert details["gdb"] == f"target remote 127.0.0.1:{port}"
