/* The layers of a tier. Part of engine.c.

   A stream that plays has one row at a time, and so little to do for it that every branch counts. So these functions
   are inlined twice: for any number of rows, and with both numbers of `Rows` the constant 1, where loops vanish. */
#ifndef AUDIO_GEN_LAYERS_H
#define AUDIO_GEN_LAYERS_H

#include "block.h"

#ifndef PHASE_DONE
#define PHASE_DONE(phase) ((void)0) /* a benchmark may want to know how long each takes */
#endif

typedef struct {
    int32_t streams, frames; /* stream s, frame f is row s * frames + f */
} Rows;

INLINE int32_t count_of(const Rows rows) { return rows.streams * rows.frames; }

INLINE void multiply_rows(const End end, const Product *product, const Rows rows) {
    if (rows.streams == 1 && rows.frames == 1) {
        multiply_row(end, product);
    } else {
        multiply(product);
    }
}

/* Where the layer keeps its input of a frame: in a stream's ring. */
INLINE float *kept(const Block *block, int32_t k, const Layer *layer, int32_t s, int64_t frame) {
    const uint64_t slot = (uint64_t)frame & (uint64_t)(layer->ring - 1);
    return state_of(block, s) + layer->history + slot * stride_of(block->network->tiers[k].padded);
}

INLINE const float *bias_of(const Block *block, const Layer *layer, int32_t s) {
    return block->network->shape.condition_channels ? state_of(block, s) + layer->conditioned_bias : layer->bias;
}

/* What is heard before the first sample, where silence is no zero. */
static void fill_silence(Block *block) {
    const Network *n = block->network;
    for (int32_t k = 0; OFFSET && k < n->shape.tiers; k++) {
        for (int32_t l = 0; l < n->tiers[k].layer_count; l++) {
            const Layer *layer = &n->tiers[k].layers[l];
            const size_t words = (size_t)layer->ring * stride_of(n->tiers[k].padded);
            for (int32_t s = 0; s < block->streams; s++) {
                memset(state_of(block, s) + layer->history, OFFSET, words * sizeof(float));
            }
        }
    }
}

/* Bias and past taps of a layer for the frames up to `end`, at once; see below. */
static void work_ahead(Block *block, int32_t k, const Layer *layer, float *z, int64_t end) {
    const size_t width = 2 * (size_t)block->network->tiers[k].padded;
    const int64_t frame = block->frame[k];
    Product product;
    begin(&product, &layer->tap[0], NULL, SUMS);
    product.terms = block->network->shape.kernel_size - 1;
    for (int32_t f = 0; f < end - frame; f++) {
        for (int32_t s = 0; s < block->streams; s++, z += width) {
            for (int32_t tap = 0; tap < product.terms; tap++) {
                const int32_t delay = (product.terms - tap) * layer->dilation;
                product.matrix[tap] = &layer->tap[tap];
                product.x[tap][product.rows] = kept(block, k, layer, s, frame + f - delay);
            }
            product.out[product.rows] = z;
            product.start[product.rows++] = bias_of(block, layer, s);
        }
    }
    multiply(&product);
    block->ahead[layer->index] = (Ahead){frame, end};
}

/* Up to which frame a layer should work ahead from this one on. */
static int64_t ahead_until(const Block *block, int32_t k, const Layer *layer) {
    const Network *n = block->network;
    const int64_t frame = block->frame[k];
    const int32_t near = layer->dilation < AHEAD ? layer->dilation : AHEAD;
    int64_t end = frame + near - (frame + layer->index) % near; /* layers take turns, for even work per sample */
    int64_t last = (block->work->position + block->work->steps) / n->tiers[k].period;
    if (n->shape.curve_channels) { /* bias changes with the curve frame */
        const int64_t change = (block->start / n->shape.hop + 1) * n->shape.hop / n->tiers[k].period;
        if (change < last) last = change;
    }
    return end < last ? end : last;
}

/* One stream reads all weights for each sample, so their way from memory limits it. But bias and past taps of a
   layer's next frames, up to its dilation, are known: work them out for several frames at once, reading those
   weights once. The sums are kept and continued, so no bit changes. Returns z of this frame so far, or null. */
INLINE const float *worked_ahead(Block *block, int32_t k, const Layer *layer, const Rows rows) {
    if (!block->ahead || layer->dilation == 1) return NULL;
    if (layer->tap[0].groups * layer->tap[0].outputs < AHEAD_LEAST) return NULL;
    const size_t row = 2 * (size_t)block->network->tiers[k].padded * (size_t)rows.streams;
    float *z = block->ahead_z + layer->ahead * (size_t)(AHEAD * rows.streams);
    const int64_t frame = block->frame[k];
    const Ahead *ahead = &block->ahead[layer->index];
    if (frame < ahead->end) return z + (size_t)(frame - ahead->first) * row;
    const int64_t end = ahead_until(block, k, layer);
    if (end < frame + 2) return NULL;
    work_ahead(block, k, layer, z, end);
    return z;
}

/* z = dilated.weight (a[n - (K-1) d], ..., a[n]) + dilated.bias + condition.weight c;  h = tanh(z_1) sigmoid(z_2) */
INLINE void gated(Block *block, int32_t k, const Layer *layer, float *h, const Rows rows) {
    const int32_t taps = block->network->shape.kernel_size, padded = block->network->tiers[k].padded;
    const float *ahead = worked_ahead(block, k, layer, rows);
    const int32_t first = ahead ? taps - 1 : 0;
    Product product;
    begin(&product, &layer->tap[first], NULL, GATE);
    product.terms = taps - first;
    product.continues = ahead != NULL;
    product.steps = layer->gated_steps;
    for (int32_t tap = first; tap < taps; tap++) product.matrix[tap - first] = &layer->tap[tap];
    for (int32_t s = 0; s < rows.streams; s++) {
        for (int32_t f = 0; f < rows.frames; f++) {
            const int32_t r = product.rows++;
            for (int32_t tap = first; tap < taps; tap++) { /* a[n - delay]: in the block, or in the layer's ring */
                const int32_t delay = (taps - 1 - tap) * layer->dilation;
                product.x[tap - first][r] = f >= delay ? block->x[k] + (size_t)(r - delay) * stride_of(padded)
                                                       : kept(block, k, layer, s, block->frame[k] + f - delay);
            }
            product.next[r] = h + (size_t)r * stride_of(padded);
            if (ahead) product.sums[r] = ahead + (size_t)s * 2 * (size_t)padded;
            product.start[r] = bias_of(block, layer, s);
        }
    }
    multiply_rows(GATE, &product, rows);
}

/* Keep the block's inputs of this layer for later frames. */
INLINE void remember(Block *block, int32_t k, const Layer *layer, const Rows rows) {
    const int32_t padded = block->network->tiers[k].padded;
    const float *x = block->x[k];
    for (int32_t s = 0; s < rows.streams; s++) {
        for (int32_t f = 0; f < rows.frames; f++, x += stride_of(padded)) {
            if (f + layer->ring >= rows.frames) copy_input(kept(block, k, layer, s, block->frame[k] + f), x, padded);
        }
    }
}

/* skip += matrix h, for all rows. */
INLINE void add_skip(Block *block, const Matrix *matrix, const float *h, const Rows rows) {
    const Network *n = block->network;
    Product product;
    begin(&product, matrix, NULL, PLAIN);
    for (int32_t r = 0; r < count_of(rows); r++) {
        float *skip = block->skip + (size_t)r * (size_t)n->skip_padded;
        add_row(&product, skip, skip, h + (size_t)r * stride_of(n->tiers[0].padded));
    }
    multiply_rows(PLAIN, &product, rows);
}

/* a += bias + matrix h, for all rows of a tier; narrowed with `steps`, if any, for whoever reads it next. */
INLINE void add_residual(Block *block, int32_t k, const Layer *layer, const float *h, const float *steps,
                         const Rows rows) {
    const int32_t padded = block->network->tiers[k].padded;
    const End end = NARROWS && (steps || NARROWS == BFLOATS) ? NEXT : PLAIN;
    Product product;
    begin(&product, &layer->residual, layer->residual_bias, end);
    product.steps = steps;
    for (int32_t r = 0; r < count_of(rows); r++) {
        float *a = block->a[k] + (size_t)r * (size_t)padded;
        product.next[r] = block->x[k] + (size_t)r * stride_of(padded);
        add_row(&product, a, a, h + (size_t)r * stride_of(padded));
    }
    multiply_rows(end, &product, rows);
}

/* All layers of a tier, in place: a becomes the tier's output. Without `heard`, only what later samples need.
   A layer's skip waits until the next layer is gated, so that it fills the time that gate and residual take. */
INLINE void run_layers(Block *block, int32_t k, int heard, const Rows rows) {
    const Tier *tier = &block->network->tiers[k];
    const Matrix *waiting = NULL;
    PHASE_DONE(between);
    for (int32_t l = 0; l < tier->layer_count; l++) {
        const Layer *layer = &tier->layers[l];
        float *h = block->h[l % 2];
        const int needed = heard || k > 0 || l + 1 < tier->layer_count;
        if (needed) gated(block, k, layer, h, rows);
        PHASE_DONE(gate);
        remember(block, k, layer, rows);
        PHASE_DONE(history);
        if (!needed) break;
        if (waiting) add_skip(block, waiting, block->h[(l + 1) % 2], rows);
        PHASE_DONE(skip);
        waiting = layer->skip.weight && heard ? &layer->skip : NULL;
        const float *steps = l + 1 < tier->layer_count ? layer[1].input_steps : tier->up_steps;
        if (layer->residual.weight) add_residual(block, k, layer, h, steps, rows);
        PHASE_DONE(residual);
    }
    if (waiting) add_skip(block, waiting, block->h[(tier->layer_count + 1) % 2], rows);
    PHASE_DONE(skip);
}

static void run_tier(Block *block, int32_t k, int heard) {
    const Rows rows = {block->streams, block->frames[k]};
    narrow_stream(block, k, block->network->tiers[k].layers[0].input_steps);
    if (count_of(rows) == 1) {
        run_layers(block, k, heard, (Rows){1, 1});
    } else {
        run_layers(block, k, heard, rows);
    }
}

#endif
