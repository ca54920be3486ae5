"""Files, projects and what is refused: resources by address."""

import base64
import hashlib
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, BlobResourceContents, TextResourceContents

from mcp_server.model import Artifact, BuildStatus, StageStatus, Verdict
from mcp_server.tools.resources import ARTIFACT_BYTES
from tests.unit.tools.fake import PROJECT, Fake, a_build, a_stage, a_view, succeeded_view


def left(fake: Fake, root: Path, *names: str) -> None:
    """A build that has recorded these files of `root`."""
    files = tuple(
        Artifact(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name in names
        for content in [(root / name).read_bytes()]
    )
    stage = a_stage(StageStatus.SUCCESS, verdict=Verdict(result="pass", artifacts=files))
    fake.push(a_view(a_build(status=BuildStatus.SUCCESS, artifacts_path=str(root)), stage))


async def test_the_templates(client: Client) -> None:
    """interfaces: resources."""
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == [
        "build://{id}",
        "build://{id}/log/{stage}{?tail}",
        "build://{id}/artifacts/{+path}",
        "project://{id}",
        "host://{name}",
    ]


async def test_a_file_is_text_or_bytes(client: Client, fake: Fake, tmp_path: Path) -> None:
    """interfaces: artifacts by their recorded path, also with the slash encoded."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "blink.map").write_text("größe 1\n")
    (tmp_path / "blink.bin").write_bytes(b"\xe9\0\1")
    left(fake, tmp_path, "maps/blink.map", "blink.bin")

    for address in ("maps/blink.map", "maps%2Fblink.map", "build/maps/blink.map"):
        (text,) = (await client.read_resource(f"build://42/artifacts/{address}")).contents
        assert isinstance(text, TextResourceContents)
        assert (text.text, text.mime_type) == ("größe 1\n", "text/plain")
    (blob,) = (await client.read_resource("build://42/artifacts/blink.bin")).contents
    assert isinstance(blob, BlobResourceContents)
    assert (base64.b64decode(blob.blob), blob.mime_type) == (b"\xe9\0\1", "application/octet-stream")


async def test_only_what_was_recorded_is_read(client: Client, fake: Fake, tmp_path: Path) -> None:
    """Path traversal; a file beside the recorded ones; one that was changed; one that is too large."""
    (tmp_path / "secret").write_text("token")
    (tmp_path / "blink.map").write_text("before")
    (tmp_path / "large.bin").write_bytes(bytes(ARTIFACT_BYTES + 1))
    left(fake, tmp_path, "blink.map", "large.bin")
    (tmp_path / "blink.map").write_text("after!")

    for path, said in {
        "secret": "left no file 'secret'",
        "../secret": "Unknown resource",
        "%2E%2E%2Fsecret": "Unknown resource",
        "%2Fetc%2Fpasswd": "Unknown resource",
        "blink.map": "was changed since",
        "large.bin": "has 1,000,001 bytes; at most 1,000,000",
    }.items():
        with pytest.raises(MCPError, match=said):
            await client.read_resource(f"build://42/artifacts/{path}")


async def test_a_project_with_its_builds(client: Client, fake: Fake) -> None:
    """interfaces: project://{id}; a known one only, never a folder."""
    fake.push(succeeded_view())

    for known in (PROJECT.id, PROJECT.name):
        (text,) = (await client.read_resource(f"project://{known}")).contents
        assert isinstance(text, TextResourceContents)
        first, _, row = text.text.splitlines()
        assert first == "blink · active · /home/me/blink"
        assert row.startswith("42 success")
    with pytest.raises(MCPError, match="is not known"):
        await client.read_resource("project://other")
    with pytest.raises(MCPError, match="Unknown resource"):
        await client.read_resource("project://%2Fetc")


async def test_a_prompt_that_there_is_not_is_a_wrong_argument(client: Client) -> None:
    """MCP: -32602, found by its conformance suite."""
    with pytest.raises(MCPError, match="there is no prompt 'other'; there are fix_build, ") as refused:
        await client.get_prompt("other")
    assert refused.value.error.code == INVALID_PARAMS
