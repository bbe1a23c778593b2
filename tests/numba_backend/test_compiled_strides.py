"""Results that do not lie one after the other in memory: what is written to them is what contiguous ones get."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import im2colnet as ic
from im2colnet.window import make_window

pytest.importorskip("numba")

RNG = np.random.default_rng(0)
IMAGES, MEAN = RNG.standard_normal((6, 4, 6, 16), dtype="f4"), RNG.standard_normal(4)
APART, OVERLAPPING, KERNEL = make_window(2, 2), make_window(2), make_window(3, 1, 1)
POOLED, FILTERS = OVERLAPPING.output_size((6, 6)), RNG.standard_normal((8, 4, 3, 3), dtype="f4")


def of(*names, **shapes):
    """The shapes of results that are like the images, and of others."""
    return dict.fromkeys(names, IMAGES.shape) | shapes


OUTPUTS = (POOLED[0], 4, POOLED[1], 16)
NORMS = {"inverse": (1, 4, 6, 16), "mean": (1, 4, 6, 16), "rest": (1, 4, 6, 16)}
DY = RNG.standard_normal((6, 8, 6, 16), dtype="f4")
#: kernel, its arguments, and the shapes of its results; those of other types are named in TYPES
CASES = {
    "relu": ("activation", (IMAGES, "relu"), of("out")),
    "gelu": ("activation_and_slope", (IMAGES, "gelu"), of("slope", "out")),
    "gradient of relu": ("activation_grad", (IMAGES, IMAGES[::-1], "relu"), of("out")),
    "sums": ("batch_norm_sums", (IMAGES,), {"out": (2, 4)}),
    "sums of gradients": ("batch_norm_grad_sums", (IMAGES, MEAN, IMAGES), {"out": (2, 4)}),
    "joined with relu": ("batch_norm_grad_sums", (IMAGES, MEAN, IMAGES, IMAGES, "relu"), of("dz", out=(2, 4))),
    "joined with tanh": ("batch_norm_grad_sums", (IMAGES, MEAN, IMAGES, IMAGES, "tanh"), of("dz", out=(2, 4))),
    "affine": ("channel_affine", (IMAGES, MEAN, MEAN), of("out")),
    "affine of two": ("channel_affine", (IMAGES, MEAN, MEAN, IMAGES, MEAN, "relu"), of("out")),
    "set norm": ("set_norm", (IMAGES, (0,), 1e-5), of("out", **NORMS)),
    "max pool": ("max_pool2d", (IMAGES, OVERLAPPING), {"positions": OUTPUTS, "out": OUTPUTS}),
    "average pool": ("avg_pool2d", (IMAGES, OVERLAPPING), {"out": OUTPUTS}),
    "gradient of a max pool": ("max_pool2d_grad", (IMAGES, None, IMAGES[:5, :, :5], OVERLAPPING), of("out")),
    "gradient of windows apart": ("max_pool2d_grad", (IMAGES, None, IMAGES[:3, :, :3], APART), of("out")),
    "gradient of an average pool": ("avg_pool2d_grad", (IMAGES[:5, :, :5], (6, 6), OVERLAPPING), of("out")),
    "convolution": ("conv2d", (IMAGES, FILTERS, None, KERNEL, 1, "tanh"), {"out": DY.shape}),
    "gradient of its input": ("conv2d_input_grad", (DY, FILTERS, (6, 6), KERNEL), of("out")),
    "gradient of its weight": ("conv2d_weight_grad", (IMAGES, DY, KERNEL), {"out": FILTERS.shape}),
    "depthwise convolution": ("conv2d", (IMAGES, FILTERS[:4, :1], MEAN.astype("f4"), KERNEL, 4), of("out")),
}
TYPES = {"positions": "u1"}


def strided(shape, dtype, layout):
    """An array of ones, in a memory order."""
    if layout == "gaps":
        return np.ones((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
    if layout == "reversed":
        return np.ones(shape, dtype)[(slice(None, None, -1),) * len(shape)]
    return np.ones(shape[::-1], dtype).T


@pytest.mark.parametrize("layout", ["gaps", "reversed", "transposed"])
@pytest.mark.parametrize("case", CASES)
def test_strided_results_are_written(case, layout):
    name, arguments, shapes = CASES[case]
    types = {each: TYPES.get(each, "f8" if each == "out" and shapes[each] == (2, 4) else "f4") for each in shapes}
    kernel = getattr(ic.get_backend("numba"), name)
    wanted = {each: np.zeros(shape, types[each]) for each, shape in shapes.items()}
    kernel(*arguments, **wanted)
    found = {each: strided(shape, types[each], layout) for each, shape in shapes.items()}
    kernel(*arguments, **found)
    for each, array in wanted.items():
        assert_array_equal(found[each], array, err_msg=each)
