#include <stdbool.h>
#include <stddef.h>

#include "esp_err.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "thermostat.h"
#include "valve.h"

static const char *TAG = "greenhouse";

/* A warm day, in tenths of a degree: between the two limits the valve must stay as it was. */
static const struct {
    int temperature;
    bool open;
} s_day[] = {
    {215, false}, {265, false}, {291, true}, {262, true}, {238, false}, {250, false},
};

static const size_t s_day_length = sizeof(s_day) / sizeof(s_day[0]);

static int self_test(void)
{
    int failures = 0;
    for (size_t i = 0; i < s_day_length; i++) {
        bool open = thermostat_step(s_day[i].temperature);
        bool right = open == s_day[i].open;
        ESP_LOGI(TAG, "self test %d/%d: %d.%d C, valve %s: %s", (int)i + 1, (int)s_day_length,
                 s_day[i].temperature / 10, s_day[i].temperature % 10, open ? "open" : "closed",
                 right ? "ok" : "WRONG");
        failures += right ? 0 : 1;
        vTaskDelay(pdMS_TO_TICKS(20));
    }
    return failures;
}

void app_main(void)
{
    ESP_LOGI(TAG, "greenhouse controller, valve opens above %d.%d C", THERMOSTAT_OPEN_ABOVE / 10,
             THERMOSTAT_OPEN_ABOVE % 10);
    ESP_ERROR_CHECK(valve_init());
    int failures = self_test();
    if (failures > 0) {
        ESP_LOGE(TAG, "SELF TEST FAILED: %d of %d readings", failures, (int)s_day_length);
        return;
    }
    ESP_LOGI(TAG, "SELF TEST PASSED");

    for (size_t i = 0;; i = (i + 1) % s_day_length) {
        bool open = thermostat_step(s_day[i].temperature);
        ESP_LOGI(TAG, "%d.%d C, valve %s", s_day[i].temperature / 10, s_day[i].temperature % 10,
                 open ? "open" : "closed");
        vTaskDelay(pdMS_TO_TICKS(1000));
    }
}
