"""Which components a build takes, and which headers each of them sees: the rules of ESP-IDF's REQUIRES."""

import textwrap
from pathlib import Path

from .cmakelists import CMakeError, Component, Project, read_component
from .place import IDF_PATH

COMMON = ("freertos", "log", "esp_common", "esp_system")
"""Every component requires these, as ESP-IDF has it."""


def find_components(project_dir: Path) -> dict[str, Component]:
    """The installation's components, the project's own over them, and main."""
    folders = sorted((IDF_PATH / "components").iterdir()) + sorted((project_dir / "components").glob("*"))
    folders.append(project_dir / "main")
    return {folder.name: read_component(folder) for folder in folders if (folder / "CMakeLists.txt").is_file()}


def choose(project: Project, known: dict[str, Component]) -> list[Component]:
    """The components of this build in alphabetical order, as ESP-IDF lists them."""
    if "main" not in known:
        raise _unresolved("Failed to resolve component 'main': unknown name.", project)
    taken: set[str] = set()
    todo = [(name, "") for name in (*COMMON, "main", *(() if project.minimal else known))]
    while todo:
        name, wanted_by = todo.pop()
        if name in taken:
            continue
        if name not in known:
            problem = f"Failed to resolve component '{name}' required by component '{wanted_by}': unknown name."
            raise _unresolved(problem, project)
        taken.add(name)
        todo += [(needed, name) for key in ("REQUIRES", "PRIV_REQUIRES") for needed in known[name].items(key)]
    return [known[name] for name in sorted(taken)]


def _unresolved(problem: str, project: Project) -> CMakeError:
    # CMake breaks its messages at this width.
    text = textwrap.fill(problem, width=77, initial_indent="  ", subsequent_indent="  ")
    return CMakeError(
        f"{IDF_PATH}/tools/cmake/project.cmake:1 (message):\n{text}\n"
        f"Call Stack (most recent call first):\n  CMakeLists.txt:{project.line} (project)\n\n\n"
    )


def check_files(components: list[Component], project_dir: Path) -> None:
    """Raise what CMake prints for sources and include folders that are not there."""
    text = ""
    for component in components:
        where = _relative(component.folder, project_dir)
        stack = f"Call Stack (most recent call first):\n  {where}/CMakeLists.txt:{component.line} "
        stack += "(idf_component_register)\n\n\n"
        at = f"CMake Error at {IDF_PATH}/tools/cmake/project.cmake:1"
        missing = [source for source in component.sources if not source.is_file()]
        if missing:
            text += f"{at} (add_library):\n  Cannot find source file:\n\n    {missing[0]}\n{stack}"
            text += f"{at} (add_library):\n  No SOURCES given to target: __idf_{component.name}\n{stack}"
        for folder in (*component.include_dirs, *component.private_include_dirs):
            if not folder.is_dir():
                text += f"{at} (message):\n  Include directory '{folder}' is not a directory.\n{stack}"
    if text:
        raise CMakeError(text.removeprefix("CMake Error at "))


def _relative(folder: Path, project_dir: Path) -> Path:
    return folder.relative_to(project_dir) if folder.is_relative_to(project_dir) else folder


def include_path(component: Component, known: dict[str, Component]) -> list[Path]:
    """Its own folders, then those of what it requires, and of what these require publicly."""
    found = [*component.include_dirs, *component.private_include_dirs]
    requires = [*component.items("REQUIRES"), *component.items("PRIV_REQUIRES")]
    if component.name == "main" and not requires:
        requires = list(known)  # main that names nothing sees everything that is built
    todo = [*COMMON, *requires]
    seen = {component.name}
    while todo:
        name = todo.pop(0)
        if name not in seen:
            seen.add(name)
            found += known[name].include_dirs
            todo += known[name].items("REQUIRES")
    return list(dict.fromkeys(found))
