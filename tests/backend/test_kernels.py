"""Every kernel of the contract, on every backend, against naive loops in float64: by the checks that are published.

Arrays are the library's rows, (H, C, W, N), here made from images (N, C, H, W) and compared as such.
"""

from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
import strict_cupy
from helpers import LAYOUTS, assert_close, assert_same_bits, images, normal, rows, strided
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from im2colnet_numpy import NumpyBackend, Tuning
from im2colnet_numpy.algorithms import algorithm
from im2colnet_numpy.depthwise import Depthwise
from im2colnet_numpy.im2col import Im2col
from im2colnet_numpy.rows import Rows
from im2colnet_numpy.winograd import Winograd
from numpy.testing import assert_allclose
from reference.torch_values import every_case

from im2colnet import BackendError, get_backend
from im2colnet.backend import Backend
from im2colnet.testing import oracles as naive
from im2colnet.testing.conformance import Subject, convolution, losses, normalization, pooling
from im2colnet.testing.conformance.activation import exactly
from im2colnet.types import Spec
from im2colnet.window import Window, make_window, pooling_window

searching = settings(max_examples=100)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["float32", "float64"])
layouts = st.sampled_from(LAYOUTS)
tile_bytes = st.sampled_from([1, 300, 2000, 10_000, 1 << 20])  # of the numpy backend; 1: a tile is one row
#: (groups, channels and filters of each group): depthwise, and both sides of the numpy backend's choice of algorithm
CHANNELS = [(1, 1, 1), (1, 3, 2), (2, 2, 3), (3, 1, 1), (4, 1, 2), (1, 12, 12), (1, 2, 7), (2, 1, 4), (1, 12, 4)]


def tuned(backend, tiles=1 << 20, filters=8, **sizes):
    """NumPy's backend, or Numba's, with tiles of ``tiles`` bytes, and im2col from ``filters`` a column on."""
    if not isinstance(backend, NumpyBackend):
        return backend
    tiles = dict.fromkeys(("tile_bytes", "depthwise_bytes", "window_bytes"), tiles)
    return with_tuning(type(backend), Tuning(**tiles, im2col_min_filters=filters, **sizes))


@cache
def with_tuning(kind, tuning):
    return kind(tuning=tuning)


def subject(backend, layout="contiguous", **sizes):
    """A backend under test, which gets its arguments in one memory order."""
    return Subject(tuned(of_contract(backend), **sizes), layouts=[layout])


calls = {"layout": layouts, "tiles": tile_bytes}
calls["filters"] = st.sampled_from([0, 8])  # so both im2col and products of rows are met
ways = st.fixed_dictionaries(calls)
kinds = st.sampled_from([None, "relu", "leaky_relu:0.2", "sigmoid", "tanh", "silu"])


@st.composite
def axis_windows(draw, pooling):
    """Along one axis: size, kernel, stride, padding (before, after) and dilation, such that an output is left."""
    kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    extent = dilation * (kernel - 1) + 1
    most = kernel // 2 if pooling else 4
    before, after = draw(st.integers(0, most)), draw(st.integers(0, most))
    least = max(1, extent - before - after)
    return draw(st.integers(least, least + 5)), kernel, stride, (before, after), dilation


@st.composite
def windows(draw, pooling=False):
    """Size (H, W) and the arguments of a window for it."""
    axes = [draw(axis_windows(pooling)) for _ in range(2)]
    size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    return size, {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}


@st.composite
def convolutions(draw):
    """Random x, w, b, dy and the arguments of their convolution, in float64."""
    size, arguments = draw(windows())
    groups, channels, filters = draw(st.sampled_from(CHANNELS))
    kernel, rng = arguments.pop("kernel_size"), np.random.default_rng(draw(seeds))
    x = rng.standard_normal((draw(st.integers(1, 3)), groups * channels, *size))
    w = rng.standard_normal((groups * filters, channels, *kernel))
    b = rng.standard_normal(len(w)) if draw(st.booleans()) else None
    out = naive.output_size(size, kernel, **arguments)
    dy = rng.standard_normal((len(x), len(w), *out))
    return x, w, b, dy, {**arguments, "groups": groups}


def of_dtype(dtype, *arrays):
    return [None if a is None else a.astype(dtype) for a in arrays]


def window_of(w, arguments):
    return make_window(w.shape[2:], arguments["stride"], arguments["padding"], arguments["dilation"])


def problem_of(dtype, x, w, b, dy, arguments):
    """The same as the published checks take it."""
    arrays = of_dtype(dtype, x, w, b, dy)
    return convolution.Convolution(*arrays, window_of(w, arguments), arguments.get("groups", 1))


# The contract -------------------------------------------------------------------------------------------------------
def of_contract(backend):
    """The backend itself, where the tests call it by something that brings their arrays to it."""
    return getattr(backend, "wrapped", backend)


def test_a_backend_adds_nothing_to_the_contract(backend):
    public = {name for name in dir(of_contract(backend)) if not name.startswith("_")}
    assert public <= {*dir(Backend), "name", "xp", "tuning"}


def test_a_backend_without_devices_refuses_one(plain):
    with pytest.raises(ValueError, match=r"no devices.*'3'"):
        type(plain)("3")


def test_repr_names_the_backend(backend):
    backend = of_contract(backend)
    assert repr(backend) == f"<{type(backend).__name__} {backend.name!r}>"


#: columns of a product less than none, so that Winograd's algorithm is taken for the smallest images too
ALWAYS = -(1 << 20)


def test_the_searches_reach_every_algorithm_of_the_numpy_backend():
    def of(channels, filters, groups=1, stride=1, padding=1, dtype="float32", samples=8, least=8, kernel=3):
        window = make_window(kernel, stride, padding)
        tuning = Tuning(im2col_min_filters=least, winograd_more_columns=ALWAYS)
        return algorithm((5, channels, 5, samples), filters, window, groups, np.dtype(dtype), tuning)

    def kind(*args, **options):
        return type(of(*args, **options))

    assert kind(4, 4, groups=4) is Depthwise
    assert kind(4, 8, groups=4) is Rows
    assert kind(4, 8, groups=4, least=0) is Im2col
    assert kind(256, 256, samples=1) is kind(4, 40, samples=1) is Im2col  # few columns
    rows = of(12, 37), of(11, 34), of(12, 12, stride=2), of(12, 12, padding=3)
    assert [type(one) is Rows and one.flipped is not None for one in rows] == [True, False, False, False]
    assert kind(32, 32) is kind(16, 16, samples=32) is kind(32, 32, kernel=5, padding=2) is Winograd
    assert kind(32, 31) is kind(15, 64, samples=32) is kind(64, 64, samples=7) is Rows
    assert kind(32, 33, stride=2) is kind(32, 33, padding=3) is Rows
    assert kind(64, 64, groups=2) is kind(32, 33, dtype="float64") is Rows


@pytest.mark.parametrize(
    ("channels", "size", "samples", "expected"),
    [
        (512, 2, 16, Im2col),  # three quarters of a tile's outputs are beyond the image
        (512, 4, 8, Im2col),  # 8 columns are too few for the transform of the filters
        (512, 4, 16, Winograd),
        (64, 4, 8, Rows),
        (64, 8, 8, Winograd),
        (512, 7, 8, Winograd),
    ],
)
def test_winograd_is_for_products_of_many_columns(channels, size, samples, expected):
    found = algorithm((size, channels, size, samples), channels, make_window(3, 1, 1), 1, np.dtype("float32"))
    assert type(found) is expected


def test_winograd_can_be_switched_off(monkeypatch):
    def chosen():
        algorithm.cache_clear()
        return algorithm((8, 32, 8, 8), 32, make_window(3, 1, 1), 1, np.dtype("float32"))

    assert isinstance(chosen(), Winograd)
    monkeypatch.setenv("IM2COLNET_WINOGRAD", "0")
    assert isinstance(chosen(), Rows)
    monkeypatch.setenv("IM2COLNET_WINOGRAD", "no")
    with pytest.raises(BackendError, match="IM2COLNET_WINOGRAD must be 0 or 1, it is 'no'"):
        chosen()
    algorithm.cache_clear()


# Lowering -----------------------------------------------------------------------------------------------------------
@searching
@given(problem=windows(), seed=seeds, dtype=dtypes, layout=layouts)
def test_im2col_and_col2im(backend, problem, seed, dtype, layout):
    size, arguments = problem
    window, its = make_window(**arguments), subject(backend, layout)
    x = normal(2, 3, *size, seed=seed, dtype=dtype)
    convolution.im2col(its, x, window)
    convolution.im2col(its, x, window, -7.0)
    OH, OW = naive.output_size(size, **arguments)
    convolution.col2im(its, normal(OH, 3, *window.kernel, OW, 2, seed=seed + 1, dtype=dtype), window, size)


# Convolution --------------------------------------------------------------------------------------------------------
@searching
@given(problem=convolutions(), dtype=dtypes, kind=kinds, way=ways)
def test_conv2d(backend, problem, dtype, kind, way):
    convolution.conv2d(subject(backend, **way), problem_of(dtype, *problem), kind, bias=problem[2] is not None)


@searching
@given(problem=convolutions(), dtype=dtypes, way=ways)
def test_conv2d_input_grad(backend, problem, dtype, way):
    convolution.conv2d_input_grad(subject(backend, **way), problem_of(dtype, *problem))


@searching
@given(problem=convolutions(), dtype=dtypes, way=ways)
def test_conv2d_weight_grad(backend, problem, dtype, way):
    convolution.conv2d_weight_grad(subject(backend, **way), problem_of(dtype, *problem))


@searching
@given(problem=convolutions(), dtype=dtypes, way=ways, m=st.integers(1, 4))
def test_both_gradients(backend, problem, dtype, way, m):
    convolution.conv2d_grads(subject(backend, **way, depthwise_rows=m), problem_of(dtype, *problem))


@pytest.mark.parametrize(("groups", "channels", "kernel"), [(1, 12, 3), (4, 1, 3), (2, 6, 5)])
def test_these_are_made_at_once(groups, channels, kernel):
    """The test above would pass if none were."""
    shape, window = (8, groups * channels, 8, 2), make_window(kernel, 1, kernel // 2)
    images, w = Spec(shape, "float64"), Spec((groups * channels, channels, kernel, kernel), "float64")
    assert get_backend("numpy").conv2d_grads.scratch(images, images, w, window, groups)


@pytest.mark.parametrize("tile", [1, 4, 1000])
@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "channels"),
    [
        (1, 1, 1, 1, 12),
        (1, ((0, 2), (1, 0)), 2, 1, 13),
        (2, 1, 1, 2, 4),
        (3, 2, 1, 1, 3),
        (1, 0, 1, 6, 6),
        (1, 2, 1, 1, 12),
    ],
)
def test_convolutions_in_tiles(backend, kernel, stride, padding, dilation, groups, channels, tile):
    """Tiles of one output row, of four, which leave a last one of fewer, and of all."""
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w = normal(2, channels, 11, 6), normal(12, channels // groups, 3, 3, seed=1)
    y = naive.conv2d(x, w, **arguments)
    dy, window = normal(*y.shape, seed=2), window_of(w, arguments)
    pitch = stride if dilation == 1 and stride < 3 else 3  # lowered rows from one output row to the next
    tiles = 3 * channels * y.shape[3] * len(x) * 8 * ((tile - 1) * pitch + 3)
    if backend.name == "numpy":
        lowered_rows = tuned(backend, tiles).conv2d.scratch(rows(x), w, None, window, groups)[0].shape[1]
        assert lowered_rows == (min(tile, y.shape[2]) - 1) * pitch + 3
    assert y.shape[2] % 4 > 0
    problem = convolution.Convolution(x, w, None, dy, window, groups)
    getattr(convolution, kernel)(subject(backend, tiles=tiles), problem)


@every_case("conv2d")
def test_convolutions_against_pytorch(backend, config, arrays):
    x, w, b, dy = (arrays[name].astype("float64") for name in ("x", "w", "b", "dy"))
    window, groups = window_of(w, config), config["groups"]
    assert_close(images(backend.conv2d(rows(x), w, b, window, groups)), arrays["y"], "float64")
    dx = backend.conv2d_input_grad(rows(dy), w, x.shape[2:], window, groups)
    assert_close(images(dx), arrays["dx"], "float64")
    assert_close(backend.conv2d_weight_grad(rows(x), rows(dy), window, groups), arrays["dw"], "float64")
    assert_close(backend.sum_samples(rows(dy), out=np.empty(len(w))), arrays["db"], "float64")


def test_convolution_errors_stay_within_float32(backend):
    """A long sum: the error grows with its length only as that of any float32 product does."""
    x, w = normal(2, 64, 10, 10, dtype="float32"), normal(16, 64, 3, 3, seed=1, dtype="float32")
    y = backend.conv2d(rows(x), w, None, make_window(3, 1, 1))
    padded = naive.pad_image(x.astype("float64"), ((1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    expected = np.einsum("nchwij,fcij->nfhw", windows, w.astype("float64"))
    assert np.abs(images(y) - expected).max() < 2e-6 * np.abs(expected).max() * np.sqrt(64 * 9)


def both_gradients(its, x, dy, w, window):
    """Of images: dx and dw by the kernel that makes both."""
    specs = {"dw": Spec(w.shape, w.dtype.name), "dx": Spec(rows(x).shape, x.dtype.name)}
    found = its.call("conv2d_grads", rows(x), rows(dy), w, window, 1, written=specs)
    return images(found["dx"]), found["dw"]


@st.composite
def winograd_problems(draw):
    """Random x, w, b, dy of r×r convolutions at stride 1, with up to three tiles of outputs along each axis."""
    r = draw(st.integers(3, 7))
    padding = tuple((draw(st.integers(0, r - 1)), draw(st.integers(0, r - 1))) for _ in range(2))
    size = [draw(st.integers(max(1, r - sum(pads)), 12)) for pads in padding]
    n, channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(seeds))
    x, w = rng.standard_normal((n, channels, *size)), rng.standard_normal((filters, channels, r, r))
    dy = rng.standard_normal((n, filters, *naive.output_size(size, (r, r), 1, padding, 1)))
    return x, w, rng.standard_normal(filters), dy, {"stride": 1, "padding": padding, "dilation": 1, "groups": 1}


@searching
@given(
    problem=winograd_problems(),
    way=ways,
    most=st.sampled_from([1, 2, 4]),
    columns=st.sampled_from([1, 7, 256]),
    half=st.sampled_from([1, 1 << 12, 1 << 18]),
    kind=st.sampled_from([None, "relu", "tanh"]),
)
def test_winograd_convolutions(problem, way, most, columns, half, kind):
    """However the images are cut into blocks and strips of tiles, and the channels into pieces."""
    x, w, b, dy, arguments = problem
    window = window_of(w, arguments)
    sizes = {"winograd_max_tiles": most, "winograd_min_columns": columns, "winograd_half_bytes": half}
    sizes |= dict.fromkeys(("winograd_min_samples", "winograd_min_rows", "winograd_min_products"), 1)
    sizes["winograd_min_channels"] = (1,) * 5
    sizes["winograd_more_columns"] = ALWAYS
    its = subject(get_backend("numpy"), **way, **sizes)
    x4, w4, b4, dy4 = of_dtype("float32", x, w, b, dy)
    y = its.call("conv2d", rows(x4), w4, b4, window, 1, kind)
    dx = its.call("conv2d_input_grad", rows(dy4), w4, x.shape[2:], window, 1)
    dw = its.call("conv2d_weight_grad", rows(x4), rows(dy4), window, 1)
    both = both_gradients(its, x4, dy4, w4, window)
    expected = naive.conv2d(x, w, b, **arguments)
    ax, aw, ab, ady = (np.abs(array) for array in (x, w, b, dy))  # what the sums would be if nothing cancelled
    size = x.shape
    for actual, exact, uncancelled in [
        (images(y), exactly(expected, kind), naive.conv2d(ax, aw, ab, **arguments)),
        (images(dx), naive.conv2d_input(size, w, dy, **arguments), naive.conv2d_input(size, aw, ady, **arguments)),
        (both[0], naive.conv2d_input(size, w, dy, **arguments), naive.conv2d_input(size, aw, ady, **arguments)),
        (dw, naive.conv2d_weight(x, w.shape, dy, **arguments), naive.conv2d_weight(ax, w.shape, ady, **arguments)),
        (both[1], naive.conv2d_weight(x, w.shape, dy, **arguments), naive.conv2d_weight(ax, w.shape, ady, **arguments)),
    ]:
        assert actual.dtype == "float32"
        assert np.abs(actual - exact).max() <= 1e-5 * uncancelled.max()


@pytest.mark.parametrize("r", range(3, 8))
@pytest.mark.parametrize(("channels", "size"), [(32, 16), (512, 8)])
def test_winograd_errors_are_at_most_2e_5_of_the_largest_output(channels, size, r):
    """As they are documented; images that are not centred, as after a ReLU, are the worse case."""
    backend, window = get_backend("numpy"), make_window(r, 1, r // 2)
    of_weight_grad = 2e-5 if r == 3 else 3e-5
    out = window.output_size((size, size))
    x, dy = normal(8, channels, size, size, dtype="float32"), normal(8, channels, *out, seed=2, dtype="float32")
    x = np.abs(x)
    w = normal(channels, channels, r, r, seed=1, dtype="float32")
    assert isinstance(algorithm(rows(x).shape, channels, window, 1, x.dtype), Winograd)
    x8, w8, dy8 = (rows(x).astype("f8"), w.astype("f8"), rows(dy).astype("f8"))
    for kernel, arguments, exact, bound in [
        ("conv2d", (rows(x), w, None, window), (x8, w8, None, window), 2e-5),
        ("conv2d_input_grad", (rows(dy), w, (size, size), window), (dy8, w8, (size, size), window), 2e-5),
        ("conv2d_weight_grad", (rows(x), rows(dy), window), (x8, dy8, window), of_weight_grad),
    ]:
        expected = getattr(backend, kernel)(*exact)  # float64 takes another algorithm
        assert np.abs(getattr(backend, kernel)(*arguments) - expected).max() < bound * np.abs(expected).max()
    assert backend.conv2d_grads.scratch(rows(x), rows(dy), w, window)
    exact = backend.conv2d_weight_grad(x8, dy8, window)
    dw = both_gradients(subject(backend), x, dy, w, window)[1]
    assert np.abs(dw - exact).max() < of_weight_grad * np.abs(exact).max()


cupy_modules = cache(strict_cupy.cupy_modules)


@st.composite
def shiftable(draw):
    """Convolutions in one group, at stride 1 along the width and with rows that are neighbours."""
    size, arguments = draw(windows())
    kernel, rng = arguments.pop("kernel_size"), np.random.default_rng(draw(seeds))
    assume(kernel[1] > 1)
    arguments |= {"stride": (arguments["stride"][0], 1), "dilation": (1, arguments["dilation"][1])}
    n, channels, filters = (draw(st.integers(1, 3)) for _ in range(3))
    x, w = rng.standard_normal((n, channels, *size)), rng.standard_normal((filters, channels, *kernel))
    b = rng.standard_normal(filters) if draw(st.booleans()) else None
    return x, w, b, rng.standard_normal((n, filters, *naive.output_size(size, kernel, **arguments))), arguments


@searching
@given(problem=shiftable(), kind=kinds)
def test_shifted_images_on_a_gpu(problem, kind):
    """Products with images that are not lowered, even if none meets them; the stand-in sees that none leaves memory."""
    x, w, b, dy, arguments = problem
    modules, window = cupy_modules(), window_of(w, arguments)
    backend, chosen = modules["im2colnet_cupy"].CupyBackend(), modules["im2colnet_cupy.algorithms"].algorithm
    with patch.object(modules["im2colnet_cupy.shifted"].Shifted, "pays", staticmethod(lambda *problem: True)):
        assert type(chosen(rows(x).shape, len(w), window, 1, "float64")).__name__ == "Shifted"
        x_, w_, dy_, b_ = (None if a is None else backend.asarray(a) for a in (rows(x), w, rows(dy), b))
        y = backend.to_numpy(backend.conv2d(x_, w_, b_, window, activation=kind))
        dx = backend.to_numpy(backend.conv2d_input_grad(dy_, w_, x.shape[2:], window))
        dw = backend.to_numpy(backend.conv2d_weight_grad(x_, dy_, window))
    expected = naive.conv2d(x, w, b, **arguments)
    assert_close(images(y), exactly(expected, kind), "float64")
    assert_close(images(dx), naive.conv2d_input(x.shape, w, dy, **arguments), "float64")
    assert_close(dw, naive.conv2d_weight(x, w.shape, dy, **arguments), "float64")


def test_where_images_are_shifted():
    shifted = cupy_modules()["im2colnet_cupy.shifted"].Shifted
    window = make_window(3, 1, 1)
    for (x, F), pays in {
        ((56, 128, 56, 256), 32): True,  # fewer filters than channels, and enough to do
        ((56, 32, 56, 256), 128): False,
        ((8, 128, 8, 32), 32): False,  # not worth the launches
    }.items():
        assert shifted.pays(x, F, window, 1, "float32") == pays
        assert not shifted.pays(x, F, window, 1, "float16")


def with_channels_apart(problem):
    return problem[4]["groups"] > 1 and problem[1].shape[1] == 1


@searching
@given(problem=convolutions().filter(with_channels_apart), way=ways, m=st.integers(1, 4))
def test_depthwise_convolutions(problem, way, m):
    """In bands of one to four output rows."""
    its, of_type = subject(get_backend("numpy"), **way, depthwise_rows=m), problem_of("float64", *problem)
    convolution.conv2d(its, of_type)
    convolution.conv2d_input_grad(its, of_type)
    convolution.conv2d_weight_grad(its, of_type)


# Pooling ------------------------------------------------------------------------------------------------------------
@searching
@given(
    problem=windows(pooling=True),
    samples=st.sampled_from([1, 2, 17]),  # NumPy sets the columns of a few apart
    ceil_mode=st.booleans(),
    ties=st.booleans(),
    seed=seeds,
    dtype=dtypes,
    way=ways,
)
def test_max_pool2d(backend, problem, samples, ceil_mode, ties, seed, dtype, way):
    size, arguments = problem
    window, its = pooling_window(**arguments, ceil_mode=ceil_mode), subject(backend, **way)
    x = normal(samples, 3, *size, seed=seed, dtype=dtype)
    if ties:
        x = np.round(x)
    pooling.max_pool2d(its, x, window)
    dy = normal(samples, 3, *window.output_size(size), seed=seed + 1, dtype=dtype)
    pooling.max_pool2d_grad(its, x, dy, window)


@searching
@given(
    problem=windows(pooling=True),
    ceil_mode=st.booleans(),
    include=st.booleans(),
    divisor=st.sampled_from([None, None, 3]),
    seed=seeds,
    dtype=dtypes,
    way=ways,
)
def test_avg_pool2d(backend, problem, ceil_mode, include, divisor, seed, dtype, way):
    size, arguments = problem
    window, its = pooling_window(**arguments, ceil_mode=ceil_mode), subject(backend, **way)
    pooling.avg_pool2d(its, normal(2, 3, *size, seed=seed, dtype=dtype), window, include, divisor)
    dy = normal(2, 3, *window.output_size(size), seed=seed + 1, dtype=dtype)
    pooling.avg_pool2d_grad(its, dy, size, window, include, divisor)


def test_pool_shares(backend):
    window = Window((3, 2), (2, 2), ((1, 0), (0, 1)), ceil_mode=True)
    # rows start at -1, 1, 3 of 5 (all inside the padded image but the last tap's), columns at 0 and 2 of 3 + 1
    shares = backend.pool_shares(window, (5, 3), True, "float32")
    assert (shares.dtype, shares.shape) == (np.float32, (3, 1, 2, 1))
    assert_allclose(1 / shares[:, 0, :, 0], np.outer([3, 3, 2], [2, 2]), rtol=1e-6)
    shares = backend.pool_shares(window, (5, 3), False, "float64")
    assert_allclose(1 / shares[:, 0, :, 0], np.outer([2, 3, 2], [2, 1]), rtol=1e-12)


# Batch norm ---------------------------------------------------------------------------------------------------------
shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))


@searching
@given(shape=shapes, mean=st.sampled_from([0, 1, -300]), seed=seeds, dtype=dtypes, way=ways, affine=st.booleans())
def test_batch_norm(backend, shape, mean, seed, dtype, way, affine):
    """Its sums, even where the mean is far larger than the deviation, and what is made of them."""
    assume(shape[0] * shape[2] * shape[3] > 1)
    its = subject(backend, **way)
    x = normal(*shape, seed=seed, dtype=dtype) + np.asarray(mean, dtype)
    dy = normal(*shape, seed=seed + 1, dtype=dtype)
    normalization.batch_norm_sums(its, x)
    normalization.batch_norm_grad_sums(its, x, dy)
    if abs(mean) < 10 and x[:, 0].size > 2:  # of two numbers that are nearly equal all digits are rounding
        normalization.batch_norm(its, x, dy, affine)


@searching
@given(shape=shapes, two=st.booleans(), kind=kinds, seed=seeds, dtype=dtypes, way=ways)
def test_channel_affine(backend, shape, two, kind, seed, dtype, way):
    x, other = normal(*shape, seed=seed, dtype=dtype), normal(*shape, seed=seed + 1, dtype=dtype)
    normalization.channel_affine(subject(backend, **way), x, other if two else None, kind)


# Loss ---------------------------------------------------------------------------------------------------------------
@every_case("cross_entropy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_against_pytorch(backend, config, arrays, dtype):
    logits, labels = strided(arrays["logits"].T.astype(dtype), "contiguous"), arrays["labels"]
    scale = 1 / len(labels) if config["reduction"] == "mean" else 1.0
    out, dlogits = np.full(2, np.nan), np.full(logits.shape, np.nan, dtype)
    assert backend.cross_entropy(logits, labels, scale, out, dlogits) is out
    tolerance = 1e-13 if dtype == "float64" else 1e-6
    assert_allclose(out[0], arrays["loss"], rtol=tolerance)
    assert_allclose(dlogits.T, arrays["dlogits"], rtol=tolerance, atol=tolerance)
    alone = np.full(2, np.nan)
    backend.cross_entropy(logits, labels, scale, alone)
    assert_same_bits(alone, out)


@given(classes=st.integers(1, 6), n=st.integers(1, 7), scale=st.floats(0.01, 10), seed=seeds, layout=layouts)
@settings(max_examples=40)
def test_cross_entropy(backend, classes, n, scale, seed, layout):
    rng = np.random.default_rng(seed)
    logits, labels = np.round(rng.normal(0, 3, (n, classes))), rng.integers(0, classes, n)  # with ties
    losses.cross_entropy(subject(backend, layout), logits, labels, scale)
