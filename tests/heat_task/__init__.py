"""A toy task: frames of a thermal camera in kelvin. One folder, one row, no other module."""
