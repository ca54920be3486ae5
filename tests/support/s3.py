"""A server that speaks S3's protocol, on loopback: moto's. What is sent to it is kept in memory."""

import contextlib
import os
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass

from moto.server import ThreadedMotoServer

os.environ.setdefault("MOTO_S3_CUSTOM_ENDPOINTS", "")
BUCKET = "results"


@dataclass(frozen=True)
class S3:
    """Where it is."""

    endpoint: str

    def config(self, more: str = "") -> str:
        """`artifacts` of a config.yaml."""
        keys = f"endpoint: '{self.endpoint}', region: us-east-1, key_id: reader, secret: '${{secret:s3}}'"
        return f"artifacts: {{store: 's3://{BUCKET}/builds', {keys}{more}}}\n"


@contextlib.contextmanager
def s3_server() -> Generator[S3]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        made = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()
        yield S3(endpoint)
    finally:
        server.stop()
