"""The machine and the installation: disk, memory, rights, tools, Python environment, targets, idf.py's refusals."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

RULES: tuple[Rule, ...] = (
    Rule(
        "disk full",
        ("No space left on device", "Disk quota exceeded", "not enough space on the disk"),
        r"^(?P<message>.*(?:No space left on device|Disk quota exceeded|not enough space on the disk).*)$",
        "/usr/bin/ar: esp-idf/freertos/libfreertos.a: No space left on device",
        rank=Rank.ROOT,
    ),
    Rule(
        "read-only",
        ("Read-only file system",),
        r"^(?P<message>.*Read-only file system.*)$",
        "ninja: error: opening build log: Read-only file system",
        rank=Rank.ROOT,
    ),
    Rule(
        "memory",
        ("Cannot allocate memory", "Killed signal", "Out of memory", "memory exhausted", "MemoryError"),
        r"^(?P<message>.*(?:Cannot allocate memory|Killed signal|Out of memory|memory exhausted|MemoryError).*)$",
        "gcc: fatal error: Killed signal terminated program cc1",
        rank=Rank.ROOT,
    ),
    Rule("killed", ("Killed",), r"^(?P<message>(?:\S+: line \d+: *\d* )?Killed\b.*)$", "Killed", rank=Rank.ROOT),
    Rule(
        "crash",
        ("Segmentation fault", "Bus error", "core dumped", "Illegal instruction", "Aborted"),
        r"^(?P<message>.*(?:Segmentation fault|Bus error|core dumped|Illegal instruction|Aborted).*)$",
        "/bin/sh: line 1: 4211 Segmentation fault (core dumped) python gen.py",
    ),
    Rule(
        "permission",
        ("Permission denied", "Operation not permitted", "Access is denied"),
        r"^(?P<message>.*(?:Permission denied|Operation not permitted|Access is denied).*)$",
        "/bin/sh: 1: /p/tools/gen.sh: Permission denied",
    ),
    Rule(
        "tool",
        ("not found", "not recognized"),
        r"^(?P<message>(?:(?:/bin/|/usr/bin/)?(?:ba|da|z)?sh: (?:line )?(?:\d+: )?.*not found"
        r"|.*: command not found|env: .*No such file or directory"
        r"|'.*' is not recognized as an internal or external command.*|zsh: command not found: .*))$",
        "/bin/sh: 1: protoc: not found",
    ),
    Rule(
        "tool",
        ("bad interpreter", "cannot execute", "Exec format error", "No such file or directory"),
        r"^(?P<message>(?:(?:/\S*/)?(?:ba|da|z)?sh: .*|env: .*|/usr/bin/env: .*|.*bad interpreter.*"
        r"|.*cannot execute.*|.*Exec format error.*))$",
        "/usr/bin/env: 'python3\\r': No such file or directory",
    ),
    Rule(
        "system",
        (
            "Too many open files",
            "Argument list too long",
            "File name too long",
            "Input/output error",
            "Stale file handle",
            "Text file busy",
        ),
        r"^(?P<message>.*(?:Too many open files|Argument list too long|File name too long|Input/output error"
        r"|Stale file handle|Text file busy).*)$",
        "ninja: fatal: posix_spawn: Argument list too long",
        rank=Rank.ROOT,
    ),
    Rule(
        "ccache",
        ("ccache",),
        r"^(?P<message>ccache: (?:error|fatal).*|.*ccache error: .*)$",
        "ccache: error: Failed to create temporary file for /home/dev/.cache/ccache/tmp: No such file or directory",
    ),
    Rule(
        "environment",
        ("requirements are not satisfied",),
        r"^(?:ERROR: )?(?P<message>The following Python requirements are not satisfied.*)$",
        "The following Python requirements are not satisfied:",
        follow=r"^(?:[\w.-]+ ?[<>=!~]|Requirement |To install |'|\S+ - )",
    ),
    Rule(
        "environment",
        ("doesn't exist! Please run the install",),
        r"^(?:ERROR: )?(?P<message>.*doesn't exist! Please run the install script.*)$",
        "ERROR: /home/dev/.espressif/python_env/idf6.0_py3.12_env/bin/python doesn't exist! Please run the "
        'install script or "idf_tools.py install-python-env"',
    ),
    Rule(
        "environment",
        (
            "is currently active in the environment",
            "does not satisfy",
            "not satisfied",
            "requirements are not",
            "not installed",
            "not set",
            "IDF_PATH",
        ),
        r"^(?:ERROR: |Error: |error: )?(?P<message>.*(?:is currently active in the environment"
        r"|requirements are not satisfied|IDF_PATH .*(?:not set|variable|invalid|different)"
        r"|(?:module|tool|package)s? .*not installed|IDF_PATH not set|version .* does not satisfy).*)$",
        "'/usr/bin/python3' is currently active in the environment while the project was configured with "
        "'/x/python'. Run 'idf.py fullclean' to start again.",
    ),
    Rule(
        "environment",
        ("has no installed versions", "tool "),
        r"^(?:ERROR: )?(?P<message>tool \S+ has no installed versions.*"
        r"|.*tool \S+ version \S+ is not (?:installed|supported).*)$",
        "ERROR: tool xtensa-esp-elf has no installed versions. Please run '/opt/idf/install.sh' to install it.",
    ),
    Rule(
        "target",
        (
            "was generated for target",
            "is not consistent with",
            "not consistent",
            "in CMakeCache",
            "in preview",
            "IDF_TARGET",
        ),
        r"^(?:ERROR: |Error: )?(?P<message>.*(?:was generated for target|settings are not consistent"
        r"|is not consistent with|is still in preview|Target '\S+' in sdkconfig"
        r"|IDF_TARGET .*(?:not|does)).*)$",
        "Project sdkconfig '/p/sdkconfig' was generated for target 'esp32', but CMakeCache.txt contains 'esp32c3'.",
    ),
    Rule(
        "project",
        (
            "CMakeLists.txt not found",
            "project directory",
            "Project directory",
            "CMake build directory",
            "configured for",
            "must be a project",
        ),
        r"^(?P<message>.*(?:CMakeLists\.txt not found in project directory|must be a project directory"
        r"|Project directory .* does not exist|doesn't seem to be a CMake build directory"
        r"|is configured for generator|configured for project|build directory to the project directory).*)$",
        "CMakeLists.txt not found in project directory /p",
    ),
    Rule(
        "project",
        ("project_description.json",),
        r"^(?P<message>Cannot load \S+project_description\.json: .*)$",
        "Cannot load /p/build/project_description.json: [Errno 2] No such file or directory: "
        "'/p/build/project_description.json'",
        rank=Rank.STATED,
        hint="the project did not configure as an ESP-IDF project: CMakeLists.txt must include "
        "$IDF_PATH/tools/cmake/project.cmake and call project()",
    ),
    Rule(
        "usage",
        ("Error: ", "error: "),
        r"^(?:[\w.-]+: )?(?:Error|error): (?P<message>(?:Invalid value|No such option|No such command|Missing"
        r"|Got unexpected|Option|unrecognized arguments|argument |the following arguments|invalid choice|command ).*)$",
        "Error: No such option: --verbse Did you mean --verbose?",
    ),
    Rule(
        "usage",
        ("is not known to idf.py",),
        r"^(?P<message>command \".*\" is not known to idf\.py.*)$",
        'command "bulid" is not known to idf.py and is not a Ninja target',
    ),
    Rule(
        "interrupted",
        ("nterrupt", "Aborted!", "SIGINT", "SIGTERM"),
        r"(?P<message>(?:\w{1,20}: )?(?:\w{1,20} ){0,2}(?:\w{1,20}: )?[Ii]nterrupted(?: by user)?|^Aborted!"
        r"|[^.;]{0,80}SIG(?:INT|TERM)\b.{0,80}|^KeyboardInterrupt)\.?$",
        "ninja: build stopped: interrupted by user.",
    ),
)
