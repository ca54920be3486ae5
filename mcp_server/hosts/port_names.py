"""USB ids of what ESP boards are connected by, in words."""

import re

NAMES = {
    "10c4:ea60": ("CP2102 USB to UART", "Silicon Labs"),
    "10c4:ea70": ("CP2105 USB to two UARTs", "Silicon Labs"),
    "10c4:ea71": ("CP2108 USB to four UARTs", "Silicon Labs"),
    "1a86:7523": ("CH340 USB to UART", "WCH"),
    "1a86:7522": ("CH340K USB to UART", "WCH"),
    "1a86:5523": ("CH341 USB to UART", "WCH"),
    "1a86:55d2": ("CH342 USB to two UARTs", "WCH"),
    "1a86:55d3": ("CH343 USB to UART", "WCH"),
    "1a86:55d4": ("CH9102 USB to UART", "WCH"),
    "0403:6001": ("FT232R USB to UART", "FTDI"),
    "0403:6010": ("FT2232 USB to two UARTs or JTAG", "FTDI"),
    "0403:6011": ("FT4232 USB to four UARTs", "FTDI"),
    "0403:6014": ("FT232H USB to UART or JTAG", "FTDI"),
    "0403:6015": ("FT231X USB to UART", "FTDI"),
    "067b:2303": ("PL2303 USB to UART", "Prolific"),
    "067b:23a3": ("PL2303GC USB to UART", "Prolific"),
    "303a:0002": ("ESP32-S2 in download mode, USB OTG", "Espressif"),
    "303a:0009": ("ESP32-S3 in download mode, USB OTG", "Espressif"),
    "303a:1001": ("Espressif USB JTAG/serial", ""),
    "303a:1002": ("ESP USB Bridge", "Espressif"),
    "303a:4001": ("firmware with USB serial (TinyUSB)", "Espressif"),
}
MAKERS = {"303a": "Espressif", "10c4": "Silicon Labs", "0403": "FTDI", "1a86": "WCH"}

_MODEL = re.compile(r"(?:CP21|CH3|CH9|FT)\d+[A-Z]*\b")


def name_of(vid: str, pid: str, maker: str, product: str) -> str:
    """`CP2102N USB to UART (Silicon Labs)`; of an unknown one what it calls itself. Several models share an id."""
    known = NAMES.get(f"{vid}:{pid}")
    if known is None:
        maker = MAKERS.get(vid, maker)
        own = product if product.lower().startswith(maker.lower()) else f"{maker} {product}".strip()
        return own or (f"USB device {vid}:{pid}" if vid else "")
    text, maker = known
    if model := _MODEL.match(product):
        text = f"{model[0]} {text.partition(' ')[2]}"
    return f"{text} ({maker})" if maker else text
