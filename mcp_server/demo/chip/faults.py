"""Faults to inject, so that what deals with boards can be seen to deal with broken ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mcp_server.demo.chip.models import Security, find_model
from mcp_server.errors import BadInput

NEVER = -1


@dataclass(frozen=True)
class Faults:
    """What is wrong with the chip. Numbers of bytes count what a loader was told to write to the flash."""

    silent: bool = False
    no_boot_mode: bool = False
    stub_silent: bool = False
    stub_broken: bool = False
    stub_write_fails: int = NEVER
    stub_write_stalls: int = NEVER
    write_fails: int = NEVER
    md5_mismatch: frozenset[int] = frozenset()
    vanish_after: int = NEVER
    back_after_s: float | None = None
    secure_boot: bool = False
    secure_download: bool = False
    flash_encryption: bool = False
    encryption_release: bool = False
    reports: str | None = None
    bits_per_s: int | None = None
    garbage: bool = False
    noise: int = 0

    @property
    def security(self) -> Security:
        return Security(
            boot=self.secure_boot,
            download=self.secure_download,
            crypt_count=1 if self.flash_encryption else 0,
            release=self.encryption_release,
        )


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise BadInput("fault", f"{name}={value}: a number of bytes is missing, as in {name}=65536")
    return int(value)


def _flag(field: str) -> Callable[[Faults, str, str], Faults]:
    def apply(faults: Faults, name: str, value: str) -> Faults:
        if value:
            raise BadInput("fault", f"{name}={value}: {name} takes no value")
        return replace(faults, **{field: True})

    return apply


def _count(field: str) -> Callable[[Faults, str, str], Faults]:
    return lambda faults, name, value: replace(faults, **{field: _number(name, value)})


def _md5(faults: Faults, name: str, value: str) -> Faults:
    return replace(faults, md5_mismatch=faults.md5_mismatch | {_number(name, value)})


def _vanish(faults: Faults, name: str, value: str) -> Faults:
    after, _, back = value.partition(",")
    try:
        seconds = float(back) if back else None
    except ValueError:
        raise BadInput("fault", f"{name}={value}: after the comma comes a number of seconds, as in 65536,2") from None
    return replace(faults, vanish_after=_number(name, after), back_after_s=seconds)


def _encryption(faults: Faults, name: str, value: str) -> Faults:
    if value not in ("", "release"):
        raise BadInput("fault", f"{name}={value}: it is {name} or {name}=release")
    return replace(faults, flash_encryption=True, encryption_release=value == "release")


def _slow(faults: Faults, name: str, value: str) -> Faults:
    if not (rate := _number(name, value)):
        raise BadInput("fault", f"{name}=0: bits per second are more than none")
    return replace(faults, bits_per_s=rate)


_KNOWN: dict[str, tuple[str, Callable[[Faults, str, str], Faults]]] = {
    "silent": ("never answers, never prints", _flag("silent")),
    "no-boot-mode": ("reset lines and SYNC never lead to download mode", _flag("no_boot_mode")),
    "stub-silent": ("the stub never starts; esptool 5 waits for it without end", _flag("stub_silent")),
    "stub-broken": ("the stub greets with other words", _flag("stub_broken")),
    "stub-write-fails": ("=N: with the stub, writing fails after N bytes", _count("stub_write_fails")),
    "stub-write-stalls": ("=N: with the stub, no answer after N bytes", _count("stub_write_stalls")),
    "write-fails": ("=N: writing fails after N bytes, with and without stub", _count("write_fails")),
    "md5-mismatch": ("=K: the K-th verification, from 0, finds other data", _md5),
    "vanish": ("=N[,S]: the port is gone after N bytes, and back after S seconds", _vanish),
    "secure-boot": ("secure boot is reported", _flag("secure_boot")),
    "secure-download": ("secure download mode is reported, and registers are closed", _flag("secure_download")),
    "flash-encryption": ("[=release]: flash encryption is reported", _encryption),
    "reports": (
        "=CHIP: it says that it is another chip",
        lambda faults, _, value: replace(faults, reports=find_model(value).name),
    ),
    "slow": ("=BITS: the line carries so many bits per second", _slow),
    "garbage": ("all that is sent is garbled", _flag("garbage")),
    "noise": ("=N: of N bytes sent one is wrong", _count("noise")),
}

HELP = "; ".join(f"{name}{'' if text[0] in '=[' else ': '}{text}" for name, (text, _) in _KNOWN.items())


def parse_faults(texts: Iterable[str]) -> Faults:
    """The faults of `--fault` options, each `name` or `name=value`. BadInput names what is wrong with one."""
    faults = Faults()
    for text in texts:
        name, _, value = text.partition("=")
        if name not in _KNOWN:
            raise BadInput("fault", f"{name} is no fault; these are: {', '.join(_KNOWN)}")
        faults = _KNOWN[name][1](faults, name, value)
    return faults
