"""Channels against receivers on loopback: what arrives, what is said where nothing does, and how long it may take."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_server.clock import SystemClock
from mcp_server.config import Channel, load_config
from mcp_server.notify import Channels, Message
from mcp_server.secret_store import Secrets, set_secret
from tests.integration.notify.receivers import Receiver, openclaw, receiver
from tests.support.moved_clock import MovedClock

# apprise's own import, under Python below 3.13
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

TOKEN = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOpp"
TEXT = Message("✅ Stage 1/3 complete: yocto-image (45min)", "success", 42)


@pytest.fixture
def peer() -> Iterator[Receiver]:
    with receiver() as here:
        yield here


@pytest.fixture
def telegram(peer: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Telegram's own code in apprise, with its server's address turned to the receiver."""
    from apprise.plugins.telegram import NotifyTelegram  # noqa: PLC0415

    monkeypatch.setattr(NotifyTelegram, "notify_url", f"{peer.url}/bot")
    set_secret(home / "secrets", "TELEGRAM_BOT_TOKEN", TOKEN)
    return peer


def channels(blocks: Mapping[str, Mapping[str, Any]], clock: Any = None, **more: Any) -> Channels:
    made = {name: Channel.model_validate(block) for name, block in blocks.items()}
    more.setdefault("openclaw", lambda: None)
    return Channels(made, Secrets(load_config(), {}), clock or SystemClock(), **more)


async def test_the_seeds_telegram_block_is_sent_with_the_token_as_a_secret(telegram: Receiver) -> None:
    """Seed. `chat_id` alone; the bot's token is kept as TELEGRAM_BOT_TOKEN."""
    here = channels({"telegram": {"enabled": True, "chat_id": "514675395"}})
    async with asyncio.timeout(10):
        assert await here.send(["telegram"], TEXT) == []

    path, body = telegram.got[0]
    assert path == f"/bot{TOKEN}/sendMessage"
    assert str(body["chat_id"]) == "514675395"
    assert "Stage 1/3 complete: yocto-image (45min)" in body["text"]
    assert here.problems() == []


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refused the token"), (429, "too many messages"), (500, "HTTP 500")]
)
async def test_a_refusal_is_told_without_the_token(
    telegram: Receiver, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue. Never a secret in message, error or log, at the level debug either."""
    caplog.set_level(logging.DEBUG)
    telegram.status = status
    async with asyncio.timeout(10):
        (sentence,) = await channels({"telegram": {"chat_id": "514675395"}}).send(["telegram"], TEXT)

    assert sentence.startswith("notifications.telegram: ")
    assert words in sentence
    assert TOKEN not in sentence + caplog.text
    assert TOKEN.partition(":")[2] not in sentence + caplog.text


async def test_the_seeds_discord_block_goes_through_openclaw(tmp_path: Path) -> None:
    """Seed. `target` is handed on as it stands, the text as one argument."""
    command, notes = openclaw(tmp_path)
    here = channels({"discord": {"target": "jaylee_59200"}}, openclaw=lambda: command)
    text = Message("❌ Stage 2 FAILED: host-build\nError: $(id) 'x' \"y\"")
    async with asyncio.timeout(10):
        assert await here.send(["discord"], text) == []

    head = ["message", "send", "--channel", "discord", "--target", "jaylee_59200", "--message"]
    assert [json.loads(line) for line in notes.read_text().splitlines()] == [[*head, text.text]]


async def test_an_openclaw_that_fails_or_is_absent_is_named(tmp_path: Path) -> None:
    """Ours."""
    command, _ = openclaw(tmp_path, exit_code=3)
    blocks = {"discord": {"target": "jaylee_59200"}}

    (failed,) = await channels(blocks, openclaw=lambda: command).send(["discord"], TEXT)
    absent = channels(blocks)
    assert "exit code 3" in failed
    assert "needs the openclaw command on PATH" in absent.problems()[0]
    assert absent.problems() == await absent.send(["discord"], TEXT)


async def test_an_apprise_url_and_a_plain_webhook_arrive(peer: Receiver, home: Path) -> None:
    """Issue. apprise for everything with a URL; a webhook of no known service gets JSON."""
    set_secret(home / "secrets", "HOOK", f"{peer.url}/hook?key=s3cr3t")
    blocks = {"team": {"url": "${secret:HOOK}"}, "other": {"url": f"{peer.url.replace('http', 'json')}/there"}}
    async with asyncio.timeout(10):
        assert await channels(blocks).send(["team", "other"], TEXT) == []

    got = dict(peer.got)
    assert got["/hook?key=s3cr3t"] == {"text": TEXT.text, "type": "success", "build": 42}
    assert got["/there"]["message"] == TEXT.text


async def test_discords_webhook_is_sent_by_its_own_rules(peer: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed. Without OpenClaw, a `url`."""
    from apprise.plugins.discord import NotifyDiscord  # noqa: PLC0415

    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{peer.url}/api/webhooks")
    here = channels({"discord": {"url": f"https://discord.com/api/webhooks/{'4' * 19}/{'B' * 68}", "target": "x"}})
    async with asyncio.timeout(10):
        assert await here.send(["discord"], TEXT) == []

    assert peer.got[0][0].startswith(f"/api/webhooks/{'4' * 19}/")
    assert "yocto-image" in json.dumps(peer.got[0][1])


async def test_mail_reaches_an_smtp_server() -> None:
    """Issue. Email is a URL like any other."""
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        data, content = False, ""
        while line := (await reader.readline()).decode():
            if data:
                content += line
                if line == ".\r\n":
                    data = False
                    writer.write(b"250 taken\r\n")
                continue
            data = line.upper().startswith("DATA")
            writer.write(b"354 go\r\n" if data else b"250 fine\r\n")
            if line.upper().startswith("QUIT"):
                break
        writer.close()
        done.set_result(content)

    async with asyncio.timeout(15), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"mailto://127.0.0.1:{port}/?from=bo@example.org&to=me@example.org&mode=insecure"
        assert await channels({"email": {"url": url}}).send(["email"], TEXT) == []
        assert "To: " in await done


async def test_a_dead_channel_is_tried_again_after_a_minute_and_at_a_builds_end(peer: Receiver) -> None:
    """Issue. A dead channel is not tried for every message."""
    clock = MovedClock()
    here = channels({"team": {"url": f"{peer.url}/hook"}}, clock)
    peer.status = 500
    async with asyncio.timeout(10):
        assert len(await here.send(["team"], TEXT)) == 1
        assert await here.send(["team"], TEXT) == []
        assert len(peer.got) == 1
        assert len(await here.send(["team"], TEXT, last=True)) == 1
        assert len(peer.got) == 2
        clock.advance(61)
        peer.status = 200
        assert await here.send(["team"], TEXT) == []
        assert await here.send(["team"], TEXT) == []
    assert len(peer.got) == 4


async def test_a_channel_that_hangs_holds_neither_the_others_nor_the_loop(peer: Receiver) -> None:
    """Issue. A slow channel is bounded, and left alone while its thread hangs."""
    peer.hold.clear()
    with receiver() as good:
        blocks = {"slow": {"url": f"{peer.url}/hook"}, "good": {"url": f"{good.url}/hook"}}
        here = channels(blocks, send_s=0.3)
        async with asyncio.timeout(5):
            (sentence,) = await here.send(["slow", "good"], TEXT)
            assert await here.send(["slow"], TEXT, last=True) == []
    assert "did not take the message within" in sentence
    assert (len(peer.got), len(good.got)) == (1, 1)


async def test_a_port_nobody_listens_on_is_a_sentence_without_the_url() -> None:
    """Ours. A URL is a secret."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        blocks = {
            "team": {"url": f"http://127.0.0.1:{port}/s3cr3t"},
            "other": {"url": f"json://127.0.0.1:{port}/s3cr3t"},
        }
        async with asyncio.timeout(10):
            found = await channels(blocks).send(["team", "other"], TEXT)
    assert found == [f"notifications.{name}: could not be reached" for name in ("team", "other")]


async def test_a_disabled_channel_is_silent_and_an_unknown_one_is_named(peer: Receiver) -> None:
    """Interfaces: enabled."""
    here = channels({"team": {"enabled": False, "url": f"{peer.url}/hook"}})

    assert here.problems() == []
    (sentence,) = await here.send(["team", "tema"], TEXT)
    assert sentence == "notifications.tema: config.yaml has no channel of this name; it has team"
    assert peer.got == []


@pytest.mark.parametrize(
    ("name", "block", "words"),
    [
        ("telegram", {"chat_id": "1"}, "build-orchestrator secrets set TELEGRAM_BOT_TOKEN"),
        ("telegram", {"chat_id": "1", "token": "not-a-token"}, "123456789:letters"),
        ("slack", {"url": "${secret:SLACK}"}, "build-orchestrator secrets set SLACK"),
        ("slack", {"url": "slack://half"}, "not one that apprise knows"),
        ("slack", {"url": "just words"}, "apprise URL"),
        ("discord", {"target": "--x"}, "begins with '-'"),
    ],
)
def test_what_cannot_deliver_is_named_for_doctor(name: str, block: dict[str, str], words: str) -> None:
    """Issue. With what mends it, and without the value."""
    (sentence,) = channels({name: block}, openclaw=lambda: "/bin/true").problems()

    assert words in sentence
    assert "not-a-token" not in sentence


async def test_no_thread_is_left_of_sends_that_ended(peer: Receiver) -> None:
    """Ours."""
    await channels({"team": {"url": f"{peer.url}/hook"}}).send(["team"], TEXT)
    for thread in threading.enumerate():
        if thread.name.startswith("notify-team"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
