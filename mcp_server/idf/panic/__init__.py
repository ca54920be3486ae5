"""Panics: found in what a chip prints, and decoded into functions, files and lines.

May import: model, errors, text, idf.installation. Never: hosts, store, engine, orchestrator, a front.
"""

from mcp_server.idf.panic.addr2line import addr2line_for
from mcp_server.idf.panic.decode import Decoders, decode, undecoded
from mcp_server.idf.panic.model import Decoded, Frame, Kind, Panic
from mcp_server.idf.panic.reader import SIGNS, PanicReader
from mcp_server.idf.panic.report import panic_details, panic_report

__all__ = [
    "SIGNS",
    "Decoded",
    "Decoders",
    "Frame",
    "Kind",
    "Panic",
    "PanicReader",
    "addr2line_for",
    "decode",
    "panic_details",
    "panic_report",
    "undecoded",
]
