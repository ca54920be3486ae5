"""hosts, hosts trust, secrets and stats: tables, JSON, questions, and no secret ever shown."""

import io
import json
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from mcp_server.build_trends import FailingTest, SlowFile, TrendPoint, Trends
from mcp_server.cli import host_key, host_table
from mcp_server.config import Server, load_config
from mcp_server.hosts.probe import HostFacts, OtherProcess
from mcp_server.hosts.trust import OfferedKey
from mcp_server.machines import HostView
from mcp_server.model import Lease
from tests.unit.cli.builders import NOW as NOON
from tests.unit.cli.builders import FakeOrchestrator
from tests.unit.cli.conftest import Cli

GIB = 1 << 30
FACTS = HostFacts(
    system="Linux 6.1 x86_64",
    cpus=16,
    load=(3.2, 1.0, 1.0),
    memory_free=30 * GIB,
    disk_free=120 * GIB,
    disk_total=500 * GIB,
    work_free=None,
    clock_off_s=0.0,
    running_jobs=("abcdef01-42-build-1-1",),
    other_builds=(OtherProcess("bitbake", 4, ("build",)),),
    warnings=("no rsync there: a changed file sends its whole tree",),
    latency_s=0.0123,
)
YOCTO = HostView("yocto-builder", Server(host="192.168.1.101", alias="yocto", build="bitbake {task}"), 3, facts=FACTS)
DOWN = HostView("ccu2-builder", Server(host="192.168.1.102"), 3, trouble="connection refused at 192.168.1.102 port 22")
KEY = OfferedKey(
    server="yocto-builder",
    host="192.168.1.101",
    port=22,
    algorithm="ED25519",
    fingerprint="SHA256:abc",
    line="192.168.1.101 ssh-ed25519 AAAA\n",
    file=Path("/home/me/.ssh/known_hosts"),
    state="unknown",
)
CHANGED = replace(KEY, state="changed", where="/home/me/.ssh/known_hosts:3", mend="ssh-keygen -R 192.168.1.101")
KNOWN = replace(KEY, state="known", where="/home/me/.ssh/known_hosts:4")


def test_hosts_as_a_table_with_what_is_wrong_below(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: reachability, load, slots, jobs; 1 where one does not answer."""
    fake.host_views = [YOCTO, DOWN]

    result = cli("hosts")

    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0].split() == [word for column in host_table.COLUMNS for word in column.title.split()]
    assert lines[1].split()[:6] == ["yocto-builder", "yocto", "look", "12", "ms", "3.2/16"]
    assert "unreachable" in lines[2]
    assert lines[3] == "yocto-builder: no rsync there: a changed file sends its whole tree"
    assert lines[4] == "ccu2-builder: connection refused at 192.168.1.102 port 22"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    """Ours."""
    lines = host_table.host_lines([YOCTO, DOWN, replace(YOCTO, name="넓은이름" * 9)], width)

    assert all(cell_len(line.plain) <= width for line in lines)
    assert "yocto" in lines[1].plain


def test_one_host_is_asked_or_only_read_of(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: hosts NAME; --no-check reaches nobody."""
    fake.host_views = [replace(YOCTO, facts=None)]

    result = cli("hosts", "yocto", "--no-check")

    assert result.code == 0
    assert fake.called == [("look_at_hosts", "yocto", False)]
    assert "not asked" in result.out


def test_hosts_as_json_tell_everything(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: --json."""
    fake.host_views = [YOCTO, DOWN]

    up, down = json.loads(cli("hosts", "--json").out)

    assert (up["name"], up["alias"], up["facts"]["cpus"], up["trouble"]) == ("yocto-builder", "yocto", 16, None)
    assert down["facts"] is None and "refused" in down["trouble"]


def test_without_servers_it_is_said_where_they_are_named(cli: Cli, fake: FakeOrchestrator) -> None:
    """Ours."""
    fake.host_views = [HostView("local", Server(), 3, facts=replace(FACTS, warnings=()))]

    result = cli("hosts")

    assert result.code == 0
    assert f"no other hosts: `servers` in {fake.config.file}" in result.err


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes", 0), ("n", 1), ("", 1), ("certainly", 1)])
def test_trusting_asks_and_only_a_yes_counts(
    cli: Cli, fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """interfaces: show the fingerprint, ask, add the key."""
    fake.machines.offered = [KEY, KNOWN]
    monkeypatch.setattr("sys.stdin", Typing(answer + "\n"))

    result = cli("hosts", "trust", "yocto")

    assert result.code == code
    assert "192.168.1.101 port 22 offers a key that is not known yet:\n  ED25519 SHA256:abc\n" in result.out
    assert fake.machines.trusted == ([KEY] if code == 0 else [])


def test_a_changed_key_is_refused_with_the_command_that_removes_the_old_one(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. Never replaced here, whatever is answered."""
    fake.machines.offered = [CHANGED]

    result = cli("hosts", "trust", "yocto", "--fingerprint", "SHA256:abc")

    assert result.code == 2
    assert "is NOT the one that is known (/home/me/.ssh/known_hosts:3)" in result.out
    assert "ssh-keygen -R 192.168.1.101" in result.err
    assert fake.machines.trusted == []


def test_with_nobody_to_ask_the_fingerprint_must_be_given(cli: Cli, fake: FakeOrchestrator) -> None:
    """Ours. A script says which key it expects; a wrong one changes nothing."""
    fake.machines.offered = [KEY, KNOWN]

    asked = cli("hosts", "trust", "yocto")
    wrong = cli("hosts", "trust", "yocto", "--fingerprint", "SHA256:other")
    right = cli("hosts", "trust", "yocto", "--fingerprint", "SHA256:abc", "--json")

    assert (asked.code, wrong.code, right.code) == (2, 2, 0)
    assert "--fingerprint SHA256:abc" in asked.err
    assert "that is another key" in wrong.err
    assert json.loads(right.out)["state"] == "known"
    assert fake.machines.trusted == [KEY]


def test_keys_on_the_way_are_asked_about_one_after_the_other_but_not_for_ever(cli: Cli, fake: FakeOrchestrator) -> None:
    """Ours. A jump host comes first; a server that shows ever new ones is given up."""
    fake.machines.offered = [KEY]

    result = cli("hosts", "trust", "yocto", "--fingerprint", "SHA256:abc")

    assert result.code == 2
    assert len(fake.machines.trusted) == host_key.MOST_HOPS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trust"], "whose key? hosts trust NAME"),
        (["a", "b"], "one name at a time"),
        (["a", "--fingerprint", "x"], "belongs to hosts trust"),
    ],
)
def test_what_hosts_cannot_take_is_one_sentence(
    cli: Cli, fake: FakeOrchestrator, arguments: list[str], said: str
) -> None:
    """Ours."""
    result = cli("hosts", *arguments)

    assert result.code == 2 and said in result.err and result.err.count("\n") == 1


class Typing(io.StringIO):
    """A terminal where somebody types."""

    def isatty(self) -> bool:
        return True


def piped(text: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text))


def test_a_secret_is_read_from_stdin_and_never_shown(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """interfaces: secrets; 0600, never an argument."""
    monkeypatch.setattr("sys.stdin", piped(b"hunter2\n"))
    stored = cli("secrets", "set", "TOKEN")
    listed = cli("secrets", "list", "--json")
    removed = cli("secrets", "rm", "TOKEN", "--json")

    file = home / "secrets" / "TOKEN"
    assert (stored.code, stored.out) == (0, "secret TOKEN is set\n")
    assert json.loads(listed.out) == ["TOKEN"]
    assert json.loads(removed.out) == {"name": "TOKEN", "state": "removed"}
    assert not file.exists()
    for result in (stored, listed, removed):
        assert "hunter2" not in result.out + result.err


def test_a_secret_is_kept_for_its_user_alone(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours."""
    monkeypatch.setattr("sys.stdin", piped(b"hunter2"))

    cli("secrets", "set", "TOKEN")

    file = home / "secrets" / "TOKEN"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() == "hunter2"


@pytest.mark.parametrize(
    ("arguments", "value", "said"),
    [
        (["set"], b"x", "which one? secrets set NAME"),
        (["set", "../x"], b"x", "a secret's name has letters"),
        (["set", "A"], b"", "a secret is text of 1 byte"),
        (["set", "A"], b"x" * 70_000, "a secret is text of 1 byte to 64 KiB"),
        (["set", "A"], b"\xff\xfe", "a secret is text in UTF-8"),
        (["rm", "A"], b"", "no secret A"),
        (["list", "A"], b"", "list takes none"),
        (["show", "A"], b"", "'show' is none of set, list, rm"),
    ],
)
def test_what_secrets_cannot_take_is_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[str], value: bytes, said: str
) -> None:
    """Ours."""
    monkeypatch.setattr("sys.stdin", piped(value))

    result = cli("secrets", *arguments)

    assert (result.code, result.out) == (2, "")
    assert said in result.err and result.err.count("\n") == 1


def test_stats_show_counts_causes_slow_stages_hosts_and_days(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: stats."""
    result = cli("stats", "--project", "blink")

    assert result.code == 0
    assert fake.called == [("stats", "blink")]
    assert "success rate        75 %" in result.out
    assert "    2  compile  'LED' undeclared  main/app.c:7       41" in result.out
    assert "yocto-image    45 min 0 s     5" in result.out
    assert "2026-03-01" in result.out


def test_stats_as_json_have_the_rest_interfaces_names(cli: Cli, fake: FakeOrchestrator) -> None:
    """interfaces: the keys of /api/projects/{id}/stats."""
    row = json.loads(cli("stats", "--json").out)

    assert {"total_builds", "successful", "failed", "pending", "running", "cancelled", "success_rate"} <= set(row)
    assert row["trend"] == [{"day": "2026-03-01", "total": 3, "successful": 2, "failed": 1}]


def test_a_wide_table_shows_where_commands_run_and_what_a_host_is_for() -> None:
    """Ours. Whoever starts something there must know the folder."""
    server = Server(host="192.168.1.101", workdir="/workspace", purpose="Yocto images")
    wide = [line.plain for line in host_table.host_lines([replace(YOCTO, server=server), DOWN], None)]
    narrow = [line.plain for line in host_table.host_lines([replace(YOCTO, server=server), DOWN], 80)]

    assert wide[0].split()[-2:] == ["WORKDIR", "PURPOSE"]
    assert "/workspace  Yocto images" in wide[1]
    assert wide[2].endswith("none")
    assert "PURPOSE" not in narrow[0] and "STATE" in narrow[0]


def test_the_sample_in_the_documentation_is_what_its_configuration_prints(tmp_path: Path) -> None:
    """Ours. People compare their own table with it."""
    page = (Path(__file__).parents[3] / "docs" / "hosts.md").read_text(encoding="utf-8")
    written = page.partition("## In config.yaml\n")[2].partition("\nEverything of the way")[0]
    sample = page.partition("$ build-orchestrator hosts\n")[2].partition("\n\n`STATE`")[0]
    (tmp_path / "config.yaml").write_text(textwrap.dedent(written), encoding="utf-8")
    servers = load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path)}).servers
    quiet = replace(FACTS, running_jobs=(), other_builds=(), warnings=())
    here = replace(quiet, cpus=2, load=(1.5, 1.0, 1.0), latency_s=0.003, disk_free=74 * GIB, memory_free=23 * GIB)
    lease = Lease(resource="host:yocto-builder", slot=0, build=42, stage="build", reason="", taken_at=NOON)
    views = [HostView("local", Server(), 3, facts=here)]
    for name, server in servers.items():
        busy = name == "yocto-builder"
        facts = replace(FACTS, warnings=()) if busy else None if name == "spare-builder" else quiet
        trouble = "" if facts else "no answer from 192.168.1.103 port 22 within 10 s"
        views.append(HostView(name, server, server.slots or 3, [lease] if busy else [], facts, trouble))

    lines = [*host_table.host_lines(views, 116), *host_table.notes(views)]

    assert textwrap.dedent(sample) == "\n".join(line.plain for line in lines)


def test_stats_of_one_project_show_how_its_builds_change(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. A picture that is fine in a pipe, then files and tests; a test's name is only text."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    builds = tuple(
        TrendPoint(n, "workflow", status, None, "esp32", None, "", at, float(n))
        for n, status in enumerate(["success", "failed", "success"], 1)
    )
    slow, red = SlowFile("main/app.c", 1.5, 2.0, 3), FailingTest("gpio\x1b[2J.level", "qemu", 2, 3, 2)
    fake.trends = Trends("p", builds, (slow,), (red,))
    shown = cli("stats").out
    row = json.loads(cli("stats", "--json").out)

    assert "last 3 builds, the newest right" in shown
    assert "result     ·F·" in shown
    assert "duration   ▃▆█ 3.0s (1.0s-3.0s)" in shown
    assert "main/app.c           1.5 s  2.0 s       3" in shown
    assert "\x1b" not in shown
    assert [one["created_at"] for one in row["builds"]] == [at.isoformat()] * 3
    assert row["slowest_files"] == [{"file": "main/app.c", "median_s": 1.5, "last_s": 2.0, "builds": 3}]
    assert all(len(line) <= 80 for line in shown.splitlines())
