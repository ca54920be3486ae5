"""What a tormented team must have kept: looked up in its database, and in the marks that its jobs left."""

from collections import Counter
from typing import Any

import psycopg

from tests.support.team_faults import BUILDS, CANCELLED, FAILING, PER_PROJECT, SLOTS, TWICE, Torment

RUNNING = """
SELECT e.id, e.build, b.project_id, e.data ->> 'status' FROM events e JOIN builds b ON b.id = e.build
WHERE e.type = 'build.status' AND e.data ->> 'status' IS NOT NULL ORDER BY e.id
"""
ENDED = ("success", "failed", "cancelled")


def check(torment: Torment) -> None:
    """Add what was not kept to the report's `broken`, and figures."""
    report, team = torment.report, torment.team
    with torment.server.server.connect(team.database) as c:
        ends = _ends(torment, c)
        _jobs(torment, ends)
        for table, where in (("leases", "true"), ("stages", "ended_at IS NULL"), ("callbacks", "status = 'pending'")):
            left = c.execute(f"SELECT count(*) FROM {table} WHERE {where}".encode()).fetchone()
            if left != (0,):
                report.broken.append(f"{table} left: {left}")
        handed = c.execute("SELECT task_name, status FROM procrastinate.procrastinate_jobs").fetchall()
        if handed:
            report.broken.append(f"hand-overs left: {handed}")
        _limits(torment, c)
        _events(torment, c)
        taken = c.execute("SELECT sum(claim), max(claim) FROM builds").fetchone()
        report.figures["claims"] = taken
    for number in sorted(torment.numbers.values()):
        came = torment.receiver.came[f"/{number}"]
        if came == 0:
            report.broken.append(f"the callback of number {number} never came")
    report.figures["callbacks"] = dict(Counter(torment.receiver.came.values()))
    for worker in (1, 2, 3):
        if "Traceback" in team.log(worker):
            report.broken.append(f"worker {worker} wrote a traceback: see its log")


def _ends(torment: Torment, c: "psycopg.Connection[Any]") -> dict[int, str]:
    ends: dict[int, str] = {}
    for build, status, reason, output, cancelled in c.execute(
        "SELECT id, status, reason, build_output, cancel_requested FROM builds"
    ).fetchall():
        ends[build] = status
        torment.report.ends[f"{status} {reason}"] += 1
        number = torment.numbers.get(build)
        if number is None:  # its order was committed, and the front was told that the database is away
            number = int(c.execute("SELECT name FROM builds WHERE id = %s", (build,)).fetchone()[0][1:])  # type: ignore[index]
        allowed = {"failed" if number % FAILING == 0 else "success"} | ({"cancelled"} if cancelled else set())
        if status not in allowed or (number % CANCELLED and cancelled):
            torment.report.broken.append(f"build {build} (number {number}) ended {status} {reason}: {output}")
    return ends


def _jobs(torment: Torment, ends: dict[int, str]) -> None:
    count = 0
    for file in sorted((torment.team.work / "started").iterdir()):
        number, stage = file.name.split(".")
        jobs = file.read_text().split()
        count += len(jobs)
        if len(set(jobs)) < len(jobs):
            torment.report.broken.append(f"number {number} {stage} was started {len(jobs)} times: {jobs}")
        most = 2 if stage == "s3" and int(number) % TWICE == 0 else 1
        if len(jobs) > most:
            torment.report.broken.append(f"number {number} {stage} had {len(jobs)} attempts: {jobs}")
    torment.report.figures["jobs"] = count
    whole = {
        str(torment.numbers[build]) for build, end in ends.items() if end == "success" and build in torment.numbers
    }
    at_once = most_at_once = in_group = most_in_group = 0
    for line in (torment.team.work / "ran").read_text().splitlines():
        sign, number, stage = line.split()
        if number not in whole:
            continue
        step = 1 if sign == "+" else -1
        at_once += step
        most_at_once = max(most_at_once, at_once)
        in_group += step if stage == "s2" else 0
        most_in_group = max(most_in_group, in_group)
    torment.report.figures |= {"jobs at once": most_at_once, "of the group": most_in_group}
    if most_at_once > SLOTS or most_in_group > 1:
        torment.report.broken.append(f"{most_at_once} jobs at once on the host, {most_in_group} of the group")


def _limits(torment: Torment, c: "psycopg.Connection[Any]") -> None:
    running: dict[int, str] = {}
    most, most_of_one = 0, 0
    for event, build, project, status in c.execute(RUNNING.encode()).fetchall():
        if status == "running":
            running[build] = project
        elif status in ENDED:
            running.pop(build, None)
        of_one = max(Counter(running.values()).values(), default=0)
        if len(running) > BUILDS or of_one > PER_PROJECT:
            torment.report.broken.append(f"event {event}: {len(running)} builds ran, {of_one} of one project")
        most, most_of_one = max(most, len(running)), max(most_of_one, of_one)
    torment.report.figures |= {"builds at once": most, "of one project": most_of_one}


def _events(torment: Torment, c: "psycopg.Connection[Any]") -> None:
    there = {row[0] for row in c.execute("SELECT id FROM events").fetchall()}
    missed = there - set(torment.read)
    if missed:
        torment.report.broken.append(f"{len(missed)} events were not seen by who follows: {sorted(missed)[:5]}")
    twice = c.execute(
        "SELECT build, data ->> 'status', count(*) FROM events WHERE type = 'build.status' "
        "AND data ->> 'status' IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
    ).fetchall()
    if twice:
        torment.report.broken.append(f"told twice: {twice[:5]}")
    torment.report.figures["events"] = len(there)
