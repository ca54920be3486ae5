"""What a successful build left: the target, the images with their flash addresses, the hashes of all."""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

from mcp_server.idf.installation import open_file, read_text, stamp
from mcp_server.model import Artifact, Model

CHUNK_BYTES = 1024 * 1024
MAX_JSON_BYTES = 8 * 1024 * 1024  # project_description.json has 0.13 MB
MAX_IMAGES = 64


class BuildProducts(Model):
    """`images` is what is flashed, by address; `notes` say what is missing or could not be read, a sentence each."""

    target: str | None = None
    project_name: str | None = None
    project_version: str | None = None
    app_bin: str | None = None
    app_elf: str | None = None
    images: tuple[Artifact, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()


async def collect(build_dir: Path) -> BuildProducts:
    """The products of the build in `build_dir`. A missing or garbled file costs its part and a note, never the rest."""
    return await asyncio.to_thread(_collect, build_dir)


def _collect(build_dir: Path) -> BuildProducts:
    notes: list[str] = []
    about = _json(build_dir, "project_description.json", notes, needed=True)
    target, elf, app = (_text(about, name) for name in ("target", "app_elf", "app_bin"))
    for_host = target == "linux"
    flashing = {} if for_host else _json(build_dir, "flasher_args.json", notes, needed=True)
    images = [
        artifact
        for path, kind, offset in _images(flashing)
        if (artifact := _artifact(build_dir, path, kind, offset, notes))
    ]
    artifacts = list(images)
    taken = {image.path for image in images}
    stem = elf.removesuffix(".elf") if elf else None
    bootloader = "bootloader/bootloader.elf" if images else None
    wanted = [(elf, "elf"), (f"{stem}.map" if stem else None, "map"), (None if for_host else app, "app")]
    wanted += [(bootloader, "bootloader-elf"), ("project_description.json", "description")]
    wanted += [] if for_host else [("flasher_args.json", "flasher-args"), ("flash_args", "flash-args")]
    for path, kind in wanted:
        if path and path not in taken and stamp(build_dir / path):
            artifacts += [one] if (one := _artifact(build_dir, path, kind, None, notes)) else []
    if elf and not any(one.kind == "elf" for one in artifacts):
        notes.append(f"{elf} is missing, though the project names it as its program")
    return BuildProducts(
        target=target,
        project_name=_text(about, "project_name"),
        project_version=_text(about, "project_version"),
        app_bin=None if for_host else app,
        app_elf=elf,
        images=tuple(images),
        artifacts=tuple(artifacts),
        notes=tuple(notes),
    )


def _json(build_dir: Path, name: str, notes: list[str], *, needed: bool) -> dict[str, Any]:
    text = read_text(build_dir / name, MAX_JSON_BYTES)
    if text is None:
        if needed:
            notes.append(f"{name} is missing or not readable in the build directory")
        return {}
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        notes.append(f"{name} is garbled: it is no JSON object")
        return {}
    return cast("dict[str, Any]", content)


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _images(flashing: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Path, kind and address of each image, in the order of addresses."""
    kinds: dict[str, str] = {}
    for name, entry in flashing.items():
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        if isinstance(fields.get("file"), str) and isinstance(fields.get("offset"), str):
            kinds[fields["file"]] = name
    listed: Any = flashing.get("flash_files")
    files = cast("dict[str, Any]", listed) if isinstance(listed, dict) else {}
    found = [(path, kinds.get(path, "image"), offset) for offset, path in files.items() if isinstance(path, str)]
    return sorted(found, key=lambda image: _number(image[2]))[:MAX_IMAGES]


def _number(offset: str) -> int:
    try:
        return int(offset, 0)
    except ValueError:
        return 1 << 64


def _artifact(build_dir: Path, path: str, kind: str, offset: str | None, notes: list[str]) -> Artifact | None:
    """The file with its hash. One outside the build directory is not the build's, whatever its JSON says."""
    real = None if "\0" in path else os.path.realpath(build_dir / path)
    if real is None or not Path(real).is_relative_to(os.path.realpath(build_dir)):
        notes.append(f"{path[:200]!r} is outside the build directory and was left out")
        return None
    try:
        size, sha256 = _hash(real)
    except OSError as error:
        notes.append(f"{path} cannot be read ({error.strerror or error})")
        return None
    return Artifact(path=path, size=size, sha256=sha256, kind=kind, offset=offset)


def _hash(path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
