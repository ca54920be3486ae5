"""The three build servers of the seed's configuration as real machines, reached by the addresses it names.

The addresses are data: ~/.ssh/config leads each to a loopback port.
"""

import subprocess
from pathlib import Path

from tests.support.far_machine import FarMachine

SERVERS = {
    "yocto-builder": ("192.168.1.101", "build", "/workspace/CCU_GEN2.0_SONATUS.manifest/mobis"),
    "ccu2-builder": ("192.168.1.102", "build", "/workspace/ccu-2.0"),
    "test-runner": ("192.168.1.103", "test", "/workspace/snt-integration-tests"),
}

BUILD_PY = """\
#!/bin/sh
echo "build.py $*"
echo "NOTE: Running task 1 of 2 (/ws/meta/x.bb:do_compile)"
id -un
echo "$HOME" "$PATH"
mkdir -p out && echo image >out/image.bin
echo "NOTE: Running task 2 of 2 (/ws/meta/x.bb:do_image)"
"""

PYTEST = """\
#!/bin/sh
# Stands in for pytest, which these machines have not: prints what it prints.
echo "collected 2 items"
echo "test_container.py::test_start PASSED                    [ 50%]"
echo "test_container.py::test_stop PASSED                     [100%]"
echo "============== 2 passed in 0.01s =============="
"""


class Farm:
    """The machines, and this user's SSH settings for them. `machines` by the seed's names."""

    def __init__(self, folder: Path, user_home: Path) -> None:
        key = folder / "id"
        folder.mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.machines = {
            name: FarMachine(folder / name, name, [user], key, [workdir])
            for name, (_, user, workdir) in SERVERS.items()
        }
        ssh = user_home / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        blocks: list[str] = []
        for name, (address, _, workdir) in SERVERS.items():
            machine = self.machines[name]
            blocks.append(f"Host {address}\n  HostName 127.0.0.1\n  Port {machine.port}\n")
            script = machine.path(workdir) / "build.py"
            script.write_text(BUILD_PY)
            script.chmod(0o755)
            machine.program("pytest", PYTEST)
        known = [machine.known_hosts_line(f"[127.0.0.1]:{machine.port}") for machine in self.machines.values()]
        (ssh / "known_hosts").write_text("".join(known))
        (ssh / "config").write_text("".join(blocks) + f"Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n")

    def start(self) -> None:
        """Boot all of them."""
        for machine in self.machines.values():
            machine.start()

    def power_off(self) -> None:
        """End all of them."""
        for machine in self.machines.values():
            machine.power_off()
