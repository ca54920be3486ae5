"""A missing header: which component has it, and where to require it, from the build's own description."""

import json
from pathlib import Path

import pytest

from mcp_server.idf.diagnostics import Diagnoser, Hints, diagnose


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """main and net of the project; lamp of an ESP-IDF that has lamp.h."""
    root = tmp_path.resolve() / "project"
    lamp = tmp_path.resolve() / "esp-idf" / "components" / "lamp"
    for folder in (root / "build", root / "main", root / "components" / "net" / "include", lamp / "include"):
        folder.mkdir(parents=True)
    (lamp / "include" / "lamp.h").touch()
    describe(root, lamp, main={}, net={})
    return root


def describe(root: Path, lamp: Path, main: dict[str, list[str]], net: dict[str, list[str]]) -> None:
    components = {
        "main": {"dir": str(root / "main"), "include_dirs": ["."], "reqs": [], "priv_reqs": []} | main,
        "net": {"dir": str(root / "components/net"), "include_dirs": ["include"], "reqs": [], "priv_reqs": []} | net,
        "lamp": {"dir": str(lamp), "include_dirs": ["include"], "reqs": [], "priv_reqs": []},
    }
    (root / "build" / "project_description.json").write_text(json.dumps({"all_component_info": components}))


def hints(project: Path, file: str, header: str = "lamp.h") -> tuple[str, ...]:
    diagnoser = Diagnoser(project, hints=Hints())
    diagnoser.feed(f"{project / file}:1:10: fatal error: {header}: No such file or directory\n".encode())
    return diagnoser.finish(2).hints


def test_a_source_file_needs_a_private_requirement(project: Path) -> None:
    """ESP-IDF's rule."""
    assert hints(project, "main/app.c") == (
        "lamp.h is in component lamp: add it to PRIV_REQUIRES in main/CMakeLists.txt",
    )


def test_a_public_header_needs_a_public_one(project: Path) -> None:
    """ESP-IDF's rule: whoever includes it needs the component too."""
    expected = "lamp.h is in component lamp: add it to REQUIRES in components/net/CMakeLists.txt"

    assert hints(project, "components/net/include/net.h") == (expected,)


def test_a_private_requirement_of_a_public_header_must_move(project: Path) -> None:
    """ESP-IDF's rule."""
    describe(project, project.parent / "esp-idf/components/lamp", main={}, net={"priv_reqs": ["lamp"]})
    expected = "lamp.h is in component lamp: move it from PRIV_REQUIRES to REQUIRES in components/net/CMakeLists.txt"

    assert hints(project, "components/net/include/net.h") == (expected,)


def test_a_requirement_that_is_there_gives_no_advice(project: Path) -> None:
    """ESP-IDF's gap: its description is older than the edit that was just made."""
    describe(project, project.parent / "esp-idf/components/lamp", main={"priv_reqs": ["lamp"]}, net={})

    assert hints(project, "main/app.c") == ()


@pytest.mark.parametrize("header", ["nowhere.h", "../../lamp.h", "/etc/passwd"])
def test_a_header_that_no_component_has_gives_no_advice(project: Path, header: str) -> None:
    """Ours: a log may not make us look outside of the components."""
    assert hints(project, "main/app.c", header) == ()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"all_component_info": 7}', '{"all_component_info": {"a": {"dir": 7}}}']
)
def test_a_broken_description_gives_no_advice(project: Path, content: str) -> None:
    """Ours."""
    (project / "build" / "project_description.json").write_text(content)

    assert hints(project, "main/app.c") == ()


def test_the_advice_that_idf_py_printed_is_shortened() -> None:
    """Ours: three of its lines become one."""
    log = """/p/main/a.c:1:10: fatal error: nvs_flash.h: No such file or directory
ninja: build stopped: subcommand failed.
\x1b[0;33mCompilation failed because a.c (in "main" component) includes nvs_flash.h, provided by nvs_flash component(s).
However, nvs_flash component(s) is not in the requirements list of "main".
To fix this, add nvs_flash to PRIV_REQUIRES list of idf_component_register call in /p/main/CMakeLists.txt.\x1b[0m
"""
    expected = "nvs_flash.h is in component nvs_flash: add it to PRIV_REQUIRES in main/CMakeLists.txt"

    assert diagnose(log, 2, hints=Hints()).hints == (expected,)


@pytest.mark.parametrize(("folder", "told"), [("project/main", True), ("elsewhere", False)])
def test_a_manifest_that_is_no_yaml_is_told_by_line(project: Path, folder: str, told: bool) -> None:
    """Ours: the component manager names the file only. A file outside of the project is not looked at."""
    manifest = project.parent / folder / "idf_component.yml"
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text('dependencies:\n\tidf: ">=5"\n')
    diagnoser = Diagnoser(project, hints=Hints())
    diagnoser.feed(
        f"Cannot parse the manifest file. Please check that\n\t{manifest}\nis a valid YAML file\n\n".encode()
    )
    hints = [hint for hint in diagnoser.finish(2).hints if hint.startswith("main/idf_component.yml:2: ")]

    assert bool(hints) is told
