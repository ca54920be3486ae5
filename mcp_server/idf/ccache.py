"""ccache, where it is installed: switched on for builds that are configured anew, and its hits counted exactly."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mcp_server.idf.environment import DEFAULT_PATH
from mcp_server.idf.installation import read_text
from mcp_server.idf.project import read_cache

SWITCH: Final = "IDF_CCACHE_ENABLE"
"""What idf.py reads; set to 0 it keeps ccache off here, too."""

STATS: Final = ".ccache-stats.log"
_OFF: Final = ("", "0", "false", "no", "off", "f", "n")
_HITS: Final = ("direct_cache_hit", "preprocessed_cache_hit")


def switch_on(environment: Mapping[str, str], build_dir: Path, *, clean: bool = False) -> dict[str, str]:
    """What to add to a build's environment so that idf.py configures it with ccache; {} where that could do harm.

    A directory that is configured without it stays so: the change would compile everything once more, and so would
    each idf.py by hand after it. Nothing is added where the user decided, or where ccache could not keep anything, as
    then every compile would fail. Reads the disk.
    """
    if SWITCH in environment or "CCACHE_DISABLE" in environment or not _installed(environment):
        return {}
    cache = {} if clean else read_cache(build_dir)
    if cache and cache.get("CCACHE_ENABLE", "").lower() in _OFF:
        return {}
    return {SWITCH: "1"} if _can_keep(environment) else {}


def count_in(environment: Mapping[str, str], build_dir: Path) -> dict[str, str]:
    """What to add to a job's environment so that ccache notes each result in the build directory; an old note goes.

    Of no fingerprint: it changes nothing that is built.
    """
    on = environment.get(SWITCH, "").lower() not in _OFF and _installed(environment)
    if not on or "CCACHE_STATSLOG" in environment:
        return {}
    _forget(build_dir)
    return {"CCACHE_STATSLOG": str(build_dir / STATS)}


def counted(build_dir: Path) -> dict[str, int]:
    """`hits` and `misses` of the job that is over, {} where ccache was asked for nothing; its note is removed."""
    lines = (read_text(build_dir / STATS) or "").splitlines()
    _forget(build_dir)
    found = {"hits": sum(line in _HITS for line in lines), "misses": lines.count("cache_miss")}
    return found if any(found.values()) else {}


def _installed(environment: Mapping[str, str]) -> bool:
    return shutil.which("ccache", path=environment.get("PATH", DEFAULT_PATH)) is not None


def _can_keep(environment: Mapping[str, str]) -> bool:
    """Whether ccache's folder is there, made now if need be as ccache would do, and can be written to."""
    home, given = environment.get("HOME"), environment.get("CCACHE_DIR")
    if not given and not home:
        return False
    folder = Path(given) if given else Path(home or "") / ".cache" / "ccache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _forget(build_dir: Path) -> None:
    with contextlib.suppress(OSError):
        (build_dir / STATS).unlink()
