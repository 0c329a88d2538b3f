"""Pictures from pictures: classes and their colours, pairs, figures, drawings, settings."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from toolbox.augment import Augmenter
from toolbox.errors import ConfigError, DataError
from toolbox.io.picture import read_indices, read_picture
from toolbox.normalizer import MinMaxNormalizer
from toolbox.opencv import cv2
from toolbox.picture_set import in_channels
from toolbox.resize import resized
from toolbox.settings import UserParams
from toolbox.tasks.pix2pix.classes import (
    VOC_NAMES,
    VOID,
    classes_of,
    named_classes,
    voc_classes,
    voc_palette,
)
from toolbox.tasks.pix2pix.draw import TOLERANCE, Artist
from toolbox.tasks.pix2pix.loss import cross_entropy
from toolbox.tasks.pix2pix.measure import (
    CLASS_FIGURES,
    bootstrap,
    class_figures,
    confusion,
    picture_figures,
)
from toolbox.tasks.pix2pix.pairs import read_classes
from toolbox.tasks.pix2pix.predict import DrawingPredictor
from toolbox.tasks.pix2pix.sheet import as_rgb, sheet
from toolbox.tasks.pix2pix.source import FolderSource, VocSource
from toolbox.tasks.pix2pix.task import PixToPix

VOC = voc_classes()
#: Every id of a VOC mask.
IDS = np.append(np.arange(21), VOID).astype(np.uint8)
THREE = {"sky": [0, 0, 0], "land": [0, 200, 0], "sea": [0, 0, 255]}
NORM = MinMaxNormalizer(0, 255, 0, 255).normalize_pair


def write(path, pixels, palette=None, **options):
    """Write a picture, with a palette if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path, **options)
    return path


def mode_of(path):
    with Image.open(path) as image:
        return image.mode


def some_ids(height=13, width=17, seed=0):
    """Return a map in which every id of VOC occurs, void too."""
    rng = np.random.default_rng(seed)
    ids = np.append(IDS, rng.choice(IDS, height * width - len(IDS)))
    return rng.permutation(ids).reshape(height, width)


def some_pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# Classes and colours ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "name", "colour"),
    [
        # VOClabelcolormap.m of the VOC 2012 development kit.
        (0, "background", (0, 0, 0)),
        (1, "aeroplane", (128, 0, 0)),
        (2, "bicycle", (0, 128, 0)),
        (15, "person", (192, 128, 128)),
        (20, "tv/monitor", (0, 64, 128)),
    ],
)
def test_colours_of_voc(number, name, colour):
    """Names and colours are those of the data set."""
    assert VOC_NAMES[number] == VOC.names[number] == name
    assert tuple(voc_palette()[number]) == tuple(VOC.colours[number]) == colour


def test_colour_of_void():
    """Void is the last of 256 colours, which all differ."""
    assert tuple(VOC.void_colour) == tuple(voc_palette()[VOID]) == (224, 224, 192)
    assert len(np.unique(voc_palette(), axis=0)) == 256
    assert len(VOC) == 21


def test_colours_and_back():
    """Every id survives, void too; ids without a class are void."""
    ids = some_ids()
    found, distance = VOC.decode(VOC.encode(ids))
    np.testing.assert_array_equal(found, ids)
    assert (found.dtype, distance.dtype) == (np.uint8, np.float32)
    assert not distance.any()
    np.testing.assert_array_equal(VOC.encode(np.uint8(99)), VOC.void_colour)


def test_nearest_colour():
    """No other colour is nearer than the one that was found, at any number of pixels."""
    pixels = np.random.default_rng(0).uniform(0, 255, (50, 40, 3)).astype(np.float32)
    ids, distance = VOC.decode(pixels)
    known = np.concatenate([VOC.colours, VOC.void_colour[None]]).astype(np.float64)
    every = np.linalg.norm(pixels[..., None, :] - known, axis=-1)
    np.testing.assert_allclose(distance, every.min(axis=-1), atol=1e-3)
    places = np.where(ids == VOID, 21, ids)[..., None]
    np.testing.assert_allclose(np.take_along_axis(every, places, -1)[..., 0], distance, atol=1e-3)


def test_many_pixels_are_decoded_in_parts(monkeypatch):
    """The parts join without a seam."""
    pixels = some_pixels(31, 11)
    expected = VOC.decode(pixels)
    monkeypatch.setattr("toolbox.tasks.pix2pix.classes._CHUNK", 7)
    for found, wanted in zip(VOC.decode(pixels), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_named_classes():
    """Names and colours are those given; void has another colour."""
    classes = named_classes(THREE)
    assert classes.names == ("sky", "land", "sea")
    np.testing.assert_array_equal(classes.colours, list(THREE.values()))
    taken = {str(i): tuple(colour) for i, colour in enumerate(voc_palette()[1:])}
    assert len(named_classes(taken)) == 255
    assert tuple(named_classes(taken).void_colour) == (0, 0, 0)


def test_named_classes_that_cannot_be_told_apart():
    """Two classes of one colour, or a single class."""
    with pytest.raises(ConfigError, match=r"different colours; received \[0, 0, 0\] twice"):
        named_classes({**THREE, "night": [0, 0, 0]})
    with pytest.raises(ConfigError, match="2 to 255 classes; received 1"):
        named_classes({"sky": [0, 0, 0]})


def test_classes_of_a_section():
    """VOC has its own; a folder of pictures has none unless they are named."""
    assert len(classes_of("voc", {})) == 21
    assert classes_of("picture_pairs", {"classes": None}) is None
    assert classes_of("picture_pairs", {"classes": THREE}).names == ("sky", "land", "sea")


# Reading class maps ----------------------------------------------------------------------------


def test_a_mask_keeps_its_ids(tmp_path):
    """From a palette PNG through nearest resizing and colours and back: its ids and no other."""
    ids = some_ids(40, 60)
    path = write(tmp_path / "mask.png", ids, voc_palette())
    assert mode_of(path) == "P"
    read = read_classes(path, VOC)
    np.testing.assert_array_equal(read, ids)
    for shape in ((96, 128), (16, 32), (40, 60)):
        small = resized(read[..., None], shape, "nearest")
        np.testing.assert_array_equal(VOC.decode(VOC.encode(small[..., 0]))[0], small[..., 0])
        assert set(np.unique(small)) <= set(IDS)
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * old / n).astype(int), old - 1)
            for n, old in zip(shape, ids.shape, strict=True)
        )
        np.testing.assert_array_equal(small[..., 0], ids[np.ix_(rows, columns)])


def test_bicubic_would_invent_classes():
    """What the test above guards against."""
    ids = some_ids(40, 60)
    decoded = VOC.decode(resized(VOC.encode(ids), (96, 128)))[0]
    nearest = resized(ids[..., None], (96, 128), "nearest")[..., 0]
    assert (decoded != nearest).mean() > 0.2


def test_palette_sorted_anew(tmp_path):
    """An image program may have renumbered the colours; the colours decide the classes."""
    ids = some_ids()
    order = np.random.default_rng(1).permutation(len(IDS)).astype(np.uint8)
    places = np.zeros(256, np.uint8)
    places[IDS] = order
    palette = np.zeros((len(IDS), 3), np.uint8)
    palette[order] = voc_palette()[IDS]
    path = write(tmp_path / "mask.png", places[ids], palette)
    assert (read_indices(path)[0] != ids).any()
    np.testing.assert_array_equal(read_classes(path, VOC), ids)


def test_palette_of_other_colours(tmp_path):
    """The numbers are ids if the colours are none of the classes."""
    ids = some_ids()
    grey = np.arange(256)[:, None].repeat(3, axis=1)
    np.testing.assert_array_equal(read_classes(write(tmp_path / "a.png", ids, grey), VOC), ids)


def test_grey_and_colour(tmp_path):
    """Ids as grey levels, and the exact colours of the classes."""
    ids = some_ids()
    for name, pixels in (("grey.png", ids), ("colour.png", VOC.encode(ids))):
        path = write(tmp_path / name, pixels)
        assert read_indices(path) is None
        np.testing.assert_array_equal(read_classes(path, VOC), ids)


def test_one_bit(tmp_path):
    """A map of two classes may be of one bit: 0 and 1 are the ids, not 0 and void."""
    ids = some_ids() % 2
    path = tmp_path / "mask.png"
    Image.fromarray(ids.astype(bool)).save(path)
    assert mode_of(path) == "1"
    two = named_classes({"ground": [0, 0, 0], "thing": [255, 255, 255]})
    np.testing.assert_array_equal(read_classes(path, two), ids)


def test_grey_mask_in_black_and_white(tmp_path):
    """With classes in black and white, 255 is white, not void."""
    ids = some_ids() % 2
    path = write(tmp_path / "mask.png", ids * np.uint8(255))
    assert mode_of(path) == "L"
    two = named_classes({"ground": [0, 0, 0], "thing": [255, 255, 255]})
    np.testing.assert_array_equal(read_classes(path, two), ids)


def test_colours_of_no_class(tmp_path):
    """JPEG mixes colours; the first one that is wrong is named."""
    pixels = VOC.encode(some_ids())
    pixels[3, 4] = 1, 2, 3
    path = write(tmp_path / "mask.png", pixels)
    with pytest.raises(DataError, match=r"0\.45 % of its pixels.*of no class.*\[1, 2, 3\]"):
        read_classes(path, VOC)


@pytest.mark.parametrize("palette", [None, voc_palette()], ids=["grey", "palette"])
def test_ids_of_no_class(tmp_path, palette):
    """They are named, but not all of them."""
    ids = some_ids()
    ids[0, :6] = 100, 101, 102, 103, 104, 105
    path = write(tmp_path / "mask.png", ids, palette)
    with pytest.raises(
        DataError, match=r"must be 0 to 20, or 255.*100, 101, 102, 103, 104, \.\.\."
    ):
        read_classes(path, VOC)


def test_sixteen_bits(tmp_path):
    """Ids and colours of 16 bits are no class map."""
    grey = write(tmp_path / "grey.png", some_ids().astype(np.uint16))
    with pytest.raises(DataError, match=r"class ids must have 8 bits; received 16"):
        read_classes(grey, VOC)
    cv2.imwrite(str(tmp_path / "colour.png"), VOC.encode(some_ids()).astype(np.uint16) * 257)
    with pytest.raises(DataError, match=r"colours of classes must have 8 bits; received 16"):
        read_classes(tmp_path / "colour.png", VOC)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: data[: len(data) - 90], "damaged or truncated"),
        (lambda data: b"a note", "not a picture"),
        (None, "no such file"),
    ],
    ids=["empty", "cut", "text", "missing"],
)
def test_files_that_are_no_class_map(tmp_path, edit, message):
    """One line, whatever the decoder says."""
    path = write(tmp_path / "mask.png", some_ids(50, 60), voc_palette())
    if edit is None:
        path.unlink()
    else:
        path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(DataError, match=rf"mask\.png: .*{message}"):
        read_classes(path, VOC)


# Loss ------------------------------------------------------------------------------------------


def by_hand(ids, scores):
    """Return the mean over judged pixels of -log softmax, in float64."""
    judged = ids < scores.shape[-1]
    z = scores.astype(np.float64)
    logs = z - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))
    logs -= z.max(-1, keepdims=True)
    own = np.take_along_axis(logs, np.where(judged, ids, 0)[..., None], -1)[..., 0]
    return -(own * judged).sum((1, 2)) / np.maximum(judged.sum((1, 2)), 1)


@pytest.mark.parametrize(("max_val", "min_val"), [(1.0, 0.0), (2.0, -1.0)])
def test_cross_entropy(max_val, min_val):
    """It is that of NumPy, whatever the normaliser; void and an image of nothing else are left out.

    No gradient is infinite, and those of void are nothing.
    """
    rng = np.random.default_rng(0)
    ids = rng.choice(IDS, (4, 9, 8))
    ids[2] = VOID
    scores = (5 * rng.normal(size=(4, 9, 8, 21))).astype(np.float32)
    y_true = (ids[..., None] / np.float32(255) * max_val + min_val).astype(np.float32)
    y_pred = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        losses = cross_entropy(tf.constant(y_true), y_pred, max_val, min_val)
    np.testing.assert_allclose(losses, by_hand(ids, scores), rtol=1e-5)
    assert losses.numpy()[2] == 0
    gradient = tape.gradient(losses, y_pred).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[ids == VOID].any()
    assert gradient[ids != VOID].any(axis=-1).all()


def test_every_id_is_known_again():
    """255 classes, as float32 of the normaliser: the right one has the lower loss."""
    ids = np.arange(255, dtype=np.float32).reshape(1, 15, 17, 1)
    right = 50 * np.eye(255, dtype=np.float32)[ids[..., 0].astype(int)]
    assert float(cross_entropy(NORM(ids, ids)[1], right)[0]) < 1e-6
    assert float(cross_entropy(NORM(ids, ids)[1], np.roll(right, 1, axis=1))[0]) > 45


# Figures ---------------------------------------------------------------------------------------


def test_confusion_is_that_of_a_loop():
    """Rows are the truth, columns what was found, void at last; void truth does not count."""
    truth, found = some_ids(seed=1), some_ids(seed=2)
    expected = np.zeros((21, 22), np.int64)
    for t, f in zip(truth.ravel(), found.ravel(), strict=True):
        if t != VOID:
            expected[t, 21 if f == VOID else f] += 1
    np.testing.assert_array_equal(confusion(truth, found, 21), expected)


def test_class_figures_by_hand():
    """Seven judged pixels of three classes, one found void and one of a class without truth."""
    truth = np.array([[0, 0, 0, 1, 1, 1, 1, VOID]], np.uint8)
    found = np.array([[0, 0, 1, 1, 1, VOID, 2, 0]], np.uint8)
    figures = class_figures(confusion(truth, found, 3))
    np.testing.assert_allclose(figures["iou"], [2 / 3, 2 / 5, np.nan])
    np.testing.assert_allclose(figures["accuracy"], [2 / 3, 2 / 4, np.nan])
    assert figures["pixel_accuracy"] == pytest.approx(4 / 7)
    assert figures["mean_iou"] == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert figures["mean_accuracy"] == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_class_figures_are_sets():
    """IoU is the intersection by the union of the pixels of a class, those of void left out."""
    truth, found = some_ids(60, 50, seed=1), some_ids(60, 50, seed=2)
    found = np.where(np.random.default_rng(0).random(truth.shape) < 0.6, truth, found)
    found = np.where(truth == 7, 3, found)
    truth = np.where(truth == 4, 5, truth)  # absent from the truth, but found
    figures = class_figures(confusion(truth, found, 21))
    judged = truth != VOID
    for number in range(21):
        own, taken = (truth == number) & judged, (found == number) & judged
        if number == 4:
            assert np.isnan(figures["iou"][number])
            assert np.isnan(figures["accuracy"][number])
            continue
        both = (own & taken).sum()
        assert figures["iou"][number] == pytest.approx(both / (own | taken).sum())
        assert figures["accuracy"][number] == pytest.approx(both / own.sum())
    assert figures["iou"][7] == 0
    for mean, each in (("mean_iou", "iou"), ("mean_accuracy", "accuracy")):
        assert figures[mean] == pytest.approx(np.nanmean(figures[each]))
    assert figures["pixel_accuracy"] == pytest.approx((truth == found)[judged].mean())


def test_figures_of_several_pictures():
    """A stack gives what its pictures give one by one; nothing but void gives no number."""
    stack = np.stack([confusion(some_ids(seed=s), some_ids(seed=9), 21) for s in (1, 2)])
    both = class_figures(stack)
    for number in range(2):
        single = class_figures(stack[number])
        for name in CLASS_FIGURES:
            assert both[name][number] == single[name]
    empty = class_figures(np.zeros((21, 22)))
    assert all(np.isnan(empty[name]) for name in CLASS_FIGURES)


def confusions(share, count=12):
    """Return the confusion of pictures of which a share of the pixels is right."""
    rng = np.random.default_rng(int(100 * share))
    matrices = []
    for seed in range(count):
        truth = some_ids(20, 20, seed=seed)
        wrong = rng.permutation(truth.ravel()).reshape(truth.shape)
        found = np.where(rng.random(truth.shape) < share, truth, wrong)
        matrices.append(confusion(truth, found, 21))
    return np.array(matrices)


def test_bootstrap():
    """The interval holds the difference, has another sign the other way, and is repeatable."""
    good, bad = confusions(0.8), confusions(0.5)
    intervals = bootstrap(good, bad)
    pooled = [class_figures(stack.sum(axis=0)) for stack in (good, bad)]
    for name in CLASS_FIGURES:
        low, high = intervals[name]
        assert 0 < low < pooled[0][name] - pooled[1][name] < high
        assert high - low < 0.2
        np.testing.assert_allclose(bootstrap(bad, good)[name], (-high, -low))
    assert bootstrap(good, bad, seed=0) == intervals
    assert bootstrap(good, bad, seed=1) != intervals


def test_bootstrap_of_equals():
    """No difference has no width, whatever the pictures; nor has one picture alone."""
    good = confusions(0.8)
    assert set(bootstrap(good, good.copy()).values()) == {(0.0, 0.0)}
    low, high = bootstrap(good[:1], confusions(0.5)[:1])["mean_iou"]
    assert low == high


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_figures_are_those_of_scikit_image(channels):
    """L1, PSNR and SSIM, computed in another way."""
    truth = in_channels(skimage.data.astronaut()[:60, :50], channels)
    drawn = resized(resized(truth, (30, 25)), (60, 50))
    found = picture_figures(truth.astype(np.float32), drawn.astype(np.float32))
    planes = [
        structural_similarity(
            truth[..., c],
            drawn[..., c],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for c in range(channels)
    ]
    expected = {
        "l1": np.abs(truth.astype(int) - drawn).mean(),
        "psnr": peak_signal_noise_ratio(truth, drawn),
        "ssim": np.mean(planes),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    equal = picture_figures(truth, truth)
    assert equal == {"l1": 0.0, "psnr": 120.0, "ssim": pytest.approx(1)}


# VOC -------------------------------------------------------------------------------------------

PLACES = "VOCdevkit/VOC2012"


def add(folder, name, picture, ids, ending="jpg"):
    """Add a picture and its mask to a tiny data set."""
    write(folder / PLACES / "JPEGImages" / f"{name}.{ending}", picture)
    write(folder / PLACES / "SegmentationClass" / f"{name}.png", ids, voc_palette())


def name_in_list(folder, which, names):
    path = folder / PLACES / "ImageSets" / "Segmentation" / f"{which}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


@pytest.fixture
def voc(tmp_path):
    """Ten pictures for training and twenty for validation, 24 × 20 pixels."""
    for which, count in (("train", 10), ("val", 20)):
        names = [f"2007_{which}{i:02d}" for i in range(count)]
        for i, name in enumerate(names):
            add(tmp_path, name, some_pixels(20, 24, seed=i), some_ids(20, 24, seed=i))
        name_in_list(tmp_path, which, names)
    return tmp_path


def names_of(opened):
    """Return the names of the pairs of each split."""
    return {s: [f.name for f in opened.files(s)] for s in ("train", "validation", "test")}


def every_name(names):
    return [name for part in names.values() for name in part]


@pytest.mark.parametrize(
    ("lists", "sizes"), [("val", (16, 2, 2)), ("official", (9, 1, 20))], ids=["val", "official"]
)
def test_splits_of_voc(voc, lists, sizes):
    """Each list is split once; another seed splits differently, the same seed identically."""
    opened = VocSource(str(voc), lists=lists)
    names = names_of(opened)
    assert tuple(len(part) for part in names.values()) == sizes
    every = every_name(names)
    assert len(set(every)) == len(every) == sum(sizes)
    if lists == "official":
        assert all(("train" in n) == (split != "test") for split in names for n in names[split])
    else:
        assert all("val" in name for name in every)
    assert names_of(VocSource(str(voc), lists=lists)) == names
    others = [names_of(VocSource(str(voc), lists=lists, split_seed=seed)) for seed in (1, 2, 3)]
    assert any(other["validation"] != names["validation"] for other in others)
    assert all(set(every_name(other)) == set(every) for other in others)


def test_pairs_of_voc(voc):
    """Squares to learn from; the test measures pictures as they are."""
    opened = VocSource(str(voc), size=32)
    name = opened.files("train")[0].name
    picture, target = opened.pictures("train").pair(0)
    assert (picture.shape, target.shape) == ((32, 32, 3), (32, 32, 1))
    ids = np.asarray(Image.open(voc / PLACES / "SegmentationClass" / f"{name}.png"))
    np.testing.assert_array_equal(target, resized(ids[..., None], (32, 32), "nearest"))
    whole = opened.pictures("test", whole=True).pair(0)
    assert (whole.picture.shape, whole.target.shape) == ((20, 24, 3), (20, 24, 1))


@pytest.mark.parametrize("inside", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_where_voc_lies(voc, inside):
    """The folder of the data set, or one around it."""
    assert len(VocSource(str(voc / inside)).files("test")) == 2


def test_no_voc(tmp_path):
    """The message names the program that brings the data set, or the folder that is missing."""
    with pytest.raises(DataError, match=r"no data set in the layout of VOC 2012.*builder\.voc "):
        VocSource(str(tmp_path))
    with pytest.raises(DataError, match=r"none: no such folder\. Fix data_dir"):
        VocSource(str(tmp_path / "none"))


def test_lists_of_voc(voc):
    """Empty, missing, too short, of files that are not there, or of folders."""
    opened = VocSource(str(voc))
    name_in_list(voc, "val", ["2007_val00", "2007_val01"])
    with pytest.raises(DataError, match=r"has 2 names, too few to leave one for validation"):
        opened.files("validation")
    name_in_list(voc, "val", ["2007_val00", "gone", "lost"])
    with pytest.raises(
        DataError, match=r"JPEGImages: lacks 2 files listed in val\.txt: gone, lost"
    ):
        opened.files("train")
    (voc / PLACES / "SegmentationClass" / "2007_val00.png").unlink()
    name_in_list(voc, "val", ["2007_val00"])
    with pytest.raises(DataError, match=r"SegmentationClass: lacks 1 file .*: 2007_val00\."):
        opened.files("train")
    name_in_list(voc, "val", ["../2007_val00"])
    with pytest.raises(DataError, match=r"file names without folders; received \.\./2007"):
        opened.files("train")
    name_in_list(voc, "val", [])
    with pytest.raises(DataError, match=r"val\.txt: the list is empty"):
        opened.files("train")
    (voc / PLACES / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: cannot be read"):
        opened.files("train")


def test_bad_pairs_are_left_out_and_named(voc):
    """A mask of another size, one with a strange id, and a damaged picture; the rest is used."""
    opened = VocSource(str(voc), size=16)
    one, two, three = (file.name for file in opened.files("train")[:3])
    add(voc, one, some_pixels(20, 24), some_ids(24, 20))
    strange = some_ids(20, 24)
    strange[0, 0] = 77
    add(voc, two, some_pixels(20, 24), strange)
    (voc / PLACES / "JPEGImages" / f"{three}.jpg").write_bytes(b"\xff\xd8\xff")
    pairs = opened.pictures("train")
    assert len(pairs) == 13
    assert set(pairs.left_out) == {one, two, three}
    size = rf"{one}\.png: 20 × 24 pixels; its picture {one}\.jpg has 24 × 20"
    with pytest.raises(DataError, match=size):
        pairs.load(opened.files("train")[0])
    assert "received 77" in pairs.left_out[two]
    [note] = opened.notes
    assert note.startswith("WARNING: 3 of 16 pairs are left out: ")
    rows = opened.records()["pairs.csv"].splitlines()
    assert len(rows) == 17
    assert sum(one in row for row in rows) == 1


def test_grey_pictures_become_colour(voc):
    """VOC is in colour; a grey JPEG has three equal channels."""
    opened = VocSource(str(voc), size=16)
    name = opened.files("train")[0].name
    grey = some_pixels(20, 24)[..., 0]
    write(voc / PLACES / "JPEGImages" / f"{name}.jpg", grey)
    picture = opened.pictures("train").pair(0).picture
    assert picture.shape == (16, 16, 3)
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


# Batches ---------------------------------------------------------------------------------------


def test_batches_are_functions_of_their_number(voc):
    """Asked for in any order, by any object of the same seed; another seed gives others."""

    def batches(seed, **options):
        opened = VocSource(str(voc), size=16, jitter=8, repeats=2, **options)
        flips = Augmenter([("flip", {"horizontal": True, "vertical": False})])
        return opened.batches("train", NORM, 4, flips, seed)

    first, second, other = batches(5), batches(5), batches(6)
    assert (first.num_imgs, first.steps_per_epoch()) == (32, 8)
    later = first.batch(11)
    for number in (0, 3, 11):
        for one, two in zip(first.batch(number), second.batch(number), strict=True):
            assert one.tobytes() == two.tobytes()
    assert later[0].tobytes() == second.batch(11)[0].tobytes()
    assert (other.batch(0)[0] != first.batch(0)[0]).any()
    assert first.fingerprint() == second.fingerprint()


def test_targets_in_colours_or_as_ids(voc):
    """The same squares, and either kind says the same."""
    parts = {}
    for target in ("colours", "classes"):
        opened = VocSource(str(voc), size=16, target=target, fit="crop")
        batches = opened.batches("train", lambda x, y: (x, y), 4, seed=1)
        parts[target] = batches.batch(2)
        assert batches.target_spec.shape == (16, 16, 3 if target == "colours" else 1)
        assert batches.batch(0)[1].dtype == np.float32
    np.testing.assert_array_equal(parts["colours"][0], parts["classes"][0])
    ids = parts["classes"][1][..., 0].astype(np.uint8)
    np.testing.assert_array_equal(VOC.encode(ids), parts["colours"][1])
    assert VOID in ids


def where_from(crops):
    """Return row and column of the upper left of squares of pixels that tell where they are."""
    return crops[:, 0, 0, :2].astype(int)


@pytest.mark.parametrize(("fit", "jitter"), [("resize", 8), ("crop", 0)])
def test_squares_stay_inside_their_pictures(tmp_path, fit, jitter):
    """Random squares of 16 in pictures of 24 begin at 0 to 8, and targets where pictures do."""
    rows, columns = np.mgrid[:24, :24]
    place = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    for i in range(10):
        for part in ("input", "target"):
            write(tmp_path / part / f"{i}.png", place + np.array([0, 0, i], np.uint8))
    opened = FolderSource(str(tmp_path), size=16, fit=fit, jitter=jitter, shares=(8, 1, 1))
    batches = opened.batches("train", lambda x, y: (x, y), 8, seed=3)
    begins = []
    for number in range(12):
        pictures, targets = batches.batch(number)
        assert pictures.shape == targets.shape == (8, 16, 16, 3)
        np.testing.assert_array_equal(pictures, targets)
        corners = where_from(pictures)
        expected = place[:16, :16, :2] + corners[:, None, None]
        np.testing.assert_array_equal(pictures[..., :2], expected)
        assert len(set(pictures[:, 0, 0, 2])) == 8  # each pair once in an epoch
        begins.append(corners)
    begins = np.concatenate(begins)
    assert (begins.min(), begins.max()) == (0, 8)
    assert all(set(begins[:, axis]) == set(range(9)) for axis in (0, 1))
    validation = opened.validation()[0]
    assert validation.shape == (1, 16, 16, 3)
    if fit == "crop":
        np.testing.assert_array_equal(where_from(validation), [[4, 4]])


def test_crops_need_large_pictures(voc):
    """Pictures smaller than a crop are left out, and refused if all are; a test measures them."""
    opened = VocSource(str(voc), size=32, fit="crop")
    with pytest.raises(
        DataError, match=r"none of the 16 pairs for train.*24 × 20 .*need at least 32.*fit: resize"
    ):
        opened.pictures("train")
    assert len(opened.pictures("test", whole=True)) == 2
    for name in (file.name for file in opened.files("train")[:5]):
        add(voc, name, some_pixels(40, 50), some_ids(40, 50))
    assert len(opened.pictures("train")) == 5
    assert opened.batches("train", NORM, 4).batch(0)[0].shape == (4, 32, 32, 3)


def test_tiny_pictures_can_be_resized(voc):
    """The message about a picture that is resized anyway does not ask to resize it."""
    opened = VocSource(str(voc), size=16)
    name = opened.files("train")[0].name
    add(voc, name, some_pixels(9, 24), some_ids(9, 24))
    assert "set fit: resize" not in opened.pictures("train").left_out.get(name, "")


def test_more_in_a_batch_than_there_are(voc):
    """The message counts pairs and repeats."""
    with pytest.raises(ConfigError, match=r"not exceed the 16 pairs × 2 repeats; received 33"):
        VocSource(str(voc), size=16, repeats=2).batches("train", NORM, 33)


def test_validation_is_fixed(voc):
    """One square of each, in order, and never augmented."""
    opened = VocSource(str(voc), size=16, jitter=8)
    flips = Augmenter([("flip", {"horizontal": True, "vertical": True})])
    batches = opened.batches("validation", NORM, 4, flips)
    assert batches.num_imgs == 2
    expected = opened.pictures("validation").pair(0).picture
    np.testing.assert_allclose(batches.evaluation_batch(0)[0][0] * 255, expected, atol=1e-4)


def test_pixels_of_each_class(voc):
    """Counted over the training pairs, void at last; the record says the same by name."""
    opened = VocSource(str(voc), size=24, fit="resize")
    masks = [np.full((20, 24), i % 3, np.uint8) for i in range(15)]
    masks.append(np.full((20, 24), VOID, np.uint8))
    for file, ids in zip(opened.files("train"), masks, strict=True):
        add(voc, file.name, some_pixels(20, 24), ids)
    expected = np.zeros(22, int)
    expected[[0, 1, 2, 21]] = 24 * 24 * np.array([5, 5, 5, 1])
    np.testing.assert_array_equal(opened.class_pixels(), expected)
    record = json.loads(opened.records()["classes.json"])
    assert record["names"] == list(VOC_NAMES)
    assert record["colours"][15] == [192, 128, 128]
    assert (record["pixels"], record["void_pixels"]) == (expected[:21].tolist(), 576)


# Folders of pairs ------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Ten pairs in two folders: the target is the negative of the picture."""
    for i in range(10):
        pixels = some_pixels(20, 18, seed=i)
        write(tmp_path / "input" / f"a/{i}.png", pixels)
        write(tmp_path / "target" / f"a/{i}.bmp", 255 - pixels)
    return tmp_path


def test_two_folders(folders):
    """Pictures with the same name are a pair, suffixes may differ, and all get a split."""
    opened = FolderSource(str(folders), size=16, fit="crop")
    names = names_of(opened)
    assert [len(part) for part in names.values()] == [8, 1, 1]
    assert sorted(every_name(names)) == [f"a/{i}" for i in range(10)]
    pictures, targets = opened.batches("train", lambda x, y: (x, y), 8).batch(0)
    np.testing.assert_array_equal(targets, 255 - pictures)
    assert opened.classes is None
    assert set(opened.records()) == {"pairs.csv"}


@pytest.mark.parametrize("kind", ["input", "target"])
def test_a_partner_is_missing(folders, kind):
    """Both folders must hold the same pictures."""
    (folders / kind / f"a/3.{'png' if kind == 'input' else 'bmp'}").unlink()
    with pytest.raises(DataError, match=rf"{kind}: lacks 1 pictures of the other folder: a/3"):
        FolderSource(str(folders)).files("train")


def test_folders_of_other_names(folders):
    """The two folders can be named; a missing folder is refused with its setting."""
    (folders / "input").rename(folders / "sketch")
    assert len(FolderSource(str(folders), input_dir="sketch").files("train")) == 8
    with pytest.raises(DataError, match=r"no such folder. Fix .*picture_pairs\.input_dir"):
        FolderSource(str(folders)).files("train")


@pytest.mark.parametrize(
    ("layout", "first"), [("left_to_right", slice(0, 17)), ("right_to_left", slice(17, 34))]
)
def test_side_by_side(tmp_path, layout, first):
    """Either half is drawn from the other; an odd width has no halves."""
    both = some_pixels(20, 34)
    for i in range(9):
        write(tmp_path / f"{i}.png", both)
    write(tmp_path / "odd.png", some_pixels(20, 35))
    opened = FolderSource(str(tmp_path), layout=layout, size=16, fit="crop", shares=(1, 0, 0))
    pairs = opened.pictures("train", whole=True)
    assert len(pairs) == 9
    assert "must have an even width in total; received 35" in pairs.left_out["odd"]
    picture, target = pairs.pair(0)
    second = slice(17, 34) if first.start == 0 else slice(0, 17)
    np.testing.assert_array_equal(picture, both[:, first])
    np.testing.assert_array_equal(target, both[:, second])


def test_only_odd_widths(tmp_path):
    """The reason is part of the message."""
    write(tmp_path / "odd.png", some_pixels(20, 35))
    opened = FolderSource(str(tmp_path), layout="left_to_right", shares=(1, 0, 0))
    with pytest.raises(DataError, match=r"none of the 1 pairs.*even width in total; received 35"):
        opened.pictures("train")


@pytest.mark.parametrize("name", ["validation", "val"])
def test_folders_of_the_splits(tmp_path, name):
    """Folders named after the splits are the splits; validation has two names."""
    for split, count in (("train", 3), (name, 2), ("test", 1)):
        for i in range(count):
            for part in ("input", "target"):
                write(tmp_path / split / part / f"{i}.png", some_pixels(20, 18))
    opened = FolderSource(str(tmp_path), size=16)
    assert [len(opened.files(s)) for s in ("train", "validation", "test")] == [3, 2, 1]


def test_nothing_to_test(folders):
    """A training run reports it before it starts, and continues."""
    opened = FolderSource(str(folders), size=16, shares=(8, 2, 0))
    opened.batches("train", NORM, 4)
    [note] = opened.notes
    assert note.startswith("WARNING: a test of this run will fail: picture_pairs.shares must leave")
    with pytest.raises(ConfigError, match=r"leave a pair for test; received \[8, 2, 0\] for 10"):
        opened.pictures("test")


@pytest.mark.parametrize("shares", [(0, 0, 0), (1, -1, 1)])
def test_wrong_shares(folders, shares):
    """Three numbers from 0, not all 0."""
    with pytest.raises(
        ConfigError, match=r"picture_pairs\.shares must be three numbers of at least 0"
    ):
        FolderSource(str(folders), shares=shares)


@pytest.mark.parametrize("form", ["palette", "colours", "ids"])
def test_folders_with_classes(tmp_path, form):
    """Targets may be maps with a palette, in colours, or of ids."""
    classes = named_classes(THREE)
    ids = np.random.default_rng(0).choice(np.array([0, 1, 2, VOID], np.uint8), (10, 20, 18))
    for i, own in enumerate(ids):
        write(tmp_path / "input" / f"{i}.png", some_pixels(20, 18))
        pixels = classes.encode(own) if form == "colours" else own
        palette = classes.table if form == "palette" else None
        write(tmp_path / "target" / f"{i}.png", pixels, palette)
    opened = FolderSource(str(tmp_path), size=16, classes=THREE, target="classes")
    pairs = opened.pictures("train", whole=True)
    assert len(pairs) == 8
    for number, file in enumerate(pairs.files):
        np.testing.assert_array_equal(pairs.pair(number).target[..., 0], ids[int(file.name)])
    assert opened.class_pixels().sum() == 8 * 16 * 16


def test_channels(folders):
    """Colour becomes grey, on either side."""
    opened = FolderSource(str(folders), size=16, input_channels=1, target_channels=1, fit="crop")
    picture, target = opened.pictures("train").pair(0)
    assert picture.shape == target.shape == (20, 18, 1)
    assert np.abs(picture.astype(int) + target - 255).max() <= 1


def test_sixteen_bit_pairs(tmp_path):
    """They are on the scale of 0 to 255 like any other."""
    pixels = some_pixels(20, 18)[..., 0].astype(np.uint16) * 257
    for part in ("input", "target"):
        write(tmp_path / part / "a.png", pixels)
    options = {"input_channels": 1, "target_channels": 1, "fit": "crop", "shares": (1, 0, 0)}
    x, y = FolderSource(str(tmp_path), size=18, **options).train()
    np.testing.assert_allclose(x[0, ..., 0], pixels[1:19] / 257, atol=1e-4)
    np.testing.assert_array_equal(x, y)


def test_contradictions_of_a_folder(folders):
    """Ids need classes, and class maps are separate files."""
    with pytest.raises(ConfigError, match=r"classes must name the classes for target: classes"):
        FolderSource(str(folders), target="classes")
    with pytest.raises(ConfigError, match=r"layout must be folders with classes.*left_to_right"):
        FolderSource(str(folders), classes=THREE, layout="left_to_right")


# Drawing ---------------------------------------------------------------------------------------


class Network:
    """Stands for a SuperResolver: ``draw`` makes the result of what it sees, which it keeps."""

    def __init__(self, draw, channels=3, out_channels=3):
        self.draw, self.channels, self.out_channels = draw, channels, out_channels
        self.seen = []

    def predict(self, counts, tile=None, self_ensemble=False):
        assert counts.dtype == np.float32
        self.seen.append((counts, tile, self_ensemble))
        return np.asarray(self.draw(counts), np.float32)


def same(counts):
    return counts


SIDES = pytest.mark.parametrize("side", [None, 16], ids=["crop", "resize"])
SHAPES = pytest.mark.parametrize("shape", [(37, 51), (16, 16), (1, 1)])


@SIDES
@SHAPES
@pytest.mark.parametrize("kind", ["colour", "grey", "deep", "deep_grey"])
def test_drawings_are_as_large_as_their_input(side, shape, kind):
    """Whatever the network learned from; 16 bits stay 16 bits, grey is shown as colour."""
    pixels = some_pixels(*shape)
    pixels = pixels[..., :1] if "grey" in kind else pixels
    pixels = pixels.astype(np.uint16) * 257 if "deep" in kind else pixels
    network = Network(same)
    drawn = Artist(network, side, tile=64).draw(pixels, self_ensemble=True)
    [(counts, tile, ensemble)] = network.seen
    assert counts.shape == ((*shape, 3) if side is None else (side, side, 3))
    assert (tile, ensemble) == (64, True)
    assert counts.max() <= 255
    assert drawn.picture.shape == (*shape, 3)
    assert drawn.picture.dtype == pixels.dtype
    assert (drawn.ids, drawn.far) == (None, None)
    expected = in_channels(pixels, 3)
    if side is not None and shape != (side, side):
        expected = resized(resized(expected, (side, side)), shape)
    np.testing.assert_array_equal(drawn.picture, expected)


def test_colour_for_a_grey_network():
    """It sees the brightness, and its drawing is grey."""
    pixels = some_pixels(9, 7)
    network = Network(same, channels=1, out_channels=1)
    drawn = Artist(network, None).draw(pixels)
    np.testing.assert_array_equal(drawn.picture, in_channels(pixels, 1))


@SIDES
@SHAPES
def test_decoded_drawings(side, shape):
    """The ids are those of the nearest colours, brought back without new ones."""
    ids = some_ids(16, 16)[: shape[0], : shape[1]] if side is None else some_ids(16, 16)
    ids = np.resize(ids, shape) if side is None else ids
    rng = np.random.default_rng(0)
    noisy = VOC.encode(ids) + rng.uniform(-9, 9, (*ids.shape, 3))
    drawn = Artist(Network(lambda counts: noisy), side, VOC).draw(some_pixels(*shape))
    assert drawn.picture.shape == (*shape, 3)
    assert (drawn.ids.shape, drawn.ids.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(drawn.ids, resized(ids[..., None], shape, "nearest")[..., 0])
    assert drawn.far == 0


def test_pixels_far_from_every_colour():
    """Their share is counted, values outside 0 to 255 as the file will hold them."""
    counts = np.zeros((4, 5, 3), np.float32)
    counts[0] = -100  # as black
    counts[1, :, 0] = TOLERANCE - 1
    counts[2, :, 0] = TOLERANCE + 1
    drawn = Artist(Network(lambda _: counts), None, VOC).draw(some_pixels(4, 5))
    assert drawn.far == pytest.approx(1 / 4)
    assert not drawn.ids.any()


@SIDES
@SHAPES
def test_scores_of_classes(side, shape):
    """The class with the largest score is drawn in its colour, as large as the input."""
    seen = shape if side is None else (side, side)
    scores = np.random.default_rng(0).normal(size=(*seen, 21)).astype(np.float32)
    network = Network(lambda counts: scores, out_channels=21)
    drawn = Artist(network, side, VOC, scores=True).draw(some_pixels(*shape))
    ids = scores.argmax(axis=2).astype(np.uint8)
    np.testing.assert_array_equal(drawn.ids, resized(ids[..., None], shape, "nearest")[..., 0])
    np.testing.assert_array_equal(drawn.picture, VOC.encode(drawn.ids))
    assert drawn.far == 0


@pytest.mark.parametrize("target", ["colours", "classes"])
@pytest.mark.parametrize("kind", ["plain", "deep", "clear", "deep and clear"])
def test_files_are_drawn_from_any_picture(tmp_path, target, kind):
    """8 or 16 bits, with transparency or without: a drawing, and next to it the class map."""
    pixels = np.random.default_rng(0).integers(
        0, 256, (8, 9, 4 if "clear" in kind else 3), np.uint8
    )
    pixels = pixels.astype(np.uint16) * 257 if "deep" in kind else pixels
    cv2.imwrite(str(tmp_path / "in.png"), pixels)
    network = Network(lambda counts: np.zeros((8, 9, 3 if target == "colours" else 21)))
    run = SimpleNamespace(
        settings=settings(model="unet", voc={"target": target, "fit": "crop"}),
        predict=SimpleNamespace(decode=True, self_ensemble=False, tile=None),
        resolver=network,
    )
    DrawingPredictor(run).predict(tmp_path / "in.png", tmp_path / "out.png")
    assert not read_picture(tmp_path / "out.png").pixels.any()
    assert mode_of(tmp_path / "out_classes.png") == "P"
    np.testing.assert_array_equal(read_classes(tmp_path / "out_classes.png", VOC), np.zeros((8, 9)))


def test_sheets():
    """A row for each sample, whatever the pixels are."""
    deep = np.full((4, 5, 1), 65535, np.uint16)
    np.testing.assert_array_equal(as_rgb(deep), np.full((4, 5, 3), 255, np.uint8))
    np.testing.assert_array_equal(as_rgb(np.array([[[-1, 1.6, 300]]])), [[[0, 2, 255]]])
    figure = sheet({"input": [deep, deep], "output": np.zeros((2, 4, 5, 3))}, ["a", "b"])
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes[:2]] == ["input", "output"]


# Settings --------------------------------------------------------------------------------------


def settings(**content):
    """Return the settings of a file for VOC and pix2pix, with keys changed."""
    return UserParams(
        "run.yml", {"data_dir": "data", "source": "voc", "model": "pix2pix", **content}
    )


def folder_settings(section=None, **content):
    """Return those for folders of pairs."""
    return settings(source="picture_pairs", picture_pairs=section or {}, **content)


IDS_UNET = {"model": "unet", "voc": {"target": "classes"}}


def test_defaults_of_a_run():
    """Scale 1, 224 × 224 in colour, mean absolute error 100 to 1."""
    p = settings()
    assert (p.task, p.scale, list(p.input_shape)) == ("pix2pix", 1, [224, 224, 3])
    assert (p.loss, list(p.metrics)) == ("mae", ["psnr", "ssim"])
    assert list(p.model_params["loss_weights"]) == [100, 1]
    assert (p.model_params["out_channels"], p.model_params["d_loss_weight"]) == (3, 1)
    assert p.normalizer.name == "minmax"
    assert p.source_params == {
        "lists": "val",
        "split_seed": 0,
        "target": "colours",
        "size": 224,
        "fit": "resize",
        "jitter": 0,
        "repeats": 1,
        "memory_gb": 4.0,
    }


def test_defaults_follow_the_source():
    """Sizes and channels come from its section, the loss from the kind of target."""
    p = settings(voc={"size": 64})
    assert list(p.input_shape) == [64, 64, 3]
    p = settings(**IDS_UNET)
    assert (p.loss, list(p.metrics), p.model_params["out_channels"]) == ("cross_entropy", [], 21)
    p = folder_settings({"input_channels": 1, "classes": THREE})
    assert (list(p.input_shape), p.model_params["out_channels"]) == ([224, 224, 1], 3)
    p = folder_settings({"target": "classes", "classes": THREE, "size": 32}, model="unet")
    assert (p.loss, p.model_params["out_channels"]) == ("cross_entropy", 3)
    p = folder_settings({"target_channels": 1})
    assert p.model_params["out_channels"] == 1


@pytest.mark.parametrize("section", [{"size": 15}, {"size": 224.5}, {"fit": "x"}, {"jitter": -1}])
def test_values_of_the_section(section):
    """Each key has its range."""
    [key] = section
    with pytest.raises(ConfigError, match=rf"run\.yml: voc\.{key}"):
        settings(voc=section)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"scale": 2}, r"scale must be 1 with source voc.*received 2"),
        (
            {"input_shape": [128, 128, 3]},
            r"input_shape must be \[224, 224, 3\], as given by section voc; "
            r"received \[128, 128, 3\]",
        ),
        (
            {"pix2pix": {"out_channels": 4}},
            r"pix2pix\.out_channels must give results of 3 channels, as section voc.*received 4",
        ),
        (
            {"model": "edsr_light", "voc": {"target": "classes"}},
            r"model must give results of 21 channels.*received 3",
        ),
        (
            {"voc": {"target": "classes"}},
            r"voc\.target must be colours with model pix2pix.*received classes",
        ),
        ({**IDS_UNET, "loss": "mae"}, r"loss must be cross_entropy .*received mae with target: cl"),
        (
            {**IDS_UNET, "loss": {"mae": 1, "cross_entropy": 1}},
            r"loss must be cross_entropy .*received cross_entropy, mae",
        ),
        (
            {"model": "unet", "loss": "cross_entropy"},
            r"loss must be cross_entropy .*only there; received cross_entropy with target: colours",
        ),
        ({**IDS_UNET, "metrics": ["psnr"]}, r"metrics must be empty .*received psnr"),
        (
            {"normalizer": "local_mean"},
            r"normalizer must be minmax or symmetric with source voc; received local_mean",
        ),
        (
            {"pix2pix": {"activation": "tanh"}},
            r"normalizer must be symmetric with activation: tanh.*received minmax",
        ),
        (
            {"pix2pix": {"activation": "sigmoid"}, "normalizer": "symmetric"},
            r"normalizer must be minmax with activation: sigmoid.*received symmetric",
        ),
        (
            {"online_da": {"valid": True, "zoom_range": [0.8, 1.2], "rotation_range": 10}},
            r"online_da must not zoom and rotate class maps",
        ),
        (
            {"online_da": {"valid": True, "use_depth_scale": True}},
            r"online_da must not depth_scale class maps",
        ),
    ],
)
def test_contradictions(content, message):
    """One line says what was received, what fits, and what to change."""
    with pytest.raises(ConfigError, match=rf"run\.yml: {message}"):
        settings(**content)


@pytest.mark.parametrize(
    "content",
    [
        {"loss": "cross_entropy"},
        {"loss": {"mae": 1, "cross_entropy": 1}},
        {"pretrain_epochs": 1, "pretrain_loss": "cross_entropy"},
        {"model": "unet", "loss": {"mae": 1, "cross_entropy": 1}},
    ],
)
def test_colours_have_no_cross_entropy(content):
    """Neither alone nor with another loss, with a discriminator or without."""
    with pytest.raises(ConfigError, match="loss must be cross_entropy with target: classes"):
        settings(**content)


def test_ids_have_one_range():
    """The loss reads ids as grey levels of 0 to 255: in another range they would be other ids."""
    assert settings(**IDS_UNET, norm_range=[0, 255]).norm_range == (0, 255)
    with pytest.raises(ConfigError, match="norm_range"):
        settings(**IDS_UNET, norm_range=[0, 20])


@pytest.mark.parametrize(
    "content",
    [
        {"pix2pix": {"activation": "tanh"}, "normalizer": "symmetric"},
        {"pix2pix": {"activation": "sigmoid"}},
        {"normalizer": "symmetric"},
        {"loss": {"mae": 1, "one_minus_ssim": 1}},
        {"model": "edsr_light"},
        {"online_da": {"valid": True, "horizontal_flip": True, "quarter_turn": True}},
        {"online_da": {"zoom_range": [0.8, 1.2]}},
        IDS_UNET,
    ],
)
def test_what_fits(content):
    """Settings that go together are accepted."""
    assert settings(**content).task == "pix2pix"


def test_pictures_may_be_zoomed():
    """Where no class has a colour, none can be mixed; a network has the channels of the targets."""
    mixing = {"valid": True, "zoom_range": [0.8, 1.2], "rotation_range": 10}
    assert folder_settings(online_da=mixing).online_da.valid
    with pytest.raises(ConfigError, match="must not zoom and rotate class maps"):
        folder_settings({"classes": THREE}, online_da=mixing)
    with pytest.raises(ConfigError, match=r"model must give results of 1 channel,.*received 3"):
        folder_settings({"target_channels": 1}, model="edsr_light")


def test_a_test_needs_pairs():
    """A source of another kind is refused by the task."""
    with pytest.raises(ConfigError, match=r"must give pairs of pictures.*received object"):
        PixToPix().evaluate(None, object(), "test")
