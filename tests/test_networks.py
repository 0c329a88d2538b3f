"""The small networks of the tests: every row of the registry has one, a new row too."""

import keras
import numpy as np
import pytest
from networks import IMAGING, attends_in_windows, has_reach, network, shrunk, small

from toolbox.model.base import SRModel, check_kernels
from toolbox.model.layer import Resize
from toolbox.registry import MODELS


class MadeUp(SRModel):
    """A network that no test knows, far too large to be built in every one."""

    def __build__(
        self, filters=(2048, 512), kernels=(9, 1, 5), rounds=40, share=0.5, act="relu", bias=True
    ):
        """Return the function that applies the layers."""
        check_kernels(filters, kernels)

        def graph(x):
            for count, size in zip(filters, kernels, strict=False):
                for _ in range(rounds):
                    x = keras.layers.Conv2D(count, size, padding="same", activation=act)(x)
            x = keras.layers.LeakyReLU(share)(x)
            x = keras.layers.Conv2D(self.channels, kernels[-1], padding="same", use_bias=bias)(x)
            return Resize(self.scale)(x)

        return graph


@pytest.fixture
def made_up(monkeypatch):
    """Name of a new row of the registry."""
    monkeypatch.setitem(MODELS._rows, "made_up", f"{__name__}:MadeUp")
    return "made_up"


def test_a_new_row_gets_small_settings(made_up):
    """Whole numbers and lists of them shrink and keep their parity and length; the rest stays."""
    assert small(made_up) == {"filters": [4, 4], "kernels": [3, 1, 3], "rounds": 4}
    assert small(made_up, rounds=1, share=0.1) == {
        "filters": [4, 4],
        "kernels": [3, 1, 3],
        "rounds": 1,
        "share": 0.1,
    }


def test_a_new_row_is_built_small(made_up):
    """The settings build a network that runs, of a few thousand parameters."""
    net = network(made_up, (None, None, 2), 3)
    assert net(np.ones((1, 5, 4, 2), np.float32)).shape == (1, 15, 12, 2)
    assert net.count_params() < 2000
    assert has_reach(made_up)
    assert not attends_in_windows(made_up)


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        (64, 4),
        (9, 3),
        (3, 3),
        (1, 1),
        (0, 0),
        ((64, 32), [4, 4]),
        ([9, [8, 1]], [3, [4, 1]]),
        (True, None),
        (0.5, None),
        ("relu", None),
        ((1, 1e-7), None),
        (None, None),
    ],
)
def test_what_shrinks(default, expected):
    """Only whole numbers and lists of them do."""
    assert shrunk(default) == expected


@pytest.mark.parametrize("name", sorted(MODELS))
def test_settings_are_of_the_row(name):
    """Every row's small settings are settings of its section."""
    assert set(small(name)) <= set(MODELS.resolve(name).parameters())


@pytest.mark.parametrize("name", IMAGING)
def test_the_network_of_a_row_is_small(name):
    """Every network from images to images is built in a moment."""
    assert network(name).count_params() < 100_000
