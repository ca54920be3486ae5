"""A pipeline's stages that flash, boot or emulate run what the right build stage of that pipeline makes."""

from pathlib import Path
from typing import Any

import pytest

from mcp_server.config import load_config
from mcp_server.demo.place import lay_out
from mcp_server.errors import PipelineError
from mcp_server.hosts.registry import Hosts
from mcp_server.model import StageSpec
from mcp_server.orders import Orders

FAR = "servers:\n  fast: {host: 192.168.1.100, user: build, idf_path: /opt/esp-idf}\n"


class Bench:
    """A home with a far host, and a project."""

    def __init__(self, home: Path, folder: Path) -> None:
        (home / "config.yaml").write_text(FAR)
        config = load_config()
        self.folder = lay_out(folder)
        self.orders = Orders(config, Hosts(config), {"PATH": "/usr/bin:/bin"})

    def stages(self, *lines: str) -> dict[str, StageSpec]:
        text = "\n".join(["pipeline:", "  name: p", "  stages:", *(f"  - {line}" for line in lines)])
        pipeline = self.orders.read_pipeline(None, text, {})
        return {stage.name: stage for stage in self.orders.pipeline(pipeline, self.folder).plan.stages}

    def place(self, stage: StageSpec) -> str:
        return str(Path(stage.params["build_dir"]).relative_to(self.folder))


@pytest.fixture
def bench(home: Path, tmp_path: Path) -> Bench:
    return Bench(home, tmp_path.resolve() / "lamp")


def test_firmware_is_that_of_the_stage_before(bench: Bench) -> None:
    """Docs: build, then emulate and flash what it made, whichever stages lie between."""
    found = bench.stages(
        "{name: build, uses: idf.build}",
        "{name: check, command: 'true', depends_on: build}",
        "{name: emulate, uses: idf.qemu, depends_on: check}",
        "{name: flash, uses: idf.flash, depends_on: check, with: {port: /dev/ttyUSB0}}",
        "{name: doctor, uses: doctor}",
    )

    assert bench.place(found["build"]) == bench.place(found["flash"]) == "build"
    # Not the one of the worker's environment, which may be another shell's.
    assert found["doctor"].params["installation"] == found["build"].params["installation"]
    assert found["emulate"].kind == "idf.run"  # the project's target is linux, which needs no emulator
    assert found["flash"].params["target"] == "linux"
    assert found["flash"].params["installation"] == found["build"].params["installation"]


def test_build_far_flash_here(bench: Bench) -> None:
    """Issue. What was built there is brought into a folder of its own, and that is what is flashed."""
    found = bench.stages(
        "{name: build, uses: idf.build, server: fast, with: {target: esp32c3}}",
        "{name: flash, uses: idf.flash, depends_on: build, with: {port: /dev/ttyUSB0}}",
        "{name: boot, uses: idf.boot, depends_on: flash, with: {port: /dev/ttyUSB0, expect: [ready]}}",
    )

    assert bench.place(found["build"]) == "build/esp32c3-fast"
    assert {bench.place(found[name]) for name in ("flash", "boot")} == {"build/esp32c3-fast"}
    assert found["flash"].params["target"] == "esp32c3"


def test_each_target_has_a_directory_of_its_own(bench: Bench) -> None:
    """Interfaces: `build/<target>`; one shared by two targets would be made anew by each, for the other to flash."""
    far = "uses: idf.build, server: fast"
    found = bench.stages(
        f"{{name: build, {far}, matrix: {{chip: [esp32, esp32c3]}}, with: {{target: '${{matrix.chip}}'}}}}",
        "{name: one, uses: idf.flash, depends_on: build.esp32, with: {port: /dev/a}}",
        "{name: other, uses: idf.qemu, depends_on: build, with: {target: esp32c3}}",
    )

    assert bench.place(found["one"]) == "build/esp32-fast"
    assert bench.place(found["other"]) == "build/esp32c3-fast"
    assert found["other"].kind == "idf.qemu"


def test_two_local_targets_do_not_share_one_directory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, and without a matrix."""

    def checked_target(_: object, target: str) -> str:
        return target  # the simulated ESP-IDF knows linux alone

    monkeypatch.setattr("mcp_server.orders.checked_target", checked_target)
    found = bench.stages(
        "{name: a, uses: idf.build, with: {target: linux}}",
        "{name: b, uses: idf.build, with: {target: esp32}}",
        "{name: run, uses: idf.run, depends_on: [a, b], with: {target: linux}}",
    )

    assert [bench.place(found[name]) for name in ("a", "b", "run")] == ["build/linux", "build/esp32", "build/linux"]


@pytest.mark.parametrize("uses", ["idf.flash", "idf.qemu"])
def test_firmware_that_could_be_either_is_asked_about(uses: str, bench: Bench) -> None:
    """Ours. To take one of them would be a guess."""
    cell = "{name: build, uses: idf.build, server: fast, matrix: {c: [esp32, esp32c3]}, with: {target: '${matrix.c}'}}"

    with pytest.raises(PipelineError) as caught:
        bench.stages(cell, f"{{name: next, uses: {uses}, depends_on: build}}")

    assert "stage 'next' may mean the firmware of build.esp32, build.esp32c3: let it come after one" in str(
        caught.value
    )


def test_what_lies_there_is_flashed_where_nothing_builds(bench: Bench) -> None:
    """Ours. A command may have built it, or somebody by hand."""
    stages: Any = bench.stages("{name: make, command: 'true'}", "{name: flash, uses: idf.flash, depends_on: make}")

    assert bench.place(stages["flash"]) == "build"
