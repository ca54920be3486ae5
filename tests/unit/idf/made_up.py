"""A made-up ESP-IDF: the files that are read of one, and an idf_tools.py that prints what the real one does."""

import sys
from pathlib import Path

IDF_TOOLS = """\
import os, sys
from pathlib import Path
here = Path(__file__).parent
with open(here / "calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
Path(os.environ.get("TMPDIR", "/tmp"), "left-behind").write_text("")
{body}
python = os.environ["IDF_PYTHON_ENV_PATH"]
print(f"OPENOCD_SCRIPTS={{os.environ['IDF_TOOLS_PATH']}}/openocd")
print("IDF_DEACTIVATE_FILE_PATH=/tmp/left")
print(f"PATH={{os.environ['IDF_TOOLS_PATH']}}/tools/gcc/bin:{{python}}/bin:{{here}}:$PATH")
"""

CONSTANTS = """\
import collections
SUPPORTED_TARGETS = ['esp32', 'esp32c3', 'esp32s3']
PREVIEW_TARGETS = ['linux', 'esp32h4']
"""


def make_python(environment: Path, release: str) -> Path:
    """A Python environment as ESP-IDF's install.sh names it; runs the interpreter of the tests."""
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (environment / "idf_version.txt").write_text(release)
    return python


def make_idf(path: Path, version: str = "6.0.2", tools_path: Path | None = None, body: str = "") -> Path:
    """Makes an installation; `tools_path` None leaves out its Python environment, as before install.sh."""
    (path / "tools" / "idf_py_actions").mkdir(parents=True)
    (path / "tools" / "cmake").mkdir()
    (path / "tools" / "idf.py").write_text("#!/usr/bin/env python\n")
    (path / "tools" / "idf.py").chmod(0o755)
    (path / "tools" / "idf_tools.py").write_text(IDF_TOOLS.format(body=body))
    (path / "tools" / "idf_py_actions" / "constants.py").write_text(CONSTANTS)
    (path / "tools" / "tools.json").write_text("{}")
    (path / "tools" / "cmake" / "toolchain-esp32c3.cmake").write_text("set(_CMAKE_TOOLCHAIN_PREFIX riscv32-esp-elf-)\n")
    (path / "tools" / "cmake" / "toolchain-esp32.cmake").write_text("set(CMAKE_C_COMPILER xtensa-esp32-elf-gcc)\n")
    numbers = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    text = "".join(f"set(IDF_VERSION_{part} {number})\n" for part, number in numbers)
    (path / "tools" / "cmake" / "version.cmake").write_text(text)
    if tools_path is not None:
        release = ".".join(version.split(".")[:2])
        make_python(tools_path / "python_env" / f"idf{release}_py3.11_env", release)
    return path
