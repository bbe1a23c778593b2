"""Windows: sizes, taps and the reading of arguments, against counting by hand."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from im2colnet.errors import ShapeError
from im2colnet.testing import oracles
from im2colnet.window import Window, make_window, pair, pooling_window

small = st.integers(1, 4)
pads = st.tuples(st.integers(0, 4), st.integers(0, 4))


@st.composite
def windows(draw):
    """Of convolution, or of pooling: those with ceil_mode have at most half a window of padding."""
    kernel, stride, dilation = (draw(st.tuples(small, small)) for _ in range(3))
    padding, ceil_mode = draw(st.tuples(pads, pads)), draw(st.booleans())
    if ceil_mode:
        most = [(d * (k - 1) + 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple((min(a, m), min(b, m)) for (a, b), m in zip(padding, most, strict=True))
    return Window(kernel, stride, padding, dilation, ceil_mode)


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
by_hand = settings(max_examples=200)


def windows_along(window, axis, size):
    """The first tap's position of every window along an axis, from the definition, or None if none fits."""
    (before, after), stride = window.padding[axis], window.stride[axis]
    extent = window.dilation[axis] * (window.kernel[axis] - 1) + 1
    starts = []
    start = -before
    while start + extent <= size + after:
        starts.append(start)
        start += stride
    if window.ceil_mode and start < size:  # one more that starts in the input or the padding before it ...
        reached = start - stride + extent
        if reached < size + after:  # ... if something is left for it
            starts.append(start)
    return starts


def output_size(window, size):
    try:
        return window.output_size(size)
    except ShapeError:
        return None


@by_hand
@given(windows(), sizes)
def test_output_size_is_the_number_of_windows(window, size):
    counts = tuple(len(windows_along(window, axis, size[axis])) for axis in (0, 1))
    assert output_size(window, size) == (counts if all(counts) else None)


@by_hand
@given(windows(), sizes)
def test_output_size_is_the_oracles(window, size):
    expected = oracles.output_size(size, *window)
    assert output_size(window, size) == (expected if min(expected) > 0 else None)


@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        # PyTorch's documentation and well-known networks
        ((224, 224), Window((7, 7), (2, 2), ((3, 3), (3, 3))), (112, 112)),
        ((112, 112), Window((3, 3), (2, 2), ((1, 1), (1, 1))), (56, 56)),
        ((112, 112), Window((3, 3), (2, 2), ceil_mode=True), (56, 56)),
        ((112, 112), Window((3, 3), (2, 2)), (55, 55)),
        ((28, 20), Window((5, 3), dilation=(2, 3)), (20, 14)),
        ((5, 5), Window((2, 2), (3, 3), ((1, 1), (1, 1)), ceil_mode=True), (2, 2)),  # the third would start outside
        ((2, 2), Window((3, 3), (2, 2), ceil_mode=True), (1, 1)),
    ],
)
def test_known_output_sizes(size, window, expected):
    assert window.output_size(size) == expected


def test_extent():
    assert Window((3, 1), dilation=(2, 5)).extent == (5, 1)


@by_hand
@given(windows(), sizes, st.integers(0, 1))
def test_taps(window, sizes, axis):
    size = sizes[axis]
    starts = windows_along(window, axis, size)
    taps = window.taps(axis, size, len(starts))
    assert len(taps) == window.kernel[axis]
    for k, (lo, hi, start) in enumerate(taps):
        inputs = [o + k * window.dilation[axis] for o in starts]
        inside = [o for o, i in enumerate(inputs) if 0 <= i < size]
        assert list(range(lo, hi)) == inside
        assert 0 <= lo <= hi <= len(starts)
        if inside:
            assert start == inputs[lo]


@by_hand
@given(windows(), sizes)
def test_pairs(window, size):
    """Each tap brings exactly those outputs and inputs together that the definition does."""
    if output_size(window, size) is None:
        return
    H, W = size
    OH, OW = window.output_size(size)
    x = np.arange(H * W).reshape(H, 1, W, 1)
    y = np.arange(OH * OW).reshape(OH, 1, OW, 1)
    found = []
    for i, j, outputs, inputs in window.pairs(size):
        assert y[outputs].shape == x[inputs].shape
        found += [(i, j, o, p) for o, p in zip(y[outputs].ravel(), x[inputs].ravel(), strict=True)]
    (sh, sw), (dh, dw), ((top, _), (left, _)) = window.stride, window.dilation, window.padding
    expected = [
        (i, j, r * OW + c, (r * sh + i * dh - top) * W + c * sw + j * dw - left)
        for i, j in np.ndindex(window.kernel)
        for r, c in np.ndindex(OH, OW)
        if 0 <= r * sh + i * dh - top < H and 0 <= c * sw + j * dw - left < W
    ]
    assert found == expected


@by_hand
@given(windows(), sizes, st.data())
def test_a_band_makes_its_rows_of_the_output(window, size, data):
    """Output rows a to b of an image are all the rows that the band makes of the rows that it reads."""
    if output_size(window, size) is None:
        return
    (H, W), (OH, OW) = size, window.output_size(size)
    a = data.draw(st.integers(0, OH - 1))
    b = data.draw(st.integers(a + 1, OH))
    band = window.band(slice(a, b), H)
    meet = [o for i, _, (rows, _, _), _ in window.pairs(size) for o in range(rows.start, rows.stop) if a <= o < b]
    if band is None:
        assert not meet  # they see padding alone
        return
    part, inputs = band
    assert part.output_size((inputs.stop - inputs.start, W)) == (b - a, OW)
    x = np.arange(1, H * W + 1).reshape(H, 1, W, 1)

    def columns(of, image):
        found = np.zeros((*window.kernel, *of.output_size((len(image), W))), int)
        for i, j, (rows, _, cols), (irows, _, icols) in of.pairs((len(image), W)):
            found[i, j, rows, cols] = image[irows, 0, icols, 0]
        return found

    np.testing.assert_array_equal(columns(part, x[inputs]), columns(window, x)[:, :, a:b])


# Arguments as users write them --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (2, ((2, 2), (2, 2))),
        (np.int64(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((0, 1), (2, 3)), ((0, 1), (2, 3))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (1, 2))),
    ],
)
def test_padding(padding, expected):
    window = make_window((3, 2), padding=padding, dilation=(1, 3))
    assert window.padding == expected
    assert all(type(p) is int for side in window.padding for p in side)


@given(st.tuples(small, small), st.tuples(small, small), sizes)
def test_same_keeps_the_size(kernel, dilation, size):
    window = make_window(kernel, padding="same", dilation=dilation)
    assert window.output_size(size) == size
    for before, after in window.padding:
        assert after - before in (0, 1)  # PyTorch's: an odd one goes to the end


def test_numbers_and_pairs_of_any_kind():
    expected = Window((3, 2), (2, 2), ((0, 0), (0, 0)), (1, 2), True)
    assert make_window([3, 2], 2, 0, (1, 2), True) == expected
    assert make_window((np.int64(3), np.uint8(2)), np.int32(2), 0, (1, 2), 1) == expected
    assert pair(3, "x") == (3, 3)


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True, (1,), (1, 2, 3), (1, 0), (1, 2.0), ()])
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
def test_bad_number(name, value):
    arguments = {"kernel_size": 3, name: value}
    with pytest.raises(ShapeError, match=name) as error:
        make_window(**arguments)
    assert repr(value) in str(error.value)
    assert "at least 1" in str(error.value)


@pytest.mark.parametrize(
    "value", [-1, 1.0, "full", None, True, (1,), (1, 2, 3), (1, -1), ((1, 2),), ((1, 2), (3, -4)), ()]
)
def test_bad_padding(value):
    with pytest.raises(ShapeError, match="padding must be") as error:
        make_window(3, padding=value)
    assert repr(value) in str(error.value)
    assert "((top, bottom), (left, right))" in str(error.value)


def test_same_needs_stride_1():
    with pytest.raises(ShapeError, match=r"stride 1, got stride \(1, 2\)"):
        make_window(3, stride=(1, 2), padding="same")


def test_errors_show_the_arithmetic():
    window = make_window((2, 5), stride=(1, 3), padding=((0, 0), (1, 2)), dilation=(1, 4))
    text = "the width would be (input 3 + padding 1+2 - dilation 4 * (kernel 5 - 1) - 1) // stride 3 + 1 = -3"
    assert (3 + 1 + 2 - 4 * (5 - 1) - 1) // 3 + 1 == -3
    with pytest.raises(ShapeError, match=re.escape(text)):
        window.output_size((9, 3))
    with pytest.raises(ShapeError, match="the height would be"):
        window.output_size((1, 99))
    with pytest.raises(ShapeError, match="input 0"):
        make_window(1, padding=1).output_size((0, 5))


# Pooling ------------------------------------------------------------------------------------------------------------
def test_pooling_stride_is_the_kernel():
    assert pooling_window((3, 2), None, 0).stride == (3, 2)
    assert pooling_window((3, 2), 1, 0).stride == (1, 1)
    assert pooling_window(4, None, ((0, 2), (1, 0))) == Window((4, 4), (4, 4), ((0, 2), (1, 0)))
    assert pooling_window(3, 2, 1, 2, True) == Window((3, 3), (2, 2), ((1, 1), (1, 1)), (2, 2), True)


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation", "what"),
    [
        (2, 2, 1, "height"),
        (3, 2, 1, "height"),
        (1, 1, 1, "height"),
        ((3, 1), (1, 1), 1, "width"),
        (3, 2, 2, "height"),
        (3, ((1, 1), (0, 2)), 1, "width"),
    ],
)
def test_pooling_padding_is_at_most_half_the_window(kernel, padding, dilation, what):
    with pytest.raises(ShapeError, match=f"along the {what} is more than half of the kernel's"):
        pooling_window(kernel, None, padding, dilation)


@given(small, st.integers(1, 3), sizes)
def test_every_pooling_window_without_dilation_holds_a_pixel(kernel, stride, size):
    window = pooling_window(kernel, stride, kernel // 2, ceil_mode=True)
    if output_size(window, size) is None:
        return
    for axis in (0, 1):
        for start in windows_along(window, axis, size[axis]):
            assert any(0 <= start + k < size[axis] for k in range(kernel))
