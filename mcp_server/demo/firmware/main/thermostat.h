#pragma once

#include <stdbool.h>

/* Vents the greenhouse: the valve opens above OPEN_ABOVE and closes again below CLOSE_BELOW, in tenths of a degree. */
#define THERMOSTAT_OPEN_ABOVE 280
#define THERMOSTAT_CLOSE_BELOW 240

/* Take one reading, in tenths of a degree Celsius; true if the valve is open afterwards. */
bool thermostat_step(int temperature);
