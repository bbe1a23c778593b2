"""CIFAR, EMNIST and KMNIST from files as they are published; pickles that would do something else are refused."""

import io
import pickle
import pickletools
import struct

import numpy as np
import pytest

from im2colnet.datasets import load
from im2colnet.datasets.cifar import CIFAR10, CIFAR100, unpickle
from im2colnet.errors import DataError

RNG = np.random.default_rng(0)


def some(count, classes):
    return RNG.integers(0, 256, (count, 3, 32, 32), np.uint8), RNG.integers(0, classes, count)


def old_pickle(data, labels, key):
    """Return what Python 2 wrote, as in the published files: protocol 2, strings of bytes, an array of NumPy."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def array(values):
        content = values.tobytes()
        shape = b"".join(b"M" + struct.pack("<H", size) for size in values.shape)
        made = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85" + text(b"b") + b"\x87R"
        kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
        kind += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        return made + b"(K\x01" + shape + b"\x86" + kind + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"

    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    entries = text(b"batch_label") + text(b"training batch") + text(key) + listed + text(b"data") + array(data)
    return b"\x80\x02}q\x01(" + entries + b"u."


def write_python(folder, name, parts):
    key = b"labels" if name == "cifar-10" else b"fine_labels"
    for file, (images, labels) in parts.items():
        (folder / file).write_bytes(old_pickle(images.reshape(len(images), -1), labels, key))


def write_binary(folder, name, parts):
    for file, (images, labels) in parts.items():
        columns = [labels[:, None]] if name == "cifar-10" else [labels[:, None] // 5, labels[:, None]]
        records = np.concatenate([*columns, images.reshape(len(images), -1)], axis=1).astype(np.uint8)
        (folder / f"{file}.bin").write_bytes(records.tobytes())


def cifar(name):
    if name == "cifar-10":
        return {f"data_batch_{i}": some(6, 10) for i in range(1, 6)} | {"test_batch": some(4, 10)}
    return {"train": some(30, 100), "test": some(4, 100)}


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
@pytest.mark.parametrize("write", [write_binary, write_python])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar(tmp_path, monkeypatch, name, write, inside):
    parts = cifar(name)
    if inside:  # as the archive is unpacked, in the folder that the variable names
        inner = {"cifar-10": ("cifar-10-batches-bin", "cifar-10-batches-py")}.get(
            name, ("cifar-100-binary", "cifar-100-python")
        )
        folder = tmp_path / inner[write is write_python]
        folder.mkdir()
        monkeypatch.setenv("IM2COLNET_DATA", str(tmp_path))
    else:
        folder = tmp_path
    write(folder, name, parts)
    train, test = load(name, None if inside else folder)
    *first, last = parts.values()
    np.testing.assert_array_equal(train.images, np.concatenate([images for images, _ in first]))
    np.testing.assert_array_equal(train.labels, np.concatenate([labels for _, labels in first]))
    np.testing.assert_array_equal(test.images, last[0])
    np.testing.assert_array_equal(test.labels, last[1])
    assert train.classes == test.classes == (CIFAR10 if name == "cifar-10" else CIFAR100)


def test_class_names():
    for names, count in ((CIFAR10, 10), (CIFAR100, 100)):
        assert len({*names}) == count
        assert list(names) == sorted(names)


@pytest.mark.parametrize(
    ("name", "count"), [("balanced", 47), ("bymerge", 47), ("byclass", 62), ("letters", 26), ("mnist", 10)]
)
def test_classes_of_emnist(tmp_path, name, count):
    idx_files(tmp_path, f"emnist-{name}-", "test")
    assert len({*load(f"emnist-{name}", tmp_path)[0].classes}) == count


def test_files_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("IM2COLNET_DATA", raising=False)
    with pytest.raises(DataError, match=r"cifar-10 were not found.*data_batch_1.bin.*unpack cifar-10-binary.tar.gz"):
        load("cifar-10", tmp_path)
    with pytest.raises(DataError, match="Looked in: no folder"):
        load("cifar-100")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "0 bytes, which is no multiple of 3074"), (b"x" * 3000, "no multiple"), (b"\xff" * 3074, "from 0 to 99")],
)
def test_damaged_binary_files(tmp_path, content, message):
    (tmp_path / "train.bin").write_bytes(content)
    (tmp_path / "test.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"train.bin: .*{message}"):
        load("cifar-100", tmp_path)


# Pickles ------------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, *made):
        self.made = made

    def __reduce__(self):
        return self.made


HOSTILE = {
    "a command": pickle.dumps(Evil(eval, ("print('run')",)), protocol=2),
    "os.system": b"\x80\x02cos\nsystem\nU\x08echo runq\x01\x85R.",
    "a method of numpy": b"\x80\x02cnumpy\nfromfile\nU\x0b/etc/passwdq\x01\x85R.",
    "builtins": b"\x80\x02c__builtin__\neval\nU\x011q\x01\x85R.",
    "a nested name": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "protocol 0": b"cos\nsystem\n(S'echo run'\ntR.",
    "protocol 4": pickle.dumps({b"data": 1}, protocol=4),
    "an instance": b"(ios\nsystem\n.",
    "a persistent id": b"\x80\x02U\x01aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a table of 4 billion entries": b"\x80\x02}r\xff\xff\xff\xff.",
    "an array of objects": pickle.dumps({b"data": np.array([{}], object), b"labels": [0]}, protocol=2),
    "a class that is changed": b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.",
    "cut": old_pickle(np.zeros((2, 3072), np.uint8), np.zeros(2, np.uint8), b"labels")[:-2000],
    "nothing": b"",
    "a long string that is not there": b"\x80\x02T\xff\xff\xff\x7fabc.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, name, capfd):
    (tmp_path / "train").write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match="train: cannot be read as a file of CIFAR for Python"):
        unpickle(tmp_path / "train")
    assert "run" not in capfd.readouterr().out


def test_the_stand_in_for_published_files_is_one():
    content = old_pickle(np.ones((2, 3072), np.uint8), np.array([1, 2]), b"labels")
    pickletools.dis(content, out=io.StringIO())  # raises if it is none
    assert pickle.loads(content, encoding="bytes")[b"data"].sum() == 6144


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop(b"data"), "dictionary with data and labels"),
        (lambda d: d.update({b"labels": [0, 10]}), "label from 0 to 9"),
        (lambda d: d.update({b"labels": [0]}), "each image must have a label"),
        (lambda d: d.update({b"labels": [0, "x"]}), "is no file of cifar-10"),
        (lambda d: d.update({b"labels": 3}), "is no file of cifar-10"),
        (lambda d: d.update({b"data": b"abc"}), "is no file of cifar-10"),
        (lambda d: setattr(d[b"data"], "state", (*d[b"data"].state[:4], "x" * 6144)), "is no file of cifar-10"),
        (lambda d: d.clear(), "dictionary with data"),
    ],
)
def test_pickles_of_something_else(tmp_path, monkeypatch, change, message):
    from im2colnet.datasets import cifar

    content = old_pickle(np.ones((2, 3072), np.uint8), np.array([1, 2]), b"labels")
    (tmp_path / "data_batch_1").write_bytes(content)
    found = unpickle(tmp_path / "data_batch_1")
    change(found)
    monkeypatch.setattr(cifar, "unpickle", lambda path: found)
    with pytest.raises(DataError, match=message):
        cifar.read_pickled(tmp_path / "data_batch_1", "cifar-10")


# IDX ----------------------------------------------------------------------------------------------------------------


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def idx_files(folder, begin, test, first=0, classes=10):
    found = []
    for part in ("train", test):
        images = RNG.integers(0, 256, (9, 28, 28), np.uint8)
        labels = first + RNG.integers(0, classes, 9)
        write_idx(folder / f"{begin}{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{begin}{part}-labels-idx1-ubyte", labels)
        found.append((images, labels))
    return found


def test_emnist_is_turned_upright(tmp_path, monkeypatch):
    (tmp_path / "emnist").mkdir()
    monkeypatch.setenv("IM2COLNET_DATA", str(tmp_path))
    letters = idx_files(tmp_path / "emnist", "emnist-letters-", "test", first=1, classes=26)
    digits = idx_files(tmp_path / "emnist", "emnist-digits-", "test")
    for name, parts, first in (("letters", letters, 1), ("digits", digits, 0)):
        for data, (images, labels) in zip(load(f"emnist-{name}"), parts, strict=True):
            np.testing.assert_array_equal(data.images[:, 0], images.transpose(0, 2, 1))
            np.testing.assert_array_equal(data.labels, labels - first)
    assert load("emnist-letters")[0].classes[3] == "D"


def test_kmnist(tmp_path):
    parts = idx_files(tmp_path, "", "t10k")
    for data, (images, labels) in zip(load("kmnist", tmp_path), parts, strict=True):
        np.testing.assert_array_equal(data.images[:, 0], images)
        np.testing.assert_array_equal(data.labels, labels)
        assert data.classes[1] == "ki"


# .npz ---------------------------------------------------------------------------------------------------------------


def test_npz_with_labels_of_strings(tmp_path):
    images = RNG.integers(0, 256, (8, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=list("abcaabca"), x_test=images[:2], y_test=["d", "a"])
    train, test = load(tmp_path / "a.npz")
    assert train.classes == test.classes == ("a", "b", "c", "d")
    assert test.labels.tolist() == [3, 0]
    np.savez(tmp_path / "b.npz", images=images, labels=list("abbaabba"), classes=["b", "a"])
    train, test = load(tmp_path / "b.npz")
    assert train.classes == ("b", "a")
    assert sorted([*train.labels, *test.labels]) == [0] * 4 + [1] * 4
