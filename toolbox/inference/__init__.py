"""A trained network in use: maps and images of any size, and files for other programs."""
