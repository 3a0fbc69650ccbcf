/* From logits to a token, and what a token was worth. */
#ifndef AUDIO_GEN_DRAW_H
#define AUDIO_GEN_DRAW_H

#include "lanes.h"

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
    float group[MAX_LEVELS / GROUP], total = 0.0f, before = 0.0f;
    for (int32_t i = 0; i < levels; i += GROUP) {
        group[i / GROUP] = sum16(w + i);
        total += group[i / GROUP];
    }
    const float target = coin * total;
    int32_t block = 0, kept = -1;
    for (; block + GROUP < levels; block += GROUP) {
        const float after = before + group[block / GROUP];
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
    _Alignas(64) float w[MAX_LEVELS];
    vec top = load(logits);
    vec_bits strange = {0};
    for (int32_t i = 0; i < levels; i += LANES) {
        const vec x = load(logits + i);
        top = larger(x, top);
        strange |= (vec_bits)(x - x); /* 0, or NaN where a logit is not finite */
    }
    float max = top[0];
    for (int32_t i = 0; i < LANES; i++) {
        if (strange[i]) return -1;
        if (top[i] > max) max = top[i];
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

/* Away from what the pair's second stream expects, which was asked for nothing: logits += guidance (logits - open).
   Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598). Both streams hear what is drawn then. */
static void guide(float *logits, const float *open, int32_t levels, float guidance) {
    for (int32_t i = 0; i < levels; i += LANES) {
        const vec asked = load(logits + i);
        store(logits + i, asked + all(guidance) * (asked - load(open + i)));
    }
}

/* log2(x) for normal x > 0, within 1e-12: log2(m) = 2 / ln 2 * atanh((m - 1) / (m + 1)), m near 1. */
static double log2_of(float x) {
    union { float value; uint32_t bits; } number = {x};
    const uint32_t half = (number.bits >> 22) & 1; /* is the mantissa 1.5 or more? then halve it */
    const int32_t power = (int32_t)(number.bits >> 23) - 127 + (int32_t)half;
    number.bits = (number.bits & 0x7fffff) | (127 - half) << 23;
    const double s = ((double)number.value - 1.0) / ((double)number.value + 1.0), square = s * s;
    double sum = 0.0;
    for (int32_t odd = 21; odd >= 1; odd -= 2) sum = sum * square + 1.0 / odd;
    return power + 2.8853900817779268 * s * sum;
}

/* log2 of the probability of `token` under the logits (64-byte aligned). */
static float log_probability(const float *logits, int32_t levels, int32_t token) {
    _Alignas(64) float w[MAX_LEVELS];
    float max = logits[0];
    for (int32_t i = 1; i < levels; i++) max = logits[i] > max ? logits[i] : max;
    for (int32_t i = 0; i < levels; i += LANES) {
        store(w + i, exp2_vec(larger((load(logits + i) - max) * 1.44269504f, all(-126.0f))));
    }
    return (float)(((double)logits[token] - (double)max) * 1.4426950408889634 - log2_of(sum_weights(w, levels)));
}

#endif
