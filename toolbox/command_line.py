"""Command lines: a mistake is one clear line."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from toolbox.errors import nearest_name

#: Messages of argparse, and how they are worded here.
_REWORDED = (
    (
        r"^argument (?:-\w/)?(\S+): not allowed with argument (?:-\w/)?(\S+)$",
        r"\1 is not allowed with \2. Leave out one of them.",
    ),
    (
        r"^argument (?:-\w/)?(\S+): invalid int value: (.*)$",
        r"\1 must be a whole number; received \2.",
    ),
    (r"^argument (?:-\w/)?(\S+): invalid float value: (.*)$", r"\1 must be a number; received \2."),
    (r"^argument (?:-\w/)?(\S+): expected .*argument.*$", r"\1 needs a value."),
    (
        r"^argument (?:-\w/)?(\S+): ignored explicit argument (.*)$",
        r"\1 accepts no value; received \2. Leave out the value.",
    ),
)


class OneLineParser(argparse.ArgumentParser):
    """Parser of a command line that reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message, and end with code 2."""
        for pattern, words in _REWORDED:
            message = re.sub(pattern, words, message)
        choice = re.match(
            r"argument (?:-\w/)?(\S+): invalid choice: '(.*)' \(choose from (.*)\)$", message
        )
        if choice:
            option, given, known = choice[1], choice[2], choice[3].replace("'", "")
            hint = nearest_name(given, known.split(", "))
            message = f"{option} must be one of {known}; received {given!r}.{hint}"
        line = f"{self.prog}: error: {message} ({self.prog} --help lists all options)"
        self.exit(2, f"{' '.join(line.split())}\n")
