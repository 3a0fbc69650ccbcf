"""Training: the loop, its steps, validation, and the state that lets it go on as if never stopped."""
