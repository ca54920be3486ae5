"""make's own mistakes, configure scripts, and the network as ssh, curl and package managers name it."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

RULES: tuple[Rule, ...] = (
    Rule(
        "make",
        ("*** missing separator", "*** commands commence", "*** recipe commences", "*** unterminated", "*** target"),
        r"^(?P<file>[^\s:][^:]{0,300}):(?P<line>\d{1,6}): \*\*\* (?P<message>.*)$",
        "Makefile:2: *** missing separator.  Stop.",
    ),
    Rule(
        "tool",
        ("make: ", "make["),
        r"^g?make(?:\[\d+\])?: (?P<message>[^\s*:][^:*]{0,300}: (?:No such file or directory|[Cc]ommand not found))$",
        "make[1]: protoc: No such file or directory",
        message="{message}",
    ),
    Rule(
        "configure",
        ("configure: error",),
        r"^configure: error: (?P<message>.*)$",
        "configure: error: the lamp library is needed: install liblamp-dev",
    ),
    Rule(
        "network",
        (
            "ould not resolve",
            "emporary failure in name resolution",
            "Connection refused",
            "Connection timed out",
            "Connection reset",
            "etwork is unreachable",
            "No route to host",
            "ouldn't connect to server",
        ),
        r"^(?P<message>(?:ssh: |curl: |wget: |rsync: |E: |ERROR: |fatal: |\S+@\S+: ).{0,400}(?:ould not resolve"
        r"|emporary failure in name resolution|Connection (?:refused|timed out|reset)|etwork is unreachable"
        r"|No route to host|ouldn't connect to server).*)$",
        "curl: (7) Failed to connect to 192.168.7.20 port 80 after 0 ms: Couldn't connect to server",
        rank=Rank.ERROR,
    ),
)
