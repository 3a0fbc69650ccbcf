/* The inner loops: the sums of `rows` rows and `wide` vectors of outputs, in each precision. `end`, `rows` and
   `wide` may be constants where they are inlined, so that the sums live in registers. Part of matrix.h. */
#ifndef AUDIO_GEN_SUMS_H
#define AUDIO_GEN_SUMS_H

/* Where there is so much work per byte that the processor looks too few bytes ahead by itself. */
#define LOOK_AHEAD(weight) \
    if (rows >= 4) { \
        UNROLL for (int v = 0; v < wide; v += GATED) __builtin_prefetch((weight) + v * LANES + 2048); \
    }

/* sum += weight x, float32. */
INLINE void add_floats(const int rows, const int wide, const uint32_t *weight, int32_t groups, int32_t panel,
                       const float *const *x, vec (*sum)[16]) {
    UNROLL_2 for (int32_t g = 0; g < groups; g++, weight += panel) {
        vec column[16];
        LOOK_AHEAD(weight)
        UNROLL for (int v = 0; v < wide; v++) column[v] = load((const float *)weight + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            if (rows >= 4) {
                UNROLL for (int v = 0; v < wide; v++) sum[r][v] += times(column[v], x[r] + g);
                continue;
            }
            const float scalar = x[r][g];
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] += column[v] * scalar;
        }
    }
}

#if WEIGHT_BITS == 16
/* The same with pairs of bfloat16. */
INLINE void add_pairs(const int rows, const int wide, const uint32_t *weight, int32_t groups, int32_t panel,
                      const float *const *x, vec (*sum)[16]) {
    UNROLL_2 for (int32_t g = 0; g < groups; g++, weight += panel) {
        vec column[16];
        LOOK_AHEAD(weight)
        UNROLL for (int v = 0; v < wide; v++) column[v] = load((const float *)weight + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            const vec pair = (vec)all_ints(((const word *)x[r])[g]);
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] = dot(sum[r][v], column[v], pair);
        }
    }
}
#endif

#if WEIGHT_BITS == 8
/* One group of inputs, four bytes each. */
INLINE void add_group(const int rows, const int wide, const uint32_t *weight, int32_t g, const float *const *x,
                      ints (*sum)[16]) {
    ints column[16];
    UNROLL for (int v = 0; v < wide; v++) column[v] = *(const ints *)(weight + v * LANES);
    UNROLL for (int r = 0; r < rows; r++) {
        const ints four = all_ints(((const word *)x[r])[g]);
        UNROLL for (int v = 0; v < wide; v++) sum[r][v] = dot(sum[r][v], column[v], four);
    }
}

/* The same as add_floats with four bytes each. One row has too few sums to hide how long each takes: odd groups
   get sums of their own. */
INLINE void add_bytes(const int rows, const int wide, const uint32_t *weight, int32_t groups, int32_t panel,
                      const float *const *x, ints (*sum)[16], ints (*odd)[16]) {
    int32_t g = 0;
    UNROLL_2 for (; g + 2 <= groups; g += 2, weight += 2 * panel) {
        add_group(rows, wide, weight, g, x, sum);
        add_group(rows, wide, weight + panel, g + 1, x, rows == 1 ? odd : sum);
    }
    if (g < groups) add_group(rows, wide, weight, g, x, sum);
}

INLINE void block_of_bytes(const End end, const int rows, const int wide, const Product *product, int32_t row,
                           int32_t origin, int32_t panel, int32_t shift) {
    const int32_t o = origin + shift;
    ints sum[4][16], odd[1][16];
    UNROLL for (int v = 0; v < wide; v++) odd[0][v] = (ints){0};
    UNROLL for (int v = 0; v < wide; v++) {
        const ints offset = OFFSET ? *(const ints *)(product->matrix[0]->offset + o + v * LANES) : (ints){0};
        UNROLL for (int r = 0; r < rows; r++) sum[r][v] = offset;
    }
    if (product->continues) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) sum[r][v] = *(const ints *)(product->sums[row + r] + o + v * LANES);
        }
    }
    for (int32_t t = 0; t < product->terms; t++) {
        const Matrix *matrix = product->matrix[t];
        const float *x[4];
        UNROLL for (int r = 0; r < rows; r++) x[r] = product->x[t][row + r];
        const uint32_t *weight = matrix->weight + (size_t)origin * (size_t)matrix->groups + shift;
        add_bytes(rows, wide, weight, matrix->groups, panel, x, sum, odd);
    }
    UNROLL for (int v = 0; v < wide && rows == 1; v++) sum[0][v] += odd[0][v];
    if (end == SUMS) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) *(ints *)(product->out[row + r] + o + v * LANES) = sum[r][v];
        }
        return;
    }
    vec y[4][16];
    start_rows(rows, wide, product, row, o, y);
    UNROLL for (int v = 0; v < wide; v++) {
        const vec scale = load(product->matrix[0]->scale + o + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) y[r][v] += scale * __builtin_convertvector(sum[r][v], vec);
    }
    end_rows(end, rows, wide, product, row, o, y);
}
#endif

/* `rows` rows from `row` on, `wide` vectors of outputs from `shift` on in the panel at `origin`, which is `panel`
   outputs wide; weights of `bits` bits. */
INLINE void block(const int bits, const End end, const int rows, const int wide, const Product *product, int32_t row,
                  int32_t origin, int32_t panel, int32_t shift) {
#if WEIGHT_BITS == 8
    if (bits == 8) {
        block_of_bytes(end, rows, wide, product, row, origin, panel, shift);
        return;
    }
#endif
    const int32_t o = origin + shift;
    vec sum[MOST_ROWS][16];
    start_rows(rows, wide, product, row, o, sum);
    for (int32_t t = 0; t < product->terms; t++) {
        const Matrix *matrix = product->matrix[t];
        const uint32_t *weight = matrix->weight + (size_t)origin * (size_t)matrix->groups + shift;
        const float *x[MOST_ROWS];
        UNROLL for (int r = 0; r < rows; r++) x[r] = product->x[t][row + r];
#if WEIGHT_BITS == 16
        if (bits == 16) {
            add_pairs(rows, wide, weight, matrix->groups, panel, x, sum);
            continue;
        }
#endif
        add_floats(rows, wide, weight, matrix->groups, panel, x, sum);
    }
    end_rows(end, rows, wide, product, row, o, sum);
}

#endif
