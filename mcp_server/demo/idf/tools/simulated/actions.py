"""idf.py's actions: set-target, fullclean, clean, reconfigure, all."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import cache, kconfig, knobs
from .configure import refuse_target
from .place import GET_ESP_IDF, IDF_PATH, MARKER, TARGETS, FatalError, find_ninja, say
from .running import Tool, run

NAMES = {"all": "all (aliases: build)"}
ORDER = ("fullclean", "set-target", "reconfigure", "clean", "all")


@dataclass
class Options:
    """The command line, read."""

    project_dir: Path
    build_dir: Path
    preview: bool = False
    ccache: bool = False
    with_hints: bool = True
    verbose: bool = False
    entries: dict[str, str] = field(default_factory=dict[str, str])
    new_target: str | None = None


def check_project(options: Options) -> None:
    """Refuse every folder but the demo's own project."""
    folder = options.project_dir
    if not folder.is_dir():
        if folder.exists():
            raise FatalError(f"{folder} must be a project directory")
        raise FatalError(f"Project directory {folder} does not exist")
    if not (folder / MARKER).is_file():
        raise FatalError(
            f"{folder} is not the project of build-orchestrator's demo (no {MARKER} in it), and this simulated ESP-IDF "
            f"builds nothing else. How to get ESP-IDF: {GET_ESP_IDF}"
        )
    if not (folder / "CMakeLists.txt").is_file():
        raise FatalError(f"CMakeLists.txt not found in project directory {folder}")
    if options.build_dir == folder:
        raise FatalError(
            "Setting the build directory to the project directory is not supported. Suggest dropping "
            "--build-dir option, the default is a 'build' subdirectory inside the project directory."
        )


def _check_target(options: Options, old: dict[str, str]) -> str:
    """The target of this build; FatalError where its sources disagree, or where it is not one of TARGETS."""
    sdkconfig = options.project_dir / "sdkconfig"
    from_sdkconfig = None if options.new_target else kconfig.target(sdkconfig)
    from_env, from_cache = os.environ.get("IDF_TARGET"), old.get("IDF_TARGET")
    if from_env and from_sdkconfig not in (None, from_env):
        raise FatalError(
            f"Project sdkconfig '{sdkconfig}' was generated for target '{from_sdkconfig}', but environment variable "
            f"IDF_TARGET is set to '{from_env}'. Run 'idf.py set-target {from_env}' to generate new sdkconfig file "
            f"for target {from_env}."
        )
    if from_cache and from_sdkconfig not in (None, from_cache):
        raise FatalError(
            f"Project sdkconfig '{sdkconfig}' was generated for target '{from_sdkconfig}', but CMakeCache.txt contains "
            f"'{from_cache}'. To keep the setting in sdkconfig ({from_sdkconfig}) and re-generate CMakeCache.txt, run "
            f"'idf.py fullclean'. To re-generate sdkconfig for '{from_cache}' target, run 'idf.py set-target "
            f"{from_cache}'."
        )
    from_defaults = kconfig.target(options.project_dir / "sdkconfig.defaults")
    asked = options.new_target or options.entries.get("IDF_TARGET")
    target = asked or from_env or from_cache or from_sdkconfig or from_defaults or "esp32"
    if target not in TARGETS:
        raise FatalError(refuse_target(target))
    return target


def _check_build_dir(options: Options) -> None:
    entries = cache.read(options.build_dir)
    home, python = entries.get("CMAKE_HOME_DIRECTORY"), entries.get("PYTHON")
    if home and os.path.realpath(home) != str(options.project_dir):
        raise FatalError(
            f"Build directory '{options.build_dir}' configured for project '{os.path.realpath(home)}' not "
            f"'{options.project_dir}'. Run 'idf.py fullclean' to start again."
        )
    if python and python != sys.executable:
        raise FatalError(
            f"'{sys.executable}' is currently active in the environment while the project was configured with "
            f"'{python}'. Run 'idf.py fullclean' to start again."
        )


def ensure_configured(options: Options, *, always: bool = False) -> None:
    """Run the simulated CMake where the build directory is new, was configured otherwise, or `always`."""
    ninja = find_ninja()
    options.build_dir.mkdir(parents=True, exist_ok=True)
    old = cache.read(options.build_dir)
    target = _check_target(options, old)
    knob_entries = {name: os.environ.get(name, "") for name in ("IDF_DEMO_STEP_S", "IDF_DEMO_FILES")}
    asked = options.entries | {"CCACHE_ENABLE": str(options.ccache)}
    wanted = asked | {name: value for name, value in knob_entries.items() if value or name in old}
    if always or not old or any(old.get(name) != value for name, value in wanted.items()):
        fixed = {"PYTHON_DEPS_CHECKED": "1", "PYTHON": sys.executable, "ESP_PLATFORM": "1"}
        entries = [f"-D{name}={value}" for name, value in (fixed | wanted).items()]
        shown = ["cmake -G Ninja -B", str(options.build_dir), *entries, str(options.project_dir)]
        places = ["-S", str(options.project_dir), "-B", str(options.build_dir), f"-DIDF_TARGET={target}"]
        argv = [sys.executable, str(IDF_PATH / "tools/simulated_cmake.py"), *places, *entries]
        argv += [f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        try:
            run(Tool("cmake", argv, options.build_dir, " ".join(shown), options.with_hints))
        except FatalError:
            # As in ESP-IDF: a directory that was half configured counts as not configured.
            (options.build_dir / "CMakeCache.txt").unlink(missing_ok=True)
            raise
    _check_build_dir(options)


def _warn_without_description(options: Options) -> None:
    path = options.build_dir / "project_description.json"
    if not path.is_file():
        raise FatalError(f"Cannot load {path}: [Errno 2] No such file or directory: '{path}'")


def run_ninja(options: Options, target: str) -> None:
    """`ninja TARGET` in the build directory."""
    ninja = find_ninja()
    argv = [ninja, *(["-v"] if options.verbose else []), target]
    run(Tool("ninja", argv, options.build_dir, " ".join(["ninja", *argv[1:]]), options.with_hints))


def fullclean(options: Options) -> None:
    """Empty the build directory, if it is one."""
    folder = options.build_dir
    if not folder.is_dir():
        say(f"Build directory '{folder}' not found. Nothing to clean.")
    elif not any(folder.iterdir()):
        say(f"Build directory '{folder}' is empty. Nothing to clean.")
    elif not (folder / "CMakeCache.txt").is_file():
        raise FatalError(
            f"Directory '{folder}' doesn't seem to be a CMake build directory. Refusing to automatically delete files "
            "in this directory. Delete the directory manually to 'clean' it."
        )
    else:
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()


def set_target(options: Options) -> None:
    """Set the old sdkconfig aside and configure anew."""
    if options.new_target == "linux" and not options.preview:
        raise FatalError(
            f"{options.new_target} is still in preview. You have to append '--preview' option after idf.py to use any "
            "preview feature."
        )
    say(f"Set Target to: {options.new_target}, new sdkconfig will be created.")
    sdkconfig = options.project_dir / "sdkconfig"
    if sdkconfig.is_file():
        sdkconfig.replace(options.project_dir / "sdkconfig.old")
    ensure_configured(options, always=True)


def perform(name: str, options: Options) -> None:
    """One action, announced as idf.py does."""
    say(f"Executing action: {NAMES.get(name, name)}")
    check_project(options)
    if name == "fullclean":
        fullclean(options)
    elif name == "set-target":
        set_target(options)
    elif name == "reconfigure":
        ensure_configured(options, always=True)
        _warn_without_description(options)
    elif name == "clean":
        if not options.build_dir.is_dir():
            say(f"Build directory '{options.build_dir}' not found. Nothing to clean.")
            return
        ensure_configured(options)
        run_ninja(options, "clean")
    else:
        knobs.before_build()
        ensure_configured(options)
        _warn_without_description(options)
        _check_known(name, options)
        run_ninja(options, name)


def _check_known(name: str, options: Options) -> None:
    if name == "all":
        return
    probe = subprocess.run([find_ninja(), "-n", name], cwd=options.build_dir, stdout=subprocess.DEVNULL, check=False)
    if probe.returncode != 0:
        raise FatalError(f'command "{name}" is not known to idf.py and is not a Ninja target')
