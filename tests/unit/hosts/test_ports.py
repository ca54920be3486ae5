"""What names a serial port: keys, URLs, words for USB ids; and which one is meant. The script has tests of its own."""

import re
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.port_names import name_of
from mcp_server.hosts.ports import SerialPort, _look, lock_folder, permission, port_of_url, safe, stranger


def said(path: str, **values: str) -> list[str]:
    """The script's block of one port."""
    how = "named" if path.startswith("/n/") else "listed"
    lines = {"real": path, "kind": "tty", "access": "yes", **values}
    return [f"{how} {path}", *(f"{name.replace('_', '-')} {value}" for name, value in lines.items())]


def keys(*blocks: list[str]) -> list[str]:
    return [port.key for port in _look([line for block in blocks for line in block]).ports]


@pytest.mark.parametrize(
    ("vid", "pid", "maker", "product", "text"),
    [
        ("10c4", "ea60", "Silicon Labs", "CP2102 USB to UART Bridge Controller", "CP2102 USB to UART (Silicon Labs)"),
        ("10c4", "ea60", "", "CP2104 USB to UART Bridge Controller", "CP2104 USB to UART (Silicon Labs)"),
        ("1a86", "55d4", "", "USB Single Serial", "CH9102 USB to UART (WCH)"),
        ("0403", "6010", "FTDI", "Dual RS232-HS", "FT2232 USB to two UARTs or JTAG (FTDI)"),
        ("303a", "1001", "Espressif", "USB JTAG/serial debug unit", "Espressif USB JTAG/serial"),
        ("303a", "8123", "", "Lamp", "Espressif Lamp"),
        ("2341", "0043", "Arduino (www.arduino.cc)", "Uno", "Arduino (www.arduino.cc) Uno"),
        ("dead", "beef", "Acme", "ACME probe", "ACME probe"),
        ("dead", "beef", "", "", "USB device dead:beef"),
        ("", "", "", "", ""),
    ],
)
def test_usb_ids_become_words(vid: str, pid: str, maker: str, product: str, text: str) -> None:
    """Issue."""
    assert name_of(vid, pid, maker, product) == text


@pytest.mark.parametrize("serial", ["0001", "1", "000000000000", "12345678", "0123456789", "0123456789ABCDEF"])
def test_serial_numbers_of_whole_batches_need_the_place_too(serial: str) -> None:
    """Issue."""
    assert keys(said("/dev/ttyUSB0", vid="10c4", pid="ea60", serial=serial, by_path="/dev/serial/by-path/usb-0:1")) == [
        f"10c4-ea60-{serial.lower()}-usb-0-1"
    ]


def test_same_serial_number_twice_is_told_apart_by_place_else_by_name() -> None:
    """Ours. A forged converter shares a serial number that looks like one of its own."""
    board = {"vid": "0403", "pid": "6001", "serial": "A50285BI"}
    assert keys(said("/dev/ttyUSB0", **board, place="1-1:1.0"), said("/dev/ttyUSB1", **board, place="1-2:1.0")) == [
        "0403-6001-a50285bi-1-1-1.0",
        "0403-6001-a50285bi-1-2-1.0",
    ]
    assert keys(said("/dev/ttyUSB0", **board), said("/dev/ttyUSB1", **board)) == [
        "0403-6001-a50285bi-ttyUSB0",
        "0403-6001-a50285bi-ttyUSB1",
    ]


def test_without_anything_the_name_is_the_key() -> None:
    """Issue."""
    assert keys(said("/dev/ttyUSB0")) == ["ttyUSB0"]


@pytest.mark.parametrize("text", ["", "...", "-x", ".hidden", "a/../b", "ü" * 300, "x" * 300, "a b\nc", "::", "\udcff"])
def test_every_key_is_a_safe_name(text: str) -> None:
    """Ours. It becomes a folder's name and a part of a lease."""
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}", safe(text))


def test_long_names_that_differ_have_different_keys() -> None:
    """Ours."""
    assert safe("x" * 300) != safe("x" * 301)


HERE = ("localhost", "LocalHost.", "127.0.0.1", "[::1]", "[0:0::1]", "[::ffff:127.0.0.1]")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("rfc2217://lab-pi:4000", "rfc2217-lab-pi-4000"),
        ("rfc2217://LAB-pi:4000?ign_set_control", "rfc2217-lab-pi-4000"),
        ("socket://192.168.1.50:5555", "socket-192.168.1.50-5555"),
        ("socket://[fe80::0:1]:5555/", "socket-fe80--1-5555"),
        ("rfc2217://lab-pi.:4000?timeout=7&poll_modem", "rfc2217-lab-pi-4000"),
        *((f"SOCKET://{place}:05555", "socket-localhost-5555") for place in HERE),
    ],
)
def test_urls_have_a_key_of_their_place(url: str, key: str) -> None:
    """Issue."""
    port = port_of_url(url)
    assert (port.path, port.key, port.is_url, port.accessible) == (url, key, True, True)


@pytest.mark.parametrize(
    "url",
    [
        "rfc2217://lab-pi",
        "rfc2217://:4000",
        "socket://lab:70000",
        "socket://lab:x",
        "socket://lab:0",
        "socket://me@lab:1",
        "socket://lab:1/path",
        "socket://lab:1?\x1b[0m",
        "spy:///dev/ttyUSB0",
        "loop://",
        "http://lab:80",
        "file:///dev/ttyUSB0",
        "socket://[::1:5",
        "://",
    ],
)
def test_other_urls_are_refused_with_what_is_right(url: str) -> None:
    """Issue. pyserial would take some of them."""
    with pytest.raises(BadInput, match=r"^port: .*rfc2217://HOST:PORT or socket://HOST:PORT") as error:
        port_of_url(url)
    assert len(str(error.value)) < 250
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "rfc2217://user:HIDDEN@lab:1",
        "rfc2217://HIDDEN@lab:1",
        "rfc2217://user:HIDDEN@lab",
        "socket://user:HIDDEN@[::1:5",
        "http://user:HIDDEN@lab:80",
        "HIDDEN://user:HIDDEN@lab:80",
        "socket://lab:1?token=HIDDEN",
        "socket://lab:1?HIDDEN",
        "socket://lab:1?ign_set_control",
        "rfc2217://lab:1?ign_set_control&key=HIDDEN",
        "rfc2217://lab:1?ign_set_control=HIDDEN",
        "rfc2217://lab:1?timeout=HIDDEN",
        "rfc2217://lab:1?logging=debug",
        "rfc2217://lab:1#HIDDEN",
        "rfc2217://lab:HIDDEN/",
        "rfc2217://lab:1/HIDDEN",
    ],
)
def test_what_may_be_a_secret_in_an_url_is_refused_and_not_repeated(url: str) -> None:
    """Ours: an URL stands in logs, in the database and in answers."""
    with pytest.raises(BadInput, match=r"^port: .*rfc2217://HOST:PORT or socket://HOST:PORT") as error:
        port_of_url(url)
    assert "HIDDEN" not in str(error.value).upper()


def test_a_port_named_by_a_link_is_the_listed_one() -> None:
    """Ours. Else one board had two locks."""
    lines = [*said("/n/board", real="/dev/ttyUSB0"), *said("/dev/ttyUSB0", vid="1a86", pid="7523")]
    look = _look(lines)
    assert look.named["/n/board"] == ("tty", look.ports[0])
    assert look.ports[0].path == "/dev/ttyUSB0"


def test_ports_are_in_the_order_of_their_numbers() -> None:
    """Ours."""
    look = _look([line for number in (10, 2, 1) for line in said(f"/dev/ttyUSB{number}")])
    assert [port.path for port in look.ports] == ["/dev/ttyUSB1", "/dev/ttyUSB2", "/dev/ttyUSB10"]


def test_what_the_script_says_in_a_later_version_is_no_error() -> None:
    """Ours."""
    look = _look(["news 1", *said("/dev/ttyUSB0", colour="red"), "holder 7 /dev/other", "command x", "news"])
    assert look.ports[0].holders == ()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["command picocom /dev/ttyUSB0", "job "], "picocom /dev/ttyUSB0 (pid 7): close it first"),
        (
            ["command python3 -m esptool", "job /jobs/m/0badcafe-3-flash-1-1"],
            "python3 -m esptool (pid 7), job 0badcafe-3-",
        ),
        (
            [
                'command python3 -c """The serial monitor of build-orchestrator, first half',
                "job /j/m/0badcafe-3-monitor-1-1",
            ],
            "a serial monitor of build-orchestrator (pid 7), job 0badcafe-3-monitor-1-1 of another build-orchestrator",
        ),
        (["command python3 -m esptool", "job /ours/m/0badcafe-3-flash-1-1"], ""),
    ],
)
def test_who_has_a_port_is_named_unless_it_is_a_job_under_the_same_locks(lines: list[str], sentence: str) -> None:
    """Ours. Another home has other locks; two clients of one server account have the same."""
    port = _look([*said("/dev/ttyUSB0"), "holder 7 /dev/ttyUSB0", *lines]).ports[0]

    found = stranger(port, "/ours/m")

    assert sentence in found
    assert bool(found) == bool(sentence)


@pytest.mark.parametrize(
    ("group", "entered", "mend"),
    [
        ("dialout", "", "sudo usermod -aG dialout $USER, then log in again"),
        ("uucp", "", "sudo usermod -aG uucp $USER, then log in again"),
        ("dialout", "dialout", "ann was put into group dialout after this login: log in again, and end the worker"),
        ("root", "", "sudo chown $USER /dev/ttyUSB0, which holds until it is unplugged; a udev rule makes it last"),
    ],
)
def test_what_lets_a_user_open_a_port(group: str, entered: str, mend: str) -> None:
    """Issue. Whoever was put into the group already only has to log in."""
    lines = [*said("/dev/ttyUSB0", access="no"), f"group {group} /dev/ttyUSB0", "user ann", "member ann"]
    look = _look([*lines, f"entered ann {entered}"])
    assert permission(look, look.ports[0]) == mend


def test_lock_of_a_port_lies_beside_the_jobs() -> None:
    """Issue."""
    assert lock_folder("/j/0123abcd", SerialPort("/dev/x", "k").key) == "/j/0123abcd/.ports/k"


def test_script_opens_no_port() -> None:
    """Ours. A redirection to a port would reset the board: the script reads files of sysfs and /proc only."""
    text = (Path(__file__).parents[3] / "mcp_server" / "hosts" / "ports.sh").read_text()
    read = re.findall(r'<"([^"]+)"', text)
    assert set(read) == {"$2", "$proc/$pid/cmdline", "$proc/$pid/environ"}
    assert set(re.findall(r" text \w+ (\S+)", text)) == {
        *("port_number", "bInterfaceNumber", "interface", "idVendor", "idProduct", "serial", "manufacturer", "product")
    }
