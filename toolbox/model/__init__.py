"""Networks, one file each; their names are in `toolbox.registry.MODELS`."""
