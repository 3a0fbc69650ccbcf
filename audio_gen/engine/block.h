/* What one call works with: its memory, and what the rows of the current block are. Part of engine.c. */
#ifndef AUDIO_GEN_BLOCK_H
#define AUDIO_GEN_BLOCK_H

#include "matrix.h"

/* What one layer has worked out ahead: for frames `first` to `end`, its bias and the taps from before `first`. */
typedef struct {
    int64_t first, end;
} Ahead;

/* Working memory of one call, and what the rows of the current block are. */
typedef struct {
    const Network *network;
    const Work *work;
    int32_t first_stream, streams; /* of the group that is being run */
    float *state;                  /* of its first stream */
    int64_t start;                 /* absolute position of the block's first sample */
    int64_t frame[MAX_TIERS];      /* first frame of each tier in the block */
    int32_t frames[MAX_TIERS];     /* frames of each tier in the block */
    float *a[MAX_TIERS];           /* (rows, C_k): residual stream of each tier */
    float *x[MAX_TIERS];           /* inputs: the same for the product that reads it next (float32: the same memory) */
    float *h[2];                   /* inputs (rows, C): gated outputs of this layer and the one before */
    float *skip, *logits;          /* (rows, ...) */
    float *summed, *hidden;        /* inputs (rows, ...): of the head's two layers */
    float *condition;              /* (streams, D) */
    float places[MAX_ROWS][MAX_PREDICTORS + 2]; /* where the predictors expect each row's sample */
    Ahead *ahead;                  /* (layers), or null: nothing is worked out ahead */
    float *ahead_z;                /* per layer (frames, streams, 2 C) */
} Block;

INLINE float *state_of(const Block *block, int32_t stream) {
    return block->state + (size_t)stream * block->network->state_count;
}

INLINE size_t row_of(const Block *block, int32_t tier, int32_t stream, int32_t frame) {
    return (size_t)stream * (size_t)block->frames[tier] + (size_t)frame;
}

/* The residual stream of one row of a tier; the same as inputs. */
INLINE float *stream_row(const Block *block, int32_t tier, int32_t stream, int32_t frame) {
    return block->a[tier] + row_of(block, tier, stream, frame) * (size_t)block->network->tiers[tier].padded;
}

INLINE float *input_row(const Block *block, int32_t tier, int32_t stream, int32_t frame) {
    return block->x[tier] + row_of(block, tier, stream, frame) * stride_of(block->network->tiers[tier].padded);
}

/* Gather rows for one product with `matrix` (more terms may follow), then multiply. */
INLINE void begin(Product *product, const Matrix *matrix, const float *bias, End end) {
    product->rows = 0;
    product->terms = 1;
    product->matrix[0] = matrix;
    product->bias = bias;
    product->continues = 0;
    product->end = end;
}

INLINE void add_row(Product *product, float *out, const float *start, const float *x) {
    product->out[product->rows] = out;
    product->start[product->rows] = start;
    product->x[0][product->rows++] = x;
}

/* The residual stream of a tier as inputs, narrowed with `steps`. */
static void narrow_stream(Block *block, int32_t k, const float *steps) {
    const int32_t padded = block->network->tiers[k].padded, rows = block->streams * block->frames[k];
    if (NARROWS) narrow_rows(block->x[k], block->a[k], steps, rows, padded);
}

#endif
