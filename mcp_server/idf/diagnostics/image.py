"""Partition tables, image sizes, linker fragments: what is checked around the link."""

from mcp_server.idf.diagnostics.finding import Rank, Rule

_TEXT = r"^(?!ninja|g?make|\[|CMake|HINT|FAILED|Traceback)\S"
RULES: tuple[Rule, ...] = (
    Rule(
        "image",
        ("too small for binary", "too large for partition", "too large", "is too big"),
        r"^(?!Warning: )(?:Error: |ERROR: |error: )?(?P<message>(?:\w+ partition is too small for binary"
        r"|.*too small for binary|.*[Bb]inary size \S+ bytes is too large|.*is too (?:large|big) for).*)$",
        "Error: app partition is too small for binary hello_world.bin size 0x1ebc0:",
        follow=r"^\s+- ",
        hint="",
    ),
    Rule(
        "partition",
        ("CSV Error", "Error at line", "CSV line", "parsing CSV"),
        r"^(?:[\w.]+: )?(?P<message>(?:CSV Error at line|Error at line|Unexpected error parsing CSV line) ?\d+: .*)$",
        "CSV Error at line 6: Partitions overlap. Partition sets offset 0x123000. Previous partition ends 0x124000",
    ),
    Rule(
        "partition",
        ("artition",),
        r"^(?:Error: |[\w.]+Error: )?(?P<message>(?:Partition names must be unique"
        r"|Found multiple (?:TEE )?otadata|.*otadata partition must have size|"
        r"Partition tables? (?:occupies|.* missing)|Partitions tables occupies|Partition \S+ invalid"
        r"|.*is below 0x|Partition at 0x\S+ overlaps|.*MD5 checksums don't match).*)$",
        "Partitions tables occupies 3.1MB of flash (3211264 bytes) which does not fit in configured flash size 2MB.",
    ),
    Rule(
        "partition",
        (
            "is not aligned to",
            "is always read-write",
            "must be flagged as 'readonly'",
            "Type field is not",
            "field is not set",
        ),
        r"^(?:[\w.]+: )?(?P<message>.*(?:is not aligned to|always read-write|must be flagged as|field is not set).*)$",
        "ValidationError: Offset 0x11000 is not aligned to 0x10000",
    ),
    Rule(
        "partition",
        ("not fit in", "won't fit", "will not fit"),
        r"^(?:Error: |ERROR: |A fatal error occurred: )*(?P<message>.*(?:does not fit in|won't fit"
        r"|will not fit) .*(?:flash|partition|image|bytes).*)$",
        "A fatal error occurred: File 'app.bin' (length 2097152) at offset 65536 will not fit in 2097152 bytes "
        "of flash.",
    ),
    Rule(
        "linker fragment",
        ("linker script generation failed",),
        r"^(?P<message>linker script generation failed for .*)$",
        "linker script generation failed for /p/build/esp-idf/esp_system/ld/sections.ld.in",
        rank=Rank.RESULT,
    ),
    Rule(
        "linker fragment",
        ("failed to parse", ".lf"),
        r"^(?:ERROR: )?(?P<message>failed to parse (?P<file>\S+\.lf)\b.*)$",
        "ERROR: failed to parse /p/main/linker.lf",
        follow=_TEXT,
    ),
    Rule(
        "linker fragment",
        ("mapped to multiple", "Conflicting flags", "undefined"),
        r"^(?:ERROR: )?(?P<message>.*(?:Sections mapped to multiple targets|Conflicting flags specified"
        r"|Class definition not found).*)$",
        "ERROR: Sections mapped to multiple targets.",
        follow=_TEXT,
    ),
    Rule(
        "image",
        (
            "Segment loaded",
            "segment loaded",
            "elf2image",
            "cannot be larger",
            "Invalid image",
            "Invalid segment",
            "maximum",
        ),
        r"^(?:A fatal error occurred: |Error: |ERROR: )+(?P<message>.*(?:[Ss]egment|image|ELF|maximum).*)$",
        "A fatal error occurred: Segment loaded at 0x3ffb0000 lands in same 64KB flash mapping as segment loaded "
        "at 0x3ffc0000.",
    ),
)
