"""`backup` and `restore` as commands: what they say, and what they refuse."""

import json
from pathlib import Path

from tests.integration.conftest import Cli


def test_a_backup_is_made_told_of_and_restored(cli: Cli, tmp_path: Path) -> None:
    """Issue."""
    (tmp_path / "valve").mkdir()
    assert cli("projects", "import", str(tmp_path / "valve")).returncode == 0
    assert cli("tokens", "create", "bot").returncode == 0

    made = cli("backup", "kept.tar.gz", "--artifacts")
    again = cli("backup", "kept.tar.gz")
    nowhere = cli("backup", "none/kept.tar.gz")
    other = {"BUILD_ORCHESTRATOR_HOME": str(tmp_path / "other")}
    back = cli("restore", "kept.tar.gz", **other)
    told = json.loads(cli("restore", "kept.tar.gz", "--json", BUILD_ORCHESTRATOR_HOME=str(tmp_path / "third")).stdout)
    missing = cli("restore", "none.tar.gz", **other)

    assert made.stdout == f"{tmp_path}/kept.tar.gz\n"
    assert "MB · 0 builds, 0 events · no config.yaml · 0 files of results · no secrets (--secrets)" in made.stderr
    assert again.returncode == 2 and "is there already" in again.stderr
    assert nowhere.returncode == 2 and f"the folder {tmp_path}/none is not there" in nowhere.stderr
    assert back.stdout.startswith("restored: 0 builds as of ")
    assert "tokens are those of then, also any that was taken away since" in back.stderr
    assert (told["tables"]["projects"], told["artifacts"], told["secrets"], told["aside"]) == (1, 0, None, [])
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert [one["name"] for one in json.loads(cli("projects", "list", "--json", **other).stdout)] == ["valve"]
