/* Given to the compiler before engine.c (-include): when each sample was drawn, if anyone asks. */
#include <stdint.h>
#include <time.h>

__attribute__((weak, visibility("default"))) int64_t *sample_times; /* nanoseconds; or null */

static inline void note_time(int64_t at) {
    struct timespec now;
    if (!sample_times) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sample_times[at] = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#define SAMPLE_DRAWN(at) note_time(at)
