"""Builds that come round by the clock, as config.yaml writes them. Whether a project is known is seen later.

May import: model, yaml_model, yaml_document. Never: anything else of ours.
"""

import re
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mcp_server.yaml_document import Document, Mistake, YamlError, entries, read
from mcp_server.yaml_model import YamlModel

LONGEST = 100  # characters; no rule that a person writes is longer, and each item of one costs
MAX_ROUNDS = 20
FIELDS = "minute, hour, day of the month, month, day of the week"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SPACES = re.compile(r"\s+")


def times(cron: str, after: datetime) -> object:
    """An iterator of the times after one, in its zone. ValueError: what is wrong with the rule.

    ModuleNotFoundError where cronsim is not installed.
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only `serve` needs it, of the extra `server`

    if len(cron) > LONGEST or len(cron.split()) != 5:
        raise ValueError(f"a time is five fields, {FIELDS}: '0 3 * * *' is three o'clock each day")
    try:
        return CronSim(cron, after)
    except CronSimError as error:
        field = str(error).removeprefix("Bad ").replace("-", " ")
        raise ValueError(f"the {field} cannot be used; the fields are {FIELDS}") from None


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name. ValueError: there is none of that name here."""
    if name == "UTC":
        return UTC
    import zoneinfo  # noqa: PLC0415 - reads the system's list

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        mend = "" if zoneinfo.available_timezones() else "; this machine has no list of them: pip install tzdata"
        raise ValueError(f"'{name[:60]}' is no time zone; write one like Europe/Berlin, or UTC{mend}") from None


def _cron(value: str) -> str:
    text = _SPACES.sub(" ", value.strip())
    try:
        found = times(text, datetime(2024, 1, 1, tzinfo=UTC))
    except ModuleNotFoundError:
        return text  # nothing here runs them; what does looks
    if next(found, None) is None:  # type: ignore[call-overload]
        raise ValueError(f"'{text}' never comes")
    return text


def _zone(value: str) -> str:
    zone(value)
    return value


def _project(value: str) -> str:
    if value.startswith("-") or any(ord(letter) < 32 for letter in value):
        raise ValueError("should be a project's name, id or folder")
    return value


Text = Annotated[str, Field(min_length=1)]


class Schedule(YamlModel):
    """What is built when: `cron` in the `timezone`, and the words of `POST /api/projects/{project}/build`.

    Without `branch` a clone is built as its branch is at its origin, a folder as it is. `supersede`: what is left of
    the time before is cancelled.
    """

    project: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_project)]
    cron: Annotated[str, AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    branch: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    target: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    flash: bool = False
    qemu: bool = True
    agent: Text | None = None
    max_rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] = 3
    expect: tuple[Text, ...] = ()
    priority: Annotated[int, Field(ge=0, le=100)] = 10
    supersede: bool = False


def place_of(file: Path, name: str) -> str:
    """Where a file names the project of a schedule, `config.yaml:12:14`; the file where that is not seen. Reads."""
    try:
        line, column = read(file.read_bytes()).values["schedules", name, "project"]
    except (OSError, YamlError, KeyError):
        return str(file)
    return f"{file}:{line}:{column}"


def across_schedules(document: Document) -> list[Mistake]:
    """Names that cannot be told from others where they are written."""
    return [
        document.mistake(
            ("schedules", name), "a schedule's name has letters, digits, '.', '_' and '-' only, 64 at most", at_key=True
        )
        for name in entries(document.data, "schedules")
        if not _NAME.fullmatch(name)
    ]
