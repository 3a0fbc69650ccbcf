"""The network in PyTorch: written once, for training, for whole sequences, chunks and single steps alike."""

from audio_gen.network.tier import TierState
from audio_gen.network.wavenet import Network, NetworkState

__all__ = ["Network", "NetworkState", "TierState"]
