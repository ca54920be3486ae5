"""config.yaml as it is now: processes that live long take over a change of it.

May import: config, errors. Never: anything else of ours.
"""

from collections.abc import Mapping

from mcp_server.config import Config, load_config


class ConfigFile:
    """Looks whether config.yaml changed since the last look; the first one always reads it. Blocks for a small file.

    Always that of the home it was begun with, whichever the environment names.
    """

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        self._file, self._environment = config.file, {**environment, "BUILD_ORCHESTRATOR_HOME": str(config.home)}
        self._seen: tuple[int, int] | bool | None = False

    def changed(self) -> Config | None:
        """The new configuration, None where nothing changed. ConfigError: mistakes in it, told once a change."""
        try:
            found = self._file.stat()
            state = (found.st_mtime_ns, found.st_size)
        except OSError:
            state = None
        if state == self._seen:
            return None
        self._seen = state
        return load_config(self._environment)
