"""SRGAN and ESRGAN: structure, losses against hand-computed ones, and the fused training step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.errors import ConfigError
from toolbox.io.weights import load_weights, save_weights
from toolbox.metric import Metric
from toolbox.model import esrgan, srgan
from toolbox.model.blocks import ScaledInitializer, prime_factors
from toolbox.model.esrgan import ESRGAN, RelativisticDiscriminator
from toolbox.model.srgan import SRGAN

MODELS = {"srgan": SRGAN, "esrgan": ESRGAN}
KINDS = pytest.mark.parametrize("kind", MODELS)
SMALL = {"filters": 4, "num_residual_blocks": 1, "d_filters": 4, "d_num_downsampling_blocks": 1}
#: Nothing is drawn at random in a training step of these.
CERTAIN = {"srgan": {"label_noise": 0}, "esrgan": {"dropout_rate": 0}}
D_FIGURES = {"d_loss", "d_real", "d_fake"}


def uniform(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


X, Y = uniform(4, 8, 8, 1), uniform(4, 16, 16, 1)


def build(kind, img_shape=(8, 8, 1), scale=2, seed=0, **params):
    """Return a small model whose weights and later draws depend on `seed` alone."""
    keras.utils.set_random_seed(seed)
    growth = {"growth": 4} if kind == "esrgan" else {}
    weights = {"loss_weights": [1, 0.5]}
    return MODELS[kind](img_shape, scale, params={**SMALL, **growth, **weights, **params})


def compiled(kind, optimizer="sgd", d_optimizer=None, metrics=None, pixel_loss=None, **params):
    """Return a small model that trains eagerly: tracing takes longer than these steps."""
    model = build(kind, **params)
    model.compile(
        "mse",
        optimizer,
        metrics=metrics,
        d_optimizer=d_optimizer,
        pixel_loss=pixel_loss,
        run_eagerly=True,
    )
    return model


def sgd(rate):
    return keras.optimizers.SGD(float(rate))


def values(variables):
    return [v.numpy() for v in variables]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def some_differ(one, other):
    return [bool((a != b).any()) for a, b in zip(one, other, strict=True) if a.ndim > 1]


def trainable_count(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


# Structure ---------------------------------------------------------------------------------------


def test_published_numbers_of_parameters():
    """The published structures have the published numbers of parameters."""
    paper = {"filters": 64, "num_residual_blocks": 16}
    # Ledig et al. 2017, figure 4: SRResNet at ×2 and ×4, three channels.
    assert trainable_count(srgan.Generator((None, None, 3), 2, paper)) == 1_402_883
    assert trainable_count(srgan.Generator((None, None, 3), 4, paper)) == 1_550_659
    # Its discriminator, 64 to 512 filters and Dense(1024), for 96² images.
    judging = {"filters": 64, "num_downsampling_blocks": 3}
    assert trainable_count(srgan.Discriminator((24, 24, 3), 4, judging)) == 23_565_505


@pytest.mark.parametrize(("channels", "blocks", "count"), [(1, 23, 16_695_681), (3, 6, 4_467_779)])
def test_published_numbers_of_parameters_of_rrdbnet(channels, blocks, count):
    """Wang et al. 2018: 64 filters, growth 32, ×4 by nearest neighbour and convolution."""
    model = esrgan.Generator((None, None, channels), 4, 64, blocks, params={"upsampling": "resize"})
    assert model.count_params() == count


def conv(size, received, given):
    return size**2 * received * given + given


def discriminator_count(img_size, filters, blocks, bn=4):
    """Count weights by the table of the paper; `bn` is 2 for the trainable ones alone."""
    count, before = conv(3, 1, filters), filters
    for number in range(blocks + 1):
        after = filters * 2**number
        if number:
            count += conv(3, before, after) + bn * after
        count += conv(3, after, after) + bn * after
        before = after
    pixels = (img_size // 2 ** (blocks + 1)) ** 2
    return count + conv(1, pixels * before, 16 * filters) + conv(1, 16 * filters, 1)


def test_numbers_of_parameters_of_the_manuals_defaults():
    """16² to 64² with one channel; batch normalisation has four weights per channel, PReLU one."""
    model = SRGAN((16, 16, 1), 4)
    block = 2 * (conv(3, 32, 32) + 4 * 32) + 32
    enlargement = conv(3, 32, 128) + 32
    generator = conv(9, 1, 32) + 32 + block + conv(3, 32, 32) + 4 * 32
    assert model.generator.count_params() == generator + 2 * enlargement + conv(9, 32, 1)
    assert model.discriminator.count_params() == discriminator_count(64, 4, 1)
    assert trainable_count(model.discriminator) == discriminator_count(64, 4, 1, bn=2)

    model = ESRGAN((16, 16, 1), 4)
    dense = sum(conv(3, 32 + 32 * known, 32) for known in range(5))
    generator = conv(3, 1, 32) + 2 * 3 * dense + conv(3, 32, 32) + 2 * conv(3, 32, 128)
    assert model.generator.count_params() == generator + conv(3, 32, 32) + conv(3, 32, 1)
    assert model.discriminator.count_params() == discriminator_count(64, 4, 2)
    parts = model.generator, model.discriminator
    assert model.count_params() == sum(part.count_params() for part in parts)


@KINDS
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6])
def test_shapes_at_every_scale(kind, scale):
    """The generator enlarges by any factor; the discriminator judges images of that size."""
    model = build(kind, (4, 6, 2), scale)
    fake = model(uniform(3, 4, 6, 2))
    assert fake.shape == (3, 4 * scale, 6 * scale, 2)
    assert model.output_shape == (None, 4 * scale, 6 * scale, 2)
    judged = [model.discriminator(fake)] if kind == "srgan" else model.discriminator((fake, fake))
    assert {tuple(c.shape) for c in judged} == {(3, 1)}


@pytest.mark.parametrize(
    ("scale", "factors"), [(1, []), (2, [2]), (3, [3]), (4, [2, 2]), (6, [2, 3]), (12, [2, 2, 3])]
)
def test_prime_factors(scale, factors):
    """An enlargement is done in steps of its prime factors."""
    assert prime_factors(scale) == factors


def rrdbnet_by_hand(model, x, blocks, method):
    """Apply RRDBNet as in figure 4 of the paper (Wang et al. 2018) to `x`, at ×2."""
    layers = iter([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)])

    def conv2d(x):
        kernel, bias = next(layers).get_weights()
        return tf.nn.conv2d(x, kernel, 1, "SAME") + bias

    def leaky(x):
        return tf.maximum(x, 0.2 * x)

    y = first = conv2d(x)
    for _ in range(blocks):
        outer = y
        for _ in range(3):
            known = [y]
            for _ in range(4):
                known.append(leaky(conv2d(tf.concat(known, -1))))
            y = y + 0.2 * conv2d(tf.concat(known, -1))
        y = outer + 0.2 * y
    y = first + conv2d(y)
    if method == "resize":
        y = conv2d(tf.repeat(tf.repeat(y, 2, axis=1), 2, axis=2))
    else:
        y = tf.nn.depth_to_space(conv2d(y), 2)
    y = conv2d(leaky(conv2d(leaky(y))))
    assert next(layers, None) is None
    return y


@pytest.mark.parametrize("method", ["subpixel", "resize"])
def test_rrdbnet_is_the_papers(method):
    """The graph gives what the formulas give, with weights large enough for every branch."""
    model = esrgan.Generator((None, None, 1), 2, 4, 2, params={"growth": 3, "upsampling": method})
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    by_hand = rrdbnet_by_hand(model, X, 2, method)
    np.testing.assert_allclose(model(X), by_hand, rtol=1e-4, atol=1e-5)


def test_each_rrdb_feeds_the_next():
    """A change of the first block's first kernel is seen by the last convolution of the last."""
    blocks, per_block = 3, 15
    model = esrgan.Generator((8, 8, 1), 2, 4, blocks, params={"growth": 4})
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    last = convolutions[blocks * per_block]
    probe = keras.Model(model.input, [last.input, last.output])
    before = probe(X)
    kernel = convolutions[1].kernel
    kernel.assign(kernel + 1)
    for now, then in zip(probe(X), before, strict=True):
        assert np.abs(now - then).max() > 1e-4


def test_kernels_inside_the_blocks_start_ten_times_smaller():
    """Standard deviations are those of He et al. outside the blocks, a tenth inside."""
    model = esrgan.Generator((8, 8, 1), 2, 16, 1, params={"growth": 16})
    kernels = [w for w in model.get_weights() if w.ndim == 4]
    ratios = [np.std(w) / np.sqrt(2 / np.prod(w.shape[:3])) for w in kernels]
    assert ratios[1:16] == pytest.approx([0.1] * 15, rel=0.15)
    assert ratios[16:18] == pytest.approx([1] * 2, rel=0.15)


def test_scaled_initializer():
    """It draws the numbers of the other initializer, multiplied, also when rebuilt."""
    scaled = ScaledInitializer(keras.initializers.HeNormal(seed=1), 0.1)
    rebuilt = keras.initializers.deserialize(keras.initializers.serialize(scaled))
    expected = 0.1 * keras.initializers.HeNormal(seed=1)((3, 3, 2, 2))
    for initializer in (scaled, rebuilt):
        np.testing.assert_allclose(initializer((3, 3, 2, 2)), expected, rtol=1e-6)


def test_only_esrgans_discriminator_drops_activations():
    """Dropout of 0.4 after every block is what distinguishes the two discriminators."""

    def dropped(model):
        return [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

    assert dropped(srgan.Discriminator((8, 8, 1), 2)) == []
    model = esrgan.Discriminator((8, 8, 1), 2)
    assert {layer.rate for layer in dropped(model)} == {0.4}
    assert (model(Y, training=True) != model(Y, training=False)).numpy().any()


@KINDS
def test_settings_reach_the_layers(kind):
    """Momentum, slope and initializer of the YAML section are those of the layers."""
    model = build(kind, momentum=0.7, alpha=0.1, kernel_initializer="zeros")
    judge = model.discriminator if kind == "srgan" else model.discriminator.discriminator
    layers = [*model.generator.layers, *judge.layers]
    normalising = [v for v in layers if isinstance(v, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in normalising} == {0.7}
    slopes = {v.negative_slope for v in layers if isinstance(v, keras.layers.LeakyReLU)}
    assert list(slopes) == pytest.approx([0.1])
    last = [v for v in model.generator.layers if v.weights][-1]
    kernels = [v.kernel for v in layers if isinstance(v, keras.layers.Conv2D) and v is not last]
    assert all((kernel.numpy() == 0).all() for kernel in kernels)


# Mistakes ----------------------------------------------------------------------------------------


@KINDS
def test_images_of_any_size_are_refused(kind):
    """The discriminator's dense layers need one image size."""
    with pytest.raises(ConfigError, match=r"images of a fixed size; received \(None, None, 1\)"):
        build(kind, (None, None, 1))


@KINDS
@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, -1e-7], [float("nan"), 1]])
def test_wrong_loss_weights(kind, weights):
    """Two weights of at least zero are needed, as argument and in the YAML section."""
    with pytest.raises(ConfigError, match=r"loss_weights must be two numbers of at least 0.*\["):
        MODELS[kind]((8, 8, 1), 2, loss_weight=weights)
    with pytest.raises(ConfigError, match="loss_weights"):
        build(kind, loss_weights=weights)


# The losses --------------------------------------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def ra_loss(real, fake, noise=1e-6):
    """Jolicoeur-Martineau 2018, with the manual's noise in the logarithms."""
    right = sigmoid(real - np.mean(fake))
    wrong = sigmoid(fake - np.mean(real))
    return -np.mean(np.log(right + noise)) - np.mean(np.log(1 - wrong + noise))


@pytest.fixture(scope="module")
def relativistic():
    """A relativistic discriminator of 16² images."""
    keras.utils.set_random_seed(1)
    return RelativisticDiscriminator((8, 8, 1), 2, d_num_downsampling_blocks=1)


def test_added_loss_is_the_one_computed_by_hand(relativistic):
    """Every call leaves exactly its own loss; exchanged images give the generator's loss."""
    fake = Y[::-1] ** 2 - 0.5
    c_real, c_fake = (relativistic.discriminator(imgs).numpy() for imgs in (Y, fake))
    answers = relativistic((Y, fake))
    np.testing.assert_array_equal(answers, [c_real, c_fake])
    (loss,) = relativistic.losses
    assert float(loss) == pytest.approx(ra_loss(c_real, c_fake), rel=1e-5)
    relativistic((fake, Y))
    (exchanged,) = relativistic.losses
    assert float(exchanged) == pytest.approx(ra_loss(c_fake, c_real), rel=1e-5)
    assert float(exchanged) != pytest.approx(float(loss), rel=1e-2)


@pytest.mark.parametrize("noise", [1e-6, 0.1])
def test_ra_loss(relativistic, noise):
    """The formula holds for any verdicts, and the noise bounds it where they are certain."""
    function = relativistic._RelativisticDiscriminator__ra_loss
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(0, 2, (5, 1)).astype(np.float32) for _ in range(2))
    assert float(function((real, fake), noise)) == pytest.approx(
        ra_loss(real, fake, noise), rel=1e-5
    )
    wrong = np.full((2, 1), -500, np.float32), np.full((2, 1), 500, np.float32)
    assert float(function(wrong, noise)) == pytest.approx(-2 * np.log(noise), rel=1e-5)


@KINDS
def test_figures_of_an_evaluation(kind):
    """Every figure of test_on_batch is the one computed by hand from verdicts and images."""
    model = compiled(kind, metrics=[Metric.psnr])
    figures = model.test_on_batch(X, Y, return_dict=True)
    fake = model.predict(X)
    if kind == "srgan":
        real_c, fake_c = (model.discriminator(imgs).numpy() for imgs in (Y, fake))
        d_loss = -(np.mean(np.log(sigmoid(real_c))) + np.mean(np.log(1 - sigmoid(fake_c)))) / 2
        adversarial = -np.mean(np.log(sigmoid(fake_c)))
        d_real, d_fake = sigmoid(real_c).mean(), sigmoid(fake_c).mean()
    else:
        real_c, fake_c = (c.numpy() for c in model.discriminator((Y, fake)))
        d_loss, adversarial = ra_loss(real_c, fake_c), ra_loss(fake_c, real_c)
        d_real = sigmoid(real_c - fake_c.mean()).mean()
        d_fake = sigmoid(fake_c - real_c.mean()).mean()
    loss = np.mean((fake - Y) ** 2)
    expected = {
        "loss": loss,
        "g_loss": loss + 0.5 * adversarial,
        "d_loss": d_loss,
        "d_real": d_real,
        "d_fake": d_fake,
        "psnr": float(np.mean(Metric.psnr(Y, fake))),
    }
    assert figures == pytest.approx(expected, rel=1e-4)


@KINDS
def test_loss_is_the_mean_over_images(kind):
    """A last batch of fewer images does not count as much as a whole one, as in Keras."""
    model = compiled(kind)
    model.set_stage(False)
    expected = np.mean((model.predict(X) - Y) ** 2)
    found = model.evaluate(X, Y, batch_size=3, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


# Labels ------------------------------------------------------------------------------------------


def test_sample_labels():
    """Labels lie within the noise of 1 and 0, spread over all of it, new at every draw."""
    model = build("srgan")
    valid, invalid = (label.numpy() for label in model.sample_labels(1000, 0.3))
    assert valid.shape == invalid.shape == (1000,)
    assert 0.7 <= valid.min() < 0.71
    assert 0.99 < valid.max() <= 1
    assert 0 <= invalid.min() < 0.01
    assert 0.29 < invalid.max() <= 0.3
    assert abs(np.corrcoef(valid, invalid)[0, 1]) < 0.1
    again = model.sample_labels(1000, 0.3)
    assert (again[0].numpy() != valid).any()
    assert_same(build("srgan").sample_labels(1000, 0.3), [valid, invalid])
    exact = model.sample_labels(2, 0.0)
    assert_same(exact, [np.ones(2), np.zeros(2)])


def test_label_noise_enters_the_training_alone():
    """The same seed gives other updates with noisy labels, and the same evaluation."""
    with_noise, without = (compiled("srgan", label_noise=noise) for noise in (0.5, 0))
    batches = [model.test_on_batch(X, Y) for model in (with_noise, without)]
    assert batches[0] == batches[1]
    for model in (with_noise, without):
        model.train_on_batch(X, Y)
    parts = (values(model.discriminator.trainable_variables) for model in (with_noise, without))
    assert any(some_differ(*parts))


# The training step -------------------------------------------------------------------------------


def unfused(kind, model, rate, fresh=True):
    """Return the weights after separate updates by plain gradient descent, as the manual does it.

    The generator learns from the updated discriminator, or from the former one unless `fresh`.
    """
    generator = model.generator
    judge = model.discriminator if kind == "srgan" else model.discriminator.discriminator

    noise = 0 if kind == "srgan" else 1e-6

    def wrong(c):  # cross-entropy of verdicts that should be 1
        return -tf.reduce_mean(tf.math.log(tf.sigmoid(c) + noise))

    def d_loss(real, fake):
        if kind == "srgan":
            return (wrong(real) + wrong(-fake)) / 2
        return wrong(real - tf.reduce_mean(fake)) + wrong(tf.reduce_mean(real) - fake)

    def descend(loss, variables):
        with tf.GradientTape() as tape:
            value = loss()
        slopes = tape.gradient(value, variables)
        return [v.numpy() - rate * g.numpy() for v, g in zip(variables, slopes, strict=True)]

    def judged():
        fake = generator(X, training=True)
        return d_loss(judge(Y, training=True), judge(fake, training=True))

    def generated():
        fake = generator(X, training=True)
        real_c, fake_c = judge(Y, training=True), judge(fake, training=True)
        adversarial = wrong(fake_c) if kind == "srgan" else d_loss(fake_c, real_c)
        return tf.reduce_mean((Y - fake) ** 2) + 0.5 * adversarial

    judging = judge.trainable_variables
    updated, former = descend(judged, judging), values(judging)
    if fresh:
        for variable, value in zip(judging, updated, strict=True):
            variable.assign(value)
    generating = descend(generated, generator.trainable_variables)
    for variable, value in zip(judging, former, strict=True):
        variable.assign(value)
    return generating, updated


@KINDS
def test_fused_step_is_the_two_separate_updates(kind):
    """One step gives the weights of separate updates, the generator's through the new verdicts."""
    model = compiled(kind, sgd(0.1), **CERTAIN[kind])
    stale, _ = unfused(kind, model, 0.1, fresh=False)
    generating, judging = unfused(kind, model, 0.1)
    model.train_on_batch(X, Y)
    found = values(model.generator.trainable_variables)
    for one, other in zip(found, generating, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    updated = values(model.discriminator.trainable_variables)
    for one, other in zip(updated, judging, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    differences = [np.abs(a - b).max() for a, b in zip(found, stale, strict=True)]
    assert max(differences) > 1e-3


@KINDS
def test_generator_runs_once_per_step(kind, monkeypatch):
    """Both updates share one pass of the generator."""
    model = compiled(kind)
    call, calls = model.generator.call, []

    def counted(*arguments, **options):
        calls.append(arguments)
        return call(*arguments, **options)

    monkeypatch.setattr(model.generator, "call", counted)
    model.train_on_batch(X, Y)
    model.test_on_batch(X, Y)
    assert len(calls) == 2


@KINDS
def test_each_update_is_of_its_own_network(kind):
    """An optimizer of rate 0 leaves its network; the other network still learns."""
    for rate, d_rate in ((0, 0.1), (0.1, 0)):
        model = compiled(kind, sgd(rate), sgd(d_rate))
        parts = model.generator, model.discriminator
        before = [values(part.trainable_variables) for part in parts]
        model.train_on_batch(X, Y)
        after = [values(part.trainable_variables) for part in parts]
        still, moved = (0, 1) if rate == 0 else (1, 0)
        assert_same(before[still], after[still])
        assert all(some_differ(before[moved], after[moved]))


@KINDS
def test_fit_and_train_on_batch_are_the_same(kind):
    """Two epochs of fit and the same four batches one by one end with the same bytes."""
    models = []
    for steps in (2, 1):
        model = build(kind, label_noise=0.2) if kind == "srgan" else build(kind)
        momentum = keras.optimizers.SGD(0.01, momentum=0.9)  # with slots, but traced fast
        model.compile(
            "mse", momentum, metrics=[Metric.psnr], jit_compile=False, steps_per_execution=steps
        )
        model.keep_average(0.9)
        models.append(model)
    fitted, stepped = models
    options = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    history = fitted.fit(X, Y, **options).history
    for epoch in range(2):
        for first in (0, 2):
            batch = X[first : first + 2], Y[first : first + 2]
            logs = stepped.train_on_batch(*batch, reset_metrics=first == 0, return_dict=True)
        assert logs == {name: series[epoch] for name, series in history.items()}
    assert_same(fitted.get_weights(), stepped.get_weights())
    assert_same(values(fitted.average.state), values(stepped.average.state))
    for optimizer in ("optimizer", "d_optimizer"):
        one, other = (values(getattr(model, optimizer).variables) for model in models)
        assert_same(one, other)
        assert int(getattr(fitted, optimizer).iterations) == 4


@KINDS
def test_list_of_results(kind):
    """train_on_batch and test_on_batch list losses, then metrics."""
    model = compiled(kind, metrics=[Metric.psnr])
    names = ["loss", "g_loss", "d_loss", "d_real", "d_fake", "psnr"]
    figures = model.test_on_batch(X, Y, return_dict=True)
    assert sorted(figures) == sorted(names)
    assert model.test_on_batch(X, Y) == [figures[name] for name in names]
    listed = model.train_on_batch(X, Y, None, None, False)
    assert [type(value) for value in listed] == [float] * len(names)


def test_figures_accumulate_unless_reset():
    """reset_metrics=False gives the mean since the last reset, in training and evaluation."""
    model = compiled("srgan", metrics=[Metric.psnr])
    halves = [(X[:2], Y[:2]), (X[2:], Y[2:])]
    one, other = (np.array(model.test_on_batch(*half)) for half in halves)
    assert (one != other).all()
    model.test_on_batch(*halves[0])
    both = model.test_on_batch(*halves[1], reset_metrics=False)
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-5)
    np.testing.assert_array_equal(model.test_on_batch(*halves[1]), other)

    def losses(reset):
        model = compiled("srgan", sgd(0))
        return [model.train_on_batch(*half, reset_metrics=reset)[0] for half in halves]

    alone, together = losses(True), losses(False)
    assert together == pytest.approx([alone[0], np.mean(alone)], rel=1e-5)


@KINDS
def test_sample_weight(kind):
    """The weights of the images multiply their losses; an image of weight 0 teaches nothing."""
    model = compiled(kind)
    model.set_stage(False)
    per_image = np.mean((model.predict(X) - Y) ** 2, axis=(1, 2, 3))
    weights = np.array([0, 1, 2, 0.5], np.float32)
    found = model.test_on_batch(X, Y, weights, return_dict=True)
    assert found["loss"] == pytest.approx(np.mean(weights * per_image), rel=1e-5)
    spoilt = Y.copy()
    spoilt[0] = 9
    after = []
    for truth in (Y, spoilt):
        model = compiled(kind, sgd(0.1))
        model.set_stage(False)
        model.train_on_batch(X, truth, weights)
        after.append(values(model.generator.trainable_variables))
    assert_same(*after)


# Stages ------------------------------------------------------------------------------------------


@KINDS
def test_stage_before_the_adversarial_one(kind):
    """The generator alone learns, from the loss of that stage; the discriminator says nothing."""
    model = compiled(kind, sgd(0.1), pixel_loss="mae")
    model.set_stage(False)
    before = model.discriminator.get_weights()
    generating = values(model.generator.trainable_variables)
    expected = np.mean(np.abs(model.generator(X, training=True) - Y))
    figures = model.train_on_batch(X, Y, return_dict=True)
    assert figures == pytest.approx({"loss": expected, "g_loss": expected}, rel=1e-5)
    assert_same(before, model.discriminator.get_weights())
    assert int(model.d_optimizer.iterations) == 0
    assert all(some_differ(generating, values(model.generator.trainable_variables)))
    assert set(model.test_on_batch(X, Y, return_dict=True)) == {"loss", "g_loss"}
    assert not D_FIGURES & set(model.metrics_names)
    expected = np.mean(np.abs(model.predict(X) - Y))
    assert model.test_on_batch(X, Y)[0] == pytest.approx(expected, rel=1e-5)


def test_stages_of_one_compiled_model():
    """After the first stage the same model trains adversarially, in compiled functions too."""
    model = build("srgan")
    model.compile("mse", "sgd", jit_compile=False)
    options = {"validation_data": (X, Y), "batch_size": 4, "verbose": 0}
    histories = []
    for adversarial in (False, True):
        model.set_stage(adversarial)
        histories.append(set(model.fit(X, Y, **options).history))
        assert int(model.d_optimizer.iterations) == int(adversarial)
    assert histories[0] == {"loss", "g_loss", "val_loss", "val_g_loss"}
    assert histories[1] - histories[0] == D_FIGURES | {f"val_{name}" for name in D_FIGURES}


# Optimizers --------------------------------------------------------------------------------------


@KINDS
def test_optimizers_are_built(kind):
    """After compile both have the slots of every weight, and are two."""
    model = build(kind)
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(3e-4, beta_1=0.5))
    assert model.optimizer is not model.d_optimizer
    for optimizer, part in (
        (model.optimizer, model.generator),
        (model.d_optimizer, model.discriminator),
    ):
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert (float(optimizer.learning_rate), optimizer.beta_1) == (pytest.approx(3e-4), 0.5)
        # Iterations, learning rate, two moments of every weight.
        assert len(optimizer.variables) == 2 + 2 * len(part.trainable_variables)


def test_own_optimizer_of_the_discriminator():
    """By name or as an object."""
    own = keras.optimizers.RMSprop(0.5)
    assert compiled("srgan", d_optimizer=own).d_optimizer is own
    assert isinstance(compiled("srgan", d_optimizer="sgd").d_optimizer, keras.optimizers.SGD)


@KINDS
def test_mixed_float16_scales_both_losses(kind):
    """Under mixed_float16 both optimizers scale, given ones too, and both networks learn."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(kind, d_optimizer="sgd")
    finally:
        keras.config.set_dtype_policy(policy)
    optimizers = model.optimizer, model.d_optimizer
    assert {type(optimizer) for optimizer in optimizers} == {keras.optimizers.LossScaleOptimizer}
    assert isinstance(model.d_optimizer.inner_optimizer, keras.optimizers.SGD)
    before = values(model.trainable_variables)
    for _ in range(3):  # steps with an overflow are left out while the scale settles
        assert np.isfinite(model.train_on_batch(X, Y)).all()
    after = values(model.trainable_variables)
    assert all(np.isfinite(value).all() for value in after)
    assert all(some_differ(before, after))


# Files, summary, prediction ----------------------------------------------------------------------


@KINDS
def test_saved_after_training(kind, tmp_path):
    """A .keras file holds both networks and the settings; it is compiled again by its user."""
    model = compiled(kind)
    model.train_on_batch(X, Y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.loss_weight == [1, 0.5]
    assert_same(loaded.get_weights(), model.get_weights())
    assert_same(loaded.discriminator.get_weights(), model.discriminator.get_weights())
    loaded.compile("mse", "adam", run_eagerly=True)
    assert loaded.test_on_batch(X, Y) == model.test_on_batch(X, Y)


@KINDS
@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_each_network_is_saved_alone(kind, part, tmp_path):
    """A .keras file of one of the two networks gives back class, settings and weights."""
    network = getattr(build(kind, dropout_rate=0.3) if kind == "esrgan" else build(kind), part)
    network.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    assert type(loaded) is type(network)
    assert loaded.get_config() == network.get_config()
    assert_same(loaded.get_weights(), network.get_weights())


@KINDS
def test_weights_file_holds_the_generator(kind, tmp_path):
    """A weights file serves a generator for images of any size, and other GANs."""
    model = compiled(kind)
    model.train_on_batch(X, Y)
    save_weights(model, tmp_path / "weights_best.h5")
    generator = model.network()
    config = {**generator.get_config(), "img_shape": (None, None, 1)}
    alone = type(generator).from_config(config)
    load_weights(alone, tmp_path / "weights_best.h5")
    assert_same(alone.get_weights(), generator.get_weights())
    assert alone(uniform(1, 5, 7, 1)).shape == (1, 10, 14, 1)
    save_weights(alone, tmp_path / "weights_alone.h5")
    for name in ("weights_best.h5", "weights_alone.h5"):
        other = build(kind, seed=1, d_filters=6)
        judging = other.discriminator.get_weights()
        load_weights(other, tmp_path / name)
        assert_same(other.network().get_weights(), generator.get_weights())
        assert_same(other.discriminator.get_weights(), judging)


@KINDS
def test_summary_prints_three_tables(kind, capsys):
    """Generator, discriminator and the whole."""
    model = build(kind)
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if line.startswith("Model: ")]
    assert tables == ['Model: "generator"', 'Model: "discriminator"', f'Model: "{model.name}"']
    totals = [line for line in lines if "Total params" in line]
    for part, total in zip((model.generator, model.discriminator, model), totals, strict=True):
        assert f"{part.count_params():,}" in total


@KINDS
def test_predict(kind, capsys):
    """Prediction is the generator's, at any batch size, silent unless asked."""
    model = build(kind)
    expected = model.generator(X, training=False)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(X, 3, 0, None), expected, rtol=1e-5, atol=1e-6)
    endless = tf.data.Dataset.from_tensors(X).repeat()
    assert model.predict(endless, steps=2).shape == (8, 16, 16, 1)
    assert capsys.readouterr().out == ""
    model.predict(X, verbose=1)
    assert "1/1" in capsys.readouterr().out
