/* What a network needs beside matrix products while it learns on a CPU: each in one pass over whole sequences, where a
   framework takes several. Everything between reading and writing is float32; what products read and write is bfloat16
   where this is compiled for 16 bits, and float32 otherwise.

   Each takes a share [from, to) of its work, so that threads need nothing from one another: of rows where every row is
   written by itself, of channels where rows are summed. Widths are multiples of 16, and so are shares of them. */
#ifndef AUDIO_GEN_LEARNING_H
#define AUDIO_GEN_LEARNING_H

#include "lanes.h"

typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec fetch(const float *x) { return (vec)*(const loose *)x; }
INLINE void put(float *y, vec x) { *(loose *)y = (loose)x; }

#if WEIGHT_BITS == 16
typedef uint16_t number;

INLINE vec widen(const number *x) { return (vec)(__builtin_convertvector(*(const halves *)x, vec_bits) << 16); }

INLINE void round_to(number *y, vec x) { *(halves *)y = rounded(x); }
#else
typedef float number;

INLINE vec widen(const number *x) { return fetch(x); }
INLINE void round_to(number *y, vec x) { put(y, x); }
#endif

/* x, kept within [-limit, limit]; NaN stays NaN. */
INLINE vec limited(vec x, float limit) { return smaller(all(limit), larger(all(-limit), x)); }

/* tanh(a) and sigmoid(b). */
INLINE void curves_of(vec a, vec b, vec *tanh_a, vec *sigmoid_b) {
    const vec ea = exp2_vec(limited(a * -2.885390082f, 60.0f)), eb = exp2_vec(limited(b * -1.442695041f, 60.0f));
    const vec shared = 1.0f / ((1.0f + ea) * (1.0f + eb)); /* divisions are slow */
    *tanh_a = (1.0f - ea) * (1.0f + eb) * shared;
    *sigmoid_b = (1.0f + ea) * shared;
}

/* Where the row of the steer that row r listens to begins. */
INLINE int64_t steering(const Gating *gating, int64_t r) {
    const int64_t frame = gating->frames ? gating->frames[r / gating->streams] : 0;
    return (frame * gating->streams + r % gating->streams) * 2 * gating->width;
}

/* h (rows, width) = tanh(z1) sigmoid(z2), where z (rows, 2 width) is what was multiplied and the steer of its frame. */
static void gate_rows(const Gating *gating) {
    const int64_t width = gating->width;
    for (int64_t r = gating->from; r < gating->to; r++) {
        const number *z = (const number *)gating->z + r * 2 * width;
        const float *steer = gating->steer + steering(gating, r);
        for (int64_t i = 0; i < width; i += LANES) {
            vec t, s;
            curves_of(widen(z + i) + fetch(steer + i), widen(z + width + i) + fetch(steer + width + i), &t, &s);
            round_to((number *)gating->h + r * width + i, t * s);
        }
    }
}

/* dz (rows, 2 width) of dh (rows, width), and added to dsteer, whose rows are those of the steer. */
static void gate_rows_back(const Gating *gating) {
    const int64_t width = gating->width;
    for (int64_t r = 0; r < gating->rows; r++) {
        const number *z = (const number *)gating->z + r * 2 * width, *dh = (const number *)gating->dh + r * width;
        number *dz = (number *)gating->dz + r * 2 * width;
        const int64_t place = steering(gating, r);
        const float *steer = gating->steer + place;
        float *dsteer = gating->dsteer + place;
        for (int64_t i = gating->from; i < gating->to; i += LANES) {
            vec t, s;
            curves_of(widen(z + i) + fetch(steer + i), widen(z + width + i) + fetch(steer + width + i), &t, &s);
            const vec slope = widen(dh + i) * s, da = slope * (1.0f - t * t), db = slope * t * (1.0f - s);
            put(dsteer + i, fetch(dsteer + i) + da);
            put(dsteer + width + i, fetch(dsteer + width + i) + db);
            round_to(dz + i, da);
            round_to(dz + width + i, db);
        }
    }
}

/* a (rows, width) += b + bias, and what is wanted of it: a copy that is rounded, its sum over rows added to `sums`. */
static void add_rows(const Adding *adding) {
    const int64_t width = adding->width;
    for (int64_t r = 0; r < adding->rows; r++) {
        float *a = adding->a + r * width;
        for (int64_t i = adding->from; i < adding->to; i += LANES) {
            vec sum = fetch(a + i) + widen((const number *)adding->b + r * width + i);
            if (adding->bias) sum += fetch(adding->bias + i);
            put(a + i, sum);
            if (adding->rounded) round_to((number *)adding->rounded + r * width + i, sum);
            if (adding->sums) put(adding->sums + i, fetch(adding->sums + i) + sum);
        }
    }
}

/* sum (rows, width) of the table's rows that `places` (rows, codes) name. */
static void embed_rows(const Embedding *embedding) {
    const int64_t width = embedding->width, codes = embedding->codes;
    for (int64_t r = embedding->from; r < embedding->to; r++) {
        const int64_t *places = embedding->places + r * codes;
        for (int64_t i = 0; i < width; i += LANES) {
            vec sum = fetch(embedding->table + places[0] * width + i);
            for (int64_t c = 1; c < codes; c++) sum += fetch(embedding->table + places[c] * width + i);
            put(embedding->sum + r * width + i, sum);
        }
    }
}

/* dtable += dsum (rows, width), in every row that a place names. */
static void embed_rows_back(const Embedding *embedding) {
    const int64_t width = embedding->width, codes = embedding->codes;
    for (int64_t r = 0; r < embedding->rows; r++) {
        const float *dsum = embedding->dsum + r * width;
        for (int64_t c = 0; c < codes; c++) {
            float *dtable = embedding->dtable + embedding->places[r * codes + c] * width;
            for (int64_t i = embedding->from; i < embedding->to; i += LANES)
                put(dtable + i, fetch(dtable + i) + fetch(dsum + i));
        }
    }
}

INLINE float lanes_sum(vec x) {
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* Per row of logits (rows, levels): the largest, and the sum of e^(logit - largest). */
static void sum_rows(const Entropy *entropy) {
    const int64_t levels = entropy->width;
    for (int64_t r = entropy->from; r < entropy->to; r++) {
        const number *logits = (const number *)entropy->logits + r * levels;
        vec highest = widen(logits), total = all(0.0f);
        for (int64_t i = LANES; i < levels; i += LANES) highest = larger(highest, widen(logits + i));
        float largest = highest[0];
        for (int i = 1; i < LANES; i++) largest = highest[i] > largest ? highest[i] : largest;
        for (int64_t i = 0; i < levels; i += LANES)
            total += exp2_vec(limited((widen(logits + i) - largest) * 1.442695041f, 120.0f));
        entropy->largest[r] = largest;
        entropy->total[r] = lanes_sum(total);
    }
}

/* dlogits (rows, levels) = weight (e^(logit - norm) - 1 at the target), the weight and the norm by row. */
static void sum_rows_back(const Entropy *entropy) {
    const int64_t levels = entropy->width;
    for (int64_t r = entropy->from; r < entropy->to; r++) {
        const number *logits = (const number *)entropy->logits + r * levels;
        number *dlogits = (number *)entropy->dlogits + r * levels;
        const float weight = entropy->weights[r], norm = entropy->norms[r];
        const int64_t target = entropy->targets[r], block = target / LANES * LANES;
        for (int64_t i = 0; i < levels; i += LANES) {
            vec p = exp2_vec(limited((widen(logits + i) - norm) * 1.442695041f, 120.0f));
            if (i == block) p[target % LANES] -= 1.0f;
            round_to(dlogits + i, p * weight);
        }
    }
}

static int32_t gate_all(const Gating *gating) {
    if (gating->dh) gate_rows_back(gating);
    else gate_rows(gating);
    return ENGINE_OK;
}

static int32_t add_all(const Adding *adding) {
    add_rows(adding);
    return ENGINE_OK;
}

static int32_t embed_all(const Embedding *embedding) {
    if (embedding->dsum) embed_rows_back(embedding);
    else embed_rows(embedding);
    return ENGINE_OK;
}

static int32_t sum_all(const Entropy *entropy) {
    if (entropy->dlogits) sum_rows_back(entropy);
    else sum_rows(entropy);
    return ENGINE_OK;
}

#endif
