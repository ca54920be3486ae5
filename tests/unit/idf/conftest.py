"""An installation, a project and programs, all made up, below the test's folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.idf.installation import Installation
from tests.unit.idf.made_up import make_idf

PROJECT_CMAKE = "include($ENV{IDF_PATH}/tools/cmake/project.cmake)\n"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """6.0.2 with its Python and tools, all below the test's folder."""
    tools_path = tmp_path / "tools"
    path = make_idf(tmp_path / "esp-idf", tools_path=tools_path)
    python = tools_path / "python_env" / "idf6.0_py3.11_env" / "bin" / "python"
    return Installation(path=path, version="6.0.2", python=python, tools_path=tools_path, source="IDF_PATH")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: main/ and one component, never configured."""
    folder = tmp_path.resolve() / "lamp"
    (folder / "main").mkdir(parents=True)
    (folder / "components" / "led").mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.16)\n{PROJECT_CMAKE}project(lamp)\n")
    (folder / "main" / "CMakeLists.txt").write_text('idf_component_register(SRCS "main.c")\n')
    (folder / "main" / "main.c").write_text("void app_main(void) {}\n")
    (folder / "components" / "led" / "CMakeLists.txt").write_text('idf_component_register(SRC_DIRS ".")\n')
    (folder / "components" / "led" / "led.c").write_text("int led;\n")
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., Path]:
    """A folder for PATH with programs that print one line and end well."""

    def make(*names: str, prints: str = "1.0") -> Path:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho '{prints}'\n")
            (folder / name).chmod(0o700)
        return folder

    return make
