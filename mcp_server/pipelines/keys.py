"""Keys of a stage that say nothing of what it `uses`: a mistake, as whoever wrote them expects something of them."""

from collections.abc import Iterator

from mcp_server.pipelines.stage import FIX, HERE_ONLY, StageEntry

_OF_JOBS = ("workdir", "env", "secrets", "sync", "artifacts", "needs_artifacts")
_OF_GRAPH = ("depends_on", "matrix", "retry", "allow_failure", "concurrency")


def misplaced(entry: StageEntry) -> Iterator[tuple[str, str]]:
    """Each key that is wrong beside the entry's `uses`, and the sentence that says why."""
    if entry.uses not in HERE_ONLY:
        return
    given = entry.model_fields_set
    if "server" in given and entry.server != ("local",):
        yield "server", f"server: {entry.uses} runs on this machine only; leave server out"
    for key in _OF_JOBS:
        if key in given:
            yield key, f"{key} says nothing to {entry.uses}; leave it out"
    if entry.uses == FIX:
        for key in _OF_GRAPH:
            if key in given:
                yield key, f"{key} says nothing to {FIX}, which comes between two rounds of all stages; leave it out"
    if entry.uses == "qa" and "depends_on" not in given:
        yield "uses", "qa judges what it comes after; name that in depends_on"
