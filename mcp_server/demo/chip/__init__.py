"""A virtual ESP32: the ROM loader, the flash and the boot of one, on a pty or a TCP port; it says that it is simulated.

It stands in for a board in tests and in the demo. The real esptool detects, writes, verifies, reads and erases it, and
after a reset it prints a boot log and runs what was flashed: a host program in an envelope (`image`), for it cannot
execute the code of a chip.

May import: errors. Never: store, engine, orchestrator, a front.
"""

from mcp_server.demo.chip.client import RunningChip, VirtualChip

__all__ = ["RunningChip", "VirtualChip"]
