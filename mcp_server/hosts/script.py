"""The scripts that a host runs for us: constants, installed under a name that holds their hash."""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib.resources import files


@dataclass(frozen=True)
class Script:
    """One POSIX-sh script. A shell reads its script as it goes, so each version has its own name and never changes."""

    stem: str
    parts: tuple[str, ...] = ()
    """Stems of the files that make it up, in this order; `stem` alone where empty."""

    text: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:  # at import: later it would keep an event loop waiting for the disk
        object.__setattr__(self, "text", self._read())

    def _read(self) -> bytes:
        folder = files("mcp_server.hosts")
        return b"".join(folder.joinpath(f"{part}.sh").read_bytes() for part in self.parts or (self.stem,))

    @cached_property
    def name(self) -> str:
        """Beside the jobs: `.<stem>-<16 hex digits of its hash>.sh`."""
        return f".{self.stem}-{sha256(self.text).hexdigest()[:16]}.sh"


JOB = Script("job", ("job", "cap", "clean", "serve"))
"""Detached jobs: started, awaited, followed, killed; their logs capped, old ones removed."""
