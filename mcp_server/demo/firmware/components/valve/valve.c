#include "valve.h"

#include "esp_log.h"

/* ESP-IDF's linux target has no GPIO driver: there the valve is a variable. */
#if __has_include("driver/gpio.h")
#include "driver/gpio.h"
#define VALVE_PIN GPIO_NUM_4
#define HAVE_PIN 1
#else
#define HAVE_PIN 0
#endif

static const char *TAG = "valve";
static bool s_open;

static void set_open(bool open)
{
    if (s_open == open) {
        return;
    }
    s_open = open;
#if HAVE_PIN
    gpio_set_level(VALVE_PIN, open ? 1 : 0);
#endif
    ESP_LOGI(TAG, "%s", open ? "opened" : "closed");
}

esp_err_t valve_init(void)
{
#if HAVE_PIN
    esp_err_t err = gpio_set_direction(VALVE_PIN, GPIO_MODE_OUTPUT);
    if (err != ESP_OK) {
        return err;
    }
#endif
    s_open = true;
    set_open(false);
    return ESP_OK;
}

void valve_open(void)
{
    set_open(true);
}

void valve_close(void)
{
    set_open(false);
}

bool valve_is_open(void)
{
    return s_open;
}
