/* The network, sample by sample or in blocks of known samples, and the draw.

   Compiled once per instruction set (ENGINE_NAME is the suffix); all of them give the same bits: only IEEE additions,
   products and quotients in a fixed order, no contraction, and an exponential of our own. A block of work has one row
   per (stream, frame); drawing makes blocks of one frame, priming of many, through the same code. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "matrix.h"

/* ---- The draw ---- */

enum { GROUP = 16 }; /* tokens whose weights are summed as a tree */

/* The sum of 16 weights, as a tree. */
INLINE float sum16(const float *w) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = w[i] + w[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static float sum_weights(const float *w, int32_t levels) {
    float total = 0.0f;
    for (int32_t i = 0; i < levels; i += GROUP) total += sum16(w + i);
    return total;
}

/* Larger weight first, then lower index: the order of these keys, descending. */
INLINE uint64_t rank_key(float weight, int32_t index) {
    union { float value; uint32_t bits; } number = {weight};
    return (uint64_t)number.bits << 32 | (uint32_t)(MAX_LEVELS - index);
}

static void sift_down(uint64_t *heap, int32_t count, int32_t parent) {
    const uint64_t key = heap[parent];
    for (int32_t child; (child = 2 * parent + 1) < count; parent = child) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= key) break;
        heap[parent] = heap[child];
    }
    heap[parent] = key;
}

/* Zero all weights but the largest ones: at most `most` of them, and no more than reach the sum `enough`. */
static void keep_largest(float *w, int32_t levels, int32_t most, float enough) {
    uint64_t heap[MAX_LEVELS];
    int32_t count = 0;
    for (int32_t i = 0; i < levels; i++) {
        if (w[i] > 0.0f) heap[count++] = rank_key(w[i], i);
        w[i] = 0.0f;
    }
    for (int32_t i = count / 2 - 1; i >= 0; i--) sift_down(heap, count, i);
    float sum = 0.0f;
    for (int32_t kept = 0; kept < most && count > 0 && !(kept > 0 && sum >= enough); kept++) {
        union { uint32_t bits; float value; } number = {(uint32_t)(heap[0] >> 32)};
        w[MAX_LEVELS - (int32_t)(uint32_t)heap[0]] = number.value;
        sum += number.value;
        heap[0] = heap[--count];
        sift_down(heap, count, 0);
    }
}

/* The first index whose cumulative weight exceeds coin * total. */
static int32_t pick(const float *w, int32_t levels, float coin) {
    const float target = coin * sum_weights(w, levels);
    float before = 0.0f;
    int32_t block = 0, kept = -1;
    for (; block + GROUP < levels; block += GROUP) {
        const float after = before + sum16(w + block);
        if (after > target) break;
        before = after;
    }
    for (int32_t i = block; i < block + GROUP; i++) {
        if (w[i] <= 0.0f) continue;
        kept = i;
        before += w[i];
        if (before > target) return i;
    }
    if (kept >= 0) return kept; /* rounding left none: the last one kept */
    for (kept = levels - 1; kept > 0 && w[kept] <= 0.0f; kept--) {}
    return kept;
}

/* One token from the logits (64-byte aligned) and a coin in [0, 1); -1 if a logit is not finite. */
static int32_t draw_token(const float *logits, int32_t levels, const Draw *draw, float coin) {
    float lane[GROUP];
    _Alignas(64) float w[MAX_LEVELS];
    int32_t strange[GROUP] = {0};
    for (int32_t i = 0; i < GROUP; i++) lane[i] = logits[i];
    for (int32_t block = 0; block < levels; block += GROUP) {
        for (int32_t i = 0; i < GROUP; i++) {
            const float logit = logits[block + i];
            lane[i] = logit > lane[i] ? logit : lane[i];
            strange[i] |= !(logit - logit == 0.0f);
        }
    }
    float max = lane[0];
    for (int32_t i = 0; i < GROUP; i++) {
        if (strange[i]) return -1;
        if (lane[i] > max) max = lane[i];
    }
    if (draw->temperature == 0.0f) {
        int32_t best = 0;
        while (logits[best] < max) best++;
        return best;
    }
    float scale = 1.44269504f / draw->temperature; /* log2(e) / temperature */
    scale = scale < 1e30f ? scale : 1e30f;
    for (int32_t i = 0; i < levels; i += LANES) {
        store(w + i, exp2_vec(larger((load(logits + i) - max) * scale, all(-126.0f))));
    }
    if (draw->top_k > 0 && draw->top_k < levels) keep_largest(w, levels, draw->top_k, 1e30f);
    if (draw->min_p > 0.0f) {
        for (int32_t i = 0; i < levels; i++) w[i] = w[i] >= draw->min_p ? w[i] : 0.0f;
    }
    if (draw->top_p < 1.0f) keep_largest(w, levels, levels, draw->top_p * sum_weights(w, levels));
    return pick(w, levels, coin);
}

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
    float *h[2];                   /* (rows, C): gated outputs of this layer and the one before */
    float *skip, *hidden, *logits; /* (rows, ...) */
    float *condition;              /* (streams, D) */
    Ahead *ahead;                  /* (layers), or null: nothing is worked out ahead */
    float *ahead_z;                /* per layer (frames, streams, 2 C) */
    Product product;               /* the one being gathered */
} Block;

INLINE float *state_of(const Block *block, int32_t stream) {
    return block->work->state + (size_t)(block->first_stream + stream) * block->network->state_count;
}

INLINE float *row_of(const Block *block, int32_t tier, int32_t stream, int32_t frame) {
    const size_t row = (size_t)stream * (size_t)block->frames[tier] + (size_t)frame;
    return block->a[tier] + row * (size_t)block->network->tiers[tier].padded;
}

/* Gather rows for one product with `matrix` (more terms may follow), then `finish` it. */
INLINE void begin(Block *block, const Matrix *matrix, const float *bias, End end) {
    block->product.rows = 0;
    block->product.terms = 1;
    block->product.matrix[0] = matrix;
    block->product.bias = bias;
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

/* out[row] += bias + matrix x[row], for rows stored one after another; those of x are `width` wide. */
static void add_product(Block *block, const Matrix *matrix, int32_t rows, float *out, const float *bias,
                        const float *x, int32_t width) {
    begin(block, matrix, bias, PLAIN);
    for (int32_t r = 0; r < rows; r++, out += matrix->outputs, x += width) add_row(block, out, out, x);
    finish(block);
}

/* c = labels + curves.weight curve[frame] + curves.bias, and for every layer bias + condition.weight c. */
static void refresh_conditions(Block *block) {
    const Network *n = block->network;
    const Work *work = block->work;
    const int32_t width = n->condition_padded;
    copy(block->condition, work->condition + (size_t)block->first_stream * (size_t)width, block->streams * width);
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
        finish(block);
    }
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        for (int32_t l = 0; l < n->tiers[k].layer_count; l++) {
            const Layer *layer = &n->tiers[k].layers[l];
            begin(block, &layer->condition, NULL, PLAIN);
            for (int32_t s = 0; s < block->streams; s++) {
                const float *c = block->condition + (size_t)s * (size_t)width;
                add_row(block, state_of(block, s) + layer->conditioned_bias, layer->bias, c);
            }
            finish(block);
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
            copy(row_of(block, 0, s, t), block->network->embedding + (size_t)token * (size_t)padded, padded);
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
            copy(row_of(block, k, s, (int32_t)(j - block->frame[k])), start, width);
        }
        if (incomplete * pool >= first && incomplete * pool < end) copy(gathering, tier->down_bias, width);
    }
    for (int32_t slot = 0; slot < pool; slot++) {
        begin(block, &tier->down[slot], NULL, PLAIN);
        for (int64_t j = block->frame[k]; j <= incomplete; j++) {
            const int64_t frame = j * pool + slot;
            if (frame < first || frame >= end) continue;
            for (int32_t s = 0; s < block->streams; s++) {
                float *sum = state_of(block, s) + tier->gathering;
                if (j < incomplete) sum = row_of(block, k, s, (int32_t)(j - block->frame[k]));
                add_row(block, sum, sum, row_of(block, k - 1, s, (int32_t)(frame - first)));
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
                float *a = row_of(block, k, s, f);
                const float *y = state_of(block, s) + above->output;
                if (local >= 0) y = row_of(block, k + 1, s, (int32_t)local);
                add_row(block, a, a, y);
            }
        }
        finish(block);
    }
}

/* a[n - delay] of a layer, for frame n = the block's frame f: in the block, or in the layer's ring. */
INLINE const float *past(const Block *block, int32_t k, const Layer *layer, int32_t s, int32_t f, int32_t delay) {
    if (f >= delay) return row_of(block, k, s, f - delay);
    const uint64_t slot = (uint64_t)(block->frame[k] + f - delay) & (uint64_t)(layer->ring - 1);
    return state_of(block, s) + layer->history + slot * (size_t)block->network->tiers[k].padded;
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
    begin(block, &layer->tap[0], NULL, PLAIN);
    Product *product = &block->product;
    product->terms = n->shape.kernel_size - 1;
    for (int32_t f = 0; f < end - frame; f++) {
        for (int32_t s = 0; s < block->streams; s++) {
            for (int32_t tap = 0; tap < product->terms; tap++) {
                const int32_t delay = (product->terms - tap) * layer->dilation;
                const uint64_t slot = (uint64_t)(frame + f - delay) & (uint64_t)(layer->ring - 1);
                product->matrix[tap] = &layer->tap[tap];
                product->x[tap][product->rows] = state_of(block, s) + layer->history + slot * (size_t)tier->padded;
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
    for (int32_t tap = first; tap < taps; tap++) product->matrix[tap - first] = &layer->tap[tap];
    for (int32_t s = 0; s < block->streams; s++) {
        const float *start = ahead ? ahead + (size_t)s * 2 * (size_t)tier->padded : bias_of(block, layer, s);
        for (int32_t f = 0; f < block->frames[k]; f++, h += tier->padded) {
            for (int32_t tap = first; tap < taps; tap++) {
                const int32_t delay = (taps - 1 - tap) * layer->dilation;
                product->x[tap - first][product->rows] = past(block, k, layer, s, f, delay);
            }
            product->out[product->rows] = h;
            product->start[product->rows++] = start;
        }
    }
    multiply(product);
}

/* Keep the block's inputs of this layer for later frames. */
static void remember(Block *block, int32_t k, const Layer *layer) {
    const int32_t padded = block->network->tiers[k].padded, frames = block->frames[k];
    for (int32_t s = 0; s < block->streams; s++) {
        float *history = state_of(block, s) + layer->history;
        for (int32_t f = frames > layer->ring ? frames - layer->ring : 0; f < frames; f++) {
            const uint64_t slot = (uint64_t)(block->frame[k] + f) & (uint64_t)(layer->ring - 1);
            copy(history + slot * (size_t)padded, row_of(block, k, s, f), padded);
        }
    }
}

/* All layers of a tier, in place: a becomes the tier's output. Without `heard`, only what later samples need.
   A layer's skip waits until the next layer is gated, so that it fills the time that gate and residual take. */
static void run_tier(Block *block, int32_t k, int heard) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const int32_t padded = tier->padded, rows = block->streams * block->frames[k];
    const Matrix *waiting = NULL;
    for (int32_t l = 0; l < tier->layer_count; l++) {
        const Layer *layer = &tier->layers[l];
        float *h = block->h[l % 2];
        const int needed = heard || k > 0 || l + 1 < tier->layer_count;
        if (needed) gated(block, k, layer, h);
        remember(block, k, layer);
        if (!needed) break;
        if (waiting) add_product(block, waiting, rows, block->skip, NULL, block->h[(l + 1) % 2], padded);
        waiting = layer->skip.weight && heard ? &layer->skip : NULL;
        if (layer->residual.weight) {
            add_product(block, &layer->residual, rows, block->a[k], layer->residual_bias, h, padded);
        }
    }
    const float *h = block->h[(tier->layer_count + 1) % 2];
    if (waiting) add_product(block, waiting, rows, block->skip, NULL, h, padded);
}

/* logits = head.logits(relu(head.hidden(relu(skip sum, or the last residual stream)))) */
static void head(Block *block) {
    const Network *n = block->network;
    const int32_t rows = block->streams * block->frames[0];
    const int32_t width = n->skip_padded ? n->skip_padded : n->tiers[0].padded;
    float *g = n->skip_padded ? block->skip : block->a[0];
    relu(g, rows * width);
    begin(block, &n->hidden, NULL, RELU);
    for (int32_t r = 0; r < rows; r++) {
        float *q = block->hidden + (size_t)r * (size_t)n->head_padded;
        add_row(block, q, n->hidden_bias, g + (size_t)r * (size_t)width);
    }
    finish(block);
    begin(block, &n->logits, NULL, PLAIN);
    for (int32_t r = 0; r < rows; r++) {
        float *logits = block->logits + (size_t)r * (size_t)n->shape.levels;
        add_row(block, logits, n->logits_bias, block->hidden + (size_t)r * (size_t)n->head_padded);
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
                const float *y = row_of(block, k + 1, s, block->frames[k + 1] - 1);
                copy(state_of(block, s) + above->output, y, above->padded);
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
    for (int64_t step = 0; step < work->steps;) {
        block->start = work->position + step;
        const int32_t samples = block_samples(block, step);
        run_block(block, step, samples, work->logits != NULL || !work->known);
        for (int32_t s = 0; s < block->streams; s++) {
            const int32_t stream = block->first_stream + s;
            const int64_t at = (int64_t)stream * work->steps + step;
            const float *logits = block->logits + (size_t)s * (size_t)samples * (size_t)levels;
            if (work->logits) {
                memcpy(work->logits + (size_t)at * (size_t)levels, logits, (size_t)(samples * levels) * sizeof(float));
            }
            if (work->known) continue;
            const int32_t token = draw_token(logits, levels, &work->draws[stream], work->coins[at]);
            if (token < 0) return ENGINE_NOT_FINITE;
            work->drawn[at] = work->last[stream] = (uint16_t)token;
            SAMPLE_DRAWN(at);
        }
        step += samples;
    }
    return ENGINE_OK;
}

/* Room for `count` floats at a 64-byte boundary of a buffer that is being laid out; `base` may be null. */
static float *lay(float *base, size_t *used, size_t count) {
    float *place = base ? base + *used : NULL;
    *used += (count + NARROW - 1) / NARROW * NARROW;
    return place;
}

/* Cuts the working memory for groups of `streams` streams out of `base`; returns the floats it takes. */
static size_t lay_out(Block *block, float *base, int32_t streams) {
    const Network *n = block->network;
    size_t used = 0, widest = 0;
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        const size_t padded = (size_t)n->tiers[k].padded;
        block->a[k] = lay(base, &used, MAX_ROWS * padded);
        if (padded > widest) widest = padded;
    }
    for (int i = 0; i < 2; i++) block->h[i] = lay(base, &used, MAX_ROWS * widest);
    block->skip = lay(base, &used, MAX_ROWS * (size_t)n->skip_padded);
    block->hidden = lay(base, &used, MAX_ROWS * (size_t)n->head_padded);
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

#define JOIN(name, suffix) name##suffix
#define EXPAND(name, suffix) JOIN(name, suffix)
const Kernels EXPAND(engine_, ENGINE_NAME) = {run, draw_token};
