"""What the tests of this folder share: `load` and `refusal` of a text."""

from collections.abc import Sequence
from typing import Any

import pytest

from mcp_server import pipeline_uses
from mcp_server.config import Agents, Defaults
from mcp_server.errors import BadInput, PipelineError
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.pipelines.spec import load as load_file

SERVERS = {"farm": ["farm"], "yocto": ["yocto-builder"], "idf": ["farm", "spare"], "local": ["local"]}


def known_hosts(reference: str) -> Sequence[str]:
    """The hosts of a configuration with a name, an alias and a tag."""
    if reference not in SERVERS:
        raise BadInput("server", f"no server is known as '{reference}'; did you mean 'farm'?")
    return SERVERS[reference]


def known_agent(name: str) -> None:
    """As of a configuration that names no agent."""
    pipeline_uses.known_agent(Agents(), name)


def load(text: str | bytes, **params: Any) -> Pipeline:
    return load_file(
        text,
        name="p.yaml",
        params=params,
        defaults=Defaults(),
        known_hosts=known_hosts,
        known_agent=known_agent,
    )


def refusal(text: str | bytes, **params: Any) -> str:
    """What is said of a text that is refused, without the file's name."""
    with pytest.raises(PipelineError) as error:
        load(text, **params)
    return str(error.value).replace("p.yaml:", "").removesuffix("\n")


def stages(text: str, **params: Any) -> dict[str, PipelineStage]:
    """The stages of `pipeline: {stages: [text]}`; each stage in `text` is a `- {…}` line."""
    return {stage.name: stage for stage in load(f"pipeline:\n  stages:\n{text}", **params).stages}
