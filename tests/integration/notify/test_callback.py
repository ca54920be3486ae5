"""One callback: where it may go, what it carries, and that no receiver holds it longer than it may."""

import asyncio
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.notify import callback
from mcp_server.notify.callback import (
    Outcome,
    Target,
    check_target,
    deliver,
    make_payload,
    sign,
    signing_secret,
)
from mcp_server.notify.http import Place
from mcp_server.public_net import is_public
from mcp_server.secret_store import set_secret
from tests.support.http_peer import Got, Peer, answer, certificate, http_peer

BODY = make_payload("task", "project", "success", {"output": "é"})


def target(peer: Peer, path: str = "/hook") -> Target:
    return Target(Place(False, "127.0.0.1", peer.port, ("127.0.0.1",)), path, "shown")


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Names are looked up here: each look-up has the next of `answers` (several addresses with commas between)."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if not left:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in left.pop(0).split(",")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_payload_reads_as_the_seeds_write_it() -> None:
    """Seed. A build's success is `completed` there."""
    said = json.loads(make_payload("u-1", "p", "success", {"output": "o", "artifacts": {"commit_sha": "abc"}}))

    assert said == {
        "task_id": "u-1",
        "project_id": "p",
        "status": "completed",
        "result": {"output": "o", "artifacts": {"commit_sha": "abc"}},
    }
    assert json.loads(make_payload("u-1", "p", "failed", {}))["status"] == "failed"
    assert make_payload("u-1", "p", "failed", {"error": "a\udcff"}).encode()  # a file's name in other bytes


async def test_a_receiver_verifies_what_is_delivered_with_the_standards_own_library(tmp_path: Path) -> None:
    """Seed: signed. The secret is made once, closed to others, and the same afterwards."""
    secret = signing_secret(tmp_path)
    async with http_peer() as peer:
        outcome = await deliver(target(peer, "/hook?k=1"), BODY, sign(secret, "task", datetime.now(UTC), BODY))

    got = peer.got[0]
    assert outcome == Outcome(ok=True, status=200)
    assert Webhook(signing_secret(tmp_path)).verify(got.body, got.headers)["result"] == {"output": "é"}
    assert (got.method, got.path, got.headers["webhook-id"]) == ("POST", "/hook?k=1", "task")
    assert (tmp_path / "callback").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_cannot_sign_is_named_without_its_text(tmp_path: Path) -> None:
    """Ours."""
    set_secret(tmp_path, "callback", "whsec_hunter2!")

    with pytest.raises(EnvironmentMissing, match="secrets rm callback") as refusal:
        sign(signing_secret(tmp_path), "task", datetime.now(UTC), BODY)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/x", r"127\.0\.0\.1 is no public address; security\.callback_hosts"),
        ("https://169.254.169.254/latest/meta-data", "no public address"),
        ("https://2130706433/", "no public address|not known"),
        ("https://0x7f.1/", "no public address|not known"),
        ("https://[::1]/", "no public address"),
        ("https://[::ffff:127.0.0.1]/", "no public address"),
        ("https://[::ffff:8.8.8.8]/", "no public address"),
        ("https://[64:ff9b::7f00:1]/", "no public address"),
        ("https://[fe80::1]/", "no public address"),
        ("https://[fe80::1%25lo]/", "neither a name nor an address|no public address|not known"),
        ("https://0.0.0.0/", "no public address"),
        ("https://10.1.2.3:8443/", "no public address"),
        ("http://8.8.8.8/", "security.callback_hosts"),
        ("https://8.8.8.8:22/", "port 22 is none"),
        ("https://8.8.8.8:0/", "port 0 is none"),
        ("https://8.8.8.8:99999/", "its port should be a number"),
        ("https://me:hunter2@8.8.8.8/", "user or password"),
        ("https://@8.8.8.8/", "user or password"),
        ("ftp://8.8.8.8/", "should be https"),
        ("file:///etc/passwd", "should be https"),
        ("https://", "should be https"),
        ("https:///x", "should be https"),
        ("https://[::1/", "no URL"),
        ("https://a b/", "printable ASCII"),
        ("https://exämple.org/", "xn--"),
        ("https://8.8.8.8\\@127.0.0.1/", "printable ASCII"),
        ("https://8.8.8.8/\r\nHost: x", "printable ASCII"),
        ("https://-x.example/", "neither a name nor an address"),
        ("https://8.8.8.8/" + "a" * 2048, "longer than 2048"),
        ("", "printable ASCII"),
    ],
)
async def test_a_target_that_may_not_be_called_is_refused_in_a_sentence(url: str, why: str) -> None:
    """Issue. Nothing but https to public addresses, unless config.yaml names the host."""
    async with asyncio.timeout(5):
        with pytest.raises(BadInput, match=rf"^callback_url: .*({why})") as refusal:
            await check_target(url)

    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("100.64.0.1", False),
        ("172.31.0.1", False),
        ("192.168.1.1", False),
        ("192.0.0.8", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("192.88.99.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::7f00:1", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2002:7f00:1::", False),
        ("2002:808:808::", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("64:ff9b::808:808", False),
        ("64:ff9b:1::1", False),
        ("2606:4700::1111%eth0", False),
    ],
)
def test_only_the_open_internet_is_public(address: str, public: bool) -> None:
    """Issue. An address that is only a way to another one is judged as private."""
    assert is_public(address) is public


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.1:8099"])
async def test_a_configured_host_may_be_private_and_plain(allowed: str) -> None:
    """Seed. `security.callback_hosts`, with or without a port."""
    found = await check_target("http://127.0.0.1:8099/a?token=x", [allowed])

    assert found.place == Place(False, "127.0.0.1", 8099, ("127.0.0.1",))
    assert (found.path, found.shown) == ("/a?token=x", "http://127.0.0.1:8099/a")
    with pytest.raises(BadInput):
        await check_target("http://127.0.0.2:8099/a", [allowed])


async def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Which of them is dialled is not for the name's owner to choose."""
    resolver(monkeypatch, "8.8.8.8,10.0.0.1")

    with pytest.raises(BadInput, match=r"two\.example is 10\.0\.0\.1"):
        await check_target("https://Two.Example./")


async def test_the_checked_address_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Issue. A name that changes after the check leads nowhere else; TLS still proves the name."""
    server, client = certificate(tmp_path, "hooks.example")
    async with http_peer(server) as peer, asyncio.timeout(5):
        asked = resolver(monkeypatch, "127.0.0.1", "127.0.0.9")
        found = await check_target(f"https://hooks.example:{peer.port}/x", ["hooks.example"])
        outcome = await deliver(found, BODY, {}, tls=client)

    assert outcome.ok
    assert asked == ["hooks.example"]
    assert peer.got[0].headers["host"] == f"hooks.example:{peer.port}"


async def test_a_receiver_that_cannot_prove_its_name_gets_nothing(tmp_path: Path) -> None:
    """Ours."""
    server, _ = certificate(tmp_path, "hooks.example")
    _, other = certificate(tmp_path, "other.example")
    async with http_peer(server) as peer, asyncio.timeout(5):
        place = Place(True, "hooks.example", peer.port, ("127.0.0.1",))
        outcome = await deliver(Target(place, "/", ""), BODY, {}, tls=other)

    assert (outcome.ok, peer.got) == (False, [])
    assert "certificate of hooks.example is not valid" in outcome.why


async def test_a_dead_address_costs_the_next_one_nothing() -> None:
    """Ours. A name may have an address that nobody listens on."""
    async with http_peer() as peer, asyncio.timeout(5):
        place = Place(False, "127.0.0.1", peer.port, ("127.0.0.77", "127.0.0.1"))
        outcome = await deliver(Target(place, "/", ""), BODY, {})

    assert outcome.ok


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(status: int) -> None:
    """Issue."""
    async with http_peer() as peer, asyncio.timeout(5):
        peer.answers = [answer(status, Location=f"http://127.0.0.1:{peer.port}/elsewhere")]
        outcome = await deliver(target(peer), BODY, {})

    assert (outcome.ok, outcome.gone, outcome.status) == (False, False, status)
    assert "redirect, which is not followed" in outcome.why
    assert peer.connections == 1


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (answer(204), Outcome(ok=True, status=204)),
        (b"HTTP/1.1 102 Wait\r\n\r\n" + answer(202), Outcome(ok=True, status=202)),
        (answer(410), Outcome(ok=False, gone=True, status=410, why="it answered 410: it wants no more callbacks")),
        (answer(404, b"<secret>"), Outcome(ok=False, status=404, why="it answered 404")),
        (answer(429, retry_after="77"), Outcome(False, False, 429, "it answered 429", 77.0)),
        (answer(503, retry_after="999999"), Outcome(False, False, 503, "it answered 503", 3600.0)),
        (answer(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT"), Outcome(False, False, 503, "it answered 503")),
        (b"SSH-2.0-OpenSSH\r\n", Outcome(ok=False, why="127.0.0.1 did not answer in HTTP/1.1")),
        (b"", Outcome(ok=False, why="127.0.0.1: closed the connection without an answer")),
    ],
    ids=["204", "interim", "410", "404", "429", "long", "date", "ssh", "nothing"],
)
async def test_an_answer_is_read_as_the_standard_says(said: bytes, outcome: Outcome) -> None:
    """Spec (Standard Webhooks): 2xx is delivered, 410 ends it, anything else is a failure to be tried again."""
    async with http_peer() as peer, asyncio.timeout(5):
        peer.answers = [said]
        assert await deliver(target(peer), BODY, {}) == outcome


async def test_a_receiver_that_trickles_its_head_is_left_in_time() -> None:
    """Issue. The limit is for the whole exchange, not for each byte of it."""

    async def talk(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with http_peer() as peer, asyncio.timeout(5):
        peer.talk = talk
        outcome = await deliver(target(peer), BODY, {}, limit_s=0.3)

    assert outcome == Outcome(ok=False, why="127.0.0.1 did not answer within 0.3 s")


async def test_a_receiver_that_does_not_read_is_left_in_time() -> None:
    """Issue. A slow reader: the body is larger than what sockets hold."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Place(False, "127.0.0.1", silent.getsockname()[1], ("127.0.0.1",))
        async with asyncio.timeout(5):
            outcome = await deliver(Target(place, "/", ""), "x" * 30_000_000, {}, limit_s=0.3)

    assert "did not answer within" in outcome.why


async def test_an_endless_body_takes_neither_memory_nor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. The head says that it was delivered; of the body at most 4 kB are taken."""

    async def talk(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"a" * 4096 + b"\r\n")
            await writer.drain()

    async with http_peer() as peer, asyncio.timeout(5):
        peer.talk = talk
        assert (await deliver(target(peer), BODY, {})).ok

    async def trickle(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await asyncio.sleep(20)

    monkeypatch.setattr(callback, "BODY_S", 0.1)
    async with http_peer() as peer, asyncio.timeout(5):
        peer.talk = trickle
        assert (await deliver(target(peer), BODY, {})).ok


async def test_an_endless_head_is_no_answer() -> None:
    """Ours."""

    async def talk(_: Got, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Wait\r\n\r\n" * 100)
            await writer.drain()

    async with http_peer() as peer, asyncio.timeout(5):
        peer.talk = talk
        outcome = await deliver(target(peer), BODY, {})

    assert "no end of its head" in outcome.why
