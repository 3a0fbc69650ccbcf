/* What one core can do at most: read a stream of bytes, multiply and add floats. Timed by the caller. */
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));

/* Sum of `count` floats (64-byte aligned, a multiple of 128), `repeats` times over. */
float read_stream(const float *data, size_t count, int32_t repeats) {
    vec sum[8] = {0};
    for (int32_t r = 0; r < repeats; r++) {
        __asm__ volatile("" : : "r"(data) : "memory");
        for (size_t i = 0; i + 8 * LANES <= count; i += 8 * LANES) {
            for (int v = 0; v < 8; v++) sum[v] += *(const vec *)(data + i + (size_t)(v * LANES));
        }
    }
    float total = 0.0f;
    for (int v = 0; v < 8; v++) {
        for (int lane = 0; lane < LANES; lane++) total += sum[v][lane];
    }
    return total;
}

/* 16 * LANES multiply-accumulates in registers per repeat; contracted to fused ones if the compiler may. */
float multiply_accumulate(int64_t repeats) {
    vec sum[16], factor;
    for (int lane = 0; lane < LANES; lane++) factor[lane] = 0.999f;
    for (int v = 0; v < 16; v++) sum[v] = factor;
    for (int64_t r = 0; r < repeats; r++) {
        __asm__ volatile("" : "+x"(factor));
        for (int v = 0; v < 16; v++) sum[v] = sum[v] * factor + factor;
    }
    float total = 0.0f;
    for (int v = 0; v < 16; v++) total += sum[v][0];
    return total;
}

int32_t lanes(void) { return LANES; }
