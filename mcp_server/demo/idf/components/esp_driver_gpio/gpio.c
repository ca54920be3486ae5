#include "driver/gpio.h"

#include <stdbool.h>

#include "esp_log.h"

static const char *TAG = "gpio (simulated)";
static uint32_t s_levels[GPIO_NUM_MAX];

static bool is_pin(gpio_num_t pin)
{
    return pin >= GPIO_NUM_0 && pin < GPIO_NUM_MAX;
}

esp_err_t gpio_set_direction(gpio_num_t pin, gpio_mode_t mode)
{
    if (!is_pin(pin)) {
        return ESP_ERR_INVALID_ARG;
    }
    ESP_LOGI(TAG, "pin %d is an %s", pin, mode & GPIO_MODE_OUTPUT ? "output" : "input");
    return ESP_OK;
}

esp_err_t gpio_set_level(gpio_num_t pin, uint32_t level)
{
    if (!is_pin(pin)) {
        return ESP_ERR_INVALID_ARG;
    }
    s_levels[pin] = level != 0 ? 1 : 0;
    ESP_LOGI(TAG, "pin %d = %d", pin, (int)s_levels[pin]);
    return ESP_OK;
}

int gpio_get_level(gpio_num_t pin)
{
    return is_pin(pin) ? (int)s_levels[pin] : 0;
}
