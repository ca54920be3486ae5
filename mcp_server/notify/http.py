"""One bounded HTTP/1.1 exchange with an address that was chosen before: no redirects, no proxies, no names resolved.

That an address is checked and then *that* address is dialled is why no HTTP library does it: they resolve anew.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import h11

CONNECT_S = 3.0  # for an address that is not the last one of its name
MAX_HEAD_BYTES = 16_384  # of an answer's head, and of all interim answers before it
PIECE_BYTES = 4096


class Unanswered(Exception):
    """Why there is no answer: a half sentence that holds nothing of the URL but the host."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to dial: `addresses` are tried in turn; `host` is the name that TLS must prove and the Host header says."""

    tls: bool
    host: str
    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` with its query, percent-encoded; `headers` without Host, Content-Length and Connection."""

    method: str
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is cut at the asked length; `whole` says that nothing is missing of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


@cache
def default_tls() -> ssl.SSLContext:
    """The system's certificates, names checked. Reads files: call it in a thread."""
    return ssl.create_default_context()


async def exchange(
    place: Place,
    request: Request,
    *,
    limit_s: float,
    max_bytes: int,
    body_s: float | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send `request`, read the answer's head and at most `max_bytes` of its body, close. Unanswered: no head came.

    All of it takes at most `limit_s`. Where the body takes longer than that, or than `body_s`, what came of it counts.
    """
    ends = asyncio.get_running_loop().time() + limit_s
    try:
        async with asyncio.timeout_at(ends):
            reader, writer = await _connect(place, tls)
        try:
            return await _talk(place, request, reader, writer, max_bytes, ends, body_s)
        finally:
            writer.transport.abort()  # a close in order would wait for the other side
    except TimeoutError:
        raise Unanswered(f"{place.host} did not answer within {limit_s:g} s") from None
    except h11.ProtocolError:
        raise Unanswered(f"{place.host} did not answer in HTTP/1.1") from None
    except ssl.SSLCertVerificationError as error:
        raise Unanswered(f"the certificate of {place.host} is not valid: {error.verify_message}") from None
    except ssl.SSLError:
        raise Unanswered(f"{place.host} does not speak TLS on port {place.port}, or not ours") from None
    except OSError as error:
        raise Unanswered(f"{place.host}: {error.strerror or 'closed the connection without an answer'}") from None


async def _connect(place: Place, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = (tls or await asyncio.to_thread(default_tls)) if place.tls else None
    name = place.host if place.tls else None
    for address in place.addresses[:-1]:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(address, place.port, ssl=context, server_hostname=name)
    return await asyncio.open_connection(place.addresses[-1], place.port, ssl=context, server_hostname=name)


async def _talk(
    place: Place,
    request: Request,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    max_bytes: int,
    ends: float,
    body_s: float | None,
) -> Answer:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    async with asyncio.timeout_at(ends):
        await _send(connection, place, request, writer)
        head = await _head(connection, reader)
    pieces: list[bytes] = []
    whole = False
    enough = ends if body_s is None else min(ends, asyncio.get_running_loop().time() + body_s)
    with contextlib.suppress(TimeoutError, OSError, h11.ProtocolError):  # the head has said what matters
        async with asyncio.timeout_at(enough):
            whole = await _body(connection, reader, pieces, max_bytes)
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, headers, b"".join(pieces)[:max_bytes], whole)


async def _send(connection: h11.Connection, place: Place, request: Request, writer: asyncio.StreamWriter) -> None:
    host = f"[{place.host}]" if ":" in place.host else place.host
    standard = 443 if place.tls else 80
    headers = [
        ("Host", host if place.port == standard else f"{host}:{place.port}"),
        *request.headers.items(),
        ("Content-Length", str(len(request.body))),
        ("Connection", "close"),
    ]
    try:
        head = connection.send(h11.Request(method=request.method, target=request.path, headers=headers)) or b""
    except h11.LocalProtocolError:
        raise Unanswered("the request holds a character that HTTP does not allow") from None
    body = connection.send(h11.Data(data=request.body)) or b""
    writer.write(head + body + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()


async def _head(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Response:
    read = 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return event
        if event is h11.NEED_DATA:
            if read > MAX_HEAD_BYTES:
                raise Unanswered("the answer has no end of its head")
            data = await reader.read(PIECE_BYTES)
            if not data and not read:
                raise ConnectionError
            read += len(data)
            connection.receive_data(data)
        elif not isinstance(event, h11.InformationalResponse):
            raise ConnectionError


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, pieces: list[bytes], max_bytes: int) -> bool:
    """Read into `pieces`; True once the body has ended, False as soon as it is longer than `max_bytes`."""
    held = 0
    while held <= max_bytes:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(PIECE_BYTES))
        elif isinstance(event, h11.Data):
            pieces.append(bytes(event.data))
            held += len(event.data)
        else:
            return isinstance(event, h11.EndOfMessage)
    return False
