/* Inputs: the vectors that products read, as wide as the precision and the instruction set want them.

   fp32 reads float32 as it is, bf16 pairs of bfloat16. int8 reads bytes, four to a word, plus OFFSET: where the
   instruction multiplies signed bytes by unsigned ones. */
#ifndef AUDIO_GEN_INPUTS_H
#define AUDIO_GEN_INPUTS_H

#include <string.h>

#include "lanes.h"

#define BYTES 1
#define BFLOATS 2

#if WEIGHT_BITS == 8
#define NARROWS BYTES
enum { PER_WORD = 4 };
#elif WEIGHT_BITS == 16
#define NARROWS BFLOATS
enum { PER_WORD = 2 };
#else
#define NARROWS 0
enum { PER_WORD = 1 };
#endif

#if WEIGHT_BITS == 8 && (defined(__AVX512VNNI__) || defined(__AVXVNNI__))
enum { OFFSET = 128 };
#else
enum { OFFSET = 0 };
#endif

typedef int32_t ints __attribute__((vector_size(4 * LANES), may_alias));
typedef int16_t shorts __attribute__((vector_size(4 * LANES), may_alias));
typedef uint8_t bytes __attribute__((vector_size(LANES), may_alias));
typedef int32_t word __attribute__((may_alias));
typedef int32_t eight __attribute__((vector_size(32), aligned(4), may_alias)); /* the least that padding leaves */

/* Words from one row of inputs to the next. */
INLINE size_t stride_of(int32_t padded) { return (size_t)padded / PER_WORD; }

INLINE void copy_input(float *restrict y, const float *restrict x, int32_t padded) {
    for (size_t i = 0; i < stride_of(padded); i += 8) {
        *(eight *)(y + i) = *(const eight *)(x + i);
        __asm__ volatile("" : : : "memory"); /* lest it becomes a call of memmove, which takes longer for a few words */
    }
}

#if WEIGHT_BITS == 8
/* Channels o to o + wide * LANES of one row: the nearest steps, half to even, from -127 to 127, plus OFFSET.
   Added to 1.5 * 2^23, a number is rounded to an integer that stands in its low bits. */
INLINE void narrow(const int wide, float *row, int32_t o, const vec *x, const float *steps) {
    UNROLL for (int v = 0; v < wide; v++) {
        const ints q = (ints)(within(x[v] * load(steps + o + v * LANES), 127.0f) + (12582912.0f + OFFSET));
#if defined(__AVX512F__)
        _mm_storeu_si128((__m128i *)((uint8_t *)row + o + v * LANES), _mm512_cvtepi32_epi8((__m512i)q));
#else
        const bytes low = __builtin_convertvector(q, bytes);
        memcpy((uint8_t *)row + o + v * LANES, &low, sizeof low);
#endif
    }
}
#elif NARROWS == BFLOATS
INLINE void narrow(const int wide, float *row, int32_t o, const vec *x, const float *steps) {
    (void)steps;
    UNROLL for (int v = 0; v < wide; v++) {
        *(halves *)((uint16_t *)row + o + v * LANES) = rounded(x[v]);
    }
}
#else
INLINE void narrow(const int wide, float *row, int32_t o, const vec *x, const float *steps) {
    (void)steps;
    UNROLL for (int v = 0; v < wide; v++) store(row + o + v * LANES, x[v]);
}
#endif

/* Whole rows, one after another. */
static inline void narrow_rows(float *y, const float *x, const float *steps, int32_t rows, int32_t padded) {
    enum { WIDE = NARROW / LANES };
    for (int32_t r = 0; r < rows; r++, x += padded, y += stride_of(padded)) {
        for (int32_t o = 0; o < padded; o += NARROW) {
            vec part[WIDE];
            UNROLL for (int v = 0; v < WIDE; v++) part[v] = load(x + o + v * LANES);
            narrow(WIDE, y, o, part, steps);
        }
    }
}

#endif
