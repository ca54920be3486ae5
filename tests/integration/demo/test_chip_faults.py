"""What goes wrong between the real esptool and the virtual chip: loader, line, port, an esptool that is killed."""

import asyncio
import random
from pathlib import Path

import pytest

from mcp_server.demo.chip import RunningChip
from tests.support.chip import ECHO, chip, esptool, write_images

# pyserial's own client starts a thread in a way that Python has deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"), pytest.mark.timeout(30)]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def written(board: RunningChip, start: bytes) -> None:
    """Until the flash begins so."""
    async with asyncio.timeout(10):
        while board.flash[: len(start)] != start:  # noqa: ASYNC110  # a file tells nobody that it has grown
            await asyncio.sleep(0.01)


async def test_stub_that_never_starts(tmp_path: Path) -> None:
    """Issue. esptool waits for it without end; without the stub it works."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["stub-silent"]).running() as board:
        with pytest.raises(TimeoutError):
            await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"), timeout_s=2.5)
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert without.code == 0, without.output


async def test_stub_that_is_broken(tmp_path: Path) -> None:
    """Issue. With the stub it fails at once, without it works."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["stub-broken"]).running() as board:
        with_stub = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert "Failed to start stub flasher. Unexpected response: b'OH NO'" in with_stub.output
        assert with_stub.code != 0
        assert without.code == 0, without.output


async def test_stub_that_fails_in_mid_write(tmp_path: Path) -> None:
    """Issue. What was written before stays; without the stub it works."""
    data = noise(100_000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["stub-write-fails=50000"]).running() as board:
        with_stub = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))
        partly = board.flash
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert with_stub.code != 0
        assert "Failed to write to target flash after seq 3" in with_stub.output
        assert partly[:40_000] == data[:40_000]
        assert partly[60_000:100_000] == b"\xff" * 40_000
        assert without.code == 0, without.output
        assert board.flash[: len(data)] == data


async def test_verification_of_one_image_fails(tmp_path: Path) -> None:
    """Issue. The second of three."""
    async with chip(tmp_path, faults=["md5-mismatch=1"]).running() as board:
        run = await esptool(board.port, "write-flash", *write_images(tmp_path, ECHO))

        assert run.code != 0
        assert "MD5 of file does not match data in flash!" in run.output
        assert run.output.count("Hash of data verified.") == 1


async def test_port_that_vanishes_comes_back_under_its_link(tmp_path: Path) -> None:
    """Issue. esptool finds itself without a port; the link is gone and then there again, for a whole flash."""
    data = noise(60_000)
    (tmp_path / "data").write_bytes(data)
    link = tmp_path / "port"
    async with chip(tmp_path, link=link, faults=["vanish=20000,0.3"]).running() as board:
        first = await esptool(str(link), "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))
        await board.wait_for("gone")
        await board.wait_for("port", 2)

        assert first.code != 0 or "Lost connection, retrying" in first.output
        assert link.exists()
        assert str(link.readlink()) == board.port
        assert board.flash[:20_000] == data[:20_000]
        second = await esptool(str(link), "read-flash", "0", "16", str(tmp_path / "read"))
        assert second.code == 0, second.output


async def test_silent_chip_and_garbled_line(tmp_path: Path) -> None:
    """Issue. esptool says of the one that nothing came, of the other that it was noise."""
    once = ("--connect-attempts", "1", "flash-id")
    async with chip(tmp_path, faults=["silent"]).running() as board:
        silent = await esptool(board.port, *once)
    async with chip(tmp_path, faults=["garbage"]).running() as board:
        garbled = await esptool(board.port, *once)

    assert "No serial data received" in silent.output
    assert "Possible serial noise or corruption" in garbled.output
    assert 0 not in (silent.code, garbled.code)


async def test_secured_chips_say_so(tmp_path: Path) -> None:
    """Issue. Secure boot and flash encryption, in the security info and in what esptool then refuses."""
    (tmp_path / "data").write_bytes(noise(1000))
    async with chip(tmp_path, faults=["secure-boot", "flash-encryption=release"]).running() as board:
        info = await esptool(board.port, "get-security-info")
        written = await esptool(board.port, "write-flash", "0x10000", str(tmp_path / "data"))
        erased = await esptool(board.port, "--no-stub", "erase-region", "0", "0x1000")

        assert "Secure Boot: Enabled" in info.output
        assert "Flash Encryption: Enabled" in info.output
        assert "Flashing plaintext data may brick your device!" in written.output
        assert "Active security features detected" in erased.output
        assert 0 not in (written.code, erased.code)


async def test_secure_download_mode(tmp_path: Path) -> None:
    """Ours. No stub, no registers; flashing goes on without verification."""
    data = noise(3000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["secure-download"]).running() as board:
        run = await esptool(board.port, "write-flash", "--flash-size", "4MB", "0x10000", str(tmp_path / "data"))

        assert run.code == 0, run.output
        assert "Secure Download Mode" in run.output
        assert board.flash[0x10000 : 0x10000 + len(data)] == data


async def test_slow_line_takes_its_time(tmp_path: Path) -> None:
    """Issue. 10 kB at 115200 bit/s are most of a second."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["slow=115200"]).running() as board:
        loop = asyncio.get_running_loop()
        began = loop.time()
        run = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert run.code == 0, run.output
        assert loop.time() - began > 10_000 * 10 / 115200


async def test_killed_in_mid_write_the_next_one_goes_on_with_the_flash(tmp_path: Path) -> None:
    """Issue. SIGKILL: what was written is in the file, the rest is not, and the same file serves the next chip."""
    data = noise(300_000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["slow=1500000"]).running() as board:
        flashing = asyncio.create_task(esptool(board.port, "write-flash", "0x0", str(tmp_path / "data")))
        await board.wait_for("stub")
        await written(board, data[:32_000])
        board.kill()
        flashing.cancel()  # it would look for the port for seven seconds
        await asyncio.wait([flashing])

        assert board.flash[:32_000] == data[:32_000]
        assert board.flash[:300_000] != data
    async with chip(tmp_path).running() as board:
        again = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))

        assert again.code == 0, again.output
        assert board.flash[:300_000] == data
