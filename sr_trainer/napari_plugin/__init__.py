"""The plugin for napari: its active image restored or measured. Only napari imports the rest."""
