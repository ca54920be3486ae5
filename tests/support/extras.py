"""What only an extra brings, and where it is missing its tests are skipped."""

import importlib.util

import pytest


def need(module: str, extra: str = "agents") -> None:
    """Skip the file that says so where a module is not installed.

    Unlike pytest.importorskip it imports nothing: some take a second, in each of pytest's processes, whichever of them
    is given the file.
    """
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: the extra [{extra}] brings it", allow_module_level=True)
