"""`$BUILD_ORCHESTRATOR_HOME/config.yaml` and the environment as one value: `config = load_config()`.

Read by whoever starts; nothing below asks the environment for these again. Secrets stay references here
(`${env:NAME}`, `${file:/path}`, `${keyring:service/name}`, `${secret:NAME}`) and are resolved when they are used.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mcp_server.config_environment import given
from mcp_server.config_rules import LOCAL, across
from mcp_server.config_schedules import Schedule
from mcp_server.config_store import StoreKeeping
from mcp_server.durations import Duration
from mcp_server.errors import ConfigError
from mcp_server.home import make_home
from mcp_server.yaml_document import YamlError, read
from mcp_server.yaml_model import YamlModel, check

MAX_SHOWN = 10  # mistakes; more than that are mended from the top anyway
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_PRIVATE = frozenset({"notifications", "agents", "artifacts", "env", "token", "url", "password"})
_REFERENCE = re.compile(
    r"\$\{(env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^{}/]+/[^{}]+|file:/[^{}]+|secret:[A-Za-z0-9._-]+)\}"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if "${" in _REFERENCE.sub("", text):
        raise ValueError("a reference reads ${env:NAME}, ${file:/path}, ${keyring:service/name} or ${secret:NAME}")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("should be the name of an environment variable: letters, digits and '_'")
    return value


def _absolute(value: str) -> str:
    path = Path(value).expanduser() if value.startswith("~") else Path(value)
    if not path.is_absolute():
        raise ValueError("should be an absolute path, or begin with ~")
    return str(path)


def _store(value: str) -> str:
    if not re.match(r"file:///|s3://[^/]", value):
        raise ValueError("should be file:///folder or s3://bucket/prefix")
    return value


def _with_references(value: str) -> str:
    _secret(SecretStr(value))
    return value


def _server_url(value: str) -> str:
    found = re.fullmatch(r"https?://([^/?#\s]+)(/[^?#\s]*)?", value)
    if not found or "@" in found[1]:
        raise ValueError("should be http://host:port or https://host, without a name, a password or a query")
    return value.rstrip("/")


def _web(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?", value):
        raise ValueError("should be like https://ci.example.org")
    return value


def _api(value: str) -> str:
    at = urlsplit(_web(value))
    here = re.fullmatch(r"localhost|::1|127(\.[0-9]{1,3}){3}", at.hostname or "")
    if at.scheme != "https" and not here:
        raise ValueError("should begin with https://: the token goes along with every request")
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
"""A secret or a reference to one; never shown by repr, str or JSON. `.get_secret_value()` is the text."""

WithReferences = Annotated[str, AfterValidator(_with_references)]
Text = Annotated[str, Field(min_length=1)]
Variable = Annotated[str, AfterValidator(_variable)]
Permission = Literal["ask", "always", "never"]


class Server(YamlModel):
    """A machine that runs jobs: over SSH (`host`), through a command channel (`exec`), or, named `local`, this one.

    What is absent comes from ~/.ssh/config (user, port) or from the call (workdir). In `build`, `{task}` is replaced.
    """

    host: Text | None = None
    user: Text | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    exec: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    workdir: Text | None = None
    alias: Text | None = None
    purpose: str | None = None
    build: Text | None = None
    slots: Annotated[int, Field(ge=1)] | None = None
    tags: tuple[Text, ...] = ()
    fallback: Text | None = None
    idf_path: Text | None = None
    jobs_dir: Text | None = None
    env: Mapping[Variable, str] = Field(default_factory=dict[str, str], repr=False)

    @model_validator(mode="after")
    def _one_way_in(self) -> "Server":
        if self.host and self.exec:
            raise ValueError("takes host (SSH) or exec (a command channel), not both")
        if self.exec and (self.user or self.port):
            raise ValueError("user and port belong to host; the command in exec says them itself")
        return self


class Channel(YamlModel):
    """Where notifications go. `url` is an apprise URL or a webhook's; discord and telegram can be told by the rest."""

    enabled: bool = True
    url: Secret | None = None
    target: Text | None = None
    chat_id: Text | None = None
    token: Secret | None = None


class Defaults(YamlModel):
    """For stages that say nothing themselves. `timeout` in seconds, 0 for none; `retry` never for idf tools."""

    timeout: Duration = 7200.0  # 2 h
    retry: Annotated[int, Field(ge=0, le=100)] = 1
    parallel_limit: Annotated[int, Field(ge=1, le=1000)] = 3


class Agent(YamlModel):
    """A code agent: `acp` is the command of one that speaks the Agent Client Protocol, `url` an OpenCode server's.

    Of `anthropic` and `ollama`, `url` is their API's. Budgets are a task's; None means none. Values of `env` may be
    references to secrets, resolved when a task is started.
    """

    acp: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    url: Annotated[str, AfterValidator(_server_url)] | None = None
    username: Text | None = None
    password: Secret | None = None
    model: Text | None = None
    timeout: Annotated[Duration, Field(ge=1, le=86_400)] | None = None  # 1 s to 24 h
    max_turns: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0)] | None = None
    env: Mapping[Variable, WithReferences] = Field(default_factory=dict[str, str], repr=False)


class Agents(YamlModel, extra="allow"):
    """Code agents by name. Without `default` it is the first that is available."""

    __pydantic_extra__: dict[str, Agent] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    default: Text | None = None

    @property
    def named(self) -> Mapping[str, Agent]:
        return self.__pydantic_extra__


class Artifacts(YamlModel):
    """Where artifacts are kept (None: HOME/artifacts) and how many seconds long.

    With `s3://…` they are brought there as well, and stay here for `keep_here`, where that is less than `keep`.
    `endpoint`: of a server that is not Amazon's. What is not given is taken from the variables AWS_….
    """

    store: Annotated[str, AfterValidator(_store)] | None = None
    keep: Duration = 30 * 86_400.0
    keep_here: Duration | None = None
    endpoint: Annotated[str, AfterValidator(_server_url)] | None = None
    region: Text | None = None
    key_id: Secret | None = None
    secret: Secret | None = None

    @property
    def is_remote(self) -> bool:
        return (self.store or "").startswith("s3://")


class Queue(YamlModel):
    """How many builds run at a time: of all projects, and of each (None: no limit of its own).

    Beside them each host has its own limit for stages: `slots` of servers, `local` included. Where workers share the
    store: `per_worker` is how many one takes, and one that is not heard of for `lost_after` loses them to others.
    """

    builds: Annotated[int, Field(ge=1, le=10_000)] = 200
    per_project: Annotated[int, Field(ge=1, le=1000)] | None = None
    per_worker: Annotated[int, Field(ge=1, le=1000)] = 50
    lost_after: Annotated[Duration, Field(ge=1, le=3600)] = 8.0


class Security(YamlModel):
    """What needs a yes. `never` beats a call's confirm=true. `push_to_default`: also to a remote's default branch.

    `project_hosts`: private hosts (`name` or `name:port`) that the service may clone from, also by plain http.
    """

    allow_flash: Permission = "ask"
    allow_push: Permission = "ask"
    push_to_default: bool = False
    callback_hosts: tuple[Text, ...] = ()
    project_hosts: tuple[Text, ...] = ()
    project_roots: tuple[Annotated[str, AfterValidator(_absolute)], ...] = ()


class Woodpecker(YamlModel):
    """A Woodpecker server, and a personal access token of a user who may see the repositories."""

    url: Annotated[str, AfterValidator(_web)]
    token: Secret


class Ci(YamlModel):
    """What builds and deploys after a push."""

    woodpecker: Woodpecker | None = None


class GitHub(YamlModel):
    """What GitHub may start: `secret` signs its webhooks. Without globs every branch and every change builds.

    With `token` it is told how builds of pushes go, at `api`; `url` is where people reach this service. `supersede`: a
    push cancels the builds of earlier pushes to its branch.
    """

    secret: Secret
    token: Secret | None = None
    api: Annotated[str, AfterValidator(_api)] = "https://api.github.com"
    url: Annotated[str, AfterValidator(_web)] | None = None
    branches: tuple[Text, ...] = ()
    paths: tuple[Text, ...] = ()
    supersede: bool = False


class Webhooks(YamlModel):
    """Who may say that something is to be built."""

    github: GitHub | None = None


class Settings(YamlModel):
    """What config.yaml may say."""

    servers: Mapping[str, Server] = Field(default_factory=dict[str, Server])
    notifications: Mapping[str, Channel] = Field(default_factory=dict[str, Channel])
    defaults: Defaults = Field(default_factory=Defaults)
    agents: Agents = Field(default_factory=Agents)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    queue: Queue = Field(default_factory=Queue)
    store: StoreKeeping = Field(default_factory=StoreKeeping)
    schedules: Mapping[str, Schedule] = Field(default_factory=dict[str, Schedule])
    security: Security = Field(default_factory=Security)
    ci: Ci = Field(default_factory=Ci)
    webhooks: Webhooks = Field(default_factory=Webhooks)
    env_pass: tuple[Variable, ...] = ()
    log_format: Literal["text", "json"] = "text"


class Config(Settings):
    """config.yaml and the environment together. Making it touches no file but config.yaml."""

    home: Path
    database_url: str = Field(repr=False)
    token: SecretStr | None = None
    log_level: str = "INFO"

    @property
    def file(self) -> Path:
        return self.home / "config.yaml"

    @property
    def jobs_dir(self) -> Path:
        return self.home / "jobs"

    @property
    def artifacts_dir(self) -> Path:
        store = self.artifacts.store or ""
        return Path(store.removeprefix("file://")) if store.startswith("file:///") else self.home / "artifacts"

    @property
    def projects_dir(self) -> Path:
        return self.home / "projects"

    @property
    def worktrees_dir(self) -> Path:
        return self.home / "worktrees"

    @property
    def secrets_dir(self) -> Path:
        return self.home / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def wake(self) -> Path:
        return self.home / "wake"

    @property
    def local(self) -> Server:
        """What the file says of this machine."""
        return self.servers.get(LOCAL) or Server()

    def make_home(self) -> Path:
        """HOME and its folders, made 0700 where they are missing. ConfigError where it cannot be used."""
        folders = ("jobs", "artifacts", "projects", "worktrees", "secrets", "logs")
        make_home(self.home, (self.home / name for name in folders))
        return self.home


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of this process; without a file, the defaults. ConfigError lists every mistake."""
    environ = os.environ if environ is None else environ
    home = _home(environ)
    settings, mistakes = _read_settings(home / "config.yaml")
    level = (environ.get("BUILD_ORCHESTRATOR_LOG") or "INFO").upper()
    if level not in LOG_LEVELS:
        mistakes.append(f"BUILD_ORCHESTRATOR_LOG is '{level.lower()[:40]}'; it takes debug, info, warning or error")
    form = environ.get("BUILD_ORCHESTRATOR_LOG_FORMAT") or settings.log_format
    if form not in LOG_FORMATS:
        mistakes.append(f"BUILD_ORCHESTRATOR_LOG_FORMAT is '{form[:40]}'; it takes text or json")
    database_url = given(environ, "BUILD_ORCHESTRATOR_DATABASE_URL") or f"sqlite:///{home / 'orchestrator.db'}"
    if "://" not in database_url:
        mistakes.append("BUILD_ORCHESTRATOR_DATABASE_URL should be a URL, e.g. postgresql+psycopg://user@host/name")
    if mistakes:
        raise ConfigError(_listed(mistakes))
    token = given(environ, "BUILD_ORCHESTRATOR_TOKEN")
    return Config.model_construct(
        _fields_set=None,
        **{**dict(settings), "log_format": form},
        home=home,
        database_url=database_url,
        token=SecretStr(token) if token else None,
        log_level=level,
    )


def _home(environ: Mapping[str, str]) -> Path:
    place = environ.get("BUILD_ORCHESTRATOR_HOME")
    try:
        home = Path(place).expanduser() if place else Path(environ.get("HOME") or Path.home()) / ".build-orchestrator"
    except RuntimeError:
        raise ConfigError(
            "this user has no home folder; set BUILD_ORCHESTRATOR_HOME to a folder on a local disk"
        ) from None
    return Path.cwd() / home  # a worker started from here has another working directory


def _listed(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    more = [f"and {len(mistakes) - MAX_SHOWN} more"] if len(mistakes) > MAX_SHOWN else []
    return "\n".join([f"{len(mistakes)} mistakes in the configuration:", *mistakes[:MAX_SHOWN], *more])


def _read_settings(path: Path) -> tuple[Settings, list[str]]:
    """The file's settings, or the defaults with what is wrong in the file."""
    content, why = _content(path)
    if content is None:
        return Settings.model_construct(), [f"{path}: {why}"] if why else []
    try:
        document = read(content)
        settings, mistakes = check(document, Settings, private=_PRIVATE)
        mistakes += across(document)
    except YamlError as error:
        settings, mistakes = None, list(error.mistakes)
    return settings or Settings.model_construct(), [f"{path}:{mistake}" for mistake in sorted(set(mistakes))]


def _content(path: Path) -> tuple[bytes | None, str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None, "should be a file"
        return path.read_bytes(), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
