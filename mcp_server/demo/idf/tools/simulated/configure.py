"""CMake's part: from the project's CMakeLists.txt to build.ninja, printing what CMake and ESP-IDF would."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache, kconfig, ninja_file, records
from .cmakelists import CMakeError, Component, read_project
from .components import check_files, choose, find_components
from .place import CHIP, GET_ESP_IDF, IDF_PATH, complain, find_compiler, say

GENERATED = """\
/* Source file {number} of those that IDF_DEMO_FILES asked for. */
int demo_generated_{number:04d}(int value);

int demo_generated_{number:04d}(int value)
{{
    return value + {number};
}}
"""


@dataclass
class Request:
    """What the command line of cmake says."""

    project_dir: Path
    build_dir: Path
    entries: dict[str, str]


def configure(request: Request) -> int:
    """cmake's exit code."""
    request.build_dir.mkdir(parents=True, exist_ok=True)
    cache.write(request.build_dir, request.entries)
    try:
        return _configure(request)
    except CMakeError as error:
        if "Cannot find source file" in str(error):
            say("-- Configuring done")
        complain(f"CMake Error at {error}".removesuffix("\n"))
        if "Cannot find source file" in str(error):
            complain("CMake Generate step failed.  Build files cannot be regenerated correctly.")
        else:
            say("-- Configuring incomplete, errors occurred!")
        return 1


def _configure(request: Request) -> int:
    compiler = find_compiler()
    if compiler is None:
        raise CMakeError(
            "CMakeLists.txt:5 (project):\n  No CMAKE_C_COMPILER could be found.\n\n"
            "  Tell CMake where to find the compiler by setting either the environment\n"
            '  variable "CC" or the CMake cache entry CMAKE_C_COMPILER to the full path\n'
            "  to the compiler, or to the compiler name if it is in the PATH.\n\n\n"
        )
    project = read_project(request.project_dir)
    if project is None:
        complain("CMake Warning (dev) in CMakeLists.txt:\n  No project() command is present.\n")
        say("-- Configuring done")
        ninja_file.write_empty(_plan(request, "none", compiler, []))
        return 0
    if project.minimal:
        say("-- Minimal build - ON")
    say(f"-- The C compiler identification is {_identity(compiler)}")
    say(f"-- Check for working C compiler: {compiler} - skipped")
    say(f"-- Building the simulated ESP-IDF's components for target {request.entries['IDF_TARGET']}")
    known = find_components(request.project_dir)
    components = choose(project, known) + _generated(request)
    say(f"-- Project sdkconfig file {request.project_dir / 'sdkconfig'}")
    kconfig.write(request.project_dir, request.build_dir, request.entries["IDF_TARGET"])
    complain("NOTE: Status: Finished successfully")
    say("-- Components: " + " ".join(component.name for component in components))
    say("-- Component paths: " + " ".join(str(component.folder) for component in components))
    check_files(components, request.project_dir)
    say("-- Configuring done")
    plan = _plan(request, project.name, compiler, components)
    if plan.ccache and not shutil.which("ccache"):
        complain(f"CMake Warning at {IDF_PATH}/tools/cmake/project.cmake:1 (message):")
        complain("  enabled ccache in build but ccache program not found\n\n")
    records.write(plan)
    ninja_file.write(plan)
    say("-- Generating done")
    say(f"-- Build files have been written to: {request.build_dir}")
    return 0


def _plan(request: Request, name: str, compiler: str, components: list[Component]) -> ninja_file.Plan:
    return ninja_file.Plan(
        name=name,
        project_dir=request.project_dir,
        build_dir=request.build_dir,
        compiler=compiler,
        components=components,
        inputs=_inputs(request, components),
        ccache=request.entries.get("CCACHE_ENABLE") == "True",
        step_s=request.entries.get("IDF_DEMO_STEP_S", ""),
        target=request.entries.get("IDF_TARGET", "linux"),
    )


def _identity(compiler: str) -> str:
    """`GNU 12.2.0`, as CMake names it."""
    first = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[
        0
    ]
    number = re.findall(r"\d+\.\d+(?:\.\d+)?", first)
    return ("Clang " if "clang" in first else "GNU ") + (number[-1] if number else "of an unknown version")


def _inputs(request: Request, components: list[Component]) -> list[Path]:
    """What makes ninja configure again."""
    inputs = [request.project_dir / "CMakeLists.txt", request.project_dir / "sdkconfig"]
    inputs += [path for path in [request.project_dir / "sdkconfig.defaults"] if path.is_file()]
    inputs += [component.folder / "CMakeLists.txt" for component in components if component.name != "generated"]
    return [*inputs, IDF_PATH / "tools/cmake/version.cmake"]


def _generated(request: Request) -> list[Component]:
    count = int(request.entries.get("IDF_DEMO_FILES") or 0)
    if count <= 0:
        return []
    folder = request.build_dir / "generated"
    folder.mkdir(exist_ok=True)
    names = [f"part_{number:04d}.c" for number in range(count)]
    for number, name in enumerate(names):
        if not (folder / name).is_file():
            (folder / name).write_text(GENERATED.format(number=number), encoding="utf-8")
    return [Component("generated", folder, lists={"SRCS": names})]


def refuse_target(target: str) -> str:
    """The sentence for every target that is not in TARGETS."""
    return (
        f"Target {target} needs ESP-IDF itself: this one is simulated and builds for target linux, or {CHIP} as the "
        f"virtual chip runs it, only. How to get ESP-IDF: {GET_ESP_IDF}"
    )
