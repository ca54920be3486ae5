"""The demo's firmware, broken and mended, with a real compiler.

By the simulated ESP-IDF, and by the one that IDF_PATH and IDF_PYTHON_ENV_PATH name where they do: both must agree.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.agents import patch
from mcp_server.demo import place
from tests.integration.demo.double import IdfPy, steps

# Read before a test starts: tests themselves see nothing of the user's environment.
REAL = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith(("IDF_", "ESP_"))}
INSTALLATIONS = ["simulated", *(["real"] if {"IDF_PATH", "IDF_PYTHON_ENV_PATH"} <= set(REAL) else [])]


@pytest.fixture(params=INSTALLATIONS)
def idf_py(request: pytest.FixtureRequest, tmp_path: Path) -> IdfPy:
    project = place.lay_out(tmp_path / "greenhouse")
    if request.param == "simulated":
        return IdfPy(project)
    python = REAL["IDF_PYTHON_ENV_PATH"] + "/bin/python"
    return IdfPy(project, Path(REAL["IDF_PATH"]), python, REAL | {"LC_ALL": "C.UTF-8"})


@pytest.mark.timeout(180)  # ESP-IDF itself compiles 66 files twice
def test_the_firmware_fails_is_mended_and_passes_its_self_test(idf_py: IdfPy) -> None:
    """The demo's whole promise; form, streams and exit codes as ESP-IDF 6.0.2 has them."""
    broken = idf_py("build")

    assert broken.returncode == 2
    # gcc: implicit declaration of function …; clang: call to undeclared function …
    assert re.search(r"main/thermostat\.c:8:9: error: .*valve_opne.*valve_open", broken.stdout, re.DOTALL)
    assert "ninja: build stopped: subcommand failed.\n" in broken.stdout
    assert "valve_opne()" not in broken.stderr
    assert broken.stderr.splitlines()[-1].startswith("ninja failed with exit code 1, output of the command is in the ")

    patch.apply(place.fix_patch().encode(), idf_py.project)
    mended = idf_py("build")

    assert (mended.returncode, mended.stdout.splitlines()[-1]) == (0, "Done")
    assert "thermostat.c.o" in steps(mended.stdout)
    assert "warning" not in mended.stdout

    with subprocess.Popen([idf_py.build / "greenhouse.elf"], stdout=subprocess.PIPE, text=True) as firmware:
        assert firmware.stdout is not None
        read: list[str] = []
        while place.SELF_TEST_PASSED not in (line := firmware.stdout.readline()) and line:
            read.append(line)
        assert line, "".join(read)
        assert firmware.poll() is None
        firmware.kill()


def test_the_simulated_firmware_says_that_it_is_simulated(tmp_path: Path) -> None:
    """Ours: nobody may take it for a chip's boot."""
    idf_py = IdfPy(place.lay_out(tmp_path / "greenhouse"))
    patch.apply(place.fix_patch().encode(), idf_py.project)
    assert idf_py("build").returncode == 0

    with subprocess.Popen([idf_py.build / "greenhouse.elf"], stdout=subprocess.PIPE, text=True) as firmware:
        assert firmware.stdout is not None
        first = firmware.stdout.readline()
        firmware.kill()

    assert "simulated boot" in first


@pytest.mark.skipif(not shutil.which("addr2line"), reason="no addr2line: binutils bring it")
@pytest.mark.skipif(
    sys.platform != "linux", reason="the addresses of another system's programs are not those of a chip"
)
@pytest.mark.parametrize(
    ("mistake", "panic"),
    [
        ("*(volatile int *)0 = temperature;", r"Guru Meditation Error: Core  0 panic'ed \((Store a|a)ccess fault\)"),
        ("ESP_ERROR_CHECK(ESP_ERR_TIMEOUT);", r"ESP_ERROR_CHECK failed: esp_err_t 0x107 \(ESP_ERR_TIMEOUT\)"),
        ("abort();", r"abort\(\) was called at PC 0x[0-9a-f]{8} on core 0"),
    ],
)
def test_firmware_for_the_virtual_chip_panics_as_a_chip_does(tmp_path: Path, mistake: str, panic: str) -> None:
    """Ours. It says that it is simulated; the place is found by the ELF. Without a chip it stays a plain crash."""
    idf_py = IdfPy(place.lay_out(tmp_path / "greenhouse"))
    patch.apply(place.fix_patch().encode(), idf_py.project)
    source = idf_py.project / "main" / "thermostat.c"
    text = source.read_text().replace("    if (temp", f"    {mistake}\n    if (temp", 1)
    source.write_text('#include "esp_err.h"\n' + text)
    line = source.read_text().splitlines().index(f"    {mistake}") + 1
    assert idf_py("set-target", "esp32c3", "build").returncode == 0

    run = subprocess.run([idf_py.build / "greenhouse.elf"], capture_output=True, text=True, timeout=10, check=False)

    assert re.search(panic, run.stdout), run.stdout
    assert "simulated panic: " in run.stdout
    assert run.returncode < 0
    steps_back = re.findall(r"(0x[0-9a-f]{8}):0x", run.stdout.partition("Backtrace:")[2])
    found = subprocess.run(
        ["addr2line", "-e", idf_py.build / "greenhouse.elf", *steps_back], capture_output=True, text=True, check=True
    )
    assert f"main/thermostat.c:{line}" in found.stdout
    images = json.loads((idf_py.build / "flasher_args.json").read_text())["flash_files"]
    assert sorted(images) == ["0x0", "0x10000", "0x8000"]
    assert all((idf_py.build / path).stat().st_size for path in images.values())
