/* Given to the compiler before engine.c (-include): the time since the last mark goes to the phase that ends. */
#include <stdint.h>
#include <time.h>

enum { PHASE_gate, PHASE_history, PHASE_skip, PHASE_residual, PHASE_between, PHASE_head, PHASE_draw, PHASES };

__attribute__((weak, visibility("default"))) int64_t phase_times[PHASES + 2]; /* ticks; marks; the last mark */

static inline int64_t ticks(void) {
#if defined(__x86_64__)
    return (int64_t)__builtin_ia32_rdtsc();
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

static inline void end_phase(int phase) {
    const int64_t now = ticks();
    phase_times[phase] += now - phase_times[PHASES + 1];
    phase_times[PHASES]++;
    phase_times[PHASES + 1] = now;
}

#define PHASE_DONE(phase) end_phase(PHASE_##phase)
