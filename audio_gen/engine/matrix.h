/* Columns times scalars: out[o] = end(start[o] + bias[o] + sum over terms and inputs i of weight[i][o] * x[i]).

   Terms and inputs ascend, each output has one accumulator, and every product is rounded before it is added (no
   contraction): so an output has the same bits whatever the instruction set, the number of rows, or the order in
   which panels are visited. */
#ifndef AUDIO_GEN_MATRIX_H
#define AUDIO_GEN_MATRIX_H

#include "lanes.h"

typedef enum { PLAIN, RELU, GATE } End; /* GATE makes half as many outputs: tanh(a) sigmoid(b) */

/* One product over several rows that share the matrices. */
typedef struct {
    int32_t rows, terms;
    const Matrix *matrix[MAX_TAPS];          /* all with the same number of outputs */
    const float *x[MAX_TAPS][MAX_ROWS];      /* inputs of each term and row */
    const float *start[MAX_ROWS];
    const float *bias;                       /* or null */
    float *out[MAX_ROWS];                    /* may be start */
    End end;
} Product;

enum { GATED = GATE_GROUP / LANES }; /* vectors of tanh before those of sigmoid */

/* `rows` rows from `row` on, `wide` vectors of outputs from `shift` on in the panel at `origin`, which is `panel`
   outputs wide. `rows` and `wide` are constants where it is inlined, so that the sums live in registers. */
INLINE void block(const int rows, const int wide, const Product *product, int32_t row, int32_t origin, int32_t panel,
                  int32_t shift) {
    const int32_t o = origin + shift;
    vec sum[4][16];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < wide; v++) sum[r][v] = load(product->start[row + r] + o + v * LANES);
    }
    if (product->bias) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] += load(product->bias + o + v * LANES);
        }
    }
    for (int32_t t = 0; t < product->terms; t++) {
        const int32_t inputs = product->matrix[t]->inputs;
        const float *weight = product->matrix[t]->weight + (size_t)origin * (size_t)inputs + shift;
        const float *x[4];
        UNROLL for (int r = 0; r < rows; r++) x[r] = product->x[t][row + r];
        UNROLL_2 for (int32_t i = 0; i < inputs; i++, weight += panel) {
            vec column[16];
            if (rows >= 4) { /* so much work per byte that the processor looks too few bytes ahead by itself */
                UNROLL for (int v = 0; v < wide; v += GATED) __builtin_prefetch(weight + v * LANES + 2048);
            }
            UNROLL for (int v = 0; v < wide; v++) column[v] = load(weight + v * LANES);
            UNROLL for (int r = 0; r < rows; r++) {
                const float scalar = x[r][i];
                UNROLL for (int v = 0; v < wide; v++) sum[r][v] += column[v] * scalar;
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        float *out = product->out[row + r] + (product->end == GATE ? o / 2 : o);
        if (product->end == GATE) {
            UNROLL for (int v = 0; v < wide / 2; v++) {
                const int a = v + v / GATED * GATED; /* groups of tanh and sigmoid take turns */
                store(out + v * LANES, gate(sum[r][a], sum[r][a + GATED]));
            }
        } else {
            UNROLL for (int v = 0; v < wide; v++) {
                store(out + v * LANES, product->end == RELU ? larger(sum[r][v], all(0.0f)) : sum[r][v]);
            }
        }
    }
}

/* One panel for the rows from `row` on that come in groups of `rows`. */
INLINE int32_t rows_of(const int rows, const int wide, const Product *product, int32_t row, int32_t origin,
                       int32_t panel) {
    const int32_t end = row + (product->rows - row) / rows * rows;
    int32_t shift = 0;
    for (; shift + wide * LANES <= panel; shift += wide * LANES) {
        for (int32_t r = row; r < end; r += rows) block(rows, wide, product, r, origin, panel, shift);
    }
    if (shift < panel) { /* the narrow last panel */
        for (int32_t r = row; r < end; r += rows) block(rows, NARROW / LANES, product, r, origin, panel, shift);
    }
    return end;
}

/* As many sums at once as there are registers for. */
static void multiply(const Product *product) {
    const int32_t outputs = product->matrix[0]->outputs;
    for (int32_t origin = 0; origin < outputs; origin += PANEL) {
        const int32_t panel = outputs - origin < PANEL ? NARROW : PANEL;
        int32_t row = 0;
#if defined(__AVX512F__)
        row = rows_of(4, 4, product, row, origin, panel);
        row = rows_of(2, 4, product, row, origin, panel);
        rows_of(1, 4, product, row, origin, panel);
#elif defined(__AVX2__)
        row = rows_of(2, 4, product, row, origin, panel);
        rows_of(1, 8, product, row, origin, panel);
#elif defined(__SSE2__)
        rows_of(1, 8, product, row, origin, panel);
#else
        row = rows_of(2, 8, product, row, origin, panel);
        rows_of(1, 16, product, row, origin, panel);
#endif
    }
}

#endif
