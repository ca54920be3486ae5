"""esptool, espefuse and the monitor: ports and chips."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

RULES: tuple[Rule, ...] = (
    Rule(
        "flash",
        ("fatal error occurred",),
        r"A fatal error occurred: (?P<message>.*)$",
        "ERROR: A fatal error occurred: Failed to connect to ESP32-C3: No serial data received.",
        follow=r"^\(.*\)$",
    ),
    Rule(
        "flash",
        ("could not open port", "Could not open"),
        r"(?P<message>(?:could not open port|Could not open) .*)$",
        "serial.serialutil.SerialException: [Errno 2] could not open port /dev/ttyUSB0: [Errno 2] No such file "
        "or directory: '/dev/ttyUSB0'",
    ),
    Rule(
        "flash",
        (
            "No serial ports found",
            "no serial ports",
            "Could not connect to",
            "Failed to connect to",
            "detection of the serial port",
        ),
        r"^(?!curl: |wget: )(?:ERROR: |Error: )?(?P<message>.*(?:[Nn]o serial ports? found|Could not connect to"
        r"|Failed to connect to|detection of the serial port).*)$",
        "No serial ports found. Connect a device, or use '-p PORT' option to set a specific port.",
    ),
    Rule(
        "flash",
        ("Connection to",),
        r"^(?:--- )?(?:ERROR: |Error: )?(?P<message>Connection to \S+ failed.*)$",
        "--- ERROR: Connection to /dev/pts/0 failed. Available ports:",
        rank=Rank.RESULT,
    ),
    Rule(
        "flash",
        (
            "Inappropriate ioctl",
            "Resource temporarily",
            "device reports readiness",
            "multiple access on port",
            "exclusively lock port",
        ),
        r"^(?:[\w.]+: )?(?P<message>.*(?:Inappropriate ioctl for device|device reports readiness to read"
        r"|multiple access on port|exclusively lock port).*)$",
        "[Errno 25] Inappropriate ioctl for device",
    ),
    Rule(
        "flash",
        ("This chip is", "wrong --chip", "Wrong --chip", "chip type"),
        r"(?P<message>(?:This chip is|.*[Ww]rong --chip|Unexpected chip|Chip type).*)$",
        "This chip is ESP32-S3, not ESP32-C3. Wrong chip argument?",
    ),
    Rule(
        "monitor",
        (
            "Monitor requires standard input",
            "monitor",
        ),
        r"^(?:Error: )?(?P<message>.*Monitor requires standard input to be attached to TTY.*)$",
        "Error: Monitor requires standard input to be attached to TTY. Try using a different terminal.",
    ),
)
