"""What the doctor says of serial ports and of the board behind one, here and on another host."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from mcp_server import check_up
from mcp_server.check_up import examine, examine_boards
from mcp_server.config import load_config
from mcp_server.demo.chip import VirtualChip
from mcp_server.hosts import ports
from mcp_server.hosts.base import Host, JobSpec
from mcp_server.hosts.exec import ExecHost
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import Look, SerialPort
from mcp_server.idf.doctor import Check
from mcp_server.idf.flash_tool import FIND
from mcp_server.report_tables import doctor_report
from tests.support.usb_tree import UsbTree

CP2102N = {"idVendor": "10c4", "idProduct": "ea60", "serial": "8a5f0e6d", "product": "CP2102N USB to UART Bridge"}
CH340 = {"idVendor": "1a86", "idProduct": "7523"}
NEEDS_ESPTOOL = pytest.mark.skipif(find_spec("esptool") is None, reason="esptool is not installed: extra `demo`")


def ours() -> list[str]:
    return [sys.executable, "-m", "esptool"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsbTree]:
    (tmp_path / "tree").mkdir()
    tree = UsbTree(tmp_path / "tree")
    monkeypatch.setattr(ports, "ROOTS", tree.roots)
    yield tree
    tree.close()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[Host]:
    host = LocalHost(tmp_path / "jobs")
    yield host
    await host.aclose()


async def told(host: Host, port: str | None = None) -> list[tuple[str, str, str, str | None]]:
    async with asyncio.timeout(25):
        found = await examine_boards(host, port, ours)
    return [(check.name, check.status, check.found, check.mend) for check in found]


async def test_no_port_is_no_problem(host: Host, tree: UsbTree) -> None:
    """Ours. No build needs one."""
    assert await told(host) == [("serial ports", "ok", "none connected: no build needs one", None)]


async def test_each_port_is_a_line(host: Host, tree: UsbTree) -> None:
    """Issue: what it is, its driver, who has it open, and what to do about that."""
    free, taken = tree.add("ttyUSB0", "1-1", **CP2102N), tree.add("ttyUSB1", "1-2", driver="ch341", **CH340)
    argv = ["sh", "-c", 'exec 5<>"$1"; echo up; exec sleep 1000', "minicom", taken]
    stranger = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    try:
        assert stranger.stdout and await stranger.stdout.readline() == b"up\n"
        found = await told(host)
    finally:
        stranger.kill()
        await stranger.communicate()  # to the pipe's end: who only waits may leave it open behind the loop
    assert found == [
        (free, "ok", "CP2102N USB to UART (Silicon Labs), serial 8a5f0e6d, cp210x", None),
        (
            taken,
            "warn",
            f"CH340 USB to UART (WCH), ch341; open in pid {stranger.pid} (sleep 1000)",
            f"end it before a flash: kill {stranger.pid}",
        ),
    ]


async def test_a_port_that_our_own_job_has_is_fine(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Issue. A flash gets it from a monitor by itself."""
    path = tree.add("ttyUSB0", "1-1", **CP2102N)
    os.mkfifo(tmp_path / "up")
    script = 'exec 5<>"$1"; echo up >"$2"; exec sleep 1000'
    async with asyncio.timeout(10):
        await host.start(JobSpec("s-7-monitor-1-1", ["sh", "-c", script, "sh", path, str(tmp_path / "up")], "/"))
        assert await asyncio.to_thread((tmp_path / "up").read_text) == "up\n"
        [(_, status, found, _)] = await told(host)
        [_, (name, asked, why, mend)] = await told(host, path)
        await host.kill("s-7-monitor-1-1", grace_s=0)
    assert (status, found.partition("; ")[2]) == ("ok", "open in job s-7-monitor-1-1")
    assert (name, asked) == (f"board on {path}", "warn")
    assert (why, mend) == ("not asked, as job s-7-monitor-1-1 has the port open", "end that, then ask again")


async def test_a_named_port_that_is_not_there_is_a_failure(host: Host, tree: UsbTree) -> None:
    """Issue. It was asked about; what to name instead is said only where there is something."""
    name = "/dev/ttyUSB77"
    assert await told(host, name) == [(name, "fail", "is not there on local; connected: none", "plug it in")]

    path = tree.add("ttyUSB0", "1-1", **CH340)
    connected = f"is not there on local; connected: {path} (CH340 USB to UART (WCH))"
    assert await told(host, name) == [(name, "fail", connected, "plug it in, or name one of those")]


@NEEDS_ESPTOOL
async def test_nothing_behind_an_address_is_told_with_what_to_start(host: Host, tree: UsbTree) -> None:
    """Issue. "Start it" names nothing."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        [_, board] = await told(host, f"socket://127.0.0.1:{taken.getsockname()[1]}")
    assert board[1] == "fail" and board[2].startswith("nothing answers at socket://127.0.0.1:")
    assert str(board[3]).startswith("start the program that serves the port there (ser2net, ")


@pytest.mark.parametrize("port", [None, "/dev/ttyUSB0", "socket://127.0.0.1:1"])
async def test_a_host_that_does_not_answer_is_a_failure(tmp_path: Path, port: str | None) -> None:
    """Issue. Nothing of it can be told, so all is not well."""
    gone = ExecHost("lab-pi", [str(tmp_path / "absent")], {"PATH": os.environ["PATH"]}, None)
    async with asyncio.timeout(10):
        [check] = await examine_boards(gone, port)
    await gone.aclose()
    assert (check.name, check.status, check.about) == ("host lab-pi", "fail", "board")
    assert not check.found.startswith("host")


async def test_a_port_without_permission_is_told_with_the_command(
    host: Host, tree: UsbTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: dialout. The script's answer is made up: the tests may run as root, who may open everything."""
    port = SerialPort("/dev/ttyUSB0", "k", text="CH340 USB to UART (WCH)", group="dialout", accessible=False)

    async def look(host: Host) -> Look:
        return Look((port,), user="ann")

    monkeypatch.setattr(check_up, "look_at_ports", look)
    assert await told(host) == [
        (
            "/dev/ttyUSB0",
            "warn",
            "CH340 USB to UART (WCH); user ann may not open it (group dialout)",
            "sudo usermod -aG dialout $USER, then log in again",
        )
    ]


async def test_many_ports_are_cut(host: Host, tree: UsbTree) -> None:
    """Ours. A model pays for each byte."""
    for number in range(10):
        tree.add(f"ttyUSB{number}", f"1-{number + 1}", **CH340)
    found = await told(host)
    assert len(found) == check_up.MOST_PORTS + 1
    assert found[-1] == ("serial ports", "ok", "and 2 more", None)


@NEEDS_ESPTOOL
async def test_the_board_behind_a_port_is_told(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Issue, by the real esptool and a virtual chip. What was run leaves no job behind."""
    chip = VirtualChip(tmp_path / "flash.bin", mac="7c:df:a1:00:11:22", link=tmp_path / "board")
    async with asyncio.timeout(25), chip.running():
        [port, board] = await told(host, str(tmp_path / "board"))
    assert port[:3] == (str(tmp_path / "board"), "ok", "pseudo terminal: a virtual board")
    assert board[:2] == (f"board on {tmp_path}/board", "ok")
    assert board[2].startswith("ESP32-C3 (QFN32) v0.")
    assert ", MAC 7c:df:a1:00:11:22, 4MB flash, 40MHz crystal, secure boot off, flash encryption off" in board[2]
    assert list((tmp_path / "jobs").glob("*/*-doctor-*")) == []


@NEEDS_ESPTOOL
async def test_a_silent_board_is_told_with_what_to_press(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Issue."""
    chip = VirtualChip(tmp_path / "flash.bin", faults=["silent"])
    async with asyncio.timeout(25), chip.running() as running:
        [_, board] = await told(host, running.port)
    assert board[1:3] == ("warn", f"no chip answers on {running.port}")
    assert str(board[3]).startswith("hold BOOT, press RESET (EN)")


async def test_a_host_that_cannot_be_asked_is_a_line_too(tmp_path: Path) -> None:
    """Ours. The other checks are worth having."""
    (tmp_path / "file").write_text("")
    host = LocalHost(tmp_path / "file" / "jobs")
    [(name, status, found, _)] = await told(host)
    await host.aclose()
    assert (name, status) == ("serial ports", "warn")
    assert found.startswith("could not be looked at: host local: ")


async def test_doctor_has_ports_among_its_checks(tree: UsbTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. As the fronts ask: the host is made here where none is given."""
    path = tree.add("ttyUSB0", "1-1", **CP2102N)
    async with asyncio.timeout(30):
        found = await examine(load_config(os.environ), os.environ, None, None)
    names = [check.name for check in found]
    assert names.index("C compiler") < names.index(path)


async def test_report_has_a_line_a_port(host: Host, tree: UsbTree) -> None:
    """Issue. Ports that are fine come first; that there is none is no news."""
    none = await examine_boards(host, None)
    assert doctor_report(none) == "all is well\nfine: serial ports none connected: no build needs one"

    path = tree.add("ttyUSB0", "1-1", **CP2102N)
    checks = [*await examine_boards(host, None), Check(name="git", status="ok", found="2.39")]
    assert doctor_report(checks) == (
        f"{path}: CP2102N USB to UART (Silicon Labs), serial 8a5f0e6d, cp210x\nall is well\nfine: git 2.39"
    )


@NEEDS_ESPTOOL
async def test_a_board_on_another_host_is_told(tmp_path: Path, tree: UsbTree) -> None:
    """Issue: `host="lab-pi"`. A host behind a command, whose user has an ESP-IDF with esptool."""
    place = tmp_path / "pod" / ".espressif" / "python_env" / "idf6.0_py3.11_env"
    (place / "lib" / "python3" / "site-packages" / "esptool").mkdir(parents=True)
    (place / "bin").mkdir()
    script(place / "bin" / "python", f'exec {sys.executable} "$@"')
    script(tmp_path / "stand-in", 'exec setsid --wait env -i PATH="$PATH" HOME="$POD_HOME" "$@"')
    environment = {"PATH": os.environ["PATH"], "POD_HOME": str(tmp_path / "pod")}
    pod = ExecHost("lab-pi", [str(tmp_path / "stand-in")], environment, str(tmp_path / "jobs"))
    chip = VirtualChip(tmp_path / "flash.bin", faults=["secure-boot"])
    async with asyncio.timeout(25), chip.running() as running:
        [port, board] = await examine_boards(pod, running.port)
    await pod.aclose()
    assert (port.name, port.status) == (running.port, "ok")
    assert (board.found[:19], board.mend) == (
        "ESP32-C3 (QFN32) v0",
        "secure boot is on: only images signed with its key boot",
    )


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_another_hosts_esptool_is_one_that_is_new_enough(tmp_path: Path) -> None:
    """Ours. As for a flash there: an old one is passed over, and named where there is no other."""
    old = tmp_path / ".espressif" / "python_env" / "idf5.1_py3.9_env" / "bin"
    new = tmp_path / ".espressif" / "python_env" / "idf6.0_py3.11_env" / "bin"
    for folder, version in ((old, "4.8.1"), (new, "5.6.0")):
        folder.mkdir(parents=True)
        says = f'[ "$3" != version ] || {{ echo "esptool v{version}"; exit; }}\necho "$0" "$@"'
        script(folder / "python", says)
    argv = ["/bin/sh", "-c", FIND, "sh", "", "--port", "a b", "flash-id"]
    for tool in ("sh", "sed", "ls"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "/missing")
    env = {"HOME": str(tmp_path), "PATH": str(tmp_path)}
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=5).stdout
    assert said == f"{new}/python -m esptool --port a b flash-id\n"

    (new / "python").unlink()
    refused = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=5)
    assert (refused.returncode, refused.stderr) == (
        67,
        "build-orchestrator: esptool 4.8.1 is too old, 5 or newer is needed: pipx install 'esptool>=5'\n",
    )
