"""BUILD_ORCHESTRATOR_HOME as a folder: on a local disk, ours, closed to others, or refused with one sentence."""

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from mcp_server.errors import ConfigError

MOUNTS = Path("/proc/self/mounts")
"""Absent on macOS, where nothing is refused."""

MACHINE = "machine"  # the file with the machine's name

# flock and SQLite's locks do not hold between the machines that share these, and job directories would be mixed up
NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "lustre",
    "glusterfs",
    "beegfs",
    "gpfs",
    "9p",
}
NETWORK_FUSE = {"sshfs", "smbnetfs", "glusterfs", "ceph", "s3fs", "rclone", "gcsfuse", "davfs", "davfs2", "juicefs"}


def make_home(home: Path, folders: Iterable[Path]) -> None:
    """Make `home` and its `folders` 0700 where they are missing; an existing home of ours is closed to others."""
    refuse_network(home)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = home.stat()
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            home.chmod(0o700)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise _unusable(home, f"{error.filename} is a file, not a folder") from None
    except NotADirectoryError:
        raise _unusable(home, "a part of this path is a file, not a folder") from None
    except OSError as error:
        raise _unusable(home, f"{error.filename or home}: {error.strerror}") from None
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(home, "it cannot be written by this user")


def refuse_network(home: Path) -> None:
    """ConfigError where `home` lies, or would lie, on a network file system."""
    kind = file_system(home)
    if kind in NETWORK or kind.removeprefix("fuse.") in NETWORK_FUSE:
        raise _unusable(home, f"it is on a network file system ({kind}), where locks do not hold")


def file_system(path: Path) -> str:
    """The kind of file system that `path` is on, or would be made on; "" where the system does not tell.

    A root that is itself 9p is a sandbox's local disk, not a share.
    """
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):
        return ""
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, where, what, *_ = line.split(" ")
        folder = Path(where.encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in where else where)
        if real.is_relative_to(folder) and len(folder.parts) >= best:  # of two on one folder, the later hides the other
            best, kind = len(folder.parts), what
    return "" if best == 1 and kind == "9p" else kind


def _unusable(home: Path, why: str) -> ConfigError:
    return ConfigError(f"{home} cannot be used: {why}; set BUILD_ORCHESTRATOR_HOME to a folder on a local disk")


def known_machine(home: Path) -> str:
    """What `machine_id` would say, for who only looks; "" where none was made yet: nothing is this machine's then."""
    try:
        return (home / MACHINE).read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


def machine_id(home: Path) -> str:
    """What tells the machine of this home from all others: made once, kept in the file `machine`."""
    path = home / MACHINE
    for _ in range(2):
        if found := known_machine(home):
            return found
        try:
            draft = home / f".machine-{os.getpid()}-{secrets.token_hex(4)}"
            draft.write_text(secrets.token_hex(8) + "\n", "ascii")
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # whoever comes first
            draft.unlink()
        except OSError as error:
            raise _unusable(home, f"{error.filename or path}: {error.strerror}") from None
    raise _unusable(home, f"{path} is empty: remove it")
