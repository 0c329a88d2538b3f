"""Networks, one file each; `toolbox.registry.MODELS` lists their names."""
