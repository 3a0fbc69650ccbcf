/* Columns times scalars: out[o] = end(start[o] + bias[o] + sum over terms and inputs i of weight[i][o] * x[i]).

   In float32, terms and inputs ascend, each output has one accumulator, and every product is rounded before it is
   added (no contraction): so an output has the same bits whatever the instruction set, the number of rows, or the
   order in which panels are visited. In bfloat16 inputs come by pairs, of each the second first, and products are exact.
   Sums of integers are exact in any order. */
#ifndef AUDIO_GEN_MATRIX_H
#define AUDIO_GEN_MATRIX_H

#include "dot.h"

typedef enum {
    PLAIN,
    NEXT, /* also narrowed, for the product that reads it next */
    RELU, /* narrowed only */
    GATE, /* narrowed only; half as many outputs: tanh(a) sigmoid(b) */
    SUMS  /* not an end yet: what a product that `continues` begins with; int8: without start, bias and scale */
} End;

/* One product over several rows that share the matrices. */
typedef struct {
    int32_t rows, terms;
    const Matrix *matrix[MAX_TAPS];          /* all with the same outputs and scale */
    const float *x[MAX_TAPS][MAX_ROWS];      /* inputs of each term and row */
    const float *start[MAX_ROWS];
    const float *sums[MAX_ROWS];             /* ... of earlier terms, if it continues */
    const float *bias;                       /* or null */
    const float *steps;                      /* that narrow the outputs */
    float *out[MAX_ROWS];                    /* may be start */
    float *next[MAX_ROWS];                   /* inputs */
    int32_t continues;
    End end;
} Product;

enum { MOST_ROWS = 8 }; /* of a block */
enum { GATED = GATE_GROUP / LANES }; /* vectors of tanh before those of sigmoid */

/* `wide` vectors of outputs from o on, of `rows` rows from `row` on: to where they belong. */
INLINE void end_rows(const End end, const int rows, const int wide, const Product *product, int32_t row, int32_t o,
                     vec (*sum)[16]) {
    if (end == GATE) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide / 2; v++) {
                const int a = v + v / GATED * GATED; /* groups of tanh and sigmoid take turns */
                sum[r][v] = gate(sum[r][a], sum[r][a + GATED]);
            }
            narrow(wide / 2, product->next[row + r], o / 2, sum[r], product->steps);
        }
    } else if (end == RELU) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] = larger(sum[r][v], all(0.0f));
            narrow(wide, product->next[row + r], o, sum[r], product->steps);
        }
    } else {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) store(product->out[row + r] + o + v * LANES, sum[r][v]);
            if (NARROWS && end == NEXT) narrow(wide, product->next[row + r], o, sum[r], product->steps);
        }
    }
}

/* What these outputs begin with. */
INLINE void start_rows(const int rows, const int wide, const Product *product, int32_t row, int32_t o,
                       vec (*sum)[16]) {
    const int continues = WEIGHT_BITS != 8 && product->continues;
    UNROLL for (int r = 0; r < rows; r++) {
        const float *start = continues ? product->sums[row + r] : product->start[row + r];
        UNROLL for (int v = 0; v < wide; v++) sum[r][v] = load(start + o + v * LANES);
    }
    if (!product->bias) return;
    UNROLL for (int v = 0; v < wide; v++) {
        const vec bias = load(product->bias + o + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) sum[r][v] += bias;
    }
}

#include "sums.h"

/* One panel for the rows from `row` on that come in groups of `rows`. */
INLINE int32_t rows_of(const int bits, const int rows, const int wide, const Product *product, int32_t row,
                       int32_t origin, int32_t panel) {
    const int32_t end = row + (product->rows - row) / rows * rows;
    int32_t shift = 0;
    for (; shift + wide * LANES <= panel; shift += wide * LANES) {
        for (int32_t r = row; r < end; r += rows) {
            block(bits, product->end, rows, wide, product, r, origin, panel, shift);
        }
    }
    if (shift < panel) { /* the narrow last panel */
        for (int32_t r = row; r < end; r += rows) {
            block(bits, product->end, rows, NARROW / LANES, product, r, origin, panel, shift);
        }
    }
    return end;
}

/* Vectors of one row whose sums there are registers for. */
#if defined(__AVX512F__)
enum { ROW_WIDE = 4 };
#elif defined(__AVX2__) || defined(__SSE2__)
enum { ROW_WIDE = 8 };
#else
enum { ROW_WIDE = 16 };
#endif

/* As many sums at once as there are registers for. */
INLINE void multiply_panels(const int bits, const Product *product) {
    const int32_t outputs = product->matrix[0]->outputs;
    for (int32_t origin = 0; origin < outputs; origin += PANEL) {
        const int32_t panel = outputs - origin < PANEL ? NARROW : PANEL;
        int32_t row = 0;
#if defined(__AVX512F__)
        if (bits == 16) row = rows_of(bits, 8, 2, product, row, origin, panel); /* weights come in at an even pace */
        row = rows_of(bits, 4, 4, product, row, origin, panel);
        row = rows_of(bits, 2, 4, product, row, origin, panel);
        rows_of(bits, 1, ROW_WIDE, product, row, origin, panel);
#elif defined(__AVX2__)
        if (bits == 16 && product->end != GATE) row = rows_of(bits, 4, 2, product, row, origin, panel);
        if (bits == 16) row = rows_of(bits, 3, 4, product, row, origin, panel);
        row = rows_of(bits, 2, 4, product, row, origin, panel);
        rows_of(bits, 1, ROW_WIDE, product, row, origin, panel);
#elif defined(__SSE2__)
        rows_of(bits, 1, ROW_WIDE, product, row, origin, panel);
#else
        row = rows_of(bits, 2, 8, product, row, origin, panel);
        rows_of(bits, 1, ROW_WIDE, product, row, origin, panel);
#endif
    }
}

/* All panels for the only row; `end` is a constant where it is inlined. */
INLINE void multiply_row(const End end, const Product *product) {
    const int32_t outputs = product->matrix[0]->outputs;
    int32_t origin = 0;
    for (; origin + PANEL <= outputs; origin += PANEL) {
        UNROLL for (int32_t shift = 0; shift < PANEL; shift += ROW_WIDE * LANES) {
            block(WEIGHT_BITS, end, 1, ROW_WIDE, product, 0, origin, PANEL, shift);
        }
    }
    if (origin < outputs) block(WEIGHT_BITS, end, 1, NARROW / LANES, product, 0, origin, NARROW, 0);
}

/* With weights and inputs of the precision; with float32, as conditions have them. */
static void multiply(const Product *product) {
    if (product->rows != 1) {
        multiply_panels(WEIGHT_BITS, product);
        return;
    }
    switch (product->end) { /* one stream that plays */
    case PLAIN: multiply_row(PLAIN, product); break;
    case NEXT: multiply_row(NEXT, product); break;
    case RELU: multiply_row(RELU, product); break;
    case GATE: multiply_row(GATE, product); break;
    case SUMS: multiply_row(SUMS, product); break;
    }
}
#if WEIGHT_BITS == 32
#define multiply_floats multiply
#else
static void multiply_floats(const Product *product) { multiply_panels(32, product); }
#endif

#endif
