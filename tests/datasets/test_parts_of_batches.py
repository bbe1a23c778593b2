"""Batches of which a rank wants a part: the images of others are not read, the labels are those of the whole batch."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from numpy.testing import assert_array_equal

import im2colnet as ic
from im2colnet.datasets import Dataset
from im2colnet.lazy import LazyArray
from im2colnet.parallel import partition

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 2, 6, 6), np.uint8)
LABELS = RNG.integers(0, 3, 23)
CROPS = [ic.transforms.RandomCrop(padding=2), ic.transforms.RandomHorizontalFlip()]


class Rows:
    """A source that counts what is read."""

    varies, checksums = False, None
    shape, dtype = IMAGES.shape, IMAGES.dtype

    def __init__(self):
        self.count = 0

    def read(self, places, out):
        out[...] = IMAGES[places]
        self.count += len(places)


def part_of(rank, size):
    """The samples of a rank if each of them were a shard; with 5 ranks one has nothing of the last three samples."""

    def part(n):
        mine = partition(n, rank, size)
        return slice(mine.start, mine.stop)

    return part


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    "transform",
    [None, CROPS, [ic.transforms.MixUp()], [*CROPS, ic.transforms.CutMix()]],
    ids=["", "crop", "mix", "cut"],
)
@pytest.mark.parametrize("size", [2, 5])
def test_parts_are_those_of_the_whole_batch(size, transform, drop_last, reuse):
    data, options = Dataset(IMAGES, LABELS), {"seed": 1, "transform": transform, "drop_last": drop_last}
    for epoch, start in (0, 0), (1, 1):
        whole = [(x.copy(), y.copy()) for x, y in ic.Loader(data, 10, **options).epoch(epoch, start)]
        for rank in range(size):
            part = part_of(rank, size)
            loader = ic.Loader(data, 10, **options, part=part)
            found = 0
            for (images, labels), (x, y) in zip(loader.epoch(epoch, start, reuse), whole, strict=True):
                assert_array_equal(images, x[part(len(y))])
                assert_array_equal(labels, y)
                found += 1
            assert found == len(whole) == (2 if drop_last else 3) - start


def test_images_of_others_are_not_read():
    counts = []
    for rank in range(3):
        source = Rows()
        loader = ic.Loader(Dataset(LazyArray(source), LABELS), 10, seed=1, transform=CROPS, part=part_of(rank, 3))
        source.count = 0
        images = [len(images) for images, _ in loader.epoch(0)]
        assert images == [len(partition(n, rank, 3)) for n in (10, 10, 3)]
        counts.append(source.count)
    assert counts == [7, 7, 9]


@pytest.mark.usefixtures("one_thread")
def test_ranks_read_their_images_only():
    """An epoch, and the evaluation after it, read every image once on one of the ranks."""

    def work(comm):
        source = Rows()
        net = ic.Sequential([ic.Flatten(), ic.Linear(72, 3)]).init(0)
        trainer = ic.Trainer(net, seed=1, shard=1, ranks=comm or "none")
        data = LazyArray(source), LABELS
        read = []

        class Counts(ic.Callback):
            def start(self, trainer):
                source.count = 0

            def validate(self):
                read.append(source.count)

        trainer.fit(data, 2, 10, progress=False, callbacks=[Counts()])
        return read, net.state_dict()["1.weight"]

    alone, weights = work(None)
    assert alone == [23, 46]
    ranks = run_ranks(3, work)
    assert [sum(read) for read in zip(*(read for read, _ in ranks), strict=True)] == [23, 46]
    assert max(read[1] for read, _ in ranks) < 46 / 2
    for _, found in ranks:
        assert_array_equal(found, weights)


def test_evaluations_and_predictions_of_ranks_read_their_images_only():
    def work(comm):
        source = Rows()
        net = ic.Sequential([ic.Flatten(), ic.Linear(72, 3)]).init(0)
        trainer = ic.Trainer(net, seed=1, ranks=comm)
        images = LazyArray(source)
        outputs = trainer.predict(images)
        return source.count, outputs

    with ic.num_threads(1):
        found = run_ranks(2, work)
        expected = ic.Sequential([ic.Flatten(), ic.Linear(72, 3)]).init(0).predict(IMAGES)
    assert sum(count for count, _ in found) == 23
    for _, outputs in found:
        assert_array_equal(outputs, expected)


def test_batches_that_are_given_are_whole():
    """A user's iterable gives whole batches on every rank, and each takes its part."""
    from im2colnet.datasets.stream import Stream

    batches = [(IMAGES[start : start + 10], LABELS[start : start + 10]) for start in (0, 10, 20)]
    for rank in range(3):
        part = part_of(rank, 3)
        found = list(Stream(batches, part=part).epoch(0))
        for (images, labels), (x, y) in zip(found, batches, strict=True):
            assert_array_equal(images, x[part(len(y))])
            assert_array_equal(labels, y)
