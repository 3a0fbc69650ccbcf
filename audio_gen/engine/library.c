/* What the shared library exports: where each packed weight lies, and which instruction set runs. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

/* ---- Instruction sets, best first ---- */

static int always(void) { return 1; }
#if X86
static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && has_avx2();
}
#endif

static const struct {
    const char *name;
    int (*usable)(void);
    const Kernels *kernels;
} isas[] = {
#if X86
    {"avx512", has_avx512, &engine_avx512},
    {"avx2", has_avx2, &engine_avx2},
#endif
    {"baseline", always, &engine_baseline},
};

enum { ISA_COUNT = sizeof isas / sizeof *isas };

int32_t audio_gen_version(void) { return ENGINE_VERSION; }

const char *audio_gen_isa(int32_t isa) { return isa >= 0 && isa < ISA_COUNT ? isas[isa].name : NULL; }

int32_t audio_gen_isa_usable(int32_t isa) {
#if X86
    __builtin_cpu_init();
#endif
    return isa >= 0 && isa < ISA_COUNT && isas[isa].usable();
}

/* ---- Packed weights, in the order in which they are used ---- */

typedef struct {
    const float *weights; /* null: only count */
    size_t used;          /* floats so far */
    size_t state;         /* floats of state per stream so far */
    int32_t layers;       /* so far */
    size_t ahead;         /* floats of z of the layers so far */
} Cursor;

static int32_t padded(int32_t channels) { return (channels + NARROW - 1) / NARROW * NARROW; }

static const float *take(Cursor *cursor, size_t count) {
    const float *place = cursor->weights ? cursor->weights + cursor->used : NULL;
    cursor->used += count;
    return place;
}

static Matrix take_matrix(Cursor *cursor, int32_t inputs, int32_t outputs) {
    return (Matrix){take(cursor, (size_t)inputs * (size_t)outputs), inputs, outputs};
}

static size_t take_state(Cursor *cursor, size_t count) {
    const size_t place = cursor->state;
    cursor->state += count;
    return place;
}

static Layer take_layer(Cursor *cursor, const Shape *shape, int32_t k, int32_t index) {
    const int32_t channels = shape->channels[k], width = padded(channels);
    const int last = k == 0 && shape->skip_channels && index + 1 == shape->layers[0];
    Layer layer = {.dilation = 1 << (index % shape->dilation_cycle), .ring = 1};
    layer.index = cursor->layers++;
    layer.ahead = cursor->ahead;
    cursor->ahead += 2 * (size_t)width;
    while (layer.ring < (shape->kernel_size - 1) * layer.dilation) layer.ring *= 2;
    layer.history = take_state(cursor, (size_t)layer.ring * (size_t)width);
    layer.bias = take(cursor, 2 * (size_t)width);
    if (shape->condition_channels) {
        layer.condition = take_matrix(cursor, shape->condition_channels, 2 * width);
        layer.conditioned_bias = take_state(cursor, 2 * (size_t)width);
    }
    for (int32_t tap = 0; tap < shape->kernel_size; tap++) layer.tap[tap] = take_matrix(cursor, channels, 2 * width);
    if (k == 0 && shape->skip_channels) layer.skip = take_matrix(cursor, channels, padded(shape->skip_channels));
    if (!last) {
        layer.residual_bias = take(cursor, (size_t)width);
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
        tier.output = take_state(cursor, (size_t)tier.padded);
        tier.down_bias = take(cursor, (size_t)tier.padded);
    }
    for (int32_t slot = 0; slot < pool; slot++) {
        const Matrix down = take_matrix(cursor, faster, tier.padded);
        if (slots) tier.down[slot] = down;
    }
    for (int32_t i = 0; i < tier.layer_count; i++) {
        const Layer layer = take_layer(cursor, shape, k, i);
        if (layers) layers[i] = layer;
    }
    if (k) tier.up_bias = take(cursor, (size_t)pool * (size_t)padded(faster));
    for (int32_t slot = 0; slot < pool; slot++) {
        const Matrix up = take_matrix(cursor, tier.channels, padded(faster));
        if (slots) tier.up[slot] = up;
    }
    return tier;
}

static void take_network(Cursor *cursor, Network *n, Layer *layers, Matrix *slots) {
    const Shape *shape = &n->shape;
    n->condition_padded = padded(shape->condition_channels);
    n->skip_padded = padded(shape->skip_channels);
    n->head_padded = padded(shape->head_channels);
    n->embedding = take(cursor, (size_t)shape->levels * (size_t)padded(shape->channels[0]));
    if (shape->curve_channels) n->curve = take_matrix(cursor, shape->curve_channels, n->condition_padded);
    for (int32_t k = shape->tiers - 1; k >= 0; k--) {
        n->tiers[k] = take_tier(cursor, shape, k, layers, slots);
        if (layers) layers += shape->layers[k];
        if (slots && k) slots += 2 * shape->pool[k - 1];
    }
    if (shape->skip_channels) n->skip_bias = take(cursor, (size_t)n->skip_padded);
    n->hidden_bias = take(cursor, (size_t)n->head_padded);
    n->hidden = take_matrix(cursor, shape->skip_channels ? shape->skip_channels : shape->channels[0], n->head_padded);
    n->logits_bias = take(cursor, (size_t)shape->levels);
    n->logits = take_matrix(cursor, shape->head_channels, shape->levels);
    n->weight_count = cursor->used;
    n->state_count = cursor->state;
    n->layer_count = cursor->layers;
    n->ahead_count = cursor->ahead;
}

size_t audio_gen_weight_count(const Shape *shape) {
    Network network = {.shape = *shape};
    Cursor cursor = {0};
    take_network(&cursor, &network, NULL, NULL);
    return network.weight_count;
}

Network *audio_gen_network(const Shape *shape, const float *weights, int32_t isa) {
    size_t layers = 0, slots = 0;
    for (int32_t k = 0; k < shape->tiers; k++) layers += (size_t)shape->layers[k];
    for (int32_t k = 0; k + 1 < shape->tiers; k++) slots += 2 * (size_t)shape->pool[k];
    char *memory = calloc(1, sizeof(Network) + layers * sizeof(Layer) + slots * sizeof(Matrix));
    if (!memory) return NULL;
    Network *network = (Network *)memory;
    network->shape = *shape;
    network->isa = isa;
    Cursor cursor = {.weights = weights};
    Layer *first = (Layer *)(memory + sizeof(Network));
    take_network(&cursor, network, first, (Matrix *)(first + layers));
    return network;
}

void audio_gen_free(Network *network) { free(network); }

size_t audio_gen_state_count(const Network *network) { return network->state_count; }

/* ---- Running, with the float unit in its default mode ---- */

/* Another library in the process may have switched denormals off; the bits must not depend on it. */
#if X86
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
    FLOAT_MODE(isas[network->isa].kernels->run(network, work));
}

int32_t audio_gen_draw(const Network *network, const float *logits, const Draw *draw, float coin) {
    _Alignas(64) float aligned[MAX_LEVELS];
    memcpy(aligned, logits, (size_t)network->shape.levels * sizeof(float));
    FLOAT_MODE(isas[network->isa].kernels->draw(aligned, network->shape.levels, draw, coin));
}
