"""idf_build and doctor: what is passed on, what is answered, and what is flagged."""

from pathlib import Path

import pytest
from mcp import Client

from mcp_server.config import Server
from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.idf.doctor import Check
from mcp_server.machines import HostView
from mcp_server.model import BuildStatus
from tests.unit.tools.calls import call
from tests.unit.tools.fake import (
    PROJECT,
    Fake,
    a_build,
    a_view,
    failed_view,
    running_view,
    succeeded_view,
)


async def test_a_failed_build_is_flagged_and_its_report_is_all_there_is(client: Client, fake: Fake) -> None:
    """interfaces: isError with the report; no peer flags a failed build."""
    fake.push(failed_view())

    text, is_error = await call(client, "idf_build", project="/p")

    assert is_error
    assert text.startswith("build 42 failed in stage build")
    assert "main/app_main.c:41:5 error" in text
    assert len(text.encode()) <= 700


@pytest.mark.parametrize(
    ("view", "first"),
    [
        (succeeded_view(), "build 42 succeeded"),
        (a_view(a_build(status=BuildStatus.CANCELLED)), "build 42 cancelled"),
        (running_view(412, 1043), "build 42 running"),
    ],
)
async def test_whatever_has_not_failed_is_not_flagged(client: Client, fake: Fake, view: object, first: str) -> None:
    """interfaces: only a failed build is an error."""
    fake.views = [view]  # type: ignore[list-item]

    text, is_error = await call(client, "idf_build", project="/p", wait_s=0)

    assert not is_error
    assert text.startswith(first)


async def test_arguments_reach_the_orchestrator_as_they_were_meant(client: Client, fake: Fake) -> None:
    """interfaces: idf_build's arguments; null is as good as left out."""
    fake.push(succeeded_view())

    await call(client, "idf_build", project="/p", target="esp32c3", clean=True, wait_s=1)
    await call(client, "idf_build", project="/p", target=None)

    started = [arguments for name, arguments in fake.calls if name == "start_build"]
    first = {"project": "/p", "target": "esp32c3", "clean": True, "host": "local", "triggered_by": "mcp"}
    assert started == [first, {**first, "target": None, "clean": False}]


async def test_joining_a_pending_build_is_said(client: Client, fake: Fake) -> None:
    """Design: the same call again joins the pending build and says so."""
    fake.joined = True
    fake.push(a_view(a_build()))

    text, _ = await call(client, "idf_build", project="/p", wait_s=0)

    assert text.startswith("joined pending build 42: the same was asked for before\nbuild 42 pending")


@pytest.mark.parametrize("error", [EnvironmentMissing("no ESP-IDF: clone it"), BadInput("target", "'x' is none")])
async def test_a_refusal_is_its_sentence_and_nothing_else(client: Client, fake: Fake, error: Exception) -> None:
    """Style: errors."""
    fake.error = error

    assert await call(client, "idf_build", project="/p") == (str(error), True)


async def test_a_project_is_found_by_name_id_and_relative_path(
    client: Client, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """interfaces: `project` is a path, a name or an id; a folder that is there wins over a name."""
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(tmp_path))
    (tmp_path / "here").mkdir()
    fake.known["here"] = PROJECT
    fake.push(succeeded_view())

    for project in (".", "here", "./gone", "blink", PROJECT.id, None):
        await call(client, "idf_build", project=project)

    built = [arguments["project"] for name, arguments in fake.calls if name == "start_build"]
    here = str(tmp_path)
    assert built == [here, f"{here}/here", f"{here}/gone", PROJECT.path, PROJECT.path, here]


async def test_without_any_other_word_the_project_is_the_servers_folder(
    client: Client, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """interfaces: the last of the three."""
    monkeypatch.chdir(tmp_path)
    fake.push(succeeded_view())

    await call(client, "idf_build")

    assert fake.called("start_build")["project"] == str(tmp_path)


async def test_an_unknown_project_is_named_with_where_it_was_looked_for(
    client: Client, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Style: what, why, next."""
    monkeypatch.chdir(tmp_path)

    text, is_error = await call(client, "idf_build", project="nowhere")

    assert is_error
    assert text == f"project: 'nowhere' is neither a folder in {tmp_path} nor a known project's name"


async def test_doctor_tells_what_is_missing(client: Client, fake: Fake) -> None:
    """interfaces: doctor."""
    fake.checks = [
        Check(name="ESP-IDF", status="fail", found="none found", mend="git clone x"),
        Check(name="git", status="ok", found="2.39"),
    ]

    text, is_error = await call(client, "doctor", project="/p", port="/dev/ttyUSB0")

    assert not is_error  # looking succeeded
    assert text == (
        "1 problem: an ESP-IDF build could not start here; builds on other hosts are not affected\n"
        "ESP-IDF: none found\n  mend: git clone x\nfine: git 2.39"
    )
    assert fake.called("doctor") == {"project": "/p", "port": "/dev/ttyUSB0", "host": "local", "named": True}

    await call(client, "doctor")
    assert fake.calls[-1][1]["named"] is False  # nobody said that this server's folder is a project


async def test_doctor_of_another_host_tells_its_line_and_warnings(client: Client, fake: Fake) -> None:
    """Ours. A host of config.yaml is known, whatever is not looked at there."""
    fake.host_views = [HostView("yocto-builder", Server(host="192.168.1.101", alias="yocto"), 3, trouble="no route")]

    text, is_error = await call(client, "doctor", host="yocto")

    assert not is_error
    assert text.startswith("yocto-builder (yocto) · unreachable: no route · slots 0/3")
    assert "all is well" not in text
    assert fake.called("look_at_hosts") == {"name": "yocto", "check": True}
