/* Simulated ESP-IDF of build-orchestrator's demo: what the virtual chip's firmware prints when it crashes.
 *
 * In the words of a chip, so that the same readers understand it. Its addresses are those of this machine's program:
 * addr2line with the build's ELF finds their lines. Nothing here is in firmware for the linux target, as there. */
#include "sdkconfig.h"

#ifndef CONFIG_IDF_TARGET_LINUX

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAVE_BACKTRACE 1
#else
#define HAVE_BACKTRACE 0
#endif

#define MOST_STEPS 32
#define ALL_SIGNALS {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}

static char s_stack[65536]; /* for a handler that comes because the other stack is full */

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0) {
        _exit(1);
    }
}

static const char *reason(int number, const void *context)
{
    (void)context;
    switch (number) {
    case SIGILL:
        return "Illegal instruction";
    case SIGFPE:
        return "IntegerDivideByZero";
    default:
#if defined(__linux__) && defined(__x86_64__)
        return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2 ? "Store access fault"
                                                                            : "Load access fault";
#else
        return "access fault";
#endif
    }
}

/* The program's own frames, innermost first. What lies higher is a library of this machine, which no chip has. */
__attribute__((noinline)) static int own_frames(uint32_t *found)
{
    int count = 0;
#if HAVE_BACKTRACE
    void *steps[MOST_STEPS];
    int all = backtrace(steps, MOST_STEPS);
    int first = 2; /* behind this function and the handler, which are of the program, too */
    for (int i = first; i < all; i++) {
        uintptr_t step = (uintptr_t)steps[i];
        if (step <= UINT32_MAX) {
            /* Behind the signal's own frame stands where it stopped, then come returns: one behind their calls. */
            found[count++] = (uint32_t)(i == first + 1 ? step : step - 1);
        }
    }
#endif
    return count;
}

static void panic(int number, siginfo_t *info, void *context)
{
    uint32_t frames[MOST_STEPS];
    char line[160];
    int count = own_frames(frames);
    uint32_t at = count > 0 ? frames[0] : 0;
    if (number == SIGABRT) {
        snprintf(line, sizeof(line), "\nabort() was called at PC 0x%08x on core 0\n\n", (unsigned)at);
    } else {
        snprintf(line, sizeof(line), "\nGuru Meditation Error: Core  0 panic'ed (%s). Exception was unhandled.\n\n",
                 reason(number, context));
    }
    say(line);
    snprintf(line, sizeof(line), "Core  0 register dump:\nMEPC    : 0x%08x  MTVAL   : 0x%08x\n\nBacktrace:", (unsigned)at,
             number == SIGABRT ? 0 : (unsigned)(uintptr_t)info->si_addr);
    say(line);
    for (int i = 0; i < count; i++) {
        snprintf(line, sizeof(line), " 0x%08x:0x00000000", (unsigned)frames[i]);
        say(line);
    }
    say("\n\nsimulated panic: the firmware is a program of this machine, and so are its addresses\n");
    signal(number, SIG_DFL);
    raise(number);
}

void panic_on_crashes(void);

void panic_on_crashes(void)
{
    static const int signals[] = ALL_SIGNALS;
    stack_t stack = {.ss_sp = s_stack, .ss_size = sizeof(s_stack)};
    struct sigaction action = {.sa_sigaction = panic, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaction(signals[i], &action, NULL);
    }
}

#endif
