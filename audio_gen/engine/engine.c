/* The network, sample by sample or in blocks of known samples.

   Compiled per instruction set and precision (ENGINE_NAME is the symbol, WEIGHT_BITS the precision). All instruction
   sets give the same bits: only IEEE additions, products, quotients and roots in a fixed order, no contraction, and an
   exponential of our own. A block of work has one row per (stream, frame);
   drawing makes blocks of one frame, priming of many, through the same code.

   Vectors that a product reads are *inputs*: float32 as they are, or narrowed (see inputs.h). A pointer to inputs
   is a pointer to words, whatever they hold. */
#include <stdlib.h>
#include <string.h>

#include "anchor.h"
#include "draw.h"
#include "layers.h"
#include "learning.h"
#include "tiers.h"

/* logits = head.logits(relu(head.hidden(relu(skip sum, or the last residual stream)))), and anchored, if they are */
static void head(Block *block) {
    const Network *n = block->network;
    const int32_t rows = block->streams * block->frames[0];
    const int32_t width = n->skip_padded ? n->skip_padded : n->tiers[0].padded;
    float *g = n->skip_padded ? block->skip : block->a[0];
    relu(g, rows * width);
    if (NARROWS) narrow_rows(block->summed, g, n->hidden_steps, rows, width);
    const float *summed = NARROWS ? block->summed : g;
    Product product;
    begin(&product, &n->hidden, NULL, RELU);
    product.steps = n->logits_steps;
    for (int32_t r = 0; r < rows; r++) {
        product.next[r] = block->hidden + (size_t)r * stride_of(n->head_padded);
        add_row(&product, NULL, n->hidden_bias, summed + (size_t)r * stride_of(width));
    }
    multiply(&product);
    begin(&product, &n->logits, NULL, PLAIN);
    for (int32_t r = 0; r < rows; r++) {
        float *logits = block->logits + (size_t)r * (size_t)n->logits_padded;
        add_row(&product, logits, n->logits_bias, block->hidden + (size_t)r * stride_of(n->head_padded));
    }
    multiply(&product);
    for (int32_t r = 0; n->shape.anchored && r < rows; r++) {
        float *logits = block->logits + (size_t)r * (size_t)n->logits_padded;
        anchor_row(logits, n->shape.levels, block->places[r], predictor_count(&n->predictors));
    }
}

/* The network on the block's samples: from embeddings up to the slowest tier, and down again to the logits. */
static void run_block(Block *block, int64_t step, int32_t samples, int heard) {
    const Network *n = block->network;
    const int64_t end = block->start + samples;
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        block->frame[k] = block->start / n->tiers[k].period;
        block->frames[k] = (int32_t)(end / n->tiers[k].period - block->frame[k]);
    }
    const int renewed = block->work->renewed && step == 0;
    if (n->shape.condition_channels && (block->start == block->work->origin || renewed || turns(block))) {
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
    PHASE_DONE(between);
    if (heard) head(block);
    PHASE_DONE(head);
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
    const int32_t levels = block->network->shape.levels, width = block->network->logits_padded;
    if (work->position == work->origin) fill_silence(block);
    for (int64_t step = 0; step < work->steps;) {
        block->start = work->position + step;
        const int32_t samples = block_samples(block, step);
        run_block(block, step, samples, work->logits || work->log_probabilities || !work->known);
        for (int32_t s = 0; s < block->streams; s++) {
            const int32_t stream = block->first_stream + s;
            const int64_t at = (int64_t)stream * work->steps + step;
            float *logits = block->logits + (size_t)s * (size_t)samples * (size_t)width;
            for (int32_t t = 0; work->logits && t < samples; t++) {
                float *out = work->logits + (size_t)(at + t) * (size_t)levels;
                memcpy(out, logits + t * width, (size_t)levels * sizeof(float));
            }
            for (int32_t t = 0; work->known && work->log_probabilities && t < samples; t++) {
                work->log_probabilities[at + t] = log_probability(logits + t * width, levels, work->known[at + t]);
            }
            if (work->known || (work->guidance && stream % 2)) continue;
            if (work->guidance) guide(logits, logits + width, levels, work->guidance[stream]);
            const int32_t token = draw_token(logits, levels, &work->draws[stream], work->coins[at]);
            if (token < 0) return ENGINE_NOT_FINITE;
            work->drawn[at] = work->last[stream] = (uint16_t)token;
            if (work->guidance) work->drawn[at + work->steps] = work->last[stream + 1] = (uint16_t)token;
            if (work->log_probabilities) work->log_probabilities[at] = log_probability(logits, levels, token);
            SAMPLE_DRAWN(at);
        }
        PHASE_DONE(draw);
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
    block->logits = lay(base, &used, MAX_ROWS * (size_t)n->logits_padded);
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
        block->state = work->state + (size_t)first * network->state_count;
        if (block->ahead) memset(block->ahead, 0, (size_t)network->layer_count * sizeof(Ahead));
        result = run_group(block);
    }
    free(memory);
    free(block);
    return result;
}

const Kernels ENGINE_NAME = {run, draw_token, hear_all, gate_all, add_all, embed_all, sum_all, anchor_all, PER_WORD};
