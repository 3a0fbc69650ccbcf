"""What a model is worth: bits per sample beside simple baselines, and measures of what it generates."""
