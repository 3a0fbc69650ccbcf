/* Logits that are anchored at what the linear predictors expect.

   A categorical distribution has to learn every place on the scale anew: that a sample is expected between tokens 100
   and 101, give or take two, says nothing about 57 and 58. So the network may say instead how far each predictor is to
   be believed, how sure that is, and by how much it is off: its logits for token v lose

       sharp (sqrt(d^2 + broad^2) - broad),  d = v - place,  place = shift + the mean of what is expected, by shares

   which is the hyperbolic distribution (Barndorff-Nielsen 1977): normal near that place, Laplace's far from it. What the
   network says of each token alone is added to that, as ever: the two are a product of experts (Hinton 2002). The
   head's last outputs are the shares' logarithms, the shift, and the logarithms of `sharp` and `broad`, all to base 2.
   Part of engine.c. */
#ifndef AUDIO_GEN_ANCHOR_H
#define AUDIO_GEN_ANCHOR_H

#include "learning.h"

static const float UPWARDS[16] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f,
                                  8.0f, 9.0f, 10.0f, 11.0f, 12.0f, 13.0f, 14.0f, 15.0f};

/* The tokens from `first` on, less `place`. */
INLINE vec distance(int32_t first, float place) {
    return (fetch(UPWARDS) + (float)first) - place; /* the first sum is exact, whatever the width of vectors */
}

/* What the logit of a token that lies `d` from the place loses. */
INLINE vec fall(vec d, float sharp, float broad) { return sharp * (root(d * d + broad * broad) - broad); }

/* One row of logits (64-byte aligned), followed by what the network says of their anchor. */
static void anchor_row(float *logits, int32_t levels, const float *places, int32_t count) {
    const float *told = logits + levels;
    float powers[16];
    for (int32_t i = 0; i < 16; i += LANES) put(powers + i, exp2_vec(within(load(told + i), 60.0f)));
    float total = powers[0], sum = powers[0] * places[0];
    for (int32_t i = 1; i < count; i++) {
        total += powers[i];
        sum += powers[i] * places[i];
    }
    const float place = told[count] + sum / total, sharp = powers[count + 1], broad = powers[count + 2];
    for (int32_t v = 0; v < levels; v += LANES) {
        store(logits + v, load(logits + v) - fall(distance(v, place), sharp, broad));
    }
}

/* The same for a training step, which knows place, sharp and broad of every row. */
static void anchor_rows_of(const Anchoring *anchoring) {
    const int32_t levels = anchoring->width;
    for (int64_t r = anchoring->from; r < anchoring->to; r++) {
        const number *logits = (const number *)anchoring->logits + r * levels;
        float *anchored = anchoring->anchored + r * levels;
        const float place = anchoring->place[r], sharp = anchoring->sharp[r], broad = anchoring->broad[r];
        for (int32_t v = 0; v < levels; v += LANES) {
            put(anchored + v, widen(logits + v) - fall(distance(v, place), sharp, broad));
        }
    }
}

/* Its gradients. */
static void anchor_rows_back(const Anchoring *anchoring) {
    const int32_t levels = anchoring->width;
    for (int64_t r = anchoring->from; r < anchoring->to; r++) {
        const float *danchored = anchoring->danchored + r * levels;
        number *dlogits = (number *)anchoring->dlogits + r * levels;
        const float place = anchoring->place[r], sharp = anchoring->sharp[r], broad = anchoring->broad[r];
        vec dplace = all(0.0f), dsharp = all(0.0f), dbroad = all(0.0f);
        for (int32_t v = 0; v < levels; v += LANES) {
            const vec d = distance(v, place), r = root(d * d + broad * broad), share = 1.0f / r;
            const vec dout = fetch(danchored + v);
            round_to(dlogits + v, dout);
            dsharp -= dout * (r - broad);
            dbroad += dout * (1.0f - broad * share);
            dplace += dout * d * share;
        }
        anchoring->dplace[r] = sharp * lanes_sum(dplace);
        anchoring->dsharp[r] = lanes_sum(dsharp);
        anchoring->dbroad[r] = sharp * lanes_sum(dbroad);
    }
}

static int32_t anchor_all(const Anchoring *anchoring) {
    if (anchoring->danchored) anchor_rows_back(anchoring);
    else anchor_rows_of(anchoring);
    return ENGINE_OK;
}

#endif
