"""The simulated idf.py as its callers see it: exit codes, streams, messages and files are ESP-IDF 6.0.2's."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.demo import place
from tests.integration.demo.conftest import Built
from tests.integration.demo.double import IdfPy, make_small, steps

BANNER = "Simulated ESP-IDF of build-orchestrator's demo"


def test_a_build_says_what_idf_py_says(built: Built) -> None:
    """ESP-IDF 6.0.2: these lines, in this order, on these streams."""
    small, run = built

    lines = run.stdout.splitlines()
    cmake = f'Executing "cmake -G Ninja -B {small.build} -DPYTHON_DEPS_CHECKED=1 -DPYTHON={sys.executable} '
    assert run.returncode == 0
    assert lines[0] == "Executing action: all (aliases: build)"
    assert lines[1] == f"Running cmake in directory {small.build}"
    assert lines[2] == f'{cmake}-DESP_PLATFORM=1 -DCCACHE_ENABLE=False {small.project}"...'
    assert f"-- Build files have been written to: {small.build}" in lines
    assert 'Executing "ninja all"...' in lines
    assert "Building C object esp-idf/main/CMakeFiles/__idf_main.dir/app_main.c.o" in run.stdout
    assert lines[-1] == "Done"
    assert run.stderr.startswith(BANNER)
    assert BANNER not in run.stdout


def test_a_build_leaves_the_files_that_other_tools_read(built: Built) -> None:
    """ESP-IDF 6.0.2's names and schema; image and flasher_args.json are the demo's, for its virtual chip."""
    small, _ = built

    description = json.loads((small.build / "project_description.json").read_text())
    flasher = json.loads((small.build / "flasher_args.json").read_text())
    sdkconfig = json.loads((small.build / "config/sdkconfig.json").read_text())
    commands = json.loads((small.build / "compile_commands.json").read_text())
    cache = (small.build / "CMakeCache.txt").read_text()
    assert (description["target"], description["app_elf"]) == ("linux", "small.elf")
    assert description["build_component_info"]["main"]["sources"] == [str(small.project / "main/app_main.c")]
    assert description["simulated"] is True
    assert list(flasher["flash_files"].values()) == ["small.bin"]
    assert (small.build / "flash_args").read_text().splitlines()[1] == "0x10000 small.bin"
    assert sdkconfig["IDF_TARGET"] == "linux"
    assert str(small.project / "main/app_main.c") in [entry["file"] for entry in commands]
    assert f"CMAKE_HOME_DIRECTORY:INTERNAL={small.project}\n" in cache
    assert re.search(r"^CMAKE_GENERATOR:\w+=Ninja$", cache, re.MULTILINE)
    assert re.search(r"^IDF_TARGET:\w+=linux$", cache, re.MULTILINE)
    assert (small.build / ".ninja_log").read_text().startswith("# ninja log v")
    assert 'CONFIG_IDF_TARGET="linux"' in (small.project / "sdkconfig").read_text()
    assert os.access(small.build / "small.elf", os.X_OK)
    assert (small.build / "small.bin").stat().st_size > 0


def test_what_ninja_said_is_kept_in_the_log_folder(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: build/log, a pair of files for each run, named in the last words."""
    (small.project / "main/app_main.c").write_text("void app_main(void) { nonsense }\n")

    run = small("build")

    match = re.fullmatch(
        r"ninja failed with exit code 1, output of the command is in the "
        r"(\S+/idf_py_stderr_output_\d+) and (\S+/idf_py_stdout_output_\d+)",
        run.stderr.splitlines()[-1],
    )
    assert run.returncode == 2
    assert match is not None
    assert "error: " in Path(match[2]).read_text()
    assert Path(match[1]).read_text() == ""


def test_a_second_build_does_nothing(built: Built) -> None:
    """ESP-IDF 6.0.2: CMake is not run again, ninja has no work."""
    small, _ = built

    run = small("build")

    assert "Running cmake" not in run.stdout
    assert "ninja: no work to do." in run.stdout


def test_ninja_alone_rebuilds_what_changed(small: IdfPy) -> None:
    """Depfiles: a header's users are compiled again, and a changed CMakeLists.txt configures again."""
    small("build")

    assert "no work to do" in small.ninja("all").stdout
    header = small.project / "main/small.h"
    header.write_text(header.read_text().replace("hello", "good day"))
    assert steps(small.ninja("all").stdout)[0] == "app_main.c.o"

    (small.project / "main/more.c").write_text("int more(void);\nint more(void) { return 1; }\n")
    (small.project / "main/CMakeLists.txt").write_text('idf_component_register(SRCS "app_main.c" "more.c")\n')
    run = small.ninja("all")
    assert "Re-running CMake..." in run.stdout
    assert "more.c.o" in steps(run.stdout)


@pytest.mark.parametrize("by_ninja", [False, True])
def test_a_missing_source_is_reported_as_cmake_does(small: IdfPy, by_ninja: bool) -> None:
    """CMake: at the first configure, and where ninja configures again."""
    if by_ninja:
        small("build")
    (small.project / "main/CMakeLists.txt").write_text('idf_component_register(SRCS "app_mian.c")\n')

    run = small("build")

    assert run.returncode == 2
    assert f"Cannot find source file:\n\n    {small.project}/main/app_mian.c\n" in run.stderr
    assert "  main/CMakeLists.txt:1 (idf_component_register)\n" in run.stderr
    assert "CMake Generate step failed.  Build files cannot be regenerated correctly." in run.stderr
    assert run.stderr.splitlines()[-1].startswith(f"{'ninja' if by_ninja else 'cmake'} failed with exit code 1")
    assert ("FAILED: build.ninja" in run.stdout) is by_ninja
    assert (small.build / "CMakeCache.txt").exists() is by_ninja


def test_a_missing_component_is_reported_with_a_hint(small: IdfPy) -> None:
    """ESP-IDF 6.0.2."""
    (small.project / "main/CMakeLists.txt").write_text('idf_component_register(SRCS "app_main.c" REQUIRES valvo)\n')

    run = small("build")

    assert "Failed to resolve component 'valvo' required by component 'main': unknown" in run.stderr
    assert "HINT: The component 'valvo'" in run.stderr
    assert run.stderr.splitlines()[-1].startswith("cmake failed with exit code 1")


def test_a_header_needs_its_component_in_requires(small: IdfPy) -> None:
    """ESP-IDF: with a hint, as there."""
    (small.project / "main/app_main.c").write_text('#include "driver/gpio.h"\n')
    (small.project / "main/CMakeLists.txt").write_text('idf_component_register(SRCS "app_main.c" REQUIRES log)\n')

    run = small("build")

    assert "fatal error: driver/gpio.h: No such file or directory" in run.stdout
    assert "HINT: 'driver/gpio.h' was not found" in run.stderr


def test_only_the_demos_project_is_built(small: IdfPy) -> None:
    """Ours: one sentence, how to get ESP-IDF, and nothing written."""
    (small.project / place.MARKER).unlink()

    run = small("build")

    assert run.returncode == 2
    assert "is not the project of build-orchestrator's demo" in run.stderr.splitlines()[-1]
    assert "How to get ESP-IDF: https://" in run.stderr.splitlines()[-1]
    assert not small.build.exists()


@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        (["set-target", "esp32s3"], {}, "Target esp32s3 needs ESP-IDF itself"),
        (["set-target", "linux"], {}, "linux is still in preview. You have to append '--preview' option"),
        (["set-target", "esp99"], {}, "'esp99' is not one of 'esp32', 'esp32s2'"),
        (["-DIDF_TARGET=esp32", "build"], {}, "Target esp32 needs ESP-IDF itself"),
        (["build"], {"IDF_TARGET": "esp32"}, "Target esp32 needs ESP-IDF itself"),
        (["nosuch"], {}, 'command "nosuch" is not known to idf.py and is not a Ninja target'),
        (["--nosuch", "build"], {}, "Error: "),
        (["-B", "{project}", "build"], {}, "Setting the build directory to the project directory is not supported."),
        (["-C", "/nonexistent", "build"], {}, "Project directory /nonexistent does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_with_exit_code_2(
    small: IdfPy, words: list[str], env: dict[str, str], sentence: str
) -> None:
    """ESP-IDF 6.0.2's sentences, but for targets: those need ESP-IDF itself."""
    run = small(*(word.format(project=small.project) for word in words), **env)

    assert run.returncode == 2
    assert sentence in run.stderr


def test_a_project_without_a_target_is_one_for_esp32(small: IdfPy) -> None:
    """ESP-IDF's default."""
    (small.project / "sdkconfig.defaults").unlink()

    assert "Target esp32 needs ESP-IDF itself" in small("build").stderr


def test_set_target_cleans_and_configures_anew(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: fullclean comes first, the old sdkconfig is set aside, and build goes on in the same call."""
    small("build")

    run = small("--preview", "set-target", "linux", "build")

    actions = [line for line in run.stdout.splitlines() if line.startswith("Executing action")]
    assert run.returncode == 0
    assert actions == [f"Executing action: {name}" for name in ("fullclean", "set-target", "all (aliases: build)")]
    assert "Set Target to: linux, new sdkconfig will be created." in run.stdout
    assert (small.project / "sdkconfig.old").exists()
    assert "app_main.c.o" in steps(run.stdout)


def test_clean_and_fullclean_empty_what_they_should(small: IdfPy) -> None:
    """ESP-IDF 6.0.2."""
    small("build")

    assert small("clean").returncode == 0
    assert (small.build / "build.ninja").exists()
    assert not (small.build / "small.elf").exists()
    assert small("fullclean").returncode == 0
    assert list(small.build.iterdir()) == []
    (small.build / "mine").write_text("")
    assert "doesn't seem to be a CMake build directory" in small("fullclean").stderr
    assert (small.build / "mine").exists()


def test_an_sdkconfig_of_another_target_is_refused(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: in the environment, and in the build directory."""
    small("reconfigure")

    run = small("build", IDF_TARGET="esp32c3")
    assert "was generated for target 'linux', but environment variable IDF_TARGET is set to 'esp32c3'" in run.stderr

    sdkconfig = small.project / "sdkconfig"
    sdkconfig.write_text(sdkconfig.read_text().replace('"linux"', '"esp32"'))
    assert "but CMakeCache.txt contains 'linux'" in small("build").stderr


def test_a_build_directory_of_another_project_is_refused(small: IdfPy, tmp_path: Path) -> None:
    """ESP-IDF 6.0.2: what a copied tree runs into."""
    small("reconfigure")
    shutil.copytree(small.project, tmp_path / "copy")

    run = IdfPy(tmp_path / "copy")("build")

    assert run.returncode == 2
    assert f"configured for project '{small.project}' not '{tmp_path}/copy'. Run 'idf.py fullclean'" in run.stderr


def test_a_build_of_another_python_is_refused(small: IdfPy) -> None:
    """ESP-IDF 6.0.2."""
    small("reconfigure")
    cache = small.build / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace(f"={sys.executable}\n", "=/other/python\n"))

    assert "while the project was configured with '/other/python'" in small("build").stderr


def test_a_changed_option_configures_again(small: IdfPy, tmp_path: Path) -> None:
    """ESP-IDF 6.0.2: -D and -B."""
    small("build")

    assert "Running cmake" in small("-DMORE=1", "build").stdout
    assert "Running cmake" not in small("-D", "MORE=1", "build").stdout
    assert small("-B", str(tmp_path / "elsewhere"), "build").returncode == 0
    assert (tmp_path / "elsewhere/small.elf").exists()


def test_sdkconfig_is_read_and_kept(small: IdfPy) -> None:
    """ESP-IDF: a value that a person changed reaches the compiler."""
    small("build")
    sdkconfig = small.project / "sdkconfig"
    sdkconfig.write_text(sdkconfig.read_text().replace("FREERTOS_HZ=100", "FREERTOS_HZ=50"))

    run = small("build")

    assert "Re-running CMake..." in run.stdout
    assert "tasks.c.o" in steps(run.stdout)
    assert "CONFIG_FREERTOS_HZ=50" in sdkconfig.read_text()
    assert "#define CONFIG_FREERTOS_HZ 50" in (small.build / "config/sdkconfig.h").read_text()


def test_a_folder_without_a_project_fails_as_there(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: the last line is all it says."""
    (small.project / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.22)\n")

    run = small("build")

    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith(f"Cannot load {small.build}/project_description.json: [Errno 2]")


def test_blanks_in_paths_are_no_trouble(tmp_path: Path) -> None:
    """Ours: the project's folder and the installation's."""
    installation = tmp_path / "an installation"
    shutil.copytree(place.simulated_installation(), installation)
    idf_py = make_small(tmp_path / "a $mall project")
    idf_py.installation = installation

    assert idf_py("build").returncode == 0
    assert (idf_py.build / "small.elf").exists()


def test_a_missing_compiler_is_reported_as_cmake_does(small: IdfPy, tmp_path: Path) -> None:
    """CMake."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ninja").symlink_to(str(shutil.which("ninja")))

    run = small("build", PATH=str(tools))

    assert run.returncode == 2
    assert "No CMAKE_C_COMPILER could be found." in run.stderr


def test_a_missing_ninja_is_one_sentence(small: IdfPy, tmp_path: Path) -> None:
    """ESP-IDF 6.0.2's sentence, with what brings it."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.symlink_to(Path(sys.executable).resolve())
    argv = [str(python), "-S", *small.argv("build")[1:]]

    run = subprocess.run(argv, env=small.environment(PATH=str(tmp_path)), capture_output=True, text=True, check=False)

    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("To use idf.py, the 'ninja' build tool must be available in the PATH")


def test_a_missing_python_environment_is_exit_code_1(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: a fault of the installation, not of the build."""
    run = small("build", IDF_PYTHON_ENV_PATH="/nonexistent")

    assert run.returncode == 1
    assert "ERROR: /nonexistent/bin/python doesn't exist! Please run the install script" in run.stderr


def test_version_and_targets_are_alone_on_stdout(small: IdfPy) -> None:
    """ESP-IDF 6.0.2."""
    assert small("--version").stdout == "ESP-IDF v6.0.2\n"
    assert small("--list-targets").stdout.splitlines()[0] == "esp32"
    assert "linux" in small("--preview", "--list-targets").stdout.splitlines()


def test_export_prints_what_an_activated_environment_has(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: a variable that is right already is left out, PATH ends with the old one."""
    argv = [sys.executable, str(small.installation / "tools/idf_tools.py"), "export", "--format", "key-value"]
    active = small.environment(IDF_PYTHON_ENV_PATH=sys.prefix)

    run = subprocess.run(argv, env=active, capture_output=True, text=True, check=True)

    variables = dict(line.split("=", 1) for line in run.stdout.splitlines())
    assert set(variables) == {"ESP_IDF_VERSION", "PATH", "IDF_DEACTIVATE_FILE_PATH"}
    assert variables["ESP_IDF_VERSION"] == "6.0"
    assert variables["PATH"].split(":")[-2:] == [str(small.installation / "tools"), "$PATH"]
    assert str(Path(sys.executable).parent) in variables["PATH"].split(":")
    assert BANNER in run.stderr
