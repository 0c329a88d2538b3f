"""The napari plugin: restores or measures the active image. Only napari imports its modules."""
