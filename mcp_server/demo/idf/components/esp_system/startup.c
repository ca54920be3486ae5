/* Simulated ESP-IDF of build-orchestrator's demo: what runs before app_main, on this machine. */
#include <stdio.h>
#include <unistd.h>

#include "esp_log.h"
#include "sdkconfig.h"

void app_main(void);
void panic_on_crashes(void);

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
#ifndef CONFIG_IDF_TARGET_LINUX
    panic_on_crashes();
#endif
    ESP_LOGI("boot", "simulated boot: build-orchestrator's demo runs this firmware as a process of this machine");
    ESP_LOGI("boot", "simulated ESP-IDF %s, target %s", IDF_VER, CONFIG_IDF_TARGET);
    ESP_LOGI("main_task", "Calling app_main()");
    app_main();
    ESP_LOGI("main_task", "Returned from app_main()");
    /* A chip goes on running after app_main, and so does ESP-IDF's linux target. */
    for (;;) {
        pause();
    }
}
