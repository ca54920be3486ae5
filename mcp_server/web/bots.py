"""What bots order and ask for: at /api, and at the addresses that the first bots were written against."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from mcp_server.bot_result import bot_result
from mcp_server.errors import BadInput
from mcp_server.model import BuildStatus
from mcp_server.views import BuildView
from mcp_server.web.builds import Limit, Number
from mcp_server.web.context import Service
from mcp_server.web.projects import Name
from mcp_server.web.shapes import Order, Ordered, Task

router = APIRouter(tags=["bots"])


async def order_build(service: Service, project: Name, order: Order) -> Ordered:
    """Let an agent work on a project, build and test it, commit and push where asked, call back at the end.

    Answers at once; the same `idempotency_key` again is the same task.
    """
    if order.template is not None or order.name is not None:
        raise BadInput("template", f"makes a new project, and {project[:60]!r} is one: use /api/create-and-build")
    if order.project is not None:
        raise BadInput("project", "is in the address already")
    found = await service.find_project(project)
    return await _ordered(service, order.model_copy(update={"project": found.path}))


async def create_and_build(service: Service, order: Order) -> Ordered:
    """The same for a new project, made from a template first."""
    if order.project is not None:
        order = order.model_copy(update={"project": (await service.find_project(order.project)).path})
    return await _ordered(service, order)


async def list_tasks(service: Service, project: Name, limit: Limit = 50) -> list[Task]:
    """The builds of a project as tasks, the newest first, without their results."""
    found = await service.list(project=project, limit=limit)
    return [Task(task_id=b.task_id, project_id=b.project_id, status=_word(b.status)) for b in found]


async def get_task(service: Service, build: Number) -> Task:
    """A task and, once it is over, its result."""
    return task(await service.get(build))


async def _ordered(service: Service, order: Order) -> Ordered:
    started = await service.workflows.create(order, triggered_by="api", agreed=True)
    return Ordered(task_id=started.build.task_id, status=_word(started.build.status))


def task(view: BuildView) -> Task:
    """A build as bots see it."""
    build, result = view.build, None
    if build.completed_at is not None:
        sentence = (build.build_output or "").partition("\n")[0]
        result = bot_result(build, build.status, view.stages, build.completed_at, sentence=sentence)
    return Task(task_id=build.task_id, project_id=build.project_id, status=_word(build.status), result=result)


def _word(status: BuildStatus) -> Any:
    return Task.word(status)


def _add(path: str, method: str, handler: Callable[..., Any], *, shown: bool) -> None:
    status = 202 if method == "POST" else 200
    router.add_api_route(path, handler, methods=[method], status_code=status, include_in_schema=shown)


for shown, start in ((True, "/api"), (False, "")):
    _add(f"{start}/projects/{{project}}/builds", "POST", order_build, shown=shown)
    _add(f"{start}/projects/{{project}}/builds", "GET", list_tasks, shown=shown)
_add("/project/{project}/build", "POST", order_build, shown=False)
_add("/builds/{build}", "GET", get_task, shown=False)
_add("/api/tasks/{build}", "GET", get_task, shown=True)
_add("/api/create-and-build", "POST", create_and_build, shown=True)
_add("/project/create-and-build", "POST", create_and_build, shown=False)
