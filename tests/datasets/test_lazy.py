"""Images that are read when they are needed, and data sets and batches of others."""

import zlib

import numpy as np
import pytest
from helpers import Stop
from hypothesis import given
from hypothesis import strategies as st

import im2colnet as ic
from im2colnet.datasets import Inputs, from_items
from im2colnet.errors import DataError, DTypeError, NonFiniteError, ShapeError
from im2colnet.lazy import LazyArray, joined_crc32
from im2colnet.training.data import as_dataset

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 3, 8, 8), np.uint8)
LABELS = RNG.integers(0, 3, 40)


class Rows:
    """A source that counts what is read."""

    varies, checksums = False, None

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.count = array, array.shape, array.dtype, 0
        self.largest = 0

    def read(self, places, out):
        out[...] = self.array[places]
        self.count += len(places)
        self.largest = max(self.largest, len(places))


def network():
    return ic.Sequential([ic.Conv2d(3, 4, 3), ic.BatchNorm2d(4), ic.ReLU(), ic.Flatten(), ic.Linear(144, 3)])


def trained(data, **options):
    trainer = ic.Trainer(network(), seed=0)
    history = trainer.fit(data, 3, batch_size=8, progress=False, **options)
    arrays = {name: array.tobytes() for name, array in trainer.net.state_dict().items()}
    return arrays, history["loss"], history[-1].get("validation_loss")


# A lazy array is indexed as an array --------------------------------------------------------------------------------

INDEX = st.one_of(
    st.slices(12),
    st.integers(-12, 11),
    st.lists(st.integers(-12, 11)).map(lambda found: np.array(found, int)),
    st.lists(st.booleans(), min_size=12, max_size=12).map(np.array),
)


@given(first=INDEX, second=st.one_of(st.none(), st.slices(5), st.integers(0, 4)))
def test_indexing(first, second):
    array = np.arange(60).reshape(12, 5)
    index = first if second is None else (first, second)
    np.testing.assert_array_equal(LazyArray(Rows(array))[index], array[index])
    if not isinstance(first, int):
        chosen = LazyArray(Rows(array)).select(first)
        np.testing.assert_array_equal(np.asarray(chosen), array[first])
        assert chosen.shape == array[first].shape
        assert (chosen.size, chosen.nbytes, chosen.ndim) == (array[first].size, array[first].nbytes, 2)
        np.testing.assert_array_equal(chosen.select(slice(None, None, -1))[:2], array[first][::-1][:2])


def test_beyond_the_end():
    with pytest.raises(IndexError):
        LazyArray(Rows(np.zeros((3, 2))))[3]


def test_choosing_reads_nothing():
    source = Rows(IMAGES)
    data = ic.Dataset(LazyArray(source), LABELS)
    part = data[::2][LABELS[::2] == 1][:3]
    assert source.count == 0
    np.testing.assert_array_equal(part.images[0], IMAGES[::2][LABELS[::2] == 1][0])
    assert source.count == 1


@pytest.mark.parametrize("length", [0, 1, 2, 3, 100, 3072, 70_001])
def test_checksums_of_pieces_are_joined(length):
    pieces = RNG.integers(0, 256, (7, length), np.uint8)
    known = np.array([zlib.crc32(piece) for piece in pieces], np.uint32)
    assert joined_crc32(known, length) == zlib.crc32(pieces)
    lazy = LazyArray(Rows(pieces)).select([3, 1, 5])
    assert lazy.crc32() == zlib.crc32(pieces[[3, 1, 5]])
    lazy.source.checksums = known
    count = lazy.source.count
    assert lazy.crc32() == zlib.crc32(pieces[[3, 1, 5]])
    assert lazy.source.count == count  # from the known ones


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_the_same_bits_as_from_an_array(workers):
    ic.set_workers(workers)
    try:
        lazy = ic.Dataset(LazyArray(Rows(IMAGES)), LABELS)
        assert trained(lazy, validation=lazy[:20]) == trained((IMAGES, LABELS), validation=(IMAGES[:20], LABELS[:20]))
        net = network().init(seed=1)
        for _ in range(4):
            np.testing.assert_array_equal(net.predict(lazy.images), net.predict(IMAGES))
    finally:
        ic.set_workers("auto")


def test_a_large_set_is_measured_in_parts():
    for array in (IMAGES, IMAGES / np.float32(255), np.broadcast_to(IMAGES[0], (60_000, 3, 8, 8))):
        wanted = Inputs.of(array)
        source = Rows(array)
        assert Inputs.of(LazyArray(source)) == wanted
        assert source.largest * array[0].size <= 1 << 23
        assert source.count == len(array)
    bad = IMAGES.astype(np.float32)
    bad[29, 1, 2, 3] = np.nan
    with pytest.raises(NonFiniteError, match="image 29 of the data"):
        Inputs.of(LazyArray(Rows(bad)))


# Objects of others --------------------------------------------------------------------------------------------------


class Torchlike:
    """A map-style data set; it counts what is asked of it."""

    def __init__(self, images, labels):
        self.images, self.given, self.asked = images, labels, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        self.asked += 1
        return self.images[place], self.given[place]


def pairs(images=IMAGES, labels=LABELS):
    return list(zip(images, labels, strict=True))


@pytest.mark.parametrize(
    "items",
    [
        pairs(),
        Torchlike(IMAGES, LABELS),
        Torchlike(IMAGES.transpose(0, 2, 3, 1), LABELS.tolist()),
        [{"image": image, "label": label} for image, label in pairs()],
        pairs(labels=np.array(list("abc"))[LABELS]),
    ],
    ids=["a list", "an object", "pixels by pixels", "mappings", "strings"],
)
def test_items_train_as_arrays_do(items):
    assert trained(items, validation=items) == trained((IMAGES, LABELS), validation=(IMAGES, LABELS))
    trainer = ic.Trainer(network(), seed=0)
    assert trainer.evaluate(items) == trainer.evaluate((IMAGES, LABELS))


def test_two_items_are_no_pair_of_arrays():
    two = [(IMAGES[0], 0), (IMAGES[1], 1)]
    assert len(from_items(two)) == 2
    assert trained(two)[1] == trained((IMAGES[:2], [0, 1]))[1]
    ragged = ([[1.0, [2.0, 3.0]], [1.0, [2.0, [3.0]]]], [0, 1])
    with pytest.raises(ShapeError, match="lists of equal lengths"):
        as_dataset("data", ragged)
    features = [[1.0, 2.0], [3.0, 4.0]]  # but these are two images
    assert as_dataset("data", (features, [0, 1])).images.tolist() == features


def test_labels_that_an_object_lists_are_not_gone_through():
    items = Torchlike(IMAGES, LABELS)
    items.targets, items.classes = LABELS.tolist(), ["cat", "dog", "owl", "none"]
    data = from_items(items)
    assert items.asked <= 3
    assert data.classes == ("cat", "dog", "owl", "none")
    items.targets = (LABELS + 1).tolist()  # not what its items say
    np.testing.assert_array_equal(from_items(items).labels, LABELS)


def test_grey_images_pictures_and_targets():
    Image = pytest.importorskip("PIL.Image")
    assert from_items([(IMAGES[0, 0], 1)] * 3).images.shape == (3, 1, 8, 8)
    shown = Image.fromarray(IMAGES[0].transpose(1, 2, 0))
    data = from_items([(shown, 0), (shown.convert("P").convert("RGB"), 1)])
    np.testing.assert_array_equal(data.images[0], IMAGES[0])
    assert from_items([(shown.convert("1"), 0), (shown.convert("L"), 1)]).images.shape == (2, 1, 8, 8)
    targets = from_items([(image / 255, label / 2) for image, label in pairs()])
    np.testing.assert_array_equal(targets.labels, LABELS[:, None] / 2)
    assert targets.classes == ()


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], ShapeError, "there is no image"),
        ([1, 2, 3], DataError, "item 0 must be a pair .image, label., got int"),
        ([(IMAGES[0], 1, 2)], DataError, "item 0 must be a pair"),
        ([{"picture": IMAGES[0]}], DataError, "item 0 must be a pair"),
        ([("a.png", 1)], DTypeError, "must be uint8"),
        ([*pairs()[:3], (IMAGES[0, :, :4], 1)], ShapeError, "image 3 is 3×4×8 of uint8, and image 0 is 3×8×8"),
        ([*pairs()[:3], (IMAGES[0] / 255, 1)], ShapeError, "image 3 is .* of float64, and image 0"),
        ([*pairs()[:3], IMAGES[0]], DataError, "item 3 must be a pair"),
        ([(IMAGES, LABELS)] * 3, ShapeError, "if the items are batches, give a function"),
    ],
)
def test_wrong_items(items, error, message):
    with pytest.raises(error, match=message):
        from_items(items).images[:]


@pytest.mark.parametrize("data", ["abc", {"images": IMAGES}, IMAGES, None, 3])
def test_what_is_no_data(data):
    with pytest.raises(ShapeError, match="train must be a data set or a pair"):
        trained(data)


# Batches ------------------------------------------------------------------------------------------------------------


def loader():
    return ic.Loader(ic.Dataset(IMAGES, LABELS), 8)


class Again:
    """An iterable that can be gone through again, with a length."""

    def __len__(self):
        return 5

    def __iter__(self):
        return loader().epoch(0)


def test_batches_train_as_their_data_set_does():
    wanted = trained((IMAGES, LABELS))
    assert trained(lambda epoch: loader().epoch(epoch), steps=5) == wanted
    assert trained((batch for epoch in range(3) for batch in loader().epoch(epoch)), steps=5) == wanted
    same = ic.Trainer(network(), seed=0)
    for _ in range(3):
        for batch in loader().epoch(0):
            same.step(*batch)
    for data, options in ((Again(), {}), (Again().__iter__, {"steps": 5})):
        assert trained(data, **options)[0] == {name: a.tobytes() for name, a in same.net.state_dict().items()}


def test_batches_are_evaluated_as_a_data_set():
    trainer = ic.Trainer(network(), seed=0)
    joined = np.concatenate([batch[0] for batch in Again()]), np.concatenate([batch[1] for batch in Again()])
    assert trainer.evaluate(Again()) == trainer.evaluate(joined)


@pytest.mark.parametrize("after", [1, 7, 10])
def test_a_function_of_the_epoch_goes_on_exactly(tmp_path, after):
    def batches(epoch):
        return loader().epoch(epoch)

    wanted = trained(batches, steps=5)
    trainer = ic.Trainer(network(), seed=0)
    trainer.fit(batches, 3, steps=5, callbacks=[Stop(after)], progress=False)
    trainer.save(tmp_path / "c.safetensors")
    other = ic.Trainer.load(tmp_path / "c.safetensors")
    history = other.fit(batches, 3, steps=5, progress=False)
    arrays = {name: array.tobytes() for name, array in other.net.state_dict().items()}
    assert (arrays, history["loss"]) == wanted[:2]


@pytest.mark.parametrize(
    ("data", "steps", "error", "message"),
    [
        (lambda: iter([]), 5, DataError, "train: gives no batch"),
        ((x for x in ()), 5, DataError, "train: gives no batch"),
        (lambda: loader().epoch(0), None, ShapeError, "how many batches does an epoch have. Give steps"),
        (lambda: loader().epoch(0), 7, DataError, "ends after batch 5 of the 7 of an epoch"),
        (lambda: loader().epoch(0), 0, ShapeError, "steps must be"),
        (lambda: iter([3]), 1, DataError, "a batch must be a pair"),
        (lambda: iter([(IMAGES, LABELS[:5])]), 1, ShapeError, "a label for each image"),
        ((IMAGES, LABELS), 5, ShapeError, "steps is for batches"),
    ],
)
def test_wrong_batches(data, steps, error, message):
    with pytest.raises(error, match=message):
        trained(data, steps=steps)


def test_an_error_in_the_user_s_function_is_raised_as_it_is():
    def batches():
        yield IMAGES[:8], LABELS[:8]
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        trained(batches, steps=5)


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["cat", "dog", "cat"], ("cat", "dog"), [0, 1, 0]),
        (np.array(["dog", "cat", "dog"], object), ("cat", "dog"), [1, 0, 1]),
        (np.array([b"b", b"a", b"b"]), ("a", "b"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (np.zeros(3, bool), ("False", "True"), [0, 0, 0]),
        (["10", "9", "10"], ("10", "9"), [0, 1, 0]),
        ([2, 0, 1], ("0", "1", "2"), [2, 0, 1]),
    ],
)
def test_labels_that_are_no_numbers(labels, classes, numbers):
    data = ic.Dataset(IMAGES[:3], labels)
    assert data.classes == classes
    assert data.labels.tolist() == numbers
    assert data[1:].classes == classes


def test_strings_with_known_classes():
    data = ic.Dataset(IMAGES[:2], ["dog", "cat"], classes=("owl", "dog", "cat"))
    assert data.labels.tolist() == [1, 2]
    with pytest.raises(DataError, match="image 1 has the label 'cow', which is none of the classes 'owl', 'dog'"):
        ic.Dataset(IMAGES[:2], ["dog", "cow"], classes=("owl", "dog"))


def test_the_names_of_string_labels_are_in_the_checkpoint(tmp_path):
    trainer = ic.Trainer(network(), seed=0)
    trainer.fit((IMAGES, np.array(["cat", "dog", "owl"])[LABELS]), 1, progress=False)
    trainer.save(tmp_path / "c.safetensors")
    assert ic.Trainer.load(tmp_path / "c.safetensors").net.inputs.classes == ("cat", "dog", "owl")
