/* Simulated ESP-IDF of build-orchestrator's demo: the error codes its firmware meets. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

typedef int esp_err_t;

#define ESP_OK 0
#define ESP_FAIL -1
#define ESP_ERR_NO_MEM 0x101
#define ESP_ERR_INVALID_ARG 0x102
#define ESP_ERR_INVALID_STATE 0x103
#define ESP_ERR_INVALID_SIZE 0x104
#define ESP_ERR_NOT_FOUND 0x105
#define ESP_ERR_NOT_SUPPORTED 0x106
#define ESP_ERR_TIMEOUT 0x107

const char *esp_err_to_name(esp_err_t code);

#define ESP_ERROR_CHECK(expression)                                                                            \
    do {                                                                                                       \
        esp_err_t esp_error_check_code = (expression);                                                         \
        if (esp_error_check_code != ESP_OK) {                                                                  \
            printf("ESP_ERROR_CHECK failed: esp_err_t 0x%x (%s)\nfile: \"%s\" line %d\nexpression: %s\n",      \
                   (unsigned)esp_error_check_code, esp_err_to_name(esp_error_check_code), __FILE__, __LINE__,  \
                   #expression);                                                                               \
            abort();                                                                                           \
        }                                                                                                      \
    } while (0)
