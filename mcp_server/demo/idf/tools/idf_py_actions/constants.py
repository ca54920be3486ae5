"""The targets that ESP-IDF 6.0 names, in the form of its own file; the simulated one builds for linux only."""

URL_TO_DOC = "https://docs.espressif.com/projects/esp-idf"

SUPPORTED_TARGETS = [
    "esp32",
    "esp32s2",
    "esp32c3",
    "esp32s3",
    "esp32c2",
    "esp32c6",
    "esp32h2",
    "esp32p4",
    "esp32c5",
    "esp32c61",
]
PREVIEW_TARGETS = ["linux", "esp32h21", "esp32h4"]
