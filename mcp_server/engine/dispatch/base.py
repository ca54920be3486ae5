"""The dispatch port."""

from collections.abc import Sequence
from typing import Protocol

from mcp_server.store.builds import OpenBuild


class Dispatch(Protocol):
    """Sees to it that `run_build` is called for every open build, some time, at least once."""

    def dispatch(self, open_builds: Sequence[OpenBuild]) -> None:
        """Take what is open now, in the order given; repeating it changes nothing."""
        ...

    def cancel(self, build: int) -> bool:
        """Pass a user's cancel on to a build that runs here; False if none does."""
        ...

    async def aclose(self) -> None:
        """Let go of all builds; their jobs run on."""
        ...
