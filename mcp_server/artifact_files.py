"""The files that a build left, found again: still the bytes that it recorded, and nothing beside them.

May import: errors, model, views. Never: store, engine, hosts, a front.
"""

import hashlib
import os
import stat
from pathlib import Path

from mcp_server.errors import BadInput, NotFound
from mcp_server.model import Artifact
from mcp_server.views import BuildView

_CHUNK = 1 << 20


def artifact_file(view: BuildView, path: str) -> Path:
    """The file of an artifact by its recorded path, or `stage/path`. NotFound: none such, gone or changed. Reads it.

    Only a recorded path is ever looked for, so no path of the caller's leads anywhere else.
    """
    stage, artifact = recorded(view, path)
    build, named = view.build, path[:200]
    if build.artifacts_path is None:
        raise NotFound(f"build {build.id} is {build.status}: its files are not in their place yet")
    root = Path(build.artifacts_path)
    for place in (root / stage / artifact.path, root / artifact.path):
        if _is(place, root, artifact):
            return place
    raise NotFound(f"{named!r} of build {build.id} is gone, or was changed since: {root}")


def artifact_bytes(view: BuildView, path: str, most: int) -> bytes:
    """What an artifact holds. BadInput: it has more than `most` bytes; NotFound: as `artifact_file`. Reads it."""
    _, artifact = recorded(view, path)
    if artifact.size > most:
        raise BadInput("path", f"{path[:200]!r} has {artifact.size:,} bytes; at most {most:,} are read this way")
    try:
        with artifact_file(view, path).open("rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise NotFound(f"{path[:200]!r} of build {view.build.id} is gone: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise NotFound(f"{path[:200]!r} of build {view.build.id} is being changed")
    return content


def recorded(view: BuildView, path: str) -> tuple[str, Artifact]:
    """The stage that left it and what it recorded; the last one of several. NotFound: none such."""
    found = [
        (row.stage, artifact)
        for row in view.stages
        if row.verdict
        for artifact in row.verdict.artifacts
        if path in (artifact.path, f"{row.stage}/{artifact.path}")
    ]
    if not found:
        raise NotFound(f"build {view.build.id} left no file {path[:200]!r}")
    return found[-1]


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
