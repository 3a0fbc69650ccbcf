/* What one core can do at most: read a stream of bytes, multiply and add in registers. Timed by the caller.

   Compiled for the machine it runs on. A function of 16 accumulators per precision; `*_lanes` are its
   multiply-accumulates per repeat, 0 where the processor has no such instruction. */
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
enum { ACCUMULATORS = 16 };

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

/* Fused where the compiler may contract and the processor can. */
int32_t fp32_lanes(void) { return ACCUMULATORS * LANES; }

float fp32(int64_t repeats) {
    vec sum[ACCUMULATORS], factor;
    for (int lane = 0; lane < LANES; lane++) factor[lane] = 0.999f;
    for (int v = 0; v < ACCUMULATORS; v++) sum[v] = factor;
    for (int64_t r = 0; r < repeats; r++) {
#if defined(__x86_64__)
        __asm__ volatile("" : "+x"(factor));
#endif
        for (int v = 0; v < ACCUMULATORS; v++) sum[v] = sum[v] * factor + factor;
    }
    float total = 0.0f;
    for (int v = 0; v < ACCUMULATORS; v++) total += sum[v][0];
    return total;
}

#if defined(__AVX512BF16__)
int32_t bf16_lanes(void) { return ACCUMULATORS * 32; }

float bf16(int64_t repeats) {
    __m512 sum[ACCUMULATORS];
    __m512i pairs = _mm512_set1_epi32(0x3f803f80);
    for (int v = 0; v < ACCUMULATORS; v++) sum[v] = _mm512_setzero_ps();
    for (int64_t r = 0; r < repeats; r++) {
        __asm__ volatile("" : "+v"(pairs));
        for (int v = 0; v < ACCUMULATORS; v++) {
            sum[v] = _mm512_dpbf16_ps(sum[v], (__m512bh)pairs, (__m512bh)pairs);
        }
    }
    float total = 0.0f;
    for (int v = 0; v < ACCUMULATORS; v++) total += _mm512_reduce_add_ps(sum[v]);
    return total;
}
#else
int32_t bf16_lanes(void) { return 0; }
float bf16(int64_t repeats) { return (float)repeats; }
#endif

#if defined(__AVX512VNNI__)
int32_t int8_lanes(void) { return ACCUMULATORS * 64; }

float int8(int64_t repeats) {
    __m512i sum[ACCUMULATORS], bytes = _mm512_set1_epi8(1);
    for (int v = 0; v < ACCUMULATORS; v++) sum[v] = _mm512_setzero_si512();
    for (int64_t r = 0; r < repeats; r++) {
        __asm__ volatile("" : "+v"(bytes));
        for (int v = 0; v < ACCUMULATORS; v++) sum[v] = _mm512_dpbusd_epi32(sum[v], bytes, bytes);
    }
    int32_t total = 0;
    for (int v = 0; v < ACCUMULATORS; v++) total ^= _mm512_reduce_add_epi32(sum[v]);
    return (float)total;
}
#else
int32_t int8_lanes(void) { return 0; }
float int8(int64_t repeats) { return (float)repeats; }
#endif
