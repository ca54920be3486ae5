"""Calling a tool the way a test wants to read it."""

from typing import Any

from mcp import Client
from mcp_types import TextContent


async def call(client: Client, tool: str, **arguments: Any) -> tuple[str, bool]:
    """The text that the model gets, and whether it is flagged as an error."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert result.structured_content is None  # with it, clients drop the text
    return content.text, bool(result.is_error)
