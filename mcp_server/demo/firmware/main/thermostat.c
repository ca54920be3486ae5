#include "thermostat.h"

#include "valve.h"

bool thermostat_step(int temperature)
{
    if (temperature > THERMOSTAT_OPEN_ABOVE) {
        valve_opne();
    } else if (temperature < THERMOSTAT_CLOSE_BELOW) {
        valve_close();
    }
    return valve_is_open();
}
