"""Twenty seeded mistakes of different kinds in the demo's firmware, and the diff that mends each."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from mcp_server.agents import patch
from mcp_server.demo.place import fix_patch, lay_out

THERMOSTAT, MAIN, CMAKE = "main/thermostat.c", "main/app_main.c", "main/CMakeLists.txt"
VALVE = "components/valve/valve.c"


@dataclass(frozen=True, slots=True)
class Mistake:
    """`right` becomes `wrong` in `file`, once."""

    name: str
    file: str
    right: str
    wrong: str

    def plant(self, folder: Path) -> tuple[Path, str]:
        """The firmware with this mistake and no other, laid out at `folder`, and the diff that mends it."""
        project = lay_out(folder)
        patch.apply(fix_patch().encode(), project)
        path = project / self.file
        healthy = path.read_text()
        assert self.right in healthy, self
        broken = healthy.replace(self.right, self.wrong, 1)
        path.write_text(broken)
        names = (f"a/{self.file}", f"b/{self.file}")
        lines = difflib.unified_diff(broken.splitlines(True), healthy.splitlines(True), *names)
        return project, "".join(lines)


MISTAKES = (
    Mistake("misspelled function", THERMOSTAT, "valve_open();", "valve_opne();"),
    Mistake("missing semicolon", THERMOSTAT, "valve_close();", "valve_close()"),
    Mistake("undeclared variable", THERMOSTAT, "step(int temperature)", "step(int tenths)"),
    Mistake("missing include", THERMOSTAT, '#include "valve.h"\n', ""),
    Mistake("header that is not there", MAIN, '"thermostat.h"', '"thermostats.h"'),
    Mistake("undefined macro", THERMOSTAT, "THERMOSTAT_CLOSE_BELOW", "THERMOSTAT_SHUT_BELOW"),
    Mistake("unknown type", VALVE, "static bool s_open", "static boole s_open"),
    Mistake("too few arguments", VALVE, "set_open(true);", "set_open();"),
    Mistake("conflicting types", VALVE, "bool valve_is_open(void)", "int valve_is_open(void)"),
    Mistake("missing brace", VALVE, "        return;\n    }\n", "        return;\n"),
    Mistake("missing #endif", VALVE, "#define HAVE_PIN 0\n#endif\n", "#define HAVE_PIN 0\n"),
    Mistake("open string", VALVE, '*TAG = "valve";', '*TAG = "valve;'),
    Mistake("component not required", CMAKE, "valve log", "log"),
    Mistake("source not listed", CMAKE, '"app_main.c" "thermostat.c"', '"app_main.c"'),
    Mistake("source that is not there", CMAKE, '"thermostat.c"', '"termostat.c"'),
    Mistake("open bracket in CMake", "CMakeLists.txt", "project(greenhouse)", "project(greenhouse"),
    Mistake("wrong comparison", THERMOSTAT, "temperature > THERM", "temperature < THERM"),
    Mistake("wrong limit", "main/thermostat.h", "OPEN_ABOVE 280", "OPEN_ABOVE 300"),
    Mistake("failed check at start", VALVE, "return ESP_OK;", "return ESP_FAIL;"),
    Mistake("null pointer", VALVE, "    s_open = true;\n", "    *(volatile int *)0 = 1;\n"),
)
