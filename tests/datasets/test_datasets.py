"""Data sets: the embedded digits, IDX and .npz files, the split, and what damaged files and wrong arguments give."""

import gzip
import hashlib
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from im2colnet import datasets
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.readers import find_idx_files, load, read_idx
from im2colnet.datasets.splits import stratified_split
from im2colnet.errors import DataError, DTypeError, ShapeError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

DIGITS = Path(datasets.__file__).with_name("data") / "digits.npz"


def idx(array, code=0x08, letter="B"):
    """Return the bytes of an IDX file, by the format's description."""
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


def sample_images(count, start=0):
    return (np.arange(start, start + count * 6) % 251).astype(np.uint8).reshape(count, 2, 3)


def write_idx_set(folder, names=STEMS, train=5, test=3):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (sample_images(train), np.arange(train) % 10, sample_images(test, start=77), np.arange(test) % 10)
    for name, array in zip(names, arrays, strict=True):
        data = idx(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


@pytest.fixture
def no_installed_data(monkeypatch, tmp_path):
    """Hide what this machine may have."""
    monkeypatch.delenv("IM2COLNET_DATA", raising=False)


# Dataset


def test_dataset_of_arrays():
    images = np.zeros((4, 3, 5, 6), np.float32)
    data = Dataset(images, np.array([0, 2, 1, 2]), "mine", ("a", "b", "c"))
    assert len(data) == 4
    assert data.images is images
    assert data.classes == ("a", "b", "c")
    assert repr(data) == "Dataset('mine': 4 images 3×5×6 float32, 3 classes)"
    assert Dataset(images, np.array([0, 2, 1, 2])).classes == ("0", "1", "2")
    with pytest.raises(AttributeError):
        data.name = "other"


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(2), [0, 1]),
        (slice(None, None, -2), [4, 2, 0]),
        (np.array([3, 3, 1]), [3, 3, 1]),
        ([4, 0], [4, 0]),
        (np.array([False, True, False, True, False]), [1, 3]),
        (-1, [4]),
    ],
)
def test_indexing_gives_a_dataset(index, expected):
    data = Dataset(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.arange(5) % 3, "five", tuple("abcd"))
    part = data[index]
    assert isinstance(part, Dataset)
    assert part.images.ravel().tolist() == expected
    assert part.labels.tolist() == [place % 3 for place in expected]
    assert (part.name, part.classes) == ("five", tuple("abcd"))


def test_iterating_over_a_dataset_ends():
    data = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.array([2, 0, 1]))
    assert [int(one.labels[0]) for one in data] == [2, 0, 1]


def test_a_slice_shares_memory():
    data = Dataset(np.zeros((9, 1, 2, 2), np.uint8), np.zeros(9, int))
    assert np.shares_memory(data[3:5].images, data.images)


def four(**change):
    return {"images": np.zeros((4, 1, 2, 2), np.uint8), "labels": np.zeros(4, int), "classes": ("a", "b"), **change}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((4, 1, 1, 2, 2), np.uint8)}, ShapeError, r"\(N, C, H, W\), got \(4, 1, 1, 2, 2\)"),
        ({"labels": np.zeros(3, int)}, ShapeError, r"each of the 4 images, got \(3,\)"),
        ({"labels": np.zeros((4, 1), int)}, ShapeError, r"got \(4, 1\)"),
        ({"images": np.zeros((0, 1, 2, 2)), "labels": np.zeros(0, int)}, ShapeError, "no image"),
        ({"images": np.zeros((4, 1, 0, 2))}, ShapeError, "no image"),
        ({"images": np.zeros((4, 1, 2, 2), np.int64)}, DTypeError, "must be uint8, .* or floating point, .* got int64"),
        ({"images": np.zeros((4, 1, 2, 2), complex)}, DTypeError, "complex128"),
        ({"labels": np.zeros(4)}, DTypeError, "integers, got float64"),
        ({"labels": np.array(list("abca"))}, DataError, "image 2 has the label 'c', .* none of the classes 'a', 'b'"),
        ({"labels": np.array(["a", "b", "a", None], object)}, DTypeError, "integers, got object"),
        ({"labels": np.array([0, 1, -1, 0])}, DataError, r"from 0 to 1 .*got -1 to 1"),
        ({"labels": np.array([0, 1, 2, 0])}, DataError, r"2 classes\), got 0 to 2"),
    ],
)
def test_wrong_arrays_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        Dataset(**four(**change))


def test_an_empty_selection_is_refused():
    with pytest.raises(ShapeError, match="no image"):
        Dataset(**four())[4:]


# The embedded digits


def test_digits_is_the_uci_test_set():
    # Counts of each class and values from optdigits.names and the first line of optdigits.tes
    with np.load(DIGITS, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (1797, 8, 8)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images.min(), images.max()) == (0, 16)
    assert labels[0] == 0
    assert images[0, :2].tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert DIGITS.stat().st_size < 50_000


def test_digits_equals_scikit_learn():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    original = load_digits()
    with np.load(DIGITS, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["images"], original.images)
        np.testing.assert_array_equal(file["labels"], original.target)


def test_digits_attribution():
    text = DIGITS.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "UCI", "10.24432/C50P49", "creativecommons.org/licenses/by/4.0", "changed"):
        assert words in text


def test_digits_split():
    train, test = load("digits")
    assert train.images.shape == (1438, 1, 8, 8)
    assert test.images.shape == (359, 1, 8, 8)
    assert train.images.dtype == test.images.dtype == np.uint8
    assert train.name == "digits"
    assert test.classes == tuple("0123456789")
    # 20% of 178, 182, 177, ... is 35.6, 36.4, 35.4, 36.6, 36.2, 36.4, 36.2, 35.8, 34.8, 36.0, together 359
    assert np.bincount(test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert np.bincount(train.labels).tolist() == [142, 146, 142, 146, 145, 146, 145, 143, 139, 144]


def test_digits_are_scaled_and_each_is_there_once():
    train, test = load("digits")
    with np.load(DIGITS, allow_pickle=False) as file:
        original = np.rint(file["images"] * (255 / 16))  # 8/16 of 255 is 127.5, to the even 128, as the rule has it
        original = np.column_stack([original.reshape(-1, 64), file["labels"]])
    parts = np.vstack([np.column_stack([part.images.reshape(-1, 64), part.labels]) for part in (train, test)])
    assert sorted(map(tuple, parts.tolist())) == sorted(map(tuple, original.tolist()))


def test_digits_split_never_changes():
    _, test = load("digits")
    digest = hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest()
    assert digest[:16] == "1366a15ce7f74682"


# The split


def test_split_by_hand():
    labels = np.repeat([7, 3, 5], [5, 3, 2])  # 30%: 1.5, 0.9 and 0.6, together 3: the remainders .9 and .6 go first
    train, test = stratified_split(labels, 0.3, seed=1)
    assert sorted(labels[test].tolist()) == [3, 5, 7]
    assert sorted([*train, *test]) == list(range(10))


def test_split_gives_ties_to_the_smaller_label():
    labels = np.array([2, 2, 2, 1, 1, 1, 0, 0, 0])  # a half: 1.5 each, together round(4.5) = 4
    _, test = stratified_split(labels, 0.5, seed=0)
    assert np.bincount(labels[test]).tolist() == [2, 1, 1]


def test_split_ties_are_not_decided_by_rounding_errors():
    labels = np.repeat([0, 1], [10, 50])  # 5.5 and 27.5, together 33
    assert (0.55 * 10) % 1 < (0.55 * 50) % 1  # in floating point
    _, test = stratified_split(labels, 0.55, seed=0)
    assert np.bincount(labels[test]).tolist() == [6, 27]
    _, test = stratified_split(np.repeat(np.arange(40), 3), 0.5, seed=0)  # 40 ties
    assert np.bincount(test // 3).tolist() == [2] * 20 + [1] * 20


def test_split_keeps_every_class_in_the_training_part():
    labels = np.repeat([0, 1, 2, 3], [1, 1, 1, 9])
    train, test = stratified_split(labels, 0.5, seed=0)
    assert np.bincount(labels[train], minlength=4).min() == 1
    assert len(test) == 5  # the share of 9 is 4.5, that of each other 0.5
    assert len(stratified_split(np.arange(5), 0.5, seed=0)[1]) == 0


@given(labels=st.lists(st.integers(0, 6), max_size=60), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**64))
def test_split_properties(labels, fraction, seed):
    labels = np.array(labels, int)
    train, test = stratified_split(labels, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    counts = np.bincount(labels, minlength=7)
    assert (np.bincount(labels[train], minlength=7) >= np.minimum(counts, 1)).all()
    assert len(test) <= round(fraction * len(labels))
    share = fraction * np.bincount(labels, minlength=7)
    held_out = np.bincount(labels[test], minlength=7)
    assert (np.abs(held_out - share) < 1 + 1e-6).all()
    # largest remainder: nobody who got none of the rest has a larger remainder than somebody who got one
    full = held_out >= counts - 1
    assert len(test) == round(fraction * len(labels)) or (full | (held_out > share - 1e-6)).all()
    excess = (held_out - share)[~full]
    share = share[~full]
    rounded_up, rounded_down = share[excess > 1e-6] % 1, share[excess < -1e-6] % 1
    if rounded_up.size and rounded_down.size:
        assert rounded_up.min() >= rounded_down.max() - 1e-6


def test_split_depends_on_the_seed_only():
    labels = np.arange(200) % 4
    np.random.seed(1)  # noqa: NPY002
    first = stratified_split(labels, 0.25, seed=5)[1]
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(first, stratified_split(labels, 0.25, seed=5)[1])
    assert not np.array_equal(first, stratified_split(labels, 0.25, seed=6)[1])


def test_split_is_not_by_position():
    labels = np.zeros(1000, int)
    chosen = stratified_split(labels, 0.5, seed=0)[1]
    assert 400 < chosen.mean() < 600
    assert len(np.unique(np.diff(chosen))) > 4


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_split_refuses_a_fraction(fraction):
    with pytest.raises(ShapeError, match="between 0 and 1"):
        stratified_split(np.arange(5), fraction, seed=0)


def test_split_refuses_a_matrix():
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        stratified_split(np.zeros((2, 3), int), 0.5, seed=0)


# IDX files


@pytest.mark.parametrize(
    ("code", "letter", "dtype"),
    [
        (0x08, "B", np.uint8),
        (0x09, "b", np.int8),
        (0x0B, "h", np.int16),
        (0x0C, "i", np.int32),
        (0x0D, "f", np.float32),
        (0x0E, "d", np.float64),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_read_idx(tmp_path, code, letter, dtype, compress):
    array = (np.arange(24) * 5).reshape(2, 3, 4)
    path = tmp_path / "file"
    path.write_bytes(compress(idx(array, code, letter)))
    result = read_idx(path)
    assert result.dtype == dtype
    assert result.dtype.isnative
    assert result.flags.writeable
    assert np.array_equal(result, array)
    assert np.array_equal(read_idx(str(path)), array)


def test_read_idx_bytes_written_by_hand(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes.fromhex("0000 0b02 00000001 00000002 0102 ff00"))
    assert read_idx(path).tolist() == [[258, -256]]


@pytest.mark.parametrize(
    ("data", "shape"),
    [("00000800 05", ()), ("00000801 00000000", (0,)), ("00000802 00000000 ffffffff", (0, 2**32 - 1))],
)
def test_read_idx_of_unusual_shapes(tmp_path, data, shape):
    path = tmp_path / "file"
    path.write_bytes(bytes.fromhex(data))
    assert read_idx(path).shape == shape


GOOD = idx(np.arange(6).reshape(2, 3))
DAMAGED = {
    "empty": (b"", "not an IDX file.*nothing"),
    "short": (GOOD[:3], "not an IDX file"),
    "magic": (b"\1" + GOOD[1:], "not an IDX file.*01 00 08 02"),
    "type": (b"\0\0\x0a" + GOOD[3:], "not an IDX file.*00 00 0a 02"),
    "header": (GOOD[:9], "header, after 9 of 12 bytes"),
    "too short": (GOOD[:-1], r"17 bytes.*announces 18.*\(2, 3\).*uint8"),
    "too long": (GOOD + b"\0", "19 bytes.*announces 18"),
    "huge": (GOOD[:4] + b"\xff" * 8 + GOOD[12:], "18 bytes.*announces"),
    "65 axes": (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"\7", "cannot make an array"),
    "truncated gzip": (gzip.compress(GOOD)[:-5], "damaged gzip"),
    "only a gzip header": (gzip.compress(GOOD)[:2], "damaged gzip"),
    "gzip checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "damaged gzip"),
    "gzip of too little": (gzip.compress(GOOD[:-2]), "16 bytes.*announces 18"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_idx(tmp_path, kind):
    data, message = DAMAGED[kind]
    path = tmp_path / "some-file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"some-file: .*{message}"):
        read_idx(path)


def test_idx_missing_or_a_folder(tmp_path):
    with pytest.raises(DataError, match="absent: there is no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        read_idx(tmp_path)


# MNIST-like folders


@pytest.mark.parametrize(
    "names",
    [
        STEMS,
        tuple(name + ".gz" for name in STEMS),
        tuple(name.replace("-idx", ".idx") for name in STEMS),
        tuple(name.replace("-idx", ".idx") + ".gz" for name in STEMS),
        (STEMS[0], STEMS[1] + ".gz", *STEMS[2:]),
    ],
    ids=["plain", "gz", "dot", "dot gz", "mixed"],
)
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_load_idx_set(tmp_path, no_installed_data, name, names):
    train, test = load(name, write_idx_set(tmp_path / "files", names))
    assert train.images.shape == (5, 1, 2, 3)
    assert np.array_equal(train.images[:, 0], sample_images(5))
    assert np.array_equal(test.images[:, 0], sample_images(3, start=77))
    assert train.labels.tolist() == [0, 1, 2, 3, 4]
    assert test.labels.tolist() == [0, 1, 2]
    assert train.name == test.name == name
    assert len(test.classes) == 10
    assert test.classes[9] == ("9" if name == "mnist" else "Ankle boot")


def test_where_idx_files_are_looked_for(tmp_path, no_installed_data, monkeypatch):
    for place, count in (("given", 1), ("root", 2), ("root/fashion-mnist", 3), ("debian", 4)):
        write_idx_set(tmp_path / place, train=count)

    def is_in(place):
        images = find_idx_files("fashion-mnist", None, tmp_path / "debian")[0]
        return images.parent == tmp_path / place

    assert is_in("debian")
    monkeypatch.setenv("IM2COLNET_DATA", str(tmp_path / "empty"))
    assert is_in("debian")
    monkeypatch.setenv("IM2COLNET_DATA", str(tmp_path / "root"))
    assert is_in("root/fashion-mnist")
    assert len(load("fashion-mnist")[0]) == 3
    assert len(load("mnist")[0]) == 2
    assert len(load("fashion-mnist", str(tmp_path / "given"))[0]) == 1
    with pytest.raises(DataError, match="not found"):  # a folder that was asked for is never replaced by another
        load("fashion-mnist", tmp_path / "empty")


def test_missing_idx_files(tmp_path, no_installed_data, monkeypatch):
    with pytest.raises(DataError) as caught:
        find_idx_files("fashion-mnist", None, tmp_path / "not-installed")
    message = str(caught.value)
    for words in (
        str(tmp_path / "not-installed"),
        "no such folder",
        *STEMS,
        "apt-get install dataset-fashion-mnist",
        "`folder`",
        "IM2COLNET_DATA",
    ):
        assert words in message
    monkeypatch.setenv("IM2COLNET_DATA", str(tmp_path))
    (write_idx_set(tmp_path / "mnist") / STEMS[1]).unlink()
    with pytest.raises(DataError) as caught:
        load("mnist")
    message = str(caught.value)
    assert f"{tmp_path / 'mnist'} (lacks train-labels-idx1-ubyte)" in message
    assert f"{tmp_path} (lacks" in message
    assert "apt-get" not in message


@pytest.mark.parametrize(
    ("place", "array", "message"),
    [
        (1, np.zeros(4), "train-labels.*5 images, got"),
        (1, np.full(5, 10), "from 0 to 9"),
        (0, np.zeros((5, 2)), r"train-images.*got \(5, 2\)"),
        (2, np.zeros((0, 2, 3)), "t10k-images.*each of the 0 images"),
    ],
)
def test_idx_files_that_do_not_fit(tmp_path, place, array, message):
    folder = write_idx_set(tmp_path)
    (folder / STEMS[place]).write_bytes(idx(array.astype(np.uint8)))
    with pytest.raises(DataError, match=message):
        load("mnist", folder)


def test_a_truncated_idx_set_names_the_file(tmp_path):
    folder = write_idx_set(tmp_path, tuple(name + ".gz" for name in STEMS))
    path = folder / (STEMS[2] + ".gz")
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=re.escape(str(path))):
        load("mnist", folder)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.delenv("IM2COLNET_DATA", raising=False)
    checksums = (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    )
    train, test = load("fashion-mnist")
    arrays = (train.images[:, 0], train.labels, test.images[:, 0], test.labels)
    # The checksums are of the whole files, so they are also those of what was read with the header put before it
    for array, checksum in zip(arrays, checksums, strict=True):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        assert hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest() == checksum
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.classes[train.labels[0]] == "Ankle boot"
    assert round(train.images.mean() / 255, 4) == 0.2860  # the mean that everybody normalises with


# .npz files


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_npz_as_keras_has_it(tmp_path):
    path = write_npz(
        tmp_path / "things.npz",
        x_train=sample_images(6),
        y_train=np.array([0, 1, 2, 3, 4, 0]),
        x_test=sample_images(2, start=9),
        y_test=np.array([[1], [0]]),
        other=np.zeros(1),
    )
    train, test = load(path)
    assert np.array_equal(train.images[:, 0], sample_images(6))
    assert np.array_equal(test.images[:, 0], sample_images(2, start=9))
    assert test.labels.tolist() == [1, 0]
    assert train.name == test.name == "things"
    assert train.classes == test.classes == tuple("01234")  # of both, though the test set has only two


def test_npz_of_images_and_labels_is_split(tmp_path):
    images, labels = sample_images(50), np.repeat(np.arange(5), 10)
    path = write_npz(tmp_path / "one.NPZ.npz", images=images, labels=labels)
    train, test = load(str(path))
    assert np.bincount(test.labels).tolist() == [2] * 5
    assert np.bincount(train.labels).tolist() == [8] * 5
    expected = stratified_split(labels, 0.2, seed=0)
    for part, index in zip((train, test), expected, strict=True):
        assert np.array_equal(part.images[:, 0], images[index])
    assert np.array_equal(load(path)[1].images, test.images)


def test_npz_path_is_relative_to_the_folder(tmp_path):
    write_npz(tmp_path / "one.npz", images=sample_images(5), labels=np.zeros(5, int))
    assert len(load("one.npz", tmp_path)[0]) == 4
    with pytest.raises(DataError, match="no such file"):
        load("one.npz", tmp_path / "elsewhere")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_npz_channels_first_or_last(tmp_path, channels):
    images = np.random.default_rng(0).random((10, channels, 5, 7), np.float32)
    labels = np.zeros(10, int)
    write_npz(tmp_path / "first.npz", images=images, labels=labels)
    write_npz(tmp_path / "last.npz", images=images.transpose(0, 2, 3, 1), labels=labels)
    first, last = load(tmp_path / "first.npz")[0], load(tmp_path / "last.npz")[0]
    assert first.images.shape == (8, channels, 5, 7)
    assert first.images.dtype == np.float32
    assert np.array_equal(first.images, last.images)
    assert last.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((10, 3, 3, 3), np.uint8)}, r"may be \(N, C, H, W\) or \(N, H, W, C\)"),
        ({"images": np.zeros((10, 5, 6, 7), np.uint8)}, "no axis of 1, 3 or 4 channels"),
        ({"images": np.zeros((10, 64), np.uint8)}, r"got \(10, 64\)"),
        ({"images": np.zeros((10, 2, 2), np.int64)}, "must be uint8, .* or floating point"),
        ({"labels": np.zeros(9, int)}, "each of the 10 images"),
        ({"labels": np.zeros(10)}, "integers"),
        ({"labels": np.arange(-1, 9)}, "got -1"),
        ({"images": np.array([None] * 10)}, "Python objects"),
        ({"images": np.zeros((2, 2, 2), np.uint8), "labels": np.zeros(2, int)}, "too few"),
    ],
)
def test_npz_with_wrong_arrays(tmp_path, arrays, message):
    arrays = {"images": np.zeros((10, 2, 2), np.uint8), "labels": np.zeros(10, int), **arrays}
    path = write_npz(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DataError, match=f"wrong.npz: .*{message}"):
        load(path)


def test_npz_without_the_arrays(tmp_path):
    path = write_npz(tmp_path / "few.npz", x_train=sample_images(3), labels=np.zeros(3, int))
    with pytest.raises(DataError, match=r"x_train, y_train, x_test, y_test or images, labels, but has x_train, labels"):
        load(path)


def test_npz_that_is_something_else(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(DataError, match="no such file"):
        load(path)
    for data in (b"", b"text", b"PK\3\4", b"\x93NUMPY"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=re.escape(str(path))) as caught:
            load(path)
        assert "allow_pickle" not in str(caught.value)


def test_a_damaged_npz_gives_a_data_error_or_the_images(tmp_path):
    images = sample_images(10)
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, images=images, labels=np.arange(10) % 2)
    good = path.read_bytes()
    expected = load(path)[0].images
    refused = 0
    for place in range(0, len(good), 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            train, _ = load(path)
        except DataError:
            refused += 1
        else:
            assert np.array_equal(train.images, expected)
    assert refused > len(good) / 6


# Names


@pytest.mark.parametrize("name", ["cifar", "", "DIGITS", "digits.np"])
def test_unknown_name(name):
    with pytest.raises(DataError, match=r"'digits', 'fashion-mnist', 'mnist', .*, and the path of a folder .* \.npz"):
        load(name)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_npz(tmp_path / "mine.npz", images=sample_images(5), labels=np.zeros(5, int))
    assert len(load(os.path.join("~", "mine.npz"))[0]) == 4
