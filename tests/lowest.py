"""Print the lowest versions that requirements and extras claim, for ``make test-lowest``."""

from __future__ import annotations

import re
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[1]
#: Without video: PyAV 18, its lowest version, needs Python 3.11.
EXTRAS = ("geo", "export", "postgresql")


def lowest_versions() -> list[str]:
    """Return lines such as ``tensorflow==2.18``: the core, the extras, and pytest."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = content["project"]["optional-dependencies"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines += [line for name in EXTRAS for line in extras[name]]
    lines += [line for line in extras["dev"] if line.startswith("pytest")]
    wanted = [line for line in lines if not line.startswith("#")]
    return [re.sub(r"^([^<>=]+)>=([^,]+).*", r"\1==\2", line) for line in wanted]


if __name__ == "__main__":
    print("\n".join(lowest_versions()))
