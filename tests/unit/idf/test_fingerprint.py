"""Whatever idf.py would see and ninja would not must show."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf import fingerprint as module
from mcp_server.idf.fingerprint import (
    RECORD,
    Changed,
    Fingerprint,
    after_a_build,
    dated_ahead,
    difference,
    environment_hash,
    extensions,
    fingerprint,
    read_record,
    write_record,
)

INPUTS = {"the environment": "abc"}
LATER = 4_000_000_000.0  # 2096


@pytest.fixture
def configured(project: Path) -> Path:
    """The project with a build directory as CMake leaves it."""
    build = project / "build"
    build.mkdir()
    cache = [
        "CMAKE_GENERATOR:INTERNAL=Ninja",
        f"CMAKE_HOME_DIRECTORY:INTERNAL={project}",
        "PYTHON:UNINITIALIZED=/env/bin/python",
        "IDF_TARGET:STRING=esp32c3",
        "CCACHE_ENABLE:UNINITIALIZED=False",
    ]
    (build / "CMakeCache.txt").write_text("\n".join(cache) + "\n")
    (build / "build.ninja").write_text("rule x\n")
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32c3"\n')
    return project


def taken(project: Path) -> Fingerprint:
    return fingerprint(project, project / "build", INPUTS, project / "sdkconfig")


def recorded_after(before: Fingerprint, planned_at: float, project: Path) -> Fingerprint:
    return after_a_build(before.watched, planned_at, project, project / "build", INPUTS, project / "sdkconfig")


def after_a_tick(project: Path) -> float:
    """A moment after all changes so far; the file system's clock, which goes in steps, has moved on on return."""
    moment = max(path.stat().st_ctime for path in project.rglob("*"))
    probe = project.parent / "probe"
    while not probe.exists() or probe.stat().st_ctime <= moment:
        probe.write_text("")
    return moment


def write(name: str, text: str = "x\n") -> Callable[[Path], None]:
    def change(project: Path) -> None:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    return change


def edit(name: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        (project / name).write_text((project / name).read_text() + "\n")

    return change


def delete(name: str) -> Callable[[Path], None]:
    return lambda project: (project / name).unlink()


SEEN = [
    (write("main/Kconfig.projbuild"), "main/Kconfig.projbuild is new"),
    (write("main/Kconfig"), "main/Kconfig is new"),
    (write("Kconfig"), "Kconfig is new"),
    (write("main/idf_component.yml"), "main/idf_component.yml is new"),
    (write("main/project_include.cmake"), "main/project_include.cmake is new"),
    (write("main/extra.c"), "the list of sources of main changed"),
    (write("main/deep/er/extra.cpp"), "the list of sources of main changed"),
    (write("components/new/CMakeLists.txt"), "components/new/CMakeLists.txt is new"),
    (write("bootloader_components/main/CMakeLists.txt"), "bootloader_components/main/CMakeLists.txt is new"),
    (write("sdkconfig.defaults"), "sdkconfig.defaults is new"),
    (write("sdkconfig.defaults.esp32c3"), "sdkconfig.defaults.esp32c3 is new"),
    (write("CMakePresets.json"), "CMakePresets.json is new"),
    (write("CMakeUserPresets.json"), "CMakeUserPresets.json is new"),
    (edit("sdkconfig"), "sdkconfig changed"),
    (edit("CMakeLists.txt"), "CMakeLists.txt changed"),
    (edit("components/led/CMakeLists.txt"), "components/led/CMakeLists.txt changed"),
    (delete("components/led/CMakeLists.txt"), "components/led/CMakeLists.txt is gone"),
    (delete("components/led/led.c"), "the list of sources of components/led is gone"),
    (delete("sdkconfig"), "sdkconfig is gone"),
]


@pytest.mark.parametrize(("change", "what"), SEEN, ids=[what for _, what in SEEN])
def test_change_calls_for_a_configure(configured: Path, change: Callable[[Path], None], what: str) -> None:
    """Measured: a new Kconfig or bootloader component is ignored until the next configure."""
    before = taken(configured)
    change(configured)
    assert difference(before, taken(configured)) == Changed(what, configure=True)


@pytest.mark.parametrize(
    "line", ["CMAKE_GENERATOR", "CMAKE_HOME_DIRECTORY", "PYTHON", "IDF_TARGET", "CCACHE_ENABLE", "EXTRA_COMPONENT_DIRS"]
)
def test_cache_changed_by_another_is_seen(configured: Path, line: str) -> None:
    """design: home directory, Python, generator, target, ccache; or anything else in the cache."""
    before = taken(configured)
    cache = configured / "build" / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace(f"{line}:", "OTHER:") + f"{line}:STRING=another\n")
    changed = difference(before, taken(configured))
    assert changed is not None
    assert not changed.configure


def test_build_ninja_of_another_is_seen(configured: Path) -> None:
    """Someone ran idf.py by hand, with options that nobody told us."""
    before = taken(configured)
    edit("build/build.ninja")(configured)
    assert difference(before, taken(configured)) == Changed("build.ninja changed", may_configure=True)


@pytest.mark.parametrize("name", ["main/main.c", "components/led/led.c"])
def test_edited_source_is_ninjas_business(configured: Path, name: str) -> None:
    """Else nothing would be gained."""
    before = taken(configured)
    edit(name)(configured)
    write("main/.main.c.swp")(configured)
    write("README.md")(configured)
    write("build/log/x.c")(configured)
    assert difference(before, taken(configured)) is None


def test_component_outside_the_project_is_watched(configured: Path, tmp_path: Path) -> None:
    """EXTRA_COMPONENT_DIRS lead outside; the last configure tells where."""
    shared = tmp_path.resolve() / "shared"
    write("pump/CMakeLists.txt")(shared)
    description = f'{{"idf_path": "/idf", "build_component_paths": ["/idf/components/log", "{shared}/pump", ""]}}'
    write("build/project_description.json", description)(configured)
    before = taken(configured)

    write("pump/Kconfig")(shared)
    assert difference(before, taken(configured)) == Changed(f"{shared}/pump/Kconfig is new", configure=True)
    (shared / "pump" / "Kconfig").unlink()
    write("valve/CMakeLists.txt")(shared)
    assert difference(before, taken(configured)) == Changed(f"{shared}/valve/CMakeLists.txt is new", configure=True)


def test_change_during_the_build_shows_at_the_next(configured: Path) -> None:
    """Ours. CMake may have looked before the change, so the next build configures."""
    before, planned = taken(configured), after_a_tick(configured)
    write("main/Kconfig")(configured)
    write("main/late.c")(configured)
    edit("CMakeLists.txt")(configured)
    delete("components/led/led.c")(configured)
    recorded, found = recorded_after(before, planned, configured), taken(configured)
    assert {name for name, _ in found.watched.items() ^ recorded.watched.items()} == {
        "main/Kconfig",
        "CMakeLists.txt",
        "the list of sources of main",
        "the list of sources of components/led",
    }


def test_source_edited_during_the_build_is_ninjas_business(configured: Path) -> None:
    """Ours. People save while they build."""
    before, planned = taken(configured), after_a_tick(configured)
    edit("main/main.c")(configured)
    (configured / "main" / "main.c").rename(configured / "main" / "main.tmp")
    (configured / "main" / "main.tmp").rename(configured / "main" / "main.c")
    assert difference(recorded_after(before, planned, configured), taken(configured)) is None


def test_what_the_build_writes_itself_is_no_change(configured: Path) -> None:
    """sdkconfig, dependencies.lock and components fetched by the configure."""
    (configured / "sdkconfig").unlink()
    before, planned = taken(configured), after_a_tick(configured)
    for name in ("sdkconfig", "dependencies.lock", "managed_components/vendor__thing/CMakeLists.txt"):
        write(name)(configured)
    assert difference(recorded_after(before, planned, configured), taken(configured)) is None


def test_component_that_the_configure_led_to_is_taken_as_it_is(configured: Path, tmp_path: Path) -> None:
    """Ours. Unknown when the plan was made; older than it, so CMake has seen it."""
    shared = tmp_path.resolve() / "shared"
    write("pump/CMakeLists.txt")(shared)
    write("pump/pump.c")(shared)
    before = taken(configured)
    planned = after_a_tick(tmp_path)
    write("build/project_description.json", f'{{"build_component_paths": ["{shared}/pump"]}}')(configured)
    recorded = recorded_after(before, planned, configured)
    assert difference(recorded, taken(configured)) is None
    write("pump/Kconfig")(shared)
    assert difference(recorded_after(before, planned, configured), taken(configured)) is not None


def test_old_file_moved_here_during_the_build_shows_too(configured: Path, tmp_path: Path) -> None:
    """Ours. `mv` and `cp -p` keep an old modification time."""
    (tmp_path / "Kconfig").write_text("")
    before, planned = taken(configured), after_a_tick(configured)
    (tmp_path / "Kconfig").rename(configured / "main" / "Kconfig")
    os.utime(configured / "main" / "Kconfig", (1, 1))
    assert "main/Kconfig" not in recorded_after(before, planned, configured).watched


def test_too_many_sources_are_not_listed(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: bounded work; such a component still has its CMakeLists.txt watched."""
    monkeypatch.setattr(module, "MAX_SOURCES", 3)
    for number in range(5):
        write(f"main/{number}.c")(configured)
    assert "the list of sources of main" not in taken(configured).watched
    assert "main/CMakeLists.txt" in taken(configured).watched


def test_record_comes_back_as_it_was(configured: Path) -> None:
    """Ours. Even with names that are no UTF-8."""
    write("components/" + os.fsdecode(b"caf\xe9") + "/Kconfig")(configured)
    assert write_record(configured / "build", taken(configured))
    assert read_record(configured / "build") == taken(configured)
    assert [path.name for path in (configured / "build").iterdir() if path.name.startswith(RECORD)] == [RECORD]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 0, "inputs": {}, "watched": {}}'])
def test_garbled_record_is_none(configured: Path, text: str) -> None:
    """Ours: any doubt means idf.py."""
    write(f"build/{RECORD}", text)(configured)
    assert read_record(configured / "build") is None


def test_record_that_cannot_be_written_is_no_error(configured: Path) -> None:
    """Ours. It costs the next build a second."""
    assert not write_record(configured / "absent", taken(configured))


@pytest.mark.parametrize("name", ["SSH_AUTH_SOCK", "LANG", "LC_ALL", "https_proxy", "NO_PROXY", "TMPDIR"])
def test_what_differs_from_terminal_to_terminal_does_not_count(name: str) -> None:
    """Ours. Else every second build would pay for idf.py."""
    assert environment_hash({"A": "1"}) == environment_hash({"A": "1", name: "x"})


NAMES = st.sampled_from(["PATH", "IDF_PATH", "IDF_CCACHE_ENABLE", "HOME", "X"])


@given(st.dictionaries(NAMES, st.text("ab/="), min_size=1))
def test_any_other_variable_counts(environment: dict[str, str]) -> None:
    """design: the activated environment."""
    for name, value in environment.items():
        less = {key: other for key, other in environment.items() if key != name}
        assert environment_hash(less) != environment_hash(environment)
        assert environment_hash({**environment, name: value + "c"}) != environment_hash(environment)


def test_extension_forbids_to_leave_out_idf_py(configured: Path) -> None:
    """An idf_ext.py may act on every run: the project's, a component's, or one named in the environment."""
    build = configured / "build"
    assert extensions(configured, build, {}) is None
    assert extensions(configured, build, {"IDF_EXTRA_ACTIONS_PATH": "/x"}) == "IDF_EXTRA_ACTIONS_PATH"
    write("managed_components/vendor__thing/idf_ext.py")(configured)
    assert extensions(configured, build, {}) == "managed_components/vendor__thing/idf_ext.py"
    write("idf_ext.py")(configured)
    assert extensions(configured, build, {}) == "idf_ext.py"


def test_file_dated_in_the_future_is_named(configured: Path) -> None:
    """Measured: with one, ninja re-runs CMake a hundred times, under idf.py too."""
    os.utime(configured / "main" / "main.c", (LATER, LATER))  # a source is only compiled again
    assert dated_ahead(taken(configured)) is None
    os.utime(configured / "main" / "CMakeLists.txt", (LATER, LATER))
    assert dated_ahead(taken(configured)) == "main/CMakeLists.txt"
