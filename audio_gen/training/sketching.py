"""The recipe of a recipe's sketch: the same loop trains it, on the curves of the same store."""

from audio_gen.data.sketches import SketchStore
from audio_gen.settings import ControlSettings, NetworkSettings, Recipe, TrainSettings

FOLDER = "sketch"
"""Of a run, where its sketch is trained."""


def sketch_recipe(recipe: Recipe, store: SketchStore) -> Recipe:
    """What `recipe.sketch`, which must be there, says in the words of a recipe for `store`."""
    asked = recipe.sketch
    assert asked is not None
    network = NetworkSettings(
        layers=asked.layers,
        channels=asked.channels,
        pool=[store.unit],
        head_channels=asked.head_channels,
        condition_channels=asked.condition_channels,
        predictors=[],
        period=False,  # its samples are no wave
    )
    train = TrainSettings(
        steps=asked.steps,
        minutes=asked.minutes,
        clock=recipe.train.clock,
        batch_size=asked.batch_size,
        crop=asked.frames * store.unit,
        walk=asked.walk,
        balance=recipe.train.balance,
        starts=1.0 if recipe.train.starts else 0.0,  # drawn from a clip's beginning, where clips have one
        onset=asked.onset,
        learning_rate=asked.learning_rate,
        weight_decay=asked.weight_decay,
        ema=asked.ema,
        label_dropout=asked.label_dropout,
        input_noise=asked.input_noise,
        least_noise=asked.least_noise,
        end_noise=asked.end_noise,
        deaf=asked.deaf,
        precision=recipe.train.precision,
        seed=recipe.train.seed,
        validate_every=asked.validate_every,
        valid_seconds=60.0,
        preview_seconds=0.0,
    )
    return Recipe(
        name=f"{recipe.name}-sketch",
        data=recipe.data,
        controls=ControlSettings(labels=recipe.controls.labels, curves=store.curves, hop=store.unit),
        network=network,
        train=train,
        card=recipe.card,
    )
