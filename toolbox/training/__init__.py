"""Parts of a training run: saved states, schedules, perceptual features."""
