"""A bot in fifty lines: orders a page, follows the work, prints the result. Needs httpx2 only.

build-orchestrator serve &
python examples/bot.py http://localhost:8000 "A coming-soon page with a dark theme"
"""

import json
import os
import sys
import time
import uuid

import httpx2

FINAL = ("completed", "failed", "cancelled")


def main(base_url: str, prompt: str, agent: str | None = None) -> int:
    """Exit code 0 if the order was completed."""
    token = os.environ.get("TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx2.Client(base_url=base_url, headers=headers, timeout=30) as service:
        order = {
            "prompt": prompt,
            "template": "web-page",
            "name": f"page-{uuid.uuid4().hex[:6]}",
            "auto_commit": True,
            "agent": agent,
            "idempotency_key": str(uuid.uuid4()),  # sent again after a lost answer, it is the same order
        }
        answer = service.post("/api/create-and-build", json=order)
        if answer.is_error:
            print(answer.json()["detail"], file=sys.stderr)  # noqa: T201
            return 2
        task = answer.json()
        print(f"task {task['task_id']} is {task['status']}")  # noqa: T201
        return follow(service, task["task_id"])


def follow(service: httpx2.Client, task_id: str) -> int:
    """Print what happens until the task is over; events come on their own, the task is the truth."""
    number = service.get(f"/api/builds/{task_id}").json()["id"]
    seen, until = 0, time.monotonic() + 3600
    while time.monotonic() < until:
        task = service.get(f"/api/tasks/{task_id}").json()
        if task["status"] in FINAL:
            print(json.dumps(task["result"], indent=2))  # noqa: T201
            return 0 if task["status"] == "completed" else 1
        with service.stream("GET", "/api/events", params={"build": number, "after": seen}) as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    seen = event["id"]
                    if event["type"] == "agent.status":
                        print(f"{event['agent']}: {event['status']} {event['task']}")  # noqa: T201
                    if event["type"] == "build.status" and event["status"] not in ("pending", "running"):
                        break
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
