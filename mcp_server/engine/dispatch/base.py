"""The dispatch port."""

from collections.abc import Sequence
from typing import Protocol

from mcp_server.store.builds import OpenBuild


class Dispatch(Protocol):
    """Sees to it that `run_build` is called for every open build, some time, at least once."""

    def dispatch(self, open_builds: Sequence[OpenBuild]) -> None:
        """Know of these, and take whom the limits leave room for; repeating it changes nothing.

        What ran before is taken at once, what is to be cancelled too. What was once named need not be again.
        """
        ...

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits here."""
        ...

    @property
    def held_back(self) -> bool:
        """Whether builds wait for others to end, as the limits say."""
        ...

    async def aclose(self) -> None:
        """Let go of all builds; their jobs run on."""
        ...
