#pragma once

#include "freertos/FreeRTOS.h"

typedef void (*TaskFunction_t)(void *argument);
typedef struct simulated_task *TaskHandle_t;

/* Sleeps for real. */
void vTaskDelay(TickType_t ticks);
TickType_t xTaskGetTickCount(void);

/* Stack size and priority are ignored; the handle is always NULL. */
BaseType_t xTaskCreate(TaskFunction_t function, const char *name, uint32_t stack_size, void *argument,
                       UBaseType_t priority, TaskHandle_t *handle);

/* Ends the calling task; another task cannot be ended. */
void vTaskDelete(TaskHandle_t task);
