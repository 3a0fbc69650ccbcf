/* What reaches the layers: conditions, embeddings, and the ways between tiers. Part of engine.c. */
#ifndef AUDIO_GEN_TIERS_H
#define AUDIO_GEN_TIERS_H

#include "block.h"
#include "predictor.h"

/* The curve frame that the block's first sample lies in, or the last one, which is held. */
INLINE int64_t frame_of(const Block *block) {
    const int64_t frame = block->start / block->network->shape.hop, last = block->work->first_curve + block->work->curve_frames - 1;
    return frame < last ? frame : last;
}

/* That frame, of one stream. */
INLINE const float *curve_of(const Block *block, int32_t s) {
    const Work *work = block->work;
    const int64_t row = (block->first_stream + s) * work->curve_frames + frame_of(block) - work->first_curve;
    return work->curves + row * block->network->shape.curve_channels;
}

/* Does the block begin with another curve frame than the one before ended with? */
INLINE int turns(const Block *block) {
    const Shape *shape = &block->network->shape;
    return shape->curve_channels && (block->start == block->work->origin || block->start % shape->hop == 0);
}

/* c = labels + curves.weight curve[frame] + curves.bias, and for every layer bias + condition.weight c. */
static void refresh_conditions(Block *block) {
    const Network *n = block->network;
    const Work *work = block->work;
    Product product;
    const int32_t width = n->condition_padded;
    const float *labels = work->condition + (size_t)block->first_stream * (size_t)width; /* aligned to 4 bytes only */
    memcpy(block->condition, labels, (size_t)(block->streams * width) * sizeof(float));
    if (n->shape.curve_channels) {
        begin(&product, &n->curve, NULL, PLAIN);
        for (int32_t s = 0; s < block->streams; s++) {
            float *c = block->condition + (size_t)s * (size_t)width;
            add_row(&product, c, c, curve_of(block, s));
        }
        multiply_floats(&product);
    }
    for (int32_t k = 0; k < n->shape.tiers; k++) {
        for (int32_t l = 0; l < n->tiers[k].layer_count; l++) {
            const Layer *layer = &n->tiers[k].layers[l];
            begin(&product, &layer->condition, NULL, PLAIN);
            for (int32_t s = 0; s < block->streams; s++) {
                const float *c = block->condition + (size_t)s * (size_t)width;
                add_row(&product, state_of(block, s) + layer->conditioned_bias, layer->bias, c);
            }
            multiply_floats(&product);
        }
    }
}

/* x_0[t] = embedding[u[t]] + the rows of what the predictors make of it, where u is the tokens one step late. */
static void embed(Block *block, int64_t step) {
    const Network *n = block->network;
    const Work *work = block->work;
    const int32_t padded = n->tiers[0].padded;
    const int follows = predictors_follow(&n->predictors);
    for (int32_t s = 0; s < block->streams; s++) {
        const int32_t stream = block->first_stream + s;
        const uint16_t *known = work->known ? work->known + (int64_t)stream * work->steps + step : NULL;
        for (int32_t t = 0; t < block->frames[0]; t++) {
            uint16_t rows[2 + 2 * (MAX_PREDICTORS + 2)];
            const uint16_t token = t ? known[t - 1] : work->last[stream];
            const float *curve = t == 0 && follows && turns(block) ? curve_of(block, s) : NULL;
            const int64_t since = curve ? frame_of(block) * n->shape.hop : 0;
            hear(&n->predictors, state_of(block, s) + n->predicting, block->start + t, token, curve, since, rows,
                 block->places[row_of(block, 0, s, t)]);
            float *x = stream_row(block, 0, s, t);
            copy(x, n->embedding + (size_t)rows[0] * (size_t)padded, padded);
            for (int32_t i = 1; i < heard_rows(&n->predictors); i++) {
                const float *row = n->embedding + (size_t)rows[i] * (size_t)padded;
                for (int32_t c = 0; c < padded; c += LANES) store(x + c, load(x + c) + load(row + c));
            }
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
    Product product;
    narrow_stream(block, k - 1, tier->down_steps);
    for (int32_t slot = 0; slot < pool; slot++) {
        begin(&product, &tier->down[slot], NULL, PLAIN);
        for (int64_t j = block->frame[k]; j <= incomplete; j++) {
            const int64_t frame = j * pool + slot;
            if (frame < first || frame >= end) continue;
            for (int32_t s = 0; s < block->streams; s++) {
                float *sum = state_of(block, s) + tier->gathering;
                if (j < incomplete) sum = stream_row(block, k, s, (int32_t)(j - block->frame[k]));
                add_row(&product, sum, sum, input_row(block, k - 1, s, (int32_t)(frame - first)));
            }
        }
        multiply(&product);
    }
}

/* a = x_k[i] + up(y_(k+1)[j])[slot], slot = (i + 1) mod p, j = (i + 1) div p - 1, if that frame has been heard. */
static void add_from_above(Block *block, int32_t k) {
    const Tier *tier = &block->network->tiers[k], *above = &block->network->tiers[k + 1];
    Product product;
    for (int32_t slot = 0; slot < above->pool; slot++) {
        begin(&product, &above->up[slot], above->up_bias + (size_t)slot * (size_t)tier->padded, PLAIN);
        for (int32_t f = 0; f < block->frames[k]; f++) {
            const int64_t next = block->frame[k] + f + 1;
            const int64_t j = next / above->pool - 1;
            if (next % above->pool != slot || (j + 1) * above->period <= block->work->origin) continue;
            const int64_t local = j - block->frame[k + 1];
            for (int32_t s = 0; s < block->streams; s++) {
                float *a = stream_row(block, k, s, f);
                const float *y = state_of(block, s) + above->output;
                if (local >= 0) y = input_row(block, k + 1, s, (int32_t)local);
                add_row(&product, a, a, y);
            }
        }
        multiply(&product);
    }
}

#endif
