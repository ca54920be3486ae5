"""What a program of ours leaves undone until it has loaded its modules: the search for garbage."""

import gc


def all_is_loaded() -> None:
    """Collect garbage from here on; what is loaded stays, so it is left out of every later search.

    For a program that `mcp_server.__main__` started, which turned collection off. In any other process, such as that of
    tests, nothing happens.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def calm_collector() -> None:
    """Look for garbage less often, and not among what is loaded: that stopped all builds or answers for 50 ms."""
    gc.freeze()
    gc.set_threshold(10_000)
