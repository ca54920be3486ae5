"""Plans for boards and emulators: what flashes, watches or emulates what an earlier build left.

May import: model. Never: anything else of ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_server.model import Artifact, Plan, StageSpec

FLASH_S = 600  # of one attempt; 16 MB at 115,200 baud without compression take 25 min and are not meant
TO_OPEN_S = 60  # for whoever has the port to let it go


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a build left, as it is to be run: `images` by address, `build` the number of the build that made them.

    `changed`: a source that was changed since that build began.
    """

    project: str
    build_dir: str
    target: str
    build: int | None = None
    images: tuple[Artifact, ...] = ()
    installation: dict[str, Any] | None = None
    changed: str | None = None

    def params(self) -> dict[str, Any]:
        """As stages take it."""
        found: dict[str, Any] = {"project": self.project, "build_dir": self.build_dir, "target": self.target}
        if self.build is not None:
            found["build"] = self.build
        if self.images:
            found["images"] = [image.model_dump(mode="json") for image in self.images]
        if self.installation is not None:
            found["installation"] = self.installation
        if self.changed is not None:
            found["changed"] = self.changed
        return found


@dataclass(frozen=True, slots=True)
class Watching:
    """What firmware is to print (`expect`, all of it), what it must not (`fail_on`), and for how long it is heard."""

    expect: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    seconds: float = 10

    def params(self) -> dict[str, Any]:
        return {"expect": list(self.expect), "fail_on": list(self.fail_on)}


def flash(
    firmware: Firmware,
    *,
    host: str,
    port: str | None,
    erase: bool = False,
    name: str = "flash",
    after: Sequence[str] = (),
    timeout_s: float = FLASH_S,
) -> StageSpec:
    """The stage `flash`: every image written and verified."""
    params = {**firmware.params(), "port": port, "erase": erase}
    return StageSpec(
        name=name, kind="idf.flash", params=params, host=host, depends_on=tuple(after), timeout_s=timeout_s
    )


def boot(
    firmware: Firmware,
    watching: Watching,
    *,
    host: str,
    port: str | None,
    name: str = "boot",
    after: Sequence[str] = (),
) -> StageSpec:
    """The stage `boot`: the board is reset, and what it prints is judged."""
    params = {**firmware.params(), **watching.params(), "port": port, "seconds": watching.seconds}
    for said_already in ("images", "changed"):
        params.pop(said_already, None)
    return StageSpec(
        name=name,
        kind="idf.boot",
        params=params,
        host=host,
        depends_on=tuple(after),
        timeout_s=watching.seconds + TO_OPEN_S,
    )


def flash_and_watch(
    firmware: Firmware, watching: Watching, *, host: str, port: str | None, erase: bool, after: Sequence[str] = ()
) -> Plan:
    """flash → boot; without seconds to watch, flash alone."""
    stages = [flash(firmware, host=host, port=port, erase=erase, after=after)]
    if watching.seconds > 0:
        stages.append(boot(firmware, watching, host=host, port=port, after=("flash",)))
    return Plan(stages=tuple(stages))


def emulate(firmware: Firmware, watching: Watching, *, name: str = "qemu", after: Sequence[str] = ()) -> StageSpec:
    """The stage `qemu`: chip firmware in the emulator; firmware for the linux target as a process of this machine."""
    kind = "idf.run" if firmware.target == "linux" else "idf.qemu"
    params = {**firmware.params(), **watching.params()}
    return StageSpec(
        name=name, kind=kind, params=params, depends_on=tuple(after), timeout_s=watching.seconds, host="local"
    )


def monitor(where: Mapping[str, str], *, host: str, baud: int | None, idle_s: float) -> Plan:
    """A session on a port (`port` and `key` in `where`): until it is closed, or nobody asked for it for `idle_s`."""
    params = {**where, "baud": baud, "idle_s": idle_s}
    return Plan(stages=(StageSpec(name="monitor", kind="idf.monitor", params=params, host=host, timeout_s=0),))
