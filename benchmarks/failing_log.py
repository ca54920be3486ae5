"""A failing ESP-IDF build log as large ones are: 2,000 lines, 36 warnings, one compiler command, two errors.

python -m benchmarks.failing_log > failing.log
"""

import sys

PROJECT = "/home/dev/projects/thermostat"
IDF = "/home/dev/esp/esp-idf"
TOOLCHAIN = "/home/dev/.espressif/tools/riscv32-esp-elf/esp-15.2.0_20251204/riscv32-esp-elf/bin/riscv32-esp-elf-gcc"
STEPS = 1043
LINES = 2000
WARNINGS = 36
COMMAND_BYTES = 3600
COMPONENTS = [
    "app_update",
    "bootloader_support",
    "bt",
    "console",
    "driver",
    "efuse",
    "esp_adc",
    "esp_app_format",
    "esp_driver_gpio",
    "esp_driver_i2c",
    "esp_driver_spi",
    "esp_event",
    "esp_http_client",
    "esp_http_server",
    "esp_netif",
    "esp_partition",
    "esp_pm",
    "esp_psram",
    "esp_ringbuf",
    "esp_rom",
    "esp_system",
    "esp_timer",
    "esp_wifi",
    "fatfs",
    "freertos",
    "hal",
    "heap",
    "http_parser",
    "json",
    "log",
    "lwip",
    "mbedtls",
    "mqtt",
    "newlib",
    "nvs_flash",
    "protocomm",
    "pthread",
    "sdmmc",
    "soc",
    "spi_flash",
    "vfs",
    "wear_levelling",
    "wpa_supplicant",
]
ERRORS = (
    (
        "main/app_main.c",
        41,
        5,
        "implicit declaration of function 'gpio_set_levl'; did you mean 'gpio_set_level'?",
        "    gpio_set_levl(LED, 1);",
    ),
    ("main/app_main.c", 57, 12, "'LED_PIN' undeclared (first use in this function)", "    return LED_PIN;"),
)


def failing_log() -> bytes:
    """The log, always the same bytes."""
    head = _configure()
    tail = _failure()
    warnings = _warnings()
    steps = LINES - len(head) - len(tail) - sum(len(warning) for warning in warnings)
    lines = list(head)
    for number in range(steps):
        lines.append(_step(number + 1))
        if number % (steps // WARNINGS) == 0 and warnings:
            lines += warnings.pop(0)
    return "\n".join([*lines, *tail, ""]).encode()


def _configure() -> list[str]:
    lines = [
        "Executing action: all (aliases: build)",
        f"Running cmake in directory {PROJECT}/build",
        f'Executing "cmake -G Ninja -DESP_PLATFORM=1 -DIDF_TARGET=esp32c3 -DCCACHE_ENABLE=0 {PROJECT}"...',
        "fatal: not a git repository (or any of the parent directories): .git",
        "-- Building ESP-IDF components for target esp32c3",
        f"-- Project sdkconfig file {PROJECT}/sdkconfig",
    ]
    lines += [f"-- Adding linker script {IDF}/components/{name}/ld/esp32c3/{name}.sections.ld" for name in COMPONENTS]
    lines += ["-- Configuring done", "-- Generating done", f"-- Build files have been written to: {PROJECT}/build"]
    return [*lines, f"Running ninja in directory {PROJECT}/build", 'Executing "ninja all"...']


def _step(number: int) -> str:
    component = COMPONENTS[number % len(COMPONENTS)]
    name = f"{('core', 'port', 'hal', 'table', 'task')[number % 5]}_{number}"
    done = min(1 + number * STEPS // LINES, STEPS)
    return f"[{done}/{STEPS}] Building C object esp-idf/{component}/CMakeFiles/__idf_{component}.dir/src/{name}.c.obj"


def _warnings() -> list[list[str]]:
    blocks: list[list[str]] = []
    for number in range(WARNINGS):
        component = COMPONENTS[number * 7 % len(COMPONENTS)]
        path, line = f"{IDF}/components/{component}/{component}_core_{number}.c", 100 + number * 3
        blocks.append(
            [
                f"{path}: In function '{component}_init_{number}':",
                f"{path}:{line}:9: warning: unused variable 'error_{number}' [-Wunused-variable]",
                f"  {line} |     int error_{number} = ESP_FAIL;",
                "      |         ^~~~~~~~",
            ]
        )
    return blocks


def _failure() -> list[str]:
    target = "esp-idf/main/CMakeFiles/__idf_main.dir/app_main.c.obj"
    lines = [f"[612/{STEPS}] Building C object {target}", f"FAILED: {target} ", _command(target)]
    lines.append(f"{PROJECT}/main/app_main.c: In function 'app_main':")
    for file, line, column, message, source in ERRORS:
        flag = " [-Wimplicit-function-declaration]" if "implicit" in message else ""
        lines.append(f"{PROJECT}/{file}:{line}:{column}: error: {message}{flag}")
        lines.append(f"   {line} | {source}")
        lines.append("      | " + " " * (column - 1) + "^~~~~~~~~~~~~")
    log = f"{PROJECT}/build/log/idf_py_stdout_output_4711"
    return [
        *lines,
        "ninja: build stopped: subcommand failed.",
        f"ninja failed with exit code 1, output of the command is in the {log.replace('stdout', 'stderr')} and {log}",
    ]


def _command(target: str) -> str:
    flags = '-DESP_PLATFORM -DIDF_VER=\\"v6.0.2\\" -DMBEDTLS_ERROR_C -Wall -Werror=all -Wno-error=unused-function'
    start = f"{TOOLCHAIN} {flags} "
    end = f" -o {target} -c {PROJECT}/main/app_main.c"
    includes = " ".join(f"-I{IDF}/components/{name}/include" for name in [*COMPONENTS, *COMPONENTS])
    return start + includes[: COMMAND_BYTES - len(start) - len(end)] + end


if __name__ == "__main__":
    sys.stdout.buffer.write(failing_log())
