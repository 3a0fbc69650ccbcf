/* The network, sample by sample or in blocks of known samples, and the draw.

   Compiled once per instruction set (ENGINE_NAME is the suffix); all of them give the same bits: only IEEE additions,
   products and quotients in a fixed order, no contraction, and an exponential of our own. A block of work has one row
   per (stream, frame); drawing makes blocks of one frame, priming of many, through the same code. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "matrix.h"

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "the engine needs plain float arithmetic; on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

/* ---- Functions of one number ---- */

/* 2^x for x in [-126, 126], clamped outside (and for NaN). Relative error below 2^-23; 2^0 is exactly 1. */
INLINE float exp2_clamped(float x) {
    union { float value; uint32_t bits; } shifted, power;
    x = x > -126.0f ? x : -126.0f;
    x = x < 126.0f ? x : 126.0f;
    shifted.value = x + 12582912.0f; /* 1.5 * 2^23: the low bits now hold x rounded to an integer */
    const float f = x - (shifted.value - 12582912.0f);
    power.bits = (shifted.bits << 23) + 0x3f800000u;
    float p = 0.00015353362f;
    p = p * f + 0.0013398875f;
    p = p * f + 0.00961843692f;
    p = p * f + 0.0555033237f;
    p = p * f + 0.240226477f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
    return p * power.value;
}

/* tanh(a) sigmoid(b), where the packed weights already hold a' = -2 log2(e) a and b' = -log2(e) b:
   tanh(a) = (1 - 2^a') / (1 + 2^a'),  sigmoid(b) = 1 / (1 + 2^b'). */
INLINE float gate_value(float a, float b) {
    a = a > -60.0f ? a : -60.0f; /* keeps the product of the two below the largest float */
    a = a < 60.0f ? a : 60.0f;
    b = b > -60.0f ? b : -60.0f;
    b = b < 60.0f ? b : 60.0f;
    const float ea = exp2_clamped(a), eb = exp2_clamped(b);
    return (1.0f - ea) / ((1.0f + ea) * (1.0f + eb));
}

/* h (padded) from z (2 padded, interleaved by 16). */
static void gate(const float *restrict z, float *restrict h, int32_t padded) {
    for (int32_t c = 0; c < padded; c += PAD, z += 2 * PAD) {
        for (int32_t i = 0; i < PAD; i++) h[c + i] = gate_value(z[i], z[PAD + i]);
    }
}

INLINE void copy(float *restrict y, const float *restrict x, int32_t count) {
    memcpy(y, x, (size_t)count * sizeof *y);
}

INLINE void add(float *restrict y, const float *restrict x, int32_t count) {
    for (int32_t i = 0; i < count; i++) y[i] += x[i];
}

INLINE void relu(float *y, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = y[i] > 0.0f ? y[i] : 0.0f;
}

/* ---- The draw ---- */

/* The sum of 16 weights, as a tree. */
INLINE float sum16(const float *w) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = w[i] + w[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static float sum_weights(const float *w, int32_t levels) {
    float total = 0.0f;
    for (int32_t i = 0; i < levels; i += PAD) total += sum16(w + i);
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
    for (; block + PAD < levels; block += PAD) {
        const float after = before + sum16(w + block);
        if (after > target) break;
        before = after;
    }
    for (int32_t i = block; i < block + PAD; i++) {
        if (w[i] <= 0.0f) continue;
        kept = i;
        before += w[i];
        if (before > target) return i;
    }
    if (kept >= 0) return kept; /* rounding left none: the last one kept */
    for (kept = levels - 1; kept > 0 && w[kept] <= 0.0f; kept--) {}
    return kept;
}

/* One token from the logits and a coin in [0, 1); -1 if a logit is not finite. */
static int32_t draw_token(const float *logits, int32_t levels, const Draw *draw, float coin) {
    float lane[PAD], w[MAX_LEVELS];
    int32_t strange[PAD] = {0};
    for (int32_t i = 0; i < PAD; i++) lane[i] = logits[i];
    for (int32_t block = 0; block < levels; block += PAD) {
        for (int32_t i = 0; i < PAD; i++) {
            const float logit = logits[block + i];
            lane[i] = logit > lane[i] ? logit : lane[i];
            strange[i] |= !(logit - logit == 0.0f);
        }
    }
    float max = lane[0];
    for (int32_t i = 0; i < PAD; i++) {
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
    for (int32_t i = 0; i < levels; i++) w[i] = exp2_clamped((logits[i] - max) * scale);
    if (draw->top_k > 0 && draw->top_k < levels) keep_largest(w, levels, draw->top_k, 1e30f);
    if (draw->min_p > 0.0f) {
        for (int32_t i = 0; i < levels; i++) w[i] = w[i] >= draw->min_p ? w[i] : 0.0f;
    }
    if (draw->top_p < 1.0f) keep_largest(w, levels, levels, draw->top_p * sum_weights(w, levels));
    return pick(w, levels, coin);
}

/* ---- The network ---- */

/* Working memory of one call, and what the rows of the current block are. */
typedef struct {
    const Network *network;
    const Work *work;
    int32_t first_stream, streams; /* of the group that is being run */
    int64_t start;                 /* absolute position of the block's first sample */
    int64_t frame[MAX_TIERS];      /* first frame of each tier in the block */
    int32_t frames[MAX_TIERS];     /* frames of each tier in the block */
    float *a[MAX_TIERS];           /* (rows, C_k): residual stream of each tier */
    float *z, *h, *skip, *hidden, *logits; /* (rows, ...) */
    float *condition;              /* (streams, D) */
    const float *x[MAX_ROWS];      /* rows of a product's inputs ... */
    float *y[MAX_ROWS];            /* ... and outputs */
    int32_t count;                 /* rows gathered in them */
} Block;

INLINE float *state_of(const Block *block, int32_t stream) {
    return block->work->state + (size_t)(block->first_stream + stream) * block->network->state_count;
}

INLINE float *row_of(const Block *block, int32_t tier, int32_t stream, int32_t frame) {
    const size_t row = (size_t)stream * (size_t)block->frames[tier] + (size_t)frame;
    return block->a[tier] + row * (size_t)block->network->tiers[tier].padded;
}

INLINE void gather(Block *block, float *y, const float *x) {
    block->y[block->count] = y;
    block->x[block->count++] = x;
}

/* The rows gathered since the last call: y += matrix x. */
INLINE void multiply(Block *block, const Matrix *matrix) {
    accumulate(matrix, block->count, block->y, block->x);
    block->count = 0;
}

/* y[row] += matrix x[row] for rows stored one after another. */
static void multiply_rows(Block *block, const Matrix *matrix, int32_t rows, float *y, const float *x, int32_t width) {
    for (int32_t r = 0; r < rows; r++) gather(block, y + (size_t)r * (size_t)matrix->outputs, x + (size_t)r * (size_t)width);
    multiply(block, matrix);
}

/* c = labels + curves.weight curve[frame] + curves.bias, and for every layer bias + condition.weight c. */
static void refresh_conditions(Block *block) {
    const Network *n = block->network;
    const Work *work = block->work;
    const int32_t width = n->condition_padded;
    copy(block->condition, work->condition + (size_t)block->first_stream * (size_t)width, block->streams * width);
    if (n->shape.curve_channels) {
        int64_t frame = block->start / n->shape.hop;
        if (frame >= work->curve_frames) frame = work->curve_frames - 1;
        for (int32_t s = 0; s < block->streams; s++) {
            const int64_t row = (int64_t)(block->first_stream + s) * work->curve_frames + frame;
            gather(block, block->condition + (size_t)s * (size_t)width, work->curves + (size_t)row * (size_t)n->shape.curve_channels);
        }
        multiply(block, &n->curve);
    }
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        for (int32_t l = 0; l < n->tiers[k].layer_count; l++) {
            const Layer *layer = &n->tiers[k].layers[l];
            for (int32_t s = 0; s < block->streams; s++) {
                float *bias = state_of(block, s) + layer->conditioned_bias;
                copy(bias, layer->bias, layer->condition.outputs);
                gather(block, bias, block->condition + (size_t)s * (size_t)width);
            }
            multiply(block, &layer->condition);
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
            copy(row_of(block, k, s, (int32_t)(j - block->frame[k])), j * pool < first ? gathering : tier->down_bias, width);
        }
        if (incomplete * pool >= first && incomplete * pool < end) copy(gathering, tier->down_bias, width);
    }
    for (int32_t slot = 0; slot < pool; slot++) {
        for (int64_t j = block->frame[k]; j <= incomplete; j++) {
            const int64_t frame = j * pool + slot;
            if (frame < first || frame >= end) continue;
            for (int32_t s = 0; s < block->streams; s++) {
                float *sum = j < incomplete ? row_of(block, k, s, (int32_t)(j - block->frame[k])) : state_of(block, s) + tier->gathering;
                gather(block, sum, row_of(block, k - 1, s, (int32_t)(frame - first)));
            }
        }
        multiply(block, &tier->down[slot]);
    }
}

/* a = x_k[i] + up(y_(k+1)[j])[slot], slot = (i + 1) mod p, j = (i + 1) div p - 1, if that frame has been heard. */
static void add_from_above(Block *block, int32_t k) {
    const Tier *tier = &block->network->tiers[k], *above = &block->network->tiers[k + 1];
    for (int32_t slot = 0; slot < above->pool; slot++) {
        for (int32_t f = 0; f < block->frames[k]; f++) {
            const int64_t next = block->frame[k] + f + 1;
            const int64_t j = next / above->pool - 1;
            if (next % above->pool != slot || (j + 1) * above->period <= block->work->origin) continue;
            const int64_t local = j - block->frame[k + 1];
            for (int32_t s = 0; s < block->streams; s++) {
                float *a = row_of(block, k, s, f);
                add(a, above->up_bias + (size_t)slot * (size_t)tier->padded, tier->padded);
                gather(block, a, local >= 0 ? row_of(block, k + 1, s, (int32_t)local) : state_of(block, s) + above->output);
            }
        }
        multiply(block, &above->up[slot]);
    }
}

/* z = dilated.weight (a[n - (K-1) d], ..., a[n]) + dilated.bias + condition.weight c */
static void dilated(Block *block, int32_t k, const Layer *layer) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const int32_t frames = block->frames[k], taps = n->shape.kernel_size;
    const size_t width = 2 * (size_t)tier->padded;
    float *z = block->z;
    for (int32_t s = 0; s < block->streams; s++) {
        const float *bias = n->shape.condition_channels ? state_of(block, s) + layer->conditioned_bias : layer->bias;
        for (int32_t f = 0; f < frames; f++) copy(z + (size_t)(s * frames + f) * width, bias, 2 * tier->padded);
    }
    for (int32_t tap = 0; tap < taps; tap++) {
        const int32_t delay = (taps - 1 - tap) * layer->dilation;
        for (int32_t s = 0; s < block->streams; s++) {
            const float *history = state_of(block, s) + layer->history;
            for (int32_t f = 0; f < frames; f++) {
                const uint64_t slot = (uint64_t)(block->frame[k] + f - delay) & (uint64_t)(layer->ring - 1);
                const float *past = history + slot * (size_t)tier->padded;
                gather(block, z + (size_t)(s * frames + f) * width, f < delay ? past : row_of(block, k, s, f - delay));
            }
        }
        multiply(block, &layer->tap[tap]);
    }
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

/* All layers of a tier, in place: a becomes the tier's output. Without `heard`, only what later samples need. */
static void run_tier(Block *block, int32_t k, int heard) {
    const Network *n = block->network;
    const Tier *tier = &n->tiers[k];
    const int32_t padded = tier->padded, rows = block->streams * block->frames[k];
    for (int32_t l = 0; l < tier->layer_count; l++) {
        const Layer *layer = &tier->layers[l];
        const int needed = heard || k > 0 || l + 1 < tier->layer_count;
        if (needed) dilated(block, k, layer);
        remember(block, k, layer);
        if (!needed) break;
        for (int32_t r = 0; r < rows; r++) {
            gate(block->z + 2 * (size_t)r * (size_t)padded, block->h + (size_t)r * (size_t)padded, padded);
        }
        if (layer->skip.weight && heard) multiply_rows(block, &layer->skip, rows, block->skip, block->h, padded);
        if (layer->residual.weight) {
            for (int32_t r = 0; r < rows; r++) add(block->a[k] + (size_t)r * (size_t)padded, layer->residual_bias, padded);
            multiply_rows(block, &layer->residual, rows, block->a[k], block->h, padded);
        }
    }
}

/* logits = head.logits(relu(head.hidden(relu(skip sum, or the last residual stream)))) */
static void head(Block *block) {
    const Network *n = block->network;
    const int32_t rows = block->streams * block->frames[0];
    const int32_t width = n->skip_padded ? n->skip_padded : n->tiers[0].padded;
    float *g = n->skip_padded ? block->skip : block->a[0];
    for (int32_t r = 0; r < rows; r++) {
        copy(block->hidden + (size_t)r * (size_t)n->head_padded, n->hidden_bias, n->head_padded);
        copy(block->logits + (size_t)r * (size_t)n->shape.levels, n->logits_bias, n->shape.levels);
    }
    relu(g, (size_t)rows * (size_t)width);
    multiply_rows(block, &n->hidden, rows, block->hidden, g, width);
    relu(block->hidden, (size_t)rows * (size_t)n->head_padded);
    multiply_rows(block, &n->logits, rows, block->logits, block->hidden, n->head_padded);
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
                copy(state_of(block, s) + above->output, row_of(block, k + 1, s, block->frames[k + 1] - 1), above->padded);
            }
        }
    }
    if (heard) head(block);
}

/* ---- One call ---- */

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
            if (work->logits) copy(work->logits + (size_t)at * (size_t)levels, logits, samples * levels);
            if (work->known) continue;
            const int32_t token = draw_token(logits, levels, &work->draws[stream], work->coins[at]);
            if (token < 0) return ENGINE_NOT_FINITE;
            work->drawn[at] = work->last[stream] = (uint16_t)token;
        }
        step += samples;
    }
    return ENGINE_OK;
}

/* Room for `count` floats at a 64-byte boundary of a buffer that is being laid out; `base` may be null. */
static float *lay(float *base, size_t *used, size_t count) {
    float *place = base ? base + *used : NULL;
    *used += (count + PAD - 1) / PAD * PAD;
    return place;
}

static size_t lay_out(Block *block, float *base, int32_t rows, int32_t streams) {
    const Network *n = block->network;
    size_t used = 0, widest = 0, r = (size_t)rows;
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        const size_t padded = (size_t)n->tiers[k].padded;
        block->a[k] = lay(base, &used, r * padded);
        if (padded > widest) widest = padded;
    }
    block->z = lay(base, &used, r * 2 * widest);
    block->h = lay(base, &used, r * widest);
    block->skip = lay(base, &used, r * (size_t)n->skip_padded);
    block->hidden = lay(base, &used, r * (size_t)n->head_padded);
    block->logits = lay(base, &used, r * (size_t)n->shape.levels);
    block->condition = lay(base, &used, (size_t)streams * (size_t)n->condition_padded);
    return used;
}

static int32_t run(const Network *network, const Work *work) {
    Block block = {.network = network, .work = work};
    const int32_t group = work->streams < MAX_ROWS ? work->streams : MAX_ROWS;
    const size_t size = lay_out(&block, NULL, MAX_ROWS, group);
    char *memory = malloc(size * sizeof(float) + 64);
    if (!memory) return ENGINE_NO_MEMORY;
    lay_out(&block, (float *)(memory + (64 - (uintptr_t)memory % 64)), MAX_ROWS, group);
    int32_t result = ENGINE_OK;
    for (int32_t first = 0; first < work->streams && result == ENGINE_OK; first += group) {
        block.first_stream = first;
        block.streams = work->streams - first < group ? work->streams - first : group;
        result = run_group(&block);
    }
    free(memory);
    return result;
}

#define JOIN(name, suffix) name##suffix
#define EXPAND(name, suffix) JOIN(name, suffix)
const Kernels EXPAND(engine_, ENGINE_NAME) = {run, draw_token};
