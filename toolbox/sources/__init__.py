"""Places that pairs come from; their names are in `toolbox.registry.SOURCES`."""
