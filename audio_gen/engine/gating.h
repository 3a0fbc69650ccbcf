/* The gated activation of whole sequences in bfloat16, and its gradient: for training, in one pass where a framework
   takes seven. Everything between reading and writing is float32. */
#ifndef AUDIO_GEN_GATING_H
#define AUDIO_GEN_GATING_H

#include <string.h>

#include "lanes.h"

typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE vec widen(const uint16_t *x) { return (vec)(__builtin_convertvector(*(const halves *)x, vec_bits) << 16); }

/* The nearest bfloat16, half to even. Where x is NaN, so is what comes out. */
INLINE void round_to(uint16_t *y, vec x) {
    const vec_bits bits = (vec_bits)x, kept = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    *(halves *)y = __builtin_convertvector(kept, halves);
}

/* tanh(a) and sigmoid(b), NaN for what is not finite. */
INLINE void curves_of(vec a, vec b, vec *tanh_a, vec *sigmoid_b) {
    const vec ea = exp2_vec(within(a * -2.885390082f, 60.0f)), eb = exp2_vec(within(b * -1.442695041f, 60.0f));
    *tanh_a = (1.0f - ea) / (1.0f + ea) + (a - a);
    *sigmoid_b = 1.0f / (1.0f + eb) + (b - b);
}

/* h (rows, width) = tanh(z1) sigmoid(z2), of z (rows, 2 width); width is a multiple of LANES. */
static void gate_rows(const Gating *gating) {
    const int64_t width = gating->width;
    for (int64_t r = 0; r < gating->rows; r++) {
        const uint16_t *z = gating->z + r * 2 * width;
        for (int64_t i = 0; i < width; i += LANES) {
            vec t, s;
            curves_of(widen(z + i), widen(z + width + i), &t, &s);
            round_to(gating->h + r * width + i, t * s);
        }
    }
}

/* dz (rows, 2 width) of dh (rows, width). */
static void gate_rows_back(const Gating *gating) {
    const int64_t width = gating->width;
    for (int64_t r = 0; r < gating->rows; r++) {
        const uint16_t *z = gating->z + r * 2 * width, *dh = gating->dh + r * width;
        uint16_t *dz = gating->dz + r * 2 * width;
        for (int64_t i = 0; i < width; i += LANES) {
            vec t, s;
            curves_of(widen(z + i), widen(z + width + i), &t, &s);
            const vec slope = widen(dh + i) * s;
            round_to(dz + i, slope * (1.0f - t * t));
            round_to(dz + width + i, slope * t * (1.0f - s));
        }
    }
}

static int32_t gate_all(const Gating *gating) {
    if (gating->dh) gate_rows_back(gating);
    else gate_rows(gating);
    return ENGINE_OK;
}

#endif
