"""What a file says of how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from toolbox import __version__


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What made an enlarged map, for the metadata of its file.

    Attributes
    ----------
    network : str
        Name of the network.
    tags : mapping of str to str
        Further metadata tags, such as ``{"NOT_FOR_NAVIGATION": "yes"}``.
    remark : str
        What the tags mean, as a sentence; the end of `comment`.
    """

    network: str
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remark: str = ""

    def processing(self, scale: int) -> str:
        """Return what was done, such as ``super-resolved x4 by edsr (sr-toolbox 1.0.0)``."""
        done = f"super-resolved x{scale}" if scale > 1 else "restored"
        return f"{done} by {self.network} (sr-toolbox {__version__})"

    def metadata(self, scale: int, source: str) -> dict[str, str]:
        """Return metadata tags: ``PROCESSING``, ``SOURCE_FILE`` and `tags`."""
        return {"PROCESSING": self.processing(scale), "SOURCE_FILE": source, **self.tags}

    def comment(self, scale: int, source: str) -> str:
        """Return the same in sentences."""
        done = self.processing(scale)
        return f"{done[0].upper()}{done[1:]} from {source}. {self.remark}".strip()
