"""Kinds of failures that the linux target cannot make: chips, ports, other systems and compilers, as they print."""

from dataclasses import dataclass

import pytest

from mcp_server.idf.diagnostics import Hints, diagnose, render


@dataclass
class Kind:
    name: str
    log: str
    facts: tuple[str, ...]
    exit_code: int | None = 2
    absent: tuple[str, ...] = ()


LD = (
    "/home/dev/.espressif/tools/xtensa-esp-elf/bin/../lib/gcc/xtensa-esp-elf/15.2.0/../../../../xtensa-esp-elf/bin/ld: "
)
END = """collect2: error: ld returned 1 exit status
ninja: build stopped: subcommand failed.
ninja failed with exit code 1, output of the command is in the /home/dev/p/build/log/idf_py_stderr_output_1 and x
"""
KINDS = [
    Kind(
        "iram-overflow",
        f"""FAILED: app.elf
: && xtensa-esp32-elf-g++ -o app.elf
{LD}app.elf section `.iram0.text' will not fit in region `iram0_0_seg'
{LD}IRAM0 segment data does not fit.
{LD}region `iram0_0_seg' overflowed by 2245 bytes
{END}""",
        ("'.iram0.text' will not fit in region 'iram0_0_seg'", "overflowed by 2245 bytes", "IRAM_ATTR"),
        absent=("exit code 1", "collect2"),
    ),
    Kind(
        "undefined-in-section",
        f"""{LD}esp-idf/main/libmain.a(main.c.obj):(.literal.app_main+0x4): undefined reference to `i2c_setup'
{LD}esp-idf/main/libmain.a(main.c.obj): in function `app_main':
/home/dev/p/main/main.c:31:(.text.app_main+0x1a): undefined reference to `i2c_setup'
{LD}/home/dev/p/main/main.c:35: more undefined references to `i2c_setup' follow
{END}""",
        ("undefined reference to 'i2c_setup'", "app_main", "main.c"),
    ),
    Kind(
        "dangerous-relocation",
        "F:/tools/bin/../lib/gcc/xtensa-esp32-elf/8.4.0/../../../../bin/ld.exe: F:/work/lamp/main/startup.c:363:"
        "(.text.start+0x3a): dangerous relocation: call8: call target out of range: esp_rom_printf\n"
        "collect2.exe: error: ld returned 1 exit status\n",
        ("main/startup.c:363", "call target out of range: esp_rom_printf"),
    ),
    Kind(
        "orphan-section",
        f"{LD}error: unplaced orphan section `.dram1.5' from `esp-idf/main/libmain.a(a.c.obj)'\n{END}",
        ("unplaced orphan section '.dram1.5'", "libmain.a(a.c.obj)"),
    ),
    Kind(
        "hidden-symbol",
        f"{LD}app.elf: hidden symbol `__dso_handle' isn't defined\n{LD}final link failed: bad value\n{END}",
        ("hidden symbol '__dso_handle' isn't defined",),
        absent=("final link failed",),
    ),
    Kind(
        "lld",
        """ld.lld: error: undefined symbol: lamp_on
>>> referenced by main.c:5 (/home/dev/p/main/main.c:5)
>>>               main.c.o:(app_main) in archive esp-idf/main/libmain.a
clang: error: linker command failed with exit code 1 (use -v to see invocation)
""",
        ("main.c:5", "undefined reference to 'lamp_on'"),
        absent=("linker command failed",),
    ),
    Kind(
        "clang-without-margin",
        """/home/dev/p/main/app_main.c:12:5: error: use of undeclared identifier 'foo'
    foo = 1;
    ^
1 error generated.
ninja: build stopped: subcommand failed.
""",
        ("main/app_main.c:12:5 error: use of undeclared identifier 'foo'", "12 | foo = 1;"),
        absent=("1 error generated",),
    ),
    Kind(
        "sarif",
        '{"$schema": "https://x/sarif-2.1.0.json", "version": "2.1.0", "runs": [{"results": [{"ruleId": "error",'
        ' "level": "error", "message": {"text": "\'x\' undeclared"}, "locations": [{"physicalLocation":'
        ' {"artifactLocation":'
        ' {"uri": "/home/dev/p/main/a.c"}, "region": {"startLine": 3, "startColumn": 5}}}]}]}]}\n',
        ("main/a.c:3:5 error: 'x' undeclared",),
    ),
    Kind(
        "error-in-idf-header-names-the-includer",
        """In file included from /home/dev/esp/esp-idf/components/esp_lcd/include/esp_lcd_types.h:9,
                 from /home/dev/p/main/display.c:4:
/home/dev/esp/esp-idf/components/esp_lcd/include/esp_lcd_io.h:33:5: error: unknown type name 'spi_host_device_t'
   33 |     spi_host_device_t host;
      |     ^~~~~~~~~~~~~~~~~
""",
        ("main/display.c:4", "unknown type name 'spi_host_device_t'", "esp_lcd_io.h:33"),
    ),
    Kind(
        "inlined-into-own-code",
        """In file included from /usr/include/string.h:535,
                 from /home/dev/p/main/cli.c:1:
In function 'memset',
    inlined from 'clear' at /home/dev/p/main/cli.c:8:86:
/usr/include/bits/string_fortified.h:59:10: error: '__builtin_memset' writing 40 bytes into a region of size 4
   59 |   return __builtin___memset_chk (__dest, __ch, __len,
      |          ^
cc1: all warnings being treated as errors
""",
        ("main/cli.c:8:86 error: '__builtin_memset' writing 40 bytes", "string_fortified.h:59"),
    ),
    Kind(
        "note-in-another-header",
        """/home/dev/p/main/app.c: In function 'app_main':
/home/dev/p/main/app.c:19:17: error: passing argument 1 of 'xTaskCreate' from incompatible pointer type
   19 |     xTaskCreate(cli_run, "x", 2048, NULL, 5, NULL);
      |                 ^~~~~~~
In file included from /home/dev/p/main/app.c:4:
/home/dev/esp-idf/components/freertos/task.h:371:40: note: expected 'TaskFunction_t' but argument is of type 'int'
  371 |     TaskFunction_t code,
/home/dev/p/main/app.c:21:1: error: expected ';' before '}' token
""",
        ("main/app.c:19:17", "expected 'TaskFunction_t' but argument is of type 'int'", "main/app.c:21:1 error"),
    ),
    Kind(
        "link-option",
        """FAILED: app.elf
: && /usr/bin/c++ -Wl,--nosuch-option -o app.elf
/usr/bin/ld: unrecognized option '--nosuch-option'
/usr/bin/ld: use the --help option for usage information
collect2: error: ld returned 1 exit status
ninja: build stopped: subcommand failed.
""",
        ("unrecognized option '--nosuch-option'",),
        absent=("--help", "without a message"),
    ),
    Kind(
        "own-error-before-that-of-a-header",
        """FAILED: esp-idf/main/CMakeFiles/__idf_main.dir/a.c.obj
/usr/bin/cc -c /home/dev/p/main/a.c
/home/dev/esp/esp-idf/components/log/include/esp_log.h:30:1: error: expected ';' before 'void'
/home/dev/p/main/a.c:7:1: error: expected identifier before '{' token
""",
        ("main/a.c:7:1 error: expected identifier before '{' token\nIDF/components/log/include/esp_log.h:30:1",),
    ),
    Kind(
        "assembler",
        """/home/dev/p/main/fast.S: Assembler messages:
/home/dev/p/main/fast.S:12: Error: unknown opcode or format name 'movv'
""",
        ("main/fast.S:12 error: unknown opcode or format name 'movv'",),
    ),
    Kind(
        "ldgen",
        """FAILED: esp-idf/esp_system/ld/sections.ld /home/dev/p/build/esp-idf/esp_system/ld/sections.ld
cd /home/dev/p/build/esp-idf/esp_system && python /home/dev/esp/esp-idf/tools/ldgen/ldgen.py
linker script generation failed for /home/dev/p/build/esp-idf/esp_system/ld/sections.ld.in
ERROR: failed to parse /home/dev/p/main/linker.lf
fragment requires at least 1 values for key 'entries' (at char 44), (line:3, col:1)
ninja: build stopped: subcommand failed.
""",
        ("main/linker.lf", "at least 1 values for key 'entries'", "line:3"),
    ),
    Kind(
        "component-manager-after-dots",
        """Dependencies lock doesn't exist, solving dependencies.
..............CMake Error at C:/Espressif/frameworks/esp-idf-v5.1/tools/cmake/build.cmake:540 (message):
  ERROR: Because led_bar (1.0.0) depends on espressif/mdns (*) which doesn't match any
  versions, led_bar is forbidden.

Call Stack (most recent call first):
  C:/Espressif/frameworks/esp-idf-v5.1/tools/cmake/project.cmake:604 (idf_build_process)
  CMakeLists.txt:7 (project)

....-- Configuring incomplete, errors occurred!
cmake failed with exit code 1
""",
        ("led_bar (1.0.0) depends on espressif/mdns (*)", "is forbidden"),
        absent=("build.cmake", "exit code 1"),
    ),
    Kind(
        "submodules-missing",
        """CMake Warning at /home/dev/esp/esp-idf/tools/cmake/git_submodules.cmake:52 (message):
  Git submodule components/mbedtls/mbedtls is out of date.  Run 'git
  submodule update --init --recursive' to fix.
Call Stack (most recent call first):
  CMakeLists.txt:5 (include)

CMake Error at ../../../tools/cmake/component.cmake:305 (message):
  Include directory
  '/home/dev/esp/esp-idf/components/mbedtls/mbedtls/include' is not a
  directory.
Call Stack (most recent call first):
  ../../../components/mbedtls/CMakeLists.txt:4 (idf_component_register)

-- Configuring incomplete, errors occurred!
""",
        ("components/mbedtls/mbedtls/include' is not a directory", "git submodule update --init --recursive"),
    ),
    Kind(
        "toolchain-version",
        """CMake Error at /opt/idf/tools/cmake/tool_version_check.cmake:36 (message):

  Tool doesn't match supported version from list ['esp-15.2.0_20251204']:
  /home/dev/.espressif/tools/xtensa-esp-elf/esp-14.2.0_20241119/bin/xtensa-esp32-elf-gcc

Call Stack (most recent call first):
  /opt/idf/components/esp_common/project_include.cmake:12 (check_expected_tool_version)

-- Configuring incomplete, errors occurred!
""",
        ("Tool doesn't match supported version", "esp-15.2.0_20251204", "esp-14.2.0_20241119"),
    ),
    Kind(
        "python-requirements",
        """The following Python requirements are not satisfied:
pyparsing>=2.0.3,<2.4.0
gdbgui>=0.13.2.0
To install the missing packages, please run "/home/dev/esp/esp-idf/install.sh"
""",
        ("Python requirements are not satisfied", "gdbgui>=0.13.2.0", "install.sh"),
        1,
    ),
    Kind(
        "port-forbidden",
        """esptool v5.6.0
Serial port /dev/ttyUSB0:

A fatal error occurred: Could not open /dev/ttyUSB0, the port is busy or doesn't exist.
([Errno 13] could not open port /dev/ttyUSB0: [Errno 13] Permission denied: '/dev/ttyUSB0')

Hint: Try to add user into dialout or uucp group.
""",
        ("Could not open /dev/ttyUSB0", "Permission denied", "dialout"),
    ),
    Kind(
        "wrong-chip",
        """Connecting....
A fatal error occurred: This chip is ESP32-S3, not ESP32-C3. Wrong chip argument?
CMake Error at /home/dev/esp/esp-idf/components/esptool_py/run_serial_tool.cmake:67 (message):
  /home/dev/.espressif/python_env/bin/python;-m;esptool;--chip;esp32c3 failed.

FAILED: CMakeFiles/flash
cd /home/dev/p && cmake -P run_serial_tool.cmake
ninja: build stopped: subcommand failed.
""",
        ("This chip is ESP32-S3, not ESP32-C3",),
        absent=("run_serial_tool",),
    ),
    Kind(
        "image-does-not-fit-the-flash",
        "A fatal error occurred: File 'app.bin' (length 2097152) at offset 65536 will not fit in 2097152 bytes of "
        "flash. Change the --flash-size argument, or flashing address.\n",
        ("app.bin", "length 2097152", "will not fit in 2097152 bytes of flash"),
    ),
    Kind(
        "kconfig-raised",
        """Traceback (most recent call last):
  File "/home/dev/.espressif/python_env/lib/python3.11/site-packages/kconfiglib/core.py", line 33, in <module>
    main()
kconfiglib.core.KconfigError: /p/main/Kconfig.projbuild:138: error: couldn't parse 'endmenu': no corresponding 'menu'
""",
        ("main/Kconfig.projbuild:138 error: couldn't parse 'endmenu': no corresponding 'menu'",),
    ),
    Kind(
        "windows-command-line",
        "ninja: fatal: CreateProcess: The parameter is incorrect.\n (is the command line too long?)\n",
        ("CreateProcess: The parameter is incorrect", "is the command line too long?"),
        1,
    ),
    Kind(
        "read-only",
        "ninja: error: opening build log: Read-only file system\n",
        ("opening build log: Read-only file system",),
        1,
    ),
    Kind(
        "no-idf",
        "bash: idf.py: command not found\n",
        ("idf.py: command not found",),
        127,
    ),
    Kind(
        "rich-box",
        """Usage: esptool [OPTIONS] COMMAND [ARGS]...

╭─ Error ────────────────────────────────────────────────────╮
│ No such command 'write-flsh'. Did you mean 'write-flash'?  │
╰────────────────────────────────────────────────────────────╯
""",
        ("No such command 'write-flsh'",),
    ),
    Kind(
        "interrupted",
        "[3/9] Building C object a.c.obj\nninja: build stopped: interrupted by user.\n",
        ("interrupted by user",),
        130,
    ),
    Kind(
        "unknown-tool-in-a-step",
        """[1/2] Generating table
FAILED: table.h /home/dev/p/build/table.h
cd /home/dev/p/build && /home/dev/bin/tablegen /home/dev/p/pins.toml
reading /home/dev/p/pins.toml
pin 12 has two owners
ninja: build stopped: subcommand failed.
ninja failed with exit code 1
""",
        ("pin 12 has two owners", "tablegen"),
        absent=("build stopped", "exit code"),
    ),
    Kind(
        "a-step-that-says-nothing",
        """[1/2] Generating table
FAILED: [code=7] table.h
cd /home/dev/p/build && /home/dev/bin/tablegen --quiet
ninja: build stopped: subcommand failed.
""",
        ("table.h", "exit code 7", "tablegen --quiet"),
    ),
    Kind("only-last-words", "loading pins\nthe board file is for rev B\n", ("the board file is for rev B",), 3),
    Kind("nothing", "", ("exit code 9",), 9),
    Kind(
        "github-times",
        """2026-06-17T12:00:00.1234567Z FAILED: esp-idf/main/CMakeFiles/__idf_main.dir/a.c.obj
2026-06-17T12:00:00.1234567Z /opt/tools/gcc -c /__w/x/x/main/a.c
2026-06-17T12:00:00.1234567Z /__w/x/x/main/a.c:3:5: error: 'x' undeclared (first use in this function)
2026-06-17T12:00:00.1234567Z     3 |     x = 1;
2026-06-17T12:00:00.1234567Z ##[error]Process completed with exit code 2.
""",
        ("main/a.c:3:5 error: 'x' undeclared", "3 | x = 1;"),
        None,
        absent=("##", "2026"),
    ),
    Kind(
        "jenkins-times",
        """[2026-06-17T12:00:00.123Z] /w/x/main/a.c:3:5: error: 'x' undeclared (first use in this function)
[2026-06-17T12:00:00.124Z]     3 |     x = 1;
[2026-06-17T12:00:00.125Z] ninja: build stopped: subcommand failed.
""",
        ("main/a.c:3:5 error: 'x' undeclared", "3 | x = 1;"),
        None,
    ),
    Kind(
        "make",
        """[ 46%] Building C object esp-idf/main/CMakeFiles/__idf_main.dir/a.c.obj
/home/dev/p/main/a.c:3:5: error: 'x' undeclared (first use in this function)
    3 |     x = 1;
      |     ^
make[2]: *** [esp-idf/main/CMakeFiles/__idf_main.dir/build.make:76: a.c.obj] Error 1
make[1]: *** [CMakeFiles/Makefile2:4490: esp-idf/main/CMakeFiles/__idf_main.dir/all] Error 2
make: *** [Makefile:136: all] Error 2
make failed with exit code 2
""",
        ("main/a.c:3:5 error: 'x' undeclared",),
        absent=("***", "exit code"),
    ),
    Kind(
        "quoted-mail",
        "> main/a.c:3:5: error: 'x' undeclared\n>     3 |     x = 1;\n> ninja: build stopped: subcommand failed.\n",
        ("main/a.c:3:5 error: 'x' undeclared", "3 | x = 1;"),
        None,
    ),
    Kind(
        "utf-16",
        "main/a.c:3:5: error: 'x' undeclared\r\n".encode("utf-16").decode("latin-1"),
        ("main/a.c:3:5 error: 'x'",),
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_of_failure_is_told_with_its_facts(kind: Kind) -> None:
    """Ours: what must be in the report, and what would only take its place."""
    log = kind.log.encode("latin-1") if kind.name == "utf-16" else kind.log.encode()
    report = render(diagnose(log, kind.exit_code, hints=Hints()), 560)

    assert [fact for fact in kind.facts if fact not in report] == [], report
    assert [word for word in kind.absent if word in report] == [], report
