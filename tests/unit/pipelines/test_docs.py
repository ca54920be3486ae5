"""The examples in docs/pipelines.md load as they stand there."""

import re
import textwrap
from pathlib import Path

import pytest

from mcp_server.config import Defaults
from mcp_server.pipelines.spec import load

DOCUMENT = Path(__file__).parents[3] / "docs" / "pipelines.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def whole(block: str) -> list[str]:
    """The files that a block stands for: itself, or with what it leaves out around it."""
    if block.startswith("pipeline:"):
        return [block]
    if block.startswith("- name:"):
        return [f"pipeline:\n  stages:\n{textwrap.indent(block, '    ')}"]
    if block.startswith("on_"):
        return [f"pipeline: {{stages: [{{name: a, command: x}}]}}\n{block}"]
    params = "{target: esp32, release: false, jobs: 8}"
    head = (
        f"pipeline:\n  params: {params}\n  stages:\n    - name: a\n      command: x\n      matrix: {{chip: [esp32]}}\n"
    )
    return [f"{head}      {line}\n" for line in block.splitlines()]


@pytest.mark.parametrize("text", [text for block in BLOCKS for text in whole(block)])
def test_example_of_the_document_loads(text: str) -> None:
    """Ours. People copy them."""
    assert load(text, name=DOCUMENT.name, defaults=Defaults()).stages
