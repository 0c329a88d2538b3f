"""Batches: a pure function of seed and number, every image once an epoch, gaps left out."""

import numpy as np
import pytest

from toolbox.augment import Augmenter
from toolbox.data_generator import DataGenerator
from toolbox.errors import DataError
from toolbox.resample import block_mean


def halve(x, y):
    """Stand in for a normaliser: exact, and different for LR and HR."""
    return (x / 2).astype(np.float32), (y / 4).astype(np.float32)


def pairs(count=11):
    """Return LR (count, 4, 4, 1) and HR (count, 8, 8, 1), float32; image i lies 100 * i deep."""
    rng = np.random.default_rng(0)
    hr = rng.normal(size=(count, 8, 8, 1)) - 100 * np.arange(count)[:, None, None, None]
    return block_mean(hr, 2).astype(np.float32), hr.astype(np.float32)


def numbers_of(data, batches):
    """Return which images are in several batches."""
    return [number for i in batches for number in numbers(data.batch(i)[0])]


def numbers(lr):
    """Return which images of `pairs` are in a batch of halved LR images."""
    return np.rint(lr.mean(axis=(1, 2, 3)) / -50).astype(int).tolist()


def generator(count=11, batch_size=3, **options):
    return DataGenerator(*pairs(count), halve, batch_size, **options)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.fixture
def augmenter():
    """Flips and depth scaling, which hide no image's number."""
    return Augmenter([("flip", {}), ("depth_scale", {"depth_scale_range": (0.999, 1.001)})])


def test_pairs_with_a_gap_are_left_out():
    """One missing pixel in LR or in HR drops the pair from both."""
    lr, hr = pairs(6)
    lr[1, 0, 0, 0] = np.nan
    hr[4, 7, 7, 0] = np.nan
    data = DataGenerator(lr, hr, halve, 2)
    assert data.num_imgs == 4
    assert numbers(data.lr_imgs) == [0, 2, 3, 5]
    np.testing.assert_array_equal(data.hr_imgs, hr[[0, 2, 3, 5]] / 4)
    np.testing.assert_array_equal(data.raw_lr_imgs, lr[[0, 2, 3, 5]])
    np.testing.assert_array_equal(data.raw_hr_imgs, hr[[0, 2, 3, 5]])


def test_nothing_left_is_refused():
    """If every pair has a gap the message says how many there were."""
    lr, hr = pairs(4)
    lr[:2, 0, 0] = np.nan
    hr[2:, 0, 0] = np.nan
    with pytest.raises(DataError, match="all 4 pairs hold a missing pixel"):
        DataGenerator(lr, hr, halve, 2)


def test_gaps_never_reach_the_normaliser():
    """Statistics of a normaliser see whole images only."""
    lr, hr = pairs(4)
    lr[0, 0, 0] = np.nan
    seen = []
    source = DataGenerator(lr, hr, lambda x, y: seen.append((x, y)) or (x, y), 3)
    source.batch(0)
    list(source.evaluation_dataset())
    assert len(seen) == 2
    assert not any(np.isnan(x).any() or np.isnan(y).any() for x, y in seen)


def test_batches_are_normalised_pairs():
    """LR and HR of a batch belong together, are float32 and have the batch's size."""
    lr, hr = pairs()
    x, y = generator().batch(0)
    assert (x.shape, y.shape) == ((3, 4, 4, 1), (3, 8, 8, 1))
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    chosen = numbers(x)
    np.testing.assert_array_equal(x, lr[chosen] / 2)
    np.testing.assert_array_equal(y, hr[chosen] / 4)


@pytest.mark.parametrize("augmented", [False, True])
def test_a_batch_depends_on_its_number_only(augmented, augmenter):
    """Asked in any order, of any generator with that seed, it holds the same bytes."""
    options = {"augmenter": augmenter} if augmented else {}
    one, two = generator(seed=5, **options), generator(seed=5, **options)
    forwards = {i: one.batch(i) for i in range(9)}
    for i in (8, 0, 4, 4, 2, 7, 1):
        assert same(two.batch(i), forwards[i])
        assert same(one.batch(np.int64(i)), forwards[i])
    other = generator(seed=6, **options)
    assert not all(same(other.batch(i), forwards[i]) for i in range(3))


def test_every_epoch_is_a_permutation():
    """Each image comes once an epoch, in another order each time."""
    data = generator(count=12, batch_size=3)
    epochs = [numbers_of(data, range(4 * e, 4 * e + 4)) for e in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_short_rest_of_an_epoch_waits_for_the_next():
    """Of 11 images 9 make three full batches, no image twice, and all have their turn in time."""
    data = generator(count=11, batch_size=3)
    seen = set()
    for epoch in range(12):
        chosen = numbers_of(data, range(3 * epoch, 3 * epoch + 3))
        assert len(set(chosen)) == 9
        seen |= set(chosen)
    assert seen == set(range(11))


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(11, 3, 3), (12, 3, 4), (5, 5, 1)])
def test_steps_per_epoch(count, batch_size, steps):
    """The number of full batches is num_imgs // batch_size."""
    data = generator(count, batch_size)
    assert data.steps_per_epoch() == steps
    assert (data.num_imgs, data.batch_size) == (count, batch_size)


def test_generator_yields_the_batches_in_turn():
    """It goes on for ever, from whichever number it is told."""
    data = generator()
    for start in (0, 5):
        stream = data.generator(start)
        for i in range(start, start + 7):
            assert same(next(stream), data.batch(i))


@pytest.mark.parametrize("start", [0, 7])
def test_training_dataset_is_the_batches_in_turn(start, augmenter):
    """A resumed training sees what an uninterrupted one would have seen, with fixed shapes."""
    data = generator(augmenter=augmenter)
    dataset = data.training_dataset(start)
    assert dataset.element_spec[0].shape == (3, 4, 4, 1)
    assert dataset.element_spec[1].shape == (3, 8, 8, 1)
    for i, batch in zip(range(start, start + 6), dataset.as_numpy_iterator(), strict=False):
        assert same(batch, data.batch(i))


@pytest.mark.parametrize("augmented", [False, True])
def test_evaluation_dataset_holds_every_pair_once(augmented, augmenter):
    """All pairs come in order, never augmented, and the last batch is short."""
    data = generator(augmenter=augmenter if augmented else None)
    batches = list(data.evaluation_dataset().as_numpy_iterator())
    assert [len(x) for x, _ in batches] == [3, 3, 3, 2]
    lr, hr = halve(*pairs())
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), lr)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), hr)


def test_sample_by_number():
    """Given indices are taken in their order, duplicates included."""
    x, y = generator().sample(0, indices=[7, 2, 7])
    lr, hr = halve(*pairs())
    np.testing.assert_array_equal(x, lr[[7, 2, 7]])
    np.testing.assert_array_equal(y, hr[[7, 2, 7]])


def test_random_sample():
    """Without replacement no pair comes twice, and one seed chooses the same pairs."""
    data = generator()
    x, y = data.sample(5)
    assert (x.shape, y.shape) == ((5, 4, 4, 1), (5, 8, 8, 1))
    assert len(set(numbers(x))) == 5
    assert same(generator().sample(5), (x, y))
    assert not same(generator(seed=1).sample(5), (x, y))
    assert sorted(numbers(data.sample(99)[0])) == list(range(11))


def test_sample_with_replacement():
    """With replacement more pairs than there are can be had."""
    x, _ = generator().sample(40, replace=True)
    assert len(x) == 40
    assert set(numbers(x)) <= set(range(11))


def test_sample_is_never_augmented(augmenter):
    """Test pictures show the images as they are."""
    assert same(generator(augmenter=augmenter).sample(4), generator().sample(4))


def test_augmented_batches_differ_and_come_back(augmenter):
    """The augmenter changes the images but not their choice; each epoch draws anew."""
    plain, augmented = generator(), generator(augmenter=augmenter)
    for i in range(6):
        (x, y), (changed_x, changed_y) = plain.batch(i), augmented.batch(i)
        assert numbers(x) == numbers(changed_x)
        assert (changed_x != x).any()
        assert (changed_y != y).any()
        assert changed_x.dtype == np.float32
    fixed = DataGenerator(*pairs(1), halve, 1, augmenter=augmenter)
    assert not same(fixed.batch(0), fixed.batch(1))


def test_augmentation_sees_metres():
    """The augmenter works on physical images, the normaliser on what it returns."""

    def lower(lr, hr, rng):
        return lr - 1000, hr - 1000

    lr, hr = pairs(1)
    x, y = DataGenerator(lr, hr, halve, 1, augmenter=lower).batch(0)
    np.testing.assert_allclose(x, (lr - 1000) / 2)
    np.testing.assert_allclose(y, (hr - 1000) / 4)
