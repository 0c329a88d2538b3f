"""Building blocks for super-resolution of scientific images (networks, losses, data, reports)."""

__version__ = "0.1.0"
