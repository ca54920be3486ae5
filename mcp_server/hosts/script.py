"""The scripts that a host runs for us: constants, installed under a name that holds their hash."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files


@dataclass(frozen=True)
class Script:
    """One POSIX-sh script. A shell reads its script as it goes, so each version has its own name and never changes."""

    stem: str

    @cached_property
    def text(self) -> bytes:
        return files("mcp_server.hosts").joinpath(f"{self.stem}.sh").read_bytes()

    @cached_property
    def name(self) -> str:
        """Beside the jobs: `.<stem>-<16 hex digits of its hash>.sh`."""
        return f".{self.stem}-{sha256(self.text).hexdigest()[:16]}.sh"


JOB = Script("job")
"""Detached jobs: started, awaited, followed, killed."""
