"""Files in and out: rasters, pickles, weights; each appears whole or not at all."""
