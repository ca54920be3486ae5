"""How people refer to builds, stages and projects, and what they mean by it."""

from collections.abc import Sequence
from pathlib import Path

from mcp_server.errors import BadInput, NotFound
from mcp_server.model import Build, BuildStatus, Stage


def build_number(reference: int | str) -> int | str:
    """A build's number or task UUID as people write them: 42, "42", "#42". BadInput otherwise."""
    if isinstance(reference, int) and not isinstance(reference, bool) and 0 < reference < 2**63:
        return reference
    text = str(reference).strip()
    digits = text.removeprefix("#").lstrip("0")
    if digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) < 2**63:
        return int(digits)
    parts = [len(part) for part in text.split("-")]
    if parts == [8, 4, 4, 4, 12]:
        return text.lower()
    raise BadInput("build", f"{text[:40]!r} is neither a build number such as 42 nor a task's UUID")


def stage_with_log(build: Build, stages: Sequence[Stage], name: str | None) -> Stage:
    """The newest attempt that has a log, of the named stage; unnamed: of one that failed, else of the last.

    `build:1` is the stage in round 1, `build:1.2` its second attempt there.
    """
    wanted, _, attempt = (name or "").partition(":")
    rows = [stage for stage in stages if stage.job_id is not None and wanted in ("", stage.stage)]
    if attempt:
        rows = [stage for stage in rows if attempt in (str(stage.round), f"{stage.round}.{stage.attempt}")]
    if not rows:
        if name is None or any(stage.name == wanted for stage in build.plan.stages):
            raise NotFound(
                f"build {build.id} has no log of {name[:40]!r}" if name else f"build {build.id} has no log yet"
            )
        known = ", ".join(stage.name for stage in build.plan.stages)
        raise BadInput("stage", f"{name[:40]!r} is no stage of build {build.id}; its stages: {known}")
    if name is None and build.status is BuildStatus.FAILED:
        rows = [stage for stage in rows if stage.status == "failed"] or rows
    return rows[-1]


def real_path(text: str) -> str:
    """A path as it is stored; what cannot be one stays as it is."""
    try:
        return str(Path(text).expanduser().resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, ~nobody, a NUL
        return text


def is_folder(path: str) -> bool:
    """Whether there is a folder; False of what cannot be a path at all: too long, a NUL in it, behind a locked door."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False
