"""Each kernel in every way that the contract allows: the results agree to the last bit, whoever computes them.

Plainly; with ``out`` and scratch that hold NaN; by prepared calls, made twice; and what it reads keeps its bits.
"""

import numpy as np
import pytest
import strict_cupy
from helpers import normal
from im2colnet_numpy import NumpyBackend

from im2colnet.backend import Backend, Kernel
from im2colnet.types import run
from im2colnet.window import make_window, pooling_window


class Generic(Backend):
    """The textbook's kernels."""

    name, xp = "generic", np


STARTED = {"numpy": NumpyBackend, "generic": Generic, "stand-in": strict_cupy.cupy_backend}
IMAGES, WINDOW, POOL = (6, 4, 5, 3), make_window(3, 1, 1), pooling_window(3, 2, 1)
STRIDED = make_window(3, 2, 1)


def images(*shape, seed=0):
    return normal(*(shape or IMAGES), seed=seed, dtype="float32")


def weight(F, C, seed=1):
    """A weight (F, C, 3, 3) in the memory order that the fast backends store."""
    return normal(F, 3, 3, C, seed=seed, dtype="float32").transpose(0, 3, 1, 2)


def pooled(seed=2):
    return images(3, 4, 3, 3, seed=seed)


def of_channels(seed=0):
    """A number for each channel of ``GROUPED``."""
    return normal(1, 2, 2, 1, 1, seed=seed, dtype="float32")


def of_sets(seed):
    """A number for each group of channels of each sample of ``GROUPED``."""
    return normal(1, 2, 1, 1, 3, seed=seed, dtype="float32")


#: images of which the channels are in two groups, and the statistics of each
GROUPED, PARTS = images().reshape(6, 2, 2, 5, 3), ("inverse", "mean", "rest")
#: a row for each kernel, or several: its name and its arguments; arrays for two results are keywords
ROWS = [
    ("im2col", (images(), WINDOW), {}),
    ("im2col", (images(), WINDOW, -7.0), {}),
    ("col2im", (normal(6, 4, 3, 3, 5, 3, dtype="float32"), WINDOW, (6, 5)), {}),
    ("conv2d", (images(), weight(5, 4), normal(5, dtype="float32"), WINDOW), {}),
    ("conv2d", (images(), weight(4, 1), None, WINDOW, 4, "relu"), {}),
    ("conv2d", (images(), weight(6, 2), None, STRIDED, 2, "tanh"), {}),
    ("conv2d", (images(9, 16, 9, 8), weight(32, 16), normal(32, dtype="float32"), WINDOW), {}),
    ("conv2d_input_grad", (images(6, 5, 5, 3), weight(5, 4), (6, 5), WINDOW), {}),
    ("conv2d_input_grad", (images(3, 6, 3, 3), weight(6, 2), (6, 5), STRIDED, 2), {}),
    ("conv2d_weight_grad", (images(), images(6, 5, 5, 3, seed=1), WINDOW), {}),
    ("conv2d_weight_grad", (images(), images(3, 6, 3, 3, seed=1), STRIDED, 2), {}),
    ("conv2d_grads", (images(), images(6, 13, 5, 3), weight(13, 4), WINDOW), {"dw": (13, 4, 3, 3), "dx": IMAGES}),
    ("conv2d_grads", (images(), images(3, 6, 3, 3), weight(6, 2), STRIDED, 2), {"dw": (6, 2, 3, 3), "dx": IMAGES}),
    ("max_pool2d", (images(), POOL), {}),
    ("max_pool2d_grad", (np.round(images()), pooled(), pooled(3), POOL), {}),
    ("avg_pool2d", (images(), POOL, False), {}),
    ("avg_pool2d_grad", (pooled(), (6, 5), POOL, True), {}),
    ("matmul", (normal(4, 7, dtype="float32"), normal(7, 3, dtype="float32")), {}),
    ("matmul", (normal(2, 4, 7), normal(2, 7, 3)), {}),
    ("sum_samples", (images(),), {}),
    ("sum_samples", (normal(7, 9),), {}),
    *(("activation", (images(), kind), {}) for kind in ("relu", "leaky_relu:0.2", "sigmoid", "tanh", "silu")),
    *(
        ("activation_grad", (images(), images(seed=1), kind), {})
        for kind in ("relu", "leaky_relu:0.2", "sigmoid", "tanh", "silu")
    ),
    *(
        ("activation_and_slope", (images(), kind), {"slope": IMAGES})
        for kind in ("relu", "silu", "softplus:2,1", "hardswish", "mish", "gelu", "gelu_tanh")
    ),
    ("batch_norm_sums", (images(),), {}),
    ("batch_norm_grad_sums", (images(), normal(4), images(seed=1)), {}),
    ("channel_affine", (images(), normal(4), normal(4, seed=1)), {}),
    ("channel_affine", (images(), normal(4), normal(4, seed=1), images(seed=1), normal(4, seed=2), "relu"), {}),
    ("set_norm", (GROUPED, (0, 2, 3), 1e-5, of_channels(), of_channels(1)), dict.fromkeys(PARTS, (1, 2, 1, 1, 3))),
    ("set_norm", (GROUPED, (0, 2, 3), 1e-5), dict.fromkeys(PARTS, (1, 2, 1, 1, 3))),
    ("set_norm", (images(), (2,), 0.1), {"inverse": (6, 4, 1, 3)}),
    (
        "set_norm_grads",
        (GROUPED, GROUPED[::-1].copy(), (0, 2, 3), 1 + of_sets(0) ** 2, of_sets(1), of_sets(2) / 1e7, of_channels()),
        {"dx": GROUPED.shape, "dweight": (1, 2, 2, 1, 1), "dbias": (1, 2, 2, 1, 1)},
    ),
    ("set_norm_grads", (GROUPED, GROUPED[::-1].copy(), (0, 2, 3), 1 + of_sets(0) ** 2), {"dx": GROUPED.shape}),
    ("cross_entropy", (normal(5, 7), np.arange(7) % 5, 0.25), {}),
    ("cross_entropy", (normal(5, 7), np.arange(7) % 5, 0.25), {"dlogits": (5, 7)}),
]
IDS = [f"{name} {number}" for number, (name, _, _) in enumerate(ROWS)]


def test_every_kernel_has_a_row():
    kernels = {name for name in dir(Backend) if isinstance(getattr(Backend, name), Kernel)}
    assert {name for name, _, _ in ROWS} == kernels


@pytest.fixture(scope="module", params=STARTED)
def started(request):
    return STARTED[request.param]()


def spoiled(backend, shape, dtype, order=None):
    """An array full of NaN, or of True, whose memory has an order of its axes."""
    order = order or range(len(shape))
    array = backend.empty(tuple(shape[axis] for axis in order), dtype)
    array[...] = np.nan if dtype.startswith("float") else True
    return array.transpose(*np.argsort(list(order)).tolist()) if len(shape) > 1 else array


@pytest.mark.parametrize(("name", "args", "results"), ROWS, ids=IDS)
def test_all_ways_agree_to_the_bit(started, name, args, results):
    kernel = getattr(started, name)
    given = [strict_cupy.from_host(started, a) if isinstance(a, np.ndarray) else a for a in args]
    dtype = args[0].dtype.name

    def bits(array):
        return np.array(started.to_numpy(array)).tobytes()

    def lent():
        """Arrays for the results of one way, full of NaN."""
        order = {"dw": started.weight_order, "out": started.weight_order if name == "conv2d_weight_grad" else None}
        specs = {key: (shape, dtype) for key, shape in results.items()}
        if "dx" not in results:
            specs["out"] = kernel.result(*given)
        return {key: spoiled(started, *spec, order.get(key)) for key, spec in specs.items()}

    with started.context():
        before = [bits(a) for a in given if started.owns(a)]
        plain = {key: array for key, array in lent().items() if key != "out"}
        returned = kernel(*given, **plain)
        plain |= {} if returned is None else {"out": returned}
        expected = {key: bits(array) for key, array in plain.items()}

        named = {key: array for key, array in plain.items() if key != "out"}
        scratch = [spoiled(started, *spec) for spec in kernel.scratch(*given, **named)]
        lent_scratch = {"scratch": scratch} if scratch else {}
        spoilt = lent()
        kernel(*given, **spoilt, **lent_scratch)
        assert {key: bits(array) for key, array in spoilt.items()} == expected

        prepared = lent()
        calls = kernel.prepare(*given, **prepared, **lent_scratch)
        for _ in range(2):
            run(calls)
            assert {key: bits(array) for key, array in prepared.items()} == expected
        assert [bits(a) for a in given if started.owns(a)] == before
