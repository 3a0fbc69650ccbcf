/* Running streams for a browser: a network, its streams, and what leads from one call to the next. Callers need know of
   no structure but Shape, which is int32 throughout. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

typedef struct {
    Network *network;
    int64_t position; /* absolute, of the next sample */
    int32_t streams, renewed;
    float *state, *condition; /* (streams, state_count), (streams, condition_padded) */
    Draw *draws;
    float *guidance;
    uint16_t *last;
} Voices;

/* Room for so many bytes, 64-byte aligned and zero; null if there is none. It is kept for good. */
EXPORT void *audio_gen_room(size_t bytes) {
    const size_t whole = (bytes + 63) / 64 * 64 + 64;
    void *room = aligned_alloc(64, whole);
    return room ? memset(room, 0, whole) : NULL;
}

/* Streams at their beginning, to be asked for something first; null if memory is short. */
EXPORT Voices *audio_gen_voices(const Shape *shape, const uint32_t *weights, int32_t precision, int32_t streams) {
    Voices *voices = audio_gen_room(sizeof(Voices));
    if (!voices) return NULL;
    const size_t rows = (size_t)streams;
    voices->network = audio_gen_network(shape, weights, precision, 0);
    if (!voices->network) return NULL;
    voices->streams = streams;
    voices->state = audio_gen_room(rows * voices->network->state_count * sizeof(float));
    voices->condition = audio_gen_room(rows * (size_t)voices->network->condition_padded * sizeof(float));
    voices->draws = audio_gen_room(rows * sizeof(Draw));
    voices->guidance = audio_gen_room(rows * sizeof(float));
    voices->last = audio_gen_room(rows * sizeof(uint16_t));
    return voices->state && voices->condition && voices->draws && voices->guidance && voices->last ? voices : NULL;
}

/* Back to the beginning, and to silence. */
EXPORT void audio_gen_rewind(Voices *voices) {
    const size_t rows = (size_t)voices->streams;
    memset(voices->state, 0, rows * voices->network->state_count * sizeof(float));
    for (size_t row = 0; row < rows; row++) voices->last[row] = (uint16_t)(voices->network->shape.levels / 2);
    voices->position = 0;
}

/* (streams, condition channels padded): where to write what is asked for, from the next sample on. */
EXPORT float *audio_gen_ask(Voices *voices) {
    voices->renewed = 1;
    return voices->condition;
}

/* How the streams are drawn from the next sample on, all alike. */
EXPORT void audio_gen_turn(
    Voices *voices, float temperature, int32_t top_k, float top_p, float min_p, float guidance
) {
    for (int32_t row = 0; row < voices->streams; row++) {
        voices->draws[row] = (Draw){temperature, top_p, min_p, top_k};
        voices->guidance[row] = guidance;
    }
}

/* Draw the next `steps` tokens (streams, steps) by coins (streams, steps). `curves` (streams, frames, curve channels) are
   those of the frames that the samples lie in, or null; `paired` streams are guided. */
EXPORT int32_t audio_gen_next(
    Voices *voices, int32_t steps, const float *coins, const float *curves, int32_t frames, int32_t paired,
    uint16_t *drawn
) {
    const Shape *shape = &voices->network->shape;
    const Work work = {
        .position = voices->position,
        .steps = steps,
        .streams = voices->streams,
        .renewed = voices->renewed,
        .state = voices->state,
        .last = voices->last,
        .condition = shape->condition_channels ? voices->condition : NULL,
        .curves = curves,
        .first_curve = curves ? voices->position / shape->hop : 0,
        .curve_frames = curves ? frames : 0,
        .coins = coins,
        .draws = voices->draws,
        .guidance = paired ? voices->guidance : NULL,
        .drawn = drawn,
    };
    const int32_t result = audio_gen_run(voices->network, &work);
    voices->position += steps;
    voices->renewed = 0;
    return result;
}
