"""Bad input through the real command line: one sentence, exit code 2, nothing lost, nothing left running."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.demo.place import lay_out
from mcp_server.store.database import Store
from mcp_server.store.tables import SCHEMA_VERSION
from tests.integration.conftest import Cli, Said
from tests.support.faults import worker_pid
from tests.support.workers import end_everything


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    yield
    end_everything(home)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user runs it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mcp_server", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        errors="replace",
    )


def refused(result: Said | subprocess.CompletedProcess[str], *words: str) -> None:
    """One sentence on stderr, nothing on stdout, exit code 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert len(result.stderr.encode()) < 1200
    for word in words:
        assert word in " ".join(result.stderr.split()), result.stderr


NASTY = ["$(touch pwned)", "`touch pwned`", "a'b", 'a"b', "a\nb", "a;b", "../..", "-", "é" * 50, "x" * 10_000]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_project_that_is_none_is_refused_whatever_it_is_called(cli: Cli, name: str, tmp_path: Path) -> None:
    """Ours. Nothing of a name is ever run, cut at a newline, or printed without bound."""
    refused(cli("run", f"--project={tmp_path}/{name}"), "project")
    assert not (tmp_path / "pwned").exists()


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "main.c").write_text("int x;")
    refused(run("run", "--project", str(tmp_path / "main.c")), "project", "main.c")


def test_a_folder_without_cmakelists_and_a_plain_cmake_project(cli: Cli, tmp_path: Path) -> None:
    """Ours. idf.py itself says only that it cannot load project_description.json."""
    refused(cli("run", "--project", str(tmp_path)), "CMakeLists.txt")
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.16)\nproject(plain)\n")
    refused(cli("run", "--project", str(tmp_path)), "project.cmake")


def test_no_esp_idf_says_how_to_get_it(cli: Cli, tmp_path: Path) -> None:
    """Ours. The demo's marker is what lets the simulated one build; another project is not built by it."""
    firmware = lay_out(tmp_path / "firmware")
    (firmware / ".build-orchestrator-demo").unlink()
    refused(cli("run", "--project", str(firmware)), "ESP-IDF", "IDF_PATH")


def test_an_idf_path_that_leads_nowhere(cli: Cli, tmp_path: Path) -> None:
    """Ours. What was named is never silently replaced by another."""
    firmware = lay_out(tmp_path / "firmware")
    (firmware / ".build-orchestrator-demo").unlink()
    refused(cli("run", "--project", str(firmware), IDF_PATH=str(tmp_path / "nowhere")), "IDF_PATH", "nowhere")


def test_an_unknown_target_lists_those_there_are(cli: Cli, tmp_path: Path) -> None:
    """Ours."""
    firmware = lay_out(tmp_path / "firmware")
    refused(cli("run", "--project", str(firmware), "--target", "z80"), "target", "z80", "linux")
    assert not (firmware / "build").exists()


@pytest.mark.parametrize("number", ["0", "-1", "x", "1e9", "9" * 30, "42; rm -rf /", ""])
def test_a_build_number_that_is_none(cli: Cli, number: str) -> None:
    """Ours."""
    refused(cli("cancel", "--", number))


def test_a_build_that_is_not_there(cli: Cli) -> None:
    """Ours."""
    for command in ("cancel", "retry", "logs"):
        refused(cli(command, "4711"), "4711")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("defalts:\n  timeout: 2h\n", ("config.yaml", "defalts", "defaults")),
        ("defaults:\n  timeout: 3 hours\n", ("timeout", "2")),
        ("servers: [a, b]\n", ("servers",)),
        ("defaults: {parallel_limit: many}\n", ("parallel_limit",)),
        ("defaults:\n\tretry: 1\n", ("config.yaml",)),
        ("a: &a [*a, *a]\n", ("config.yaml",)),
    ],
)
def test_a_config_that_cannot_be_used(cli: Cli, home: Path, text: str, words: tuple[str, ...]) -> None:
    """Interfaces: unknown keys name the nearest known one, with their place."""
    (home / "config.yaml").write_text(text)
    refused(cli("builds"), *words)


@pytest.mark.sqlite_only
def test_a_damaged_and_a_newer_database(cli: Cli, home: Path) -> None:
    """Ours. Neither is touched."""
    database = home / "orchestrator.db"
    database.write_bytes(b"not a database" * 1000)
    refused(cli("builds"), "orchestrator.db")
    assert database.read_bytes() == b"not a database" * 1000

    database.unlink()
    assert cli("builds").returncode == 0
    end_everything(home)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    refused(cli("builds"), "schema 99")
    assert worker_pid(home) is None


def test_a_home_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    """Ours. Root writes everywhere, so here a file stands in the folder's place."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        refused(cli("builds", BUILD_ORCHESTRATOR_HOME=str(place)), "BUILD_ORCHESTRATOR_HOME")


def test_a_second_worker_by_hand(home: Path) -> None:
    """Design: one worker a home."""
    home.joinpath("worker.lock").touch()
    with home.joinpath("worker.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(run("worker"), "another worker")


def test_looking_starts_no_worker(cli: Cli, home: Path) -> None:
    """Ours. Only what is to be done starts one; the schema is made all the same."""
    for command in (["builds"], ["status"], ["--help"], ["doctor"]):
        cli(*command)

    store = Store(load_config().database_url, home)
    assert store.schema_version() == SCHEMA_VERSION
    store.engine.dispose()
    assert worker_pid(home) is None


def test_half_a_job_directory_does_not_stop_the_next_build(cli: Cli, home: Path, tmp_path: Path) -> None:
    """Ours. What a machine's crash left in jobs/ is no job of ours, and nothing of it is deleted by a build."""
    (home / "jobs" / "0123456789ab" / "half").mkdir(parents=True)
    (home / "jobs" / "0123456789ab" / "half" / "log").write_text("begun")
    firmware = lay_out(tmp_path / "firmware")
    result = cli("run", "--project", str(firmware))

    assert result.returncode == 1
    assert "valve_opne" in result.stdout
    assert (home / "jobs" / "0123456789ab" / "half" / "log").read_text() == "begun"
