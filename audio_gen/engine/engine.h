/* The compiled sampler: shapes, packed weights, state, and the functions the library exports.

   Words: a *stream* is one running generation; a *tier* runs once per `period` samples; a *frame* of a tier is one
   of its steps; *row* is one (stream, frame) pair inside a block of work. Vectors of C channels are stored padded with
   zeros to a multiple of 32. Everything is laid out in 32-bit words: one float32, two bfloat16 or four int8.

   Precisions. What reads a vector of activations is a matrix product; its weights may be narrower than float32:

   bf16  weights and activations are rounded to bfloat16, half to even. Their products are exact, sums float32: of each
         pair of inputs the second product is added first, as processors with dot products of such pairs do it.
   int8  weights and activations are whole numbers from -127 to 127, and y = (start + bias) + scale * (float)sum: the
         sum is exact, so its order is free and instruction sets agree. An activation x of channel c becomes
         q = round(x * steps[c]), half to even, clamped; a weight W becomes round(W / (steps[c] * scale[o])). All taps
         of a layer share one scale per output and one sum; each slot of down has its own, and its own addition.

   The predictors (predictor.h) are doubles and whole numbers. The embedding, conditions, biases, residual streams, sums of skips, gates and draws are float32 always. */
#ifndef AUDIO_GEN_ENGINE_H
#define AUDIO_GEN_ENGINE_H

#include <stddef.h>
#include <stdint.h>

enum {
    ENGINE_VERSION = 12, /* of everything in this header and of the order of the packed weights */
    MAX_TIERS = 8,
    MAX_LEVELS = 1024,
    MAX_TAPS = 8,  /* largest kernel size */
    MAX_ROWS = 64, /* rows of one block of work */
    AHEAD = 8,     /* frames of a layer whose past taps are worked out at once ... */
    AHEAD_STREAMS = 2, /* ... when no more than this many streams share the weights */
    AHEAD_LEAST = 2048, /* ... and a tap has as many words, so that reading them takes longer than the detour */
    PANEL = 64,    /* outputs whose weights lie side by side */
    NARROW = 32,   /* outputs of a last panel that is not full; channels are padded to a multiple of it */
    GATE_GROUP = 16, /* outputs to tanh, then as many to sigmoid, and so on */
    MAX_PREDICTORS = 4,
    MAX_ORDER = 512, /* of a linear predictor; orders are multiples of 8 */
    WINDOW = 16,     /* samples that a predictor is fitted to, per coefficient ... */
    MAX_WINDOW = 4096, /* ... and no more than these */
    REFIT = 32,      /* samples between two fits ... */
    LONG_REFIT = 128, /* ... and where the order is above LONG */
    LONG = 128,
    SPREADS = 96,    /* codes of how far a predictor was off */
    MAX_BANDS = 256, /* of a mel curve */
    LOWEST = 25,     /* Hz, that a pitch is heard from */
    TAPS = 8,        /* samples that one between them is worked out from */
    POINTS = 257     /* frequencies, from 0 to half the sample rate, at which an envelope is drawn */
};

typedef enum { FP32, BF16, INT8, PRECISIONS } Precision;

/* What the network looks like; the caller has checked every number. */
typedef struct {
    int32_t levels, tiers, kernel_size, dilation_cycle, skip_channels, head_channels;
    int32_t condition_channels; /* 0: neither labels nor curves */
    int32_t curve_channels;     /* 0: no curves */
    int32_t hop;                /* samples per curve frame */
    int32_t layers[MAX_TIERS], channels[MAX_TIERS]; /* tiers fastest first */
    int32_t pool[MAX_TIERS];                        /* pool[k]: from tier k to k + 1 */
    int32_t predictors, orders[MAX_PREDICTORS];     /* linear predictors that the network hears */
    int32_t envelope, bands; /* order of the predictor made from the first curves, which are mel; 0: none */
    int32_t period, pitch;   /* sample rate (Hz) of the predictor that looks back one period; 0: none. The first of
                                the curves that say how long that is */
    int32_t phases;          /* into so many a period is cut, to say where in it a sample lies; 0: it is not said */
    int32_t anchored;        /* are the logits anchored at what the predictors expect? */
} Shape;

/* The linear predictors of a network; see predictor.h. */
typedef struct {
    int32_t count, longest; /* order */
    int32_t order[MAX_PREDICTORS];
    int32_t levels;
    int32_t envelope, bands, period, pitch, phases, hop, curve_channels; /* as in the shape; the tables below are
                                                                            for an envelope alone */
    const int32_t *amplitudes; /* (levels): of each token, in units of 2^-30 */
    const int32_t *band;       /* (POINTS): the last band whose centre lies below, or the first one */
    const float *between;      /* (POINTS): how far from that band to the next one */
    const float *level;        /* (bands): log2 of the power where a curve is 0 */
    const float *cosines;      /* (envelope + 1, POINTS): from powers to an autocorrelation */
} Predictors;

/* One predictor of one stream. All zeros is silence. */
typedef struct {
    double coefficient[MAX_ORDER]; /* of the oldest sample first, the newest last */
    int64_t lag;                   /* samples between that newest one and the newest one heard */
    int64_t expected;              /* amplitude of the next sample, in units of 2^-30 */
    int64_t missed;                /* sum of the misses */
    double phase, advance;         /* where in its period the wave is at sample `since`, and by how much of one it goes
                                      on in a sample; 0: it has none */
    int64_t since;
    uint32_t misses[REFIT];        /* of the last samples, in the same units */
} Predictor;

/* Samples that a predictor of this order is fitted to, and between two fits. */
static inline int32_t fit_window(int32_t order) {
    return WINDOW * order < MAX_WINDOW ? WINDOW * order : MAX_WINDOW;
}
static inline int32_t refit_of(int32_t order) { return order > LONG ? LONG_REFIT : REFIT; }

/* Those that are fitted, then the envelope's, then the period's. */
static inline int32_t predictor_count(const Predictors *all) {
    return all->count + (all->envelope > 0) + (all->period > 0);
}

/* Rows of the embedding that are added up for a sample: see `hear`. */
static inline int32_t heard_rows(const Predictors *all) { return 1 + 2 * predictor_count(all) + (all->phases > 0); }

/* Logits that say how the others are anchored: see anchor.h. */
static inline int32_t anchor_rows(const Shape *shape, const Predictors *all) {
    return shape->anchored ? predictor_count(all) + 3 : 0;
}

/* Does any of them follow the curves? */
static inline int predictors_follow(const Predictors *all) { return all->envelope > 0 || all->period > 0; }

/* The longest period, in samples. */
static inline int32_t longest_period(const Predictors *all) { return all->period / LOWEST; }

/* Samples that some predictor looks back at. */
static inline int32_t predictor_window(const Predictors *all) {
    const int32_t fitted = fit_window(all->longest);
    const int32_t followed = all->period ? longest_period(all) + TAPS : 0;
    const int32_t window = fitted > all->envelope ? fitted : all->envelope;
    return window > followed ? window : followed;
}

/* Words of state per stream: the predictors, then the samples heard, oldest first. */
static inline size_t predictor_words(const Predictors *all) {
    if (!predictor_count(all)) return 0;
    return (size_t)predictor_count(all) * (sizeof(Predictor) / 4) + 2 * (size_t)(predictor_window(all) + REFIT);
}

/* y[o] += sum over i of weight[i][o] * x[i]. Outputs are cut into panels of 64 (the last one may have 32); a panel
   holds, for each group of inputs in turn, one word per output: the weights from 1 float32, 2 bfloat16 or 4 int8
   inputs, the first in the lowest bits. */
typedef struct {
    const uint32_t *weight;
    const float *scale;    /* int8: what one step of the sum is worth, per output; else null */
    const int32_t *offset; /* int8: -128 times the sum of each output's weights, of all matrices that share the scale */
    int32_t groups;        /* of inputs */
    int32_t outputs;       /* padded */
} Matrix;

/* One gated residual layer. Gate outputs are interleaved: 16 of tanh, the 16 of sigmoid that belong to them, ... */
typedef struct {
    Matrix tap[MAX_TAPS]; /* oldest first: C to 2 C */
    const float *bias;    /* of the taps */
    Matrix condition;     /* D to 2 C */
    Matrix skip;          /* C to S; no weight: absent */
    Matrix residual;      /* C to C; no weight: absent */
    const float *residual_bias;
    const float *input_steps, *gated_steps; /* int8: steps per unit of each channel of a and h; else null */
    int32_t dilation;
    int32_t ring;             /* frames of history kept: a power of two, at least (K - 1) dilation */
    int32_t index;            /* of the layer, counted over all tiers */
    size_t ahead;             /* words of z of the layers before it */
    size_t history;           /* where in a stream's state the ring starts */
    size_t conditioned_bias;  /* where in a stream's state bias + condition c is kept */
} Layer;

typedef struct {
    int32_t channels, padded;
    int32_t period;             /* samples per frame */
    int32_t pool;               /* frames of the next faster tier per frame (0 in tier 0) */
    int32_t layer_count;
    Layer *layers;
    const float *down_bias;     /* C_k */
    Matrix *down;               /* per slot: C_(k-1) to C_k */
    const float *up_bias;       /* pool rows of C_(k-1) */
    Matrix *up;                 /* per slot: C_k to C_(k-1) */
    const float *down_steps, *up_steps; /* int8: steps per unit of C_(k-1) and C_k channels */
    size_t gathering, output;   /* where in a stream's state down's unfinished sum and the last output are */
} Tier;

typedef struct {
    Shape shape;
    const struct Kernels *kernels;
    int32_t condition_padded, skip_padded, head_padded;
    int32_t logits_padded;  /* the levels, and what anchors them */
    const float *embedding; /* (levels, C_0), and of each predictor (levels + SPREADS, C_0) */
    Predictors predictors;
    size_t predicting;      /* where in a stream's state the predictors are */
    Matrix curve;           /* curve channels to D */
    const float *skip_bias; /* the sum over the layers */
    const float *hidden_bias, *logits_bias;
    Matrix hidden, logits;
    const float *hidden_steps, *logits_steps; /* int8: steps per unit of their inputs */
    Tier tiers[MAX_TIERS];
    size_t weight_count;    /* words of packed weights */
    size_t state_count;     /* words of state per stream */
    int32_t layer_count;    /* of all tiers */
    size_t ahead_count;     /* words of z of all layers */
} Network;

typedef struct {
    float temperature; /* 0: the most likely token */
    float top_p, min_p;
    int32_t top_k; /* 0: all */
} Draw;

/* One call's work. Arrays with a row per stream start at the first stream of this call. */
typedef struct {
    int64_t origin;      /* absolute position at which the streams were started, with silent history */
    int64_t position;    /* absolute position of the first step of this call */
    int64_t steps;
    int32_t streams;
    int32_t renewed;         /* is the condition another one than that of the call before? */
    float *state;            /* (streams, state_count), 64-byte aligned, zero at the start */
    uint16_t *last;          /* (streams): the token before each stream's next one; updated */
    const float *condition;  /* (streams, condition_padded): labels' embeddings + curve bias, or null */
    const float *curves;     /* (streams, curve_frames, curve_channels) or null: those from first_curve on */
    int64_t first_curve, curve_frames;
    const uint16_t *known;   /* (streams, steps): tokens fed; null: draw them */
    const float *coins;      /* (streams, steps), in [0, 1); used when drawing */
    const Draw *draws;       /* (streams); used when drawing */
    const float *guidance;   /* (streams) or null: draw in pairs, see draw.h; streams are then an even number */
    uint16_t *drawn;         /* (streams, steps); used when drawing */
    float *logits;           /* (streams, steps, levels) or null */
    float *log_probabilities; /* (streams, steps), of the tokens known or drawn, base 2, at temperature 1; or null */
} Work;

/* Whole sequences of tokens to be heard, without a network. */
typedef struct {
    const Predictors *predictors;
    int64_t position; /* absolute position that follows the first token */
    int64_t steps;
    int32_t streams;
    float *state;           /* (streams, predictor_words), zero at the start */
    const uint16_t *tokens; /* (streams, steps) */
    const float *curves;    /* (streams, curve_frames, curve channels) of the whole stream; the last one is held */
    int64_t curve_frames;
    uint16_t *rows;         /* (streams, steps, 1 + 2 per predictor): of the embedding, to add up */
    float *places;          /* (streams, steps, predictors): where between the tokens each expects the next sample */
} Hearing;

/* Parts of a training step, see learning.h. What products read and write, here `void`, are numbers of `bits` bits: 32,
   float32, or 16, bfloat16. Each does the share [from, to) of its rows, or of its channels where it sums over rows.
   Widths are multiples of 16. */

typedef struct { /* a gated activation of z and the steer of its frame, or its gradient */
    int64_t rows, from, to; /* rows are time steps of every stream; the gradient is shared by channels */
    int32_t width, bits, streams;
    const void *z;     /* (rows, 2 width) */
    const float *steer;    /* (frames, streams, 2 width) */
    const int64_t *frames; /* (rows / streams): the frame of each time step; null: the only one */
    void *h;           /* (rows, width): tanh(z1) sigmoid(z2) */
    const void *dh;    /* (rows, width), or null: then h is wanted, else dz and dsteer */
    void *dz;          /* (rows, 2 width) */
    float *dsteer;         /* like the steer; added to */
} Gating;

typedef struct { /* a += b + bias; shared by channels */
    int64_t rows, from, to;
    int32_t width, bits;
    float *a;           /* (rows, width) */
    const void *b;  /* (rows, width) */
    const float *bias;  /* (width) or null */
    void *rounded;  /* (rows, width) or null: a, as such a number */
    float *sums;        /* (width) or null: the sums of a over rows are added */
} Adding;

typedef struct { /* sums of rows of a table, or their gradient */
    int64_t rows, from, to; /* the gradient is shared by channels */
    int32_t width, codes;
    const int64_t *places; /* (rows, codes) */
    const float *table;
    float *sum;        /* (rows, width) */
    const float *dsum; /* (rows, width), or null: then the sum is wanted, else dtable */
    float *dtable;     /* like the table; added to */
} Embedding;

typedef struct { /* what a cross-entropy needs of its logits, or its gradient */
    int64_t rows, from, to;
    int32_t width, bits;    /* width: levels */
    const void *logits; /* (rows, width) */
    float *largest, *total; /* (rows): the largest logit, the sum of e^(logit - largest) */
    const int64_t *targets; /* (rows), for the gradient only, like the rest */
    const float *norms;     /* (rows): largest + log total */
    const float *weights;   /* (rows): the gradient of each row's cross-entropy */
    void *dlogits;      /* (rows, width), or null: then largest and total are wanted */
} Entropy;

typedef struct { /* logits that are anchored, or their gradient, see anchor.h */
    int64_t rows, from, to;
    int32_t width, bits;                 /* width: levels */
    const void *logits;                  /* (rows, width) */
    const float *place, *sharp, *broad;  /* (rows) */
    float *anchored;                     /* (rows, width) */
    const float *danchored;              /* like it, or null: then it is wanted, else what follows */
    void *dlogits;                       /* (rows, width) */
    float *dplace, *dsharp, *dbroad;     /* (rows) */
} Anchoring;

typedef struct { /* parts of one of the above, or of a Hearing, for threads that take them until none are left */
    int32_t (*verb)(const void *part, int32_t isa); /* audio_gen_gate, audio_gen_hear, ... */
    const void *parts;
    int32_t size, isa;   /* bytes of a part */
    int32_t count, next; /* parts, and the first that is not taken: 0 */
} Team;

enum { ENGINE_OK = 0, ENGINE_NO_MEMORY = 1, ENGINE_NOT_FINITE = 2 };

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT int32_t audio_gen_version(void);
EXPORT const char *audio_gen_isa(int32_t isa);      /* its name, best first; null past the last */
EXPORT int32_t audio_gen_isa_usable(int32_t isa);   /* does this machine have it? */
EXPORT size_t audio_gen_weight_count(const Shape *shape, int32_t precision);
/* Null if memory is short. The weights (64-byte aligned) stay the caller's and must outlive the network. */
EXPORT Network *audio_gen_network(const Shape *shape, const uint32_t *weights, int32_t precision, int32_t isa);
EXPORT void audio_gen_free(Network *network);
EXPORT size_t audio_gen_state_count(const Network *network);
EXPORT int32_t audio_gen_run(const Network *network, const Work *work);
EXPORT size_t audio_gen_predictor_words(const Predictors *predictors);
EXPORT int32_t audio_gen_hear(const Hearing *hearing, int32_t isa);
EXPORT int32_t audio_gen_gate(const Gating *gating, int32_t isa);
EXPORT int32_t audio_gen_add(const Adding *adding, int32_t isa);
EXPORT int32_t audio_gen_embed(const Embedding *embedding, int32_t isa);
EXPORT int32_t audio_gen_entropy(const Entropy *entropy, int32_t isa);
EXPORT int32_t audio_gen_anchor(const Anchoring *anchoring, int32_t isa);
EXPORT void audio_gen_take(void *team); /* for each of its threads to call */
EXPORT int32_t audio_gen_draw(const Network *network, const float *logits, const Draw *draw, float coin);

/* The same, compiled once per instruction set and precision where that makes a difference. */
typedef struct Kernels {
    int32_t (*run)(const Network *network, const Work *work);
    int32_t (*draw)(const float *logits, int32_t levels, const Draw *draw, float coin);
    int32_t (*hear)(const Hearing *hearing);
    int32_t (*gate)(const Gating *gating);
    int32_t (*add)(const Adding *adding);
    int32_t (*embed)(const Embedding *embedding);
    int32_t (*entropy)(const Entropy *entropy);
    int32_t (*anchor)(const Anchoring *anchoring);
    int32_t per_word; /* channels in a word of a vector that products read */
} Kernels;

#if defined(__x86_64__)
/* Does the processor have these instructions, and does the system keep their registers? */
int has_avx2(void);
int has_avxvnni(void);
int has_avx512(void);
int has_avx512vnni(void);
int has_avx512bf16(void);
#endif

#endif
