"""Variables that may be secret: given as NAME, or in the file that NAME_FILE names, as containers and units do."""

from collections.abc import Mapping
from pathlib import Path

from mcp_server.errors import ConfigError

MAX_BYTES = 65_536


def given(environ: Mapping[str, str], name: str) -> str | None:
    """The value, None where neither is set. ConfigError: both are, or the file cannot be read."""
    place = environ.get(f"{name}_FILE")
    if not place:
        return environ.get(name) or None
    if environ.get(name):
        raise ConfigError(f"{name} and {name}_FILE are both set: keep one")
    try:
        with Path(place).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode().strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{name}_FILE names {place[:200]}, which cannot be read: {why}") from None
    if not text or len(text) > MAX_BYTES:
        raise ConfigError(f"{name}_FILE names {place[:200]}, which should hold one value")
    return text
