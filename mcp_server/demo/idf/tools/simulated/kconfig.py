"""sdkconfig and what is made from it. There is no Kconfig here: a handful of options with fixed defaults."""

import json
import re
from pathlib import Path

from .place import version

Value = bool | int | str

DEFAULTS: dict[str, Value] = {
    "IDF_CMAKE": True,
    "IDF_TARGET_ARCH": "",
    "IDF_INIT_VERSION": "",
    "COMPILER_OPTIMIZATION_DEBUG": True,
    "FREERTOS_HZ": 100,
    "LOG_DEFAULT_LEVEL": 3,
    "BUILD_ORCHESTRATOR_DEMO": True,
}

_LINE = re.compile(r'CONFIG_(\w+)=(?:(y)|"(.*)"|(-?\d+|0x[0-9a-fA-F]+))')
_UNSET = re.compile(r"# CONFIG_(\w+) is not set")


def read(path: Path) -> dict[str, Value]:
    """The options in a file; empty where it is not there. Lines in another form are left out."""
    values: dict[str, Value] = {}
    if not path.is_file():
        return values
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _LINE.fullmatch(line.strip()):
            values[match[1]] = True if match[2] else match[3] if match[3] is not None else int(match[4], 0)
        elif match := _UNSET.fullmatch(line.strip()):
            values[match[1]] = False
    return values


def target(path: Path) -> str | None:
    """CONFIG_IDF_TARGET of a file, where it says one."""
    value = read(path).get("IDF_TARGET")
    return value if isinstance(value, str) else None


def write(project_dir: Path, build_dir: Path, target: str) -> dict[str, Value]:
    """Bring sdkconfig, config/sdkconfig.h and config/sdkconfig.json up to date; the options. `target` is as decided."""
    values = DEFAULTS | {"IDF_INIT_VERSION": version()}
    values |= read(project_dir / "sdkconfig.defaults") | read(project_dir / "sdkconfig")
    values |= {"IDF_TARGET": target, f"IDF_TARGET_{target.upper()}": True}
    head = (
        f"#\n# Automatically generated file. DO NOT EDIT.\n# Simulated ESP-IDF {version()} Project Configuration\n#\n"
    )
    _replace(project_dir / "sdkconfig", head + "".join(_sdkconfig_line(name, value) for name, value in values.items()))
    (build_dir / "config").mkdir(exist_ok=True)
    header = "/* Automatically generated file. DO NOT EDIT. */\n#pragma once\n"
    header += "".join(_define(name, value) for name, value in values.items() if value is not False)
    _replace(build_dir / "config/sdkconfig.h", header)
    _replace(build_dir / "config/sdkconfig.json", json.dumps(values, indent=4, sort_keys=True))
    return values


def _sdkconfig_line(name: str, value: Value) -> str:
    if value is False:
        return f"# CONFIG_{name} is not set\n"
    return f"CONFIG_{name}=" + ("y" if value is True else f'"{value}"' if isinstance(value, str) else str(value)) + "\n"


def _define(name: str, value: Value) -> str:
    return f"#define CONFIG_{name} " + (f'"{value}"' if isinstance(value, str) else str(int(value))) + "\n"


def _replace(path: Path, text: str) -> None:
    # An unchanged file keeps its time: nothing that includes it is compiled again.
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        path.write_text(text, encoding="utf-8")
