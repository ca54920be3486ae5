"""config.yaml and the environment: what loads, and what every kind of mistake is told."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.config import Config, Queue, load_config
from mcp_server.config_file import ConfigFile
from mcp_server.errors import ConfigError
from mcp_server.yaml_document import MAX_BYTES, YamlError, read
from tests.support.postgres import URL
from tests.support.seed_config import SEED

EVERYTHING = """\
servers:
  farm: {host: farm.example, port: 2222, alias: yocto, purpose: images, build: "bitbake {task}", slots: 2,
         tags: [big, arm], fallback: spare, idf_path: /opt/idf, jobs_dir: /scratch/jobs, env: {IDF: 5.10, ON: on}}
  spare: {host: spare}
  pod: {exec: [kubectl, exec, -i, builder-0, --], workdir: /src}
  local: {slots: 1, idf_path: ~/esp/esp-idf}
notifications:
  discord: {url: "${secret:discord}"}
  telegram: {enabled: no, chat_id: -100123, token: "${env:TELEGRAM_TOKEN}"}
  slack: {url: "${keyring:slack/build}"}
defaults: {timeout: 1h30m, retry: 0, parallel_limit: 8}
agents: {default: claude, opencode: {acp: [opencode, acp]}, far: {url: "https://code.example/", username: bo,
         password: "${secret:FAR}", model: stub/m1, timeout: 30m, max_turns: 40, max_tokens: 200000, max_cost_usd: 2.5,
         env: {KEY: "${env:FAR_KEY}"}}}
artifacts: {store: "s3://firmware/nightly", keep: 14d}
security: {allow_flash: always, allow_push: never, callback_hosts: [ci.example], project_roots: [/srv/firmware]}
env_pass: [LM_LICENSE_FILE]
queue: {builds: 12, per_project: 2}
webhooks: {github: {secret: "${secret:github}", supersede: true}}
schedules:
  nightly: {project: greenhouse, cron: "0  3 * * *", timezone: Europe/Berlin, branch: main, target: esp32c3, qemu: no}
"""

Load = Callable[[str], Config]
Refusal = Callable[[str], str]


@pytest.fixture
def load(home: Path) -> Load:
    def load(text: str) -> Config:
        (home / "config.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
        return load_config()

    return load


@pytest.fixture
def refusal(load: Load, home: Path) -> Refusal:
    """What is said of a text that is refused, without the file's name."""

    def refusal(text: str) -> str:
        with pytest.raises(ConfigError) as error:
            load(text)
        return str(error.value).replace(f"{home / 'config.yaml'}:", "")

    return refusal


def test_without_a_file_there_are_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Nothing is made on disk by reading the configuration."""
    monkeypatch.delenv(URL, raising=False)
    config = load_config()

    assert config.home == tmp_path / "home"
    assert not config.home.exists()
    assert config.database_url == f"sqlite:///{config.home}/orchestrator.db"
    assert (config.defaults.timeout, config.defaults.retry, config.defaults.parallel_limit) == (7200, 1, 3)
    assert (config.servers, config.env_pass, config.log_level, config.token) == ({}, (), "INFO", None)
    assert config.security.allow_flash == "ask"


def test_seed_file_loads_unchanged(load: Load) -> None:
    """The seed's own configuration, to the letter."""
    config = load(SEED)

    assert list(config.servers) == ["yocto-builder", "ccu2-builder", "test-runner"]
    assert config.servers["yocto-builder"].host == "192.168.1.101"
    assert config.servers["test-runner"].workdir == "/workspace/snt-integration-tests"
    assert config.notifications["discord"].target == "jaylee_59200"
    assert config.notifications["telegram"].chat_id == "514675395"
    assert config.defaults.timeout == 7200


def test_every_key_loads(load: Load) -> None:
    """Ours. Values keep their spelling: a version 5.10 stays 5.10, the word `on` stays a word where text is wanted."""
    config = load(EVERYTHING)

    farm = config.servers["farm"]
    assert (farm.port, farm.slots, farm.tags, farm.fallback) == (2222, 2, ("big", "arm"), "spare")
    assert farm.env == {"IDF": "5.10", "ON": "on"}
    assert config.servers["pod"].exec == ("kubectl", "exec", "-i", "builder-0", "--")
    assert config.local.slots == 1
    assert config.agents.default == "claude"
    assert config.agents.named["opencode"].acp == ("opencode", "acp")
    far = config.agents.named["far"]
    assert (far.url, far.username, far.model, far.timeout) == ("https://code.example", "bo", "stub/m1", 1800)
    assert (far.max_turns, far.max_tokens, far.max_cost_usd) == (40, 200_000, 2.5)
    assert far.password and far.password.get_secret_value() == "${secret:FAR}" and far.env == {"KEY": "${env:FAR_KEY}"}
    assert config.artifacts.keep == 14 * 86_400
    assert config.notifications["telegram"].enabled is False
    secret = config.notifications["slack"].url
    assert secret is not None
    assert secret.get_secret_value() == "${keyring:slack/build}"


def test_secrets_are_not_shown(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Neither repr nor JSON of a configuration gives away a token, a webhook, a variable or a password."""
    monkeypatch.setenv("BUILD_ORCHESTRATOR_TOKEN", "s3cret-a")
    monkeypatch.setenv("BUILD_ORCHESTRATOR_DATABASE_URL", "postgresql+psycopg://u:s3cret-b@h/n")
    config = load(
        "notifications: {slack: {url: s3cret-c}, telegram: {chat_id: 1, token: s3cret-d}}\n"
        "servers: {farm: {host: farm, env: {KEY: s3cret-e}}}\n"
    )

    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config)
    assert config.token is not None
    assert config.token.get_secret_value() == "s3cret-a"


def test_blank_sections_count_as_absent(load: Load) -> None:
    """Ours. All lines of a section commented out is no mistake."""
    config = load("servers:\n  local:\n#  farm: {host: x}\ndefaults:\n  timeout:\nnotifications: ~\nenv_pass:\n")

    assert config.defaults.timeout == 7200
    assert config.local.slots is None


def test_anchors_and_merges_work(load: Load) -> None:
    """YAML: servers with much in common are written once."""
    config = load("servers:\n  a: &base {host: a, user: build, slots: 2}\n  b: {<<: *base, host: b}\n")

    assert (config.servers["b"].host, config.servers["b"].user, config.servers["b"].slots) == ("b", "build", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # keys
        ("servrs: {}", "1:1 unknown key 'servrs'; did you mean 'servers'?"),
        (
            "servers:\n  farm:\n    host: x\n    wrkdir: /y",
            "4:5 unknown key 'wrkdir' in servers.farm; did you mean 'workdir'?",
        ),
        ("defaults: {Timeout: 1h}", "1:12 unknown key 'Timeout' in defaults; did you mean 'timeout'?"),
        (
            "defaults: {colour: red}",
            "1:12 unknown key 'colour' in defaults; known here: timeout, retry, parallel_limit",
        ),
        ("agents: {opencode: {acpp: [x]}}", "1:21 unknown key 'acpp' in agents.opencode; did you mean 'acp'?"),
        ("home: /elsewhere", "1:1 unknown key 'home'; known here: servers,"),
        ("servrs:", "1:1 unknown key 'servrs'; did you mean 'servers'?"),
        # types
        ("- a", "1:1 the file should be `key: value` lines at its top, not a list or a text"),
        ("just words", "1:1 the file should be `key: value` lines at its top, not a list or a text"),
        ("servers: [a]", "1:10 servers: should be `key: value` lines, not a list"),
        ("servers: {farm: host}", "1:17 servers.farm: should be `key: value` lines, not 'host'"),
        ("servers: {farm: {host: x, port: ssh}}", "1:33 servers.farm.port: should be a whole number, not 'ssh'"),
        ("servers: {farm: {host: x, port: 99999}}", "1:33 servers.farm.port: should be at most 65535, not '99999'"),
        ("servers: {farm: {host: x, tags: big}}", "1:33 servers.farm.tags: should be a list, [a, b], not 'big'"),
        (
            "servers: {farm: {host: x, tags: [big, ]}}\nenv_pass: [A-B]",
            "2:12 env_pass[1]: should be the name of an env",
        ),
        ("servers: {farm: {host: x, env: {A: }}}", "servers.farm.env.A: is empty"),
        ("defaults: {retry: -1}", "1:19 defaults.retry: should be at least 0, not '-1'"),
        ("notifications: {discord: {enabled: maybe, target: x}}", "discord.enabled: should be true or false, not this"),
        (
            "security: {allow_push: sometimes}",
            "1:24 security.allow_push: should be ask, always or never, not 'sometimes'",
        ),
        (
            "security: {project_roots: [src]}",
            "1:28 security.project_roots[1]: should be an absolute path, or begin with ~",
        ),
        ("artifacts: {store: ftp://x}", "1:20 artifacts.store: should be file:///folder or s3://bucket/prefix"),
        ("defaults: {timeout: 3 hours}", "1:21 defaults.timeout: '3 hours' is not a duration; write 3h"),
        # what belongs together
        ("servers: {farm: {user: x}}", "1:11 servers.farm needs host (SSH) or exec (a command channel)"),
        (
            "servers: {farm: {host: x, exec: [y]}}",
            "servers.farm: takes host (SSH) or exec (a command channel), not both",
        ),
        ("servers: {farm: {exec: [y], user: z}}", "user and port belong to host"),
        ("servers: {local: {host: x}}", "1:19 'local' is this machine and takes no host"),
        ("servers: {a/b: {host: x}}", "1:11 a server's name has letters"),
        ("servers: {a: {host: x, alias: b}, b: {host: y}}", "1:31 the name 'b' is taken; choose another alias"),
        ("servers: {a: {host: x, fallback: farn}, farm: {host: y}}", "1:34 no server 'farn'; did you mean 'farm'?"),
        ("servers: {a: {host: x, fallback: a}}", "1:34 the fallbacks go in a circle: a → a"),
        ("servers: {a: {host: x, fallback: c}, b: {host: y, alias: c, fallback: a}}", "a circle: a → b → a"),
        ("notifications: {dicsord: {target: x}}", "1:17 unknown channel 'dicsord'; did you mean 'discord'?"),
        ("notifications: {slack: {chat_id: 1}}", "1:25 slack takes enabled and url, no chat_id"),
        ("notifications: {slack: {}}", "1:17 notifications.slack needs url, e.g. ${secret:slack}"),
        ("notifications: {telegram: {enabled: true}}", "1:17 notifications.telegram needs chat_id or url"),
        ("notifications: {slack: {url: '${SLACK}'}}", "1:30 notifications.slack.url: a reference reads ${env:NAME},"),
        ("agents: {default: cluade}", "1:19 no agent 'cluade'; did you mean 'claude'?"),
        ("agents: {default: mine}", "1:19 no agent 'mine'; known here: claude, opencode, anthropic, ollama"),
        ("agents: {mine: {}}", "1:10 agents.mine needs acp (its command) or url (of an OpenCode server)"),
        (
            "agents: {cluade: {model: x}}",
            "1:10 agents.cluade needs acp (its command) or url (of an OpenCode server); did",
        ),
        ("agents: {mine:}", "1:10 agents.mine needs acp"),
        ("agents: {x: {acp: [y], url: 'http://z'}}", "1:10 agents.x takes acp (a command) or url"),
        ("agents: {x: {acp: [y], password: z}}", "1:24 password belongs to an OpenCode server's url"),
        ("agents: {ollama: {url: 'http://z', username: z}}", "1:36 username belongs to an OpenCode server's url"),
        (
            "agents: {x: {url: 'http://a:b@c'}}",
            "1:19 agents.x.url: should be http://host:port or https://host, without",
        ),
        ("agents: {x: {url: ftp://c}}", "1:19 agents.x.url: should be http://host:port"),
        ("agents: {claude: {timeout: 25h}}", "1:28 agents.claude.timeout: should be at most 86400"),
        ("agents: {claude: {max_cost_usd: 0}}", "1:33 agents.claude.max_cost_usd: should be more than 0"),
        ("agents: {claude: {env: {A: '${A}'}}}", "agents.claude.env.A: a reference reads ${env:NAME}"),
        *(
            (
                f"webhooks: {{github: {{secret: x, api: 'http://{host}'}}}}",
                "webhooks.github.api: should begin with https",
            )
            for host in ("git.example.org/api/v3", "127.0.0.1.example.org", "192.168.0.1")
        ),
        # YAML
        ("a: 1\nb: 2\na: 3", "3:1 the key 'a' is here twice, first in line 1"),
        ("servers:\n\tfarm: {host: x}", "2:1 a tab is used to indent; YAML takes spaces"),
        ("a: b: c", "1:5 a second ':' in one value"),
        ("a: 'x", "1:6 a quote or bracket is never closed"),
        ("a: [1, 2", "1:9 a ',' or a closing bracket is missing"),
        ("a: 1\n---\nb: 2", "2:1 a second document begins here; leave one"),
        ("a: !!python/object:os.system x", "1:4 tags (!name) are not understood; leave it out"),
        ("a: *b", "1:4 this alias (*name) has no anchor (&name)"),
        ("a: &a [*a]", "1:4 this value contains itself"),
        ("? [a]\n: 1", "1:3 a key is text, not a list or a mapping"),
        ("a: \udcff", "1:4 this is not UTF-8; save the file as UTF-8"),
        ("a: \x01", "1:4 YAML forbids this control character"),
        ('a: "\\0"', "1:4 its escapes make a character that no file or program takes"),
        ('a: "\\Uffffffff"', "cannot be read: nested too deeply, or an escape that is no character"),
        ("[" * 20_000, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), "is 1,000,001 bytes long; at most 1,000,000 are read"),
    ],
)
def test_mistake_is_told_with_its_place(refusal: Refusal, text: str, expected: str) -> None:
    """Ours. Line and column, the key, and what would be right."""
    assert expected in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "notifications: {telegram: 123:S3CRET}",
        "notifications: {telegram: {chat_id: [1], token: [S3CRET]}}",
        "notifications: {slack: {url: '${nothing:S3CRET}'}}",
        "servers: {farm: {host: x, env: {KEY: [S3CRET], 'A B': S3CRET}}}",
        "agents: {x: {acp: S3CRET}}",
        "agents: {x: {url: 'http://a:S3CRET@b', password: [S3CRET]}}",
        "agents: {x: {acp: [y], password: S3CRET, env: {A: '${S3CRET}'}}}",
        "artifacts: {store: 'ftp://key:S3CRET@host'}",
        "token: *S3CRET",
        "token: !S3CRET x",
        "notifications: {slack: {url: x: S3CRET}}",
    ],
)
def test_mistake_gives_no_secret_away(refusal: Refusal, text: str) -> None:
    """Ours. A message ends in logs and in a model's context."""
    assert "S3CRET" not in refusal(text)


def test_all_mistakes_are_told_at_once(refusal: Refusal) -> None:
    """Ours. In the order of the file, ten of them at most, and how many more there are."""
    lines = refusal("servrs: {}\nservers: {a: {hots: x}}\ndefaults: {retry: x, timeout: y}\n").splitlines()
    assert lines[0] == "5 mistakes in the configuration:"
    assert [line.split()[0] for line in lines[1:]] == ["1:1", "2:11", "2:15", "3:19", "3:31"]

    lines = refusal("".join(f"k{number}: 1\n" for number in range(14))).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "and 4 more"


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{n}: &{n} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n"
            for p, n in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a {x: 1}\n"
        + "".join(
            f"{n}: &{n} {{<<: [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]}}\n"
            for p, n in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
    ids=["lists", "merges"],
)
def test_alias_bomb_is_refused(refusal: Refusal, bomb: str) -> None:
    """Ours. A few hundred bytes that stand for millions of values cost neither the memory nor the time of them."""
    assert "more than 50,000 values" in refusal(bomb)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab:{}[],&*!|>'\"%@`#-? \n\t\\<\udcff\x00é0~", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Ours. No input ends in anything but a document or mistakes with a place."""
    try:
        read(text.encode("utf-8", "surrogateescape"))
    except YamlError as error:
        assert all(mistake.sentence for mistake in error.mistakes)


def test_unreadable_file_is_one_sentence(home: Path) -> None:
    """Ours."""
    (home / "config.yaml").mkdir()

    with pytest.raises(ConfigError, match=r"config\.yaml: should be a file$"):
        load_config()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BUILD_ORCHESTRATOR_LOG", "loud", "BUILD_ORCHESTRATOR_LOG is 'loud'; it takes debug, info, warning or error"),
        ("BUILD_ORCHESTRATOR_DATABASE_URL", "pw@host", "BUILD_ORCHESTRATOR_DATABASE_URL should be a URL"),
    ],
)
def test_environment_is_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """Ours."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as error:
        load_config()
    assert expected in str(error.value)
    assert "pw@host" not in str(error.value)


def test_reading_needs_no_yaml_without_a_file(tmp_path: Path) -> None:
    """Ours. The MCP server starts without yaml's 20 ms where there is nothing to read."""

    code = "import sys; from mcp_server.config import load_config; load_config(); sys.exit('yaml' in sys.modules)"
    environ = {**os.environ, "BUILD_ORCHESTRATOR_HOME": str(tmp_path / "none")}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environ, cwd=Path(__file__).parents[2], check=False).returncode
        == 0
    )


def test_a_home_is_never_exchanged_for_another(tmp_path: Path) -> None:
    """Ours. Who was given a home by its configuration would else write into the user's own from the second look on."""
    config = load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path / "one"), "HOME": str(tmp_path)})
    file = ConfigFile(config, {"HOME": str(tmp_path)})
    found = file.changed()

    assert found is not None and found.home == config.home
    assert file.changed() is None


def test_limits_and_schedules_are_checked_where_they_are_written(load: Load, refusal: Refusal) -> None:
    """Issue: a bad rule or zone is met at the door, with its place. A limit of this machine is its `slots`."""
    config = load(EVERYTHING)
    assert (config.queue.builds, config.queue.per_project, config.local.slots) == (12, 2, 1)
    nightly = config.schedules["nightly"]
    assert (nightly.cron, nightly.timezone, nightly.qemu, nightly.flash) == ("0 3 * * *", "Europe/Berlin", False, False)
    assert load("{}").queue == Queue(builds=200, per_project=None)
    for wrong, said in {
        'cron: "0 25 * * *"': "1:23 schedules.n.cron: the hour cannot be used; the fields are minute, hour, day of",
        'cron: "@daily"': "1:23 schedules.n.cron: a time is five fields, minute, hour, day of the month, month,",
        'cron: "0 0 0 3 * *"': "1:23 schedules.n.cron: a time is five fields",
        'cron: "0 0 30 2 *"': "1:23 schedules.n.cron: the day of month cannot be used",
        f'cron: "{"1," * 50}1 * * * *"': "1:23 schedules.n.cron: a time is five fields",
        'cron: "0 0 29 2 MON#5,*/٣"': "1:23 schedules.n.cron: the day of week cannot be used",
        'cron: "0 3 * * *", timezone: Europe/Bern': "1:46 schedules.n.timezone: 'Europe/Bern' is no time zone; write",
        'cron: "0 3 * * *", timezone: ../../etc/passwd': "1:46 schedules.n.timezone: '../../etc/passwd' is no time",
        'cron: "0 3 * * *", max_rounds: 0': "1:48 schedules.n.max_rounds: should be at least 1, not '0'",
        'cron: "0 3 * * *", project: --upload': "schedules.n.project: should be a project's name, id or folder",
        "crom: 1": "1:13 schedules.n.cron is missing",
    }.items():
        project = "" if "project" in wrong else ", project: p"
        assert said in refusal(f"schedules: {{n: {{{wrong}{project}}}}}\n"), wrong
    assert "1:13 a schedule's name has letters" in refusal('schedules: {"a b": {project: p, cron: "* * * * *"}}\n')
    assert "queue.per_project: should be at least 1" in refusal("queue: {per_project: 0}\n")
