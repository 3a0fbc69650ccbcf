/* What is heard of each sample: its token, and what linear predictors make of the samples so far.

   A predictor of order P expects x[t] = sum over k from 1 to P of c_k x[t - k]. Its coefficients are fitted anew at
   every REFIT samples, to the last WINDOW P samples, by the autocorrelation method: windowed, solved by Levinson's
   and Durbin's recursion (Makhoul 1975, "Linear prediction: a tutorial review"). Fitting to past output alone, so
   that nothing needs to be told, is backward adaptation, as in ITU-T G.728. Orders above LONG, which resolve the
   partials of chords, are fitted less often, and as if there were more noise: in proportion to the tokens' own. The network hears the token nearest to
   what is expected, and how far the last REFIT expectations were off. So waves that are smooth, loud or tonal need
   not be worked out from tokens by layers.

   A model that follows a mel curve may hear one more, whose coefficients come from the curve: they are those of the
   filter with the curve's spectral envelope, frame by frame. It does not drift with what is played, and so it keeps a
   voice to the sounds that are asked for; LPCNet (Valin and Skoglund 2019, arXiv:1810.11846) makes its filter so.

   A model that follows a pitch may hear one that looks back one period of it: the long-term predictor of speech coders
   (Atal and Schroeder 1970, "Adaptive predictive coding of speech signals"), whose lag is told, not searched. Between
   samples it takes Lagrange's polynomial through the nearest TAPS. A wave that repeats what it did a period ago has the
   pitch that was asked for, whether or not a pitch like it was ever heard.

   It may also be told where in its period the wave is to be at every sample, as harmonic-plus-noise models of speech are
   (Wang, Takaki and Yamagishi 2019, arXiv:1904.12088): what was heard may lose its rhythm, this does not. The curve of
   pitch says where its frame begins, so nothing adds up.

   All of it depends on the samples of the last window and two fits alone. Double arithmetic in a fixed order, and whole
   numbers where sums slide, so that the codes are the same on every machine and after every restart. */
#ifndef AUDIO_GEN_PREDICTOR_H
#define AUDIO_GEN_PREDICTOR_H

#include <string.h>

#include "lanes.h"

enum {
    DOUBLES = LANES / 2, /* in a vector */
    SUMS_AT_ONCE = 6,    /* vectors of sums that stay in registers */
    LAGS = SUMS_AT_ONCE * DOUBLES,
    EIGHT = 8,           /* partial sums of a scalar product, whatever the vectors */
    MAX_LAGS = MAX_ORDER + 1 + 48, /* with room for whole LAGS */
    UNIT = 1 << 30       /* amplitudes are whole numbers of 1 / UNIT */
};

typedef double doubles __attribute__((vector_size(8 * DOUBLES), aligned(8), may_alias));

/* The sum of x[i] y[i] for `count` numbers, a multiple of eight: eight partial sums, then a tree. */
INLINE double scalar_product(const double *x, const double *y, int32_t count) {
    doubles sum[EIGHT / DOUBLES] = {0};
    double part[EIGHT];
    for (int32_t i = 0; i < count; i += EIGHT) {
        UNROLL for (int j = 0; j < EIGHT / DOUBLES; j++) {
            sum[j] += *(const doubles *)(x + i + j * DOUBLES) * *(const doubles *)(y + i + j * DOUBLES);
        }
    }
    memcpy(part, sum, sizeof part);
    for (int j = 0; j < 4; j++) part[j] += part[j + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}

/* r[lag] = sum over age of w[age] w[age + lag], newest first, for LAGS lags from `first` on. */
INLINE void correlate(const double *w, int32_t window, int32_t first, double *r) {
    doubles sum[SUMS_AT_ONCE] = {0};
    for (int32_t age = 0; age < window; age++) {
        const double *later = w + age + first;
        UNROLL for (int i = 0; i < SUMS_AT_ONCE; i++) sum[i] += w[age] * *(const doubles *)(later + i * DOUBLES);
    }
    UNROLL for (int i = 0; i < SUMS_AT_ONCE; i++) *(doubles *)(r + first + i * DOUBLES) = sum[i];
}

/* Levinson and Durbin: the coefficients c, newest sample first, that the autocorrelation r asks for. */
static void solve(const double *r, int32_t order, double *c) {
    double back[MAX_ORDER + EIGHT] = {0}, error = r[0]; /* back: r from the last lag to the first */
    for (int32_t lag = 1; lag <= order; lag++) back[order - lag] = r[lag];
    for (int32_t m = 0; m < order; m++) {
        /* c is zero from m on, so what back holds there does not matter */
        const int32_t whole = (m + EIGHT - 1) / EIGHT * EIGHT;
        const double reflection = (r[m + 1] - scalar_product(c, back + order - m, whole)) / error;
        for (int32_t i = 0, j = m - 1; i <= j; i++, j--) {
            const double low = c[i], high = c[j];
            c[i] = low - reflection * high;
            c[j] = high - reflection * low;
        }
        c[m] = reflection;
        error *= 1.0 - reflection * reflection;
        if (!(error > 0.0)) return; /* rounding: what is known so far has to do */
    }
}

/* The predictor's coefficients, from the samples heard up to the newest. */
static void fit(const Predictors *all, Predictor *predictor, int32_t order, const double *newest, double finest) {
    const int32_t window = fit_window(order), rise = refit_of(order); /* newest samples over which the window rises */
    const double loudest = all->amplitudes[all->levels - 1], next = all->amplitudes[all->levels - 2];
    const double noise = order > LONG ? 0.007 * ((loudest - next) / loudest) : 1e-5;
    double w[MAX_WINDOW + MAX_LAGS], r[MAX_LAGS], c[MAX_ORDER + EIGHT] = {0};
    for (int32_t age = 0; age < window; age++) {
        const double risen = age + 1 < rise ? (age + 1) * (1.0 / rise) : 1.0;
        w[age] = newest[-age] * (risen * (2.0 - risen) * (1.0 - age * (1.0 / window)));
    }
    memset(w + window, 0, (size_t)MAX_LAGS * sizeof(double));
    for (int32_t first = 0; first <= order; first += LAGS) correlate(w, window, first, r);
    if (r[0] > 0.0) {
        r[0] += r[0] * noise + finest * finest; /* a little white noise keeps the equations solvable */
        solve(r, order, c);
    }
    for (int32_t i = 0; i < order; i++) predictor->coefficient[i] = c[order - 1 - i];
}

/* 2^x for x within [-60, 60]: the fraction by Taylor's series of the exponential, within 1e-15. */
INLINE double power_of_two(double x) {
    x = x > -60.0 ? (x < 60.0 ? x : 60.0) : -60.0;
    const int64_t whole = (int64_t)(x + 1024.5) - 1024; /* the nearest */
    const double y = (x - (double)whole) * 0.69314718055994530942;
    double sum = 1.0;
    for (int i = 14; i >= 1; i--) sum = 1.0 + sum * y * (1.0 / i);
    const union { uint64_t bits; double value; } scale = {(uint64_t)(whole + 1023) << 52};
    return sum * scale.value;
}

/* The coefficients of the filter with the spectral envelope that a curve says: power at POINTS frequencies, between
   the bands' centres by straight lines in decibels; its autocorrelation; and Levinson and Durbin again. */
static void fit_to_curve(const Predictors *all, Predictor *predictor, const float *curve) {
    const double slope = 13.287712379549449; /* octaves of power in a unit of the curve, which is 40 dB */
    double octaves[MAX_BANDS], power[POINTS], r[MAX_LAGS], c[MAX_ORDER + EIGHT] = {0};
    for (int32_t b = 0; b < all->bands; b++) octaves[b] = (double)curve[b] * slope + (double)all->level[b];
    for (int32_t i = 0; i < POINTS; i++) {
        const uint32_t below = (uint32_t)all->band[i] % (uint32_t)(all->bands - 1); /* whatever damage made of it */
        const double low = octaves[below], high = octaves[below + 1];
        power[i] = power_of_two(low + (double)all->between[i] * (high - low));
    }
    for (int32_t lag = 0; lag <= all->envelope; lag++) {
        const float *cosine = all->cosines + (size_t)lag * POINTS;
        double sum = 0.0;
        for (int32_t i = 0; i < POINTS; i++) sum += (double)cosine[i] * power[i];
        r[lag] = sum;
    }
    r[0] += r[0] * 1e-4 + 1e-12; /* a little white noise keeps the equations solvable */
    solve(r, all->envelope, c);
    for (int32_t i = 0; i < all->envelope; i++) predictor->coefficient[i] = c[all->envelope - 1 - i];
}

/* The coefficients that look back one period of the pitch that curves say: whether there is one, its octaves above
   440 Hz and, where phases are told, where in its period the wave is at sample `since`, with which the frame begins. */
static void fit_to_pitch(const Predictors *all, Predictor *predictor, const float *pitch, int64_t since) {
    double *c = predictor->coefficient;
    for (int32_t i = 0; i < TAPS; i++) c[i] = 0.0;
    predictor->lag = 0;
    predictor->advance = 0.0;
    if (!(pitch[0] > 0.5f)) return;
    const double longest = longest_period(all);
    double period = all->period * (1.0 / 440.0) * power_of_two(-(double)pitch[1]);
    if (!(period < longest)) period = longest;
    if (period < 2.0) period = 2.0;
    if (all->phases) {
        predictor->phase = pitch[2] > 0.0f ? (pitch[2] < 1.0f ? pitch[2] : 1.0) : 0.0;
        predictor->advance = 1.0 / period;
        predictor->since = since;
    }
    while (period < TAPS / 2) period += period; /* two periods ago it was the same, and half of the taps come later */
    const int32_t whole = (int32_t)period;
    const double place = (double)whole - period; /* of the sample wanted, before the tap in the middle */
    predictor->lag = whole - TAPS / 2;
    for (int32_t i = 0; i < TAPS; i++) {
        double product = 1.0;
        for (int32_t j = 0; j < TAPS; j++) {
            if (j != i) product *= (place - (double)(j - TAPS / 2)) * (1.0 / (double)(i - j));
        }
        c[i] = product;
    }
}

/* What the predictor expects after the newest sample, within [-1, 1]. */
INLINE double predict(const Predictor *predictor, int32_t order, const double *newest) {
    const double x = scalar_product(predictor->coefficient, newest - predictor->lag - order + 1, order);
    return x > -1.0 ? (x < 1.0 ? x : 1.0) : -1.0;
}

/* The token whose amplitude is nearest. */
INLINE int32_t nearest_token(const Predictors *all, double amplitude) {
    const double twice = 2.0 * UNIT * amplitude; /* between the sums of neighbours */
    int32_t low = 0, high = all->levels - 1;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if ((double)all->amplitudes[middle] + (double)all->amplitudes[middle + 1] <= twice) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Where between the tokens an amplitude lies, of which `token` is the nearest: by straight lines between them. */
INLINE float place_of(const Predictors *all, double amplitude, int32_t token) {
    const double off = amplitude * UNIT - (double)all->amplitudes[token];
    const int32_t other = off < 0.0 ? token - 1 : token + 1;
    if (other < 0 || other >= all->levels) return (float)token;
    const double step = (double)all->amplitudes[other] - (double)all->amplitudes[token];
    return (float)((double)token + (double)(other - token) * (off / step));
}

/* The size of the misses, in quarters of an octave: of 1 + their mean in quarters of the finest step. */
INLINE int32_t spread_code(int64_t missed, double finest) {
    const union { float value; uint32_t bits; } size = {
        (float)(1.0 + (double)missed * (4.0 / REFIT) / finest)
    };
    const int32_t code = (int32_t)(size.bits >> 21) - (127 << 2);
    return code < 0 ? 0 : code < SPREADS ? code : SPREADS - 1;
}

/* In which part of its period the wave is at `position`, from 1 to `phases`; 0 where it has none. */
INLINE int32_t phase_code(const Predictor *predictor, int64_t position, int32_t phases) {
    if (!(predictor->advance > 0.0)) return 0;
    const double turns = predictor->phase + (double)(position - predictor->since) * predictor->advance;
    const int32_t code = (int32_t)((turns - (double)(int64_t)turns) * phases);
    return 1 + (code < phases ? code : phases - 1);
}

/* Hear the token before `position`: the rows of the embedding to add up, one, two per predictor, and one of the phase
   where it is told. And to `places` where each expects the next sample to be. `curve`: the frame that `position` lies in, if it is another one than before; else null. It begins
   with sample `since`: longer ago than its length where it is held. */
static void hear(
    const Predictors *all, float *state, int64_t position, uint16_t token, const float *curve, int64_t since,
    uint16_t *rows, float *places
) {
    const int32_t count = predictor_count(all);
    rows[0] = token;
    if (!count) return;
    const int32_t at = (int32_t)(position % REFIT), window = predictor_window(all);
    const double finest = all->amplitudes[all->levels / 2 + 1];
    const int32_t amplitude = all->amplitudes[token];
    double *heard = (double *)((Predictor *)state + count);
    if (at == 0) memmove(heard, heard + REFIT, (size_t)(window - 1) * sizeof(double));
    double *newest = heard + window - 1 + at;
    *newest = amplitude * (1.0 / UNIT);
    int32_t row = all->levels;
    for (int32_t i = 0; i < count; i++, row += all->levels + SPREADS) {
        Predictor *predictor = (Predictor *)state + i;
        const int fitted = i < all->count, enveloped = !fitted && i == all->count && all->envelope;
        const int32_t order = fitted ? all->order[i] : enveloped ? all->envelope : TAPS;
        const int64_t off = amplitude - predictor->expected;
        const uint32_t miss = (uint32_t)(off < 0 ? -off : off);
        predictor->missed += (int64_t)miss - (int64_t)predictor->misses[at];
        predictor->misses[at] = miss;
        if (fitted) {
            if (position % refit_of(order) == 0) fit(all, predictor, order, newest, finest * (1.0 / UNIT));
        } else if (curve) {
            if (enveloped) fit_to_curve(all, predictor, curve);
            else fit_to_pitch(all, predictor, curve + all->pitch, since);
        }
        const double expected = predict(predictor, order, newest);
        predictor->expected = (int64_t)(expected * UNIT + (2.0 * UNIT + 0.5)) - 2 * (int64_t)UNIT;
        const int32_t nearest = nearest_token(all, expected);
        places[i] = place_of(all, expected, nearest);
        rows[1 + 2 * i] = (uint16_t)(row + nearest);
        rows[2 + 2 * i] = (uint16_t)(row + all->levels + spread_code(predictor->missed, finest));
    }
    if (all->phases) {
        const Predictor *last = (const Predictor *)state + count - 1;
        rows[1 + 2 * count] = (uint16_t)(row + phase_code(last, position, all->phases));
    }
}

/* The same for whole sequences: tokens (streams, steps), rows (streams, steps, rows heard), places (streams, steps,
   predictors). */
static int32_t hear_all(const Hearing *hearing) {
    const Predictors *all = hearing->predictors;
    const size_t codes = (size_t)heard_rows(all), words = predictor_words(all), count = (size_t)predictor_count(all);
    for (int32_t s = 0; s < hearing->streams; s++) {
        for (int64_t t = 0; t < hearing->steps; t++) {
            const size_t at = (size_t)s * (size_t)hearing->steps + (size_t)t;
            float *state = hearing->state + (size_t)s * words;
            const int64_t position = hearing->position + t;
            const float *curve = NULL;
            int64_t frame = 0;
            if (predictors_follow(all) && (t == 0 || position % all->hop == 0)) {
                frame = position / all->hop;
                if (frame >= hearing->curve_frames) frame = hearing->curve_frames - 1;
                curve = hearing->curves + (s * hearing->curve_frames + frame) * all->curve_channels;
            }
            hear(all, state, position, hearing->tokens[at], curve, frame * all->hop, hearing->rows + at * codes,
                 hearing->places + at * count);
        }
    }
    return ENGINE_OK;
}

#endif
