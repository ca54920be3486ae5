"""The seed's three servers as command channels of this machine; `yocto` makes commands of tasks, the others do not."""

import json
from pathlib import Path


def write_config(home: Path, folder: Path) -> None:
    """HOME/config.yaml with yocto-builder, ccu2-builder and test-runner, each with a folder of its own in `folder`."""
    servers: dict[str, dict[str, object]] = {}
    for name, alias in (("yocto-builder", "yocto"), ("ccu2-builder", "host"), ("test-runner", "test")):
        place = folder / name
        place.mkdir(parents=True)
        servers[name] = {"exec": ["env", f"HOME={place}"], "alias": alias, "workdir": str(place)}
        servers[name]["jobs_dir"] = str(place / "jobs")
    servers["yocto-builder"]["build"] = "echo made {task}"
    (home / "config.yaml").write_text(json.dumps({"servers": servers}))  # JSON is YAML
