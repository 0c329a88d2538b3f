"""How far a network looks: what its layers say against what a single pixel shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from networks import IMAGING, attends_in_windows, has_reach, network

from toolbox.model.edge_attention import EdgeStrength
from toolbox.model.layer import Conv2DSubPixel, Resize
from toolbox.model.reach import Footprint, aligned_halo, footprint
from toolbox.model.window_attention import WindowAttention
from toolbox.registry import MODELS

#: Settings in which the reach shows better than in those of `small`.
OWN = {
    "espcn": {"kernels": [5, 3, 4]},
    "edsr": {"num_residual_blocks": 2},
    "srgan": {"num_residual_blocks": 2},
    "simplesrnet": {"num_layers": 4},
}
KNOWN = [name for name in IMAGING if has_reach(name)]
#: Networks with attention among the pixels of a window, which depends on where the image begins.
WINDOWED = [name for name in IMAGING if attends_in_windows(name)]


def positive(net):
    """Draw positive kernels and slopes and leave out biases, so that nothing cancels.

    An impulse then makes every output it reaches positive, and no other one.
    """
    rng = np.random.default_rng(0)
    for weight in net.weights:
        values = np.zeros(weight.shape)
        if len(weight.shape) == 4:
            # The whole sum stays far below 1e38 and a single path through corners above 1e-38.
            values = 0.15 * rng.uniform(0.5, 1, weight.shape)
        elif weight.name in ("gamma", "moving_variance", "alpha"):
            values = rng.uniform(0.5, 1, weight.shape)
        weight.assign(values)
    return net


def measured(net, centre=28):
    """Return the distance, in LR pixels, of the farthest output that one pixel changes."""
    lr = np.zeros((1, 2 * centre + 1, 2 * centre + 1, net.input_shape[-1]), np.float32)
    flat = np.asarray(net(lr, training=False))
    assert not flat.any()
    lr[0, centre, centre] = 1.0
    scale = flat.shape[1] // lr.shape[1]
    changed = np.argwhere(np.asarray(net(lr, training=False))[0].any(-1)) // scale
    assert changed.min() > 0
    assert changed.max() < 2 * centre
    return np.abs(changed - centre).max()


def measured_by_slope(net, centre=28):
    """Return the distance of the farthest input on which the pixels at the centre depend.

    For a gate, which multiplies: an impulse on nothing would not show what it does to neighbours.
    """
    size = 2 * centre + 1
    lr = tf.constant(np.random.default_rng(1).uniform(0.5, 1, (1, size, size, 1)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(lr)
        hr = net(lr, training=False)
        scale = hr.shape[1] // size
        place = slice(centre * scale, (centre + 1) * scale)
        middle = hr[:, place, place]
    counts = np.argwhere(np.asarray(tape.gradient(middle, lr))[0].any(-1))
    assert counts.min() > 0
    return np.abs(counts - centre).max()


def generator(name, scale, **options):
    """Return the network from LR to HR images of a row of the registry, for any size."""
    params = {**OWN.get(name, {}), **options.pop("params", {})}
    return network(name, scale=scale, params=params, **options)


def of_layers(*steps):
    """Return a network of layers one after the other."""
    x = inputs = keras.Input((None, None, 1))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(("scale", "skip"), [(1, True), (2, False), (3, True), (4, False)])
@pytest.mark.parametrize("name", KNOWN)
def test_every_network_looks_no_farther_than_its_halo(name, scale, skip):
    """One pixel changes nothing beyond the halo, and something at most two pixels before it."""
    net = positive(generator(name, scale, bicubic_skip=skip))
    gated = any(isinstance(layer, EdgeStrength) for layer in net.layers)
    true, halo = measured_by_slope(net) if gated else measured(net), footprint(net).halo
    assert true <= halo <= true + 2


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_have_no_halo(name):
    """With windowed attention the reach is not known; its scores count as memory."""
    net = generator(name, 1, params={"window": 8})
    heads = max(layer.heads for layer in net.layers if isinstance(layer, WindowAttention))
    assert footprint(net) == Footprint(None, heads * 8**2)


def test_windows_have_a_halo_in_step():
    """Where tiles keep the windows, every attention looks as far as its window at most."""
    conv, norm = layers.Conv2D(6, 3, padding="same"), layers.LayerNormalization()
    attentions = [conv, norm, WindowAttention(1, 5), layers.Conv2D(6, 1), WindowAttention(2, 4, 2)]
    assert aligned_halo(of_layers(*attentions)) == 1 + 4 + 3
    halved = [layers.MaxPooling2D(2), layers.Conv2D(6, 1), WindowAttention(1, 5)]
    assert aligned_halo(of_layers(*halved)) is None
    image = keras.Input((8, 8, 2))
    assert aligned_halo(keras.Model(image, layers.LayerNormalization(axis=(1, 2))(image))) is None
    assert aligned_halo(of_layers(layers.GroupNormalization(1))) is None


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("name", "upsampling"),
    [("edsr", "direct"), ("edsr", "resize"), ("srgan", "resize"), ("esrgan", "resize")],
)
def test_every_way_to_enlarge(name, upsampling, scale):
    """Nearest-neighbour enlargement and one convolution for all pixels are counted, too."""
    net = positive(generator(name, scale, params={"upsampling": upsampling}))
    true, halo = measured(net), footprint(net).halo
    assert true <= halo <= true + 2


@pytest.mark.parametrize(
    ("steps", "halo", "values"),
    [
        ([layers.Conv2D(2, 3, padding="same")], 1, 2),
        ([layers.Conv2D(5, 1), layers.Conv2D(1, 7, padding="same")], 3, 5),
        ([layers.Conv2D(1, 3, padding="same", dilation_rate=4)], 4, 1),
        ([layers.Conv2D(1, (3, 9), padding="same")], 4, 1),
        ([layers.Conv2D(1, 4, padding="same")], 2, 1),
        ([layers.Conv2D(4, 3, padding="same"), Conv2DSubPixel(2)], 1, 4),
        # At twice the density three pixels to a side are one and a half of the input.
        ([Resize(2, "nearest"), layers.Conv2D(6, 7, padding="same")], 2, 24),
        ([Resize(2, "bilinear")], 1, 4),
        # One pixel of the derivative and four of the mean; half of that at twice the density.
        ([EdgeStrength()], 5, 1),
        ([Resize(2, "nearest"), EdgeStrength()], 3, 4),
        ([Resize(3, "bicubic"), layers.ReLU()], 2, 9),
        ([layers.Conv2DTranspose(2, 9, strides=4, padding="same")], 2, 32),
        ([layers.Conv2DTranspose(2, 2, strides=2)], 0, 8),
        # From the second of two pixels, that before the first is two away.
        ([layers.Conv2D(3, 4, strides=2, padding="same")], 2, 1),
        # The other pixel of the pair, and three pixels of half the density.
        ([layers.MaxPooling2D(2), layers.Conv2D(8, 7, padding="same")], 1 + 6, 2),
        ([layers.MaxPooling2D(2), layers.Conv2DTranspose(2, 2, strides=2)], 1, 2),
    ],
)
def test_halo_by_hand(steps, halo, values):
    """Half a kernel, divided by the density of pixels where it is applied, rounded up at last."""
    assert footprint(of_layers(*steps)) == Footprint(halo, values)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_transposed_convolutions(stride, kernel):
    """Kernels odd and even, narrower and wider than the stride, reach no farther than said."""
    step = layers.Conv2DTranspose(1, kernel, strides=stride, padding="same")
    net = positive(of_layers(step))
    true, halo = measured(net), footprint(net).halo
    assert true <= halo <= true + 2


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("dilation", [1, 3])
def test_convolutions(dilation, kernel):
    """Odd, even and dilated kernels have the halo that one pixel shows."""
    step = layers.Conv2D(1, kernel, padding="same", dilation_rate=dilation)
    net = positive(of_layers(step))
    assert measured(net) <= footprint(net).halo <= measured(net) + 1


def test_longest_way_counts():
    """Of two branches that are added the farther one decides."""
    inputs = keras.Input((None, None, 1))
    near = layers.Conv2D(2, 3, padding="same")(inputs)
    far = layers.Conv2D(2, 5, padding="same")(layers.Conv2D(2, 5, padding="same")(inputs))
    net = keras.Model(inputs, layers.Add()([near, far]))
    assert footprint(net).halo == measured(positive(net)) == 4


def test_networks_inside_networks():
    """A model used as a layer, twice, is looked into each time."""
    inner = of_layers(layers.Conv2D(1, 5, padding="same"), layers.ReLU())
    inputs = keras.Input((None, None, 1))
    net = keras.Model(inputs, inner(layers.Conv2D(3, 3, padding="same")(inner(inputs))[..., :1]))
    assert footprint(net).halo is None  # the slice is an operation that is not known
    inputs = keras.Input((None, None, 1))
    net = keras.Model(inputs, inner(layers.Conv2D(1, 3, padding="same")(inner(inputs))))
    assert footprint(net).halo == measured(positive(net)) == 5


@pytest.mark.parametrize(
    "unknown",
    [
        lambda: layers.AveragePooling2D(3, 1, padding="same"),
        lambda: layers.GroupNormalization(1),
        lambda: layers.LayerNormalization(),
        lambda: layers.MaxPooling2D(3, 1, padding="same"),
        lambda: layers.Lambda(lambda x: x - keras.ops.mean(x, (1, 2), keepdims=True)),
        lambda: Resize(2, margin=1),
    ],
)
def test_unknown_layers_have_no_halo(unknown):
    """A layer that looks at the whole image, or that is not known, gives None, also in between."""
    assert footprint(of_layers(layers.Conv2D(2, 3, padding="same"), unknown())).halo is None
    assert footprint(of_layers(unknown(), layers.Conv2D(2, 3, padding="same"))).halo is None


def test_global_branch_has_no_halo():
    """Attention over channels, weighted by the mean of the image, spoils the whole network."""
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    weight = layers.Dense(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    net = keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(layers.Multiply()([x, weight])))
    assert footprint(net).halo is None
    assert footprint(net).values >= 4


def test_largest_layer_of_known_networks():
    """What a pixel costs is the widest layer, counted at low resolution.

    ESPCN's first layer has 64 channels; SRCNN's 32 lie at 16 pixels each at scale 4; the EDSR
    baseline's last enlargement makes 256 channels at 4 pixels each.
    """
    for name, values in (("espcn", 64), ("srcnn", 32 * 16), ("edsr", 256 * 4)):
        assert footprint(MODELS.resolve(name)((None, None, 1), 4)).values == values
