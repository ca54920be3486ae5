"""What is an ESP-IDF project, and what the refusal of anything else says."""

import os
import re
import time
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.idf.project import current_target, inspect_project, read_cache, sdkconfig_target

INCLUDE = "include($ENV{IDF_PATH}/tools/cmake/project.cmake)"


def folder_with(tmp_path: Path, text: str, name: str = "lamp") -> Path:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        INCLUDE,
        'include("$ENV{IDF_PATH}/tools/cmake/project.cmake")',
        "  INCLUDE ( $ENV{IDF_PATH}/tools/cmake/project.cmake )",
        "include(\n  $ENV{IDF_PATH}/tools/cmake/project.cmake\n)",
        "include($ENV{IDF_PATH}/tools/cmakev2/idf.cmake)",
        "include(/opt/idf/tools/cmake/project.cmake)",
        "include(${IDF_PATH}/tools/cmake/project.cmake)",
        f"# a comment\n#[[ and\nanother ]]\n{INCLUDE}",
        f'message("# no comment") {INCLUDE}',
        f'message("#[[") \n{INCLUDE}\n# ]]',
        f"\ufeff{INCLUDE}",
        f"{INCLUDE}\r\nproject(lamp)\r\n",
    ],
)
def test_project_is_recognised(tmp_path: Path, text: str) -> None:
    """docs: a CMakeLists.txt that includes project.cmake or cmakev2/idf.cmake."""
    assert inspect_project(folder_with(tmp_path, text)).certain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "project(lamp)",
        f"# {INCLUDE}",
        f"#[[\n{INCLUDE}\n]]",
        f"#[==[\n{INCLUDE}\n]]\n{INCLUDE}\n]==]",
        f"#[[ never closed\n{INCLUDE}",
        f'message("\n{INCLUDE}\n")'.replace("include(", "x("),
        "include(FetchContent)",
        "include($ENV{IDF_PATH}/tools/cmake/project.cmake.in)".replace("$ENV{IDF_PATH}", "/opt/idf"),
        "my_include(/opt/idf/tools/cmake/project.cmake)".replace("my_include", "myinclude"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    """docs. A comment includes nothing."""
    with pytest.raises(BadInput, match=r"project: .* is no ESP-IDF project: its CMakeLists\.txt lacks include"):
        inspect_project(folder_with(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("include(cmake/idf.cmake)", "cmake/idf.cmake"),
        ("include(${CMAKE_CURRENT_LIST_DIR}/cmake/idf.cmake)", "cmake/idf.cmake"),
        ("include(${CMAKE_SOURCE_DIR}/../shared.cmake)", "../shared.cmake"),
        ("include(cmake/a.cmake)", "cmake/a.cmake"),
    ],
)
def test_include_of_an_include_counts(tmp_path: Path, text: str, place: str) -> None:
    """docs: itself or through an include."""
    folder = folder_with(tmp_path, text)
    (folder / "cmake").mkdir()
    (folder / "cmake" / "b.cmake").write_text(INCLUDE)
    (folder / place).write_text("include(${CMAKE_CURRENT_LIST_DIR}/b.cmake)" if place.endswith("a.cmake") else INCLUDE)
    assert inspect_project(folder).certain


def test_includes_in_a_circle_end(tmp_path: Path) -> None:
    """Ours."""
    folder = folder_with(tmp_path, "include(a.cmake)")
    (folder / "a.cmake").write_text("include(CMakeLists.txt)\ninclude(a.cmake)")
    with pytest.raises(BadInput):
        inspect_project(folder)


@pytest.mark.parametrize(
    "text", ["include(${MY_IDF}/start.cmake)", "include($ENV{TOOLS}/x.cmake)", "set(CMAKE_MODULE_PATH x)\ninclude(Idf)"]
)
def test_in_doubt_idf_py_decides(tmp_path: Path, text: str) -> None:
    """docs."""
    assert not inspect_project(folder_with(tmp_path, text)).certain


def test_component_is_told_its_project(project: Path) -> None:
    """Ours. An agent often names the folder of the file it edits."""
    for folder in (project / "main", project / "components" / "led"):
        with pytest.raises(BadInput) as refused:
            inspect_project(folder)
        assert str(refused.value) == (
            f"project: '{folder}' is a component, which only builds inside a project; the project is likely '{project}'"
        )


def test_folder_above_is_told_the_projects_below(tmp_path: Path, project: Path) -> None:
    """Ours. A repository with several firmwares."""
    with pytest.raises(BadInput, match=rf"has no CMakeLists\.txt, .*; there is one in '{project}'"):
        inspect_project(project.parent)


def test_a_project_with_a_pipeline_of_its_own_is_built_by_that(tmp_path: Path) -> None:
    """Ours. It is no ESP-IDF project, and what builds it stands there."""
    own = tmp_path / ".build-orchestrator.yaml"
    own.write_text("")
    with pytest.raises(BadInput, match=re.escape(f": pipeline_run {own}")):
        inspect_project(tmp_path)


def test_platformio_project_is_called_one(tmp_path: Path) -> None:
    """Ours. The likeliest other firmware folder."""
    (tmp_path / "platformio.ini").write_text("")
    with pytest.raises(BadInput, match="PlatformIO builds it"):
        inspect_project(tmp_path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("absent", "there is no folder"),
        ("file", "is a file: name the project's folder"),
        ("loop", "cannot be read|there is no folder"),
        ("nul\0", "it holds a NUL"),
        ("x" * 5000, "cannot be read"),
        ("file/below", "there is no folder|cannot be read"),
    ],
)
def test_what_is_no_folder_is_refused(tmp_path: Path, path: str, why: str) -> None:
    """Ours: one sentence that names the argument."""
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match=why):
        inspect_project(tmp_path / path)


@pytest.mark.parametrize(
    "name", ["with space", "it's", 'a"b', "$(reboot)", "-v", "größe", b"caf\xe9".decode("utf-8", "surrogateescape")]
)
def test_odd_names_work(tmp_path: Path, name: str) -> None:
    """Ours. A folder may be called anything."""
    folder = folder_with(tmp_path, INCLUDE, name)
    assert inspect_project(folder).path == folder.resolve()


def test_links_and_dots_lead_to_one_path(tmp_path: Path, project: Path) -> None:
    """Ours: one folder is one project, by whatever way."""
    (tmp_path / "link").symlink_to(project)
    for way in (tmp_path / "link", project / "main" / "..", f"{project}/./"):
        assert inspect_project(way).path == project


def test_huge_cmakelists_is_refused_unread(tmp_path: Path) -> None:
    """Ours. 1 GB costs nothing to make."""
    folder = folder_with(tmp_path, "")
    with (folder / "CMakeLists.txt").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(BadInput, match="larger than 1024 kB and was not read"):
        inspect_project(folder)


@pytest.mark.parametrize("text", ["#[[", '"', "[[", "include(", "((", "#[=", '\\\\"'])
def test_hostile_cmake_is_read_in_no_time(tmp_path: Path, text: str) -> None:
    """Ours. No input may make the patterns run for minutes."""
    folder = folder_with(tmp_path, (text * 1_000_000)[:1_000_000])
    start = time.monotonic()
    with pytest.raises(BadInput):
        inspect_project(folder)
    assert time.monotonic() - start < 10


def test_cmakelists_may_be_no_file(tmp_path: Path) -> None:
    """Ours. Neither waits nor crashes."""
    for make in (os.mkfifo, os.mkdir):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / "CMakeLists.txt")
        with pytest.raises(BadInput, match=r"has no CMakeLists\.txt"):
            inspect_project(folder)


@pytest.mark.parametrize(
    ("text", "name"),
    [("project(door-lock)", "door-lock"), ('project("a b")', "a"), ("project(${N})", "lamp"), ("", "lamp")],
)
def test_name_comes_from_project(tmp_path: Path, text: str, name: str) -> None:
    """A variable's value is CMake's to know: then it is the folder's."""
    assert inspect_project(folder_with(tmp_path, f"{INCLUDE}\n{text}")).name == name


def test_target_is_read_as_idf_py_would(project: Path) -> None:
    """sdkconfig, then CMake's cache, then sdkconfig.defaults."""
    build = project / "build"
    build.mkdir()
    assert current_target(project, build) == (None, None)
    (project / "sdkconfig.defaults").write_text("CONFIG_IDF_TARGET=esp32s3\n")
    assert current_target(project, build) == ("esp32s3", "sdkconfig.defaults")
    (build / "CMakeCache.txt").write_text("# c\nIDF_TARGET:STRING=esp32c3\nX-ADVANCED:INTERNAL=1\n")
    assert current_target(project, build) == ("esp32c3", "CMakeCache.txt")
    (project / "sdkconfig").write_text(
        'CONFIG_IDF_TARGET_ESP32=y\n# CONFIG_IDF_TARGET="x"\nCONFIG_IDF_TARGET="esp32"\n'
    )
    found = inspect_project(project)
    assert (found.target, found.target_from) == ("esp32", "sdkconfig")


def test_target_of_recorded_sdkconfigs() -> None:
    """Written by ESP-IDF 6.0.2."""
    files = Path(__file__).parents[2] / "fixtures" / "files"
    assert sdkconfig_target(files / "sdkconfig-c3") == "esp32c3"
    assert sdkconfig_target(files / "sdkconfig-linux") == "linux"


def test_cache_without_file_is_empty(tmp_path: Path) -> None:
    """Ours."""
    assert read_cache(tmp_path) == {}
