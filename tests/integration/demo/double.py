"""idf.py as a person would call it, and a small project that it builds."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.demo import place

SMALL = {
    place.MARKER: "",
    "CMakeLists.txt": "include($ENV{IDF_PATH}/tools/cmake/project.cmake)\n"
    "idf_build_set_property(MINIMAL_BUILD ON)\n"
    "project(small)\n",
    "sdkconfig.defaults": 'CONFIG_IDF_TARGET="linux"\n',
    "main/CMakeLists.txt": 'idf_component_register(SRCS "app_main.c" INCLUDE_DIRS ".")\n',
    "main/app_main.c": '#include "small.h"\nvoid app_main(void);\nvoid app_main(void) { puts(GREETING); }\n',
    "main/small.h": '#pragma once\n#include <stdio.h>\n#define GREETING "hello"\n',
}


@dataclass
class IdfPy:
    """idf.py of one installation in one project; keyword arguments become environment variables."""

    project: Path
    installation: Path = field(default_factory=place.simulated_installation)
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})

    @property
    def build(self) -> Path:
        return self.project / "build"

    def argv(self, *words: str) -> list[str]:
        return [self.python, str(self.installation / "tools/idf.py"), "-C", str(self.project), *words]

    def environment(self, **more: str) -> dict[str, str]:
        return self.env | {"HOME": str(self.project.parent), "IDF_PATH": str(self.installation)} | more

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        run = subprocess.run(self.argv(*words), env=self.environment(**more), capture_output=True, check=False)
        out, err = (stream.decode("utf-8", "replace") for stream in (run.stdout, run.stderr))
        return subprocess.CompletedProcess(run.args, run.returncode, out, err)

    def ninja(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["ninja", "-C", str(self.build), *words]
        return subprocess.run(argv, env=self.environment(), capture_output=True, text=True, check=False)


def make_small(folder: Path) -> IdfPy:
    """A project with one source file, which builds."""
    for path, text in SMALL.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return IdfPy(folder)


def steps(output: str) -> list[str]:
    """The names of the files that ninja's steps made."""
    lines = [line for line in output.splitlines() if line.startswith("[")]
    return [line.split(" ")[-1].rpartition("/")[2] for line in lines]
