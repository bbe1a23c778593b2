"""What a network was trained on: kept, compared; what is odd in images, labels and files is said."""

import copy
import gzip
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.images import read_images
from im2colnet.datasets.inputs import Inputs
from im2colnet.datasets.readers import load, read_idx
from im2colnet.errors import CheckpointError, DataError, DTypeError, InputWarning, NonFiniteError

ROOT = Path(__file__).parents[2]
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
LABELS = np.arange(40) % 2
GREY = PIXELS[:, 0]  # in files, where (N, 1, 4, 4) could also be (N, H, W, C)


def linear_trainer():
    return ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 2)]), seed=0)


def standardised():
    return ((PIXELS / 255 - 0.5) / 0.29).astype(np.float32)


def fitted(images):
    made = linear_trainer()
    made.fit((images, LABELS), 1, 10)
    return made


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100, 101, 1000])
def test_the_usual_range_is_from_percentile_1_to_percentile_99(number):
    images = np.random.default_rng(number).normal(size=(number, 1, 1, 1)).astype(np.float32)
    expected = np.percentile(images.astype(np.float64), (1, 99))
    np.testing.assert_allclose(Inputs.of(images).usual, expected, rtol=1e-12, atol=1e-14)


def test_inputs_by_hand():
    images = np.array([0, 51, 102, 255], np.uint8).reshape(2, 2)
    found = Inputs.of(Dataset(images, [0, 1], classes=("a", "b")))
    assert (found.kind, found.low, found.high, found.shape, found.classes) == ("uint8", 0, 1, (2,), ("a", "b"))
    assert found.mean == pytest.approx(0.4)
    assert found.std == pytest.approx(np.std([0, 0.2, 0.4, 1]))


def test_checkpoints_keep_inputs(tmp_path):
    made = linear_trainer()
    made.fit(Dataset(standardised(), LABELS, classes=("cat", "dog")), 1, 10, progress=False)
    made.save(tmp_path / "a.safetensors")
    again = ic.Trainer.load(tmp_path / "a.safetensors")
    assert again.net.inputs == made.net.inputs
    assert again.net.inputs.classes == ("cat", "dog")
    assert copy.deepcopy(again.net).inputs == made.net.inputs
    assert again.net.init(1).inputs is None
    made.net.inputs = None  # as in files that know nothing of inputs
    made.save(tmp_path / "old.safetensors")
    assert ic.Trainer.load(tmp_path / "old.safetensors").net.inputs is None


@pytest.mark.parametrize("damage", [{}, [], 3, {"kind": "float"}, "shape", "classes", "low", "kind"])
def test_damaged_descriptions(damage):
    good = Inputs.of(PIXELS).describe() | {"classes": ["a"]}
    assert Inputs.read(good).classes == ("a",)
    with pytest.raises(CheckpointError, match="inputs"):
        Inputs.read(good | {damage: [None]} if isinstance(damage, str) else damage)


@pytest.mark.parametrize(
    ("train", "given"),
    [
        (standardised(), PIXELS),
        (PIXELS.astype(np.float32), PIXELS),
        (PIXELS, PIXELS.astype(np.float32)),
        (PIXELS / 255, PIXELS * 1.0),
        (standardised(), PIXELS * 1.0),
        (PIXELS / 255 - 0.5, PIXELS),
    ],
)
@pytest.mark.filterwarnings("ignore:images are floating")
def test_another_scale_is_refused(train, given):
    made = fitted(train)
    with pytest.raises(DataError, match="trained on"):
        made.evaluate((given, LABELS))
    with pytest.raises(DataError, match=r"validation: .*trained on"):
        made.fit((train, LABELS), 2, 10, validation=(given, LABELS))
    with pytest.raises(DataError, match=r"train: .*trained on"):
        made.fit((given, LABELS), 2, 10)
    if given.dtype == np.uint8:
        with pytest.raises(DataError, match=r"uint8, scaled to \[0, 1\].*trained on floating-point"):
            made.net.predict(given)


@pytest.mark.parametrize(
    ("train", "given"),
    [
        (PIXELS, PIXELS / 255),
        (PIXELS / 255, PIXELS),
        (PIXELS, PIXELS // 4),
        (standardised(), standardised()[:1] * 1.3),
        (PIXELS, np.zeros_like(PIXELS)),
        (standardised(), np.zeros((40, 1, 4, 4), np.float32)),
    ],
)
def test_the_same_scale_is_taken(train, given):
    made = fitted(train)
    made.evaluate((given, LABELS[: len(given)]))
    made.net.predict(given)


def test_one_broken_pixel_is_no_other_scale():
    broken = np.tile(PIXELS / 255, (4, 1, 2, 2))
    broken[3, 0, 1, 1] = 65535
    fitted(PIXELS).net.inputs.compare("x", Inputs.of(broken))


def test_a_much_smaller_scale_is_said():
    with pytest.warns(InputWarning, match="reach 255"):
        made = fitted(PIXELS * 1.0)
    with pytest.warns(InputWarning, match=r"0 to 1 .*trained on .*0 to 255"):
        made.evaluate((PIXELS / 255, LABELS))


def test_labels_from_one():
    made = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 3)]), seed=0)
    with pytest.warns(InputWarning, match=r"class 0 has no images: are labels counted from 1"):
        made.fit((PIXELS, LABELS + 1), 1, 10)


def test_class_names_are_compared():
    made = linear_trainer()
    made.fit(Dataset(PIXELS, LABELS, classes=("cat", "dog")), 1, 10)
    with pytest.raises(DataError, match="class 0 of data is 'dog', in the training of the network it was 'cat'"):
        made.evaluate(Dataset(PIXELS, LABELS, classes=("dog", "cat")))
    with pytest.warns(InputWarning, match="'bird'"):
        made.evaluate(Dataset(PIXELS, LABELS, classes=("cat", "bird")))


def test_the_first_bad_image_of_a_data_set_is_named():
    images = standardised()
    images[[23, 31], 0, 1, 1] = np.nan, np.inf
    with pytest.raises(NonFiniteError, match="train: image 23 of the data holds NaN"):
        linear_trainer().fit((images, LABELS), 1, 10)
    with pytest.raises(NonFiniteError, match="image 23"):
        fitted(standardised()).evaluate((images, LABELS))
    images = standardised().astype(np.float64)
    images[7] = 1e300
    with pytest.raises(NonFiniteError, match=r"image 7 .*too large for float32"):
        linear_trainer().fit((images, LABELS), 1, 10)


# Arrays of every kind ------------------------------------------------------------------------------------------------
class Tensor:
    """What PyTorch's tensors that want a gradient do."""

    def __init__(self, array, gradient=True):
        self.array, self.gradient = array, gradient
        self.ndim, self.shape, self.dtype = array.ndim, array.shape, str(array.dtype)

    def detach(self):
        return Tensor(self.array, gradient=False)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        if self.gradient:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.array


@pytest.mark.parametrize("kind", [Tensor, np.ndarray.tolist, list])
def test_what_numpy_can_read_is_taken_everywhere(kind):
    images = (PIXELS / 255).astype(np.float32)
    made, plain = linear_trainer(), linear_trainer()
    loss = made.step(kind(images), kind(LABELS))
    assert loss == plain.step(images, LABELS)
    np.testing.assert_array_equal(made.net.predict(kind(images)), plain.net.predict(images))
    assert made.evaluate((kind(images), kind(LABELS))) == plain.evaluate((images, LABELS))
    made.fit((kind(images), kind(LABELS)), 1, 10)


def test_features():
    images = PIXELS.reshape(40, 16)
    made = ic.Trainer(ic.Sequential([ic.Linear(16, 2)]), seed=0)
    made.fit((images, LABELS), 1, 10, validation=(images, LABELS))
    plain = linear_trainer()
    plain.fit((PIXELS, LABELS), 1, 10)
    assert made.history["loss"] == plain.history["loss"]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: Dataset(m, LABELS),
        lambda m: linear_trainer().step(m, LABELS),
        lambda m: linear_trainer().net.predict(m),
        lambda m: linear_trainer().fit((m, LABELS), 1),
        lambda m: linear_trainer().step(m.data, np.ma.array(LABELS)),
        lambda m: ic.functional.unfold(m, 2),
        lambda m: linear_trainer().net.predict(list(m)),
    ],
)
def test_a_mask_is_not_lost_silently(call):
    with pytest.raises(DTypeError, match=r"masked array.*filled"):
        call(np.ma.array(PIXELS / 255, mask=PIXELS > 9))


# Files ---------------------------------------------------------------------------------------------------------------
def test_npz_names_its_classes(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS, classes=np.array(["cat", "dog"]))
    assert load(tmp_path / "a.npz")[1].classes == ("cat", "dog")
    for wrong in (["cat"], ["cat", "cat"], [["cat", "dog"]], [1.5, 2.5], np.array(["a", "b"], object)):
        np.savez(tmp_path / "b.npz", images=GREY, labels=LABELS, classes=wrong, allow_pickle=True)
        with pytest.raises(DataError, match=r"b.npz"):
            load(tmp_path / "b.npz")


def test_npz_of_two_scales(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=GREY * 1.0, y_train=LABELS, x_test=GREY, y_test=LABELS)
    with pytest.raises(DataError, match=r"a.npz: x_test: the images are uint8, .* but x_train has floating-point"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("label", [41, 10**9, 2**40, 2**62])
def test_a_huge_label(tmp_path, label):
    labels = LABELS.copy()
    labels[17] = label
    np.savez(tmp_path / "a.npz", images=GREY, labels=labels)
    with pytest.raises(DataError, match=rf"a.npz: .*largest label is {label:,}, of image 17"):
        load(tmp_path / "a.npz")
    if label > 10**6:
        with pytest.raises(DataError, match="of image 17"):
            Dataset(PIXELS, labels)


def npy(shape, content=b"", dtype="|u1"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def zipped(path, sizes=(), **entries):
    """Write an archive, whose table says other ``sizes`` of some entries than they have."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name + ".npy", content)
        for name, size in dict(sizes).items():
            archive.getinfo(name + ".npy").file_size = size
    return path


def test_bombs_are_refused_before_they_are_read(tmp_path):
    bomb, size = npy((512, 1, 1024, 1024)), 512 << 20
    zipped(tmp_path / "a.npz", {"images": len(bomb) + size}, images=bomb, labels=npy((512,), bytes(512)))
    idx = bytes.fromhex("00000803 00000200 00000400 00000400") + bytes(1 << 20)
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx))
    for call in (
        lambda: load(tmp_path / "a.npz"),
        lambda: read_images(tmp_path / "a.npz", (1, 1024, 1024)),
        lambda: read_idx(tmp_path / "b.gz"),
    ):
        with pytest.raises(DataError, match="bomb"):
            call()


@pytest.mark.parametrize(
    "content",
    [
        npy((10**12, 1, 8, 8)),
        npy((2, 1, 8, 8), b"x" * 127),
        npy((2, 1, 8, 8), b"x" * 129),
        npy((-2, -1, 8, 8), b"x" * 128),
        npy((2, 1, 8, 8), b"x" * 1024, "|O"),
        npy("((((", b""),
        npy((2, 1, 8, 8), b"x" * 128, "|u9"),
        b"\x93NUMPY\x03\0",
        b"",
    ],
    ids=range(9),
)
def test_damaged_headers(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    zipped(tmp_path / "a.npz", images=content, labels=npy((2,), bytes(2)))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=name):
            read_images(tmp_path / name, (1, 8, 8))
    with pytest.raises(DataError, match=r"a.npz"):
        load(tmp_path / "a.npz")


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="the system does not tell what memory it has")
def test_no_room_is_said_before_it_is_read(tmp_path):
    """A file of 4 TB, of which the disk holds nothing but the header."""
    header = npy((1 << 36, 1, 8, 8))
    with open(tmp_path / "a.npy", "wb") as file:
        file.write(header)
        try:
            file.truncate(len(header) + (1 << 42))
        except OSError as error:
            pytest.skip(f"this file system has no such files: {error}")
    with pytest.raises(DataError, match=r"a.npy: .*549,755,813,888 bytes has no room"):
        read_images(tmp_path / "a.npy", (1, 8, 8))


def test_gzip_is_read_no_further_than_its_header_says(tmp_path):
    import tracemalloc

    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes.fromhex("00000803 00000002 00000008 00000008") + bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a.gz: has more than 144 bytes"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    for name in ("a.npz", "a.npy", "a.png", "a.gz"):
        os.mkfifo(tmp_path / name)
    for call in (
        lambda: load(tmp_path / "a.npz"),
        lambda: read_idx(tmp_path / "a.gz"),
        *(lambda n=n: read_images(tmp_path / n, (1, 8, 8)) for n in ("a.npz", "a.npy", "a.png")),
    ):
        with pytest.raises(DataError, match="pipe"):
            call()


def test_the_digits_are_found_in_a_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.whl", "w") as archive:
        for root in (ROOT, ROOT / "backends"):
            for file in root.glob("im2colnet*/**/*"):
                if file.is_file() and file.suffix != ".pyc":
                    archive.write(file, file.relative_to(root))
    program = "import im2colnet as ic; print(len(ic.datasets.load('digits')[0]), ic.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "all.whl")},
        check=False,
    )
    assert done.stdout.startswith("1438 "), done.stderr
    assert "all.whl" in done.stdout


# The command line ------------------------------------------------------------------------------------------------
def test_commands_compare(tmp_path, capsys):
    from im2colnet.cli import main

    made = linear_trainer()
    made.fit(Dataset(standardised(), LABELS, classes=("cat", "dog")), 1, 10, progress=False)
    made.save(tmp_path / "net.safetensors")
    np.save(tmp_path / "good.npy", standardised()[:2])
    np.save(tmp_path / "photo.npy", PIXELS[0])
    np.savez(tmp_path / "data.npz", images=GREY, labels=LABELS)
    np.savez(tmp_path / "right.npz", images=standardised()[:, 0], labels=LABELS)
    net = str(tmp_path / "net.safetensors")
    files = [str(tmp_path / name) for name in ("photo.npy", "good.npy", "missing.npy")]
    assert main(["predict", net, *files]) == 1
    out, err = capsys.readouterr()
    assert "cat" in out
    assert out.count("good.npy[") == 2
    assert [line.split(":")[2].strip() for line in err.splitlines()] == [files[0], files[2]]
    assert "trained on floating-point numbers" in err
    assert main(["evaluate", net, "--data", str(tmp_path / "data.npz")]) == 1
    assert "trained on floating-point numbers" in capsys.readouterr().err
    assert main(["evaluate", net, "--data", str(tmp_path / "right.npz")]) == 0
    assert "dog" in capsys.readouterr().out


def test_warnings_are_one_line(tmp_path, capsys):
    from im2colnet.cli import main

    images = np.repeat(np.repeat(PIXELS, 3, 2), 3, 3)
    np.savez(tmp_path / "data.npz", images=images * 1.0, labels=LABELS + 1)
    main(
        [
            "train",
            "--data",
            str(tmp_path / "data.npz"),
            "--model",
            "notebook",
            "--epochs",
            "1",
            "--out",
            str(tmp_path / "out"),
        ]
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert [line.partition("warning: ")[2].split()[0] for line in lines] == ["images", "class"]
