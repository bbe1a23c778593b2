"""Images and labels of every type and layout."""

import numpy as np
import pytest
from helpers import assert_same_bits
from numpy.testing import assert_allclose
from small_networks import GOOD, LABELS, plain

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4"])
def test_images_of_every_type(dtype):
    """uint8 is scaled to [0, 1]; floating-point numbers are taken as they are."""
    x = np.random.default_rng(0).integers(0, 2, (5, 3, 8, 8)).astype(dtype)
    same = x.astype("float32") / (255 if dtype == "uint8" else 1)
    a, b = (ic.Trainer(plain().init(0), optimizer=ic.SGD(0.1)) for _ in range(2))
    assert a.step(x, [0, 1, 2, 3, 0]) == pytest.approx(b.step(same, [0, 1, 2, 3, 0]), rel=1e-6)
    assert_allclose(a.net.flat, b.net.flat, rtol=1e-5, atol=1e-7)
    assert_allclose(a.net.predict(x), b.net.predict(same), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint16", "bool"])
def test_whole_numbers_of_unknown_scale_are_refused(dtype):
    with pytest.raises(ic.DTypeError, match=f"images must be uint8, .* got {dtype}"):
        plain().init(0).predict(np.ones((5, 3, 8, 8), dtype))


@pytest.mark.parametrize("labels", [[0, 1, 2], (0, 1, 2), np.array([0, 1, 2], "uint8"), np.array([0, 1, 2], ">i8")])
def test_labels_of_every_type(labels):
    losses = [ic.Trainer(plain().init(0)).step(GOOD[:3].tolist(), given) for given in (labels, np.arange(3))]
    assert losses[0] == losses[1]


def test_arrays_of_any_strides_that_are_not_changed():
    x, labels = np.asfortranarray(GOOD), np.repeat(LABELS, 2)[::2]
    x.flags.writeable = labels.flags.writeable = False
    a, b = (ic.Trainer(plain().init(0), shard=4) for _ in range(2))
    assert a.step(x[:, ::-1, :, ::-1], labels) == b.step(GOOD[:, ::-1, :, ::-1].copy(), LABELS)
    assert_same_bits(a.net.predict(x), b.net.predict(GOOD))
