"""A loopback stand-in for Woodpecker's server: the four API calls that are used, with the fields of its own models."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_peer import Got, Peer, answer, http_peer

TOKEN = "hunter2"


def step(number: int, name: str, state: str, code: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": number, "pid": number, "name": name, "state": state, "exit_code": code, "type": "commands", **more}


def pipeline(number: int, commit: str, status: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    flow = {"id": 1, "pid": 1, "name": "main", "state": status, "children": list(steps)}
    said = {"id": number + 100, "number": number, "event": "push", "status": status, "commit": commit, "errors": None}
    return {**said, "workflows": [flow], **more}


@dataclass
class Woodpecker:
    """Each look at the list shows the next of `looks`, the last one for ever; `logs` are lines by step id."""

    peer: Peer
    looks: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])
    logs: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    broken: list[bytes] = field(default_factory=list[bytes])
    prefix: str = ""
    now: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.peer.port}{self.prefix}"

    async def talk(self, got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(self.broken.pop(0) if self.broken else self._answer(got))
        await writer.drain()

    def _answer(self, got: Got) -> bytes:
        if got.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(401)
        path, _, query = got.path.removeprefix(f"{self.prefix}/api").partition("?")
        if path == "/repos/lookup/owner/name":
            return self._json({"id": 7, "full_name": "owner/name"})
        if path == "/repos/7/pipelines":
            assert "perPage=50" in query
            self.now = self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)
            return self._json(
                [{key: value for key, value in entry.items() if key != "workflows"} for entry in self.now]
            )
        for entry in self.now:
            if path == f"/repos/7/pipelines/{entry['number']}":
                return self._json(entry)
            for number, lines in self.logs.items():
                if path == f"/repos/7/logs/{entry['number']}/{number}":
                    return self._json(
                        [
                            {"id": place, "line": place, "type": 0, "data": base64.b64encode(line.encode()).decode()}
                            for place, line in enumerate(lines)
                        ]
                    )
        return answer(404)

    @staticmethod
    def _json(value: Any) -> bytes:
        return answer(200, json.dumps(value).encode(), Content_Type="application/json")


@asynccontextmanager
async def woodpecker() -> AsyncGenerator[Woodpecker]:
    async with http_peer() as peer:
        server = Woodpecker(peer)
        peer.talk = server.talk
        yield server
