"""OpenCode over HTTP: a running `opencode serve`, here or on another machine, told by `url`.

The server works in its own file system: the task's folder must be there under the same path. Events come by one stream;
where it is silent although the server lives, the session's state is asked for instead.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.agents.base import AgentRequest, AgentResult, Availability, Capabilities, Tell, Update
from mcp_server.agents.opencode_rules import OWN_FILES, PASSWORD, USERNAME
from mcp_server.agents.own_files import OwnFiles
from mcp_server.agents.permission import Policy
from mcp_server.agents.task import AgentSettings
from mcp_server.text import one_line

if TYPE_CHECKING:
    import httpx2

    from mcp_server.agents.opencode_session import Session

ANSWER_S = 30.0
ABORT_S = 1.5


class OpenCodeAgent:
    """One server. Cost and tokens are summed over the messages that it tells of."""

    wants: tuple[str, ...] = (USERNAME, PASSWORD)
    capabilities = Capabilities(resume=True, cost=True)

    def __init__(self, settings: AgentSettings) -> None:
        self.name, self._url, self._username = settings.name, settings.url or "", settings.username

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        if not self._url:
            return Availability(False, f"set agents.{self.name}.url to the address of a running `opencode serve`")
        return Availability(True, f"the OpenCode server at {self._url}")

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        import httpx2  # noqa: PLC0415  # heavy, and needed only here

        from mcp_server.agents.opencode_session import Session, Trouble  # noqa: PLC0415  # same

        password = environment.get(PASSWORD)
        username = self._username or environment.get(USERNAME) or "opencode"
        async with httpx2.AsyncClient(
            base_url=self._url,
            auth=httpx2.BasicAuth(username, password) if password else None,
            params={"directory": request.folder},
            timeout=ANSWER_S,
            trust_env=False,  # a proxy would see the password
        ) as http:
            own = OwnFiles(Path(request.folder), OWN_FILES)
            session = Session(http, Policy.of(request), tell, own)
            try:
                return await self._talk(session, request)
            except Trouble as error:
                why = str(error)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                why = self._why(error)
            finally:
                if (sentence := own.put_back()) is not None:
                    tell(Update(kind="note", text=sentence))
            return AgentResult(
                stopped="error", text=why, session=session.id, usage=session.usage, denied=session.denied
            )

    async def _talk(self, session: "Session", request: AgentRequest) -> AgentResult:
        try:
            return await session.play(request)
        finally:
            if session.busy:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(ABORT_S):
                        await session.abort()

    def _why(self, error: "httpx2.HTTPError | httpx2.InvalidURL") -> str:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code == 401:
            return f"{self._url} wants another name or password: set agents.{self.name}.username and .password"
        if code is not None:
            return f"{self._url} answered with status {code}: is it an OpenCode server?"
        return f"{self._url} does not answer: {one_line(error, 200) or type(error).__name__}"
