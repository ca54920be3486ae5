# Projects include this file. The simulated ESP-IDF reads them without CMake, so only somebody who runs CMake by hand gets here.
message(FATAL_ERROR "This ESP-IDF is simulated, for build-orchestrator's demo: run tools/idf.py, or get ESP-IDF from "
                    "https://docs.espressif.com/projects/esp-idf/en/stable/esp32/get-started/")
