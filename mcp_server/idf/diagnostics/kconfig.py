"""Kconfig files, sdkconfig and sdkconfig.defaults, as kconfgen and menuconfig read them."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

RULES: tuple[Rule, ...] = (
    Rule(
        "kconfig",
        ("Kconfig",),
        r"^(?:(?:ERROR|Error|error|FATAL|kconfiglib\S*|esp_kconfiglib\S*|[\w.]*KconfigError|[\w.]*KconfigParseError): )*"
        r"(?P<file>[^\s:][^:]{0,300}Kconfig[^:\s]{0,60}):(?P<line>\d{1,6})(?::(?P<column>\d{1,4}))?: (?:error: )?(?P<message>(?!warning|note|info|Deprecation).*)$",
        "ERROR: /p/main/Kconfig.projbuild:10: error: couldn't parse 'depnds on A > 0': syntax error",
    ),
    Rule(
        "kconfig",
        ("sdkconfig",),
        r"^(?:(?:ERROR|Error|error|RuntimeError|kconfgen)[:,] )*(?P<file>\S{0,300}sdkconfig[^:\s]{0,60}):(?P<line>\d{1,6}): (?P<message>(?!warning).*)$",
        "sdkconfig.defaults:3: error: ignoring malformed line 'CONFIG_FOO y'",
    ),
    Rule(
        "kconfig",
        ("KconfigError", "Recursive", "Dependency loop", "recursive source"),
        r"^(?:ERROR: )?(?:[\w.]*KconfigError: )?(?P<message>.*(?:Recursive source|Dependency loop|recursive source|Recursive 'source').*)$",
        "kconfiglib.core.KconfigError: main/Kconfig.projbuild:3: recursive source of 'Kconfig' detected",
        follow=r"^(?:\.\.\.|\s+|\S+:\d+$|\(defined at|config |\(from )",
    ),
    Rule(
        "kconfig",
        ("Defaults file not found", "Syntax error in"),
        r"(?P<message>Defaults file not found: .*|Syntax error in \S*rename\S* \(line \d+\))$",
        "RuntimeError: Defaults file not found: /p/sdkconfig.defaults",
    ),
    Rule(
        "kconfig",
        ("curses", "terminal"),
        r"^(?P<message>.*(?:_curses\.error: .*|menuconfig failed to import the standard Python 'curses'|setupterm: could not find terminal|"
        r"Error opening terminal: .*|could not find terminal).*)$",
        "_curses.error: setupterm: could not find terminal",
        hint="menuconfig needs a terminal; set values in sdkconfig.defaults instead",
    ),
    Rule(
        "kconfig",
        ("kconfgen",),
        r"^(?P<message>.*kconfgen.*(?:not found|failed|returned).*)$",
        "kconfgen failed",
        rank=Rank.STATED,
    ),
)
WARNINGS = (r"^warning: (?:unknown kconfig symbol|user value|default|the |.* assigned)", r"Kconfig\S*:\d+: warning:")
