"""Found on its PYTHONPATH, this sets the clock of one process: `APART_S` seconds ahead of the machine's."""

import os
from datetime import datetime, timedelta, tzinfo

from mcp_server import clock


class Apart(datetime):
    """What clock.py reads the machine's clock with."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(seconds=float(os.environ.get("APART_S", "0")))


clock.datetime = Apart  # pyright: ignore[reportPrivateImportUsage]
