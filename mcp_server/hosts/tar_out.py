"""A tree as a tar archive, in pieces of bounded size."""

import math
import os
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from mcp_server.hosts.intake import in_thread
from mcp_server.hosts.tree import MARKER, Entry, Manifest, describe, digest, pack

_CHUNK = 1 << 20  # bytes
_NS = 1_000_000_000


async def archive(
    source: Path, tree: Mapping[str, Entry], manifest: Callable[[Mapping[str, Entry]], Manifest], unsteady: list[str]
) -> AsyncIterator[bytes]:
    """The entries of `tree`; then what `manifest` makes of those that changed while they were read, as the last file.

    Those are named in `unsteady`, too. A file that became shorter is filled up with zeros, a longer one cut.
    """
    held = bytearray()
    for path, entry in tree.items():
        held += header(path, entry)
        if entry[0] == "f":
            async for piece in _content(source, path, int(entry[1])):
                held += piece
                if len(held) >= _CHUNK:
                    yield bytes(held)
                    held.clear()
            held += padding(int(entry[1]))
        if describe(os.path.join(source, path)) != entry:  # noqa: PTH118  # its bytes need not be UTF-8
            unsteady.append(path)
    last = manifest({path: tree[path] for path in unsteady})
    text = f"{digest(last)}\n{await in_thread(pack, last)}\n".encode()
    held += header(f"{MARKER}/manifest.new", ("f", len(text), 0, 0o600)) + text + padding(len(text))
    yield bytes(held) + bytes(2 * tarfile.BLOCKSIZE)


async def _content(source: Path, path: str, size: int) -> AsyncIterator[bytes]:
    try:
        file = await in_thread((source / path).open, "rb", 0)
    except OSError:
        file = None
    try:
        while size:
            piece = (await in_thread(file.read, min(size, _CHUNK)) if file else None) or bytes(min(size, _CHUNK))
            size -= len(piece)
            yield piece
    finally:
        if file:
            await in_thread(file.close)


def header(path: str, entry: Entry) -> bytes:
    """Of one entry, with GNU's extension for long names, which busybox knows, too."""
    info = tarfile.TarInfo(path)
    match entry:
        case ("f", int(size), int(mtime), int(mode)):
            # a fraction of a second cannot be said everywhere; too young is safe, too old would leave a stale object
            info.size, info.mode, info.mtime = size, mode, math.ceil(mtime / _NS)
        case ("d", int(mode)):
            info.type, info.mode = tarfile.DIRTYPE, mode | 0o700  # it is moved to its place, which writes to it
        case ("l", str(target)):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        case _:
            raise ValueError(f"{entry} is no entry")
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Up to the next block."""
    return bytes(-size % tarfile.BLOCKSIZE)
