"""What a project asks for and got, from its own files; what the component manager says where that cannot be had."""

from pathlib import Path

import pytest

from mcp_server.idf.dependencies import MAX_DEPENDENCIES, Asked, changes, read_asked, read_lock
from mcp_server.idf.diagnostics import Hints, diagnose

LOCK = """dependencies:
  example/lamp:
    component_hash: aaaa
    dependencies: []
    source:
      registry_url: http://127.0.0.1:9/
      type: service
    version: 1.0.0
  local:
    source:
      path: ../local
      type: local
  idf:
    source:
      type: idf
    version: 6.0.2
direct_dependencies:
- example/lamp
manifest_hash: dac2b4ee
target: linux
version: 3.0.0
"""

# As idf_component_manager 3.1.2 of ESP-IDF 6.0.2 printed them, with a registry of made-up components.
PRINTED = """NOTE: Dependencies lock doesn't exist, solving dependencies.
HINT: Please check manifest file of the following component(s): main
CMake Error at /opt/esp-idf/tools/cmake/build.cmake:697 (message):
{}
Call Stack (most recent call first):
  /opt/esp-idf/tools/cmake/project.cmake:773 (idf_build_process)
  CMakeLists.txt:8 (project)


-- Configuring incomplete, errors occurred!
"""
MISSING = """  WARNING: Component "example/lamp" not found

  ERROR: Version solving failed:

      - no versions of example/lamp match >=3
      - project depends on example/lamp (>=3)

  Result: Because project depends on example/lamp (>=3) which doesn't match
  any versions, version solving failed.
"""
CONFLICT = """  ERROR: Version solving failed:

      - example/relay (1.0.0) depends on example/lamp (^1.1.0)
      - project depends on example/lamp (^2.0.0)
      - project depends on example/relay (==1.0.0)

  Result: Because project depends on example/relay (==1.0.0), version solving
  failed.
"""
YANKED = """  WARNING: The following versions of the "example/lamp" component have been
  yanked:

  - 1.0.0 (reason: "breaks the relay")

  We recommend that you update to a different version.  Please note that
  continuing to use a yanked version can result in unexpected behavior and
  issues with your project.

  WARNING: The following versions of the "example/lamp" component have been
  yanked:

  - 1.0.0 (reason: "breaks the relay")

  We recommend that you update to a different version.  Please note that
  continuing to use a yanked version can result in unexpected behavior and
  issues with your project.

  ERROR: Cannot download component example/lamp@1.0.0.  Server returned HTTP
  code 404 while downloading file:///reg/x/1.0.0.tgz
"""


def asks(folder: Path, component: str, dependencies: str) -> None:
    (folder / component).mkdir(parents=True, exist_ok=True)
    (folder / component / "idf_component.yml").write_text(f"dependencies:\n{dependencies}")


@pytest.mark.parametrize(
    ("printed", "says", "note"),
    [
        (MISSING, "Version solving failed: no versions of example/lamp match >=3; project depends on", ()),
        (CONFLICT, "Version solving failed: example/relay (1.0.0) depends on example/lamp (^1.1.0); project", ()),
        (YANKED, "Cannot download component", ('yanked: example/lamp 1.0.0 (reason: "breaks the relay")',)),
    ],
)
def test_missing_conflicting_and_yanked_versions_are_a_kind_of_their_own(
    tmp_path: Path, printed: str, says: str, note: tuple[str, ...]
) -> None:
    """Issue: a verdict of their own. The facts, not CMake's wrapping of them, and who asks for what."""
    asks(tmp_path, "main", "  example/lamp: '^2.0.0'\n")
    asks(tmp_path, "components/x", "  example/lamp2: '1'\n")

    found = diagnose(PRINTED.format(printed), 2, project=tmp_path, hints=Hints())

    (error,) = found.errors
    assert (error.kind, error.file, error.notes) == ("dependency", None, note)
    assert error.message.startswith(says)
    assert "WARNING" not in error.message
    assert "main/idf_component.yml asks for example/lamp ^2.0.0" in found.hints


def test_another_error_of_cmake_stays_what_it_is() -> None:
    """Ours."""
    found = diagnose(PRINTED.format("  version of example/lamp is not compatible\n"), 2, hints=Hints())

    assert [error.kind for error in found.errors] == ["cmake"]


def test_the_manifests_of_a_project_are_read(tmp_path: Path) -> None:
    """ESP-IDF: short names are Espressif's; a dependency is a version or a mapping."""
    asks(tmp_path, "main", "  idf: '>=5.0'\n  led_strip:\n    version: ^2.4\n    rules: []\n  own/x:\n    path: ../x\n")
    asks(tmp_path, "components/relay", "  own/y: 1.0\n  own/z:\n")

    main, relay = "main/idf_component.yml", "components/relay/idf_component.yml"
    assert read_asked(tmp_path) == (
        Asked("idf", ">=5.0", main),
        Asked("espressif/led_strip", "^2.4", main),
        Asked("own/x", "*", main),
        Asked("own/y", "1.0", relay),
        Asked("own/z", "*", relay),
    )


def test_a_lock_is_names_and_versions(tmp_path: Path) -> None:
    """ESP-IDF: dependencies.lock 3.0.0, as the component manager wrote it."""
    assert read_lock(tmp_path) == {}
    (tmp_path / "dependencies.lock").write_text(LOCK)

    assert read_lock(tmp_path) == {"example/lamp": "1.0.0", "espressif/local": "", "idf": "6.0.2"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "- a",
        "dependencies: [1, 2]",
        "dependencies:\n  1: x\n  b: 2\n",
        "\t: x",
        "[" * 5000,
        "a: &a [1]\nb: !!python/object/apply:os.system ['false']",
        "x" * 600_000,
        "\x00",
    ],
)
def test_what_is_no_lock_locks_nothing(tmp_path: Path, text: str) -> None:
    """Ours. The files are the project's, whatever they hold."""
    (tmp_path / "dependencies.lock").write_text(text)
    asks(tmp_path, "main", "")
    (tmp_path / "main" / "idf_component.yml").write_text(text.replace("b: 2", ""))

    assert read_lock(tmp_path) == {}
    assert read_asked(tmp_path) == ()


def test_a_huge_lock_is_bounded(tmp_path: Path) -> None:
    """Ours."""
    entries = "".join(f"  a/c{n}: {{version: 1.0.{n}}}\n" for n in range(5000))
    (tmp_path / "dependencies.lock").write_text(f"dependencies:\n{entries}")

    assert len(read_lock(tmp_path)) == MAX_DEPENDENCIES


def test_changes_between_two_locks_are_named() -> None:
    """Issue: what changed, for QA to report."""
    old = {"idf": "6.0.1", "a/kept": "1", "a/gone": "2", "a/newer": "1.0.0", "a/path": ""}
    new = {"idf": "6.0.2", "a/kept": "1", "a/newer": "2.0.0", "a/new": "3", "a/path": "1"}

    assert changes(old, new) == {
        "added": {"a/new": "3"},
        "removed": {"a/gone": "2"},
        "changed": {"idf": "6.0.1 → 6.0.2", "a/newer": "1.0.0 → 2.0.0", "a/path": "? → 1"},
    }
    assert changes(old, old) == {}
    assert changes({}, {"idf": "6.0.2"}) == {}
