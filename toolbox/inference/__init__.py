"""Use of a trained network: maps and images of any size, and export for other programs."""
