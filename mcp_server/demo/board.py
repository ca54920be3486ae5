"""Makes what is flashed to the demo's board: `python -m mcp_server.demo.board BUILD_DIR` writes `BUILD_DIR/board`.

The firmware of the demo is a program of this machine. It goes into the envelope that the virtual chip runs; beside it
lie a bootloader without code and a real partition table, named by a flasher_args.json as ESP-IDF would write it.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_server.demo.chip import image
from mcp_server.demo.chip.models import MODELS
from mcp_server.errors import BadInput, OrchestratorError

CHIP = "esp32c3"
FOLDER = "board"
TABLE_OFFSET, APP_OFFSET = 0x8000, 0x10000


def make(build_dir: Path) -> Path:
    """The folder with the images of the program that the build in `build_dir` left. BadInput: it left none."""
    about = _object(build_dir / "project_description.json")
    elf, name = build_dir / str(about.get("app_elf")), str(about.get("project_name") or "app")
    try:
        program = elf.read_bytes()
    except OSError as error:
        raise BadInput("BUILD_DIR", f"{elf} cannot be read: {error.strerror}") from None
    model, folder = MODELS[CHIP], build_dir / FOLDER
    images = {
        model.bootloader_offset: ("bootloader", "bootloader.bin", image.bootloader(model)),
        TABLE_OFFSET: ("partition-table", "partition-table.bin", image.partition_table()),
        APP_OFFSET: ("app", f"{name}.bin", image.pack(program, model)),
    }
    folder.mkdir(exist_ok=True)
    for _, path, data in (*images.values(), ("elf", elf.name, program)):
        (folder / path).write_bytes(data)
    arguments: dict[str, Any] = {
        "write_flash_args": ["--flash-mode", "dio", "--flash-size", "2MB", "--flash-freq", "80m"],
        "flash_settings": {"flash_mode": "dio", "flash_size": "2MB", "flash_freq": "80m"},
        "flash_files": {hex(offset): path for offset, (_, path, _) in images.items()},
        "extra_esptool_args": {"after": "hard-reset", "before": "default-reset", "stub": True, "chip": CHIP},
    }
    arguments |= {
        kind: {"offset": hex(offset), "file": path, "encrypted": "false"} for offset, (kind, path, _) in images.items()
    }
    described = {"target": CHIP, "project_name": name, "app_bin": f"{name}.bin", "app_elf": elf.name}
    (folder / "flasher_args.json").write_text(json.dumps(arguments, indent=2))
    (folder / "project_description.json").write_text(json.dumps(described, indent=2))
    return folder


def _object(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadInput("BUILD_DIR", f"{path} tells of no program: build first") from None
    return found


def main(argv: Sequence[str]) -> int:
    """Says what was made, and that it is simulated."""
    try:
        folder = make(Path(argv[0]))
    except (OrchestratorError, IndexError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in sorted(folder.glob("*.bin")):
        sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
    sys.stdout.write("simulated: an image for the virtual chip, with a program of this machine in it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
