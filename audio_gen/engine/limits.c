/* What one core can do at most: read a stream of bytes, multiply and add in registers. Timed by the caller.

   It says how much of the machine the engine uses. Each function runs the widest instructions there are. */
#include "engine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)
#define KEEP(x) __asm__ volatile("" : "+x"(x)) /* no repeat may be left out, no two sums be worked out as one */
#elif defined(__aarch64__)
#define KEEP(x) __asm__ volatile("" : "+w"(x))
#else
#define KEEP(x) ((void)(x))
#endif

/* ---- Reading: the sum of `count` floats (64-byte aligned, a multiple of 128), over and over ---- */

#define READ(name, lanes, ...)                                                              \
    typedef float name##_vec __attribute__((vector_size(4 * (lanes))));                     \
    __VA_ARGS__ static float name(const float *data, size_t count, int32_t repeats) {       \
        name##_vec sum[8] = {0};                                                            \
        for (int32_t r = 0; r < repeats; r++) {                                             \
            __asm__ volatile("" : : "r"(data) : "memory");                                  \
            for (size_t i = 0; i + 8 * (lanes) <= count; i += 8 * (lanes)) {                \
                for (int v = 0; v < 8; v++) sum[v] += *(const name##_vec *)(data + i + (size_t)(v * (lanes))); \
            }                                                                               \
        }                                                                                   \
        float total = 0.0f;                                                                 \
        for (int v = 0; v < 8; v++) {                                                       \
            for (int lane = 0; lane < (lanes); lane++) total += sum[v][lane];               \
        }                                                                                   \
        return total;                                                                       \
    }

READ(read_plain, 4)
#if defined(__x86_64__)
READ(read_avx2, 8, __attribute__((target("avx2"))))
READ(read_avx512, 16, __attribute__((target("avx512f"))))
#endif

EXPORT float audio_gen_read(const float *data, size_t count, int32_t repeats) {
#if defined(__x86_64__)
    if (has_avx512()) return read_avx512(data, count, repeats);
    if (has_avx2()) return read_avx2(data, count, repeats);
#endif
    return read_plain(data, count, repeats);
}

/* ---- Arithmetic: `repeats` times SUMS independent multiply-accumulates of whole registers ---- */

/* Variables of their own, for compilers copy elements of an array to and fro. */
enum { SUMS = 12 }; /* enough to hide the latency, few enough for 16 registers */
#define EACH(step, next) \
    step(0, next) step(1, next) step(2, next) step(3, next) step(4, next) step(5, next) \
    step(6, next) step(7, next) step(8, next) step(9, next) step(10, next) step(11, next)
#define START(v, vec) vec sum##v = factor;
#define ADD(v, next) sum##v = next(sum##v, factor); KEEP(sum##v);
#define WRITE(v, vec) *(volatile vec *)out = sum##v;

#define MULTIPLY(name, vec, start, next, ...)                                         \
    __VA_ARGS__ static void name(int64_t repeats, void *out) {                        \
        vec factor = start;                                                           \
        EACH(START, vec)                                                              \
        for (int64_t r = 0; r < repeats; r++) {                                       \
            EACH(ADD, next)                                                           \
        }                                                                             \
        EACH(WRITE, vec)                                                              \
    }

typedef float plain_vec __attribute__((vector_size(16)));
#define PLAIN(sum, factor) sum * factor + factor
MULTIPLY(plain_fp32, plain_vec, ((plain_vec){0.9f, 0.9f, 0.9f, 0.9f}), PLAIN)
#if defined(__x86_64__)
#define FUSED_8(sum, factor) _mm256_fmadd_ps(sum, factor, factor)
#define FUSED_16(sum, factor) _mm512_fmadd_ps(sum, factor, factor)
MULTIPLY(avx2_fp32, __m256, _mm256_set1_ps(0.9f), FUSED_8, __attribute__((target("avx2,fma"))))
MULTIPLY(avx512_fp32, __m512, _mm512_set1_ps(0.9f), FUSED_16, __attribute__((target("avx512f"))))
#endif
#if defined(WITH_AVX512BF16)
#define PAIRS(sum, factor) _mm512_dpbf16_ps(sum, (__m512bh)factor, (__m512bh)factor)
MULTIPLY(avx512_bf16, __m512, _mm512_set1_ps(0.5f), PAIRS, __attribute__((target("avx512f,avx512bf16"))))
#endif
#if defined(WITH_AVX512VNNI)
#define FOURS_64(sum, factor) _mm512_dpbusd_epi32(sum, factor, factor)
MULTIPLY(avx512_int8, __m512i, _mm512_set1_epi8(1), FOURS_64, __attribute__((target("avx512f,avx512vnni"))))
#endif
#if defined(WITH_AVXVNNI)
#define FOURS_32(sum, factor) _mm256_dpbusd_avx_epi32(sum, factor, factor)
MULTIPLY(avx_int8, __m256i, _mm256_set1_epi8(1), FOURS_32, __attribute__((target("avx2,avxvnni"))))
#endif

/* Multiply-accumulates done, of floats (bits = 32), bfloat16 (16) or bytes (8); 0 where they have no instruction
   of their own. */
EXPORT int64_t audio_gen_multiply(int32_t bits, int64_t repeats) {
    _Alignas(64) char out[64];
#if defined(WITH_AVX512BF16)
    if (bits == 16 && has_avx512bf16()) return avx512_bf16(repeats, out), repeats * SUMS * 32;
#endif
#if defined(WITH_AVX512VNNI)
    if (bits == 8 && has_avx512vnni()) return avx512_int8(repeats, out), repeats * SUMS * 64;
#endif
#if defined(WITH_AVXVNNI)
    if (bits == 8 && has_avxvnni()) return avx_int8(repeats, out), repeats * SUMS * 32;
#endif
    if (bits != 32) return 0;
#if defined(__x86_64__)
    if (has_avx512()) return avx512_fp32(repeats, out), repeats * SUMS * 16;
    if (has_avx2()) return avx2_fp32(repeats, out), repeats * SUMS * 8; /* none lacks fused operations */
#endif
    return plain_fp32(repeats, out), repeats * SUMS * 4;
}
