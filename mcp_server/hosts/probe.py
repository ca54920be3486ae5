"""What a host says of itself in one round trip, and what would go wrong with jobs there, each with what mends it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mcp_server.clock import Clock, SystemClock
from mcp_server.errors import BadInput, HostUnreachable
from mcp_server.hosts.base import Channel, Host, JobId
from mcp_server.hosts.script import Script

PROBE = Script("probe")

ANSWER_S = 15  # a home on a network file system that hangs is said to be unreachable, not waited for
MOST_LINES = 1500
CLOCK_OFF_S = 5
LEAST_FREE = 1 << 30  # bytes
LEAST_SHARE = 0.05
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "9p",
    "virtiofs",
    "fuse.",
    "beegfs",
    "gpfs",
    "davfs",
)
LOCAL_FUSE = ("fuse.ext", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.lxcfs")
MOST_BUILDS = 12

NEEDED = "awk cat date env find grep head mkdir mkfifo mv rm sleep sort tail tr wc"
SCRIPTED = (
    "bitbake",
    "build.py",
    "pytest",
    "idf.py",
    "scons",
    "west",
    "meson",
    "conan",
    "gradle",
    "maven",
    "catkin",
    "colcon",
)
COMPILERS = ("gcc", "g++", "clang", "clang++", "cc1", "cc1plus", "lto1", "ld", "as", "collect2")
BUILDERS = frozenset(
    [*SCRIPTED, *COMPILERS, "ninja", "samu", "make", "gmake", "cmake", "ctest", "rustc", "cargo", "go", "bazel"]
)


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """Processes of one program that build something and are no jobs of ours."""

    name: str
    count: int
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One look at a host. Sizes in bytes; None: it does not say. `clock_off_s` is its time minus ours."""

    system: str
    cpus: int
    load: tuple[float, float, float] | None
    memory_free: int | None
    disk_free: int | None
    disk_total: int | None
    work_free: int | None
    clock_off_s: float
    running_jobs: tuple[JobId, ...]
    other_builds: tuple[OtherProcess, ...]
    warnings: tuple[str, ...]
    latency_s: float


@dataclass(slots=True)
class Said:
    """The script's lines, sorted."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    missing: set[str] = field(default_factory=set[str])
    jobs: dict[JobId, str] = field(default_factory=dict[JobId, str])
    """Running jobs and the sessions they lead."""
    owners: dict[str, str] = field(default_factory=dict[str, str])
    processes: list[list[str]] = field(default_factory=list[list[str]])
    """PID SESSION UID COMMAND-LINE."""


async def probe(host: Host, workdir: str | None = None, clock: Clock | None = None) -> HostFacts:
    """Ask the host; `workdir` is where builds will run. HostUnreachable, also after 15 s of silence."""
    if workdir is not None and (not workdir.startswith("/") or "\n" in workdir or "\0" in workdir):
        raise BadInput("workdir", f"{workdir!r} must be an absolute folder of the host, on one line")
    clock = clock or SystemClock()
    try:
        return await clock.within(ANSWER_S, _ask(host, workdir, clock))
    except TimeoutError:
        raise HostUnreachable(host.name, f"says nothing of itself within {ANSWER_S} s") from None


async def _ask(host: Host, workdir: str | None, clock: Clock) -> HostFacts:
    async with host.channel(PROBE, "probe") as channel:
        asked_at, began = clock.now().timestamp(), clock.monotonic()
        await channel.write((workdir or "").encode("utf-8", "surrogateescape") + b"\n")
        time = await channel.readline()
        latency_s = clock.monotonic() - began
        lines = [time, *await _lines(channel)]
    if lines[-1] != b"end\n":
        raise HostUnreachable(host.name, "what it says of itself was cut off")
    said = parse([line.decode("utf-8", "replace").rstrip("\n") for line in lines])
    clock_off_s = int(said.values["time"]) / 1e9 - asked_at - latency_s / 2
    return facts(said, workdir, clock_off_s, latency_s)


async def _lines(channel: Channel) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < MOST_LINES and (line := await channel.readline()).endswith(b"\n"):
        lines.append(line)
        if line == b"end\n":
            break
    return lines


def parse(lines: Iterable[str]) -> Said:
    """The script's answer; unknown keys are ignored."""
    said = Said()
    for line in lines:
        key, _, rest = line.partition(" ")
        words = rest.split(" ")
        if key == "missing":
            said.missing.add(rest)
        elif key == "job" and len(words) == 2:
            said.jobs[words[0]] = words[1]
        elif key == "owner" and len(words) == 2:
            said.owners[words[0]] = words[1]
        elif key == "process":
            said.processes.append(rest.split(maxsplit=3))
        else:
            said.values[key] = rest
    return said


def facts(said: Said, workdir: str | None, clock_off_s: float, latency_s: float) -> HostFacts:
    """What was said, with its preflight sentences."""
    load = tuple(map(float, said.values.get("load", "").split()))
    disk = _sizes(said, "jobs")
    work = _sizes(said, "work")
    return HostFacts(
        system=said.values.get("system", ""),
        cpus=int(said.values.get("cpus", "0") or 0),
        load=(load[0], load[1], load[2]) if len(load) == 3 else None,
        memory_free=int(said.values["memory"]) if "memory" in said.values else None,
        disk_free=disk[0] if disk else None,
        disk_total=disk[1] if disk else None,
        work_free=work[0] if work else None,
        clock_off_s=clock_off_s,
        running_jobs=tuple(said.jobs),
        other_builds=other_builds(said),
        warnings=tuple(warnings(said, workdir, clock_off_s)),
        latency_s=latency_s,
    )


def other_builds(said: Said) -> tuple[OtherProcess, ...]:
    """Build processes outside our jobs' sessions, the most frequent programs first."""
    ours = set(said.jobs.values())
    counts: Counter[str] = Counter()
    users: dict[str, set[str]] = {}
    for words in said.processes:
        if len(words) == 4 and words[1] not in ours and (name := builder(words[3].split())):
            counts[name] += 1
            users.setdefault(name, set()).add(said.owners.get(words[2], words[2]))
    most = counts.most_common(MOST_BUILDS)
    return tuple(OtherProcess(name, count, tuple(sorted(users[name])[:5])) for name, count in most)


def builder(argv: Sequence[str]) -> str | None:
    """The building program that a command line runs, under its usual name; None where it builds nothing."""
    names = [PurePosixPath(word.rstrip(":")).name for word in argv[:6]]
    if not names:
        return None
    if names[0].startswith(("python", "node", "java", "sh", "bash")):
        for name in names[1:]:
            for known in SCRIPTED:
                if name == known or name.startswith((f"{known}-", f"{known}.")):
                    return known
        return None
    name = names[0].lower()
    for compiler in COMPILERS:
        if name.endswith(f"-{compiler}"):
            return compiler
    for known in SCRIPTED:
        if name.startswith(known):
            return known
    return name if name in BUILDERS else None


def warnings(said: Said, workdir: str | None, clock_off_s: float) -> list[str]:
    """One sentence for each thing that breaks jobs here or makes them less than they could be."""
    return [
        *_tools(said.missing),
        *_logout(said.values),
        *_folders(said.values, workdir),
        *_disks(said),
        *_clock(clock_off_s),
    ]


def _tools(missing: set[str]) -> list[str]:
    found = [
        f"{tool} is missing: no job can run; install coreutils, findutils, grep and awk"
        for tool in NEEDED.split()
        if tool in missing
    ]
    if {"setsid", "perl"} <= missing:
        found.append("neither setsid nor perl is there: no job can be detached; install util-linux")
    if "rsync" in missing:
        found.append("rsync is missing: whole trees are sent as tar archives; install rsync")
    if "bash" in missing:
        found.append("bash is missing: commands that need it fail, as Yocto's and ESP-IDF's do; install bash")
    if "flock" in missing:
        found.append("flock is missing: two builds in one folder are not kept apart; install util-linux")
    if "fallocate" in missing:
        found.append("fallocate is missing: long logs are not cut; install util-linux")
    return found


def _logout(values: Mapping[str, str]) -> list[str]:
    user = values.get("user", "? ?").split()[-1]
    if (
        values.get("kills") not in ("yes", "true", "1", "on")
        or values.get("linger") in ("yes", "1", "true")
        or user == "root"
    ):
        return []
    return [
        f"systemd ends {user}'s jobs at logout (KillUserProcesses=yes): run `loginctl enable-linger {user}` there once"
    ]


def _folders(values: Mapping[str, str], workdir: str | None) -> list[str]:
    user = values.get("user", "? ?").split()[-1]
    found: list[str] = []
    if "jobs_denied" in values:
        found.append(f"{user} may not write to the jobs' folder: set `jobs_dir` of this server to a folder of {user}")
    if stranger := values.get("jobs_strangers"):
        found.append(
            f"{stranger} belongs to another user: give the jobs' folder back with chown -R {user}, or set `jobs_dir`"
        )
    kind, options = _mount(values, "jobs")
    if kind.startswith(NETWORK) and not kind.startswith(LOCAL_FUSE):
        found.append(
            f"the jobs' folder is on a network file system ({kind}): set `jobs_dir` to a local disk, as /var/tmp/jobs"
        )
    if "noexec" in options:
        found.append("the jobs' folder is mounted noexec: scripts of ours still run, programs put there do not")
    if workdir is None:
        return found
    match values.get("work_state", "").split():
        case ["absent", *_]:
            found.append(f"workdir {workdir} does not exist: create it there, or correct `workdir`")
        case ["file", *_]:
            found.append(f"workdir {workdir} is no folder: correct `workdir`")
        case ["denied", owner, *_]:
            found.append(
                f"workdir {workdir} belongs to {owner} and {user} may not write to it: chown it, or correct `user`"
            )
        case ["usable", "1", *_]:
            found.append(
                f"workdir {workdir} belongs to another user than {user}: files made there may not be theirs to change"
            )
        case _:
            pass
    if "noexec" in _mount(values, "work")[1]:
        found.append(f"workdir {workdir} is mounted noexec: programs built there cannot run; mount it with exec")
    return found


def _disks(said: Said) -> list[str]:
    found: list[str] = []
    for key, what in (("jobs", "the jobs' folder"), ("work", "workdir")):
        sizes = _sizes(said, key)
        if sizes and (sizes[0] < LEAST_FREE or sizes[0] < LEAST_SHARE * sizes[1]):
            found.append(
                f"{what} is on a disk nearly full: {sizes[0] >> 20} of {sizes[1] >> 20} MiB are free; make room there"
            )
    return found


def _clock(off_s: float) -> list[str]:
    if abs(off_s) <= CLOCK_OFF_S:
        return []
    way = "ahead of" if off_s > 0 else "behind"
    return [
        f"its clock is {abs(off_s):.0f} s {way} ours and confuses make and ninja: run `timedatectl set-ntp true` there"
    ]


def _sizes(said: Said, key: str) -> tuple[int, int] | None:
    words = said.values.get(key, "").split()
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(word.isdigit() for word in words) else None


def _mount(values: Mapping[str, str], key: str) -> tuple[str, list[str]]:
    kind, _, options = values.get(f"{key}_mount", "").partition(" ")
    return kind, options.split(",")
