#include "esp_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static struct timespec s_start;

__attribute__((constructor)) static void remember_start(void)
{
    clock_gettime(CLOCK_MONOTONIC, &s_start);
}

uint32_t esp_log_timestamp(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((now.tv_sec - s_start.tv_sec) * 1000 + (now.tv_nsec - s_start.tv_nsec) / 1000000);
}

void esp_log_line(esp_log_level_t level, const char *tag, const char *format, ...)
{
    if (level == ESP_LOG_NONE || (int)level > CONFIG_LOG_DEFAULT_LEVEL) {
        return;
    }
    /* One write a line, so that tasks never print into each other's lines. */
    char line[512];
    int used = snprintf(line, sizeof(line), "%c (%lu) %s: ", "NEWIDV"[level], (unsigned long)esp_log_timestamp(), tag);
    if (used > 0 && (size_t)used < sizeof(line)) {
        va_list args;
        va_start(args, format);
        vsnprintf(line + used, sizeof(line) - (size_t)used, format, args);
        va_end(args);
    }
    puts(line);
}
