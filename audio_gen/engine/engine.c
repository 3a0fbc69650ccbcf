/* The network, sample by sample or in blocks of known samples.

   Compiled per instruction set and precision (ENGINE_NAME is the symbol, WEIGHT_BITS the precision). All instruction
   sets give the same bits: only IEEE additions, products and quotients in a fixed order, no contraction, and an
   exponential of our own (dot products of bfloat16 excepted). A block of work has one row per (stream, frame);
   drawing makes blocks of one frame, priming of many, through the same code.

   Vectors that a product reads are *inputs*: float32 as they are, or narrowed (see inputs.h). A pointer to inputs
   is a pointer to words, whatever they hold. */
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "matrix.h"

/* ---- The network ---- */

/* What one layer has worked out ahead: for frames `first` to `end`, its bias and the taps from before `first`. */
typedef struct {
    int64_t first, end;
} Ahead;

/* Working memory of one call, and what the rows of the current block are. */
typedef struct {
    const Network *network;
    const Work *work;
    int32_t first_stream, streams; /* of the group that is being run */
    int64_t start;                 /* absolute position of the block's first sample */
    int64_t frame[MAX_TIERS];      /* first frame of each tier in the block */
    int32_t frames[MAX_TIERS];     /* frames of each tier in the block */
    float *a[MAX_TIERS];           /* (rows, C_k): residual stream of each tier */
    float *x[MAX_TIERS];           /* inputs: the same for the product that reads it next (float32: the same memory) */
    float *h[2];                   /* inputs (rows, C): gated outputs of this layer and the one before */
    float *skip, *logits;          /* (rows, ...) */
    float *summed, *hidden;        /* inputs (rows, ...): of the head's two layers */
    float *condition;              /* (streams, D) */
    Ahead *ahead;                  /* (layers), or null: nothing is worked out ahead */
    float *ahead_z;                /* per layer (frames, streams, 2 C) */
    Product product;               /* the one being gathered */
} Block;

INLINE float *state_of(const Block *block, int32_t stream) {
    return block->work->state + (size_t)(block->first_stream + stream) * block->network->state_count;
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

/* Gather rows for one product with `matrix` (more terms may follow), then `finish` it. */
INLINE void begin(Block *block, const Matrix *matrix, const float *bias, End end) {
    block->product.rows = 0;
    block->product.terms = 1;
    block->product.matrix[0] = matrix;
    block->product.bias = bias;
    block->product.continues = 0;
    block->product.end = end;
}

INLINE void add_row(Block *block, float *out, const float *start, const float *x) {
    Product *product = &block->product;
    product->out[product->rows] = out;
    product->start[product->rows] = start;
    product->x[0][product->rows++] = x;
}

INLINE void finish(Block *block) {
    if (block->product.rows) multiply(&block->product);
}

/* The residual stream of a tier as inputs, narrowed with `steps`. */
static void narrow_stream(Block *block, int32_t k, const float *steps) {
    const int32_t padded = block->network->tiers[k].padded, rows = block->streams * block->frames[k];
    if (NARROWS) narrow_rows(block->x[k], block->a[k], steps, rows, padded);
}

/* c = labels + curves.weight curve[frame] + curves.bias, and for every layer bias + condition.weight c. */
static void refresh_conditions(Block *block) {
    const Network *n = block->network;
    const Work *work = block->work;
    const int32_t width = n->condition_padded;
    const float *labels = work->condition + (size_t)block->first_stream * (size_t)width; /* aligned to 4 bytes only */
    memcpy(block->condition, labels, (size_t)(block->streams * width) * sizeof(float));
    if (n->shape.curve_channels) {
        int64_t frame = block->start / n->shape.hop - work->first_curve;
        if (frame >= work->curve_frames) frame = work->curve_frames - 1;
        const int64_t row = block->first_stream * work->curve_frames + frame;
        const float *curve = work->curves + (size_t)row * (size_t)n->shape.curve_channels;
        begin(block, &n->curve, NULL, PLAIN);
        for (int32_t s = 0; s < block->streams; s++, curve += work->curve_frames * n->shape.curve_channels) {
            float *c = block->condition + (size_t)s * (size_t)width;
            add_row(block, c, c, curve);
        }
        multiply_floats(&block->product);
    }
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        for (int32_t l = 0; l < n->tiers[k].layer_count; l++) {
            const Layer *layer = &n->tiers[k].layers[l];
            begin(block, &layer->condition, NULL, PLAIN);
            for (int32_t s = 0; s < block->streams; s++) {
                const float *c = block->condition + (size_t)s * (size_t)width;
                add_row(block, state_of(block, s) + layer->conditioned_bias, layer->bias, c);
            }
            multiply_floats(&block->product);
        }
    }
}

/* x_0[t] = embedding[u[t]], where u is the tokens one step late. */
static void embed(Block *block, int64_t step) {
    const Work *work = block->work;
    const int32_t padded = block->network->tiers[0].padded;
    for (int32_t s = 0; s < block->streams; s++) {
        const int32_t stream = block->first_stream + s;
        const uint16_t *known = work->known ? work->known + (int64_t)stream * work->steps + step : NULL;
        for (int32_t t = 0; t < block->frames[0]; t++) {
            const uint16_t token = t ? known[t - 1] : work->last[stream];
            copy(stream_row(block, 0, s, t), block->network->embedding + (size_t)token * (size_t)padded, padded);
        }
        if (known) work->last[stream] = known[block->frames[0] - 1];
    }
}

/* x_k[j] = down(x_(k-1)[j p], ..., x_(k-1)[j p + p - 1]), one slot after another; the sum of a frame that is not yet
   complete is kept in the state. */
static void pool_down(Block *block, int32_t k) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const int32_t pool = tier->pool, width = tier->padded;
    const int64_t first = block->frame[k - 1], end = first + block->frames[k - 1];
    const int64_t oldest = block->work->origin / n->tiers[k - 1].period; /* frames before it are silence: only bias */
    const int64_t incomplete = block->frame[k] + block->frames[k];
    for (int32_t s = 0; s < block->streams; s++) {
        float *gathering = state_of(block, s) + tier->gathering;
        if (first == oldest) copy(gathering, tier->down_bias, width);
        for (int64_t j = block->frame[k]; j < incomplete; j++) {
            const float *start = j * pool < first ? gathering : tier->down_bias;
            copy(stream_row(block, k, s, (int32_t)(j - block->frame[k])), start, width);
        }
        if (incomplete * pool >= first && incomplete * pool < end) copy(gathering, tier->down_bias, width);
    }
    narrow_stream(block, k - 1, tier->down_steps);
    for (int32_t slot = 0; slot < pool; slot++) {
        begin(block, &tier->down[slot], NULL, PLAIN);
        for (int64_t j = block->frame[k]; j <= incomplete; j++) {
            const int64_t frame = j * pool + slot;
            if (frame < first || frame >= end) continue;
            for (int32_t s = 0; s < block->streams; s++) {
                float *sum = state_of(block, s) + tier->gathering;
                if (j < incomplete) sum = stream_row(block, k, s, (int32_t)(j - block->frame[k]));
                add_row(block, sum, sum, input_row(block, k - 1, s, (int32_t)(frame - first)));
            }
        }
        finish(block);
    }
}

/* a = x_k[i] + up(y_(k+1)[j])[slot], slot = (i + 1) mod p, j = (i + 1) div p - 1, if that frame has been heard. */
static void add_from_above(Block *block, int32_t k) {
    const Tier *tier = &block->network->tiers[k], *above = &block->network->tiers[k + 1];
    for (int32_t slot = 0; slot < above->pool; slot++) {
        begin(block, &above->up[slot], above->up_bias + (size_t)slot * (size_t)tier->padded, PLAIN);
        for (int32_t f = 0; f < block->frames[k]; f++) {
            const int64_t next = block->frame[k] + f + 1;
            const int64_t j = next / above->pool - 1;
            if (next % above->pool != slot || (j + 1) * above->period <= block->work->origin) continue;
            const int64_t local = j - block->frame[k + 1];
            for (int32_t s = 0; s < block->streams; s++) {
                float *a = stream_row(block, k, s, f);
                const float *y = state_of(block, s) + above->output;
                if (local >= 0) y = input_row(block, k + 1, s, (int32_t)local);
                add_row(block, a, a, y);
            }
        }
        finish(block);
    }
}

/* Where the layer keeps its input of a frame: in a stream's ring. */
INLINE float *kept(const Block *block, int32_t k, const Layer *layer, int32_t s, int64_t frame) {
    const uint64_t slot = (uint64_t)frame & (uint64_t)(layer->ring - 1);
    const size_t stride = stride_of(block->network->tiers[k].padded);
    return state_of(block, s) + layer->history + slot * stride;
}

/* a[n - delay] of a layer, for frame n = the block's frame f: in the block, or in the layer's ring. */
INLINE const float *past(const Block *block, int32_t k, const Layer *layer, int32_t s, int32_t f, int32_t delay) {
    if (f >= delay) return input_row(block, k, s, f - delay);
    return kept(block, k, layer, s, block->frame[k] + f - delay);
}

INLINE const float *bias_of(const Block *block, const Layer *layer, int32_t s) {
    return block->network->shape.condition_channels ? state_of(block, s) + layer->conditioned_bias : layer->bias;
}

/* One stream reads all weights for each sample, so their way from memory limits it. But bias and past taps of a
   layer's next frames, up to its dilation, are known: work them out for several frames at once, reading those
   weights once. The sums are kept and continued, so no bit changes. Returns z of this frame so far, or null. */
static float *work_ahead(Block *block, int32_t k, const Layer *layer) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const int64_t frame = block->frame[k];
    const size_t width = 2 * (size_t)tier->padded, row = width * (size_t)block->streams;
    float *z = block->ahead_z + layer->ahead * (size_t)(AHEAD * block->streams);
    Ahead *ahead = &block->ahead[layer->index];
    if (frame < ahead->end) return z + (size_t)(frame - ahead->first) * row;
    const int32_t near = layer->dilation < AHEAD ? layer->dilation : AHEAD;
    int64_t end = frame + near - (frame + layer->index) % near; /* layers take turns, for even work per sample */
    int64_t last = (block->work->position + block->work->steps) / tier->period;
    if (n->shape.curve_channels) { /* bias changes with the curve frame */
        const int64_t change = (block->start / n->shape.hop + 1) * n->shape.hop / tier->period;
        if (change < last) last = change;
    }
    if (end > last) end = last;
    if (end < frame + 2) return NULL;
    begin(block, &layer->tap[0], NULL, SUMS);
    Product *product = &block->product;
    product->terms = n->shape.kernel_size - 1;
    for (int32_t f = 0; f < end - frame; f++) {
        for (int32_t s = 0; s < block->streams; s++) {
            for (int32_t tap = 0; tap < product->terms; tap++) {
                const int32_t delay = (product->terms - tap) * layer->dilation;
                product->matrix[tap] = &layer->tap[tap];
                product->x[tap][product->rows] = kept(block, k, layer, s, frame + f - delay);
            }
            product->out[product->rows] = z + (size_t)f * row + (size_t)s * width;
            product->start[product->rows++] = bias_of(block, layer, s);
        }
    }
    multiply(product);
    *ahead = (Ahead){frame, end};
    return z;
}

/* z = dilated.weight (a[n - (K-1) d], ..., a[n]) + dilated.bias + condition.weight c;  h = tanh(z_1) sigmoid(z_2) */
static void gated(Block *block, int32_t k, const Layer *layer, float *h) {
    const Tier *tier = &block->network->tiers[k];
    const int32_t taps = block->network->shape.kernel_size;
    const float *ahead = block->ahead ? work_ahead(block, k, layer) : NULL;
    const int32_t first = ahead ? taps - 1 : 0;
    begin(block, &layer->tap[first], NULL, GATE);
    Product *product = &block->product;
    product->terms = taps - first;
    product->continues = ahead != NULL;
    product->steps = layer->gated_steps;
    for (int32_t tap = first; tap < taps; tap++) product->matrix[tap - first] = &layer->tap[tap];
    for (int32_t s = 0; s < block->streams; s++) {
        const float *sums = ahead ? ahead + (size_t)s * 2 * (size_t)tier->padded : NULL;
        for (int32_t f = 0; f < block->frames[k]; f++, h += stride_of(tier->padded)) {
            for (int32_t tap = first; tap < taps; tap++) {
                const int32_t delay = (taps - 1 - tap) * layer->dilation;
                product->x[tap - first][product->rows] = past(block, k, layer, s, f, delay);
            }
            product->next[product->rows] = h;
            product->sums[product->rows] = sums;
            product->start[product->rows++] = bias_of(block, layer, s);
        }
    }
    multiply(product);
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

/* Keep the block's inputs of this layer for later frames. */
static void remember(Block *block, int32_t k, const Layer *layer) {
    const int32_t padded = block->network->tiers[k].padded, frames = block->frames[k];
    for (int32_t s = 0; s < block->streams; s++) {
        for (int32_t f = frames > layer->ring ? frames - layer->ring : 0; f < frames; f++) {
            copy_input(kept(block, k, layer, s, block->frame[k] + f), input_row(block, k, s, f), padded);
        }
    }
}

/* skip += matrix h, for all rows. */
static void add_skip(Block *block, const Matrix *matrix, const float *h) {
    const Network *n = block->network;
    float *skip = block->skip;
    begin(block, matrix, NULL, PLAIN);
    for (int32_t r = 0; r < block->streams * block->frames[0]; r++, skip += n->skip_padded) {
        add_row(block, skip, skip, h + (size_t)r * stride_of(n->tiers[0].padded));
    }
    finish(block);
}

/* a += bias + matrix h, for all rows of a tier; narrowed with `steps`, if any, for whoever reads it next. */
static void add_residual(Block *block, int32_t k, const Layer *layer, const float *h, const float *steps) {
    const int32_t padded = block->network->tiers[k].padded;
    float *a = block->a[k];
    begin(block, &layer->residual, layer->residual_bias, steps || NARROWS == BFLOATS ? NEXT : PLAIN);
    block->product.steps = steps;
    for (int32_t r = 0; r < block->streams * block->frames[k]; r++, a += padded) {
        block->product.next[r] = block->x[k] + (size_t)r * stride_of(padded);
        add_row(block, a, a, h + (size_t)r * stride_of(padded));
    }
    finish(block);
}

/* All layers of a tier, in place: a becomes the tier's output. Without `heard`, only what later samples need.
   A layer's skip waits until the next layer is gated, so that it fills the time that gate and residual take. */
static void run_tier(Block *block, int32_t k, int heard) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const Matrix *waiting = NULL;
    narrow_stream(block, k, tier->layers[0].input_steps);
    for (int32_t l = 0; l < tier->layer_count; l++) {
        const Layer *layer = &tier->layers[l];
        float *h = block->h[l % 2];
        const int needed = heard || k > 0 || l + 1 < tier->layer_count;
        if (needed) gated(block, k, layer, h);
        remember(block, k, layer);
        if (!needed) break;
        if (waiting) add_skip(block, waiting, block->h[(l + 1) % 2]);
        waiting = layer->skip.weight && heard ? &layer->skip : NULL;
        const float *steps = l + 1 < tier->layer_count ? layer[1].input_steps : tier->up_steps;
        if (layer->residual.weight) add_residual(block, k, layer, h, steps);
    }
    if (waiting) add_skip(block, waiting, block->h[(tier->layer_count + 1) % 2]);
}

/* logits = head.logits(relu(head.hidden(relu(skip sum, or the last residual stream)))) */
static void head(Block *block) {
    const Network *n = block->network;
    const int32_t rows = block->streams * block->frames[0];
    const int32_t width = n->skip_padded ? n->skip_padded : n->tiers[0].padded;
    float *g = n->skip_padded ? block->skip : block->a[0];
    relu(g, rows * width);
    if (NARROWS) narrow_rows(block->summed, g, n->hidden_steps, rows, width);
    const float *summed = NARROWS ? block->summed : g;
    begin(block, &n->hidden, NULL, RELU);
    block->product.steps = n->logits_steps;
    for (int32_t r = 0; r < rows; r++) {
        block->product.next[r] = block->hidden + (size_t)r * stride_of(n->head_padded);
        add_row(block, NULL, n->hidden_bias, summed + (size_t)r * stride_of(width));
    }
    finish(block);
    begin(block, &n->logits, NULL, PLAIN);
    for (int32_t r = 0; r < rows; r++) {
        float *logits = block->logits + (size_t)r * (size_t)n->shape.levels;
        add_row(block, logits, n->logits_bias, block->hidden + (size_t)r * stride_of(n->head_padded));
    }
    finish(block);
}

/* The network on the block's samples: from embeddings up to the slowest tier, and down again to the logits. */
static void run_block(Block *block, int64_t step, int32_t samples, int heard) {
    const Network *n = block->network;
    const int64_t end = block->start + samples;
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        block->frame[k] = block->start / n->tiers[k].period;
        block->frames[k] = (int32_t)(end / n->tiers[k].period - block->frame[k]);
    }
    if (n->shape.condition_channels &&
        (block->start == block->work->origin || (n->shape.curve_channels && block->start % n->shape.hop == 0))) {
        refresh_conditions(block);
    }
    embed(block, step);
    for (int32_t k = 1; k < n->shape.tiers && block->frames[k - 1]; k++) pool_down(block, k);
    if (heard && n->skip_padded) {
        for (int32_t r = 0; r < block->streams * samples; r++) {
            copy(block->skip + (size_t)r * (size_t)n->skip_padded, n->skip_bias, n->skip_padded);
        }
    }
    for (int32_t k = n->shape.tiers - 1; k >= 0; k--) {
        if (!block->frames[k]) continue;
        if (k + 1 < n->shape.tiers) add_from_above(block, k);
        run_tier(block, k, heard);
        if (k + 1 < n->shape.tiers && block->frames[k + 1]) {
            const Tier *above = &n->tiers[k + 1];
            for (int32_t s = 0; s < block->streams; s++) {
                const float *y = input_row(block, k + 1, s, block->frames[k + 1] - 1);
                copy_input(state_of(block, s) + above->output, y, above->padded);
            }
        }
    }
    if (heard) head(block);
}

/* ---- One call ---- */

#ifndef SAMPLE_DRAWN
#define SAMPLE_DRAWN(at) ((void)0) /* a benchmark may want to know when */
#endif

/* How many samples the next block holds: one when drawing, else as many as fit and share one curve frame. */
static int32_t block_samples(const Block *block, int64_t step) {
    const Work *work = block->work;
    const Shape *shape = &block->network->shape;
    if (!work->known) return 1;
    int64_t samples = MAX_ROWS / block->streams;
    if (samples > work->steps - step) samples = work->steps - step;
    if (shape->curve_channels && samples > shape->hop - block->start % shape->hop) {
        samples = shape->hop - block->start % shape->hop;
    }
    return (int32_t)samples;
}

static int32_t run_group(Block *block) {
    const Work *work = block->work;
    const int32_t levels = block->network->shape.levels;
    if (work->position == work->origin) fill_silence(block);
    for (int64_t step = 0; step < work->steps;) {
        block->start = work->position + step;
        const int32_t samples = block_samples(block, step);
        run_block(block, step, samples, work->logits || work->log_probabilities || !work->known);
        for (int32_t s = 0; s < block->streams; s++) {
            const int32_t stream = block->first_stream + s;
            const int64_t at = (int64_t)stream * work->steps + step;
            const float *logits = block->logits + (size_t)s * (size_t)samples * (size_t)levels;
            if (work->logits) {
                memcpy(work->logits + (size_t)at * (size_t)levels, logits, (size_t)(samples * levels) * sizeof(float));
            }
            for (int32_t t = 0; work->known && work->log_probabilities && t < samples; t++) {
                work->log_probabilities[at + t] = log_probability(logits + t * levels, levels, work->known[at + t]);
            }
            if (work->known) continue;
            const int32_t token = draw_token(logits, levels, &work->draws[stream], work->coins[at]);
            if (token < 0) return ENGINE_NOT_FINITE;
            work->drawn[at] = work->last[stream] = (uint16_t)token;
            if (work->log_probabilities) work->log_probabilities[at] = log_probability(logits, levels, token);
            SAMPLE_DRAWN(at);
        }
        step += samples;
    }
    return ENGINE_OK;
}

/* Room for `count` words at a 64-byte boundary of a buffer that is being laid out; `base` may be null. */
static float *lay(float *base, size_t *used, size_t count) {
    float *place = base ? base + *used : NULL;
    *used += (count + NARROW - 1) / NARROW * NARROW;
    return place;
}

/* The same for the block's inputs of `padded` channels: their first one. */
static float *lay_inputs(float *base, size_t *used, int32_t padded) {
    return lay(base, used, MAX_ROWS * stride_of(padded));
}

/* Cuts the working memory for groups of `streams` streams out of `base`; returns the words it takes. */
static size_t lay_out(Block *block, float *base, int32_t streams) {
    const Network *n = block->network;
    size_t used = 0;
    int32_t widest = 0;
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        const int32_t padded = n->tiers[k].padded;
        block->a[k] = lay(base, &used, MAX_ROWS * (size_t)padded);
        block->x[k] = NARROWS ? lay_inputs(base, &used, padded) : block->a[k];
        if (padded > widest) widest = padded;
    }
    for (int i = 0; i < 2; i++) block->h[i] = lay_inputs(base, &used, widest);
    block->skip = lay(base, &used, MAX_ROWS * (size_t)n->skip_padded);
    block->summed = NARROWS ? lay_inputs(base, &used, n->skip_padded ? n->skip_padded : n->tiers[0].padded) : NULL;
    block->hidden = lay_inputs(base, &used, n->head_padded);
    block->logits = lay(base, &used, MAX_ROWS * (size_t)n->shape.levels);
    block->condition = lay(base, &used, (size_t)streams * (size_t)n->condition_padded);
    if (!block->work->known && streams <= AHEAD_STREAMS && block->work->steps > 1) {
        block->ahead = (Ahead *)lay(base, &used, (size_t)n->layer_count * (sizeof(Ahead) / sizeof(float)));
        block->ahead_z = lay(base, &used, n->ahead_count * (size_t)(AHEAD * streams));
    }
    return used;
}

static int32_t run(const Network *network, const Work *work) {
    const int32_t group = work->streams < MAX_ROWS ? work->streams : MAX_ROWS;
    Block *block = calloc(1, sizeof(Block));
    if (!block) return ENGINE_NO_MEMORY;
    block->network = network;
    block->work = work;
    char *memory = malloc(lay_out(block, NULL, group) * sizeof(float) + 64);
    int32_t result = memory ? ENGINE_OK : ENGINE_NO_MEMORY;
    if (memory) lay_out(block, (float *)(memory + (64 - (uintptr_t)memory % 64)), group);
    for (int32_t first = 0; first < work->streams && result == ENGINE_OK; first += group) {
        block->first_stream = first;
        block->streams = work->streams - first < group ? work->streams - first : group;
        if (block->ahead) memset(block->ahead, 0, (size_t)network->layer_count * sizeof(Ahead));
        result = run_group(block);
    }
    free(memory);
    free(block);
    return result;
}

const Kernels ENGINE_NAME = {run, draw_token, PER_WORD};
