"""The seeded mistakes of the benchmark: every one can be planted and mended, and some are, through the whole loop."""

from pathlib import Path

import pytest

from benchmarks.fix_rate import mend
from benchmarks.mistakes import MISTAKES
from mcp_server.agents import patch
from mcp_server.orchestrator import Orchestrator

SOME = ("component not required", "wrong comparison")


def test_every_mistake_is_undone_by_its_diff(tmp_path: Path) -> None:
    """Ours. Twenty of different kinds; none is another's."""
    assert len({mistake.name for mistake in MISTAKES}) == 20
    for number, mistake in enumerate(MISTAKES):
        project, diff = mistake.plant(tmp_path / str(number))
        patch.apply(diff.encode(), project)
        assert mistake.right in (project / mistake.file).read_text()


@pytest.mark.worker_inside
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SOME)
async def test_a_mistake_is_mended_by_its_diff(orchestrator: Orchestrator, tmp_path: Path, name: str) -> None:
    """Issue. One that does not compile, one that fails its test; all twenty: python -m benchmarks.fix_rate."""
    (mistake,) = [one for one in MISTAKES if one.name == name]
    one = await mend(orchestrator, mistake, tmp_path, None, 3, 50)

    assert (one.broken, one.mended, one.rounds) == (True, True, 2)
