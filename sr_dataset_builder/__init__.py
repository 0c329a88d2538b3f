"""Programs that turn rasters into sets of low- and high-resolution patches."""
