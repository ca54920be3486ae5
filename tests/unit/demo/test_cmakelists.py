"""What the simulated ESP-IDF reads in a CMakeLists.txt, and what it says of the rest."""

from pathlib import Path

import pytest

from mcp_server.demo.idf.tools.simulated import cmakelists, components


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CMakeLists.txt").write_text(text)
    return folder


def test_a_component_has_its_lists(tmp_path: Path) -> None:
    """ESP-IDF's idf_component_register."""
    folder = write(
        tmp_path / "valve",
        '# a comment with ) and "\n'
        'set(srcs "a.c" b.c)\n'
        'idf_component_register(SRCS ${srcs} "with blank.c" # and one here\n'
        "                       INCLUDE_DIRS include ../shared\n"
        "                       REQUIRES log PRIV_REQUIRES esp_driver_gpio)\n",
    )

    component = cmakelists.read_component(folder)

    assert component.sources == [folder / "a.c", folder / "b.c", folder / "with blank.c"]
    assert component.include_dirs == [folder / "include", tmp_path / "shared"]
    assert (component.items("REQUIRES"), component.items("PRIV_REQUIRES")) == (["log"], ["esp_driver_gpio"])
    assert component.line == 3


def test_a_project_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESP-IDF's project files."""
    monkeypatch.setenv("IDF_PATH", "/idf")
    head = "cmake_minimum_required(VERSION 3.22)\ninclude($ENV{IDF_PATH}/tools/cmake/project.cmake)\n"
    plain = write(tmp_path / "plain", head + "project(greenhouse)\n")
    minimal = write(tmp_path / "minimal", head + "idf_build_set_property(MINIMAL_BUILD ON)\nproject(greenhouse)\n")

    assert cmakelists.read_project(plain) == cmakelists.Project("greenhouse", False, 3)
    assert cmakelists.read_project(minimal) == cmakelists.Project("greenhouse", True, 4)
    assert cmakelists.read_project(write(tmp_path / "none", head)) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "\nidf_component_register(SRCS a.c",
            ':2:\n  Parse error.  Function missing ending ")".  End of file reached.',
        ),
        ('idf_component_register(SRCS "a.c)\n', ':1:\n  Parse error.  Function missing ending ")".  Instead found'),
        (
            "idf_component_registre(SRCS a.c)",
            ':1 (idf_component_registre):\n  Unknown CMake command "idf_component_reg',
        ),
        (")", ":1:\n  Parse error.  Expected a command name"),
    ],
)
def test_what_cannot_be_read_is_said_as_cmake_says_it(tmp_path: Path, text: str, sentence: str) -> None:
    """CMake's messages."""
    with pytest.raises(cmakelists.CMakeError) as error:
        cmakelists.read_component(write(tmp_path / "main", text))

    assert str(error.value).startswith(f"{tmp_path}/main/CMakeLists.txt{sentence}")


def test_headers_come_with_requires_only(tmp_path: Path) -> None:
    """ESP-IDF: REQUIRES is passed on, PRIV_REQUIRES is not."""
    for name, needs in {"a": "REQUIRES b", "b": "REQUIRES c PRIV_REQUIRES d", "c": "", "d": ""}.items():
        write(tmp_path / name, f"idf_component_register(INCLUDE_DIRS include {needs})")
    write(tmp_path / "main", "idf_component_register(SRCS main.c PRIV_REQUIRES a)")
    known = {path.name: cmakelists.read_component(path) for path in tmp_path.iterdir() if path.name in "abcd main"}
    known |= {name: cmakelists.Component(name, tmp_path / name) for name in components.COMMON}

    found = components.include_path(known["main"], known)

    assert found == [tmp_path / name / "include" for name in "abc"]
