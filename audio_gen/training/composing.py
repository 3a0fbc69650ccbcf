"""The recipe of a recipe's composer: the same loop trains it, on the notes of the same store."""

from audio_gen.composer import TOKENS
from audio_gen.data.note_lists import NoteStore
from audio_gen.settings import ControlSettings, NetworkSettings, PlaySettings, Recipe, TrainSettings

FOLDER = "composer"
"""Of a run, where its composer is trained."""


def composer_recipe(recipe: Recipe, store: NoteStore) -> Recipe:
    """What `recipe.composer`, which must be there, says in the words of a recipe for `store`."""
    asked = recipe.composer
    assert asked is not None
    return Recipe(
        name=f"{recipe.name}-composer",
        data=recipe.data,
        controls=ControlSettings(labels=recipe.controls.labels, hop=store.unit),
        network=NetworkSettings(
            layers=asked.layers,
            channels=asked.channels,
            pool=[TOKENS],
            head_channels=asked.head_channels,
            condition_channels=asked.condition_channels,
            predictors=[],
            period=False,  # its samples are no wave
        ),
        train=TrainSettings(
            steps=asked.steps,
            minutes=asked.minutes,
            batch_size=asked.batch_size,
            crop=asked.notes * TOKENS,
            walk=asked.walk,
            starts=0.25,  # a piece begins where pieces begin
            learning_rate=asked.learning_rate,
            weight_decay=asked.weight_decay,
            ema=asked.ema,
            label_dropout=asked.label_dropout,
            input_noise=asked.input_noise,
            precision=recipe.train.precision,
            seed=recipe.train.seed,
            validate_every=asked.validate_every,
            valid_seconds=3600.0,
            preview_seconds=0.0,
        ),
        play=PlaySettings(temperature=asked.temperature, top_p=asked.top_p),
        card=recipe.card,
    )
