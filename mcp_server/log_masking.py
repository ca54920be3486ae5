"""Secrets out of a process's own log: those of this home, as they are now.

May import: config, errors, redact, secret_store.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from mcp_server.config import Config
from mcp_server.errors import OrchestratorError
from mcp_server.redact import Redactor
from mcp_server.secret_store import Secrets, list_secrets, read_secret

_VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")

LOOK_S = 5.0  # so often a changed secret is looked for, at most; a log has few lines


class Masking:
    """Masks what config.yaml, HOME/secrets and the environment keep secret; a keyring is not asked.

    Blocks for a few small files when they have changed.
    """

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        self._config, self._environment = config, environment
        self._seen: tuple[int, ...] | None = None
        self._looked = 0.0
        self._redactor = Redactor(())

    def text(self, text: str) -> str:
        """`text` with `***` in the place of each secret."""
        now = time.monotonic()
        if self._seen is None or now - self._looked >= LOOK_S:
            self._looked = now
            seen = tuple(_changed(path) for path in (self._config.secrets_dir, self._config.file))
            if seen != self._seen:
                self._seen = seen
                self._redactor = Redactor(self._values())
        return self._redactor.text(text)

    def _values(self) -> Iterator[str]:
        if self._config.token is not None:
            yield self._config.token.get_secret_value()
        with contextlib.suppress(ValueError):
            yield unquote(urlsplit(self._config.database_url).password or "")
        secrets = Secrets(self._config, self._environment)
        for text in _secret_texts(self._config):
            yield from (self._environment.get(name, "") for name in _VARIABLE.findall(text))
            with contextlib.suppress(OrchestratorError):
                yield text if "${keyring:" in text else secrets.resolve(text)
        folder = self._config.secrets_dir
        for name in list_secrets(folder):
            with contextlib.suppress(OrchestratorError):
                yield read_secret(folder, name) or ""


def _secret_texts(value: object) -> Iterator[str]:
    """Every secret of a model, and every text that refers to one, wherever it is in it."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, str):
        if _VARIABLE.search(value):
            yield value
    elif isinstance(value, BaseModel):
        for part in (*(getattr(value, name) for name in type(value).model_fields), *(value.model_extra or {}).values()):
            yield from _secret_texts(part)
    elif isinstance(value, Mapping):
        for part in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _secret_texts(part)  # pyright: ignore[reportUnknownArgumentType]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
