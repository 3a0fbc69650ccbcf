/* One word of weights times one word of inputs, lane by lane, added to a sum. */
#ifndef AUDIO_GEN_DOT_H
#define AUDIO_GEN_DOT_H

#include "inputs.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

INLINE ints all_ints(int32_t x) { return x - (ints){0}; }

#if WEIGHT_BITS == 8

#if defined(__AVX512VNNI__)
INLINE ints dot(ints sum, ints weight, ints q) {
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)q, (__m512i)weight);
}
#elif defined(__AVXVNNI__)
INLINE ints dot(ints sum, ints weight, ints q) {
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)q, (__m256i)weight);
}
#elif defined(__AVX2__) && !defined(__AVX512BW__)
/* Signed bytes times the unsigned sizes of the others; a pair of such products, 2 * 127 * 127 at most, still fits into 16
   bits. */
INLINE ints dot(ints sum, ints weight, ints q) {
    const __m256i sizes = _mm256_abs_epi8((__m256i)q), turned = _mm256_sign_epi8((__m256i)weight, (__m256i)q);
    return sum + (ints)_mm256_madd_epi16(_mm256_maddubs_epi16(sizes, turned), _mm256_set1_epi16(1));
}
#elif defined(__ARM_FEATURE_DOTPROD)
INLINE ints dot(ints sum, ints weight, ints q) {
    const int8x16_t w = vreinterpretq_s8_s32((int32x4_t)weight);
    return (ints)vdotq_s32((int32x4_t)sum, w, vreinterpretq_s8_s32((int32x4_t)q));
}
#else

/* Products of neighbouring 16-bit numbers, added in pairs; exact for bytes. */
INLINE ints multiply_pairs(shorts a, shorts b) {
#if defined(__AVX512BW__)
    return (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__wasm_simd128__)
    return (ints)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b);
#elif defined(__aarch64__)
    const int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b));
    return (ints)vpaddq_s32(low, vmull_high_s16((int16x8_t)a, (int16x8_t)b));
#else
    return (((ints)a << 16) >> 16) * (((ints)b << 16) >> 16) + ((ints)a >> 16) * ((ints)b >> 16);
#endif
}

/* Bytes 0 and 2 of each word, and bytes 1 and 3, widened in place. */
INLINE ints dot(ints sum, ints weight, ints q) {
    const shorts even = ((shorts)weight << 8) >> 8, odd = (shorts)weight >> 8;
    const shorts q_even = ((shorts)q << 8) >> 8, q_odd = (shorts)q >> 8;
    return sum + multiply_pairs(even, q_even) + multiply_pairs(odd, q_odd);
}
#endif

#elif WEIGHT_BITS == 16

/* sum + a b of bfloat16 numbers. A product of two has 16 bits, so it is exact, and it makes no difference whether it is
   fused with the addition (unless it is smaller than 2^-126, which a sum does not notice). */
INLINE vec add_product(vec sum, vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
}

/* Pairs of bfloat16: the odd product is added to the sum first, then the even one, as the instruction of processors that
   have one does. */
INLINE vec dot(vec sum, vec weight, vec x) {
#if defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weight, (__m512bh)x);
#else
    sum = add_product(sum, (vec)((vec_bits)weight & 0xffff0000u), (vec)((vec_bits)x & 0xffff0000u));
    return add_product(sum, (vec)((vec_bits)weight << 16), (vec)((vec_bits)x << 16));
#endif
}

#endif
#endif
