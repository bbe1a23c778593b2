"""A network that normalises its images computes what the same network does of images that were normalised before."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import strict_cupy
from helpers import assert_same_bits, batches, workers

import im2colnet as ic
from im2colnet.backend import Backend
from im2colnet.datasets.inputs import channel_statistics
from im2colnet.training import checkpoint

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHVISION = np.load(Path(__file__).parents[1] / "reference/torchvision_transforms.npz")
batch = batches((3, 8, 8), classes=4, n=20, pixels=True)


def network(channels=3):
    return ic.Sequential(
        [ic.Conv2d(channels, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), ic.GlobalAvgPool2d(), ic.Flatten(),
         ic.Linear(4, 4)]
    )  # fmt: skip


def normalized(images, normalization=IMAGENET):
    scaled = images / 255 if images.dtype == np.uint8 else images.astype(np.float64)
    mean, std = (np.reshape(each, (1, -1, *[1] * (images.ndim - 2))) for each in normalization)
    return ((scaled - mean) / std).astype("float64" if images.dtype == "float64" else "float32")


class Textbook(Backend):
    """The contract alone, on NumPy."""

    name = "textbook"
    xp = np


@pytest.mark.parametrize("backend", [None, Textbook()], ids=["numpy", "textbook"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_predictions_and_evaluations(dtype, backend):
    images, labels = batch(dtype=dtype)
    net, plain = (network().init(1, "float64", backend) for _ in range(2))
    net.normalization = IMAGENET
    for given in (images, images[:1], np.asfortranarray(images)):
        assert np.allclose(net.predict(given), plain.predict(normalized(given).astype("float64")), atol=1e-6)
    one, other = (ic.Trainer(each).evaluate(data) for each, data in (
        (net, (images, labels)), (plain, (normalized(images).astype("float64"), labels))
    ))  # fmt: skip
    assert one == pytest.approx(other, rel=1e-5)
    assert net.predict(images[:0]).shape == (0, 4)


@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 1e-2)])
def test_precisions_of_a_gpu(precision, near):
    """In 16 bits images are normalised before they are rounded: these differ by less than float16 tells apart."""
    images, labels = batch(dtype="float32")
    images = 1000 + images / 10
    far = (tuple(images.mean(axis=(0, 2, 3)).tolist()), (0.03,) * 3)
    losses = []
    for backend in (None, strict_cupy.cupy_backend()):
        net = network().init(1, backend=backend)
        net.normalization = far
        trainer = ic.Trainer(net, precision=precision if backend else None)
        losses.append([trainer.step(images, labels) for _ in range(3)])
    assert np.allclose(*losses, rtol=near)


def test_it_is_torchvision_s():
    """A network that passes images on gives torchvision's numbers."""
    net = ic.Sequential([ic.Flatten()]).init(0, "float64")
    net.normalization = IMAGENET
    assert np.abs(net.predict(TORCHVISION["images"]) - TORCHVISION["normalized"].reshape(4, -1)).max() < 1e-6


def test_training():
    images, labels = batch()
    found = []
    for given in (images, normalized(images)):
        net = network().init(2)
        net.normalization = IMAGENET if given is images else None
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.05))
        found.append([trainer.step(given, labels) for _ in range(4)])
    assert np.allclose(*found, rtol=1e-5)
    assert found[0][-1] < found[0][0]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_heed_each_change(kind):
    """Forked workers have what was set when they were forked, so others take their places."""
    results = []
    images, labels = batch()
    for number in (1, 2):
        with workers(number, kind):
            net = network().init(3)
            trainer, found = ic.Trainer(net), {}
            for i, normalization in enumerate([None, IMAGENET, ((0.5,) * 3, (0.25,) * 3), None]):
                net.normalization = normalization
                found[f"loss {i}"] = [trainer.step(images, labels) for _ in range(4)]
                found[f"prediction {i}"] = [net.predict(images) for _ in range(4)]
            results.append(found)
    for name, value in results[0].items():
        assert_same_bits(np.array(results[1][name]), np.array(value))
        assert name == "loss 0" or len(np.unique(value)) > 1


@pytest.mark.usefixtures("one_thread")
def test_one_large_image_in_bands():
    net = ic.Sequential([ic.Conv2d(3, 16, 3, padding=1), ic.ReLU(), ic.Conv2d(16, 8, 3, padding=1)]).init(0)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 160, 160), dtype=np.uint8)
    plain = net.predict(normalized(image))
    net.normalization = IMAGENET
    for threads in (1, 2):
        ic.set_num_threads(threads)
        for _ in range(4):
            assert np.abs(net.predict(image) - plain).max() < 1e-5


@pytest.mark.parametrize("shape", [(500, 3, 7, 5), (5000, 2, 16, 16), (40, 6), (60, 3, 11), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", ">f4"])
def test_measured_statistics(shape, dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape).astype("uint8")
    images = images if dtype == "uint8" else (1000 + images / 100).astype(dtype)
    mean, std = channel_statistics(images)
    numbers = np.moveaxis(images.astype(np.float64), 1, 0).reshape(shape[1], -1) / (255 if dtype == "uint8" else 1)
    wanted = numbers.std(axis=1)
    assert np.allclose(mean, numbers.mean(axis=1), rtol=1e-6)
    assert np.allclose(std, np.where(wanted > 0, wanted, 1), rtol=1e-6)
    assert ic.Sequential([ic.Flatten()]).normalization is None


def test_a_constant_channel_is_not_scaled():
    images = np.random.default_rng(0).random((300, 3, 4, 4))
    images[:, 1] = 0.1
    mean, std = channel_statistics(images)
    assert std[1] == 1
    assert mean[1] == np.float32(0.1)


def test_fit_measures_it_once(tmp_path, recwarn):
    images, labels = batch()
    trainer = ic.Trainer(network())
    trainer.fit((images, labels), 1, normalize=True)
    measured = trainer.net.normalization
    assert measured == channel_statistics(images)
    trainer.fit((images // 2, labels), 2, normalize=True)
    trainer.fit((images // 2, labels), 3)
    assert trainer.net.normalization == measured
    bright = ic.Trainer(network())
    bright.fit((images.astype("float32"), labels), 1, normalize=True)  # no warning of images that reach 255
    done = ic.Trainer(network())
    done.fit((images, labels), 1)
    done.fit((images, labels), 1, normalize=True)  # no epoch is left
    assert done.net.normalization is None


def test_checkpoints(tmp_path):
    images, labels = batch()
    trainer = ic.Trainer(network())
    trainer.save(tmp_path / "old")
    assert checkpoint.read(tmp_path / "old")[1]["format"] == 1
    trainer.fit((images, labels), 1, normalize=True)
    trainer.save(tmp_path / "new")
    # versions that know no normalisation read format 1 alone
    assert checkpoint.read(tmp_path / "new")[1]["format"] == 2
    loaded, other = ic.Trainer.load(tmp_path / "new"), network().init(5)
    other.normalization = IMAGENET
    assert ic.Trainer.load(tmp_path / "old", other).net.normalization is None
    for net in (loaded.net, ic.Trainer.load(tmp_path / "new", network().init(6)).net):
        assert net.normalization == trainer.net.normalization
        assert_same_bits(net.predict(images), trainer.net.predict(images))
    for again in (trainer, loaded):
        again.fit((images, labels), 3)
    assert_same_bits(loaded.net.state_dict(), trainer.net.state_dict())


@pytest.mark.parametrize(
    "damage",
    [
        lambda info: info.update(normalization=[[1, 2, 3], [1, 0, 1]]),
        lambda info: info.update(normalization="mean"),
        lambda info: info.update(normalization=[[1], [1]], input_shape=[3, 8, 8]),
        lambda info: info.update(normalization=None),  # of format 2
    ],
)
def test_damaged_checkpoints(damage, tmp_path):
    trainer = ic.Trainer(network())
    trainer.net.normalization = IMAGENET
    trainer.save(tmp_path / "x")
    tensors, information = checkpoint.read(tmp_path / "x")
    damage(information)
    del information["crc32"]
    content, _ = checkpoint.encode(tensors, information)
    (tmp_path / "y").write_bytes(content)
    with pytest.raises(ic.CheckpointError, match=r"normalization|has format 2, this version reads 1"):
        ic.Trainer.load(tmp_path / "y")


def test_copies():
    images, _ = batch()
    net = network().init(0)
    net.normalization = IMAGENET
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.normalization == IMAGENET
        assert_same_bits(other.predict(images), net.predict(images))
        other.normalization = None
    assert net.normalization == IMAGENET


def test_it_is_no_parameter():
    net, other = network(), network().init(1)
    net.normalization = IMAGENET
    net.init(0)  # the first parameters
    assert net.normalization == IMAGENET
    assert not any("norm" in name for name in net.state_dict())
    other.load_state_dict(net.state_dict())
    assert other.normalization is None
    assert net.init(1).normalization is None  # new parameters in place of old ones


def test_the_summary_shows_it():
    net = network()
    assert "normalised" not in net.summary((3, 8, 8))
    net.normalization = IMAGENET
    first = net.summary((3, 8, 8)).partition("\n")[0]
    assert first == (
        "input (1, 3, 8, 8), normalized by mean 0.485, 0.456, 0.406, standard deviation 0.229, 0.224, 0.225"
    )
    assert net.summary_facts((3, 8, 8), 1)["normalization"] == [list(each) for each in IMAGENET]


def test_a_network_within_a_network_says_so():
    inner = network().init(0)
    inner.normalization = IMAGENET
    with pytest.warns(
        ic.InputWarning, match=r"a Sequential within this network has a normalization .*net.normalization = "
    ):
        outer = ic.Sequential([inner, ic.ReLU()]).init(0)
    assert outer.normalization is None
    told = ic.Sequential([inner, ic.ReLU()])
    told.normalization = IMAGENET
    told.init(0)


@pytest.mark.parametrize(
    "wrong",
    [
        "mean", 3, (), ((1, 2), (1,)), ((1,), (0,)), ((1,), (-1,)), ((np.nan,), (1,)), ((1,), (np.inf,)), (["a"], [1]),
        ((), ()), ((1,),), ((True,), (1,)), (1, 2),
    ],
)  # fmt: skip
def test_wrong_pairs(wrong):
    net = network()
    with pytest.raises(ic.ShapeError, match="normalization must be None or a pair"):
        net.normalization = wrong


def test_other_channels():
    images, labels = batch()
    net = network().init(0)
    net.normalization = ((0.5,), (0.5,))
    for call in (net.predict, lambda x: ic.Trainer(net).step(x, labels), lambda x: ic.Trainer(net).fit((x, labels), 1)):
        with pytest.raises(ic.ShapeError, match=r"the images have 3 channels .*, but net.normalization has 1 means"):
            call(images)
    net.normalization = None
    net.predict(images)
    with pytest.raises(ic.ShapeError, match="the images have 3 channels"):
        net.normalization = ((0.5,), (0.5,))


def test_arrays_are_taken():
    net = network()
    net.normalization = np.array(IMAGENET[0]), [np.float32(0.5), 1, 2]
    assert net.normalization == (IMAGENET[0], (0.5, 1.0, 2.0))


def test_batches_that_are_given_are_not_measured():
    with pytest.raises(ic.ShapeError, match="normalize=True measures the images of a data set"):
        ic.Trainer(network()).fit(iter([batch()] * 3), 1, steps=3, normalize=True)
