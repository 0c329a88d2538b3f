"""Which program tests a run: maps are judged in metres, SEM pictures in nanometres."""

from __future__ import annotations

from sr_trainer.sem_tester import SemTester
from sr_trainer.tester import Tester
from sr_trainer.user_params import UserParams
from toolbox.registry import SOURCES


def open_tester(u_params: UserParams, split: str = "test") -> Tester | SemTester:
    """Return the tester that suits the source of the settings.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    split : {'test', 'validation', 'train'}
        The data that are meant.
    """
    kind = getattr(SOURCES.resolve(u_params.source), "kind", "maps")
    return SemTester(u_params, split) if kind == "sem" else Tester(u_params, split)
