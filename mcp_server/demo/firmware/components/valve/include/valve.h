#pragma once

#include <stdbool.h>

#include "esp_err.h"

/* Set up the valve's pin; the valve is closed afterwards. */
esp_err_t valve_init(void);

void valve_open(void);
void valve_close(void);
bool valve_is_open(void);
