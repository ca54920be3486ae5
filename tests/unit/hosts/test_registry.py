"""Names, aliases and tags of hosts, and what a changed configuration does to those that are open."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from mcp_server.config import Config, Server, load_config
from mcp_server.errors import BadInput
from mcp_server.hosts.exec import ExecHost
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.registry import Hosts
from mcp_server.hosts.ssh import SshHost


def config(tmp_path: Path, **servers: dict[str, Any]) -> Config:
    whole = load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path)})
    return whole.model_copy(update={"servers": {name: Server(**entry) for name, entry in servers.items()}})


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(
        config(
            tmp_path,
            yocto={"host": "builder1", "alias": "linux-s32", "tags": ("big", "arm"), "slots": 2},
            pod={"exec": ("kubectl", "exec", "-i", "p", "--"), "tags": ("big",)},
            local={"slots": 5, "tags": ("here",)},
        ),
        {},
    )


def test_local_comes_first_then_the_files_order(hosts: Hosts) -> None:
    """Ours: and it is there without an entry."""
    assert hosts.names() == ["local", "yocto", "pod"]


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("yocto", ["yocto"]),
        ("linux-s32", ["yocto"]),
        ("big", ["yocto", "pod"]),
        ("local", ["local"]),
        ("here", ["local"]),
    ],
)
def test_a_reference_is_a_name_an_alias_or_a_tag(hosts: Hosts, reference: str, names: list[str]) -> None:
    """Issue."""
    assert hosts.resolve(reference) == names


@pytest.mark.parametrize(("wrong", "near"), [("yocot", "'yocto'"), ("linux-s3", "'linux-s32'"), ("bigg", "'big'")])
def test_an_unknown_server_names_the_nearest_one(hosts: Hosts, wrong: str, near: str) -> None:
    """Issue."""
    with pytest.raises(BadInput, match=f"host: no server '{wrong}'; did you mean {near}"):
        hosts.resolve(wrong)


def test_an_alias_is_not_a_name_where_a_name_is_needed(hosts: Hosts) -> None:
    """Ours: what is stored with a build is the name."""
    with pytest.raises(BadInput):
        hosts.get("linux-s32")


def test_each_entry_has_its_make_and_keeps_it(hosts: Hosts) -> None:
    """Ours: one connection a host, not one a caller."""
    makes = [type(hosts.get(name)) for name in hosts.names()]
    assert makes == [LocalHost, SshHost, ExecHost]
    assert hosts.get("yocto") is hosts.get("yocto")


def test_slots_are_the_entrys_or_the_default(hosts: Hosts) -> None:
    """Interfaces: defaults.parallel_limit."""
    assert [hosts.slots(name) for name in hosts.names()] == [5, 2, 3]


def test_a_changed_way_makes_a_new_host_and_nothing_else_does(hosts: Hosts, tmp_path: Path) -> None:
    """Ours: another slot count is no reason to cut a link."""
    local, yocto, pod = (hosts.get(name) for name in hosts.names())
    changed = config(
        tmp_path,
        yocto={"host": "builder1", "slots": 9},
        pod={"exec": ("docker", "exec", "-i", "p")},
    )
    hosts.update(changed)
    assert hosts.get("local") is local
    assert hosts.get("yocto") is yocto
    assert hosts.get("pod") is not pod
    assert hosts.slots("yocto") == 9


async def test_a_replaced_host_is_closed_when_nobody_holds_it(hosts: Hosts, tmp_path: Path) -> None:
    """Ours: whoever waits for a job of it goes on waiting."""
    old = hosts.get("yocto")
    assert isinstance(old, SshHost)
    closed = asyncio.Event()
    shell = old.shell

    async def close() -> None:
        closed.set()

    shell.aclose = close
    hosts.update(config(tmp_path, yocto={"host": "builder2"}))
    gc.collect()
    await asyncio.sleep(0)
    assert not closed.is_set()
    del old
    gc.collect()
    async with asyncio.timeout(5):
        await closed.wait()
    await hosts.aclose()


async def test_everything_is_closed_at_the_end(hosts: Hosts, tmp_path: Path) -> None:
    """Ours: retired hosts, too, even where they are still held."""
    old = hosts.get("yocto")
    assert isinstance(old, SshHost)
    hosts.update(config(tmp_path))
    closed: list[str] = []

    async def close() -> None:
        closed.append("yocto")

    old.shell.aclose = close
    await hosts.aclose()
    assert closed == ["yocto"]
