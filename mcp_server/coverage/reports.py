"""The files that a stage left: which of them are reports of coverage, and what they say together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mcp_server.coverage import cobertura, gcov, lcov
from mcp_server.coverage.book import Book, Coverage, Full, shown

HEAD_BYTES = 4096
MAX_BYTES = 32 * 1024 * 1024  # of all reports of a stage, four seconds; a tracefile of 100,000 lines has 3 MB
MAX_REPORTS = 2000
MOST_NAMED = 20  # of the reports, in a record
MOST_REMARKS = 3
SUFFIXES = (".info", ".lcov", ".xml", ".gcov", ".json", ".json.gz")


@dataclass
class _Reading:
    """What was read so far of a stage's reports, and what was not."""

    book: Book
    read: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    left: int = field(default_factory=lambda: MAX_BYTES)


def read_reports(folder: Path, paths: Iterable[str], root: str) -> tuple[Coverage | None, str]:
    """What the reports among these files below `folder` say, and a sentence on those that cannot be used.

    `root` is the folder that the stage worked in, absolute on its host: sources inside are told from there. A file
    that is no report is none of this. Raises nothing; reads the disk, up to some seconds.
    """
    reading = _Reading(Book(root))
    wanted = [path for path in paths if path.lower().endswith(SUFFIXES)]
    for path in wanted[:MAX_REPORTS]:
        try:
            with (folder / path).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                _read(reading, path, file, size)
        except OSError as error:
            reading.remarks.append(f"{path} cannot be read ({error.strerror or error})")
    if len(wanted) > MAX_REPORTS:
        reading.remarks.append(f"{len(wanted) - MAX_REPORTS} more files were not looked at")
    note = _sentence(reading.remarks)
    return reading.book.coverage([*map(shown, reading.read[:MOST_NAMED])], note), note


def _read(reading: _Reading, path: str, file: BinaryIO, size: int) -> None:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    form = _form(path.lower(), head)
    if form is None:
        return
    if size > reading.left:
        whole = "" if size > MAX_BYTES else " in all"
        reading.remarks.append(f"{path} is left out: more than {MAX_BYTES >> 20} MiB{whole}")
        return
    reading.left -= size
    found = Book(reading.book.root)
    try:
        trouble = _taken(form, file, found, str(PurePosixPath(path).parent))
        if not found.sources and not trouble:
            trouble = "it names no source"
        # Of text, what was read holds; a document that is cut or garbled may say anything.
        if found.sources and (not trouble or form in ("lcov", "listing")):
            reading.book.merge(found)
            reading.read.append(path)
    except Full as full:
        trouble = str(full)
    if trouble:
        reading.remarks.append(f"{path}: {trouble}")


def _form(name: str, head: bytes) -> str | None:
    """Which report it is, by its name and how it begins; None: none."""
    if name.endswith((".info", ".lcov")):
        return "lcov" if lcov.is_lcov(head) else None
    if name.endswith(".xml"):
        return "cobertura" if cobertura.is_cobertura(head) else None
    if name.endswith(".gcov"):
        return "listing" if gcov.is_listing(head) else None
    return "json" if ".gcov.json" in name and gcov.is_json(head) else None


def _taken(form: str, file: BinaryIO, book: Book, folder: str) -> str:
    match form:
        case "lcov":
            return lcov.read(file, book)
        case "cobertura":
            return cobertura.read(file, book)
        case "listing":
            return gcov.read_listing(file, book, folder)
        case _:
            return gcov.read_json(file, book)


def _sentence(remarks: list[str]) -> str:
    if not remarks:
        return ""
    more = f"; and {len(remarks) - MOST_REMARKS} more" if len(remarks) > MOST_REMARKS else ""
    return shown("; ".join(one[:200] for one in remarks[:MOST_REMARKS])) + more
