"""Whether what a build left still lies in its directory, byte for byte."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mcp_server.idf.installation import open_file, stamp
from mcp_server.model import Artifact

CHUNK_BYTES = 1024 * 1024


def artifact_of(artifacts: Iterable[Artifact], kind: str) -> Artifact | None:
    """The first artifact of a kind (`app`, `elf`, `map`, `partition-table` …); None where the build left none."""
    return next((one for one in artifacts if one.kind == kind), None)


def unchanged(build_dir: Path, artifact: Artifact) -> str:
    """The file's stamp if it is the one that was recorded, else "". Reads all of it only where its size fits."""
    path = build_dir / artifact.path
    now = stamp(path)
    if now.partition(":")[0] != str(artifact.size):
        return ""
    try:
        digest = hashlib.sha256()
        with open_file(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return ""
    return now if digest.hexdigest() == artifact.sha256 and stamp(path) == now else ""
