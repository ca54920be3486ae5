"""What a build weighs: image, memories, sections, components, and how full its app partition is.

Measured once an ELF, by the installation's own esp_idf_size where the chip has a memory map, else from the ELF alone.
The last result lies in the build directory, so that a build that changed nothing costs no run of any tool.
"""

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from mcp_server.errors import BadInput
from mcp_server.idf.activation import Runner, run_tool
from mcp_server.idf.elf_sections import read_sections
from mcp_server.idf.environment import DEFAULT_PATH
from mcp_server.idf.installation import open_file, read_text, stamp
from mcp_server.idf.partitions import TABLE_BYTES, Partition, parse_table, smallest_app
from mcp_server.idf.recorded import artifact_of, unchanged
from mcp_server.model import Artifact, Model

RECORD: Final = ".build-orchestrator-sizes.json"
FORMAT: Final = 1
MAX_RECORD_BYTES = 256 * 1024
TOOL_TIMEOUT_S = 60  # 0.4 s for a map of 3.4 MB; its `raw` format takes 13 s and 0.5 GB there, and is not used
MOST_COMPONENTS = 200  # in a record; an app has about 100, what is left is summed as OTHERS
MOST_PARTITIONS = 32
OTHERS: Final = "(others)"
FOR_HOST: Final = "linux"


class Memory(Model):
    """One kind of memory. `total` 0: not known, as how much flash an app may use is its partition's matter."""

    name: str
    used: int
    total: int = 0


class AppPartition(Model):
    """The smallest app partition, `used` bytes of it by the app's binary, as ESP-IDF checks it."""

    name: str
    size: int
    used: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.size if self.size else 0


class Sizes(Model):
    """Bytes. `elf`: the SHA-256 of the program measured. `sections`: text, rodata, data, bss of the whole program.

    `components`: by archive without `lib` and `.a`, then by memory and section, e.g. {"main": {"Flash Code .text": 9}};
    the largest, others summed. `image` is what the chip's loader reads, without padding. `note`: what is missing, why.
    """

    elf: str
    image: int = 0
    sections: Mapping[str, int] = {}
    memory: tuple[Memory, ...] = ()
    components: Mapping[str, Mapping[str, int]] = {}
    app: AppPartition | None = None
    partitions: tuple[Partition, ...] = ()
    note: str = ""


async def measure(
    build_dir: Path,
    artifacts: Sequence[Artifact],
    *,
    target: str | None,
    python: Path | None,
    runner: Runner = run_tool,
) -> Sizes | None:
    """The sizes of the build that left `artifacts`, new or as they were recorded of the same files.

    `python` is that of the installation, None where it has no esp_idf_size. None: no ELF, or the files in `build_dir`
    are not those any more, as another build came: that one is measured instead.
    """
    elf = artifact_of(artifacts, "elf")
    if elf is None or not await asyncio.to_thread(unchanged, build_dir, elf):
        return None
    key = _key(artifacts, python)
    if remembered := await asyncio.to_thread(_remembered, build_dir, key):
        return remembered
    sizes = await asyncio.to_thread(_of_files, build_dir, elf, artifacts)
    tool_map = artifact_of(artifacts, "map")
    if python is not None and tool_map is not None and target not in (None, FOR_HOST):
        before = await asyncio.to_thread(unchanged, build_dir, tool_map)
        told = await _of_tool(python, build_dir / tool_map.path, runner)
        # The tool reads for a second without a lock: a build that began meanwhile may have cut the map under it.
        if not before or await asyncio.to_thread(stamp, build_dir / tool_map.path) != before:
            return None
        sizes = sizes.model_copy(update=told | {"note": " ".join([*filter(None, [sizes.note, told.get("note")])])})
    if not await asyncio.to_thread(unchanged, build_dir, elf):
        return None
    await asyncio.to_thread(_remember, build_dir, key, sizes)
    return sizes


def _key(artifacts: Sequence[Artifact], python: Path | None) -> str:
    """What a record is valid for. The map is left out: it differs in comments only when the ELF is the same."""
    kinds = ("elf", "app", "partition-table")
    return " ".join([*(one.sha256 for kind in kinds if (one := artifact_of(artifacts, kind))), str(python or "")])


# -- from the files ----------------------------------------------------------------------------------------------------


def _of_files(build_dir: Path, elf: Artifact, artifacts: Sequence[Artifact]) -> Sizes:
    app, table = artifact_of(artifacts, "app"), artifact_of(artifacts, "partition-table")
    found: tuple[Partition, ...] = ()
    note = ""
    if table is not None:
        try:
            with open_file(build_dir / table.path) as file:
                found = parse_table(file.read(TABLE_BYTES))
        except OSError as error:
            note = f"{table.path} cannot be read ({error.strerror or error})"
        except BadInput as error:
            note = f"{table.path}: {error}"
    place = smallest_app(found)
    return Sizes(
        elf=elf.sha256,
        image=app.size if app else 0,
        sections=read_sections(build_dir / elf.path),
        app=AppPartition(name=place.name, size=place.size, used=app.size) if place and app else None,
        partitions=found[:MOST_PARTITIONS],
        note=note,
    )


# -- by esp_idf_size ---------------------------------------------------------------------------------------------------


async def _of_tool(python: Path, map_file: Path, runner: Runner) -> dict[str, Any]:
    """Fields of Sizes: `image`, `memory`, `components`; or only a `note`."""
    summary = await _ask(python, map_file, runner)
    if isinstance(summary, str):
        return {"note": summary}
    archives = await _ask(python, map_file, runner, "--archives")
    if isinstance(archives, str):
        return {"note": archives, **_memory(summary)}
    return _memory(summary) | {"components": _components(archives)}


async def _ask(python: Path, map_file: Path, runner: Runner, *options: str) -> dict[str, Any] | str:
    """What the tool printed; a sentence where it did not."""
    # -I: a file json.py in whatever folder this runs in is none of its modules.
    argv = [str(python), "-I", "-m", "esp_idf_size", "--format", "json2", *options, str(map_file)]
    env = {"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8", "ESP_IDF_SIZE_NG": "1"}  # 1.x knows json2 only as its "NG"
    try:
        code, out, err = await runner(argv, env, TOOL_TIMEOUT_S)
    except TimeoutError:
        return f"esp_idf_size did not end within {TOOL_TIMEOUT_S} s"
    except OSError as error:
        return f"{python} cannot be run ({error.strerror or error})"
    try:
        content: Any = json.loads(out) if code == 0 else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        last = (err.strip() or out.strip() or "it printed nothing").splitlines()[-1]
        return f"esp_idf_size measured nothing: {last[:200]}"
    return cast("dict[str, Any]", content)


def _memory(summary: Mapping[str, Any]) -> dict[str, Any]:
    found = [
        Memory(name=entry["name"], used=_bytes(entry.get("used")), total=_bytes(entry.get("total")))
        for entry in _dicts(summary.get("layout"))
        if isinstance(entry.get("name"), str)
    ]
    image = _bytes(summary.get("total_size"))
    return {"memory": tuple(found), **({"image": image} if image else {})}


def _components(archives: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Sizes by archive; several of one name, such as the toolchain's and ours, are one component."""
    found: dict[str, Counter[str]] = {}
    for path, archive in archives.items():
        parts = found.setdefault(_called(path), Counter())
        for memory, sections in _items(archive, "memory_types"):
            for name, section in _items(sections, "sections"):
                if size := _bytes(section.get("size")):
                    shown = section.get("abbrev_name")
                    parts[f"{memory} {shown if isinstance(shown, str) else name}"] += size
    ordered = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    rest: Counter[str] = Counter()
    for _, parts in ordered[MOST_COMPONENTS:]:
        rest.update(parts)
    kept = [(name, parts) for name, parts in ordered[:MOST_COMPONENTS] if parts]
    return {name: dict(parts) for name, parts in [*kept, *([(OTHERS, rest)] if rest else [])]}


def _called(archive: str) -> str:
    name = archive.replace("\\", "/").rpartition("/")[2]
    return (name.removeprefix("lib").removesuffix(".a") if name.endswith(".a") else name)[:80] or archive[:80]


def _items(fields: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    inner: Any = fields.get(name)
    content = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    return [(key, cast("dict[str, Any]", value)) for key, value in content.items() if isinstance(value, dict)]


def _dicts(value: object) -> list[Mapping[str, Any]]:
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)]


def _bytes(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


# -- the record --------------------------------------------------------------------------------------------------------


def _remembered(build_dir: Path, key: str) -> Sizes | None:
    try:
        content: Any = json.loads(read_text(build_dir / RECORD, MAX_RECORD_BYTES) or "null")
        fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        if (fields.get("format"), fields.get("key")) != (FORMAT, key):
            return None
        return Sizes.model_validate(fields.get("sizes"))
    except (ValueError, RecursionError, ValidationError):
        return None


def _remember(build_dir: Path, key: str, sizes: Sizes) -> None:
    """Written beside and renamed. Where it cannot be written the next build measures again."""
    content = {"format": FORMAT, "key": key, "sizes": sizes.model_dump(mode="json")}
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("w", dir=build_dir, prefix=RECORD, delete=False, encoding="utf-8") as new:
            json.dump(content, new)
        try:
            Path(new.name).replace(build_dir / RECORD)
        except OSError:
            Path(new.name).unlink()
