"""Four kinds of collections, and what a network that learns one of them should be told: tables of a recipe, as TOML.

Found on a collection of each kind (`benchmarks/LEARNED.md`): drums and spoken digits, textures, a double bass, a piano.
The minutes, the step and what depends on the sample rate are filled in by `draft`.
"""

from dataclasses import dataclass
from string import Template


@dataclass(frozen=True)
class Kind:
    """Of a collection."""

    tables: Template
    """Of its recipe."""
    sketching: float = 0.2
    """Share of the minutes that the sketch is trained for."""


CLIPS = Kind(
    Template("""\
[controls]
hop = $hop
curves = ["mel"]
mel_bands = 20

[sketch]                              # draws the spectrum of what is asked for; the samples follow it
minutes = $sketching

[network]
layers = [4, 6, 7, 4]
channels = [64, 112, 160, 128]
pool = [4, 4, 4]
head_channels = 128
envelope = $envelope
condition_channels = 64

[train]
minutes = $training
learning_rate = $rate
batch_size = 16
crop = 1024
walk = 24
ema = 0.9985
label_dropout = 0.15
starts = 1.0                          # every stream begins with a clip
input_noise = 4                       # what is heard is the model's own, slips and all
$augmentation
[play]
temperature = 0.9                     # lower is calmer, higher is wilder
"""),
)
"""Hits, words, sentences: each begins, and ends."""

ENDLESS = Kind(
    Template("""\
[controls]
hop = $hop
curves = ["mel"]
mel_bands = $bands

[sketch]                              # draws the spectrum of what is asked for; the samples follow it
minutes = $sketching
onset = 8                             # the first frame; what is far off there stays so for a second
channels = [64, 112]
frames = 64                           # a second: waves are slow
input_noise = 3.5                     # more makes it restless, less forgets what was asked for

[network]
layers = [4, 6, 7, 4]
channels = [64, 96, 128, 96]
pool = [4, 4, 4]
envelope = $envelope
condition_channels = 64

[train]
minutes = $training
learning_rate = $rate
balance = 1.0                         # short recordings are learned as well as long ones of other labels
batch_size = 16
crop = 1024
walk = 24
ema = 0.9985
input_noise = 4                       # what is heard is the model's own, slips and all

[play]
sketch_temperature = 1.0              # as wild as it was heard
guidance = 0.5                        # stays with what it was asked for
"""),
)
"""Textures, talk, music whose notes nobody wrote down: anywhere in them is a place to begin."""

PITCHES = Kind(
    Template("""\
[codec]
levels = 1024                         # a loud low note moves by less per sample than a step of 256 is wide

[controls]
hop = $hop
curves = ["mel", "pitch"]
mel_bands = 32
pitch = "{note}"                      # asked for with --curve pitch=a2, or with a melody

[sketch]                              # draws the spectrum of what is asked for; the samples follow it
minutes = $sketching
channels = [48, 96]

[network]
layers = [4, 6, 7, 4]
channels = [64, 96, 160, 128]
pool = [4, 4, 4]
head_channels = 128
envelope = $envelope
condition_channels = 96

[train]
minutes = $training
learning_rate = $rate
batch_size = 8
crop = 2048
walk = 12
ema = 0.9985
starts = 0.5                          # half of the streams begin with a note
input_noise = 16                      # what is heard is the model's own, slips and all
tell_noise = true                     # so that a player can have it follow the pitch instead: doubt

[play]
temperature = 0.9
sketch_temperature = 0.4
doubt = 1.5                           # in tune; at 0 it follows what it has played
"""),
    sketching=0.07,
)
"""Notes of one instrument, one at a time, whose names tell the pitch."""

ROLL = Kind(
    Template("""\
[controls]
hop = $hop
curves = ["mel", "notes"]             # asked for with --curve notes=tune.csv, or composed
mel_bands = 48

[sketch]                              # draws the spectrum of the notes; the samples follow both
minutes = $sketching
deaf = true                           # else it follows itself, not the notes
input_noise = 0.0
channels = [96, 192]
batch_size = 8
frames = 48

[composer]                            # makes up the notes where none are given
minutes = $composing

[network]
layers = [4, 6, 7, 5]
channels = [64, 96, 160, 160]
pool = [4, 4, 4]
envelope = $envelope
condition_channels = 96

[train]
minutes = $training
learning_rate = $rate
batch_size = 8
crop = 2048
walk = 12
ema = 0.9985
input_noise = 4                       # what is heard is the model's own, slips and all

[play]
temperature = 0.9
sketch_temperature = 0.0
"""),
)
"""Music with the notes of each recording beside it."""
