"""Models behind the Messages API with tools of ours: Anthropic's by a key, a compatible server's, Ollama's."""

import asyncio
import http.client
import json
from collections.abc import Mapping
from importlib import metadata, util
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from mcp_server.agents.base import EXTRA, AgentRequest, AgentResult, Availability, Capabilities, Tell
from mcp_server.agents.conversation import Conversation, Server
from mcp_server.agents.folder_tools import FolderTools
from mcp_server.agents.permission import Policy
from mcp_server.text import one_line

API = "https://api.anthropic.com"
MODEL = "claude-sonnet-5-5"  # the newest of the middle size, October 2026
OLLAMA = "http://localhost:11434"

_SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_API_KEY")
_ASK_S = 1.0  # for an Ollama on this machine or near it
_MAX_ANSWER_BYTES = 1_000_000
_RETRIES = 4  # by the SDK, with its own backoff of 0.5 to 8 s or what the server asks for


class Settings(Protocol):
    """What config.yaml says of an agent: `url` is another server than the usual one."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str | None: ...

    @property
    def url(self) -> str | None: ...


class AnthropicAgent:
    """Anthropic's API, or a server compatible with it by `url` or ANTHROPIC_BASE_URL.

    `max_tokens` are those of one answer.
    """

    wants: tuple[str, ...] = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
    capabilities = Capabilities(cost=True, turns=True, money=True)

    def __init__(self, settings: Settings, *, max_tokens: int = 16_384, retries: int = _RETRIES) -> None:
        self.name, self._model, self._url = settings.name, settings.model, settings.url
        self._max_tokens, self._retries = max_tokens, retries

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        """The SDK's version, or what is missing."""
        if (missing := _sdk_missing()) is not None:
            return missing
        if not (_key(environment) or self._given_url(environment)):
            return Availability(False, "no key: set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL for a compatible server")
        return Availability(True, f"anthropic {metadata.version('anthropic')}")

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        """One prompt to its end; cancelling hangs up and kills a running command."""
        if (missing := _sdk_missing()) is not None:
            return AgentResult(stopped="error", text=missing.text)
        server = await self._server(request, environment)
        if isinstance(server, str):
            return AgentResult(stopped="error", text=server)
        from anthropic import AsyncAnthropic  # noqa: PLC0415  # 0.9 s

        policy = Policy.of(request)
        # What a command prints goes to the model and into the log: the key is none of its business.
        kept = {name: value for name, value in environment.items() if name not in _SECRETS}
        # The SDK sends a key as a bearer token only; some compatible servers read the other header.
        headers = {} if server.base_url == API else {"x-api-key": server.key}
        async with AsyncAnthropic(
            base_url=server.base_url, api_key=server.key, max_retries=self._retries, default_headers=headers
        ) as client:
            return await Conversation(client, server, FolderTools(policy, kept), request, tell).run()

    def _given_url(self, environment: Mapping[str, str]) -> str | None:
        return self._url or environment.get("ANTHROPIC_BASE_URL") or None

    async def _server(self, request: AgentRequest, environment: Mapping[str, str]) -> Server | str:
        """Where to ask, or why nowhere."""
        key, given = _key(environment), self._given_url(environment)
        if not key and not given:
            return "there is no key: set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL for a compatible server"
        if given and urlsplit(given).scheme not in ("http", "https"):
            return f"ANTHROPIC_BASE_URL: {one_line(given, 100)!r} is no http:// or https:// address"
        base_url, model = _base(given or API), request.model or self._model or MODEL
        return Server(base_url, key or "none", model, self._max_tokens)


class OllamaAgent(AnthropicAgent):
    """Ollama by OLLAMA_HOST, else on this machine: it speaks the Messages API since 0.14, without threads or cache."""

    wants = ("OLLAMA_HOST", "OLLAMA_API_KEY")
    capabilities = Capabilities(turns=True)

    def __init__(self, settings: Settings, *, max_tokens: int = 8192, retries: int = 1) -> None:
        super().__init__(settings, max_tokens=max_tokens, retries=retries)

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        """The server's version, asked for within a second."""
        if (missing := _sdk_missing()) is not None:
            return missing
        url = self._given_url(environment)
        answer = await _asked(url, "/api/version", environment)
        if answer is None:
            return Availability(False, f"no Ollama answers at {url}: start it by `ollama serve`, or set OLLAMA_HOST")
        return Availability(True, f"Ollama {one_line(answer.get('version', 'of unknown version'), 40)} at {url}")

    def _given_url(self, environment: Mapping[str, str]) -> str:
        return ollama_url(self._url or environment.get("OLLAMA_HOST") or OLLAMA)

    async def _server(self, request: AgentRequest, environment: Mapping[str, str]) -> Server | str:
        url = self._given_url(environment)
        model = request.model or self._model
        if model is None:
            answer = await _asked(url, "/api/tags", environment)
            if answer is None:
                return f"no Ollama answers at {url}: start it by `ollama serve`, or set OLLAMA_HOST"
            if (model := _first_model(answer)) is None:
                return f"Ollama at {url} has no model: get one by `ollama pull qwen3-coder`, or set `model`"
        # It ignores the key, but refuses a request without one.
        key = environment.get("OLLAMA_API_KEY") or "ollama"
        return Server(url, key, model, self._max_tokens, priced=False, caches=False)


def ollama_url(host: str) -> str:
    """OLLAMA_HOST as an address: `host`, `host:port`, `:port` or a URL; 0.0.0.0 is where it listens, not where it is.

    https without a port means 443, http likewise 80, as Ollama itself reads them; all else 11434.
    """
    named = host.strip().rstrip("/")
    scheme, _, rest = named.rpartition("://")
    rest = rest.removesuffix("/v1")
    if rest.startswith(":"):
        rest = f"localhost{rest}"
    bare, path = rest.partition("/")[0], rest.partition("/")[2]
    bare = bare.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # nothing listens here
    if not scheme and (":" not in bare or bare.endswith("]")):
        bare = f"{bare}:11434"
    return f"{scheme or 'http'}://{bare}" + (f"/{path}" if path else "")


def _sdk_missing() -> Availability | None:
    return None if util.find_spec("anthropic") else Availability(False, f"the anthropic package is missing: {EXTRA}")


def _key(environment: Mapping[str, str]) -> str | None:
    return environment.get("ANTHROPIC_API_KEY") or environment.get("ANTHROPIC_AUTH_TOKEN") or None


def _base(url: str) -> str:
    """Without the /v1 that the SDK adds itself."""
    return url.rstrip("/").removesuffix("/v1")


async def _asked(url: str, path: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """A JSON object that a server answers with within a second; None: nothing of the kind."""
    key = environment.get("OLLAMA_API_KEY")
    try:
        async with asyncio.timeout(_ASK_S * 1.5):
            return await asyncio.to_thread(_get, url, path, {"Authorization": f"Bearer {key}"} if key else {})
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _get(url: str, path: str, headers: dict[str, str]) -> dict[str, Any] | None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_ASK_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        answer: object = json.loads(response.read(_MAX_ANSWER_BYTES)) if response.status == 200 else None
    finally:
        connection.close()
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None


def _first_model(answer: Mapping[str, Any]) -> str | None:
    match answer.get("models"):
        case [{"name": str() as name}, *_]:
            return name
        case _:
            return None
