#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

void vTaskDelay(TickType_t ticks)
{
    uint64_t ms = (uint64_t)ticks * portTICK_PERIOD_MS;
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000L};
    while (nanosleep(&left, &left) != 0) {
    }
}

TickType_t xTaskGetTickCount(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (TickType_t)((uint64_t)now.tv_sec * configTICK_RATE_HZ
                        + (uint64_t)now.tv_nsec * configTICK_RATE_HZ / 1000000000ULL);
}

BaseType_t xTaskCreate(TaskFunction_t function, const char *name, uint32_t stack_size, void *argument,
                       UBaseType_t priority, TaskHandle_t *handle)
{
    (void)name;
    (void)stack_size;
    (void)priority;
    pthread_t thread;
    if (handle != NULL) {
        *handle = NULL;
    }
    /* A task never returns, so that its missing result is never read. */
    if (pthread_create(&thread, NULL, (void *(*)(void *))(uintptr_t)function, argument) != 0) {
        return pdFAIL;
    }
    pthread_detach(thread);
    return pdPASS;
}

void vTaskDelete(TaskHandle_t task)
{
    if (task == NULL) {
        pthread_exit(NULL);
    }
}
