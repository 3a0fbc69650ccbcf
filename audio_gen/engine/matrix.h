/* Columns times scalars: y[row][o] += weight[i][o] * x[row][i], inputs i ascending, one accumulator per output.

   Every product is rounded before it is added (no contraction), so each output has the same bits whatever the
   instruction set, the number of rows or the order in which panels are visited. */
#ifndef AUDIO_GEN_MATRIX_H
#define AUDIO_GEN_MATRIX_H

#include "engine.h"

#if defined(__AVX512F__)
enum { LANES = 16, WIDE = 4 }; /* WIDE: accumulators per row in registers */
#elif defined(__AVX2__)
enum { LANES = 8, WIDE = 8 };
#else
enum { LANES = 4, WIDE = 8 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* `rows` rows by `wide` vectors of outputs; both are constants where it is inlined. */
INLINE void accumulate_block(const int rows, const int wide, const float *weight, size_t panel, int32_t inputs,
                             float *const *y, size_t first, const float *const *x) {
    vec sum[4][WIDE];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < wide; v++) sum[r][v] = *(const vec *)(y[r] + first + (size_t)(v * LANES));
    }
    for (int32_t i = 0; i < inputs; i++) {
        vec column[WIDE];
        UNROLL for (int v = 0; v < wide; v++) column[v] = *(const vec *)(weight + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            const float scalar = x[r][i];
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] += column[v] * scalar;
        }
        weight += panel;
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < wide; v++) *(vec *)(y[r] + first + (size_t)(v * LANES)) = sum[r][v];
    }
}

INLINE void accumulate_rows(const int wide, const float *weight, size_t panel, int32_t inputs, int32_t rows,
                            float *const *y, size_t first, const float *const *x) {
    const int half = wide > 4 ? wide / 2 : wide; /* two rows at once need twice the registers */
    int32_t r = 0;
    if (LANES == 16) {
        for (; r + 4 <= rows; r += 4) accumulate_block(4, wide, weight, panel, inputs, y + r, first, x + r);
    }
    for (; r + 2 <= rows; r += 2) {
        accumulate_block(2, half, weight, panel, inputs, y + r, first, x + r);
        if (half < wide) {
            const size_t shift = (size_t)(half * LANES);
            accumulate_block(2, half, weight + shift, panel, inputs, y + r, first + shift, x + r);
        }
    }
    if (r < rows) accumulate_block(1, wide, weight, panel, inputs, y + r, first, x + r);
}

/* y[r] (padded outputs) += matrix x[r] (inputs), for each row. */
static void accumulate(const Matrix *matrix, int32_t rows, float *const *y, const float *const *x) {
    const int32_t inputs = matrix->inputs;
    const float *weight = matrix->weight;
    for (int32_t o = 0; o < matrix->outputs;) {
        const int32_t left = matrix->outputs - o;
        const size_t panel = (size_t)(left < PANEL ? left : PANEL);
        for (size_t v = 0; v < panel / LANES;) {
            const size_t vectors = panel / LANES - v;
            const float *start = weight + v * LANES;
            const size_t first = (size_t)o + v * LANES;
            if (WIDE == 8 && vectors >= 8) {
                accumulate_rows(WIDE, start, panel, inputs, rows, y, first, x);
                v += WIDE;
            } else if (vectors >= 4) {
                accumulate_rows(4, start, panel, inputs, rows, y, first, x);
                v += 4;
            } else if (vectors >= 2) {
                accumulate_rows(2, start, panel, inputs, rows, y, first, x);
                v += 2;
            } else {
                accumulate_rows(1, start, panel, inputs, rows, y, first, x);
                v += 1;
            }
        }
        weight += panel * (size_t)inputs;
        o += (int32_t)panel;
    }
}

#endif
