/* Vectors of the width that the instruction set has, and the functions of one number that the network needs.

   Every operation is one IEEE addition, product, quotient or comparison per lane, so lanes may be 4, 8 or 16. */
#ifndef AUDIO_GEN_LANES_H
#define AUDIO_GEN_LANES_H

#include "engine.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "the engine needs plain float arithmetic; on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_2 _Pragma("GCC unroll 2")

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t vec_bits __attribute__((vector_size(4 * LANES), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *y, vec x) { *(vec *)y = x; }
INLINE vec all(float x) { return x - (vec){0}; } /* x in every lane; x - 0 keeps the sign of zero */

/* column * *scalar, where the product reads the scalar itself. On processors that spread it with one of the ports
   that multiply and add (Zen 4), an instruction of its own for that costs as much as a product. */
INLINE vec times(vec column, const float *scalar) {
#if defined(__AVX512F__)
    vec product;
    __asm__("vmulps %1%{1to16%}, %2, %0" : "=v"(product) : "m"(*scalar), "v"(column));
    return product;
#else
    return column * *scalar;
#endif
}

#define CHOOSE(mask, x, y) (vec)(((vec_bits)(mask) & (vec_bits)(x)) | (~(vec_bits)(mask) & (vec_bits)(y)))

#if defined(__AVX512F__)
#define LARGER(x, y) (vec)_mm512_max_ps((__m512)(x), (__m512)(y))
#define SMALLER(x, y) (vec)_mm512_min_ps((__m512)(x), (__m512)(y))
#elif defined(__AVX2__)
#define LARGER(x, y) (vec)_mm256_max_ps((__m256)(x), (__m256)(y))
#define SMALLER(x, y) (vec)_mm256_min_ps((__m256)(x), (__m256)(y))
#elif defined(__SSE2__)
#define LARGER(x, y) (vec)_mm_max_ps((__m128)(x), (__m128)(y))
#define SMALLER(x, y) (vec)_mm_min_ps((__m128)(x), (__m128)(y))
#else
#define LARGER(x, y) CHOOSE((x) > (y), x, y)
#define SMALLER(x, y) CHOOSE((x) < (y), x, y)
#endif

/* x > y ? x : y and x < y ? x : y, so y if x is NaN. */
INLINE vec larger(vec x, vec y) { return LARGER(x, y); }
INLINE vec smaller(vec x, vec y) { return SMALLER(x, y); }

/* The nearest to the square root of x, which every processor gives alike. */
INLINE vec root(vec x) {
#if defined(__AVX512F__)
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vec)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

/* x, kept within [-limit, limit]; -limit for NaN. */
INLINE vec within(vec x, float limit) { return smaller(larger(x, all(-limit)), all(limit)); }

/* 2^x for x within [-126, 126]. Relative error below 2^-23; 2^0 is exactly 1. */
INLINE vec exp2_vec(vec x) {
    const vec shifted = x + 12582912.0f; /* 1.5 * 2^23: the low bits now hold x rounded to an integer */
    const vec f = x - (shifted - 12582912.0f);
    const vec_bits power = ((vec_bits)shifted << 23) + 0x3f800000u;
    vec p = f * 0.00015353362f + 0.0013398875f;
    p = p * f + 0.00961843692f;
    p = p * f + 0.0555033237f;
    p = p * f + 0.240226477f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
    return p * (vec)power;
}

/* The same, within 2^-13 and sooner: for what is rounded to 8 bits anyway. */
INLINE vec exp2_short(vec x) {
    const vec shifted = x + 12582912.0f;
    const vec f = x - (shifted - 12582912.0f);
    const vec_bits power = ((vec_bits)shifted << 23) + 0x3f800000u;
    return ((f * 0.693282888f + 1.0f) + (f * f) * (f * 0.0550091019f + 0.24221098f)) * (vec)power;
}

#if WEIGHT_BITS == 8
#define EXP2 exp2_short
#else
#define EXP2 exp2_vec
#endif

/* tanh(a) sigmoid(b), where the packed weights already hold a' = -2 log2(e) a and b' = -log2(e) b:
   tanh(a) = (1 - 2^a') / (1 + 2^a'),  sigmoid(b) = 1 / (1 + 2^b'). Within 60 the product stays finite. */
INLINE vec gate(vec a, vec b) {
    const vec ea = EXP2(within(a, 60.0f)), eb = EXP2(within(b, 60.0f));
    return (1.0f - ea) / ((1.0f + ea) * (1.0f + eb));
}

#if WEIGHT_BITS == 16
/* The nearest bfloat16 numbers, half to even; 0 for denormals, as the instruction has it. */
INLINE halves rounded(vec x) {
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const vec_bits bits = (vec_bits)x, size = bits & 0x7fffffffu;
    vec_bits nearest = bits + 0x7fffu + (bits >> 16 & 1u);
    nearest = (vec_bits)CHOOSE((vec_bits)(size < 0x00800000u), bits & 0x80000000u, nearest);
    nearest = (vec_bits)CHOOSE((vec_bits)(size > 0x7f800000u), bits | 0x00400000u, nearest); /* NaN */
    return __builtin_convertvector(nearest >> 16, halves);
#endif
}
#endif

/* Arrays below are 64-byte aligned and a multiple of 16 long. */

INLINE void copy(float *restrict y, const float *restrict x, int32_t count) {
    for (int32_t i = 0; i < count; i += LANES) store(y + i, load(x + i));
}

INLINE void relu(float *y, int32_t count) {
    for (int32_t i = 0; i < count; i += LANES) store(y + i, larger(load(y + i), all(0.0f)));
}

#endif
