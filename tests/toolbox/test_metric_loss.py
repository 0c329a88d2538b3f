"""PSNR, SSIM and the losses: against scikit-image and TensorFlow, under XLA, at the extremes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import narrow_vgg19
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from toolbox.loss import Loss
from toolbox.metric import MAX_PSNR, Metric
from toolbox.registry import LOSSES, METRICS
from toolbox.tasks.pix2pix.loss import cross_entropy
from toolbox.tasks.surgical_phase.loss import phase_cross_entropy
from toolbox.training import perceptual

RANGES = (1.0, 255.0, 2500.0)


def images(max_val=1.0, shape=(3, 24, 20, 1), error=0.05):
    """Return a truth and a noisy prediction within the data range, float32."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, max_val, shape)
    return truth.astype(np.float32), (truth + error * max_val * rng.normal(size=shape)).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def random_vgg():
    """In the place of the published VGG19, one with random weights that keep the signal's size."""
    keras.utils.set_random_seed(0)
    vgg = narrow_vgg19()
    for layer in vgg.layers[1:21]:
        layer.set_weights([np.sqrt(2) * weight for weight in layer.get_weights()])
    network = keras.Model(vgg.input, vgg.layers[20].output)
    perceptual._NETWORKS[20, False, None] = network
    yield network
    perceptual._NETWORKS.clear()


@pytest.fixture(params=sorted(LOSSES))
def loss(request):
    """Every loss of the registry, as a run without a section for it has it."""
    if request.param == "vgg":
        request.getfixturevalue("random_vgg")
    return LOSSES.resolve(request.param)


def scikit_ssim(truth, predicted, max_val):
    """SSIM with the settings of Wang et al. 2004."""
    return structural_similarity(
        truth,
        predicted,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=max_val,
    )


@pytest.mark.parametrize("max_val", RANGES)
def test_psnr_equals_scikit_image(max_val):
    """One value per image, in dB, for several data ranges."""
    truth, predicted = images(max_val)
    expected = [
        peak_signal_noise_ratio(a, b, data_range=max_val)
        for a, b in zip(truth, predicted, strict=True)
    ]
    np.testing.assert_allclose(Metric.psnr(truth, predicted, max_val), expected, atol=1e-4)


@pytest.mark.parametrize("max_val", RANGES)
@pytest.mark.parametrize("error", [0.01, 0.3])
def test_ssim_equals_scikit_image(max_val, error):
    """One value per image, for good and for bad predictions."""
    truth, predicted = images(max_val, error=error)
    expected = [
        scikit_ssim(a[..., 0], b[..., 0], max_val) for a, b in zip(truth, predicted, strict=True)
    ]
    np.testing.assert_allclose(Metric.ssim(truth, predicted, max_val), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 11, 11, 1), (1, 12, 30, 3)])
def test_ssim_equals_tensorflow(shape):
    """Smallest images and several channels give the numbers of tf.image.ssim."""
    truth, predicted = images(shape=shape)
    expected = tf.image.ssim(truth, predicted, 1.0)
    np.testing.assert_allclose(Metric.ssim(truth, predicted, 1.0), expected, atol=1e-5)


def test_psnr_equals_tensorflow():
    """The numbers are those of tf.image.psnr."""
    truth, predicted = images(255.0)
    expected = tf.image.psnr(truth, predicted, 255.0)
    np.testing.assert_allclose(Metric.psnr(truth, predicted, 255.0), expected, atol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_value_is_the_same_in_a_graph_and_under_xla(name, jit_compile):
    """Eager, tf.function and XLA agree, gradient included."""
    truth, predicted = (tf.constant(imgs) for imgs in images())
    metric = getattr(Metric, name)

    def value_and_gradient():
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            value = metric(truth, predicted)
        return value, tape.gradient(value, predicted)

    for got, eager in zip(
        tf.function(value_and_gradient, jit_compile=jit_compile)(),
        value_and_gradient(),
        strict=True,
    ):
        np.testing.assert_allclose(got, eager, rtol=1e-3, atol=1e-5)


def test_perfect_prediction():
    """Equal images have the largest PSNR, SSIM 1 and DSSIM 0."""
    truth, _ = images()
    np.testing.assert_allclose(Metric.psnr(truth, truth), MAX_PSNR, atol=1e-4)
    np.testing.assert_allclose(Metric.ssim(truth, truth), 1, atol=1e-6)
    np.testing.assert_allclose(Metric.dssim(truth, truth), 0, atol=1e-6)


def test_psnr_by_hand():
    """An error of a tenth of the range everywhere is 20 dB, of the whole range 0 dB."""
    truth = np.zeros((1, 4, 4, 1), np.float32)
    assert float(Metric.psnr(truth, truth + 25, 250.0)[0]) == pytest.approx(20, abs=1e-4)
    assert float(Metric.psnr(truth, truth + 250, 250.0)[0]) == pytest.approx(0, abs=1e-4)


def test_dssim_is_half_of_what_ssim_lacks():
    """DSSIM = (1 - SSIM) / 2."""
    truth, predicted = images(2500.0)
    ssim, dssim = (f(truth, predicted, 2500.0) for f in (Metric.ssim, Metric.dssim))
    np.testing.assert_allclose(dssim, (1 - ssim.numpy()) / 2, atol=1e-7)


def test_data_range_matters():
    """Ten times the range is 20 dB more, and a higher SSIM; scaling all three changes nothing."""
    truth, predicted = images()
    low, high = Metric.psnr(truth, predicted, 1.0), Metric.psnr(truth, predicted, 10.0)
    np.testing.assert_allclose(high - low, 20, atol=1e-4)
    assert (Metric.ssim(truth, predicted, 10.0) > Metric.ssim(truth, predicted, 1.0)).numpy().all()
    for metric in (Metric.psnr, Metric.ssim):
        scaled = metric(100 * truth, 100 * predicted, 100.0)
        np.testing.assert_allclose(scaled, metric(truth, predicted, 1.0), atol=1e-4)


def test_low_precision_images_are_measured_in_float32():
    """A bfloat16 prediction gives a float32 value."""
    truth, predicted = images()
    half = tf.cast(predicted, tf.bfloat16)
    for function in (Metric.psnr, Metric.dssim, Loss.mse, Loss.mae):
        assert function(truth, half).dtype == tf.float32


def test_loss_values_by_hand():
    """MAE and MSE are means per image, the PSNR loss is its reciprocal, DSSIM the metric."""
    truth, predicted = images()
    error = (predicted - truth).reshape(3, -1)
    np.testing.assert_allclose(Loss.mae(truth, predicted), np.abs(error).mean(1), rtol=1e-5)
    np.testing.assert_allclose(Loss.mse(truth, predicted), np.square(error).mean(1), rtol=1e-5)
    reciprocal = 1 / Metric.psnr(truth, predicted)
    np.testing.assert_allclose(Loss.psnr(truth, predicted), reciprocal, rtol=1e-6)
    np.testing.assert_array_equal(Loss.dssim(truth, predicted), Metric.dssim(truth, predicted))


@pytest.mark.parametrize("error", [0.0, 1e-8, 0.05, 3.0, 1e4])
def test_gradient_is_finite_everywhere(loss, error):
    """At equality, nearby, and where the PSNR is far below 0 dB, training can go on."""
    truth, _ = images(shape=(3, 36, 32, 1))
    # The scores of a single class would leave no choice, and so no gradient.
    channels = 256 if loss in (cross_entropy, phase_cross_entropy) else 1
    noise = np.random.default_rng(1).normal(size=(*truth.shape[:3], channels))
    predicted = tf.Variable(truth + error * noise, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(truth, predicted, max_val=1.0)
    gradient = tape.gradient(value, predicted).numpy()
    assert value.shape == (3,)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    if error in (0.05, 3.0):
        assert (gradient != 0).any()


def test_a_better_prediction_has_a_lower_loss(loss):
    """From far below 0 dB up to equality the loss never grows."""
    truth, _ = images(shape=(3, 36, 32, 1))
    noise = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    sizes = (0.0, 0.001, 0.02, 0.3, 0.9, 1.1, 3.0, 100.0)
    values = [
        float(tf.reduce_mean(loss(truth, truth + size * noise, max_val=1.0))) for size in sizes
    ]
    assert values == sorted(values)


def test_psnr_loss_goes_on_smoothly_below_one_decibel():
    """At 1 dB neither the value nor the slope of the loss jumps."""
    truth = np.zeros((1, 4, 4, 1), np.float32)

    def loss(decibel):
        return float(Loss.psnr(truth, truth + 10 ** (-decibel / 20))[0])

    assert loss(1.0) == pytest.approx(1, abs=1e-4)
    assert loss(-10.0) == pytest.approx(12, abs=1e-3)
    below, above = loss(1.0) - loss(0.9), loss(1.1) - loss(1.0)
    assert below == pytest.approx(-0.1, abs=1e-3)
    assert above == pytest.approx(1 / 1.1 - 1, abs=1e-3)


def test_ssim_loss_is_dssim():
    """The manual's example file calls the DSSIM loss 'ssim'."""
    assert LOSSES["ssim"] == LOSSES["dssim"]


def test_metrics_of_the_registry():
    """Training shows PSNR and DSSIM."""
    assert METRICS.resolve("psnr") is Metric.psnr
    assert METRICS.resolve("dssim") is Metric.dssim
