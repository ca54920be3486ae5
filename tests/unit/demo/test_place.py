"""The demo's parts: laid out fresh, never over somebody's own files, and marked as what they are."""

import ast
import re
from pathlib import Path

import pytest

from mcp_server.agents import patch
from mcp_server.demo import place
from mcp_server.errors import BadInput


def test_the_firmware_is_laid_out_with_its_mistake(tmp_path: Path) -> None:
    """Ours."""
    folder = place.lay_out(tmp_path / "deep/project")

    assert place.is_demo_project(folder)
    assert "valve_opne" in (folder / "main/thermostat.c").read_text()
    assert {path.name for path in folder.iterdir()} >= {"CMakeLists.txt", "main", "components", "sdkconfig.defaults"}
    assert [path.name for path in folder.parent.iterdir()] == ["project"]


def test_an_earlier_demo_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Ours: nothing of the last run may be left."""
    folder = place.lay_out(tmp_path / "project")
    (folder / "build").mkdir()
    (folder / "main/thermostat.c").write_text("")

    place.lay_out(folder)

    assert not (folder / "build").exists()
    assert (folder / "main/thermostat.c").read_text() != ""


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "project").mkdir()

    assert place.is_demo_project(place.lay_out(tmp_path / "project"))


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_is_not_a_demo_is_left_alone(tmp_path: Path, name: str) -> None:
    """Ours."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine.c").write_text("mine")
    (tmp_path / "file").write_text("mine")

    with pytest.raises(BadInput, match="not an earlier demo"):
        place.lay_out(tmp_path / name)

    assert (tmp_path / "folder/mine.c").read_text() == (tmp_path / "file").read_text() == "mine"


def test_the_diff_mends_the_firmware(tmp_path: Path) -> None:
    """Ours: its context is the firmware's."""
    folder = place.lay_out(tmp_path / "project")

    [change] = patch.apply(place.fix_patch().encode(), folder)

    assert (change.path, change.summary) == ("main/thermostat.c", "changed, +1 -1")


def test_the_installation_looks_like_one_and_says_that_it_is_none() -> None:
    """ESP-IDF 6.0's files, in the form that finders read."""
    idf = place.simulated_installation()
    version = dict(re.findall(r"set\(IDF_VERSION_(\w+) (\d+)\)", (idf / "tools/cmake/version.cmake").read_text()))
    constants = ast.parse((idf / "tools/idf_py_actions/constants.py").read_text())
    names = [
        target.id
        for node in constants.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]

    assert version == {"MAJOR": "6", "MINOR": "0", "PATCH": "2"}
    assert {"SUPPORTED_TARGETS", "PREVIEW_TARGETS"} <= set(names)
    assert (idf / "tools/idf.py").is_file()
    assert place.is_simulated(idf)
    assert not place.is_simulated(idf / "tools")
    assert "This is not ESP-IDF" in (idf / "SIMULATED.md").read_text()


def test_the_hints_are_in_esp_idfs_form() -> None:
    """ESP-IDF's hints.yml: a list of mappings with `re` and `hint`."""
    import yaml  # noqa: PLC0415

    hints = yaml.safe_load((place.simulated_installation() / "tools/idf_py_actions/hints.yml").read_text())

    assert all(re.compile(hint["re"]) and hint["hint"] for hint in hints)
    output = "error: implicit declaration of function ‘valve_opne’; did you mean ‘valve_open’?"
    assert re.search(hints[0]["re"], output)
