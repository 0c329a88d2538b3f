"""Recognition of the phases of an operation in its video, frame by frame."""
