"""The files that a build left, found again: still the bytes that it recorded, and nothing beside them.

May import: errors, model, views. Never: store, engine, hosts, a front.
"""

import hashlib
import os
import stat
from pathlib import Path

from mcp_server.errors import NotFound
from mcp_server.model import Artifact
from mcp_server.views import BuildView

_CHUNK = 1 << 20


def artifact_file(view: BuildView, path: str) -> Path:
    """The file of an artifact by its recorded path, or `stage/path`. NotFound: none such, gone or changed. Reads it.

    Only a recorded path is ever looked for, so no path of the caller's leads anywhere else.
    """
    build, named = view.build, path[:200]
    found = [
        (row.stage, artifact)
        for row in view.stages
        if row.verdict
        for artifact in row.verdict.artifacts
        if path in (artifact.path, f"{row.stage}/{artifact.path}")
    ]
    if not found:
        raise NotFound(f"build {build.id} left no file {named!r}")
    stage, artifact = found[-1]
    if build.artifacts_path is None:
        raise NotFound(f"build {build.id} is {build.status}: its files are not in their place yet")
    root = Path(build.artifacts_path)
    for place in (root / stage / artifact.path, root / artifact.path):
        if _is(place, root, artifact):
            return place
    raise NotFound(f"{named!r} of build {build.id} is gone, or was changed since: {root}")


def _is(place: Path, root: Path, artifact: Artifact) -> bool:
    """Whether this is the recorded file: no link out of `root`, and the same content."""
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root)):
        return False
    try:
        with place.open("rb", buffering=0) as opened:
            facts = os.fstat(opened.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != artifact.size:
                return False
            digest = hashlib.sha256()
            while piece := opened.read(_CHUNK):
                digest.update(piece)
    except OSError:
        return False
    return digest.hexdigest() == artifact.sha256
