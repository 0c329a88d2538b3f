"""OpenCV, imported in one place so that a missing system library is explained once."""

from __future__ import annotations

from toolbox.errors import MissingLibraryError

try:
    import cv2
except ImportError as error:
    raise MissingLibraryError(
        f"OpenCV cannot be imported ({error}). On a machine without a display, install its system "
        f"libraries (Debian/Ubuntu: apt-get install libgl1 libglib2.0-0), or the build that needs "
        f"none: pip uninstall opencv-python && pip install opencv-python-headless."
    ) from error

__all__ = ["cv2"]
