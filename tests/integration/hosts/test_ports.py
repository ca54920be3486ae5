"""Serial ports on every make of host: made-up USB trees, real ptys, and real processes that have them open."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput, HostUnreachable
from mcp_server.hosts import ports as module
from mcp_server.hosts.base import Host, JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import find_port, list_ports, look_at_ports
from tests.integration.hosts.conftest import LOCAL, MAKES
from tests.support.usb_tree import UsbTree

CP2102N = {
    "idVendor": "10c4",
    "idProduct": "ea60",
    "serial": "8a5f0e6d9c1ced11b7",
    "manufacturer": "Silicon Labs",
    "product": "CP2102N USB to UART Bridge Controller",
}
JTAG = {"idVendor": "303a", "idProduct": "1001", "serial": "7C:DF:A1:00:11:22", "product": "USB JTAG/serial debug unit"}
CH340 = {"idVendor": "1a86", "idProduct": "7523", "product": "USB2.0-Serial"}
OPENS = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print('up', flush=True); sys.stdin.read()"
WITH_BASH = pytest.mark.parametrize("make", [*MAKES, "bash"], indirect=True)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsbTree]:
    (tmp_path / "tree").mkdir()
    tree = UsbTree(tmp_path / "tree")
    monkeypatch.setattr(module, "ROOTS", tree.roots)
    yield tree
    tree.close()


@asynccontextmanager
async def somebody_has(path: str, **env: str) -> AsyncGenerator[int]:
    """A process of its own with the port open; its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OPENS,
        path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env},
        start_new_session=True,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(5):
            assert await process.stdout.readline() == b"up\n"
        yield process.pid
    finally:
        process.kill()
        await process.communicate(b"")  # both pipes are closed then; who only waits may leave them open behind the loop


@WITH_BASH
async def test_what_the_kernel_knows_of_a_board_is_told(host: Host, tree: UsbTree) -> None:
    """Issue. A converter and a chip with a port of its own, which sysfs shows differently."""
    uart, own = tree.add("ttyUSB0", "1-1", **CP2102N), tree.add("ttyACM0", "1-2", driver="cdc_acm", **JTAG)
    async with asyncio.timeout(10):
        found = await list_ports(host)
    assert [port.path for port in found] == [own, uart]
    assert found[0].text == "Espressif USB JTAG/serial"
    assert found[0].key == "303a-1001-7c-df-a1-00-11-22"
    assert (found[0].vid, found[0].pid, found[0].serial, found[0].driver) == ("303a", "1001", JTAG["serial"], "cdc_acm")
    assert found[1].text == "CP2102N USB to UART (Silicon Labs)"
    assert (found[1].key, found[1].driver) == ("10c4-ea60-8a5f0e6d9c1ced11b7", "cp210x")
    assert found[1].stable == f"{tree.dev}/serial/by-id/usb-8a5f0e6d9c1ced11b7-if00"
    assert found[1].accessible
    assert found[1].group


async def test_nothing_connected_is_no_port(host: Host, tree: UsbTree) -> None:
    """Issue. Consoles and files with such a name are no boards either."""
    (tree.dev / "ttyUSB7").write_text("")
    (tree.dev / "ttyS0").symlink_to(tree.pty())
    async with asyncio.timeout(10):
        assert await list_ports(host) == ()


@WITH_BASH
async def test_who_has_a_port_open_is_named_with_its_job(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Issue. Our own end of the pty, which the maker of a virtual board keeps, holds nothing."""
    mine, other = tree.add("ttyUSB0", "1-1", **CP2102N), tree.add("ttyUSB1", "1-2", **CH340)
    job = f"{tmp_path}/jobs/0123abcd/s-7-monitor-1-1"
    async with asyncio.timeout(10), somebody_has(mine) as stranger, somebody_has(other, BO_JOB=job) as ours:
        found = {port.path: port for port in await list_ports(host)}
    assert [(holder.pid, holder.job) for holder in found[mine].holders] == [(stranger, None)]
    assert [(holder.pid, holder.job) for holder in found[other].holders] == [(ours, "s-7-monitor-1-1")]
    assert found[mine].holders[0].command.startswith(f"{sys.executable} -c import os, sys; f = os.open(")
    assert len(found[mine].holders[0].command) == 100
    assert found[mine].unseen is (os.getuid() != 0)


async def test_a_job_that_has_a_port_open_is_found_by_its_id(
    host: Host, tree: UsbTree, sh: Callable[..., JobSpec], gate: Any
) -> None:
    """Issue. What a monitor's or a flash's job has open."""
    path, up = tree.add("ttyUSB0", **CP2102N), gate()
    async with asyncio.timeout(10):
        await host.start(sh("watch", 'exec 5<>"$1"; echo up >"$2"; sleep 3000', path, up.path))
        await up.line()
        found = await find_port(host, path)
    assert {holder.job for holder in found.holders} == {"watch"}


async def test_names_with_odd_characters_are_names(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Ours. Nothing of a device or a link is run or splits a line."""
    odd = {**CP2102N, "serial": "a b;$(touch x)'\\n\"", "product": "\x1b[31mRed\tlamp `id`", "idVendor": "dead"}
    tree.add("ttyUSB0", **odd)
    link = tmp_path / "my board; $(touch x) 'ü' \\n"
    link.symlink_to(tree.pty())
    async with asyncio.timeout(10):
        port = await find_port(host, str(link))
        [listed] = await list_ports(host)
    assert listed.serial == odd["serial"]
    assert listed.text == "Silicon Labs [31mRed lamp `id`"
    assert listed.key == "dead-ea60-a_b___touch_x___n_"
    assert (port.path, port.text) == (str(link), "pseudo terminal: a virtual board")
    assert port.key == "pts-" + link.readlink().name


async def test_a_port_is_found_by_each_of_its_names(host: Host, tree: UsbTree) -> None:
    """Ours. Path, name, key, serial number and the link of udev mean the same board, under one key."""
    path, _ = tree.add("ttyUSB0", "1-1", **CP2102N), tree.add("ttyUSB1", "1-2", **CH340)
    by_id = f"{tree.dev}/serial/by-id/usb-{CP2102N['serial']}-if00"
    async with asyncio.timeout(20):
        found = [await find_port(host, name) for name in (path, "ttyUSB0", CP2102N["serial"], by_id)]
        found.append(await find_port(host, found[0].key))
    assert {(port.path, port.key) for port in found} == {(path, "10c4-ea60-8a5f0e6d9c1ced11b7")}


async def test_what_cannot_be_chosen_is_one_clear_sentence(host: Host, tree: UsbTree, tmp_path: Path) -> None:
    """Issue: none, two and none named, not there, a file, a folder, a link to nothing, no path, a strange device."""
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    sentences = {
        None: f"port: no board is connected to {host.name} \\(no ttyUSB, no ttyACM\\): plug it in with a cable that",
        "/dev/ttyUSB7x": f"port: /dev/ttyUSB7x is not there on {host.name}; connected: none",
        f"{tmp_path}/file": "/file is a file, no serial port on ",
        f"{tmp_path}": " is a folder, no serial port on ",
        f"{tmp_path}/gone": "/gone is a link to nothing: its device is unplugged on ",
        "/dev/null": "/dev/null is no serial port on ",
        "some/port": "'some/port' is no path such as /dev/ttyUSB0",
        "/dev/a\nb": "is no path such as",
        "": "port: no board",
    }
    async with asyncio.timeout(30):
        for wanted, sentence in sentences.items():
            with pytest.raises(BadInput, match=sentence):
                await find_port(host, wanted)
        first, second = tree.add("ttyUSB0", "1-1", **CP2102N), tree.add("ttyACM0", "1-2", driver="cdc_acm", **JTAG)
        with pytest.raises(BadInput) as error:
            await find_port(host, None)
    assert str(error.value) == (
        f"port: 2 boards are connected to {host.name}, so one must be named: "
        f"{second} (Espressif USB JTAG/serial, serial 7C:DF:A1:00:11:22); "
        f"{first} (CP2102N USB to UART (Silicon Labs), serial 8a5f0e6d9c1ced11b7)"
    )


async def test_the_only_board_needs_no_name(host: Host, tree: UsbTree) -> None:
    """Issue. A modem beside it is no board."""
    tree.add("ttyUSB0", "1-1", driver="option", idVendor="1199", idProduct="9071")
    path = tree.add("ttyUSB1", "1-2", **CH340)
    async with asyncio.timeout(10):
        assert (await find_port(host, None)).path == path


async def test_boards_that_share_a_serial_number_are_kept_apart(host: Host, tree: UsbTree) -> None:
    """Issue. One alone already has the key that it has beside the other, so plugging that in changes nothing."""
    cheap = {**CP2102N, "serial": "0001"}
    tree.add("ttyUSB0", "1-1", **cheap)
    async with asyncio.timeout(10):
        [alone] = await list_ports(host)
        tree.add("ttyUSB1", "1-2", **cheap)
        both = await list_ports(host)
    assert both[0].key == alone.key == "10c4-ea60-0001-pci-0000-00-14.0-usb-0-1-1.0-port0"
    assert both[1].key == "10c4-ea60-0001-pci-0000-00-14.0-usb-0-2-1.0-port0"


async def test_a_device_with_two_ports_has_two_keys(host: Host, tree: UsbTree) -> None:
    """Ours. FT2232: the same serial number, two interfaces."""
    ftdi = {"idVendor": "0403", "idProduct": "6010", "serial": "FT4X7Z2K", "product": "Dual RS232-HS"}
    tree.add("ttyUSB0", "1-1", driver="ftdi_sio", **ftdi)
    tree.add("ttyUSB1", "1-1", driver="ftdi_sio", interface="01", **ftdi)
    async with asyncio.timeout(10):
        found = await list_ports(host)
    assert [port.key for port in found] == ["0403-6010-ft4x7z2k", "0403-6010-ft4x7z2k-if01"]


async def test_without_serial_number_and_udev_the_socket_is_the_identity(host: Host, tree: UsbTree) -> None:
    """Ours. A container has no /dev/serial."""
    tree.udev = False
    tree.add("ttyUSB3", "1-1.4", **CH340)
    async with asyncio.timeout(10):
        [port] = await list_ports(host)
    assert (port.key, port.stable, port.text) == ("1-1.4-1.0", None, "CH340 USB to UART (WCH)")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_no_permission_names_group_and_command(host: Host, jobs_dir: Path, tmp_path: Path, tree: UsbTree) -> None:
    """Issue. The script runs as a user whom the device does not know."""
    path = tree.add("ttyUSB0", **CP2102N)
    Path(path).readlink().chmod(0o660)
    shutil.chown(Path(path).readlink(), "root", "dialout")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").write_text('#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups sh "$@"\n')
    (folder / "sh").chmod(0o755)
    await host.status("a")  # the folder, before somebody else wants to read it
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == os.getuid() and each not in (Path("/"), Path("/tmp")):
            each.chmod(0o755)
    nobody = LocalHost(jobs_dir, shell=[str(folder / "sh")])
    jobs_dir.chmod(0o755)
    script = jobs_dir / module.PORTS.name
    script.write_bytes(module.PORTS.text)
    script.chmod(0o644)
    async with asyncio.timeout(10):
        look = await look_at_ports(nobody)
        with pytest.raises(BadInput) as error:
            await find_port(nobody, None)
    await nobody.aclose()
    assert look.ports[0].unseen
    assert not look.ports[0].accessible
    assert str(error.value) == (
        f"port: user nobody may not open {path} (group dialout): sudo usermod -aG dialout $USER, then log in again"
    )


async def test_a_console_is_no_board(host: Host, tree: UsbTree) -> None:
    """Ours. Flashing one's own screen is a mistake of one letter."""
    for name in ("tty1", "console"):
        (tree.sys / "class" / "tty" / name).mkdir()
        (tree.dev / name).symlink_to(tree.pty())
        with pytest.raises(BadInput, match="is a console of this machine"):
            await find_port(host, name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make device nodes")
@pytest.mark.parametrize("make", LOCAL, indirect=True)
async def test_looking_at_twenty_ports_is_quick(host: Host, tree: UsbTree) -> None:
    """Ours: 50 ms; one look in twice that, as others may be at work here."""
    for number in range(20):
        tree.node(tree.add(f"ttyUSB{number}", f"1-{number + 1}", **CP2102N), number)
    took: list[float] = []
    while not took or (min(took) > 0.1 and len(took) < 40):
        began = time.monotonic()
        assert len(await list_ports(host)) == 20
        took.append(time.monotonic() - began)
    assert min(took) < 0.1, took


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_a_host_that_hangs_is_unreachable(
    host: Host, jobs_dir: Path, tmp_path: Path, tree: UsbTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: a stuck /proc or USB stack is waited for no longer than that."""
    tree.add("ttyUSB0", **CH340)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ls").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "ls").chmod(0o755)
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    stuck = LocalHost(jobs_dir, path=f"{folder}:{os.environ['PATH']}")
    with pytest.raises(HostUnreachable, match="says nothing of its serial ports within"):
        await list_ports(stuck)
    await stuck.aclose()


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_ioreg_and_lsof_stand_in_for_sysfs_and_proc(
    host: Host, jobs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Their made-up output; no real macOS was at hand."""
    folder, dev = tmp_path / "bin", tmp_path / "dev"
    folder.mkdir()
    dev.mkdir()
    master, slave = os.openpty()
    port = dev / "cu.usbserial-0001"
    port.symlink_to(os.ttyname(slave))
    ioreg = f"""+-o CP2102N@14100000  <class IOUSBHostDevice, id 0x1>
    |   "idProduct" = 60000
    |   "idVendor" = 4292
    |   "USB Serial Number" = "0001"
    |   "USB Product Name" = "CP2102N USB to UART Bridge Controller"
    +-o IOSerialBSDClient
        "IOCalloutDevice" = "{port}"
"""
    (folder / "ioreg").write_text(f"#!/bin/sh\ncat <<'E'\n{ioreg}E\n")
    (folder / "lsof").write_text(f"#!/bin/sh\nprintf 'p{os.getpid()}\\nn%s\\n' {os.ttyname(slave)}\n")
    for tool in folder.iterdir():
        tool.chmod(0o755)
    monkeypatch.setattr(module, "ROOTS", ("/absent", str(dev), "/absent"))
    mac = LocalHost(jobs_dir, path=f"{folder}:{os.environ['PATH']}")
    async with asyncio.timeout(10):
        [found] = await list_ports(mac)
    await mac.aclose()
    os.close(master)
    os.close(slave)
    assert (found.path, found.text) == (str(port), "CP2102N USB to UART (Silicon Labs)")
    assert [holder.pid for holder in found.holders] == [os.getpid()]
