"""What obstore has no words for: links that say how a file is called, and uploads that were never finished.

Signed in the query, as AWS's Signature Version 4 says (`UNSIGNED-PAYLOAD`), with keys that are known here.
"""

import hashlib
import hmac
import html
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

ANSWER_S = 30
MOST_ANSWER = 4 * 1024 * 1024
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_FIELD = re.compile(r"<(Key|UploadId|Initiated)>([^<]*)</")


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket's address, `base` without the key, and who signs."""

    base: str
    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, endpoint: str | None, region: str | None, keys: tuple[str, str] | None) -> "Place | None":
        """None: neither config.yaml nor the environment says who asks."""
        environment, token = os.environ, None
        if keys is None:
            known = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
            if not known[0] or not known[1]:
                return None
            keys, token = (known[0], known[1]), environment.get("AWS_SESSION_TOKEN")
        where = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        server = endpoint or environment.get("AWS_ENDPOINT_URL") or environment.get("AWS_ENDPOINT")
        bucket = url.removeprefix("s3://").partition("/")[0]
        base = f"{server.rstrip('/')}/{bucket}" if server else f"https://{bucket}.s3.{where}.amazonaws.com"
        return cls(base, where, *keys, token)


def as_download(name: str) -> Mapping[str, str]:
    """Has the store answer with a file of this name that no browser shows."""
    safe = quote(name.rpartition("/")[2], safe="", errors="replace")
    said = f"attachment; filename*=UTF-8''{safe}"
    return {"response-content-disposition": said, "response-content-type": "application/octet-stream"}


def signed(place: Place, method: str, key: str, query: Mapping[str, str], seconds: int, now: datetime) -> str:
    """An address that allows this one request for so long."""
    base = urlsplit(place.base)
    path = quote(f"{base.path}/{key}" if key else base.path or "/", safe="/-_.~")
    day, scope = f"{now:%Y%m%d}", f"{now:%Y%m%d}/{place.region}/s3/aws4_request"
    asked = {
        **query,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{place.key_id}/{scope}",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if place.token:
        asked["X-Amz-Security-Token"] = place.token
    text = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in asked.items()))
    request = "\n".join((method, path, text, f"host:{base.netloc}\n", "host", "UNSIGNED-PAYLOAD"))
    said = "\n".join(("AWS4-HMAC-SHA256", asked["X-Amz-Date"], scope, hashlib.sha256(request.encode()).hexdigest()))
    signing = f"AWS4{place.secret}".encode()
    for part in (day, place.region, "s3", "aws4_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, said.encode(), "sha256").hex()
    return f"{base.scheme}://{base.netloc}{path}?{text}&X-Amz-Signature={signature}"


def end_unfinished(place: Place, prefix: str, before: datetime, now: datetime, most: int) -> int:
    """Give up uploads in parts below `prefix` that were begun before that, at most so many. OSError: it cannot be."""
    found = _ask(signed(place, "GET", "", {"uploads": "", "prefix": prefix}, 60, now), "GET")
    old: list[tuple[str, str]] = []
    for upload in _UPLOAD.findall(found):
        told = {name: html.unescape(value) for name, value in _FIELD.findall(upload)}
        if len(told) == 3 and _time(told["Initiated"]) < before and told["Key"].startswith(prefix):
            old.append((told["Key"], told["UploadId"]))
    for key, upload in old[:most]:
        _ask(signed(place, "DELETE", key, {"uploadId": upload}, 60, now), "DELETE")
    return len(old[:most])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _ask(url: str, method: str) -> str:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - the address is config.yaml's
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            return answer.read(MOST_ANSWER).decode("utf-8", "replace")
    except urllib.error.HTTPError as refused:
        said = refused.read(4096).decode("utf-8", "replace")
        raise OSError(said if "<Code>" in said else f"status code: {refused.code} {refused.reason}") from None
    except OSError:
        raise OSError("error sending request") from None
