"""Makes what the virtual chip is flashed with: `simulated_image.py PROGRAM APP BOOTLOADER TABLE`, the last three new.

The image of the app is this machine's program in an envelope; the bootloader has no code. Nothing else can run them.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the installation may belong to another user

from simulated.place import CHIP, IDF_PATH, complain  # noqa: E402

if (IDF_PATH.parent / "chip").is_dir():  # not so in a copy, which the running Python may serve all the same
    sys.path.insert(1, str(IDF_PATH.parents[2]))


def main() -> int:
    try:
        from mcp_server.demo.chip import image  # noqa: PLC0415
        from mcp_server.demo.chip.models import MODELS  # noqa: PLC0415
    except ImportError:
        complain(f"{sys.executable} has no build-orchestrator, so there is no virtual chip: build for target linux")
        return 1
    program, app, loader, table = map(Path, sys.argv[1:])
    app.write_bytes(image.pack(program.read_bytes(), MODELS[CHIP]))
    loader.write_bytes(image.bootloader(MODELS[CHIP]))
    table.write_bytes(image.partition_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
