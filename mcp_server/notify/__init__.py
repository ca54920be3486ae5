"""Tells people how builds go, through the channels of config.yaml.

May import: model, config, clock, errors, idf.diagnostics, public_net, secret_store, text.
Never: store, hosts, engine, orchestrator, a front.
"""

from mcp_server.notify.channels import Channels
from mcp_server.notify.messages import Message
from mcp_server.notify.notifier import Notifier

__all__ = ["Channels", "Message", "Notifier"]
