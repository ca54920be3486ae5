"""What config.yaml says of the database's own housekeeping."""

from mcp_server.durations import Duration
from mcp_server.yaml_model import YamlModel


class StoreKeeping(YamlModel):
    """How many seconds long events are kept once their build is over; 0: for ever. Builds and stages always are."""

    keep_events: Duration = 365 * 86_400.0
