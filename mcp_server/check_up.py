"""What `doctor` looks at: ESP-IDF and this machine, then the channels that would be told of a build.

May import: model, config, clock, errors, idf, notify, secret_store. Never: store, engine, hosts, a front.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcp_server.clock import SystemClock
from mcp_server.config import Config
from mcp_server.idf import doctor
from mcp_server.idf.doctor import Check
from mcp_server.notify.channels import Channels
from mcp_server.secret_store import Secrets


async def examine(
    config: Config, environment: Mapping[str, str], project: Path | None, port: str | None
) -> Sequence[Check]:
    """Every check; a channel that cannot deliver is named, one that can is not worth a line."""
    checks = await doctor.examine(config, environment, project, port)
    if not config.notifications:
        return checks
    channels = Channels(config.notifications, Secrets(config, environment), SystemClock())
    problems = await asyncio.to_thread(channels.problems)
    return [*checks, *(Check(name="notifications", status="warn", found=problem) for problem in problems)]
