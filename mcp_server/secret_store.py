"""Secrets, read when they are used: `${env:NAME}`, `${keyring:service/name}`, `${secret:NAME}` (HOME/secrets, 0600),
`${file:/path}` (a file that a unit or a container was given).

May import: config, errors.
"""

import contextlib
import importlib
import os
import re
import secrets as randomness
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from pydantic import SecretStr

from mcp_server.config import Config
from mcp_server.errors import BadInput, EnvironmentMissing, NotFound

MAX_BYTES = 65_536  # a key or a token; more is the wrong file

_REFERENCE = re.compile(r"\$\{(env|file|keyring|secret):([^{}]+)\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Secrets:
    """What references stand for. Nothing is kept: each call reads anew, so a changed secret needs no restart."""

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = config.secrets_dir, environment

    def resolve(self, text: str | SecretStr) -> str:
        """`text` with every reference in it replaced. EnvironmentMissing: one that is not set, and what sets it."""
        given = text.get_secret_value() if isinstance(text, SecretStr) else text
        return _REFERENCE.sub(lambda found: self._value(found[1], found[2]), given)

    def get(self, name: str) -> str:
        """The secret of this name: from HOME/secrets, else from the environment. EnvironmentMissing: in neither."""
        value = read_secret(self._folder, name)
        value = self._environment.get(name) if value is None else value
        if not value:
            raise _missing(name)
        return value

    def _value(self, kind: str, name: str) -> str:
        if kind == "env":
            if not (value := self._environment.get(name)):
                raise EnvironmentMissing(
                    f"the environment of the worker has no {name}: set it and start the worker again, "
                    f"or keep it as ${{secret:{name}}} with: build-orchestrator secrets set {name}"
                )
            return value
        if kind == "keyring":
            return _from_keyring(name)
        if kind == "file":
            return _from_file(Path(name))
        if not (value := read_secret(self._folder, name)):
            raise _missing(name)
        return value


def _from_file(path: Path) -> str:
    """As systemd and containers hand secrets over: who may read it is theirs to say."""
    try:
        if not path.is_file():
            raise EnvironmentMissing(f"the secret file {path} is not there")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EnvironmentMissing(f"the secret file {path} cannot be read: {error.strerror}") from None
    try:
        text = _without_line_end(content.decode())
    except ValueError:
        text = ""
    if not text or len(content) > MAX_BYTES or "\0" in text:
        raise EnvironmentMissing(f"the secret file {path} should be text of 1 byte to 64 KiB")
    return text


class _Keyring(Protocol):
    def get_password(self, service_name: str, username: str) -> str | None: ...


def read_secret(folder: Path, name: str) -> str | None:
    """The secret in `folder`, without the line's end; None where there is none.

    EnvironmentMissing: a file that others may read, that is none of ours, or that holds no text. BadInput: the name.
    """
    path = folder / _checked(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EnvironmentMissing(f"the secret {name} cannot be read: {path}: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise EnvironmentMissing(f"the secret {name} should be a file: {path}")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_mode & 0o077:
            raise EnvironmentMissing(f"the secret {name} can be read by others: chmod 600 {path}")
        content = file.read(MAX_BYTES + 1)
    try:
        if len(content) > MAX_BYTES or b"\0" in content:
            raise ValueError
        text = content.decode()
    except ValueError:
        raise EnvironmentMissing(f"the secret {name} should be text of at most 64 KiB: {path}") from None
    return _without_line_end(text)


def set_secret(folder: Path, name: str, value: str) -> None:
    """Write HOME/secrets/NAME, 0600, whole or not at all. BadInput: the name or the value cannot be used."""
    path = folder / _checked(name)
    data = _without_line_end(value).encode()
    if not data or len(data) > MAX_BYTES or b"\0" in data:
        raise BadInput("value", "a secret is text of 1 byte to 64 KiB without a zero byte")
    passing = folder / f".{name}.{randomness.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(descriptor)
        passing.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            passing.unlink()
        raise EnvironmentMissing(f"the secret {name} cannot be written: {path}: {error.strerror}") from None


def make_secret(folder: Path, name: str, make: Callable[[], str]) -> str:
    """The secret of this name; where there is none, what `make` gives, of all who come at once that of the first."""
    if (found := read_secret(folder, name)) is not None:
        return found
    passing = f"{name}.{randomness.token_hex(4)}"
    set_secret(folder, passing, make())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(folder / passing, folder / name)
    except OSError as error:
        raise EnvironmentMissing(f"the secret {name} cannot be written: {folder}: {error.strerror}") from None
    finally:
        (folder / passing).unlink(missing_ok=True)
    found = read_secret(folder, name)
    if found is None:
        raise _missing(name)
    return found


def list_secrets(folder: Path) -> list[str]:
    """The names of the secrets that are set, sorted; never a value."""
    try:
        return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise EnvironmentMissing(f"the secrets cannot be listed: {folder}: {error.strerror}") from None


def delete_secret(folder: Path, name: str) -> None:
    """Remove one. NotFound: it is not set."""
    try:
        (folder / _checked(name)).unlink()
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(list_secrets(folder)[:20]) or "none"
        raise NotFound(f"no secret {name}; set are: {known}") from None
    except OSError as error:
        raise EnvironmentMissing(f"the secret {name} cannot be removed: {error.strerror}") from None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput("name", "a secret's name has letters, digits, '_', '.' and '-', begins with none of '.' and '-'")
    return name


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _missing(name: str) -> EnvironmentMissing:
    return EnvironmentMissing(f"the secret {name} is not set: build-orchestrator secrets set {name}")


def _from_keyring(reference: str) -> str:
    service, _, name = reference.partition("/")
    try:
        keyring = cast(_Keyring, importlib.import_module("keyring"))
    except ImportError:
        raise EnvironmentMissing(
            f"${{keyring:{reference}}} needs the keyring package beside build-orchestrator: pip install keyring, "
            "or keep it as ${secret:NAME} with: build-orchestrator secrets set NAME"
        ) from None
    ask: Callable[[str, str], str | None] = keyring.get_password
    try:
        value = ask(service, name)
    except Exception as error:  # each backend has errors of its own, and their words may hold anything
        raise EnvironmentMissing(f"the keyring did not answer for {reference}: {type(error).__name__}") from None
    if not value:
        raise EnvironmentMissing(f"the keyring has no {reference}: keyring set {service} {name}")
    return value
