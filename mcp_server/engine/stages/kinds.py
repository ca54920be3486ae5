"""The table of stage kinds."""

from collections.abc import Mapping

from mcp_server.engine.stages.agent import AgentFix, AgentWork
from mcp_server.engine.stages.base import Asks, Direct, LooksBack, StageKind
from mcp_server.engine.stages.ci_wait import CiWait
from mcp_server.engine.stages.command import Command
from mcp_server.engine.stages.doctor import Doctor
from mcp_server.engine.stages.git_commit import GitCommit
from mcp_server.engine.stages.git_deliver import GitDeliver
from mcp_server.engine.stages.git_push import GitPush
from mcp_server.engine.stages.idf_boot import IdfBoot
from mcp_server.engine.stages.idf_build import IdfBuild
from mcp_server.engine.stages.idf_flash import IdfFlash
from mcp_server.engine.stages.idf_monitor import IdfMonitor
from mcp_server.engine.stages.idf_qemu import IdfQemu
from mcp_server.engine.stages.idf_remote import IdfRemote
from mcp_server.engine.stages.idf_run import IdfRun
from mcp_server.engine.stages.qa import Qa
from mcp_server.engine.stages.qa_remarks import QaRemarks
from mcp_server.engine.stages.setup import Setup
from mcp_server.engine.stages.template import Template

WITHOUT_SLOT = ("idf.monitor",)
"""Kinds that take no slot of their host: they wait nearly all of the time, and for days."""

SAYS_WHAT_IS_LEFT = ("idf.flash",)
"""Kinds whose verdict is worth having of a job that a cancel ended: it says in what state the board is."""

KINDS: Mapping[str, StageKind | Direct] = {
    "agent.fix": AgentFix(),
    "agent.work": AgentWork(),
    "ci.wait": CiWait(),
    "command": Command(),
    "doctor": Doctor(),
    "git.commit": GitCommit(),
    "git.deliver": GitDeliver(),
    "git.push": GitPush(),
    "idf.boot": IdfBoot(),
    "idf.build": IdfBuild(),
    "idf.flash": IdfFlash(),
    "idf.monitor": IdfMonitor(),
    "idf.qemu": IdfQemu(),
    "idf.remote": IdfRemote(),
    "idf.run": IdfRun(),
    "qa": Qa(),
    "qa.remarks": QaRemarks(),
    "setup": Setup(),
    "template": Template(),
}

# Which kind is what, found out once: asking each time takes a tenth of all that a short stage costs.
DIRECT = {name: kind for name, kind in KINDS.items() if isinstance(kind, Direct)}
WITH_JOB = {name: kind for name, kind in KINDS.items() if not isinstance(kind, Direct)}
ASKS = {name: kind for name, kind in KINDS.items() if isinstance(kind, Asks)}
LOOKS_BACK = {name: kind for name, kind in KINDS.items() if isinstance(kind, LooksBack)}
