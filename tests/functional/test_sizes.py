"""Sizes as users write them: what is no whole number is refused, and leaves no trace; no images are a batch."""

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_array_equal

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.window import make_window, pooling_window

X, W = normal(2, 4, 6, 6), normal(4, 4, 3, 3, seed=1)
NOT_SIZES = [True, False, np.True_, 1.0, np.float64(2), "1", None, (1, True), (True, True), (2.0, 2), (1, 2, 3), -1, 0]


@pytest.mark.parametrize("groups", [True, np.True_, 1.0, np.float32(1), "1", None, 0, -1, 2**70, (1,)])
def test_what_is_no_number_of_groups_is_refused_and_leaves_nothing_behind(groups):
    x = normal(1, 5, 7, 9)  # of a shape that no other test has convolved before
    w = normal(3, 5, 2, 3)
    for call in (
        lambda: F.conv2d(x, w, groups=groups),
        lambda: F.conv2d_input(x.shape, w, normal(1, 3, 6, 7), groups=groups),
        lambda: F.conv2d_weight(x, w.shape, normal(1, 3, 6, 7), groups=groups),
        lambda: ic.Conv2d(5, 3, 3, groups=groups),
    ):
        with pytest.raises(ic.ShapeError, match="groups"):
            call()
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), (2, 3))
    expected = np.einsum("nchwij,fcij->nfhw", windows, w)
    for one in (1, np.int64(1), np.uint8(1)):
        np.testing.assert_allclose(F.conv2d(x, w, groups=one), expected, rtol=1e-12)


def test_a_kernel_that_is_called_with_what_equals_one_spoils_no_other():
    """Of a backend, whose callers check: it may fail, the next call may not."""
    backend, x, w = ic.get_backend("numpy"), normal(7, 5, 11, 1), normal(3, 5, 3, 2)
    window = make_window((3, 2))
    with pytest.raises((TypeError, ValueError)):
        backend.conv2d(x, w, None, window, 1.0)
    backend.conv2d(x, w, None, window, 1)


@pytest.mark.parametrize("size", NOT_SIZES)
@pytest.mark.parametrize("argument", ["kernel_size", "stride", "padding", "dilation"])
def test_what_is_no_size_of_a_window_is_refused(argument, size):
    calls = {make_window, F.max_pool2d, F.avg_pool2d, F.unfold}
    if argument == "stride" and size is None:  # of pooling it is the kernel's
        calls -= {F.max_pool2d, F.avg_pool2d}
    if argument == "dilation":
        calls -= {F.avg_pool2d}
    if argument == "padding" and size is not False and size == 0:
        calls = set()
    for call in calls:
        images = () if call is make_window else (X,)
        with pytest.raises(ic.ShapeError, match=argument):
            call(*images, **{"kernel_size": 2, argument: size})


@pytest.mark.parametrize("size", [True, 1.5, "3", None, 0, -2, np.True_])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: ic.Conv2d(n, 4, 1),
        lambda n: ic.Conv2d(4, n, 1),
        lambda n: ic.Linear(n, 4),
        lambda n: ic.Linear(4, n),
        ic.BatchNorm2d,
        lambda n: ic.ZeroPadShortcut(n, 4),
        lambda n: ic.ZeroPadShortcut(1, n),
        ic.set_num_threads,
        lambda n: ic.ZeroPadShortcut(1, 2, n),
        lambda n: ic.models.lenet5(n),
        lambda n: ic.models.lenet5(input_size=n),
        lambda n: ic.Sequential([ic.Flatten()]).plan(n, (1, 4, 4)),
        lambda n: ic.Sequential([ic.Flatten()]).plan(2, (1, 4, n)),
        lambda n: F.conv2d_input((2, 4, n, 6), W, normal(2, 4, 4, 4)),
        lambda n: F.conv2d_weight(X, (4, 4, 3, n), normal(2, 4, 4, 4)),
        lambda n: F.fold(normal(1, 4, 1), (2, n), 2),
    ],
)
def test_what_is_no_size_of_a_layer_is_refused(make, size):
    with pytest.raises(ic.ShapeError):
        make(size)


def test_numpy_s_integers_are_as_good_as_python_s():
    """And stay no NumPy integers, which overflow."""
    conv = ic.Conv2d(np.int8(16), np.int16(16), np.int64(3), padding=np.uint8(1), groups=np.int32(2))
    assert [type(n) for n in (conv.in_channels, conv.out_channels, conv.groups, *conv.window.kernel)] == [int] * 5
    assert conv.flops((100, 16, 100, 9), (100, 16, 100, 9)) == (2 * 8 * 9 + 1) * 100 * 16 * 100 * 9
    net = ic.Sequential([ic.Linear(np.int8(5), np.int8(4))])
    assert net.plan(np.int8(100), (np.int8(5),)).sizes == net.plan(100, (5,)).sizes


def test_what_a_backend_keeps_cannot_be_changed():
    shares = ic.get_backend("numpy").pool_shares(pooling_window(2, None, 0), (4, 4), True, "float32")
    with pytest.raises(ValueError, match="read-only"):
        shares *= 2


# No images ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_images_give_no_results(dtype):
    """Of the shapes that PyTorch 2.13 gives."""
    x, w = np.zeros((0, 4, 6, 5), dtype), np.ones((6, 2, 3, 3), dtype)
    found = {
        (0, 6, 6, 5): F.conv2d(x, w, np.ones(6, dtype), padding=1, groups=2),
        (0, 6, 2, 3): F.conv2d(x, w, stride=(2, 1), groups=2),
        (0, 4, 16, 11): F.conv_transpose2d(x, w[:4], np.ones(4, dtype), 2, 0, (1, 0), 2, (2, 1)),
        (0, 4, 6, 5): F.conv2d_input(x.shape, w, np.zeros((0, 6, 4, 3), dtype), groups=2),
        (0, 4, 3, 2): F.max_pool2d(x, 2),
        (0, 4, 3, 3): F.avg_pool2d(x, 2, ceil_mode=True),
        (0, 36, 12): F.unfold(x, 3),
        (0, 4, 6, 6): F.fold(np.zeros((0, 36, 16), dtype), (6, 6), 3),
    }
    for shape, array in found.items():
        assert array.shape == shape
        assert array.dtype == dtype
    assert F.max_pool2d_input(x, np.zeros((0, 4, 3, 2), dtype), 2).shape == x.shape
    assert F.avg_pool2d_input(x.shape, np.zeros((0, 4, 3, 2), dtype), 2).shape == x.shape
    y, index = F.max_pool2d(x, 2, return_indices=True)
    assert (y.shape, index.shape, index.dtype.name) == ((0, 4, 3, 2), (0, 4, 3, 2), "int64")
    dw = F.conv2d_weight(x, w.shape, np.zeros((0, 6, 4, 3), dtype), groups=2)
    assert_array_equal(dw, np.zeros_like(w))
    assert dw.dtype == dtype


def test_arguments_are_checked_even_of_no_images():
    x, w = np.zeros((0, 4, 6, 5)), np.ones((6, 2, 3, 3))
    for call, text in [
        (lambda: F.conv2d(x, w), "4 channels"),
        (lambda: F.conv2d(x, w, groups=3), "groups"),
        (lambda: F.conv2d(x, w, np.ones(5), groups=2), "bias must have shape"),
        (lambda: F.conv2d(x[..., :2], w, groups=2), "no output is left"),
        (lambda: F.max_pool2d(x, 9), "no output"),
        (lambda: F.fold(np.zeros((0, 36, 15)), 6, 3), "input must have shape"),
        (lambda: F.unfold(x, 0), "kernel_size"),
        (lambda: F.max_pool2d_input(x, np.zeros((0, 4, 3, 3)), 2), "grad_output must have"),
    ]:
        with pytest.raises(ic.ShapeError, match=text):
            call()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_no_channels_and_no_pixels_are_refused(axis):
    shape = [2, 4, 6, 6]
    shape[axis] = 0
    x = np.zeros(shape)
    calls = [
        lambda: F.conv2d(x, W),
        lambda: F.max_pool2d(x, 2),
        lambda: F.avg_pool2d(x, 2),
        lambda: F.unfold(x, 2),
        lambda: F.avg_pool2d_input(x.shape, x, 2),
    ]
    for call in calls:
        with pytest.raises(ic.ShapeError):
            call()
    for weight in (np.zeros((0, 4, 3, 3)), np.zeros((4, 4, 0, 3)), np.zeros((4, 0, 3, 3))):
        with pytest.raises(ic.ShapeError, match="weight is empty"):
            F.conv2d(X, weight)


def test_a_prediction_of_no_images():
    net = ic.models.notebook().init(0)
    for images in (np.zeros((0, 1, 8, 8), "uint8"), np.zeros((0, 1, 8, 8), "f4"), np.zeros((0, 1, 8, 8))):
        scores = net.predict(images)
        assert (scores.shape, scores.dtype.name) == ((0, 2), "float32")
    with pytest.raises(ic.ShapeError, match="expected 1 input channels"):
        net.predict(np.zeros((0, 3, 8, 8)))
    with pytest.raises(ic.ShapeError, match="empty"):
        net.predict(np.zeros((2, 1, 0, 8)))
    assert ic.Sequential([ic.Conv2d(1, 2, 3)]).init(0, "float64").predict(np.zeros((0, 1, 8, 8))).shape == (0, 2, 6, 6)
    assert ic.Sequential([ic.Linear(3, 2)]).init(0).predict(np.zeros((0, 3))).shape == (0, 2)
    with pytest.raises(ic.ShapeError, match="empty"):
        ic.Trainer(net).step(np.zeros((0, 1, 8, 8)), np.zeros(0, int))
