"""What GitHub is to be told of a pushed commit: kept with the build's order and with its end, among the callbacks."""

import json
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from mcp_server.model import Build
from mcp_server.store import callbacks
from mcp_server.store.tables import CALLBACKS

STATUS = "status."  # what the events of such rows begin with

CommitState = Literal["pending", "success", "failure", "error"]


def tell_github(c: sa.Connection, build: Build, state: CommitState, description: str, now: datetime) -> None:
    """Have the state told, where the build is one of a push. What was not told yet of that commit is out of date."""
    if (pushed := build.plan.pushed) is None:
        return
    place = f"{pushed.repository}/statuses/{pushed.commit}"
    body = {"state": state, "context": pushed.context, **({"description": description} if description else {})}
    untold = sa.select(CALLBACKS.c.id, CALLBACKS.c.body).where(
        CALLBACKS.c.url == place, CALLBACKS.c.status == "pending", CALLBACKS.c.event.startswith(STATUS)
    )
    late = [row.id for row in c.execute(untold) if json.loads(row.body)["context"] == pushed.context]
    c.execute(sa.update(CALLBACKS).where(CALLBACKS.c.id.in_(late)).values(status="gone", next_at=None))
    text = json.dumps(body).encode("utf-8", "replace").decode()
    event = f"{STATUS}{'pending' if state == 'pending' else 'ended'}"
    callbacks.add(c, build.id, build.task_id, place, text, now, event=event)
