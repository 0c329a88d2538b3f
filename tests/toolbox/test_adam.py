"""Adam with one operation a weight takes the steps of Keras's Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.training.adam import Adam, AdamW


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("own", "other", "options"),
    [
        (Adam, keras.optimizers.Adam, {"global_clipnorm": 0.5, "beta_1": 0.7}),
        (Adam, keras.optimizers.Adam, {"amsgrad": True}),
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.1}),
    ],
    ids=["clipped", "amsgrad", "decay"],
)
def test_steps_are_those_of_keras(own, other, options, jit_compile):
    """Weights and moments agree after ten steps with a falling rate."""
    rng = np.random.default_rng(0)
    shapes = [(3, 3, 1, 4), (4,)]
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    slopes = [[rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(10)]
    ends = []

    def stepping(optimizer, weights):
        return tf.function(lambda g: optimizer.apply(g, weights), jit_compile=jit_compile)

    for kind in (own, other):
        rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)
        optimizer = kind(rate, **options)
        weights = [keras.Variable(value) for value in start]
        optimizer.build(weights)
        step = stepping(optimizer, weights)
        for gradients in slopes:
            step([tf.constant(gradient) for gradient in gradients])
        ends.append([np.array(v) for v in (*weights, *optimizer.variables)])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=1e-6)
    assert not np.allclose(ends[0][0], start[0], atol=0.1)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_an_optimizer_is_rebuilt_inside_another(kind):
    """Its settings make another one of its kind, also inside one that scales losses."""
    scaling = keras.optimizers.LossScaleOptimizer(kind(0.01, beta_1=0.5, global_clipnorm=2.0))
    twin = keras.optimizers.LossScaleOptimizer.from_config(scaling.get_config())
    assert type(twin.inner_optimizer) is kind
    assert twin.get_config() == scaling.get_config()
