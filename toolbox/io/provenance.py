"""Metadata that state how a result was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from toolbox import __version__


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How an enlarged map was made, for the metadata of its file.

    Attributes
    ----------
    network : str
        Name of the network.
    tags : mapping of str to str
        Further metadata tags, such as ``{"NOT_FOR_NAVIGATION": "yes"}``.
    remark : str
        Meaning of the tags in a sentence, appended to `comment`.
    """

    network: str
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remark: str = ""

    def processing(self, scale: int) -> str:
        """Return the processing, such as ``super-resolved x4 by edsr (sr-toolbox 1.0.0)``."""
        done = f"super-resolved x{scale}" if scale > 1 else "restored"
        return f"{done} by {self.network} (sr-toolbox {__version__})"

    def metadata(self, scale: int, source: str) -> dict[str, str]:
        """Return metadata tags: ``PROCESSING``, ``SOURCE_FILE`` and `tags`."""
        return {"PROCESSING": self.processing(scale), "SOURCE_FILE": source, **self.tags}

    def comment(self, scale: int, source: str) -> str:
        """Return the same information in sentences."""
        done = self.processing(scale)
        return f"{done[0].upper()}{done[1:]} from {source}. {self.remark}".strip()
