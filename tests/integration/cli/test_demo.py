"""The demo in a pipe: red, mended, green, verified, and all of it on record."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.store.database import Store
from tests.conftest import KEEP, NewDatabase
from tests.integration.cli.program import LIMIT_S, PROGRAM, Terminal
from tests.integration.conftest import Cli
from tests.support.workers import end_everything
from tests.unit.idf.made_up import make_idf


@dataclass(frozen=True)
class Told:
    """A demo that has been run in a home of its own, by a process of its own."""

    done: subprocess.CompletedProcess[str]
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return Path(self.environment["BUILD_ORCHESTRATOR_HOME"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Told]:
    """For those that only look, and for whoever runs it again."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "user").mkdir()
    own = {"HOME": str(folder / "user"), "BUILD_ORCHESTRATOR_HOME": str(folder / "home"), **new_database()}
    environment = {name: os.environ[name] for name in KEEP if name in os.environ} | own
    done = subprocess.run(
        [*PROGRAM, "demo"], capture_output=True, text=True, timeout=3 * LIMIT_S, check=False, cwd="/", env=environment
    )
    yield Told(done, own)
    end_everything(folder / "home")


def test_the_loop_goes_all_the_way_and_says_what_is_simulated(told: Told) -> None:
    done = told.done

    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert "✗ round 1  build  failed · " in out
    assert "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'" in out
    assert "    -        valve_opne();\n    +        valve_open();\n" in out
    assert "✓ round 2  build  success · " in out and "✓ round 2  qemu   success · " in out
    assert "SELF TEST PASSED" in out and "red → mended → green → verified" in out
    for line in out.splitlines():
        told_of = line[10:].split(" ")[1:2]
        if line.startswith(("  board", "  emulator", "  developer", "  ESP-IDF")) or (
            line.startswith(("✗", "✓")) and told_of not in (["setup"], ["doctor"], ["qa"])
        ):
            assert "simulated" in line or "virtual" in line
    assert len(out.splitlines()) <= 60
    assert max(len(line) for line in out.splitlines() if str(told.home) not in line) <= 80


def test_the_record_is_what_was_told(told: Told) -> None:
    config = load_config(told.environment)
    store = Store(config.database_url, config.home)
    query = "SELECT round, stage, status FROM stages WHERE status != 'skipped' ORDER BY round, started_at"
    rows = store.look(lambda c: [tuple(row) for row in c.exec_driver_sql(query)])
    store.engine.dispose()
    work = [row for row in rows if row[1] not in ("setup", "doctor", "qa")]
    assert work[:3] == [(1, "build", "failed"), (1, "fix", "success"), (2, "build", "success")]
    assert set(work[3:]) == {(2, stage, "success") for stage in ("qemu", "image", "flash", "boot")}
    judged = {row for row in rows if row[1] == "qa"}
    assert judged == {(1, "qa", "failed"), (2, "qa", "success")}
    assert len(list(told.home.glob("jobs/*/*-1-*/log"))) == 7


def test_run_again_its_json_is_one_object_and_the_story_goes_to_stderr(told: Told, cli: Cli) -> None:
    done = cli("demo", "--json", **told.environment)

    assert done.returncode == 0
    assert json.loads(done.stdout)["build"]["round"] == 2
    assert "red → mended → green → verified" in done.stderr
    assert len(json.loads(cli("builds", "--json", **told.environment).stdout)) == 2
    (source,) = told.home.glob("projects/*/main/thermostat.c")
    assert "valve_open();" in source.read_text()


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()

    done = cli("demo", "--dir", str(tmp_path / "mine"))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_without_a_compiler_it_says_what_to_install_and_starts_nothing(cli: Cli, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "git", "ninja"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)

    done = cli("demo", PATH=str(tools))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the demo needs a C compiler" in done.stderr and "install" in done.stderr
    assert cli("builds").stdout == ""


@pytest.mark.parametrize("body", [None, "sys.exit('ERROR: no good')"])
def test_an_esp_idf_that_is_named_and_cannot_build_is_never_replaced(
    cli: Cli, tmp_path: Path, body: str | None
) -> None:
    """Issue. Whoever set IDF_PATH wants that one: neither the demo nor a build of its project takes the simulated."""
    idf, tools = tmp_path / "idf", tmp_path / "tools"
    idf.mkdir()
    if body is not None:  # complete, and its activation fails
        make_idf(idf, tools_path=tools, body=body)
    own = {"IDF_PATH": str(idf), "IDF_TOOLS_PATH": str(tools)}

    done = cli("demo", "--dir", str(tmp_path / "demo"), **own)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert ("has no tools/idf.py" if body is None else "cannot be activated (no good)") in done.stderr
    assert cli("builds").stdout == ""
    ran = cli("run", "--project", str(tmp_path / "demo"), **own)
    assert ran.returncode == 2 and str(idf) in ran.stdout + ran.stderr
    assert not (tmp_path / "demo" / "build").exists()


def test_in_a_terminal_and_elsewhere_it_ends_the_same(tmp_path: Path) -> None:
    """Ours. In a folder whose name a shell would take apart, or run."""
    folder = tmp_path / "a b $(reboot)"
    with Terminal(("demo", "--dir", str(folder)), height=40) as terminal:
        assert terminal.end() == 0, terminal.shown

    assert "red → mended → green → verified" in terminal.shown
    assert all(
        len(line) <= 80 for line in terminal.shown.splitlines() if os.environ["HOME"] not in line and "/" not in line
    )
    assert "valve_open();" in (folder / "main" / "thermostat.c").read_text()
