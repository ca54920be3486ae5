"""build.ninja: real compile and link steps, named as ESP-IDF's are."""

import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .cmakelists import Component
from .components import include_path
from .place import CHIP, IDF_PATH, find_ninja, version

# ESP-IDF's own warning options, less what clang does not know.
FLAGS = (
    "-fdiagnostics-color=always -ffunction-sections -fdata-sections -Wall -Werror -Wno-error=unused-function "
    "-Wno-error=unused-variable -Wno-error=unused-but-set-variable -Wno-error=deprecated-declarations -Wextra "
    "-Wno-error=extra -Wno-unused-parameter -Wno-sign-compare -Wno-enum-conversion -gdwarf-4 -ggdb -Og "
    "-fmacro-prefix-map={project}=. -fmacro-prefix-map={idf}=/IDF -std=gnu17"
)


FLASHED_BESIDE = {"bootloader/bootloader.bin": "0x0", "partition_table/partition-table.bin": "0x8000"}
"""What lies beside the app in the flash of the virtual chip, with its address."""


@dataclass
class Plan:
    """What a build.ninja is made of."""

    name: str
    project_dir: Path
    build_dir: Path
    compiler: str
    components: list[Component]
    inputs: list[Path]
    ccache: bool
    step_s: str
    target: str = "linux"


def _path(path: Path | str) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _shell(path: Path | str) -> str:
    return shlex.quote(str(path)).replace("$", "$$")


def _compile(plan: Plan, includes: str) -> str:
    """The compile command up to its output, in shell words."""
    ccache = shutil.which("ccache") if plan.ccache else None
    words = ["sleep", plan.step_s, "&&"] if plan.step_s else []
    words += [_shell(tool) for tool in (ccache, plan.compiler) if tool]
    words += ["-DESP_PLATFORM", f'-DIDF_VER=\\"v{version()}\\"', "-D_GNU_SOURCE", includes]
    words += ["-fno-pie"] if plan.target == CHIP else []  # addresses that a panic can name in 32 bits
    words.append(FLAGS.format(project=_shell(plan.project_dir), idf=_shell(IDF_PATH)))
    return " ".join(words)


def _image(plan: Plan) -> str:
    """What the rule IMAGE runs, with its description."""
    if plan.target != CHIP:
        return "cp $in $out\n  description = Generating $out (simulated image: the executable as it is)"
    make = f"{_shell(sys.executable)} {_shell(IDF_PATH / 'tools/simulated_image.py')} $in $out"
    return f"{make}\n  description = Generating $out (simulated: for the virtual chip, this machine's program in it)"


def _rules(plan: Plan) -> str:
    again = f"{_shell(sys.executable)} {_shell(IDF_PATH / 'tools/simulated_cmake.py')} --regenerate-during-build"
    return f"""\
# The simulated ESP-IDF of build-orchestrator's demo wrote this file.
ninja_required_version = 1.5

rule C_COMPILER
  command = {_compile(plan, "$INCLUDES")} -MD -MT $out -MF $DEP_FILE -o $out -c $in
  depfile = $DEP_FILE
  deps = gcc
  description = Building C object $out

rule C_STATIC_LIBRARY_LINKER
  command = rm -f $out && ar qc $out $in && ranlib $out
  description = Linking C static library $out

rule C_EXECUTABLE_LINKER
  command = : && {_shell(plan.compiler)}{" -no-pie" if plan.target == CHIP else ""} -o $out $LIBRARIES -lpthread && :
  description = Linking C executable $out

rule IMAGE
  command = {_image(plan)}

rule RERUN_CMAKE
  command = {again} -S{_shell(plan.project_dir)} -B{_shell(plan.build_dir)}
  description = Re-running CMake...
  generator = 1
  pool = console

rule CLEAN
  command = {_shell(find_ninja())} -t clean
  description = Cleaning all built files...

"""


def objects(component: Component) -> list[str]:
    """Where the component's object files go, in the order of its sources."""
    folder = f"esp-idf/{component.name}/CMakeFiles/__idf_{component.name}.dir"
    return [f"{folder}/{source.removeprefix('./')}.o" for source in component.items("SRCS")]


def library(component: Component) -> str:
    return f"esp-idf/{component.name}/lib{component.name}.a"


def _includes(plan: Plan, component: Component) -> str:
    known = {other.name: other for other in plan.components}
    folders = [plan.build_dir / "config", *include_path(component, known)]
    return " ".join(f"-I{_shell(folder)}" for folder in folders)


def _component(plan: Plan, component: Component) -> str:
    text = ""
    includes = _includes(plan, component)
    made = objects(component)
    for source, target in zip(component.sources, made, strict=True):
        text += f"build {_path(target)}: C_COMPILER {_path(source)}\n"
        text += f"  INCLUDES = {includes}\n  DEP_FILE = {_shell(target + '.d')}\n"
    inputs = " ".join(_path(target) for target in made)
    return text + f"build {_path(library(component))}: C_STATIC_LIBRARY_LINKER {inputs}\n\n"


def write(plan: Plan) -> None:
    """build.ninja and compile_commands.json, build.ninja last: its time is what ninja compares."""
    with_sources = [component for component in plan.components if component.items("SRCS")]
    libraries = [library(component) for component in with_sources]
    elf, image = f"{plan.name}.elf", f"{plan.name}.bin"
    text = _rules(plan) + "".join(_component(plan, component) for component in with_sources)
    # Twice, because libraries need each other in a circle and --start-group is not for every linker.
    text += f"build {_path(elf)}: C_EXECUTABLE_LINKER | {' '.join(_path(item) for item in libraries)}\n"
    text += f"  LIBRARIES = {' '.join(_shell(item) for item in libraries * 2)}\n"
    images = " ".join(_path(path) for path in (image, *(FLASHED_BESIDE if plan.target == CHIP else ())))
    text += f"build {images}: IMAGE {_path(elf)}\n"
    text += f"build all: phony {_path(elf)} {images}\nbuild clean: CLEAN\ndefault all\n\n"
    _write_compile_commands(plan, with_sources)
    (plan.build_dir / "build.ninja").write_text(text + _configure_again(plan), encoding="utf-8")


def write_empty(plan: Plan) -> None:
    """A build.ninja that builds nothing, as CMake leaves for a project without project()."""
    text = _rules(plan) + "build all: phony\nbuild clean: CLEAN\ndefault all\n\n" + _configure_again(plan)
    (plan.build_dir / "build.ninja").write_text(text, encoding="utf-8")


def _configure_again(plan: Plan) -> str:
    inputs = " ".join(_path(item) for item in plan.inputs)
    # The phony line lets ninja configure again where one of them was deleted.
    return f"build build.ninja: RERUN_CMAKE | {inputs}\nbuild {inputs}: phony\n"


def _write_compile_commands(plan: Plan, components: list[Component]) -> None:
    entries = [
        {
            "directory": str(plan.build_dir),
            "command": f"{_compile(plan, _includes(plan, component))} -o {target} -c {_shell(source)}",
            "file": str(source),
            "output": target,
        }
        for component in components
        for source, target in zip(component.sources, objects(component), strict=True)
    ]
    (plan.build_dir / "compile_commands.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
