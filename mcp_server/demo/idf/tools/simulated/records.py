"""The files that tell other tools about a build: project_description.json, flasher_args.json, flash_args."""

import json
from typing import Any

from .cmakelists import Component
from .components import COMMON
from .ninja_file import FLASHED_BESIDE, Plan, library
from .place import CHIP, IDF_PATH, version

# The demo's virtual chip is an ESP32-C3; the offset is where ESP-IDF puts an app by default.
FLASH = {"--flash-mode": "dio", "--flash-size": "2MB", "--flash-freq": "80m"}
APP_OFFSET = "0x10000"


def _component_info(plan: Plan, component: Component) -> dict[str, Any]:
    return {
        "alias": f"idf::{component.name}",
        "target": f"___idf_{component.name}",
        "prefix": "idf",
        "dir": str(component.folder),
        "type": "LIBRARY" if component.items("SRCS") else "CONFIG_ONLY",
        "lib": f"__idf_{component.name}",
        "reqs": component.items("REQUIRES"),
        "priv_reqs": component.items("PRIV_REQUIRES"),
        "managed_reqs": [],
        "managed_priv_reqs": [],
        "file": str(plan.build_dir / library(component)) if component.items("SRCS") else "",
        "sources": [str(source) for source in component.sources],
        "include_dirs": component.items("INCLUDE_DIRS"),
    }


def write(plan: Plan) -> None:
    """All three; for the linux target no bootloader and no partition table, as there."""
    build, files = plan.build_dir, {APP_OFFSET: f"{plan.name}.bin"}
    if plan.target == CHIP:
        files = {offset: path for path, offset in FLASHED_BESIDE.items()} | files
    flash_args = " ".join(f"{name} {value}" for name, value in FLASH.items())
    flash_args += "".join(f"\n{offset} {path}" for offset, path in files.items()) + "\n"
    (build / "project_description.json").write_text(json.dumps(_description(plan), indent=4), encoding="utf-8")
    (build / "flasher_args.json").write_text(json.dumps(_flasher_args(files), indent=4), encoding="utf-8")
    (build / "flash_args").write_text(flash_args, encoding="utf-8")


def _flasher_args(files: dict[str, str]) -> dict[str, Any]:
    kinds = {"bootloader": "0x0", "partition-table": "0x8000", "app": APP_OFFSET}
    return {
        "write_flash_args": [part for pair in FLASH.items() for part in pair],
        "flash_settings": {name.removeprefix("--").replace("-", "_"): value for name, value in FLASH.items()},
        "flash_files": files,
        **{
            kind: {"offset": offset, "file": files[offset], "encrypted": "false"}
            for kind, offset in kinds.items()
            if offset in files
        },
        "extra_esptool_args": {"after": "hard-reset", "before": "default-reset", "stub": True, "chip": CHIP},
    }


def _description(plan: Plan) -> dict[str, Any]:
    return {
        "version": "1.3",
        "project_name": plan.name,
        "project_version": "1",
        "project_path": str(plan.project_dir),
        "idf_path": str(IDF_PATH),
        "build_dir": str(plan.build_dir),
        "config_file": str(plan.project_dir / "sdkconfig"),
        "config_defaults": "",
        "bootloader_elf": "",
        "app_elf": f"{plan.name}.elf",
        "app_bin": f"{plan.name}.bin",
        "build_type": "ram_app" if plan.target == "linux" else "flash_app",
        "git_revision": f"v{version()}",
        "target": plan.target,
        "rev": "",
        "min_rev": "0",
        "max_rev": "999",
        "phy_data_partition": "",
        "monitor_baud": "",
        "monitor_toolprefix": "",
        "c_compiler": plan.compiler,
        "config_environment": {"COMPONENT_KCONFIGS": "", "COMPONENT_KCONFIGS_PROJBUILD": ""},
        "common_component_reqs": list(COMMON),
        "build_components": [component.name for component in plan.components] + [""],
        "build_component_paths": [str(component.folder) for component in plan.components] + [""],
        "build_component_info": {component.name: _component_info(plan, component) for component in plan.components},
        "simulated": True,
    }
