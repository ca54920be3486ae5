"""The small project for the simulated ESP-IDF: fresh for a test, or built once for those that only look."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.demo.double import IdfPy, make_small

Built = tuple[IdfPy, subprocess.CompletedProcess[str]]


@pytest.fixture
def small(tmp_path: Path) -> IdfPy:
    return make_small(tmp_path / "small")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The project and what its first build printed."""
    idf_py = make_small(tmp_path_factory.mktemp("built") / "small")
    return idf_py, idf_py("build")
