"""Learning rates: warm-up, steps and cosine against their formulas, and what a config rebuilds."""

import math

import keras
import numpy as np
import pytest

from toolbox.training.schedule import Schedule

RATE = 2e-3


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_constant():
    """Without a warm-up nothing changes."""
    assert rates(Schedule(RATE), [0, 1, 10**6]) == pytest.approx([RATE] * 3)


@pytest.mark.parametrize("name", ["constant", "step", "cosine"])
def test_warm_up_rises_in_a_line(name):
    """Step i of the warm-up has (i + 1) / warmup of the rate, so the first one is not lost."""
    plain = Schedule(RATE, name, total=10**9, step_size=10**9)
    warm = Schedule(RATE, name, total=10**9, step_size=10**9, warmup=4)
    factors = np.array(rates(warm, range(6))) / rates(plain, range(6))
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_steps():
    """The rate is multiplied by gamma every step_size steps, not before."""
    schedule = Schedule(RATE, "step", step_size=3, gamma=0.1)
    expected = [RATE] * 3 + [RATE / 10] * 3 + [RATE / 100]
    assert rates(schedule, range(7)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_cosine(final):
    """Half a cosine from the rate to its share `final`, and no rise after the end."""
    schedule = Schedule(RATE, "cosine", total=8, final=final)
    factors = [final + (1 - final) * (1 + math.cos(math.pi * i / 8)) / 2 for i in range(9)]
    assert factors[4] == pytest.approx((1 + final) / 2)
    expected = [RATE * factor for factor in [*factors, final, final]]
    found = rates(schedule, [*range(9), 12, 16])
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["constant", "step", "cosine"])
def test_offset_is_a_later_start(name):
    """An optimizer that begins at step 5 of the training takes the rates from there."""
    options = {"total": 20, "warmup": 7, "step_size": 4}
    late, whole = Schedule(RATE, name, **options, offset=5), Schedule(RATE, name, **options)
    assert rates(late, range(15)) == pytest.approx(rates(whole, range(5, 20)))


def test_config_rebuilds_it():
    """Through Keras, with every argument."""
    schedule = Schedule(RATE, "cosine", 20, 3, 4, 0.7, 0.1, 2)
    assert len(schedule.get_config()) == 8
    stored = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(stored)
    assert type(again) is Schedule
    assert again.get_config() == schedule.get_config()
    assert rates(again, range(20)) == rates(schedule, range(20))
    schedule.get_config()["total"] = 1
    assert again.get_config() == schedule.get_config()


def test_optimizer_follows_it():
    """An optimizer takes the rate of its own step: one SGD step of gradient 1 moves by it."""
    schedule = Schedule(0.5, "step", step_size=1, gamma=0.5, warmup=2)
    optimizer = keras.optimizers.SGD(schedule)
    weight = keras.Variable(np.zeros(1, np.float32))
    moves = []
    for _ in range(4):
        before = weight.numpy()
        optimizer.apply([np.ones(1, np.float32)], [weight])
        moves.append(float((before - weight.numpy())[0]))
    assert moves == pytest.approx([0.25, 0.25, 0.125, 0.0625])
