"""The command line: which file of settings, which mode."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


class ArgParser:
    """Parses ``[-h] [--overwrite | --resume] yml_fname {train,test}``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.

    Attributes
    ----------
    args : argparse.Namespace
        ``yml_fname``, ``mode``, ``overwrite`` and ``resume``.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description="Train or test a super-resolution network.", allow_abbrev=False
        )
        parser.add_argument("yml_fname", help="filename including input parameters (.yml)")
        parser.add_argument("mode", choices=["train", "test"], help="execution mode")
        former = parser.add_mutually_exclusive_group()
        former.add_argument(
            "--overwrite",
            action="store_true",
            help="train: replace the run that log_dir already holds",
        )
        former.add_argument(
            "--resume",
            action="store_true",
            help="train: go on with that run from its last saved state, if there is one",
        )
        self.args = parser.parse_args(arguments)

    def get_fname(self) -> str:
        """Return the name of the settings file."""
        return str(self.args.yml_fname)

    def get_mode(self) -> str:
        """Return the mode, 'train' or 'test'."""
        return str(self.args.mode)
