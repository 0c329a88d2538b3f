"""The settings of a run, by the manual's name; see `toolbox.settings`."""

from toolbox.settings import UserParams

__all__ = ["UserParams"]
