"""Programs that make sets of low- and high-resolution patches from rasters."""
