"""Sizes of a build as lines, alone and beside another build's."""

from typing import Any

import pytest

from mcp_server import report, report_tables
from mcp_server.compared import compared
from mcp_server.idf.size import AppPartition, Memory, Sizes
from mcp_server.model import Artifact, BuildStatus, StageStatus, Verdict
from mcp_server.views import BuildView
from tests.unit.tools.fake import a_build, a_stage, a_view

KB = 1024
ELF = Artifact(path="blink.elf", size=4_112_880, sha256="c" * 64, kind="elf")
SMALL = Sizes(
    elf="a" * 64,
    image=180_000,
    memory=(Memory(name="Flash Code", used=90_000), Memory(name="DRAM", used=60_000, total=320_000)),
    components={"main": {"Flash Code .text": 9_000, "DRAM .bss": 100}, "wifi": {"Flash Code .text": 81_000}},
    app=AppPartition(name="factory", size=1024 * KB, used=932 * KB),
)
LARGE = SMALL.model_copy(
    update={
        "memory": (Memory(name="Flash Code", used=95_500), Memory(name="DRAM", used=310_000, total=320_000)),
        "components": {
            "main": {"Flash Code .text": 8_500, "DRAM .bss": 250_100},
            "wifi": {"Flash Code .text": 81_000},
            "led": {"Flash Code .text": 6_000},
        },
        "app": AppPartition(name="factory", size=1024 * KB, used=1012 * KB),
    }
)


def view(number: int, *sizes: Sizes | None, **kept: Any) -> BuildView:
    rows = [
        a_stage(
            StageStatus.SUCCESS,
            "build" if len(sizes) == 1 else f"build-{n}",
            verdict=Verdict(result="pass", details={"sizes": one.model_dump(mode="json")} if one else kept),
        )
        for n, one in enumerate(sizes)
    ]
    return a_view(a_build(number, BuildStatus.SUCCESS), *rows, artifacts=(ELF,))


def test_sizes_alone_name_partition_memories_and_the_largest_components() -> None:
    """Issue: sizes by section and component."""
    assert report_tables.size_table(view(42, SMALL)).splitlines() == [
        "build 42: bytes on disk",
        "blink.elf 4,112,880",
        "app partition factory 91 % full (932 of 1,024 kB)",
        "memory, bytes:",
        "  Flash Code 90,000",
        "  DRAM 60,000 of 320,000 (18 %)",
        "components, the largest first:",
        "  wifi 81,000 (Flash Code .text 81,000)",
        "  main 9,100 (Flash Code .text 9,000 · DRAM .bss 100)",
    ]


def test_two_builds_differ_by_memory_and_component_and_a_crossed_limit_is_named() -> None:
    """Issue: the difference by component, and what crossed a partition's limit."""
    assert report_tables.size_table(view(43, LARGE), view(42, SMALL)).splitlines() == [
        "build 43 against build 42: bytes on disk",
        "blink.elf 4,112,880 unchanged",
        "app partition factory 98 % full (1,012 of 1,024 kB), was 91 %: nearly full now",
        "memory, bytes:",
        "  Flash Code 95,500 +5,500",
        "  DRAM 310,000 of 320,000 (96 %) +250,000: nearly full now",
        "components, the largest changes first:",
        "  main 258,600 +249,500 (DRAM .bss +250,000 · Flash Code .text -500)",
        "  led 6,000 new (Flash Code .text +6,000)",
    ]


def test_what_went_away_or_fits_again_is_named() -> None:
    """Ours. The other direction."""
    grown = SMALL.model_copy(update={"app": AppPartition(name="ota_0", size=1536 * KB, used=932 * KB)})
    lines = report_tables.size_table(view(44, grown), view(43, LARGE)).splitlines()

    assert lines[2] == (
        "app partition ota_0 60 % full (932 of 1,536 kB), was 98 % of 1,024 kB: not nearly full any more"
    )
    assert "  led gone, was 6,000" in lines
    over = SMALL.model_copy(update={"app": AppPartition(name="ota_1", size=1024 * KB, used=1025 * KB)})
    assert "100 % full (1,025 of 1,024 kB), was 98 %: does not fit now" in report_tables.size_table(
        view(45, over), view(43, LARGE)
    )
    assert ": does not fit" in report_tables.size_table(view(45, over))
    assert "was 100 %: fits again" in report_tables.size_table(view(46, SMALL), view(45, over))


def test_nothing_changed_is_said_in_few_lines() -> None:
    """Ours."""
    lines = report_tables.size_table(view(43, SMALL), view(42, SMALL)).splitlines()

    assert lines[2:] == [
        "app partition factory 91 % full (932 of 1,024 kB), was 91 %",
        "memory, bytes:",
        "  Flash Code 90,000",
        "  DRAM 60,000 of 320,000 (18 %)",
        "components: unchanged",
    ]


def test_a_program_for_this_machine_has_sections() -> None:
    """Ours. The linux target has neither memories nor partitions."""
    now = Sizes(elf="a", sections={"text": 16_495, "rodata": 200, "data": 0, "bss": 9})
    then = now.model_copy(update={"sections": {"text": 16_000, "rodata": 200, "data": 4, "bss": 9}})

    lines = report_tables.size_table(view(43, now), view(42, then)).splitlines()
    assert lines[2:] == ["sections, bytes: text 16,495 +495 · rodata 200 · data 0 -4 · bss 9"]


def test_stages_are_compared_by_their_names() -> None:
    """Ours. A pipeline may build for two chips."""
    lines = report_tables.size_table(view(43, SMALL, LARGE), view(42, SMALL, SMALL)).splitlines()

    assert [line for line in lines if line.startswith(("stage", "app", "  main"))] == [
        "stage build-0:",
        "app partition factory 91 % full (932 of 1,024 kB), was 91 %",
        "stage build-1:",
        "app partition factory 98 % full (1,012 of 1,024 kB), was 91 %: nearly full now",
        "  main 258,600 +249,500 (DRAM .bss +250,000 · Flash Code .text -500)",
    ]


@pytest.mark.parametrize("kept", [{}, {"sizes": None}, {"sizes": {"elf": 7}}, {"sizes": "large"}])
def test_a_build_without_sizes_says_so_where_the_other_has_some(kept: dict[str, Any]) -> None:
    """Ours. Sizes come after the verdict, and older builds have none."""
    text = report_tables.size_table(view(43, SMALL), view(42, None, **kept))

    assert text.splitlines()[-1] == "no sizes by memory and component are on record of build 42"
    assert "components, the largest first:" in text
    assert len(report_tables.size_table(view(42, None, **kept)).splitlines()) == 2


def test_a_table_of_many_components_is_bounded() -> None:
    """Ours. 4,000 bytes, the largest changes kept."""
    many = {f"component-with-a-long-name-{n}": {f"memory {m}": n + m for m in range(9)} for n in range(200)}
    now = SMALL.model_copy(update={"components": many, "note": "x" * 500})
    text = report_tables.size_table(view(43, now), view(42, SMALL))

    assert report.size(text) <= 4000
    assert "component-with-a-long-name-199 1,827 new (memory 8 +207 · " in text
    assert "· and 5 more)" in text


def test_two_builds_are_compared_as_values_from_what_is_recorded() -> None:
    """Issue. The page's and a program's; what one of the two has not recorded is null."""
    told = compared(view(43, LARGE), view(42, SMALL))
    assert (told["build"], told["to"], told["unchanged"], told["files"]) == (43, 42, 1, [])
    assert told["sizes"] == [
        {"stage": "build", "what": "app", "size": 1012 * KB, "was": 932 * KB},
        {"stage": "build", "what": "Flash Code", "size": 95_500, "was": 90_000},
        {"stage": "build", "what": "DRAM", "size": 310_000, "was": 60_000},
    ]
    assert {one["size"] for one in compared(view(44, None), view(42, SMALL))["sizes"]} == {None}
