"""What processes of ours log: for people or for programs, bounded, without secrets."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server import log_masking, process_log
from mcp_server.config import load_config
from mcp_server.errors import ConfigError
from mcp_server.log_masking import Masking
from mcp_server.secret_store import set_secret


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def line(capfd: pytest.CaptureFixture[str]) -> dict[str, object]:
    [text] = capfd.readouterr().err.splitlines()
    return json.loads(text)


def test_a_line_for_programs_names_time_build_stage_and_error(
    root: logging.Logger, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Issue. One JSON object a line, whatever is in the message."""
    process_log.configure_worker(
        home / "worker.log", "INFO", json_lines=True, mask=lambda text: text.replace("s3cr", "*")
    )
    log = logging.getLogger("mcp_server.engine.x")

    log.warning("build %d stage %s: %s", 7, "flash", "two\nlines é s3cr")
    told = line(capfd)
    assert str(told.pop("ts")).endswith("Z") and told.pop("pid") == os.getpid()
    assert told == {
        "level": "warning",
        "logger": "mcp_server.engine.x",
        "message": "build 7 stage flash: two\nlines é *",
        "build": 7,
        "stage": "flash",
    }
    try:
        raise ValueError("s3cr")
    except ValueError:
        log.exception("build %d", 8)
    told = line(capfd)
    assert (told["build"], told["error"], "stage" in told) == (8, "ValueError", False)
    assert "Traceback" in str(told["trace"]) and "s3cr" not in str(told["trace"])
    log.info("clean-up: %s", "done")
    assert "build" not in line(capfd)


def test_secrets_of_the_home_are_in_no_line_also_those_set_since(
    root: logging.Logger, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Of config.yaml, HOME/secrets, the environment and the database's address."""
    monkeypatch.setattr(log_masking, "LOOK_S", 0.0)
    (home / "config.yaml").write_text(
        "notifications: {discord: {url: 'https://discord.example/${env:HOOK}/plain-part'}}\n"
        "agents: {claude: {env: {KEY: '${env:AGENT_KEY}'}}}\n"
        "webhooks: {github: {secret: in-the-file}}\n"
    )
    environment = {
        "BUILD_ORCHESTRATOR_HOME": str(home),
        "BUILD_ORCHESTRATOR_TOKEN": "fixed-token",
        "BUILD_ORCHESTRATOR_DATABASE_URL": "postgresql+psycopg://bo:p%40ssw0rd@db/bo",
        "HOOK": "hook-key",
        "AGENT_KEY": "agent-key",
    }
    config = load_config(environment)
    set_secret(config.secrets_dir, "ONE", "first-secret")
    process_log.configure_worker(home / "worker.log", "INFO", mask=Masking(config, environment).text)
    log = logging.getLogger("x")

    log.info("hook-key agent-key in-the-file fixed-token p@ssw0rd first-secret open")
    assert capfd.readouterr().err.endswith("INFO x *** *** *** *** *** *** open\n")
    assert log_masking.mask_of(environment)("first-secret hook-key") == "*** ***"
    set_secret(config.secrets_dir, "TWO", "second-secret")
    log.info("second-secret %s", "first-secret")
    assert capfd.readouterr().err.endswith("INFO x *** ***\n")


def test_the_form_is_said_by_config_yaml_or_by_the_environment(home: Path) -> None:
    """Ours. The environment goes first: it is set where the process is started."""
    (home / "config.yaml").write_text("log_format: json\n")
    given = {"BUILD_ORCHESTRATOR_HOME": str(home)}

    assert load_config(given).log_format == "json"
    assert load_config({**given, "BUILD_ORCHESTRATOR_LOG_FORMAT": "text"}).log_format == "text"
    with pytest.raises(ConfigError, match="BUILD_ORCHESTRATOR_LOG_FORMAT is 'xml'; it takes text or json"):
        load_config({**given, "BUILD_ORCHESTRATOR_LOG_FORMAT": "xml"})
    (home / "config.yaml").write_text("log_format: xml\n")
    with pytest.raises(ConfigError, match="log_format"):
        load_config(given)


def test_the_service_logs_for_programs_too_on_stderr_and_in_its_file(
    root: logging.Logger, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ours. What clients get wrong is in the file only."""
    process_log.configure(
        "serve", {}, unseen=("uvicorn",), json_lines=True, mask=lambda text: text.replace("s3cr", "***")
    )

    logging.getLogger("uvicorn.error").error("s3cr of a client")
    logging.getLogger("x").warning("build %d: %s", 5, "s3cr")

    seen = line(capfd)
    assert (seen["message"], seen["build"]) == ("build 5: ***", 5)
    kept = [json.loads(text) for text in (home / "logs" / "serve.log").read_text().splitlines()]
    assert [one["message"] for one in kept] == ["*** of a client", "build 5: ***"]


LOGS_MUCH = """
import logging, sys
from pathlib import Path
from mcp_server import process_log
process_log.WORKER_BYTES = 10_000
process_log.configure_worker(Path(sys.argv[1]), "INFO")
for number in range(1000):
    logging.info("line %d", number)
print("last words", file=sys.stderr)
"""


def test_what_a_worker_has_to_say_again_and_again_is_said_once_a_minute(
    root: logging.Logger, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ours. Each part of a worker finds out that the database is away, every second of a night."""
    process_log.configure_worker(home / "worker.log", "INFO")
    log = logging.getLogger("mcp_server.engine.worker")

    for _ in range(20):
        log.warning("the database %s is away", "db/x")
        log.info("still here")
    log.warning("the database %s is away", "db/y")
    said = capfd.readouterr().err
    late = log.makeRecord(log.name, logging.WARNING, "", 0, "the database db/x is away", (), None)
    late.created += process_log.AGAIN_S
    log.handle(late)

    assert (said.count("db/x is away"), said.count("db/y is away"), said.count("still here")) == (1, 1, 20)
    assert "db/x is away" in capfd.readouterr().err


def test_the_workers_log_is_turned_over_while_it_runs(home: Path) -> None:
    """Ours. A worker lives for months; also what is no line of ours goes into the new file."""
    path = home / "worker.log"
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", LOGS_MUCH, str(path)], stdout=log, stderr=log, check=True)

    assert sorted(one.name for one in home.iterdir()) == ["worker.log", "worker.log.1"]
    assert max(one.stat().st_size for one in home.iterdir()) < 10_100
    assert path.read_text().splitlines()[-1] == "last words"
    assert "line 999" in path.read_text() and path.stat().st_mode & 0o77 == 0
