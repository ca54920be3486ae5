"""What a pipeline file may say, as models: each key with its type. What several keys together mean is in `cells`."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mcp_server.config import Text, Variable
from mcp_server.durations import Duration
from mcp_server.model import Ending, holds_login
from mcp_server.yaml_model import YamlModel, nearest

FIX = "agent.fix"
HERE_ONLY = ("doctor", "qa", FIX, "git.commit", "git.push")
"""Built-in stages that are done by this machine itself."""

RUNNABLE = ("idf.build", "idf.run", "idf.qemu", "idf.flash", "idf.boot", *HERE_ONLY)
ROUNDS, MAX_ROUNDS = 3, 20
FIX_S = 1800.0  # of one session of an agent
CAUSES = ("lost", "timeout", "unreachable", "disk_full", "exit", "compile")
SKIP_KEYS = "x-"  # keys of the file that begin so are a place for anchors, and are not read

_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)")  # Git's own rules

_TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_VALUES: dict[str, Any] = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
_CELLS: dict[str, Any] = {"type": "array", "items": {"type": "object", "additionalProperties": _TEXT}}
_MATRIX: dict[str, Any] = {
    "type": "object",
    "properties": {"include": _CELLS, "exclude": _CELLS},
    "additionalProperties": {"anyOf": [_TEXTS, _TEXT]},
}


KEPT_NAMES = ("logs", "manifest.json")


def _stage_name(value: str) -> str:
    if not _STAGE_NAME.fullmatch(value):
        raise ValueError(
            "a stage's name has letters, digits, '.', '_' and '-' only, begins with a letter or digit, "
            "and is 64 long at most"
        )
    if value in KEPT_NAMES:
        raise ValueError(f"'{value}' is what the archive calls its own; give the stage another name")
    return value


def _title(value: str) -> str:
    if len(value) > 100 or not value.isprintable():
        raise ValueError("should be one line of at most 100 characters")
    return value


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _blank_text(value: object) -> object:
    return "" if value is None else value


def _cause(value: str) -> str:
    if re.fullmatch(r"[1-9][0-9]{0,2}", value) and int(value) <= 255:
        return value
    if re.fullmatch(r"-?[0-9]+", value):
        raise ValueError(f"{value[:20]} is no exit code of a failure; those are 1 to 255")
    if value not in CAUSES:
        raise ValueError(f"unknown cause '{value[:40]}'{nearest(value, CAUSES)}")
    return value


def _inside(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or value.startswith("~"):
        raise ValueError(f"'{value[:60]}' leads out of the project; write a path below it, e.g. main/**")
    return value


def _branch(value: str) -> str:
    if value.startswith("-") or value == "@" or _NO_BRANCH.search(value):
        raise ValueError(f"'{value[:60]}' is no name of a branch; write e.g. nightly/esp32")
    return value


def _author(value: str) -> str:
    if not re.fullmatch(r"[^<>\s][^<>\n\r\0]*<[^<>\s]+>", value):
        raise ValueError(f"'{value[:60]}' is no author; write Name <mail@example.org>")
    return value


def _retry(value: object) -> object:
    return {"times": value} if isinstance(value, str) else value


def _sync(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _endings(value: object) -> object:
    return [cast("object", value)] if isinstance(value, dict) else value


StageName = Annotated[
    str,
    AfterValidator(_stage_name),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_STAGE_NAME.pattern}$"}, {"type": "integer"}]}),
]
Plain = Annotated[Text, WithJsonSchema(_TEXT | {"minLength": 1})]
"""A text that may look like a number or a truth value."""

Names = Annotated[tuple[Text, ...], BeforeValidator(_one_or_more), WithJsonSchema({"anyOf": [_TEXTS, _TEXT]})]
"""A list of texts; one text stands for a list of one."""

Paths = Annotated[
    tuple[Annotated[Text, AfterValidator(_inside)], ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [_TEXTS, _TEXT]}),
]
"""Globs below a project."""

Branch = Annotated[Text, AfterValidator(_branch)]
Time = Annotated[
    Duration,
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9]"}]}),
]
Cause = Annotated[str, AfterValidator(_cause)]
EnvText = Annotated[str, BeforeValidator(_blank_text)]
Environment = Annotated[Mapping[Variable, EnvText], WithJsonSchema(_VALUES)]


class RetryEntry(YamlModel):
    """Run the stage again where it failed by one of `on`: causes, or exit codes from 1 to 255."""

    times: Annotated[int, Field(ge=0, le=100)] = 1
    on: Annotated[tuple[Cause, ...], BeforeValidator(_one_or_more)] | None = Field(
        None,
        json_schema_extra={
            "anyOf": [
                {"type": "array", "items": {"anyOf": [{"enum": list(CAUSES)}, {"type": "integer"}]}},
                {"enum": [*CAUSES, None]},
                {"type": "integer"},
            ]
        },
    )
    backoff: Time = Field(0.0, description="pause before the first repetition, doubled each time")


class SyncEntry(YamlModel):
    """A tree that is brought to the server first."""

    source: Text = Field("local", alias="from", description="the server it is taken from")
    path: Plain = "."


class EndingEntry(YamlModel):
    """What follows the end of a build."""

    notify: Names = ()
    retry: Annotated[int, Field(ge=0, le=100, description="the failed stages so often again")] | None = None
    archive: bool | None = None


Endings = Annotated[
    tuple[EndingEntry, ...],
    BeforeValidator(_endings, json_schema_input_type=tuple[EndingEntry, ...] | EndingEntry),
]


class StageEntry(YamlModel):
    """A stage: `command` or `uses`, where, and after what."""

    name: StageName
    server: Names = Field(("local",), description="name, alias or tag of a server, or a list: the first free one")
    command: Text | None = Field(None, description="run by bash -c, or sh where that is absent, without a terminal")
    uses: Text | None = Field(None, description="a built-in stage", json_schema_extra={"enum": [*RUNNABLE, None]})
    with_: Mapping[str, Any] = Field(default_factory=dict[str, Any], alias="with", description="arguments of uses")
    workdir: Plain | None = None
    depends_on: Names = ()
    timeout: Time | None = Field(None, description="2h, 30m, 90s, or seconds; 0 for none")
    retry: Annotated[RetryEntry, BeforeValidator(_retry, json_schema_input_type=RetryEntry | int)] | None = None
    when: Plain | None = Field(None, description="e.g. params.target == 'esp32' and not matrix.fast")
    matrix: Annotated[Any, WithJsonSchema(_MATRIX)] = None
    env: Environment = Field(default_factory=dict[str, str])
    secrets: Annotated[
        tuple[Variable, ...], BeforeValidator(_one_or_more, json_schema_input_type=tuple[str, ...] | str)
    ] = Field((), description="names of secrets that become environment variables")
    sync: Annotated[SyncEntry, BeforeValidator(_sync, json_schema_input_type=SyncEntry | str)] | None = None
    artifacts: Names = Field((), description="files to keep: globs below the working folder")
    needs_artifacts: Names = Field((), description="stages whose artifacts are brought here first")
    allow_failure: bool = False
    concurrency: Plain | None = Field(None, description="of the stages in one group, one runs at a time")


class PipelineBlock(YamlModel):
    """The pipeline. Its stages are checked one by one."""

    name: Annotated[Plain, AfterValidator(_title)] | None = None
    params: Annotated[Mapping[str, Any], WithJsonSchema(_VALUES)] = Field(
        default_factory=dict[str, Any], description="parameters with their defaults, read as ${params.NAME}"
    )
    stages: Annotated[list[Any], Field(min_length=1)]
    parallel_limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    on_failure: Endings = ()
    on_success: Endings = ()


class PipelineFile(YamlModel):
    """A pipeline file."""

    pipeline: PipelineBlock
    on_failure: Endings = ()
    on_success: Endings = ()


class IdfBuildWith(YamlModel):
    """What `uses: idf.build` takes."""

    project: Text | None = None
    target: Text | None = None
    clean: bool = False


class IdfRunWith(YamlModel):
    """What `uses: idf.run` and `uses: idf.qemu` take."""

    project: Text | None = None
    target: Text | None = None
    expect: Names = ()
    fail_on: Names = ()


class IdfFlashWith(YamlModel):
    """`with` of `uses: idf.flash`: the project whose build is written, and the port of the stage's server."""

    project: Text | None = None
    target: Text | None = None
    port: Text | None = None
    erase: bool = False


class IdfBootWith(IdfRunWith):
    """`with` of `uses: idf.boot`: what the board on a port is to print after a reset."""

    port: Text | None = None


class DoctorWith(YamlModel):
    """`with` of `uses: doctor`: the project that the installation is looked at for."""

    project: Text | None = None


class QaWith(YamlModel):
    """`with` of `uses: qa`, which judges the stages that it comes after by itself."""

    agent: Text | None = Field(None, description="adds remarks, which decide nothing: a name of config.yaml's agents")


class Budget(YamlModel):
    """What a pipeline's agent may use up at most, in all its rounds together."""

    tokens: Annotated[int, Field(gt=0)] | None = None
    cost_usd: Annotated[float, Field(gt=0)] | None = None
    time: Annotated[Time, Field(gt=0)] | None = None


class AgentFixWith(YamlModel):
    """`with` of `uses: agent.fix`: who mends what failed, in which project, how often, and which of its files."""

    project: Text | None = None
    agent: Text | None = Field(None, description="a name of config.yaml's agents; else the default one")
    max_rounds: Annotated[int, Field(ge=2, le=MAX_ROUNDS)] = Field(
        ROUNDS, description="rounds of stages, the first too"
    )
    allow: Paths = Field((), description="globs of what it may change; else all of the project")
    commands: Names = Field((), description="what it may run, e.g. idf.py build; else nothing")
    budget: Budget | None = None
    prompt: Text | None = Field(None, description="what it should know beside the failure")


class GitCommitWith(YamlModel):
    """`with` of `uses: git.commit`. Without `branch` it is the one that is checked out."""

    message: Text
    branch: Branch | None = None
    paths: Paths = Field((), description="globs of what is committed; else all that was changed")
    author: Annotated[Text, AfterValidator(_author)] | None = None
    project: Text | None = None


def _remote(value: str) -> str:
    if value.startswith("-") or holds_login(value):
        raise ValueError("should be a remote's name or URL without a login: keep that in your git's credentials")
    return value


class GitPushWith(YamlModel):
    """`with` of `uses: git.push`: the branch that the commit is pushed to."""

    branch: Branch
    remote: Annotated[Text, AfterValidator(_remote)] | None = Field(
        None, description="a remote's name or URL; else origin"
    )
    project: Text | None = None


WITH: Mapping[str, type[YamlModel]] = {
    "idf.build": IdfBuildWith,
    "idf.run": IdfRunWith,
    "idf.qemu": IdfRunWith,
    "idf.flash": IdfFlashWith,
    "idf.boot": IdfBootWith,
    "doctor": DoctorWith,
    "qa": QaWith,
    FIX: AgentFixWith,
    "git.commit": GitCommitWith,
    "git.push": GitPushWith,
}


def ending(entries: tuple[EndingEntry, ...]) -> Ending:
    """The entries of on_failure or on_success as one; of what is said twice, the last counts."""
    channels = dict.fromkeys(channel for entry in entries for channel in entry.notify)
    retry = [entry.retry for entry in entries if entry.retry is not None]
    archive = [entry.archive for entry in entries if entry.archive is not None]
    return Ending(notify=tuple(channels), retry=[0, *retry][-1], archive=[False, *archive][-1])
