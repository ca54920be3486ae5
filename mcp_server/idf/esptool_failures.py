"""What it means that esptool cannot reach a chip: the same for a flash and for a look at a board (esptool 4 and 5)."""

import re
from dataclasses import dataclass
from typing import Final

PORT_BUSY: Final = "port_busy"
TO_LOADER: Final = "hold BOOT, press RESET (EN), let go of BOOT, then try again"
_REPLUG: Final = "unplug the board and plug it in again; try another cable or USB socket"

LOST: Final = re.compile(
    r"[Cc]ould not (?:open|configure) port|[Cc]annot configure port|Errno|device disconnected|readiness"
    r"|multiple access on port|Input/output error|No such device|Device not configured|Lost connection"
    r"|socket disconnected|connection (?:lost|failed)"
)
"""Words about a port that was open before: it is gone."""


@dataclass(frozen=True, slots=True)
class Failure:
    """`name` for programs, `sentence` what is so, `mend` what mends it."""

    name: str
    sentence: str
    mend: str


_UNREADABLE: Final = "try a shorter cable, another power supply, a lower baud rate"

_FAILURES: Final = (
    (
        r"Wrong boot mode detected \((.{1,40}?)\)",
        "no_boot_mode",
        "the chip started its firmware, not its loader (boot mode {0})",
        f"{TO_LOADER}; or check the cable's DTR and RTS",
    ),
    (  # A letter where a packet should begin: the firmware goes on printing, at the rate at which we listen.
        r"Invalid head of packet \(0x(?:[2-6][0-9A-Fa-f]|7[0-9A-Ea-e]|0[AaDd]|1[Bb])\)",
        "no_boot_mode",
        "the chip runs its firmware and did not enter its loader",
        f"{TO_LOADER}; or check the cable's DTR and RTS",
    ),
    (
        r"[Cc]ould not open port \w+://",
        "unreachable",
        "nothing answers at {port}",
        "start the program that serves the port there (ser2net, esp_rfc2217_server), or check the address",
    ),
    (  # "the port is busy or doesn't exist" is said of every port that cannot be opened
        r"exclusively lock port|Resource (?:temporarily unavailable|busy)|Device or resource busy|Access is denied",
        PORT_BUSY,
        "{port} is open in another program",
        "close it (as root, `fuser -v` names it)",
    ),
    (
        r"Permission denied|Errno 13\b",
        "permission",
        "{port} may not be opened by this user",
        "sudo usermod -aG dialout $USER, then log in again",
    ),
    (r"No such file or directory|FileNotFoundError", "no_port", "{port} is not there", "connect the board"),
    (
        r"device disconnected|multiple access on port|Input/output error|No such device|Device not configured"
        r"|Lost connection|[Cc](?:annot|ould not) configure port|socket disconnected",
        "port_gone",
        "{port} vanished while it was used",
        _REPLUG,
    ),
    (
        r"serial TX path seems to be down",
        "no_answer",
        "the chip is in download mode, but does not hear {port}",
        "check the line from the converter's TX to the board's RX",
    ),
    (
        r"This chip is (\S+), not ([^. ]+)",
        "wrong_chip",
        "the board has an {0}, the build is for {1}",
        "set the target to the board's and build again, or name its port",
    ),
    (
        r"No serial data received",
        "no_answer",
        "no chip answers on {port}",
        f"{TO_LOADER}; or check the cable's DTR and RTS, and which port it is",
    ),
    (
        r"chip stopped responding|No more data to read|Invalid (?:head|SLIP)|noise or corruption|doesn't match request"
        r"|Write timeout",
        "garbage",
        "what the chip answers on {port} cannot be read",
        f"{_UNREADABLE}; or {TO_LOADER}, as it may be its firmware",
    ),
)


def find_failure(output: str, port: str) -> Failure | None:
    """The first of these that esptool's words mean; None where they mean none of them."""
    for pattern, name, sentence, mend in _FAILURES:
        if match := re.search(pattern, output):
            return Failure(name, sentence.format(*match.groups(), port=port), mend)
    return None
