"""Networks under the names of the published PyTorch ones, beside a reference in plain NumPy.

Comparisons with PyTorch and spandrel themselves are in ``benchmarks/interchange.py``.
"""

import keras
import numpy as np
import pytest
from networks import network

from toolbox.errors import ConfigError, DataError
from toolbox.model import esrgan, srgan
from toolbox.model.build import build_network
from toolbox.model.interchange import as_grey, from_state_dict, published_title, to_state_dict

FILTERS, BLOCKS = 8, 2


def drawn(shapes, seed=0):
    """Return random tensors: kernels of about unit gain, the rest near what it begins with."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            array = rng.uniform(0.05, 2, shape)
        else:
            array = rng.uniform(0.1, 0.4, shape)
        state[name] = array.astype(np.float32)
    return state


def rrdb_state(channels=3, growth=32, ups=2, filters=FILTERS, unshuffled=1):
    """Return a state dict of RRDBNet as BasicSR writes it."""
    kernels = {"conv_first": (filters, channels * unshuffled)}
    for block in range(BLOCKS):
        for dense in (1, 2, 3):
            for conv in range(1, 6):
                out = filters if conv == 5 else growth
                name = f"body.{block}.rdb{dense}.conv{conv}"
                kernels[name] = (out, filters + (conv - 1) * growth)
    names = ["conv_body", *(f"conv_up{n + 1}" for n in range(ups)), "conv_hr"]
    kernels |= dict.fromkeys(names, (filters, filters))
    kernels["conv_last"] = (channels, filters)
    shapes = {}
    for name, (out, into) in kernels.items():
        shapes |= {f"{name}.weight": (out, into, 3, 3), f"{name}.bias": (out,)}
    return drawn(shapes)


def srres_state(channels=3, factors=(2, 2), filters=FILTERS, slopes=1):
    """Return a state dict of SRResNet with batch normalisation."""
    shapes = {"conv1.0.weight": (filters, channels, 9, 9), "conv1.0.bias": (filters,)}
    shapes["conv1.1.weight"] = (slopes,)

    def normalised(conv, norm):
        shapes[f"{conv}.weight"] = (filters, filters, 3, 3)
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = (filters,)

    for block in range(BLOCKS):
        normalised(f"trunk.{block}.rcb.0", f"trunk.{block}.rcb.1")
        shapes[f"trunk.{block}.rcb.2.weight"] = (slopes,)
        normalised(f"trunk.{block}.rcb.3", f"trunk.{block}.rcb.4")
    normalised("conv2.0", "conv2.1")
    for number, factor in enumerate(factors):
        name = f"upsampling.{number}.upsample_block"
        shapes[f"{name}.0.weight"] = (filters * factor**2, filters, 3, 3)
        shapes[f"{name}.0.bias"] = (filters * factor**2,)
        shapes[f"{name}.2.weight"] = (slopes,)
    shapes |= {"conv3.weight": (channels, filters, 9, 9), "conv3.bias": (channels,)}
    return drawn(shapes)


STATES = {
    "RRDBNet ×4": rrdb_state(),
    "RRDBNet ×2, grey": rrdb_state(1, ups=1),
    "SRResNet ×4": srres_state(),
    "SRResNet ×3": srres_state(factors=(3,)),
    "SRResNet ×2, slopes of channels": srres_state(1, (2,), slopes=FILTERS),
}
EVERY = pytest.mark.parametrize("state", STATES.values(), ids=STATES)


def built(found):
    """Return the network of what was found in a state dict, for images of any size."""
    config = {
        "model": found.model,
        found.model: found.params,
        "input_shape": (8, 8, found.channels),
        "scale": found.scale,
    }
    net = build_network(config)
    net.set_weights(found.weights)
    return net


# The reference: what PyTorch computes, image (C, h, w) ----------------------------------------


def conv(state, name, x):
    """Convolve with zeros around the image; cross-correlation, as everywhere in the field."""
    kernel = state[f"{name}.weight"].astype(np.float64)
    reach = kernel.shape[2] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], (1, 2))
    result = np.einsum("chwij,ocij->ohw", windows, kernel)
    bias = state.get(f"{name}.bias", np.zeros(len(kernel)))
    return result + bias[:, None, None]


def leaky(x, slope=0.2):
    return np.where(x > 0, x, slope * x)


def rrdbnet(state, x, ups):
    """RRDBNet by its definition, arXiv:1809.00219, figure 4."""
    first = x = conv(state, "conv_first", x)
    for block in range(BLOCKS):
        begin = x
        for dense in (1, 2, 3):
            known = x
            for number in range(1, 5):
                y = leaky(conv(state, f"body.{block}.rdb{dense}.conv{number}", known))
                known = np.concatenate([known, y])
            x = x + 0.2 * conv(state, f"body.{block}.rdb{dense}.conv5", known)
        x = begin + 0.2 * x
    x = first + conv(state, "conv_body", x)
    for number in range(ups):
        x = leaky(conv(state, f"conv_up{number + 1}", x.repeat(2, 1).repeat(2, 2)))
    return conv(state, "conv_last", leaky(conv(state, "conv_hr", x)))


def srresnet(state, x, factors):
    """SRResNet by its definition, arXiv:1609.04802, figure 4."""

    def prelu(name, x):
        return leaky(x, state[f"{name}.weight"][:, None, None])

    def norm(name, x):
        mean, variance, gamma, beta = (
            state[f"{name}.{key}"].astype(np.float64)[:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    first = x = prelu("conv1.1", conv(state, "conv1.0", x))
    for block in range(BLOCKS):
        name = f"trunk.{block}.rcb"
        y = prelu(f"{name}.2", norm(f"{name}.1", conv(state, f"{name}.0", x)))
        x = x + norm(f"{name}.4", conv(state, f"{name}.3", y))
    x = first + norm("conv2.1", conv(state, "conv2.0", x))
    for number, factor in enumerate(factors):
        name = f"upsampling.{number}.upsample_block"
        y = conv(state, f"{name}.0", x)
        _, height, width = y.shape
        y = y.reshape(-1, factor, factor, height, width).transpose(0, 3, 1, 4, 2)
        x = prelu(f"{name}.2", y.reshape(-1, factor * height, factor * width))
    return conv(state, "conv3", x)


def reference(state, image):
    """Run (h, w, C) through the reference of whatever network a state dict has."""
    x = image.transpose(2, 0, 1).astype(np.float64)
    if "conv_first.weight" in state:
        y = rrdbnet(state, x, sum(key.startswith("conv_up") for key in state) // 2)
    else:
        ups = [key for key in state if key.endswith("upsample_block.0.bias")]
        y = srresnet(state, x, [int((len(state[key]) / FILTERS) ** 0.5) for key in ups])
    return y.transpose(1, 2, 0)


def image(channels):
    return np.random.default_rng(1).random((7, 5, channels), dtype=np.float32)


# Both directions ------------------------------------------------------------------------------


@EVERY
def test_same_image_same_result(state):
    """Our network with the weights of a state dict gives what PyTorch's definition gives."""
    found = from_state_dict(state)
    given = image(found.channels)
    result = np.asarray(built(found)(given[None]))[0]
    assert result.shape == (7 * found.scale, 5 * found.scale, found.channels)
    np.testing.assert_allclose(result, reference(state, given), atol=1e-5)


@EVERY
def test_round_trip_is_exact(state):
    """State dict → network → state dict gives the same names, shapes and bits."""
    again = to_state_dict(built(from_state_dict(state)))
    assert list(again) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array, strict=True)


@pytest.mark.parametrize("model", ["esrgan", "srgan"])
def test_a_trained_network_goes_out(model):
    """Biases, slopes and moving averages that training moved are in the state dict."""
    keras.utils.set_random_seed(0)
    upsampling = {"esrgan": "resize", "srgan": "subpixel"}[model]
    params = {"filters": FILTERS, "num_residual_blocks": BLOCKS, "upsampling": upsampling}
    net = {"esrgan": esrgan, "srgan": srgan}[model].Generator((None, None, 3), 4, params=params)
    rng = np.random.default_rng(0)
    for weight in net.weights:
        weight.assign(weight + 0.03 * np.abs(rng.normal(size=weight.shape)))
    state, given = to_state_dict(net), image(3)
    ours = np.asarray(net(given[None], training=False))[0]
    np.testing.assert_allclose(ours, reference(state, given), rtol=1e-4, atol=1e-5 * np.ptp(ours))
    assert published_title(net) == {"esrgan": "RRDBNet", "srgan": "SRResNet"}[model]


def old_name(key, blocks=BLOCKS):
    """Return the oldest name of a tensor of RRDBNet ×4."""
    name, kind = key.rsplit(".", 1)
    if name.startswith("body"):
        _, block, dense, number = name.split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{number}.0.{kind}"
    numbers = {
        "conv_first": "0",
        "conv_body": f"1.sub.{blocks}",
        "conv_up1": "3",
        "conv_up2": "6",
        "conv_hr": "8",
        "conv_last": "10",
    }
    return f"model.{numbers[name]}.{kind}"


def trunk_name(key):
    """Return the name of a tensor in the ESRGAN repository."""
    for new, old in (
        ("conv_body", "trunk_conv"),
        ("body.", "RRDB_trunk."),
        (".rdb", ".RDB"),
        ("conv_up", "upconv"),
        ("conv_hr", "HRconv"),
    ):
        key = key.replace(new, old)
    return key


@pytest.mark.parametrize("rename", [old_name, trunk_name, lambda key: f"module.{key}"])
def test_older_names(rename):
    """All generations of names, and those of a parallel training, mean the same network."""
    state = rrdb_state()
    found, renamed = (
        from_state_dict(s) for s in (state, {rename(key): array for key, array in state.items()})
    )
    assert renamed[:4] == found[:4]
    for one, other in zip(renamed.weights, found.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_settings_are_told():
    """Sizes of the tensors become the settings of the section."""
    found = from_state_dict(rrdb_state(1, growth=4, ups=3))
    assert (found.model, found.scale, found.channels) == ("esrgan", 8, 1)
    assert found.params == {
        "filters": FILTERS,
        "num_residual_blocks": BLOCKS,
        "growth": 4,
        "upsampling": "resize",
        "alpha": 0.2,
        "beta": 0.2,
    }
    found = from_state_dict(srres_state(factors=(3,)))
    assert (found.model, found.scale, found.channels) == ("srgan", 3, 3)
    assert found.params == {
        "filters": FILTERS,
        "num_residual_blocks": BLOCKS,
        "upsampling": "subpixel",
    }


def test_half_precision_and_counters():
    """float16 becomes float32 as it is; counters of batch normalisation are left out."""
    state = srres_state()
    half = {name: array.astype(np.float16) for name, array in state.items()}
    found = from_state_dict({**half, "conv2.1.num_batches_tracked": np.array(7)})
    assert {array.dtype for array in found.weights} == {np.dtype(np.float32)}
    for one, other in zip(found.weights, from_state_dict(state).weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("state", [rrdb_state(ups=1), srres_state(factors=(2,))])
def test_grey_is_the_mean_of_three(state):
    """The grey network gives the mean of what the one for colours makes of three equal channels."""
    found, given = from_state_dict(state), image(1)
    grey = as_grey(found)
    assert grey.channels == 1
    expected = reference(state, given.repeat(3, axis=2)).mean(axis=2, keepdims=True)
    np.testing.assert_allclose(np.asarray(built(grey)(given[None]))[0], expected, atol=1e-5)


# What is refused ------------------------------------------------------------------------------


def without(key):
    state = rrdb_state()
    del state[key]
    return state


SMALL = rrdb_state()
BAD_STATES = {
    "another network": ({"head.weight": np.zeros((8, 3, 3, 3))}, r"received tensors named head\.w"),
    "nothing": ({}, "expected RRDBNet"),
    "pixel-unshuffle": (
        rrdb_state(unshuffled=4),
        "begins with a pixel-unshuffle.*Use a ×4 network",
    ),
    "other channels": (
        rrdb_state(unshuffled=2),
        "result must have as many channels.*received 3 and 6",
    ),
    "missing": (without("body.1.rdb3.conv5.bias"), r"net\.pth: lacks body\.1\.rdb3\.conv5\.bias"),
    "no end": (without("conv_last.weight"), r"conv_last\.weight must be a kernel"),
    "too many": (
        {**SMALL, "conv_extra.weight": np.zeros(3)},
        r"tensors that the network does not have \(1, e\.g\. conv_extra\.weight",
    ),
    "ESRGAN+": (
        {**SMALL, "body.0.rdb1.conv1x1.weight": np.zeros((32, 8, 1, 1))},
        "tensors that the network does not have",
    ),
    "other shape": (
        {**SMALL, "conv_hr.weight": np.zeros((8, 4, 3, 3))},
        r"conv_hr\.weight must have the shape \(8, 8, 3, 3\); received \(8, 4, 3, 3\)",
    ),
    "a vector": ({**SMALL, "conv_first.weight": np.zeros(8)}, "kernel with four dimensions"),
    "not a number": (
        {**SMALL, "conv_hr.bias": np.full(8, np.nan, np.float32)},
        r"conv_hr\.bias must be finite",
    ),
    "integers": (
        {**SMALL, "conv_hr.bias": np.zeros(8, int)},
        r"conv_hr\.bias must be .*received int64",
    ),
    "two names": ({**SMALL, "HRconv.bias": np.zeros(8)}, "two names for the same tensor"),
    "×6": (srres_state(factors=(2, 3)), "scale must be one of 2, 3, 4, 8; received 6"),
    "×4 at once": (srres_state(factors=(4,)), r"upsample_block\.0\.weight must have the shape"),
    "×32": (rrdb_state(ups=5), "scale must be one of 1, 2, 4, 8, 16; received 32"),
}


@pytest.mark.parametrize(("state", "words"), BAD_STATES.values(), ids=BAD_STATES)
def test_other_state_dicts_are_refused(state, words):
    """One line names the tensor that is wrong."""
    with pytest.raises(DataError, match=words):
        from_state_dict(state, "net.pth")


RESIZE = {"upsampling": "resize", "growth": 32}
BAD_NETWORKS = [
    ("esrgan", {"growth": 32}, {}, r"esrgan\.upsampling must be resize.*received subpixel"),
    ("esrgan", {"upsampling": "resize"}, {}, r"esrgan\.growth must be 32.*received 3"),
    ("esrgan", {**RESIZE, "alpha": 0.1}, {}, r"esrgan\.alpha must be 0\.2"),
    ("esrgan", {**RESIZE, "beta": 1.0}, {}, r"esrgan\.beta must be 0\.2"),
    ("esrgan", RESIZE, {"bicubic_skip": True}, "bicubic_skip must be False"),
    ("esrgan", RESIZE, {"scale": 3}, "scale must be one of 1, 2, 4, 8, 16.*received 3"),
    ("srgan", {"upsampling": "resize"}, {}, r"srgan\.upsampling must be subpixel"),
    ("srgan", {}, {"bicubic_skip": True}, "bicubic_skip must be False"),
    ("srgan", {}, {"scale": 1}, "scale must be one of 2, 3, 4, 8"),
    ("espcn", {}, {}, "must have the layers of a .* network, esrgan and srgan; received ESPCN"),
]


@pytest.mark.parametrize(("model", "changes", "options", "words"), BAD_NETWORKS)
def test_other_networks_are_refused(model, changes, options, words):
    """The setting that differs from the published network is named."""
    net = network(model, (None, None, 1), params=changes, **{"scale": 2, **options})
    with pytest.raises(ConfigError, match=words):
        to_state_dict(net)
