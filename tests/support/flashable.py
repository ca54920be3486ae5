"""Build directories that can be flashed: what a build leaves of bootloader, partition table and app."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_server.demo.chip import image
from mcp_server.demo.chip.models import MODELS
from mcp_server.idf.products import collect
from mcp_server.model import Artifact

PROGRAM = b"#!/bin/sh\necho up\nexit 0\n"
"""What the app is: the virtual chip runs it after a reset."""


def program(size: int, seed: int = 1) -> bytes:
    """A script of that many bytes, most of which no compression makes smaller."""
    return PROGRAM + random.Random(seed).randbytes(max(0, size - len(PROGRAM)))


def lay_out(build_dir: Path, *, app: bytes = PROGRAM, chip: str = "esp32c3", **arguments: Any) -> Path:
    """A build directory of three images; `arguments` replace keys of flasher_args.json."""
    model = MODELS[chip]
    files = {
        model.bootloader_offset: ("bootloader", "bootloader/bootloader.bin", image.bootloader(model)),
        0x8000: ("partition-table", "partition_table/partition-table.bin", image.partition_table()),
        0x10000: ("app", "door-lock.bin", image.pack(app, model)),
    }
    for _, path, data in files.values():
        (build_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (build_dir / path).write_bytes(data)
    about = {
        "write_flash_args": ["--flash-mode", "dio", "--flash-size", "2MB", "--flash-freq", "80m"],
        "flash_settings": {"flash_mode": "dio", "flash_size": "2MB", "flash_freq": "80m"},
        "flash_files": {hex(offset): path for offset, (_, path, _) in files.items()},
        **{
            kind: {"offset": hex(offset), "file": path, "encrypted": "false"}
            for offset, (kind, path, _) in files.items()
        },
        "extra_esptool_args": {"after": "hard-reset", "before": "default-reset", "stub": True, "chip": chip},
    }
    (build_dir / "flasher_args.json").write_text(json.dumps(about | arguments))
    description = {"target": chip, "app_bin": "door-lock.bin", "app_elf": "door-lock.elf", "project_name": "door-lock"}
    (build_dir / "project_description.json").write_text(json.dumps(description))
    return build_dir


async def recorded(build_dir: Path) -> Sequence[Artifact]:
    """What the record of a build says of it."""
    return (await collect(build_dir)).artifacts
