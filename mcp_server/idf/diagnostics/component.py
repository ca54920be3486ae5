"""Components: idf_component_register, their requirements, idf_component.yml and the component manager."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

_STOP = r"^(?!CMake |-- |ninja|HINT|NOTE|WARNING|ERROR|\[|\S+ failed with|Executing|Running|See also)"
RULES: tuple[Rule, ...] = (
    Rule(
        "component",
        ("Invalid field",),
        r"^(?:ERROR: |error: )?(?P<message>Invalid field \".*)$",
        'Invalid field "version": Invalid version string: "one.two"',
    ),
    Rule(
        "component",
        ("Invalid manifest format", "Cannot parse", "valid YAML", "Manifest file"),
        r"^(?:ERROR: |error: )?(?P<message>(?:Invalid manifest format|Cannot parse|Manifest file|Your manifest).*)$",
        "ERROR: Invalid manifest format. Please check if the file is in valid YAML format",
        follow=_STOP + r".*\S",
    ),
    Rule(
        "component",
        ("hash", "corrupted", "checksum", "CHECKSUMS"),
        r"^(?:ERROR: |error: )?(?P<message>.*(?:[Hh]ash (?:sum )?of (?:the )?(?:component|file)"
        r"|does not match expected hash|is corrupted|checksum).*)$",
        'ERROR: Hash of the component in "/p/managed_components/espressif__led_strip" does not match expected '
        'hash "abc"',
    ),
    Rule(
        "component",
        ("override_path", "is not a component", "does not point to a directory"),
        r"^(?:ERROR: |error: )?(?P<message>.*(?:override_path|that is not a component"
        r"|does not point to a directory).*)$",
        'ERROR: The override_path you\'re using is pointing to directory "/p/x" that is not a component.',
    ),
    Rule(
        "component",
        ("'git ", "git repository"),
        r"^(?:ERROR: |error: )?(?P<message>'git .* failed with exit code.*|(?!fatal: ).*of the git repository.*)$",
        "ERROR: 'git clone https://lamps.example/a.git' failed with exit code 128",
    ),
    Rule(
        "component",
        ("solving failed", "Cannot establish a connection", "Solver failed"),
        r"^(?:ERROR: |error: )?(?P<message>(?:Version solving failed|Cannot establish a connection to"
        r"|Solver failed).*)$",
        "ERROR: Version solving failed:",
        follow=_STOP + r".*\S",
    ),
    Rule(
        "component",
        ("submodule",),
        r"^(?P<message>.*(?:Git submodule .* is out of date|submodule init failed|No submodule mapping"
        r"|not initiali[sz]ed|Submodule .* could not be).*)$",
        "Git submodule init failed for components/mbedtls/mbedtls",
        hint="run git submodule update --init --recursive in ESP-IDF",
    ),
    Rule(
        "component",
        ("IDF_COMPONENT_MANAGER", "component manager"),
        r"^(?:ERROR: |error: )(?P<message>.*(?:IDF_COMPONENT_MANAGER|component manager).*)$",
        "ERROR: component manager is not installed",
        rank=Rank.STATED,
    ),
)
