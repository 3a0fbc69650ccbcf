/* Runs the engine on a machine without Python: a file of inputs in, tokens and logits out.

   The file holds, in the machine's own types: Shape; int32 precision; int32 streams; int64 steps; int64 curve frames; the weights;
   conditions (streams, condition channels padded); curves (streams, frames, channels); coins (streams, steps). */
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"

static void *take(FILE *file, size_t size) {
    char *memory = malloc(size + 64);
    if (!memory) exit(3);
    char *aligned = memory + (64 - (uintptr_t)memory % 64);
    if (fread(aligned, 1, size, file) != size) exit(2);
    return aligned;
}

int main(int count, char **arguments) {
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (!file) return 1;
    const Shape *shape = take(file, sizeof(Shape));
    const int32_t precision = *(int32_t *)take(file, 4);
    const int32_t streams = *(int32_t *)take(file, 4);
    const int64_t steps = *(int64_t *)take(file, 8), frames = *(int64_t *)take(file, 8);
    const size_t rows = (size_t)streams, samples = rows * (size_t)steps;
    const uint32_t *weights = take(file, audio_gen_weight_count(shape, precision) * sizeof(uint32_t));
    Work work = {.steps = steps, .streams = streams, .curve_frames = frames};
    if (shape->condition_channels) work.condition = take(file, rows * (size_t)((shape->condition_channels + 31) / 32 * 32) * 4);
    if (frames) work.curves = take(file, rows * (size_t)frames * (size_t)shape->curve_channels * 4);
    work.coins = take(file, samples * 4);
    Draw draws[64];
    uint16_t last[64];
    for (int32_t s = 0; s < streams; s++) {
        draws[s] = (Draw){1.0f, 1.0f, 0.0f, 0};
        last[s] = (uint16_t)(shape->levels / 2);
    }
    int32_t isa = 0; /* the best there is */
    while (!audio_gen_isa_usable(isa)) isa++;
    puts(audio_gen_isa(isa));
    Network *network = audio_gen_network(shape, weights, precision, isa);
    if (!network) return 3;
    char *state = calloc(rows * audio_gen_state_count(network) + 16, sizeof(float));
    work.draws = draws;
    work.last = last;
    work.state = (float *)(state + (64 - (uintptr_t)state % 64) % 64);
    work.drawn = malloc(samples * sizeof(uint16_t));
    work.logits = malloc(samples * (size_t)shape->levels * sizeof(float));
    if (audio_gen_run(network, &work) != ENGINE_OK) return 4;
    FILE *result = fopen(arguments[2], "wb");
    if (!result) return 1;
    fwrite(work.drawn, sizeof(uint16_t), samples, result);
    fwrite(work.logits, sizeof(float), samples * (size_t)shape->levels, result);
    return fclose(result) == 0 ? 0 : 1;
}
