"""What a bot orders (BuildSpec) and is told (BuildResult).

May import: model, errors, durations. Never: store, engine, a front.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mcp_server.agents.base import MAX_PROMPT_BYTES
from mcp_server.errors import BadInput
from mcp_server.model import Model, holds_login

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REMOTE = re.compile(r"(?!-)[!-~]{1,1000}")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_KEY = re.compile(r"[!-~]{1,200}")
MAX_VARIABLES = 100
MAX_VARIABLE_CHARS = 10_000
MAX_TIMEOUT_S = 24 * 3600.0


class BuildSpec(Model):
    """What an agent is to do to a project, and what is to be done with that. `timeout` in seconds, of one session.

    `project` is a path; with `template`, `name` is that of a new one. `auto_push` commits, too, and `auto_deploy` is
    both. `branch` is made for it (None: bo/build-N) and pushed to `remote`, a name or URL. `expect` are regular
    expressions: what firmware must print in the emulator.
    """

    prompt: str
    project: str | None = None
    template: str | None = None
    name: str | None = None
    variables: Mapping[str, str] = Field(default_factory=dict[str, str])
    auto_commit: bool = False
    auto_push: bool = False
    auto_deploy: bool = False
    remote: str = "origin"
    branch: str | None = None
    callback_url: str | None = None
    agent: str | None = None
    target: str | None = None
    expect: tuple[str, ...] = ()
    timeout: float = 1800.0
    max_rounds: int = 3
    priority: int = 10
    idempotency_key: str | None = None

    def checked(self) -> "BuildSpec":
        """Itself. BadInput names the first argument that cannot be used."""
        if not self.prompt.strip():
            raise BadInput("prompt", "is empty: say what the agent is to do")
        if (size := len(self.prompt.encode("utf-8", "surrogatepass"))) > MAX_PROMPT_BYTES:
            raise BadInput("prompt", f"has {size:,} bytes: an agent is given at most {MAX_PROMPT_BYTES:,}")
        self._check_place()
        if not 1 <= self.timeout <= MAX_TIMEOUT_S:
            raise BadInput("timeout", f"{self.timeout:g} s is not between 1 s and 24 h")
        if not 0 <= self.priority <= 100:
            raise BadInput("priority", f"{self.priority} is not between 0 (first) and 100")
        if self.idempotency_key is not None and not _KEY.fullmatch(self.idempotency_key):
            raise BadInput("idempotency_key", "should be 1 to 200 visible ASCII characters")
        long = [name for name, value in self.variables.items() if len(value) > MAX_VARIABLE_CHARS]
        if long or len(self.variables) > MAX_VARIABLES:
            raise BadInput("variables", f"take at most {MAX_VARIABLES} of {MAX_VARIABLE_CHARS:,} characters each")
        return self

    def _check_place(self) -> None:
        """What is worked on, and where it is pushed to."""
        if self.template is None and self.project is None:
            raise BadInput("project", "give a project, or a template and the name of a new one")
        if self.template is not None and not self.name:
            raise BadInput("name", "a project made from a template needs one")
        if self.template is None and self.name:
            raise BadInput("name", "belongs to a template; a project that exists is named by project")
        if self.template is not None and self.project is not None:
            raise BadInput("project", "give a project, or a template and the name of a new one, not both")
        if self.name and not _NAME.fullmatch(self.name):
            raise BadInput("name", f"{self.name[:60]!r} should have letters, digits, '.', '_' and '-' only, 64 at most")
        if not _REMOTE.fullmatch(self.remote) or holds_login(self.remote):
            raise BadInput("remote", "should be a remote's name or URL, without spaces and without a login")
        if self.branch is not None and not _BRANCH.fullmatch(self.branch):
            raise BadInput("branch", f"{self.branch[:60]!r} should have letters, digits, '.', '_', '-' and '/' only")

    @property
    def key(self) -> str:
        """The same for the same order."""
        said = self.model_dump(mode="json", exclude={"idempotency_key", "priority"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class BuildResult(Model):
    """What became of a BuildSpec. `artifacts`: commit_sha, branch, deploy_url where CI gave one, files."""

    success: bool
    output: str = ""
    error: str | None = None
    commit_sha: str | None = None
    files_changed: tuple[str, ...] = ()
    duration_ms: int = 0
    artifacts: Mapping[str, Any] = Field(default_factory=dict[str, Any])
