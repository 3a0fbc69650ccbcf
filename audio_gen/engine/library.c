/* What the shared library exports: where each packed weight lies, and which instruction set runs. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

/* ---- Instruction sets, best first: those that the compiler knew, WITH_ each ---- */

#if defined(__x86_64__)
static int all_bits(uint32_t found, uint32_t wanted) { return (found & wanted) == wanted; }

/* Has the processor these features, in the registers that Intel's manual gives them, and does the system keep their
   registers? Asked by ourselves, since not every compiler's runtime library knows the answer. */
static int has(uint32_t kept, uint32_t ebx7, uint32_t ecx7, uint32_t eax7_1) {
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all_bits(c, 1u << 12 | 1u << 27 | 1u << 28)) return 0; /* FMA, xgetbv, AVX */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!all_bits(low, kept)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all_bits(b, ebx7) || !all_bits(c, ecx7)) return 0;
    if (!eax7_1) return 1;
    return a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && all_bits(a, eax7_1);
}

enum { KEEPS_AVX = 0x06, KEEPS_AVX512 = 0xe6, AVX2 = 1 << 5, VNNI = 1 << 11, AVX_VNNI = 1 << 4, BF16_DOT = 1 << 5 };
static const uint32_t AVX512 = AVX2 | 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F, DQ, CD, BW, VL */

int has_avx2(void) { return has(KEEPS_AVX, AVX2, 0, 0); }
int has_avxvnni(void) { return has(KEEPS_AVX, AVX2, 0, AVX_VNNI); }
int has_avx512(void) { return has(KEEPS_AVX512, AVX512, 0, 0); }
int has_avx512vnni(void) { return has(KEEPS_AVX512, AVX512, VNNI, 0); }
int has_avx512bf16(void) { return has(KEEPS_AVX512, AVX512, VNNI, BF16_DOT); }
#elif defined(__aarch64__)
static int has_dotprod(void) {
#if defined(__ARM_FEATURE_DOTPROD) /* all that this is compiled for have it */
    return 1;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0; /* ASIMDDP */
#else
    return 0;
#endif
}
#endif
static int always(void) { return 1; }

extern const Kernels fp32_avx512, fp32_avx2, fp32_baseline;
extern const Kernels bf16_avx512bf16, bf16_avx512, bf16_avx2, bf16_baseline;
extern const Kernels int8_avx512vnni, int8_avx512, int8_avxvnni, int8_avx2, int8_dotprod, int8_baseline;

static const struct {
    const char *name;
    int (*usable)(void);
    const Kernels *kernels[PRECISIONS];
} isas[] = {
#if defined(WITH_AVX512BF16)
    {"avx512bf16", has_avx512bf16, {&fp32_avx512, &bf16_avx512bf16, &int8_avx512vnni}},
#endif
#if defined(WITH_AVX512VNNI)
    {"avx512vnni", has_avx512vnni, {&fp32_avx512, &bf16_avx512, &int8_avx512vnni}},
#endif
#if defined(WITH_AVX512)
    {"avx512", has_avx512, {&fp32_avx512, &bf16_avx512, &int8_avx512}},
#endif
#if defined(WITH_AVXVNNI)
    {"avxvnni", has_avxvnni, {&fp32_avx2, &bf16_avx2, &int8_avxvnni}},
#endif
#if defined(WITH_AVX2)
    {"avx2", has_avx2, {&fp32_avx2, &bf16_avx2, &int8_avx2}},
#endif
#if defined(WITH_DOTPROD)
    {"dotprod", has_dotprod, {&fp32_baseline, &bf16_baseline, &int8_dotprod}},
#endif
    {"baseline", always, {&fp32_baseline, &bf16_baseline, &int8_baseline}},
};

enum { ISA_COUNT = sizeof isas / sizeof *isas };

int32_t audio_gen_version(void) { return ENGINE_VERSION; }

const char *audio_gen_isa(int32_t isa) { return isa >= 0 && isa < ISA_COUNT ? isas[isa].name : NULL; }

int32_t audio_gen_isa_usable(int32_t isa) {
    return isa >= 0 && isa < ISA_COUNT && isas[isa].usable();
}

/* ---- Packed weights, in the order in which they are used ---- */

typedef struct {
    const uint32_t *weights; /* null: only count */
    int32_t precision;
    const Kernels *kernels;  /* null: only count */
    size_t used;             /* words so far */
    size_t state;            /* words of state per stream so far */
    int32_t layers;          /* so far */
    size_t ahead;            /* words of z of the layers so far */
} Cursor;

static int32_t padded(int32_t channels) { return (channels + NARROW - 1) / NARROW * NARROW; }

static const uint32_t *take(Cursor *cursor, size_t count) {
    const uint32_t *place = cursor->weights ? cursor->weights + cursor->used : NULL;
    cursor->used += count;
    return place;
}

static const float *take_floats(Cursor *cursor, size_t count) { return (const float *)take(cursor, count); }

/* A number per channel, in int8 only: steps, what they are worth, or the offset of their sums. */
static const float *take_steps(Cursor *cursor, int32_t channels) {
    return cursor->precision == INT8 ? take_floats(cursor, (size_t)padded(channels)) : NULL;
}

static Matrix take_floats_matrix(Cursor *cursor, int32_t inputs, int32_t outputs) {
    return (Matrix){take(cursor, (size_t)inputs * (size_t)outputs), NULL, NULL, inputs, outputs};
}

/* Matrices with as many outputs, and one scale for all. */
static void take_matrices(Cursor *cursor, Matrix *matrix, int32_t count, int32_t inputs, int32_t outputs) {
    static const int32_t per_word[PRECISIONS] = {1, 2, 4};
    const int32_t groups = (inputs + per_word[cursor->precision] - 1) / per_word[cursor->precision];
    const float *scale = take_steps(cursor, outputs);
    const int32_t *offset = (const int32_t *)take_steps(cursor, outputs);
    for (int32_t i = 0; i < count; i++) {
        matrix[i] = (Matrix){take(cursor, (size_t)groups * (size_t)outputs), scale, offset, groups, outputs};
    }
}

static Matrix take_matrix(Cursor *cursor, int32_t inputs, int32_t outputs) {
    Matrix matrix;
    take_matrices(cursor, &matrix, 1, inputs, outputs);
    return matrix;
}

static size_t take_state(Cursor *cursor, size_t count) {
    const size_t place = cursor->state;
    cursor->state += (count + NARROW - 1) / NARROW * NARROW;
    return place;
}

/* State for vectors that products read. */
static size_t take_inputs(Cursor *cursor, size_t rows, int32_t width) {
    if (!cursor->kernels) return 0;
    return take_state(cursor, rows * (size_t)(width / cursor->kernels->per_word));
}

static Layer take_layer(Cursor *cursor, const Shape *shape, int32_t k, int32_t index) {
    const int32_t channels = shape->channels[k], width = padded(channels);
    const int last = k == 0 && shape->skip_channels && index + 1 == shape->layers[0];
    Layer layer = {.dilation = 1 << (index % shape->dilation_cycle), .ring = 1};
    layer.index = cursor->layers++;
    layer.ahead = cursor->ahead;
    cursor->ahead += 2 * (size_t)width;
    while (layer.ring < (shape->kernel_size - 1) * layer.dilation) layer.ring *= 2;
    layer.history = take_inputs(cursor, (size_t)layer.ring, width);
    layer.bias = take_floats(cursor, 2 * (size_t)width);
    if (shape->condition_channels) {
        layer.condition = take_floats_matrix(cursor, shape->condition_channels, 2 * width);
        layer.conditioned_bias = take_state(cursor, 2 * (size_t)width);
    }
    layer.input_steps = take_steps(cursor, channels);
    take_matrices(cursor, layer.tap, shape->kernel_size, channels, 2 * width);
    layer.gated_steps = take_steps(cursor, channels);
    if (k == 0 && shape->skip_channels) layer.skip = take_matrix(cursor, channels, padded(shape->skip_channels));
    if (!last) {
        layer.residual_bias = take_floats(cursor, (size_t)width);
        layer.residual = take_matrix(cursor, channels, width);
    }
    return layer;
}

/* Layers and matrices go to the arrays given, if any. Returns the tier whose weights were taken. */
static Tier take_tier(Cursor *cursor, const Shape *shape, int32_t k, Layer *layers, Matrix *slots) {
    const int32_t faster = k ? shape->channels[k - 1] : 0, pool = k ? shape->pool[k - 1] : 0;
    Tier tier = {.channels = shape->channels[k], .padded = padded(shape->channels[k]), .pool = pool, .period = 1,
                 .layer_count = shape->layers[k], .layers = layers, .down = slots, .up = slots ? slots + pool : NULL};
    for (int32_t i = 0; i < k; i++) tier.period *= shape->pool[i];
    if (k) {
        tier.gathering = take_state(cursor, (size_t)tier.padded);
        tier.output = take_inputs(cursor, 1, tier.padded);
        tier.down_bias = take_floats(cursor, (size_t)tier.padded);
        tier.down_steps = take_steps(cursor, faster);
    }
    for (int32_t slot = 0; slot < pool; slot++) {
        const Matrix down = take_matrix(cursor, faster, tier.padded);
        if (slots) tier.down[slot] = down;
    }
    for (int32_t i = 0; i < tier.layer_count; i++) {
        const Layer layer = take_layer(cursor, shape, k, i);
        if (layers) layers[i] = layer;
    }
    if (k) {
        tier.up_steps = take_steps(cursor, tier.channels);
        tier.up_bias = take_floats(cursor, (size_t)pool * (size_t)padded(faster));
    }
    for (int32_t slot = 0; slot < pool; slot++) {
        const Matrix up = take_matrix(cursor, tier.channels, padded(faster));
        if (slots) tier.up[slot] = up;
    }
    return tier;
}

static void take_predictors(Cursor *cursor, Network *n) {
    const Shape *shape = &n->shape;
    Predictors *all = &n->predictors;
    *all = (Predictors){.count = shape->predictors, .levels = shape->levels, .envelope = shape->envelope,
                        .bands = shape->bands, .period = shape->period, .pitch = shape->pitch, .phases = shape->phases,
                        .hop = shape->hop, .curve_channels = shape->curve_channels};
    for (int32_t i = 0; i < all->count; i++) {
        all->order[i] = shape->orders[i];
        if (all->order[i] > all->longest) all->longest = all->order[i];
    }
    if (!predictor_count(all)) return;
    all->amplitudes = (const int32_t *)take(cursor, (size_t)shape->levels);
    if (all->envelope) {
        all->band = (const int32_t *)take(cursor, POINTS);
        all->between = take_floats(cursor, POINTS);
        all->level = take_floats(cursor, (size_t)all->bands);
        all->cosines = take_floats(cursor, (size_t)(all->envelope + 1) * POINTS);
        cursor->used = (cursor->used + NARROW - 1) / NARROW * NARROW; /* what follows is aligned */
    }
    n->predicting = take_state(cursor, predictor_words(all));
}

static void take_network(Cursor *cursor, Network *n, Layer *layers, Matrix *slots) {
    const Shape *shape = &n->shape;
    n->condition_padded = padded(shape->condition_channels);
    n->skip_padded = padded(shape->skip_channels);
    n->head_padded = padded(shape->head_channels);
    take_predictors(cursor, n);
    const int32_t heard = shape->levels + predictor_count(&n->predictors) * (shape->levels + SPREADS)
                          + (shape->phases ? 1 + shape->phases : 0);
    n->embedding = take_floats(cursor, (size_t)heard * (size_t)padded(shape->channels[0]));
    if (shape->curve_channels) n->curve = take_floats_matrix(cursor, shape->curve_channels, n->condition_padded);
    for (int32_t k = shape->tiers - 1; k >= 0; k--) {
        n->tiers[k] = take_tier(cursor, shape, k, layers, slots);
        if (layers) layers += shape->layers[k];
        if (slots && k) slots += 2 * shape->pool[k - 1];
    }
    if (shape->skip_channels) n->skip_bias = take_floats(cursor, (size_t)n->skip_padded);
    const int32_t head_inputs = shape->skip_channels ? shape->skip_channels : shape->channels[0];
    n->hidden_steps = take_steps(cursor, head_inputs);
    n->hidden_bias = take_floats(cursor, (size_t)n->head_padded);
    n->hidden = take_matrix(cursor, head_inputs, n->head_padded);
    n->logits_steps = take_steps(cursor, shape->head_channels);
    n->logits_padded = padded(shape->levels + anchor_rows(shape, &n->predictors));
    n->logits_bias = take_floats(cursor, (size_t)n->logits_padded);
    n->logits = take_matrix(cursor, shape->head_channels, n->logits_padded);
    n->weight_count = cursor->used;
    n->state_count = cursor->state;
    n->layer_count = cursor->layers;
    n->ahead_count = cursor->ahead;
}

size_t audio_gen_weight_count(const Shape *shape, int32_t precision) {
    Network network = {.shape = *shape};
    Cursor cursor = {.precision = precision};
    take_network(&cursor, &network, NULL, NULL);
    return network.weight_count;
}

Network *audio_gen_network(const Shape *shape, const uint32_t *weights, int32_t precision, int32_t isa) {
    size_t layers = 0, slots = 0;
    for (int32_t k = 0; k < shape->tiers; k++) layers += (size_t)shape->layers[k];
    for (int32_t k = 0; k + 1 < shape->tiers; k++) slots += 2 * (size_t)shape->pool[k];
    char *memory = calloc(1, sizeof(Network) + layers * sizeof(Layer) + slots * sizeof(Matrix));
    if (!memory) return NULL;
    Network *network = (Network *)memory;
    network->shape = *shape;
    network->kernels = isas[isa].kernels[precision];
    Cursor cursor = {.weights = weights, .precision = precision, .kernels = network->kernels};
    Layer *first = (Layer *)(memory + sizeof(Network));
    take_network(&cursor, network, first, (Matrix *)(first + layers));
    return network;
}

void audio_gen_free(Network *network) { free(network); }

size_t audio_gen_state_count(const Network *network) { return network->state_count; }

/* ---- Running, with the float unit in its default mode ---- */

/* Another library in the process may have switched denormals off; the bits must not depend on it. */
#if defined(__x86_64__)
#define FLOAT_MODE(call) \
    const unsigned mode = _mm_getcsr(); \
    _mm_setcsr(0x1f80); \
    const int32_t result = (call); \
    _mm_setcsr(mode); \
    return result
#elif defined(__aarch64__)
#define FLOAT_MODE(call) \
    uint64_t mode; \
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode)); \
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0)); \
    const int32_t result = (call); \
    __asm__ volatile("msr fpcr, %0" : : "r"(mode)); \
    return result
#else
#define FLOAT_MODE(call) return (call)
#endif

int32_t audio_gen_run(const Network *network, const Work *work) {
    FLOAT_MODE(network->kernels->run(network, work));
}

size_t audio_gen_predictor_words(const Predictors *predictors) { return predictor_words(predictors); }

int32_t audio_gen_hear(const Hearing *hearing, int32_t isa) {
    FLOAT_MODE(isas[isa].kernels[FP32]->hear(hearing));
}

static const Kernels *learner(int32_t isa, int32_t bits) { return isas[isa].kernels[bits == 16 ? BF16 : FP32]; }

int32_t audio_gen_gate(const Gating *gating, int32_t isa) {
    FLOAT_MODE(learner(isa, gating->bits)->gate(gating));
}

int32_t audio_gen_add(const Adding *adding, int32_t isa) {
    FLOAT_MODE(learner(isa, adding->bits)->add(adding));
}

int32_t audio_gen_embed(const Embedding *embedding, int32_t isa) {
    FLOAT_MODE(isas[isa].kernels[FP32]->embed(embedding));
}

int32_t audio_gen_entropy(const Entropy *entropy, int32_t isa) {
    FLOAT_MODE(learner(isa, entropy->bits)->entropy(entropy));
}

int32_t audio_gen_anchor(const Anchoring *anchoring, int32_t isa) {
    FLOAT_MODE(learner(isa, anchoring->bits)->anchor(anchoring));
}

void audio_gen_take(void *of) {
    Team *team = of;
    int32_t place;
    while ((place = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED)) < team->count)
        team->verb((const char *)team->parts + (size_t)place * (size_t)team->size, team->isa);
}

int32_t audio_gen_draw(const Network *network, const float *logits, const Draw *draw, float coin) {
    _Alignas(64) float aligned[MAX_LEVELS];
    memcpy(aligned, logits, (size_t)network->shape.levels * sizeof(float));
    FLOAT_MODE(network->kernels->draw(aligned, network->shape.levels, draw, coin));
}
