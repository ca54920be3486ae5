"""Every error a front may show. The tree:

OrchestratorError                 one sentence for people, fields and `reason` for programs
├── BadInput                      an argument that cannot be used; names it and what it may be
│   └── PipelineError             a pipeline file: every mistake, with line and column
├── NotFound                      a build, project or file that is not there
├── Conflict                      the state of a build forbids the operation
│   └── Unpushed                  a clone holds what is nowhere else, and is not deleted unasked
├── Forbidden                     who asks may not do this
├── NotAgreed                     a person must say yes first; carries the question
├── OverBudget                    what a build may spend on agents is spent
├── ConfigError                   config.yaml: where and what would be right
├── WorkerFailed                  the worker ends as soon as it is started; its last words
├── StoreError                    the database: newer than this version, corrupt, not on a local disk
├── ArchiveError                  results of a build cannot be kept: no space, no permission
├── HostError                     a host could not do what was asked
│   ├── HostUnreachable           nothing is known of its jobs now
│   ├── HostFull                  no space for the job's records; nothing was started
│   └── JobConflict               the job id is taken by another specification
└── EnvironmentMissing            a tool, an installation or an extra is absent; says what brings it
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

_SHOWN = 10  # mistakes of one file; more than that are mended from the top anyway


class OrchestratorError(Exception):
    """Base of all errors that a front shows as one sentence, without a traceback."""

    reason = "error"
    details: Mapping[str, object] = MappingProxyType({})
    """What a stage that cannot start because of it keeps in its verdict, as JSON."""


class BadInput(OrchestratorError):
    """An argument cannot be used. `argument` is its name as the user wrote it."""

    reason = "bad_input"

    def __init__(self, argument: str, sentence: str) -> None:
        self.argument = argument
        super().__init__(f"{argument}: {sentence}")


class PipelineError(BadInput):
    """A pipeline file cannot be used. `mistakes` are its sentences, each with its place; ten of them are shown."""

    reason = "invalid"

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        self.argument = source
        self.mistakes = tuple(mistakes)
        lines = list(self.mistakes)
        if len(lines) > 1:
            more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            lines = [f"{len(lines)} mistakes in the pipeline:", *lines[:_SHOWN], *more]
        OrchestratorError.__init__(self, "\n".join(lines))


class NotAgreed(OrchestratorError):
    """A board would be overwritten or a branch pushed, and nobody said yes. `question`: what to ask a person."""

    reason = "not_agreed"

    def __init__(self, question: str) -> None:
        self.question = question
        super().__init__(f"a person must say yes first: {question}")


class Forbidden(OrchestratorError):
    """Who asks is known, and may not do this."""

    reason = "forbidden"


class NotFound(OrchestratorError):
    """What was named does not exist."""

    reason = "not_found"


class Elsewhere(NotFound):
    """What was asked for is on another machine, which it names."""


class Conflict(OrchestratorError):
    """The state of things forbids the operation, e.g. the retry of a build that succeeded."""

    reason = "conflict"


class Unpushed(Conflict):
    """A clone that is to be deleted holds what is nowhere else, or nobody can tell. The sentence names it."""

    reason = "unpushed"


class OverBudget(OrchestratorError):
    """Tokens, money or time that a build may spend on agents are spent."""

    reason = "budget"


class ConfigError(OrchestratorError):
    """config.yaml cannot be used; the message carries file, line and column."""

    reason = "config"


class StoreError(OrchestratorError):
    """The database cannot be used."""

    reason = "store"


class ArchiveError(OrchestratorError):
    """Results of a build cannot be kept."""

    reason = "archive"


class WorkerFailed(OrchestratorError):
    """The worker ends as soon as it is started."""

    reason = "worker"


class HostError(OrchestratorError):
    """A host could not do what was asked. `host` is its name."""

    reason = "host"

    def __init__(self, host: str, sentence: str) -> None:
        self.host = host
        super().__init__(f"host {host}: {sentence}")


class HostUnreachable(HostError):
    """Nothing is known of the host's jobs now; they may be running."""

    reason = "unreachable"


class HostFull(HostError):
    """No space for the job's own records: nothing was started."""

    reason = "disk_full"


class JobConflict(HostError):
    """The job's directory was made for another specification."""

    reason = "job_conflict"


class EnvironmentMissing(OrchestratorError):
    """A tool, an installation or an extra is absent."""

    reason = "environment"
