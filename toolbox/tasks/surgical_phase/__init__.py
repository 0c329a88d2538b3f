"""Phases of an operation in its video: which step the surgeon is at, second by second."""
