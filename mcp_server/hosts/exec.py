"""A host behind any command that runs another one there: `kubectl exec -i POD --`, `docker exec -i NAME`."""

import os
from collections.abc import Mapping, Sequence

from mcp_server.hosts.base import Channel
from mcp_server.hosts.far import FarHost, FarShell
from mcp_server.hosts.local import spawn


class ExecShell(FarShell):
    """The Shell port through one process here for each channel, with the environment that the command needs."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        jobs_dir: str | None = None,
    ) -> None:
        super().__init__(name, jobs_dir)
        self.command = list(command)
        self.environment = os.environ if environment is None else environment

    async def run(self, program: str) -> Channel:
        return await spawn(self.name, [*self.command, "sh", "-c", program], self.environment)

    async def aclose(self) -> None:
        """Nothing is kept: each channel is a process of its own."""


class ExecHost(FarHost):
    """The Host port through a command channel. A lost channel is a link fault; the job there runs on."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        jobs_dir: str | None = None,
    ) -> None:
        self.shell: ExecShell
        super().__init__(ExecShell(name, command, environment, jobs_dir))
