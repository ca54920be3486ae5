"""Secrets out of texts and logs.

May import: nothing of this package.
"""

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

LEAST_LETTERS = 4  # a shorter value is everywhere by chance: masking `1` or `yes` would ruin a log and hide nothing
LEAST_LINE = 16  # letters of one line of a key that is masked also where it stands alone
MASK = "***"


class Redactor:
    """Masks secret values, also URL-encoded and in base64; those shorter than four letters are left.

    `feed` is for one stream; several streams take a Redactor each.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._longest = len(self._forms[0]) if self._forms else 0
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms))) if self._forms else None
        self._beginnings: dict[bytes, list[bytes]] = {}
        for form in self._forms:
            self._beginnings.setdefault(form[:1], []).append(form)
        self._held = b""

    def text(self, text: str) -> str:
        """`text` with `***` in the place of each value."""
        if self._pattern is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return self._pattern.sub(MASK.encode(), data).decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """`data`, whole, with each value replaced by as many `*`: offsets stay true."""
        return data if self._pattern is None else self._pattern.sub(_stars, data)

    def feed(self, data: bytes) -> bytes:
        """The next piece of a stream, masked. What may be the beginning of a value is kept for the next piece."""
        if self._pattern is None:
            return data
        data = self._held + data
        cut = self._decided(data)
        self._held = data[cut:]
        return self.data(data[:cut])

    def finish(self) -> bytes:
        """What `feed` still kept, at the end of the stream."""
        held, self._held = self._held, b""
        return self.data(held)

    def _decided(self, data: bytes) -> int:
        """How many bytes of `data` are decided: what follows may be the beginning of a value."""
        assert self._pattern is not None
        begins = max(len(data) - self._longest + 1, 0)
        cut = next((place for place in range(begins, len(data)) if self._may_begin(data, place)), len(data))
        if cut < len(data):
            for found in self._pattern.finditer(data):
                if found.start() < cut < found.end():
                    return found.start()  # never cut through a value that is whole already
        return cut

    def _may_begin(self, data: bytes, place: int) -> bool:
        near, left = data[place : place + 16], len(data) - place
        forms = self._beginnings.get(near[:1], ())
        return any(len(form) > left and form.startswith(near) and form.startswith(data[place:]) for form in forms)


def _stars(found: re.Match[bytes]) -> bytes:
    return b"*" * len(found[0])


def _forms(value: str) -> Iterable[bytes]:
    """The value as it may be printed: plain, quoted in a URL, in base64; of a key each long line."""
    value = value.strip("\r\n")
    if len(value) < LEAST_LETTERS:
        return
    raw = value.encode("utf-8", "surrogatepass")
    yield raw
    yield quote(value, safe="", errors="replace").encode()
    yield quote_plus(value, errors="replace").encode()
    yield base64.b64encode(raw).rstrip(b"=")
    yield base64.urlsafe_b64encode(raw).rstrip(b"=")
    lines = raw.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= LEAST_LINE and not line.startswith(b"-----"))
