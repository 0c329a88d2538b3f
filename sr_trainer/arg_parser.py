"""The command line: which file of settings, which mode."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


class ArgParser:
    """Parses ``[-h] [--overwrite] yml_fname {train,test}``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.

    Attributes
    ----------
    args : argparse.Namespace
        ``yml_fname``, ``mode`` and ``overwrite``.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description="Train or test a super-resolution network.", allow_abbrev=False
        )
        parser.add_argument("yml_fname", help="filename including input parameters (.yml)")
        parser.add_argument("mode", choices=["train", "test"], help="execution mode")
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="train: replace the run that log_dir already holds",
        )
        self.args = parser.parse_args(arguments)

    def get_fname(self) -> str:
        """Return the name of the settings file."""
        return str(self.args.yml_fname)

    def get_mode(self) -> str:
        """Return the mode, 'train' or 'test'."""
        return str(self.args.mode)
