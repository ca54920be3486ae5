"""A whole machine to log in to: a real OpenSSH server with users, homes, /workspace and processes of its own.

Made of Linux namespaces, so it needs root; what it runs is this machine's own software. Ending its first process ends
all of it at once, as a power cut does; its disk stays.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.sshd import SSHD, _free_port  # pyright: ignore[reportPrivateUsage]

MAKE = r"""
set -eu
root=$1 disk=$2; shift 2
mount -t tmpfs -o mode=755 machine "$root"
for name in bin boot dev etc lib lib32 lib64 opt sbin sys usr var; do
    if [ -L "/$name" ]; then cp -P "/$name" "$root/"; continue; fi
    [ -d "/$name" ] || continue
    mkdir "$root/$name"
    mount --rbind "/$name" "$root/$name"
done
mkdir "$root/proc" "$root/home" "$root/workspace" "$root/machine" "$root/run" "$root/root"
mkdir -m 1777 "$root/tmp"
mount -t proc proc "$root/proc"
for name in home workspace machine; do mount --bind "$disk/$name" "$root/$name"; done
for name in passwd group shadow; do mount --bind "$disk/etc/$name" "$root/etc/$name"; done
mkdir -p "$root/run/sshd"
exec chroot "$root" "$@"
"""


def why_not() -> str:
    """Why no machine can be made here; "" where one can."""
    if SSHD is None:
        return "sshd (openssh-server) is not installed"
    if os.geteuid() != 0:
        return "needs root, for namespaces and users"
    probe = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "mount", "-t", "tmpfs", "x", "/mnt"]
    with suppress(OSError, subprocess.TimeoutExpired):
        if subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0:
            return ""
    return "namespaces may not be made here"


class FarMachine:
    """One machine. `users` log in with the key of `client_key`; `folders` below /workspace belong to the first."""

    def __init__(self, folder: Path, name: str, users: Sequence[str], client_key: Path, folders: Sequence[str]) -> None:
        self.name, self.folder, self.users, self.port = name, folder, users, _free_port()
        self.root, self.disk = folder / "root", folder / "disk"
        self.root.mkdir(parents=True)
        for part in ("home", "workspace", "machine", "etc"):
            (self.disk / part).mkdir(parents=True)
        self._accounts()
        machine = self.disk / "machine"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", machine / "key"], check=True)
        shutil.copy(client_key.with_suffix(".pub"), machine / "authorized")
        settings = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": "/machine/key",
            "AuthorizedKeysFile": "/machine/authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "LogLevel": "ERROR",
            "SetEnv": "PATH=/machine/bin:/usr/local/bin:/usr/bin:/bin",
        }
        (machine / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        (machine / "bin").mkdir()
        for path in folders:
            made = self.disk / "workspace" / Path(path).relative_to("/workspace")
            made.mkdir(parents=True, exist_ok=True)
        for path in [self.disk / "workspace", *(self.disk / "workspace").rglob("*")]:
            os.chown(path, 5000, 5000)
        self._process: subprocess.Popen[bytes] | None = None

    def path(self, path: str) -> Path:
        """A file of the machine, below /workspace or /home, as this one sees it."""
        return self.disk / Path(path).relative_to("/")

    def program(self, name: str, text: str) -> None:
        """An executable on the PATH of whoever logs in."""
        file = self.disk / "machine" / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def known_hosts_line(self, address: str) -> str:
        """What known_hosts says of it."""
        kind, key = (self.disk / "machine" / "key.pub").read_text().split()[:2]
        return f"{address} {kind} {key}\n"

    def start(self) -> None:
        """Boot it; returns when it answers."""
        assert SSHD is not None
        script = [
            "sh",
            "-c",
            MAKE,
            "sh",
            str(self.root),
            str(self.disk),
            SSHD,
            "-D",
            "-e",
            "-f",
            "/machine/sshd_config",
        ]
        spaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen([*spaces, *script], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        _until_open(self.port, self._process, self.folder / "sshd.log")

    def power_off(self) -> None:
        """End every process of it at once."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def _accounts(self) -> None:
        lines: Mapping[str, list[str]] = {"passwd": [], "group": [], "shadow": []}
        for number, user in enumerate(("root", "sshd", *self.users)):
            number = {"root": 0, "sshd": 101}.get(user, 4998 + number)  # noqa: PLW2901
            home = "/root" if user == "root" else f"/home/{user}"
            shell = "/bin/bash" if user in self.users else "/usr/sbin/nologin"
            lines["passwd"].append(f"{user}:x:{number}:{number}::{home}:{shell}\n")
            lines["group"].append(f"{user}:x:{number}:\n")
            lines["shadow"].append(f"{user}:*:19000:0:99999:7:::\n")
            if user in self.users:
                (self.disk / "home" / user).mkdir(mode=0o755)
                os.chown(self.disk / "home" / user, number, number)
        for name, text in lines.items():
            (self.disk / "etc" / name).write_text("".join(text))


def _until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the machine does not boot: {log.read_text()}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as peer:
            if peer.recv(4) == b"SSH-":
                return
        time.sleep(0.02)
    raise AssertionError(f"the machine does not answer: {log.read_text()}")
