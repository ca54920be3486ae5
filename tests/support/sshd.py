"""A real OpenSSH server on a loopback port: own host key, own login key, no password, nothing of the machine's.

Runs as whoever runs the tests, so it lets in that user alone.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
SEPARATION = Path("/run/sshd")


def why_not() -> str:
    """Why no server can be run here; "" where one can."""
    if SSHD is None:
        return "sshd (openssh-server) is not installed"
    if os.geteuid() == 0 and not SEPARATION.is_dir():
        with suppress(OSError):
            SEPARATION.mkdir(mode=0o755)
        if not SEPARATION.is_dir():
            return f"sshd needs {SEPARATION}, which cannot be made here"
    return ""


class Sshd:
    """One server and its client's settings, all files in `folder`.

    `ssh_config` knows it as `box`, with `key` as the identity and `known_hosts` as the file of known hosts. `login` is
    a shell that stands in for the user's, `env` what its sessions have.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kinds: Sequence[str] = ("ed25519",),
        login: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.user = getpass.getuser()
        self.port = _free_port()
        self.known_hosts, self.ssh_config = folder / "known_hosts", folder / "ssh_config"
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        # bash reads no .bashrc of the machine's user below the first level
        self.env = {"HOME": str(self.home), "SHLVL": "2", **(env or {})}
        self.login = login
        self.settings: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.key = self.make_key("client")
        (folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.host_keys = [self.make_key(f"host_{kind}", kind) for kind in kinds]
        self.know()
        self.configure()

    def make_key(self, name: str, kind: str = "ed25519") -> Path:
        """A fresh key pair."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", path]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path

    def know(self) -> None:
        """Write known_hosts as it should be."""
        lines = [f"[127.0.0.1]:{self.port} {' '.join(_public(key).split()[:2])}\n" for key in self.host_keys]
        self.known_hosts.write_text("".join(lines))

    def configure(self, port: int | None = None, **settings: str) -> None:
        """Write ssh_config; `settings` come first, so they win."""
        given = "".join(f"    {name} {value}\n" for name, value in settings.items())
        self.ssh_config.write_text(
            f"Host box\n{given}    HostName 127.0.0.1\n    Port {port or self.port}\n    User {self.user}\n"
            f"    IdentityFile {self.key}\n    UserKnownHostsFile {self.known_hosts}\n"
            f"    GlobalKnownHostsFile none\n    IdentityAgent none\n"
        )

    def start(self, **settings: str) -> None:
        """Run it and wait until it listens. `settings` are sshd_config's."""
        assert SSHD
        self.settings = settings or self.settings
        own = "".join(f"{name} {value}\n" for name, value in self.settings.items())
        host_keys = "".join(f"HostKey {key}\n" for key in self.host_keys)
        env = " ".join(f'"{name}={value}"' for name, value in self.env.items())
        force = f'ForceCommand exec {self.login} -c "$SSH_ORIGINAL_COMMAND"\n' if self.login else ""
        config = self.folder / "sshd_config"
        config.write_text(
            f"{own}ListenAddress 127.0.0.1:{self.port}\n{host_keys}{force}SetEnv {env}\nPidFile {self.folder}/pid\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            f"MaxStartups 100:30:200\nPrintMotd no\nLogLevel VERBOSE\n"
        )
        log = (self.folder / "sshd.log").open("ab")
        command = [SSHD, "-D", "-e", "-f", str(config)]
        self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        log.close()
        for _ in range(2000):  # 10 s; it gives no other sign
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "sshd.log").read_text()[-2000:])
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            time.sleep(0.005)
        raise RuntimeError("sshd does not listen")

    def kill(self) -> None:
        """SIGKILL for it and every process that serves one of its connections; jobs run on."""
        if self._process is None:
            return
        family = _children(self._process.pid)
        for pid in [self._process.pid, *family]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def serving(self) -> list[int]:
        """The processes that hold a connection each: the direct children."""
        assert self._process
        return [pid for pid, (parent, _) in _processes().items() if parent == self._process.pid]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _public(key: Path) -> str:
    return key.with_name(key.name + ".pub").read_text()


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and name by pid."""
    found: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, rest = path.read_text().rpartition(")")
            found[int(path.parent.name)] = int(rest.split()[1]), head.partition("(")[2]
    return found


def _children(root: int) -> list[int]:
    """Its descendants of the same name: sshd's own processes, not what runs in the sessions."""
    found, everyone = [root], _processes()
    for pid in found:
        found += [child for child, (parent, name) in everyone.items() if parent == pid and name.startswith("sshd")]
    return found[1:]
