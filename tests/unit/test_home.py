"""Where the home may be, and how it is made."""

from pathlib import Path

import pytest

import mcp_server.home
from mcp_server.config import load_config
from mcp_server.errors import ConfigError


def test_home_may_be_relative_or_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. It is absolute from then on: a worker has another working directory."""
    monkeypatch.chdir(tmp_path)

    assert load_config({"BUILD_ORCHESTRATOR_HOME": "here"}).home == tmp_path / "here"
    assert load_config({"BUILD_ORCHESTRATOR_HOME": "~/there"}).home == tmp_path / "user" / "there"
    assert load_config({"HOME": "/home/somebody"}).home == Path("/home/somebody/.build-orchestrator")
    assert load_config({"BUILD_ORCHESTRATOR_HOME": "", "HOME": "/x"}).home == Path("/x/.build-orchestrator")


def test_home_is_made_for_us_alone(tmp_path: Path) -> None:
    """Ours. 0700 whatever the umask, and an open home of ours is closed."""
    config = load_config()
    assert config.make_home() == tmp_path / "home"
    for folder in (
        config.home,
        config.jobs_dir,
        config.artifacts_dir,
        config.worktrees_dir,
        config.secrets_dir,
        config.logs_dir,
    ):
        assert folder.stat().st_mode & 0o777 == 0o700

    config.home.chmod(0o755)
    config.make_home()
    assert config.home.stat().st_mode & 0o777 == 0o700


def test_file_in_homes_place_is_one_sentence(tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="home is a file, not a folder; set BUILD_ORCHESTRATOR_HOME"):
        load_config().make_home()

    with pytest.raises(ConfigError, match="a part of this path is a file"):
        load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path / "home" / "below")}).make_home()


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="no /proc here")
def test_read_only_home_is_one_sentence() -> None:
    """Ours. /proc takes no folder from anybody, root included."""
    with pytest.raises(ConfigError, match=r"/proc/home cannot be used: .*; set BUILD_ORCHESTRATOR_HOME"):
        load_config({"BUILD_ORCHESTRATOR_HOME": "/proc/home"}).make_home()


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("server:/home {folder} nfs4 rw 0 0", "nfs4"),
        ("//server/x {folder} cifs rw 0 0", "cifs"),
        ("me@server: {folder} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("C:\\134 {folder} 9p rw,aname=drvfs 0 0", "9p"),
        ("x {folder} ext4 rw 0 0\ny {folder} nfs rw 0 0", "nfs"),
    ],
)
def test_network_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, kind: str) -> None:
    """Ours. Locks do not hold there, so two machines would share one queue; nothing is made."""
    folder = tmp_path / "net work"
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n" + mount.format(folder=str(folder).replace(" ", "\\040")) + "\n")
    monkeypatch.setattr(mcp_server.home, "MOUNTS", mounts)
    config = load_config({"BUILD_ORCHESTRATOR_HOME": str(folder / "home")})

    with pytest.raises(ConfigError) as error:
        config.make_home()
    assert f"network file system ({kind})" in str(error.value)
    assert "set BUILD_ORCHESTRATOR_HOME" in str(error.value)
    assert not folder.exists()


@pytest.mark.parametrize("mounts", ["none / 9p rw 0 0\n", "overlay / overlay rw 0 0\nnfs:/x /mnt nfs rw 0 0\n", ""])
def test_local_home_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str) -> None:
    """Ours. A sandbox's root may itself be 9p; what is mounted elsewhere does not matter."""
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr(mcp_server.home, "MOUNTS", tmp_path / "mounts")

    assert load_config().make_home().is_dir()
