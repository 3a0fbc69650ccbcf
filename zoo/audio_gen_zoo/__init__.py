"""Models that are too large to come with audio_gen. Their licences are in their cards: `audio-gen info NAME`."""
