"""Parts of the orchestrator that most processes never need, each made when it is first asked for.

May import: devices, figures, kept, projects, queue_view, schedules, tokens, webhooks, workflows.
Never: anything else of ours.
"""

from functools import cached_property
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mcp_server.devices import Devices
    from mcp_server.figures import Figures
    from mcp_server.kept import Kept
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.projects import Projects
    from mcp_server.queue_view import Queue
    from mcp_server.schedules import Schedules
    from mcp_server.tokens import Tokens
    from mcp_server.webhooks import Webhooks
    from mcp_server.workflows import Workflows


class Facets:
    """What an orchestrator can do with boards and agents, and who may have it done over the network."""

    @cached_property
    def devices(self) -> "Devices":
        """What is done with boards and emulators."""
        from mcp_server.devices import Devices  # noqa: PLC0415 - most processes never touch a board

        return Devices(cast("Orchestrator", self))

    @cached_property
    def figures(self) -> "Figures":
        """What builds came to in figures."""
        from mcp_server.figures import Figures  # noqa: PLC0415 - as above

        return Figures(cast("Orchestrator", self))

    @cached_property
    def workflows(self) -> "Workflows":
        """What is done by several roles, and what agents mend and make."""
        from mcp_server.workflows import Workflows  # noqa: PLC0415 - as above

        return Workflows(cast("Orchestrator", self))

    @cached_property
    def tokens(self) -> "Tokens":
        """Who may use the service."""
        from mcp_server.tokens import Tokens  # noqa: PLC0415 - as above

        return Tokens(cast("Orchestrator", self))

    @cached_property
    def projects(self) -> "Projects":
        """The projects that are known here."""
        from mcp_server.projects import Projects  # noqa: PLC0415 - as above

        return Projects(cast("Orchestrator", self))

    @cached_property
    def kept(self) -> "Kept":
        """Files of builds that are in an object store."""
        from mcp_server.kept import Kept  # noqa: PLC0415 - as above

        return Kept(cast("Orchestrator", self))

    @cached_property
    def queue(self) -> "Queue":
        """Who waits for what."""
        from mcp_server.queue_view import Queue  # noqa: PLC0415 - as above

        return Queue(cast("Orchestrator", self))

    @cached_property
    def schedules(self) -> "Schedules":
        """What comes round by the clock."""
        from mcp_server.schedules import Schedules  # noqa: PLC0415 - as above

        return Schedules(cast("Orchestrator", self))

    @cached_property
    def webhooks(self) -> "Webhooks":
        """What other services tell of."""
        from mcp_server.webhooks import Webhooks  # noqa: PLC0415 - as above

        return Webhooks(cast("Orchestrator", self))
