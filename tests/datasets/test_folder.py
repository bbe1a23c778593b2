"""Folders of pictures and CSV files as data sets: what is read, in what order, and what is said of the rest."""

import hashlib
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.datasets import from_csv, from_folder, load, pictures
from im2colnet.datasets.folder import chosen_side, held_out
from im2colnet.errors import DataError, InputWarning, ShapeError

Image = pytest.importorskip("PIL.Image")
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is written into the user's cache."""
    monkeypatch.setenv("IM2COLNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path, value=0, size=(8, 8), mode="RGB"):
    """Write a picture (width, height) of one colour, or one of random pixels if the value is None."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    else:
        Image.new("RGB", size, (value, value, value)).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes with 5, 10 and 15 pictures, each of its own grey value."""
    root, value = tmp_path / "my pictures", 0
    for name, count in (("zebra", 5), ("Äpfel & <b>", 10), ("a b", 15)):
        for number in range(count):
            picture(root / name / f"{number:02}.png", value)
            value += 8
    return root


def test_every_picture_has_its_class(folder):
    train, test = from_folder(folder, size=8, **QUIET)
    assert train.classes == test.classes == ("a b", "zebra", "Äpfel & <b>")  # by their code points
    assert train.name == "my pictures"
    assert np.bincount(train.labels).tolist() == [12, 4, 8]
    assert np.bincount(test.labels).tolist() == [3, 1, 2]
    assert len({*train.files, *test.files}) == 30
    for data in (train, test):
        assert data.images.shape[1:] == (3, 8, 8)
        for image, label, file in zip(data.images, data.labels, data.files, strict=True):
            with Image.open(folder / file) as original:
                np.testing.assert_array_equal(image, np.asarray(original).transpose(2, 0, 1))
            assert Path(file).parts[0] == data.classes[label]
        assert list(data.files) == sorted(data.files)


def test_slices_carry_their_files(folder):
    train, _ = from_folder(folder, size=8, **QUIET)
    assert train[2:4].files == train.files[2:4]
    assert train[[5, 0]].files == (train.files[5], train.files[0])
    assert train[train.labels == 1].files == tuple(f for f in train.files if f.startswith("zebra"))
    with pytest.raises(ShapeError, match="2 files for 3 images"):
        ic.Dataset(np.zeros((3, 1, 2, 2)), np.zeros(3, int), files=("a", "b"))


# What is held out ---------------------------------------------------------------------------------------------------


def test_the_split_depends_on_the_seed_and_on_names(folder):
    first, again, other = (from_folder(folder, size=8, seed=seed, **QUIET)[1].files for seed in (0, 0, 1))
    assert first == again != other
    everything, nothing = from_folder(folder, size=8, split=0, **QUIET)
    assert nothing is None
    assert len(everything) == 30


def test_a_further_picture_moves_few_others(folder):
    before = {*from_folder(folder, size=8, **QUIET)[1].files}
    picture(folder / "a b" / "more.png")
    after = {*from_folder(folder, size=8, **QUIET)[1].files}
    assert len(before ^ after) <= 2


def test_a_class_of_one_picture_stays_in_the_training_set(folder):
    picture(folder / "one" / "only.png")
    train, test = from_folder(folder, size=8, **QUIET)
    one = train.classes.index("one")
    assert (train.labels == one).sum() == 1
    assert not (test.labels == one).any()


def test_too_few_to_hold_any_out(tmp_path):
    for name in "ab":
        picture(tmp_path / "two" / name / "1.png")
    with pytest.raises(DataError, match="2 pictures are too few to hold 20% of them out"):
        from_folder(tmp_path / "two", **QUIET)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "test"), ("train", "test")),
        (("Training", "validation"), ("Training", "validation")),
        (("train", "val", "test"), ("train", "test")),
    ],
)
def test_folders_for_training_and_testing(tmp_path, parts, expected):
    for part in parts:
        for name in "ab":
            picture(tmp_path / "set" / part / name / f"{part}.png")
    train, test = from_folder(tmp_path / "set", **QUIET)
    assert train.files == tuple(os.path.join(expected[0], name, f"{expected[0]}.png") for name in "ab")
    assert test.files == tuple(os.path.join(expected[1], name, f"{expected[1]}.png") for name in "ab")


def test_only_a_training_folder_is_divided(tmp_path):
    for name in "ab":
        for number in range(5):
            picture(tmp_path / "set" / "train" / name / f"{number}.png")
    train, test = from_folder(tmp_path / "set", **QUIET)
    assert (len(train), len(test)) == (8, 2)


def test_classes_may_be_called_train_and_test(tmp_path):
    for name in ("train", "test", "bus"):
        for number in range(5):
            picture(tmp_path / "set" / name / f"{number}.png")
    assert from_folder(tmp_path / "set", **QUIET)[0].classes == ("bus", "test", "train")


def test_a_class_that_only_the_test_set_has(tmp_path):
    for part, names in (("train", "ab"), ("test", "abc")):
        for name in names:
            picture(tmp_path / "set" / part / name / "1.png")
    with pytest.raises(
        DataError, match=r"test.c.1.png is of the class 'c', which is none of the classes of the training set"
    ):
        from_folder(tmp_path / "set", **QUIET)


def test_classes_in_a_given_order(folder):
    given = ("zebra", "other", "a b", "Äpfel & <b>")
    data, _ = from_folder(folder, size=8, split=0, classes=given, **QUIET)
    assert data.classes == given
    assert np.bincount(data.labels, minlength=4).tolist() == [5, 0, 15, 10]
    with pytest.raises(DataError, match="class 'a b', which is none of the classes that were given"):
        from_folder(folder, size=8, classes=("zebra", "x"), **QUIET)


# Files that are no pictures -----------------------------------------------------------------------------------------


def test_unreadable_files_are_named_and_left_out(folder):
    (folder / "a b" / "text.png").write_text("no picture")
    (folder / "a b" / "empty.jpg").write_bytes(b"")
    whole = (folder / "a b" / "00.png").read_bytes()
    picture(folder / "a b" / "cut.png", None, (64, 64))
    (folder / "a b" / "cut.png").write_bytes((folder / "a b" / "cut.png").read_bytes()[:2000])
    for number in range(4):
        (folder / "zebra" / f"more\n{number}.txt").write_bytes(b"text")
    with pytest.warns(InputWarning, match="my pictures: 7 files cannot be read and are left out: ") as caught:
        train, test = from_folder(folder, size=8, **QUIET)
    text = str(caught[0].message)
    for name, reason in (("cut.png", "truncated"), ("empty.jpg", "empty"), ("text.png", "none of BMP, GIF, JPEG")):
        assert f"{name} (" in text
        assert reason in text
    assert "and 2 more" in text
    assert "\n" not in text
    assert len(train) + len(test) == 30
    assert whole == (folder / "a b" / "00.png").read_bytes()


def test_hidden_files_and_litter_are_passed_over(folder):
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / "a b" / name).write_bytes(b"x")
        (folder / name).write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(from_folder(folder, size=8, split=0, **QUIET)[0]) == 30


def test_what_is_beside_the_classes_is_said(folder):
    picture(folder / "loose.png")
    (folder / "leer").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "about.txt").write_text("no picture")
    with pytest.warns(InputWarning) as caught:
        data, _ = from_folder(folder, size=8, **QUIET)
    texts = [str(each.message) for each in caught]
    assert "1 picture beside the folders of the classes has no class and is not read, such as loose.png" in texts[1]
    assert "2 folders without pictures, which are no class: leer, notes" in texts[0]
    assert not {"leer", "notes"} & {*data.classes}


def test_a_class_of_which_nothing_can_be_read_is_an_error(folder):
    for file in (folder / "zebra").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no picture of the class 'zebra' can be read: zebra.00.png"):
        from_folder(folder, size=8, **QUIET)


@pytest.mark.parametrize("given", [{}, {"size": 8}, {"size": 8, "color": "rgb"}])
def test_nothing_can_be_read(tmp_path, given):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"set: none of 2 \w+ can be read.*none of BMP"):
        from_folder(tmp_path / "set", **given, **QUIET)


def test_folders_that_cannot_be_meant(tmp_path):
    for make, message in (
        (lambda at: None, "there is no such folder"),
        (lambda at: at.write_bytes(b""), "give a folder, or the name of a .csv or .npz file"),
        (lambda at: at.mkdir(), "has no pictures: it must have a folder for each class"),
        (lambda at: picture(at / "1.png"), "has 1 picture but no folder with pictures"),
        (lambda at: picture(at / "inner" / "a" / "1.png"), "only one class, inner.*are the classes in .*inner"),
    ):
        at = tmp_path / str(len(list(tmp_path.iterdir())))
        make(at)
        with pytest.raises(DataError, match=message):
            from_folder(at, **QUIET)


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="no links")
def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    picture(tmp_path / "elsewhere" / "x.png")
    os.symlink(tmp_path / "elsewhere", folder / "zebra" / "linked")
    os.symlink(folder, folder / "zebra" / "circle")
    os.symlink(folder / "zebra", folder / "zebra" / "self")
    os.symlink(tmp_path / "nowhere.png", folder / "zebra" / "broken.png")
    with pytest.warns(InputWarning, match="1 file cannot be read and is left out: zebra.broken.png .there is no such"):
        data, _ = from_folder(folder, size=8, split=0, **QUIET)
    zebras = [file for file in data.files if file.startswith("zebra")]
    assert len(data) == 31
    assert os.path.join("zebra", "linked", "x.png") in zebras


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": (8, 8, 3)}, "size must be a number of pixels or"),
        ({"color": "blue"}, "color must be one of grey, rgb, rgba"),
        ({"split": 1}, "split must be the part"),
        ({"split": -0.1}, "split must be"),
        ({"seed": -1}, "seed must"),
        ({"keep": "tape"}, "keep must be one of"),
    ],
)
def test_wrong_arguments(folder, given, message):
    with pytest.raises(ShapeError, match=message):
        from_folder(folder, **given)


# Size and colour ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "side"),
    [([28, 28, 28, 30], 28), ([8], 8), ([500, 600], 64), ([40, 41, 45], 40), ([30, 33, 36], 32), ([3, 9, 5], 5)],
)
def test_the_side_that_is_chosen(sides, side):
    assert chosen_side(sides) == side


def test_size_and_colour_are_chosen_and_said(tmp_path, capsys):
    for name, size in (("a", (30, 20)), ("b", (20, 40))):
        for number in range(3):
            picture(tmp_path / "set" / name / f"{number}.png", size=size, mode="L" if number else "P")
    grey, _ = from_folder(tmp_path / "set", split=0)
    assert grey.images.shape == (6, 1, 20, 20)
    said = capsys.readouterr().err
    assert (
        "set: 6 pictures, read as grey images of 20×20 pixels (they have 20×30 to 40×20); give size and color" in said
    )
    picture(tmp_path / "set" / "a" / "colours.png", None, (30, 20))
    colours, _ = from_folder(tmp_path / "set", split=0, **QUIET)
    assert colours.images.shape == (7, 3, 20, 20)
    assert not capsys.readouterr().err
    four, _ = from_folder(tmp_path / "set", size=(10, 12), color="rgba", split=0)
    assert four.images.shape == (7, 4, 10, 12)
    assert not capsys.readouterr().err  # nothing was chosen
    assert from_folder(tmp_path / "set", color="gray", split=0, **QUIET)[0].images.shape[1] == 1


def test_the_middle_is_scaled(tmp_path):
    """The short side fits, as much is cropped on either side; each pixel is the mean of a square of four."""
    for name, turned in (("a", False), ("b", True)):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 20), np.uint8)
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(pixels.T if turned else pixels).save(tmp_path / "set" / name / "1.png")
    data, _ = from_folder(tmp_path / "set", size=4, split=0, **QUIET)
    middle = pixels[:, 6:14].astype(float).reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(data.images[0, 0], middle, atol=1)
    np.testing.assert_allclose(data.images[1, 0], middle.T, atol=1)
    wide, _ = from_folder(tmp_path / "set", size=(2, 5), split=0, **QUIET)
    np.testing.assert_allclose(wide.images[0, 0], pixels.astype(float).reshape(2, 4, 5, 4).mean(axis=(1, 3)), atol=1)


def test_a_picture_on_its_side_is_turned_before_it_is_measured(tmp_path):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        tag = Image.new("L", (1, 1)).getexif()
        tag[274] = 6
        Image.new("RGB", (12, 40)).save(tmp_path / "set" / name / "1.jpg", exif=tag)
    from im2colnet.datasets.images import picture_facts

    assert picture_facts(tmp_path / "set" / "a" / "1.jpg") == ((12, 40), False)


def test_large_photographs_look_the_same_at_a_fraction_of_the_work(tmp_path):
    """A JPEG file is decoded at an eighth of its size, so the edges of the squares lie within four pixels."""
    from im2colnet.datasets.images import read_picture

    y, x = np.mgrid[:600, :900]
    smooth = np.stack([127 + 120 * np.sin(x / 150), 127 + 120 * np.cos(y / 90), (x + y) / 6], axis=2)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    expected = smooth[:, 150:750].reshape(12, 50, 12, 50, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg", (3, 12, 12)), expected, atol=4 * 120 / 90 + 1)


# Where the images are kept -----------------------------------------------------------------------------------------


def bits(data):
    return np.asarray(data.images).tobytes(), data.labels.tobytes(), data.files, data.classes


@pytest.fixture
def mixed(folder):
    """Pictures of several sizes and modes, one of them damaged."""
    for number, mode in enumerate(("L", "RGB", "P", "RGBA", "1", "LA")):
        picture(folder / "zebra" / f"{mode}.png", None, (9 + number, 12), mode)
    (folder / "a b" / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.mark.filterwarnings("ignore::im2colnet.InputWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bits_wherever_they_are_kept(mixed, threads):
    with ic.num_threads(threads):
        wanted = [bits(data) for data in from_folder(mixed, size=8, keep="memory", **QUIET)]
        for keep in ("disk", "disk", "none", "none", "auto"):
            found = from_folder(mixed, size=8, keep=keep, **QUIET)
            assert [bits(data) for data in found] == wanted
            assert isinstance(found[0].images, np.ndarray) == (keep == "auto")


@pytest.mark.filterwarnings("ignore::im2colnet.InputWarning")
def test_a_training_has_the_same_bits_wherever_they_are_kept(mixed, tmp_path):
    def trained(keep):
        train, test = from_folder(mixed, size=8, keep=keep, **QUIET)
        layers = [ic.Conv2d(3, 4, 3), ic.BatchNorm2d(4), ic.ReLU(), ic.Flatten(), ic.Linear(144, 3)]
        trainer = ic.Trainer(ic.Sequential(layers), seed=0)
        history = trainer.fit(train, 2, batch_size=8, validation=test, progress=False)
        trainer.save(tmp_path / "c.safetensors")
        arrays = {name: array.tobytes() for name, array in trainer.net.state_dict().items()}
        return arrays, history[-1]["validation_loss"], trainer.net.inputs, trainer.net.predict(test.images).tobytes()

    assert trained("memory") == trained("disk") == trained("none")


class StopAfter(ic.Callback):
    """Ends a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def start(self, trainer):
        self.trainer = trainer

    def step(self, progress):
        if self.trainer.steps == self.steps:
            self.trainer.stop("enough")


@pytest.mark.filterwarnings("ignore::im2colnet.InputWarning")
@pytest.mark.parametrize("steps", [2, 5])
def test_an_interrupted_training_goes_on_however_the_images_are_kept(mixed, tmp_path, steps):
    def fit(trainer, keep, *callbacks):
        train, test = from_folder(mixed, size=8, keep=keep, **QUIET)
        flip = [ic.transforms.RandomHorizontalFlip()]
        trainer.fit(train, 2, 8, validation=test, progress=False, augment=flip, callbacks=callbacks)
        return {name: array.tobytes() for name, array in trainer.net.state_dict().items()}, trainer.history["loss"]

    def made():
        return ic.Trainer(ic.Sequential([ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(144, 3)]), seed=0)

    stopped = made()
    fit(stopped, "none", StopAfter(steps))
    stopped.save(tmp_path / "c.safetensors")
    assert stopped.steps == steps
    assert fit(ic.Trainer.load(tmp_path / "c.safetensors"), "disk") == fit(made(), "memory")


def test_the_cache_is_used_as_long_as_the_pictures_are_the_same(folder, cache, monkeypatch):
    decoded = []
    read = pictures.read_picture
    monkeypatch.setattr(pictures, "read_picture", lambda *args: decoded.append(args) or read(*args))

    def again(size=8):
        decoded.clear()
        data, _ = from_folder(folder, size=size, color="rgb", keep="disk", split=0, **QUIET)
        return np.asarray(data.images), len(decoded)

    first, count = again()
    assert count == 30
    second, count = again()
    assert count == 0
    np.testing.assert_array_equal(first, second)
    assert again(4)[1] == 30
    assert again()[1] == again(4)[1] == 0  # both sizes are kept
    picture(folder / "zebra" / "00.png", 255)
    os.utime(folder / "zebra" / "00.png", ns=(1, 1))
    changed, count = again()
    assert count == 30
    assert len(list(cache.glob("*.npy"))) == 2  # what was outdated is removed
    assert changed.max() == 255 > first.max()


def test_a_cache_that_exists_needs_no_room(folder, monkeypatch):
    monkeypatch.setattr(pictures, "available_memory", lambda: 0)

    def source(free):
        monkeypatch.setattr(pictures.Cache, "room", lambda cache: free)
        return type(from_folder(folder, size=8, **QUIET)[0].images.source)

    with pytest.warns(InputWarning, match=r"5\.62 KiB of decoded images do not fit .* set IM2COLNET_CACHE"):
        assert source(0) is pictures.Pictures
    assert [source(10**6), source(0)] == [pictures.ArrayFile, pictures.ArrayFile]


@pytest.mark.skipif(os.name == "nt", reason="names cannot have these characters")
def test_names_are_data(tmp_path):
    """A line break or a change of colour in a name reaches no terminal, and files are found all the same."""
    root = tmp_path / "\x1b[31mred"
    for name in ("a\nb", "=1+1", "[bold]"):
        for number in range(5):
            picture(root / name / f"\x07{number}.png")
    (root / "a\nb" / "bad\x1b.png").write_bytes(b"no picture")
    with pytest.warns(InputWarning) as caught:
        train, test = from_folder(root, size=8, **QUIET)
    assert str(caught[0].message).isprintable()
    assert train.name == r"\x1b[31mred"
    assert train.classes == ("=1+1", "[bold]", "a\nb")
    assert all((root / file).exists() for file in (*train.files, *test.files))


@pytest.mark.parametrize("damage", ["cut array", "other array", "no array", "cut index", "other index", "nonsense"])
def test_a_damaged_cache_is_not_used(folder, cache, damage):
    def read():
        return bits(from_folder(folder, size=8, keep="disk", **QUIET)[0])

    wanted = read()
    (array,), (index,) = cache.glob("*.npy"), cache.glob("*.json")
    if damage == "cut array":
        array.write_bytes(array.read_bytes()[:-1])
    elif damage == "other array":
        array.write_bytes(b"x" * array.stat().st_size)
    elif damage == "no array":
        array.unlink()
    elif damage == "cut index":
        index.write_bytes(index.read_bytes()[:-9])
    elif damage == "other index":
        index.write_text('{"digest": 3}')
    else:
        index.write_text(index.read_text().replace('"failed": {}', '"failed": {"-1": "x"}'))
    assert read() == wanted


def test_a_half_written_cache_leaves_nothing(folder, cache, monkeypatch):
    real, seen = pictures.read_picture, []

    def interrupted(*args):
        seen.append(args)
        if len(seen) > 20:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(pictures, "read_picture", interrupted)
    with pytest.raises(KeyboardInterrupt), ic.num_threads(1):
        from_folder(folder, size=8, keep="disk", **QUIET)
    assert not list(cache.iterdir())


@pytest.mark.filterwarnings("ignore::im2colnet.InputWarning")
@pytest.mark.parametrize("place", ["a file", "no home"])
def test_no_place_for_a_cache(folder, tmp_path, monkeypatch, place):
    if place == "a file":
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("IM2COLNET_CACHE", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.delenv("IM2COLNET_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path))
        monkeypatch.chdir(tmp_path)
    train, _ = from_folder(folder, size=8, keep="disk", **QUIET)
    assert bits(train) == bits(from_folder(folder, size=8, keep="memory", **QUIET)[0])
    assert isinstance(train.images.source, pictures.Pictures)


def test_reading_without_the_system_s_call(mixed, monkeypatch):
    """As on Windows, which has none that reads at a position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        train, _ = from_folder(mixed, size=8, keep="disk", **QUIET)
    wanted, order = np.asarray(train.images), np.random.default_rng(0).permutation(len(train))
    monkeypatch.delattr(os, "preadv", raising=False)
    np.testing.assert_array_equal(np.asarray(train.images), wanted)
    np.testing.assert_array_equal(train.images[order], wanted[order])


def test_what_a_killed_process_left_is_removed(folder, cache):
    cache.mkdir()
    for name, age in ((".im2colnet-0-0-1-0.tmp", 10**6), (".im2colnet-0-0-2-0.tmp", 10)):
        (cache / name).write_bytes(b"")
        os.utime(cache / name, (time.time() - age,) * 2)
    from_folder(folder, size=8, keep="disk", **QUIET)
    assert [path.name for path in cache.glob(".*")] == [".im2colnet-0-0-2-0.tmp"]


def test_how_far_a_long_decoding_is(folder, capsys, monkeypatch):
    clock = iter(range(0, 100_000, 40))
    monkeypatch.setattr("im2colnet.show.counter.time.monotonic", lambda: next(clock))
    from_folder(folder, size=8, keep="memory")
    assert "30 of 30 pictures, " in capsys.readouterr().err


def test_what_vanishes_while_it_is_used_is_named(folder):
    train, _ = from_folder(folder, size=8, keep="none", **QUIET)
    (folder / train.files[3]).unlink()
    with pytest.raises(DataError, match=r"there is no such file"):
        train.images[2:5]
    kept, _ = from_folder(folder, size=8, keep="disk", split=0, **QUIET)
    path = kept.images.source.path
    os.truncate(path, os.path.getsize(path) - 200)
    kept.images[:5]
    with pytest.raises(DataError, match="was shortened while it was in use"):
        kept.images[-5:]


def test_the_split_is_the_same_on_every_system_and_for_ever():
    data = ic.Dataset(np.zeros((9, 1, 1, 1)), np.arange(9) % 3, files=tuple(os.path.join("a", c) for c in "abcdefghi"))
    keys = [hashlib.blake2b(f"7/a/{c}".encode(), digest_size=8).digest()[::-1] for c in "abcdefghi"]
    wanted = {min(range(first, 9, 3), key=keys.__getitem__) for first in range(3)}
    assert {*held_out(data, 0.34, 7)[1].files} == {data.files[place] for place in wanted}


def test_keys_of_the_split_are_the_files_names():
    data = ic.Dataset(np.zeros((6, 1, 1, 1)), np.zeros(6, int), files=tuple("abcdef"))
    reverse = data[::-1]
    assert {*held_out(data, 0.5, 7)[1].files} == {*held_out(reverse, 0.5, 7)[1].files}


# CSV files ----------------------------------------------------------------------------------------------------------


def rows(folder):
    return [(f"{name}/{number:02}.png", name) for name, count in (("zebra", 5), ("a b", 15)) for number in range(count)]


@pytest.mark.parametrize(
    ("header", "line", "encoding"),
    [
        ("file,label\n", "{0},{1}\n", "utf-8"),
        ("", "{0},{1}\n", "utf-8-sig"),
        ("id;class;path\r\n", '7;"{1}";"{0}"\r\n', "utf-8"),
        ("label\tFile name\tnotes\n", "{1}\t{0}\tx, y\n", "utf-16"),
        ("", "{1},{0}\n\n", "utf-8"),
    ],
)
def test_csv_files(folder, header, line, encoding):
    text = header + "".join(line.format(*row) for row in rows(folder))
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    data, _ = from_csv(folder / "labels.csv", size=8, split=0, **QUIET)
    assert [(file, data.classes[label]) for file, label in zip(data.files, data.labels, strict=True)] == rows(folder)
    assert data.classes == ("a b", "zebra")
    again = load("labels.csv", folder, size=8, split=0, progress=False)[0]
    assert bits(again) == bits(data)


def test_numbers_in_a_csv_file_are_classes_in_their_order(folder):
    (folder / "l.csv").write_text("".join(f"{file},{9 + i % 3}\n" for i, (file, _) in enumerate(rows(folder))))
    data, _ = from_csv(folder / "l.csv", size=8, split=0, **QUIET)
    assert data.classes == ("9", "10", "11")
    assert data.labels[:4].tolist() == [0, 1, 2, 0]


def test_targets_in_a_csv_file(folder):
    text = "name,x,y\n" + "".join(f"{file},{i},{i / 8}\n" for i, (file, _) in enumerate(rows(folder)))
    (folder / "l.csv").write_text(text)
    train, test = from_csv(folder / "l.csv", size=8, targets=True, **QUIET)
    assert (len(train), len(test), train.classes) == (16, 4, ())
    for data in (train, test):
        places = [[file for file, _ in rows(folder)].index(file) for file in data.files]
        np.testing.assert_array_equal(data.labels, np.array([[i, i / 8] for i in places], np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no file"),
        (b"file,label\n", "names no file"),
        (b"zebra/00.png\nzebra/01.png\n", "only one column"),
        (b"file,label\nzebra/00.png,a\nzebra/01.png,b,c\n", "line 3 has 3 columns, the first line 2"),
        (b"file,label\nzebra/00.png,\n", "line 2 has no label"),
        (b"file,label\n,a\n", "line 2 names no file"),
        (b'file,label\n"zebra/00.png,a\n', "line [23] is no line of a CSV file"),
        (b"file,label\n\xff\xe9,a\n", "is no text in UTF-8"),
        (b"file,la\rbel\nzebra/00.png,a\n", "line 2 has 1 columns, the first line 2"),
        (b"file,label\nzebra/00.png,a\nzebra/01.png,a\n", "all pictures are of the class a"),
        (b"file,label\nno.png,a\nnot.png,b\n", "none of 2 files can be read.*there is no such file"),
        (b"file,label\nzebra/00.png,a\nnot.png,b\n", "no picture of the class 'b' can be read: not.png"),
    ],
)
def test_wrong_csv_files(folder, content, message):
    (folder / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        from_csv(folder / "l.csv", **QUIET)


@pytest.mark.parametrize(("cell", "message"), [("x", "line 2: targets must be numbers"), ("nan", "line 2: .* finite")])
def test_targets_are_numbers(folder, cell, message):
    (folder / "l.csv").write_text(f"file,y\nzebra/00.png,{cell}\n")
    with pytest.raises(DataError, match=message):
        from_csv(folder / "l.csv", targets=True, **QUIET)


# By name ------------------------------------------------------------------------------------------------------------


def test_load_takes_folders(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    whole = from_folder(folder, size=8, seed=3, split=0.5, **QUIET)
    for found in (
        load(folder, size=8, seed=3, split=0.5, progress=False),
        load("my pictures", size=8, seed=3, split=0.5, progress=False),
        load("my pictures", folder.parent, size=8, seed=3, split=0.5, progress=False),
    ):
        assert [bits(data) for data in found] == [bits(data) for data in whole]


def test_options_are_only_for_pictures():
    with pytest.raises(DataError, match=r"size is only for pictures in a folder or a .csv file, not .* digits"):
        load("digits", size=8)
