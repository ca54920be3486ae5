"""known_hosts files: which keys of a host are known, and the line of each. Blocks: for a thread."""

import base64
import binascii
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha1
from pathlib import Path

import asyncssh

from mcp_server.hosts.ssh_config import PORT, Hop

_HASH = "|1|"  # HMAC-SHA1 under a salt, the only kind there is


@dataclass(frozen=True)
class Entry:
    """One line that names the host. `marker`: "", "cert-authority" or "revoked"."""

    file: Path
    line: int
    marker: str
    key: asyncssh.SSHKey

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass
class Known:
    """What the files say of one host. `elsewhere`: keys of its name without the port, good enough to trust."""

    entries: list[Entry] = field(default_factory=list[Entry])
    elsewhere: list[Entry] = field(default_factory=list[Entry])

    def _of(self, marker: str) -> list[Entry]:
        own = [entry for entry in self.entries if entry.marker == marker]
        return own or [entry for entry in self.elsewhere if entry.marker == marker and not self.entries]

    @property
    def trusted(self) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        """Host keys, keys of authorities, revoked keys, as asyncssh takes them; never None, which would trust all.

        A revoked host key is only left out of the first: then it is offered to us as unknown, and can be named.
        """
        revoked = [entry.key for entry in (*self.entries, *self.elsewhere) if entry.marker == "revoked"]
        authorities = [entry.key for entry in self._of("cert-authority")]
        keys = [entry.key for entry in self._of("") if entry.key not in revoked]
        return keys, authorities, revoked if authorities else []

    def revoked(self, key: asyncssh.SSHKey) -> Entry | None:
        both = (*self.entries, *self.elsewhere)
        return next((entry for entry in both if entry.marker == "revoked" and entry.key == key), None)

    def match(self, key: asyncssh.SSHKey) -> Entry | None:
        """The line that makes `key` trusted."""
        return next((entry for entry in self._of("") if entry.key == key), None)

    def changed(self, key: asyncssh.SSHKey) -> Entry | None:
        """The line that holds another key of this very host; one of the same kind first. None: the host is unknown."""
        others = [entry for entry in self.entries if entry.marker == ""]
        same = [entry for entry in others if entry.key.algorithm == key.algorithm]
        return next(iter(same or others), None)


def known(hop: Hop) -> Known:
    """What the hop's files say of it. A file that is absent or unreadable, or a line that is broken, says nothing."""
    found = Known()
    plain = hop.address.lower() if hop.port != PORT and not hop.key_alias else None
    for file in hop.known_hosts:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            marker, patterns, text = _split(line)
            if patterns and _matches(patterns, hop.lookup):
                found.entries += _entry(file, number, marker, text)
            elif patterns and plain and _matches(patterns, plain):
                found.elsewhere += _entry(file, number, marker, text)
    return found


def line_for(hop: Hop, key: asyncssh.SSHKey) -> str:
    """The line that makes `key` known, hashed where the ssh configuration wants that."""
    name = hop.lookup
    if hop.hashed:
        salt = os.urandom(20)
        digest = hmac.new(salt, name.encode(), sha1).digest()
        name = _HASH + base64.b64encode(salt).decode() + "|" + base64.b64encode(digest).decode()
    return f"{name} {key.export_public_key('openssh').decode().split(' ')[0]} {_blob(key)}\n"


def kind(key: asyncssh.SSHKey) -> str:
    """ED25519, ECDSA, RSA: as ssh-keygen names it."""
    return key.algorithm.decode().removeprefix("sk-").removeprefix("ssh-").split("-")[0].split("@")[0].upper()


def _blob(key: asyncssh.SSHKey) -> str:
    return base64.b64encode(key.public_data).decode()


def _split(line: str) -> tuple[str, str, str]:
    """Marker, patterns, key; patterns "" where the line is empty, a comment or broken."""
    words = line.split(None, 1)
    marker = ""
    if words and words[0].startswith("@"):
        marker, words = words[0][1:], words[1].split(None, 1) if len(words) > 1 else []
    if len(words) < 2 or words[0].startswith("#") or marker not in ("", "cert-authority", "revoked"):
        return "", "", ""
    return marker, words[0], words[1]


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith(_HASH):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in patterns[len(_HASH) :].split("|"))
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), sha1).digest(), digest)
    found = False
    for pattern in patterns.lower().split(","):
        if pattern.startswith("!") and _like(pattern[1:], name):
            return False
        found = found or _like(pattern, name)
    return found


def _like(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _entry(file: Path, number: int, marker: str, text: str) -> Iterable[Entry]:
    try:
        yield Entry(file, number, marker, asyncssh.import_public_key(text))
    except (asyncssh.KeyImportError, ValueError):
        return


def names(keys: Sequence[asyncssh.SSHKey]) -> list[str]:
    """Signature algorithms of the keys, each once, as they may be asked of a server."""
    return list(dict.fromkeys(name.decode() for key in keys for name in key.sig_algorithms))
