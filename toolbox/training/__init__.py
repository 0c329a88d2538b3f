"""What a training run uses: saved states, schedules, perceptual features."""
