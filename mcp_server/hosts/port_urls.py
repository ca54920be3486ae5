"""URLs of serial ports: which ones are taken, and the one name of the place that several of them may mean."""

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

from mcp_server.errors import BadInput

RIGHT = "rfc2217://HOST:PORT or socket://HOST:PORT"
HERE = "localhost"
_OPTIONS = {
    "rfc2217": {"ign_set_control": re.compile(""), "poll_modem": re.compile(""), "timeout": re.compile(r"\d{1,3}")},
    "socket": {},
}
"""Those of pyserial, by scheme, with what each may be set to; not `logging`, which writes beside the board's output."""


def place_of_url(url: str) -> tuple[str, str]:
    """Scheme, and `HOST-PORT` in one spelling. BadInput: no serial port's, or more than one needs.

    An URL stands in logs, in the database and in answers, so what may hold a secret is refused, and never repeated.
    """
    try:
        parts = urlsplit(url)
        place, number = parts.hostname, parts.port
    except ValueError:
        raise BadInput("port", f"this is no URL of a serial port: {RIGHT}") from None
    if parts.scheme not in _OPTIONS:
        raise BadInput("port", f"an URL of this kind is no serial port: {RIGHT}, or a path such as /dev/ttyUSB0")
    if "@" in parts.netloc or parts.fragment:
        raise BadInput("port", f"its URL has a user or a fragment, which no serial port takes: {RIGHT}")
    if not place or not number or parts.path not in ("", "/") or not url.isprintable():
        raise BadInput("port", f"its URL names no host and port, or more than these: {RIGHT}")
    if not _options_known(parts):
        known = ", ".join(("?ign_set_control", "?poll_modem", "?timeout=SECONDS"))
        raise BadInput("port", f"its URL has an option that is not known ({known} of rfc2217 are): {RIGHT}")
    return parts.scheme, f"{_one_spelling(place)}-{number}"


def _options_known(parts: SplitResult) -> bool:
    options = _OPTIONS[parts.scheme]
    given = parse_qsl(parts.query, keep_blank_values=True)
    return all(name in options and options[name].fullmatch(value) for name, value in given)


def _one_spelling(place: str) -> str:
    """`localhost` for every name that this machine has for itself everywhere."""
    place = place.rstrip(".").lower()
    try:
        address = ip_address(place)
    except ValueError:
        return place
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return HERE if str(address) in ("127.0.0.1", "::1") else str(address)
