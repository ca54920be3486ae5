"""What a build weighs: from its files, from esp_idf_size, and from the record of the build before."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcp_server.idf.elf_sections import read_sections
from mcp_server.idf.size import MOST_COMPONENTS, OTHERS, RECORD, AppPartition, Memory, Sizes, measure
from mcp_server.model import Artifact
from tests.unit.idf.test_partitions import SINGLE, table

OURS = dict(os.environ)  # as it was before the tests were closed off
PYTHON = Path("/opt/idf/bin/python")
SUMMARY = {
    "total_size": 150,
    "layout": [
        {"name": "DRAM", "total": 1000, "used": 60, "free": 940, "parts": {}},
        {"name": "Flash Code", "total": 0, "used": 90, "free": 0, "parts": {}},
    ],
}
KINDS = {"app.elf": "elf", "app.map": "map", "app.bin": "app", "table.bin": "partition-table"}


def archive(**sections: int) -> dict[str, Any]:
    """One archive in the words of `--archives --format json2`."""
    found = {f".flash.{name}": {"abbrev_name": f".{name}", "size": size} for name, size in sections.items()}
    return {"memory_types": {"Flash Code": {"size": 0, "sections": found}}}


class Tool:
    """Stands in for esp_idf_size: answers with JSON, counts its calls."""

    def __init__(self, archives: Mapping[str, Any] | None = None, code: int = 0, err: str = "") -> None:
        self.archives = archives if archives is not None else {"esp-idf/main/libmain.a": archive(text=90)}
        self.code, self.err = code, err
        self.calls: list[list[str]] = []

    async def __call__(self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        self.calls.append(list(argv))
        answer = self.archives if "--archives" in argv else SUMMARY
        return self.code, "" if self.code else json.dumps(answer), self.err


def recorded(build_dir: Path) -> list[Artifact]:
    """The files of `KINDS` that lie in the folder, as a build records them."""
    return [
        Artifact(
            path=name,
            size=(build_dir / name).stat().st_size,
            sha256=hashlib.sha256((build_dir / name).read_bytes()).hexdigest(),
            kind=kind,
        )
        for name, kind in KINDS.items()
        if (build_dir / name).exists()
    ]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A build directory with an app that fills a sixteenth of its partition."""
    for name, data in {
        "app.elf": b"elf",
        "app.map": b"map",
        "app.bin": b"x" * 0x10000,
        "table.bin": table(*SINGLE),
    }.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


async def weigh(built: Path, tool: Tool, target: str = "esp32c3", python: Path | None = PYTHON) -> Sizes | None:
    return await measure(built, recorded(built), target=target, python=python, runner=tool)


async def test_memories_components_and_the_app_partition_are_measured(built: Path) -> None:
    """Issue: binary and section sizes by esp-idf-size, and how full the app's partition is."""
    both = {"a/libmain.a": archive(text=90), "b/libmain.a": archive(text=7, rodata=3), "(exe)": archive(text=0)}
    sizes = await weigh(built, tool := Tool(both))

    assert sizes is not None
    assert (sizes.image, sizes.note) == (150, "")
    assert sizes.memory == (Memory(name="DRAM", used=60, total=1000), Memory(name="Flash Code", used=90))
    assert sizes.components == {"main": {"Flash Code .text": 97, "Flash Code .rodata": 3}}
    assert sizes.app == AppPartition(name="factory", size=0x100000, used=0x10000)
    assert [one.name for one in sizes.partitions] == ["nvs", "phy_init", "factory"]
    assert [call[:6] for call in tool.calls] == [[str(PYTHON), "-I", "-m", "esp_idf_size", "--format", "json2"]] * 2


async def test_the_same_elf_is_not_measured_twice(built: Path) -> None:
    """Issue: only when the ELF changed."""
    first = await weigh(built, Tool())
    second = await weigh(built, again := Tool())
    (built / "app.elf").write_bytes(b"elf 2")
    third = await weigh(built, changed := Tool())

    assert first == second
    assert third is not None and first is not None and third.elf != first.elf
    assert (len(again.calls), len(changed.calls)) == (0, 2)


@pytest.mark.parametrize("record", ["", "[", "{}", '{"format": 1, "sizes": {}}', "[" * 100_000])
async def test_a_garbled_record_is_measured_anew(built: Path, record: str) -> None:
    """Ours. The build directory is not ours alone."""
    (built / RECORD).write_text(record)

    assert await weigh(built, tool := Tool()) is not None
    assert len(tool.calls) == 2
    assert [file.name for file in built.glob(f"{RECORD}*")] == [RECORD]


async def test_files_of_another_build_are_not_measured(built: Path) -> None:
    """Ours. The next build may begin before the sizes of this one are known."""
    artifacts = recorded(built)

    class Overtaken(Tool):
        async def __call__(self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
            (built / "app.map").write_bytes(b"map of the next")
            return await super().__call__(argv, env, timeout_s)

    assert await measure(built, artifacts, target="esp32c3", python=PYTHON, runner=Overtaken()) is None
    assert not (built / RECORD).exists()
    (built / "app.elf").write_bytes(b"xyz")
    assert await measure(built, artifacts, target="esp32c3", python=PYTHON, runner=(tool := Tool())) is None
    assert tool.calls == []
    assert await measure(built, [], target="esp32c3", python=PYTHON, runner=tool) is None


@pytest.mark.parametrize(
    ("tool", "note"),
    [
        (Tool(code=1, err="x\nERROR: cannot read memory types file"), "ERROR: cannot read memory types file"),
        (Tool(code=1, err="/opt/bin/python: No module named esp_idf_size"), "No module named esp_idf_size"),
        (Tool(code=1), "it printed nothing"),
    ],
)
async def test_a_tool_that_measures_nothing_costs_only_its_part(built: Path, tool: Tool, note: str) -> None:
    """Ours. An ESP-IDF before 5.0 has none, a new chip has no memory map."""
    sizes = await weigh(built, tool)

    assert sizes is not None
    assert sizes.note.endswith(note)
    assert (sizes.memory, sizes.image, sizes.app is not None) == ((), 0x10000, True)


@pytest.mark.parametrize("error", [TimeoutError(), FileNotFoundError(2, "No such file or directory")])
async def test_a_tool_that_cannot_be_run_is_a_note(built: Path, error: Exception) -> None:
    """Ours."""

    async def fails(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        raise error

    sizes = await measure(built, recorded(built), target="esp32c3", python=PYTHON, runner=fails)

    assert sizes is not None and sizes.note


async def test_a_record_is_bounded_and_its_sum_complete(built: Path) -> None:
    """Ours. A project may have a thousand components."""
    many = {f"lib{n}.a": archive(text=n) for n in range(1000)}
    sizes = await weigh(built, Tool(many))

    assert sizes is not None
    assert len(sizes.components) == MOST_COMPONENTS + 1
    assert next(iter(sizes.components)) == "999"
    assert sum(sum(parts.values()) for parts in sizes.components.values()) == sum(range(1000))
    assert sizes.components[OTHERS]["Flash Code .text"] == sum(range(1000 - MOST_COMPONENTS))


async def test_a_table_that_is_none_is_a_note(built: Path) -> None:
    """Ours."""
    (built / "table.bin").write_bytes(b"\0" * 100)
    sizes = await weigh(built, Tool())

    assert sizes is not None
    assert "entry 0 begins with 0x0000" in sizes.note
    assert sizes.app is None


def program_of_this_machine(folder: Path) -> tuple[int, int, int]:
    """Make app.elf by the compiler of this machine; what `size` says of it: text with constants, data, bss."""
    source = "const int c[5] = {1, 2}; int d[3] = {7}; int b[100]; int main(void) { return c[d[0]] + b[1]; }"
    (folder / "m.c").write_text(source)
    subprocess.run(["cc", "-o", "app.elf", "m.c"], cwd=folder, check=True)
    said = subprocess.run(["size", "app.elf"], cwd=folder, capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(word) for word in said.splitlines()[1].split()[:3])
    return text, data, bss


@pytest.mark.skipif(not (shutil.which("cc") and shutil.which("size")), reason="no C compiler or no binutils")
async def test_a_program_for_this_machine_has_the_sizes_of_its_elf(built: Path) -> None:
    """esp_idf_size knows no linux target; its ELF says as much as `size` does."""
    said = program_of_this_machine(built)
    for name in ("app.bin", "table.bin"):
        (built / name).unlink()
    sizes = await weigh(built, tool := Tool(), target="linux")

    assert sizes is not None
    assert (tool.calls, sizes.memory, sizes.image) == ([], (), 0)
    found = sizes.sections
    assert (found["text"] + found["rodata"], found["data"], found["bss"]) == said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"\x7fELF\x02\x01" + b"\xff" * 80,
        b"\x7fELF\x07" + b"\0" * 80,
        b"\x7fELF\x01\x01" + b"\0" * 26 + struct.pack("<I", 52) + b"\0" * 10 + struct.pack("<HH", 0, 65535) + b"x" * 99,
    ],
)
def test_what_is_no_elf_has_no_sections(tmp_path: Path, data: bytes) -> None:
    """Ours: no error, no endless loop."""
    (tmp_path / "x").write_bytes(data)

    assert not any(read_sections(tmp_path / "x").values())


# -- the real tool -----------------------------------------------------------------------------------------------------

C3_MEMORY = """
ENTRY(app_main)
IDF_TARGET_ESP32C3 = 0x0;
MEMORY {
  iram0_0_seg (RX) : org = 0x4037c000, len = 0x4000
  drom0_0_seg (R) : org = 0x3c000020, len = 0x7fffe0
  irom0_0_seg (RX) : org = 0x42000020, len = 0x7fffe0
  dram0_0_seg (RW) : org = 0x3fc80000, len = 0x50000
}
SECTIONS {
  .iram0.text : { *(.iram1*) } > iram0_0_seg
  .dram0.data : { *(.data* .sdata*) } > dram0_0_seg
  .dram0.bss (NOLOAD) : { *(.bss* .sbss* COMMON) } > dram0_0_seg
  .flash.text : { *(.text*) } > irom0_0_seg
  .flash.rodata : { *(.rodata* .srodata*) } > drom0_0_seg
  /DISCARD/ : { *(.comment) *(.riscv.attributes) }
}
"""
"""The memories of an esp32c3 and the sections of an ESP-IDF app: as much of its linker script as esp_idf_size reads."""

C3_SOURCES = {
    "main": "extern int led(int); const char name[100] = {1}; int state[4] = {1};\n"
    '__attribute__((section(".iram1.fast"))) int fast(int x) { return x * 3; }\n'
    "void app_main(void) { state[0] = led(fast(name[state[1]])); }\n",
    "led": "static int seen[200]; int led(int x) { return seen[x]++; }\n",
}
CROSS = "riscv64-unknown-elf-"

needs_chip_tools = pytest.mark.skipif(
    shutil.which(f"{CROSS}gcc") is None or "IDF_PYTHON_ENV_PATH" not in OURS,
    reason="no riscv64-unknown-elf-gcc, or no ESP-IDF: IDF_PYTHON_ENV_PATH is not set",
)


def link_for_a_chip(folder: Path) -> None:
    """app.elf and app.map of two components, linked for an esp32c3's memories by a real linker."""
    (folder / "c3.ld").write_text(C3_MEMORY)
    flags = ["-march=rv32imc", "-mabi=ilp32", "-Os", "-ffreestanding", "-fdata-sections", "-ffunction-sections"]
    for name, source in C3_SOURCES.items():
        (folder / f"{name}.c").write_text(source)
        subprocess.run([f"{CROSS}gcc", *flags, "-c", f"{name}.c", "-o", f"{name}.c.obj"], cwd=folder, check=True)
        subprocess.run([f"{CROSS}ar", "crs", f"lib{name}.a", f"{name}.c.obj"], cwd=folder, check=True)
    link = [f"{CROSS}ld", "-m", "elf32lriscv", "-T", "c3.ld", "--cref", "-Map", "app.map", "-o", "app.elf"]
    whole = ["--whole-archive", *(f"lib{name}.a" for name in C3_SOURCES)]
    subprocess.run([*link, *whole], cwd=folder, check=True)
    (folder / "project_description.json").write_text(json.dumps({"target": "esp32c3", "app_elf": "app.elf"}))


@needs_chip_tools
async def test_the_real_tool_measures_what_a_real_linker_put_together(built: Path) -> None:
    """Issue. The real esp_idf_size, on a map of a real link for the chip's memories."""
    link_for_a_chip(built)
    python = Path(OURS["IDF_PYTHON_ENV_PATH"]) / "bin" / "python"

    sizes = await measure(built, recorded(built), target="esp32c3", python=python)

    assert sizes is not None
    assert sizes.note == ""
    used = {memory.name: memory.used for memory in sizes.memory}
    assert used["DRAM"] == 16 + 800
    assert used["Flash Data"] == sizes.sections["rodata"] == 100
    assert sizes.sections["text"] == used["IRAM"] + used["Flash Code"]
    assert sizes.components["led"]["DRAM .bss"] == 800
    assert sizes.components["main"]["Flash Data .rodata"] == 100
    assert sizes.components["main"]["DRAM .data"] == 16
    assert next(memory.total for memory in sizes.memory if memory.name == "IRAM") == 0x4000


@needs_chip_tools
async def test_the_real_tool_says_of_a_chip_unknown_to_it_that_it_measured_nothing(built: Path) -> None:
    """Ours."""
    link_for_a_chip(built)
    (built / "project_description.json").write_text(json.dumps({"target": "esp32z9", "app_elf": "app.elf"}))
    python = Path(OURS["IDF_PYTHON_ENV_PATH"]) / "bin" / "python"

    sizes = await measure(built, recorded(built), target="esp32z9", python=python)

    assert sizes is not None
    assert sizes.note.startswith("esp_idf_size measured nothing: ERROR: cannot read memory types file")
