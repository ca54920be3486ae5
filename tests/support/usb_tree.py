"""Made-up sysfs, /dev and /proc as the kernel lays them out: each port is a link to a real pty, so it can be opened."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class UsbTree:
    """`roots` are what the script of hosts/ports.py is told instead of /sys, /dev and /proc."""

    folder: Path
    udev: bool = True
    """False: no links below /dev/serial, as in a container."""
    ptys: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        (self.sys / "class" / "tty").mkdir(parents=True)
        self.dev.mkdir()

    @property
    def sys(self) -> Path:
        return self.folder / "sys"

    @property
    def dev(self) -> Path:
        return self.folder / "dev"

    @property
    def roots(self) -> tuple[str, str, str]:
        return str(self.sys), str(self.dev), "/proc"

    def pty(self) -> str:
        """A new pty: the path of its end for programs; the other is kept open here."""
        self.ptys.append(os.openpty())
        return os.ttyname(self.ptys[-1][1])

    def add(
        self,
        name: str,
        place: str = "1-1",
        *,
        driver: str = "cp210x",
        interface: str = "00",
        **device: str,
    ) -> str:
        """A USB port `name` on the device at `place`, whose files (idVendor, serial, …) are `device`; its path."""
        usb = self.sys / "devices" / "pci0" / "usb1" / place
        line = usb / f"{place}:1.{int(interface)}"
        line.mkdir(parents=True)
        for file, text in device.items():
            (usb / file).write_text(text + "\n")
        (line / "bInterfaceNumber").write_text(interface + "\n")
        holder = line
        if name.startswith("ttyUSB"):
            holder = line / name
            (holder / "tty").mkdir(parents=True)
            (holder / "port_number").write_text("0\n")
            self._driver(holder, f"usb-serial/drivers/{driver}-line")
        self._driver(line, f"usb/drivers/{driver}")
        self._driver(usb, "usb/drivers/usb")
        (self.sys / "class" / "tty" / name).mkdir()
        (self.sys / "class" / "tty" / name / "device").symlink_to(holder)
        path = self.dev / name
        path.symlink_to(self.pty())
        if self.udev and "serial" in device:
            self._link("by-id", f"usb-{device['serial'].replace(' ', '_')}-if{interface}", name)
        if self.udev:
            self._link("by-path", f"pci-0000:00:14.0-usb-0:{place[2:]}:1.{int(interface)}-port0", name)
        return str(path)

    def node(self, path: str, number: int) -> None:
        """Put a device node in place of a port's pty; only root can, and nothing may open it."""
        Path(path).unlink()
        os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(188, number))

    def close(self) -> None:
        for pair in self.ptys:
            for descriptor in pair:
                os.close(descriptor)

    def _driver(self, of: Path, name: str) -> None:
        (self.sys / "bus" / name).mkdir(parents=True, exist_ok=True)
        if not (of / "driver").exists():
            (of / "driver").symlink_to(self.sys / "bus" / name)

    def _link(self, folder: str, link: str, name: str) -> None:
        (self.dev / "serial" / folder).mkdir(parents=True, exist_ok=True)
        if not (self.dev / "serial" / folder / link).is_symlink():  # of two with the same name udev keeps one
            (self.dev / "serial" / folder / link).symlink_to(f"../../{name}")
