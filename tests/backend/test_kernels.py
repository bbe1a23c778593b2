"""Every kernel of the contract, on every backend, against naive loops in float64.

Arrays are the library's rows, (H, C, W, N), here made from images (N, C, H, W) and compared as such.
"""

import inspect
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
from numpy.testing import assert_allclose, assert_array_equal
from reference.torch_values import every_case

from im2colnet import BackendError, get_backend
from im2colnet.backend import Backend, Kernel
from im2colnet.testing import oracles as naive
from im2colnet.types import Spec, run
from im2colnet.window import Window, make_window, pooling_window

searching = settings(max_examples=100)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["float32", "float64"])
layouts = st.sampled_from(LAYOUTS)
tile_bytes = st.sampled_from([1, 300, 2000, 10_000, 1 << 20])  # of the numpy backend; 1: a tile is one row
#: (groups, channels and filters of each group): depthwise, and both sides of the numpy backend's choice of algorithm
CHANNELS = [(1, 1, 1), (1, 3, 2), (2, 2, 3), (3, 1, 1), (4, 1, 2), (1, 12, 12), (1, 2, 7), (2, 1, 4), (1, 12, 4)]


def tuned(backend, tiles=1 << 20, filters=8, **sizes):
    """The NumPy backend with tiles of ``tiles`` bytes, and im2col from ``filters`` a column on; others as they are."""
    if not isinstance(backend, NumpyBackend):
        return backend
    tiles = dict.fromkeys(("tile_bytes", "depthwise_bytes", "window_bytes"), tiles)
    return numpy_backend(Tuning(**tiles, im2col_min_filters=filters, **sizes))


@cache
def numpy_backend(tuning):
    return NumpyBackend(tuning=tuning)


class Call:
    """Calls a kernel in every way that the contract allows, which must agree to the last bit.

    Plainly; with ``out`` and scratch that hold NaN; by prepared calls, made again after the arrays have changed. What
    it is given keeps its bits, and may be strided.
    """

    def __init__(self, backend, layout="contiguous", **sizes):
        self.backend, self.layout = tuned(of_contract(backend), **sizes), layout

    def __call__(self, kernel, *args, shape, order=None, **options):
        """Return the result for NumPy's arrays, as one of them; ``order`` is that of the memory of ``out``."""
        backend, call = self.backend, getattr(self.backend, kernel)
        host = [strided(a, self.layout) if isinstance(a, np.ndarray) else a for a in args]
        given = [self.there(a) for a in host]
        with backend.context():
            plain = self.back(call(*given, **options))
            spec = call.result(*given, **options)
            scratch = [self.spoiled(wanted) for wanted in call.scratch(*given, **options)]
            lent = {"out": self.spoiled(spec, order), "scratch": scratch}
            if "scratch" not in inspect.signature(call).parameters:
                assert lent.pop("scratch") == []
            assert call(*given, **options, **lent) is lent["out"]
            assert_same_bits(self.back(lent["out"]), plain)
            if self.layout == "contiguous":
                first, then = ([self.there(one(a)) for a in host] for one in (ones_like, lambda a: a))
                prepared = call.prepare(*first, **options, **lent)
                run(prepared)
                for array, value in zip(first, then, strict=True):
                    if backend.owns(array):
                        array[...] = value
                run(prepared)
                assert_same_bits(self.back(lent["out"]), plain)
            for array, value in zip(given, host, strict=True):
                if isinstance(value, np.ndarray):
                    assert_same_bits(self.back(array), value)
        assert plain.shape == spec.shape == tuple(shape)
        assert plain.dtype.name == spec.dtype
        return plain

    def there(self, value):
        if not isinstance(value, np.ndarray):
            return value
        return value if self.backend.owns(value) else strict_cupy.from_host(self.backend, value)

    def back(self, array):
        return np.array(self.backend.to_numpy(array))

    def spoiled(self, spec, order=None):
        """Return an array full of NaN."""
        order = order or range(len(spec.shape))
        array = self.backend.empty(tuple(spec.shape[axis] for axis in order), spec.dtype)
        array[...] = np.nan if array.dtype.kind == "f" else True
        return array.transpose(*np.argsort(order).tolist()) if spec.shape else array


def ones_like(value):
    return np.ones_like(value) if isinstance(value, np.ndarray) else value


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


def activated(x, kind):
    """The activation ``kind`` of ``x`` in float64; of None nothing."""
    name, _, constant = (kind or "").partition(":")
    x = x.astype("float64")
    sigmoid = 1 / (1 + np.exp(-np.abs(x)))
    sigmoid = np.where(x < 0, np.exp(-np.abs(x)) * sigmoid, sigmoid)
    return {
        "": x,
        "relu": np.where(x > 0, x, 0),
        "leaky_relu": np.where(x > 0, x, float(constant or 0.01) * x),
        "sigmoid": sigmoid,
        "tanh": np.tanh(x),
        "silu": x * sigmoid,
    }[name]


def of_dtype(dtype, *arrays):
    return [None if a is None else a.astype(dtype) for a in arrays]


def window_of(w, arguments):
    return make_window(w.shape[2:], arguments["stride"], arguments["padding"], arguments["dilation"])


# The contract -------------------------------------------------------------------------------------------------------
def of_contract(backend):
    """The backend itself, where the tests call it by something that brings their arrays to it."""
    return getattr(backend, "wrapped", backend)


def test_signatures_are_those_of_the_base_class(backend):
    backend = of_contract(backend)
    public = [name for name in dir(Backend) if callable(getattr(Backend, name)) and not name.startswith("_")]
    assert len(public) > 20
    for name in public:
        base, own = (inspect.signature(getattr(cls, name)).parameters.values() for cls in (Backend, type(backend)))
        assert isinstance(getattr(type(backend), name), Kernel) == isinstance(getattr(Backend, name), Kernel)
        assert [(p.name, p.kind, p.default) for p in own] == [(p.name, p.kind, p.default) for p in base], name


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
    def of(channels, filters, groups=1, stride=1, padding=1, dtype="float32", samples=8, least=8):
        window = make_window(3, stride, padding)
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
    assert kind(32, 32) is kind(16, 16, samples=32) is Winograd
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


# Arrays -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_come_and_go_unchanged(backend, dtype):
    host = normal(3, 4, dtype=dtype)
    array = backend.asarray(host)
    assert backend.owns(array)
    assert not backend.owns([1.0])
    assert_same_bits(backend.to_numpy(array), host)
    assert backend.asarray(host, "float64").dtype == np.float64
    empty = backend.empty((2, 0, 3), dtype)
    assert (empty.shape, empty.dtype.name) == ((2, 0, 3), dtype)
    backend.synchronize()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_depend_on_the_key_alone(backend, dtype):
    draw = backend.random((1, 2, 3, 4), np.full((50, 60), np.nan, dtype))
    assert draw.dtype == dtype
    assert draw.min() >= 0
    assert draw.max() < 1
    assert abs(draw.mean() - 0.5) < 0.02
    assert abs(draw.var() - 1 / 12) < 0.005
    assert_same_bits(backend.random([1, 2, 3, 4], np.empty((50, 60), dtype)), draw)
    for other in [(1, 2, 3, 5), (2, 2, 3, 4), (1, 2, 4, 3)]:
        assert (backend.random(other, np.empty((50, 60), dtype)) != draw).mean() > 0.99


@given(dtype=st.sampled_from(["uint8", "float32", "float64", "int64"]), to=dtypes, layout=layouts)
def test_to_rows(backend, dtype, to, layout):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype(dtype)
    scale = 1 / 255 if dtype == "uint8" else 1.0
    out = np.full((4, 3, 5, 2), np.nan, to)
    assert backend.to_rows(strided(x, layout), out) is out
    for n, c, h, w in np.ndindex(x.shape):
        assert out[h, c, w, n] == pytest.approx(float(x[n, c, h, w]) * scale, rel=1e-6)
    features = np.full((5, 4), np.nan, to)
    backend.to_rows(strided(x[0, 0], layout), features)
    assert_allclose(features, x[0, 0].T * scale, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_finite(backend, dtype):
    x = np.full((3, 4, 5, 2), np.finfo(dtype).max)  # finite, although its square is not
    x[::2] *= -1
    assert backend.all_finite(x.astype(dtype)) is True
    for bad in (np.nan, np.inf, -np.inf):
        x[2, 3, 4, 1] = bad
        assert backend.all_finite(x.astype(dtype)) is False
    assert backend.all_finite(np.zeros(0, dtype)) is True


# Lowering -----------------------------------------------------------------------------------------------------------
def as_columns(columns):
    """Columns (OH, C, KH, KW, OW, N) as the oracle's, (N, C·KH·KW, OH·OW)."""
    OH, C, KH, KW, OW, N = columns.shape
    return columns.transpose(5, 1, 2, 3, 0, 4).reshape(N, C * KH * KW, OH * OW)


@searching
@given(problem=windows(), seed=seeds, dtype=dtypes, layout=layouts)
def test_im2col_and_col2im(backend, problem, seed, dtype, layout):
    size, arguments = problem
    x = normal(2, 3, *size, seed=seed, dtype=dtype)
    window, call = make_window(**arguments), Call(backend, layout)
    OH, OW = naive.output_size(size, **arguments)
    shape = (OH, 3, *window.kernel, OW, 2)
    columns = call("im2col", rows(x), window, shape=shape)
    assert_array_equal(as_columns(columns), naive.unfold(x, **arguments))
    filled = call("im2col", rows(x), window, fill=-7.0, shape=shape)
    inside = as_columns(columns * 0 + call("im2col", np.ones_like(rows(x)), window, shape=shape)) > 0
    assert_array_equal(as_columns(filled), np.where(inside, as_columns(columns), -7))

    other = normal(*shape, seed=seed + 1, dtype=dtype)
    folded = call("col2im", other, window, size, shape=rows(x).shape)
    assert_close(images(folded), naive.fold(as_columns(other), size, **arguments), dtype)
    # adjoint: <im2col(x), other> = <x, col2im(other)>
    a, b = (np.vdot(p.astype("f8"), q.astype("f8")) for p, q in [(columns, other), (rows(x), folded)])
    rounding = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert abs(a - b) <= rounding * (1 + np.linalg.norm(columns) * np.linalg.norm(other))


# Convolution --------------------------------------------------------------------------------------------------------
@searching
@given(problem=convolutions(), dtype=dtypes, kind=kinds, way=ways)
def test_conv2d(backend, problem, dtype, kind, way):
    kind = kind if backend.fuses(kind) else None
    x, w, b, dy, arguments = problem
    x, w, b = of_dtype(dtype, x, w, b)
    window, shape = window_of(w, arguments), rows(dy).shape
    y = Call(backend, **way)(
        "conv2d",
        rows(x),
        w,
        b,
        window,
        arguments["groups"],
        kind,
        shape=shape,
    )
    assert_close(images(y), activated(naive.conv2d(x, w, b, **arguments), kind), dtype)


@searching
@given(problem=convolutions(), dtype=dtypes, way=ways)
def test_conv2d_input_grad(backend, problem, dtype, way):
    x, w, _, dy, arguments = problem
    w, dy = of_dtype(dtype, w, dy)
    window, shape = window_of(w, arguments), rows(x).shape
    dx = Call(backend, **way)(
        "conv2d_input_grad",
        rows(dy),
        w,
        x.shape[2:],
        window,
        arguments["groups"],
        shape=shape,
    )
    assert_close(images(dx), naive.conv2d_input(x.shape, w, dy, **arguments), dtype)


@searching
@given(problem=convolutions(), dtype=dtypes, way=ways, stored=st.booleans())
def test_conv2d_weight_grad(backend, problem, dtype, way, stored):
    x, w, _, dy, arguments = problem
    x, dy = of_dtype(dtype, x, dy)
    window = window_of(w, arguments)
    dw = Call(backend, **way)(
        "conv2d_weight_grad",
        rows(x),
        rows(dy),
        window,
        arguments["groups"],
        shape=w.shape,
        order=backend.weight_order if stored else None,  # as parameters are stored
    )
    assert_close(dw, naive.conv2d_weight(x, w.shape, dy, **arguments), dtype)


def both_gradients(backend, x, dy, w, window, groups):
    """Of images: dx and dw by the kernel that makes both."""
    x, dy, w, order = rows(x).copy(), rows(dy).copy(), w.copy(), backend.weight_order
    backend, call = of_contract(backend), Call(backend)
    X, DY, W = map(call.there, (x, dy, w))
    scratch = [call.spoiled(spec) for spec in backend.conv2d_grads.scratch(X, DY, W, window, groups)]
    dw, dx = call.spoiled(Spec(w.shape, w.dtype.name), order), call.spoiled(Spec(x.shape, x.dtype.name))
    backend.conv2d_grads(X, DY, W, window, groups, dw, dx, scratch)
    found = call.back(dx), call.back(dw)
    prepared = backend.conv2d_grads.prepare(X, DY, W, window, groups, dw, dx, scratch)
    values = [array.copy() for array in (X, DY, W)]
    for array in (X, DY, W):
        array[...] = 1.0
    run(prepared)
    for array, value in zip((X, DY, W), values, strict=True):  # prepared calls see what their arrays hold when made
        array[...] = value
    run(prepared)
    assert_same_bits(call.back(dx), found[0])
    assert_same_bits(call.back(dw), found[1])
    return images(found[0]), found[1]


@searching
@given(problem=convolutions(), dtype=dtypes, tiles=tile_bytes, filters=calls["filters"], m=st.integers(1, 4))
def test_both_gradients(backend, problem, dtype, tiles, filters, m):
    x, w, _, dy, arguments = problem
    x4, w4, dy4 = of_dtype(dtype, x, w, dy)
    backend = tuned(of_contract(backend), tiles, filters, depthwise_rows=m)
    dx, dw = both_gradients(backend, x4, dy4, w4, window_of(w, arguments), arguments["groups"])
    assert_close(dx, naive.conv2d_input(x.shape, w, dy, **arguments), dtype)
    assert_close(dw, naive.conv2d_weight(x, w.shape, dy, **arguments), dtype)


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
    call = Call(backend, tiles=tiles)
    if kernel == "conv2d":
        assert_close(images(call(kernel, rows(x), w, None, window, groups, shape=rows(y).shape)), y, "float64")
    elif kernel == "conv2d_input_grad":
        dx = call(kernel, rows(dy), w, x.shape[2:], window, groups, shape=rows(x).shape)
        assert_close(images(dx), naive.conv2d_input(x.shape, w, dy, **arguments), "float64")
    else:
        dw = call(kernel, rows(x), rows(dy), window, groups, shape=w.shape)
        assert_close(dw, naive.conv2d_weight(x, w.shape, dy, **arguments), "float64")


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


@st.composite
def winograd_problems(draw):
    """Random x, w, b, dy of 3x3 convolutions at stride 1, with up to three tiles of outputs along each axis."""
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2))
    size = [draw(st.integers(max(1, 3 - sum(pads)), 12)) for pads in padding]
    n, channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(seeds))
    x, w = rng.standard_normal((n, channels, *size)), rng.standard_normal((filters, channels, 3, 3))
    dy = rng.standard_normal((n, filters, *naive.output_size(size, (3, 3), 1, padding, 1)))
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
    shapes = rows(x).shape, rows(dy).shape
    sizes = {"winograd_max_tiles": most, "winograd_min_columns": columns, "winograd_half_bytes": half}
    sizes |= dict.fromkeys(("winograd_min_channels", "winograd_min_samples", "winograd_min_products"), 1)
    sizes["winograd_more_columns"] = ALWAYS
    call = Call(get_backend("numpy"), **way, **sizes)
    x4, w4, b4, dy4 = of_dtype("float32", x, w, b, dy)
    y = call("conv2d", rows(x4), w4, b4, window, 1, kind, shape=shapes[1])
    dx = call("conv2d_input_grad", rows(dy4), w4, x.shape[2:], window, 1, shape=shapes[0])
    dw = call("conv2d_weight_grad", rows(x4), rows(dy4), window, 1, shape=w.shape)
    both = both_gradients(call.backend, x4, dy4, w4, window, 1)
    expected = naive.conv2d(x, w, b, **arguments)
    ax, aw, ab, ady = (np.abs(array) for array in (x, w, b, dy))  # what the sums would be if nothing cancelled
    size = x.shape
    for actual, exact, uncancelled in [
        (images(y), activated(expected, kind), naive.conv2d(ax, aw, ab, **arguments)),
        (images(dx), naive.conv2d_input(size, w, dy, **arguments), naive.conv2d_input(size, aw, ady, **arguments)),
        (both[0], naive.conv2d_input(size, w, dy, **arguments), naive.conv2d_input(size, aw, ady, **arguments)),
        (dw, naive.conv2d_weight(x, w.shape, dy, **arguments), naive.conv2d_weight(ax, w.shape, ady, **arguments)),
        (both[1], naive.conv2d_weight(x, w.shape, dy, **arguments), naive.conv2d_weight(ax, w.shape, ady, **arguments)),
    ]:
        assert actual.dtype == "float32"
        assert np.abs(actual - exact).max() <= 1e-5 * uncancelled.max()


@pytest.mark.parametrize(("channels", "size"), [(32, 16), (512, 8)])
def test_winograd_errors_are_at_most_2e_5_of_the_largest_output(channels, size):
    """As they are documented; images that are not centred, as after a ReLU, are the worse case."""
    backend, window = get_backend("numpy"), make_window(3, 1, 1)
    x, dy = (normal(8, channels, size, size, seed=seed, dtype="float32") for seed in (0, 2))
    x = np.abs(x)
    w = normal(channels, channels, 3, 3, seed=1, dtype="float32")
    assert isinstance(algorithm(rows(x).shape, channels, window, 1, x.dtype), Winograd)
    x8, w8, dy8 = (rows(x).astype("f8"), w.astype("f8"), rows(dy).astype("f8"))
    for kernel, arguments, exact in [
        ("conv2d", (rows(x), w, None, window), (x8, w8, None, window)),
        ("conv2d_input_grad", (rows(dy), w, (size, size), window), (dy8, w8, (size, size), window)),
        ("conv2d_weight_grad", (rows(x), rows(dy), window), (x8, dy8, window)),
    ]:
        expected = getattr(backend, kernel)(*exact)  # float64 takes another algorithm
        assert np.abs(getattr(backend, kernel)(*arguments) - expected).max() < 2e-5 * np.abs(expected).max()
    assert backend.conv2d_grads.scratch(rows(x), rows(dy), w, window)
    exact = backend.conv2d_weight_grad(x8, dy8, window)
    assert np.abs(both_gradients(backend, x, dy, w, window, 1)[1] - exact).max() < 2e-5 * np.abs(exact).max()


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
    assert_close(images(y), activated(expected, kind), "float64")
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
    x, w, b, dy, arguments = problem
    window, groups, shapes = window_of(w, arguments), arguments["groups"], (rows(x).shape, rows(dy).shape)
    call = Call(get_backend("numpy"), **way, depthwise_rows=m)
    y = call("conv2d", rows(x), w, b, window, groups, shape=shapes[1])
    dx = call("conv2d_input_grad", rows(dy), w, x.shape[2:], window, groups, shape=shapes[0])
    dw = call("conv2d_weight_grad", rows(x), rows(dy), window, groups, shape=w.shape)
    assert_close(images(y), naive.conv2d(x, w, b, **arguments), "float64")
    assert_close(images(dx), naive.conv2d_input(x.shape, w, dy, **arguments), "float64")
    assert_close(dw, naive.conv2d_weight(x, w.shape, dy, **arguments), "float64")


# Pooling ------------------------------------------------------------------------------------------------------------
@searching
@given(problem=windows(pooling=True), ceil_mode=st.booleans(), ties=st.booleans(), seed=seeds, dtype=dtypes, way=ways)
def test_max_pool2d(backend, problem, ceil_mode, ties, seed, dtype, way):
    size, arguments = problem
    arguments["ceil_mode"] = ceil_mode
    x = normal(2, 3, *size, seed=seed, dtype=dtype)
    if ties:
        x = np.round(x)
    window, call = pooling_window(**arguments), Call(backend, **way)
    expected = naive.max_pool2d(x, **arguments)
    shape = rows(expected).shape
    y = call("max_pool2d", rows(x), window, shape=shape)
    assert y.dtype == dtype
    assert_array_equal(images(y), expected)
    dy = normal(*expected.shape, seed=seed + 1, dtype=dtype)
    dx = call(
        "max_pool2d_grad",
        rows(x),
        y,
        rows(dy),
        window,
        shape=rows(x).shape,
    )
    assert_close(images(dx), naive.max_pool2d_grad(x, dy, **arguments), dtype)


def test_a_maximum_of_minus_infinity_is_the_image_s_and_not_the_padding_s(backend):
    x = np.full((1, 1, 4, 4), -np.inf)
    x[0, 0, 3, 3] = 1.0
    window, dy = pooling_window(3, 2, 1), normal(1, 1, 2, 2)
    y = backend.max_pool2d(rows(x), window)
    assert_array_equal(images(y), naive.max_pool2d(x, 3, 2, 1))
    dx = backend.max_pool2d_grad(rows(x), y, rows(dy), window)
    assert_array_equal(images(dx), naive.max_pool2d_grad(x, dy, 3, 2, 1))


def test_nan_goes_through_max_pooling(backend):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 2] = np.nan
    assert_array_equal(images(backend.max_pool2d(rows(x), pooling_window(2, None, 0))), [[[[0, np.nan], [0, 0]]]])


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
    arguments["ceil_mode"] = ceil_mode
    window, call = pooling_window(**arguments), Call(backend, **way)
    arguments |= {"count_include_pad": include, "divisor_override": divisor}
    x = normal(2, 3, *size, seed=seed, dtype=dtype)
    expected = naive.avg_pool2d(x, **arguments)
    shape = rows(expected).shape
    y = call("avg_pool2d", rows(x), window, include, divisor, shape=shape)
    assert_close(images(y), expected, dtype)
    dy = normal(*expected.shape, seed=seed + 1, dtype=dtype)
    dx = call("avg_pool2d_grad", rows(dy), size, window, include, divisor, shape=rows(x).shape)
    assert_close(images(dx), naive.avg_pool2d_grad(x.shape, dy, **arguments), dtype)


def test_pool_shares(backend):
    window = Window((3, 2), (2, 2), ((1, 0), (0, 1)), ceil_mode=True)
    # rows start at -1, 1, 3 of 5 (all inside the padded image but the last tap's), columns at 0 and 2 of 3 + 1
    shares = backend.pool_shares(window, (5, 3), True, "float32")
    assert (shares.dtype, shares.shape) == (np.float32, (3, 1, 2, 1))
    assert_allclose(1 / shares[:, 0, :, 0], np.outer([3, 3, 2], [2, 2]), rtol=1e-6)
    shares = backend.pool_shares(window, (5, 3), False, "float64")
    assert_allclose(1 / shares[:, 0, :, 0], np.outer([2, 3, 2], [2, 1]), rtol=1e-12)


# Products, sums and masks -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matmul(backend, dtype, layout):
    a, b = normal(4, 3, 5, dtype=dtype), normal(4, 5, 2, seed=1, dtype=dtype)
    call = Call(backend, layout=layout)
    expected = np.stack([naive.linear(p, q.T) for p, q in zip(a, b, strict=True)])
    assert_close(call("matmul", a, b, shape=(4, 3, 2)), expected, dtype)
    assert_close(backend.matmul(a[0], b[0]), expected[0], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sum_samples(backend, dtype, layout):
    dy, call = normal(3, 4, 5, 6, dtype=dtype), Call(backend, layout=layout)
    assert_close(call("sum_samples", rows(dy), shape=(4,)), naive.conv2d_bias(dy), dtype)
    assert_close(call("sum_samples", dy[0, 0], shape=(5,)), np.array([sum(map(float, f)) for f in dy[0, 0]]), dtype)


@given(seed=seeds, dtype=dtypes, way=ways)
@settings(max_examples=20)
def test_relu_grad(backend, seed, dtype, way):
    x, dy = np.round(normal(2, 3, 4, 5, seed=seed, dtype=dtype)), normal(2, 3, 4, 5, seed=seed + 1, dtype=dtype)
    y, expected = naive.relu(x).astype(dtype), naive.relu_grad(x, dy).astype(dtype)
    dx = Call(backend, **way)("activation_grad", rows(y), rows(dy), "relu", shape=rows(x).shape)
    assert_array_equal(images(dx), expected)
    over = rows(dy)
    assert backend.activation_grad(rows(y), over, "relu", out=over) is over
    assert_array_equal(images(over), expected)


# Batch norm ---------------------------------------------------------------------------------------------------------
shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))


@searching
@given(shape=shapes, mean=st.sampled_from([0, 1, -300]), seed=seeds, dtype=dtypes, way=ways)
def test_batch_norm_sums(backend, shape, mean, seed, dtype, way):
    """Σx and Σ(x - mean)² are good enough to take the variance from, even where the mean is far larger."""
    x = normal(*shape, seed=seed, dtype=dtype) + np.asarray(mean, dtype)
    sums = Call(backend, **way)("batch_norm_sums", rows(x), shape=(2, shape[1]))
    exact, n = x.astype("float64"), x[:, 0].size
    single = dtype == "float32"
    assert_allclose(sums[0], exact.sum((0, 2, 3)), rtol=1e-6 if single else 1e-12, atol=1e-5 * n if single else 1e-11)
    assert_allclose(sums[1] / n, exact.var((0, 2, 3)), rtol=1e-4 if single else 1e-8, atol=1e-8)


@searching
@given(shape=shapes, mean=st.sampled_from([0, 1, -300]), seed=seeds, dtype=dtypes, way=ways)
def test_batch_norm_grad_sums(backend, shape, mean, seed, dtype, way):
    x = normal(*shape, seed=seed, dtype=dtype) + np.asarray(mean, dtype)
    dy = normal(*shape, seed=seed + 1, dtype=dtype)
    means = x.astype("float64").mean((0, 2, 3))
    sums = Call(backend, **way)(
        "batch_norm_grad_sums",
        rows(x),
        means,
        rows(dy),
        shape=(2, shape[1]),
    )
    centred, dy = x.astype("float64") - means[:, None, None], dy.astype("float64")
    rtol, atol = (1e-5, 1e-4 * np.sqrt(dy.size)) if dtype == "float32" else (1e-10, 1e-11)
    assert_allclose(sums[0], dy.sum((0, 2, 3)), rtol=rtol, atol=atol)
    assert_allclose(sums[1], (dy * centred).sum((0, 2, 3)), rtol=rtol, atol=atol)


@searching
@given(shape=shapes, mean=st.sampled_from([0, -3]), seed=seeds, dtype=dtypes, affine=st.booleans(), layout=layouts)
def test_batch_norm(backend, shape, mean, seed, dtype, affine, layout):
    """What the kernels make of a batch's sums is batch norm, its gradient and its running statistics."""
    assume(shape[0] * shape[2] * shape[3] > 1)
    N, C, H, W = shape
    n, eps, momentum = N * H * W, 1e-3, 0.3
    x = normal(*shape, seed=seed, dtype=dtype) + np.asarray(mean, dtype)
    dy = normal(*shape, seed=seed + 1, dtype=dtype)
    weight, bias, at, spread = (normal(C, seed=seed + k, dtype=dtype) for k in range(2, 6))
    given_weight, given_bias = (strided(a, layout) if affine else None for a in (weight, bias))
    if not affine:
        weight, bias = np.ones_like(weight), np.zeros_like(bias)

    sums = backend.batch_norm_sums(rows(x), out=np.empty((2, C)))
    of = backend.batch_norm_statistics(sums, n, eps, given_weight, given_bias)
    y = backend.channel_affine(rows(x), of.scale, of.shift)
    sums = backend.batch_norm_grad_sums(rows(x), of.mean, rows(dy), out=np.empty((2, C)))
    b, c = backend.batch_norm_input_grad(sums, n, of)
    dx = backend.channel_affine(rows(dy), of.scale, c, rows(x), b)
    running = at.copy(), spread.copy()
    backend.batch_norm_running(of, n, momentum, *running)

    expected, *expected_running = naive.batch_norm(x, at, spread, weight, bias, True, momentum, eps)
    expected_dx, _, _ = naive.batch_norm_grad(x, dy, at, spread, weight, True, eps)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-3}
    pairs = (images(y), expected), (images(dx), expected_dx), *zip(running, expected_running, strict=True)
    for found, exact in pairs:
        assert found.dtype == dtype
        assert_allclose(found, exact, **tolerance)


@searching
@given(shape=shapes | st.tuples(st.integers(1, 9), st.integers(1, 4)), seed=seeds, dtype=dtypes, layout=layouts)
def test_relu(backend, shape, seed, dtype, layout):
    x = strided(normal(*shape, seed=seed, dtype=dtype), layout)
    x_nan = np.where(np.arange(x.size).reshape(shape) == 0, np.nan, x).astype(dtype)
    assert_array_equal(backend.activation(x, "relu"), np.where(x > 0, x, 0))
    assert np.isnan(backend.activation(x_nan, "relu").flat[0])
    over = x_nan.copy()
    assert backend.activation(over, "relu", out=over) is over
    assert_array_equal(over, backend.activation(x_nan, "relu"))


@searching
@given(shape=shapes, two=st.booleans(), kind=kinds, seed=seeds, dtype=dtypes, way=ways)
def test_channel_affine(backend, shape, two, kind, seed, dtype, way):
    kind = kind if backend.fuses(kind) else None
    x, other = normal(*shape, seed=seed, dtype=dtype), normal(*shape, seed=seed + 1, dtype=dtype)
    scale, shift, other_scale = normal(3, shape[1], seed=seed + 2)
    expected = x * scale[:, None, None] + shift[:, None, None]
    seconds = (rows(other), other_scale) if two else (None, None)
    if two:
        expected += other * other_scale[:, None, None]
    expected = activated(expected, kind)
    y = Call(backend, **way)(
        "channel_affine",
        rows(x),
        scale,
        shift,
        *seconds,
        kind,
        shape=rows(x).shape,
    )
    assert_close(images(y), expected, dtype)
    over = rows(x)
    backend = tuned(backend, way["tiles"])
    assert backend.channel_affine(over, scale, shift, *seconds, kind, out=over) is over
    assert_close(images(over), expected, dtype)


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
    out, dlogits = np.empty(2), np.empty((classes, n))
    backend.cross_entropy(strided(logits.T, layout), labels, scale, out, dlogits)
    assert_allclose(out[0], scale * naive.cross_entropy(logits, labels, "sum"), rtol=1e-12, atol=1e-13)
    guesses = [max(range(classes), key=row.__getitem__) for row in logits]  # the first of equal ones
    assert out[1] == sum(guess == label for guess, label in zip(guesses, labels, strict=True))
    assert_allclose(dlogits.T, scale * naive.cross_entropy_grad(logits, labels, "sum"), rtol=1e-12, atol=1e-13)
