"""Reading and writing of files: rasters, pickles, weights. Each appears complete or not at all."""
