"""The sliding window that convolution, pooling and lowering share.

Along one axis, output position ``o`` and kernel position (tap) ``k`` meet at the input position

    i = o * stride + k * dilation - padding_before

and everything a window operation needs follows from it: the output's size, and for each tap the range of
outputs whose input lies inside the image. Outside it, the operation sees padding.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from im2colnet.checks import whole
from im2colnet.errors import ShapeError

Pair = tuple[int, int]
#: tap (i, j), and the outputs and inputs that it brings together
Meeting = tuple[int, int, tuple[slice, slice, slice], tuple[slice, slice, slice]]
ALL = slice(None)
#: what users call height and width, by the number of axes that they see
NAMES = {1: ("height", "length"), 2: ("height", "width")}
#: how padding may be given for each axis or side, by the number of axes
PADDINGS = {1: " or ((left, right),)", 2: ", a pair (height, width) or ((top, bottom), (left, right))"}


class Tap(NamedTuple):
    """One kernel position along one axis: outputs ``lo:hi`` meet inputs ``start, start + stride, ...``."""

    lo: int
    hi: int
    start: int


class Window(NamedTuple):
    """A window in two dimensions; every field holds (height, width)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    @property
    def axes(self) -> int:
        """The number of axes that the window slides over, as users see them: 2 for images."""
        return 2

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two axes in error messages."""
        return NAMES[self.axes]

    @property
    def extent(self) -> Pair:
        """The number of inputs from the first tap to the last: dilation * (kernel - 1) + 1."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def overlaps(self) -> bool:
        """Whether a pixel can be in two windows."""
        return self.extent[0] > self.stride[0] or self.extent[1] > self.stride[1]

    def tiles(self, size: Pair) -> bool:
        """Whether each pixel of an image of this size is in exactly one window, as one of its taps."""
        met = sum((o[0].stop - o[0].start) * (o[2].stop - o[2].start) for _, _, o, _ in self.pairs(size))
        return not self.overlaps and met == prod(size)

    @property
    def flipped(self) -> Window | None:
        """The window of the input's gradient as a convolution of ``dy`` with the flipped weight.

        There is one at stride 1, unless the padding is wider than the window reaches.
        """
        (top, bottom), (left, right) = self.padding
        eh, ew = self.extent[0] - 1, self.extent[1] - 1
        if self.stride != (1, 1) or max(top, bottom) > eh or max(left, right) > ew:
            return None
        return Window(self.kernel, (1, 1), ((eh - top, eh - bottom), (ew - left, ew - right)), self.dilation)

    def band(self, rows: slice, H: int) -> tuple[Window, slice] | None:
        """Return the window that computes only these ``rows`` of the output, and the input rows (of H) that it reads.

        The result is None if these rows depend on padding alone.
        """
        (top, _), across = self.padding
        first = rows.start * self.stride[0] - top
        last = (rows.stop - 1) * self.stride[0] - top + self.extent[0]
        lo, hi = max(first, 0), min(last, H)
        if lo >= hi:
            return None
        return self._replace(padding=((lo - first, last - hi), across)), slice(lo, hi)

    def output_size(self, size: Pair) -> Pair:
        """Height and width of the output for an input of ``size`` (H, W).

        ``floor((size + padding - extent) / stride) + 1``; with ``ceil_mode`` the division rounds up, but the last
        window must start inside the input or the padding before it (PyTorch's rule).

        Raises
        ------
        ShapeError
            If no output is left; the message shows the arithmetic.
        """
        return self._axis_size(0, size[0]), self._axis_size(1, size[1])

    def image_size(self, size: Pair, more: Pair = (0, 0)) -> Pair:
        """Height and width of a transposed convolution's output for an input of ``size`` (H, W).

        ``(size - 1) * stride + extent - padding + more``, where ``more`` are the additional rows and columns.

        Raises
        ------
        ShapeError
            If no image is left; the message shows the arithmetic.
        """
        return self._image_size(0, size[0], more[0]), self._image_size(1, size[1], more[1])

    def _image_size(self, axis: int, size: int, more: int) -> int:
        k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
        before, after = self.padding[axis]
        out = (size - 1) * s - before - after + self.extent[axis] + more
        if size < 1 or out < 1:
            raise ShapeError(
                f"no output is left: the {self.names[axis]} would be (input {size} - 1) * stride {s} - padding"
                f" {before}+{after} + dilation {d} * (kernel {k} - 1) + output_padding {more} + 1 = {out};"
                " use less padding, or a larger kernel, dilation, stride or input"
            )
        return out

    def _axis_size(self, axis: int, size: int) -> int:
        k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
        before, after = self.padding[axis]
        room = size + before + after - self.extent[axis]
        out = (-(-room // s) if self.ceil_mode else room // s) + 1
        if self.ceil_mode and (out - 1) * s >= size + before:
            out -= 1
        if size < 1 or out < 1:
            raise ShapeError(
                f"no output is left: the {self.names[axis]} would be (input {size} + padding {before}+{after}"
                f" - dilation {d} * (kernel {k} - 1) - 1) // stride {s} + 1 = {out};"
                " use a smaller kernel or dilation, more padding, or a larger input"
            )
        return out

    @lru_cache(maxsize=4096)  # noqa: B019 - windows are values, not objects with a life of their own
    def taps(self, axis: int, size: int, out_size: int) -> tuple[Tap, ...]:
        """For each kernel position along ``axis`` the outputs whose input lies inside an image of ``size``."""
        s, d, before = self.stride[axis], self.dilation[axis], self.padding[axis][0]
        found = []
        for k in range(self.kernel[axis]):
            lo = min(max(0, -((k * d - before) // s)), out_size)  # the division rounds up
            hi = max(lo, min(out_size, (size - 1 + before - k * d) // s + 1))
            found.append(Tap(lo, hi, lo * s + k * d - before))
        return tuple(found)

    def counts(self, size: Pair, padding: bool) -> tuple[list[int], list[int]]:
        """For each output row and each output column, the number of taps inside the image, or the padded image.

        Taps beyond the padding, which ``ceil_mode`` allows, never count.
        """
        found = []
        for axis, (n, out) in enumerate(zip(size, self.output_size(size), strict=True)):
            (before, after), s, d = self.padding[axis], self.stride[axis], self.dilation[axis]
            lo, hi = (-before, n + after) if padding else (0, n)
            starts = [o * s - before for o in range(out)]
            found.append([sum(lo <= a + k * d < hi for k in range(self.kernel[axis])) for a in starts])
        return found[0], found[1]

    @lru_cache(maxsize=4096)  # noqa: B019
    def pairs(self, size: Pair) -> tuple[Meeting, ...]:
        """For each tap in row-major order ``(i, j, outputs, inputs)``.

        ``outputs`` indexes an array (OH, C, OW, N) and ``inputs`` an array (H, C, W, N), so that
        ``y[outputs]`` and ``x[inputs]`` are the elements that tap (i, j) brings together.
        """
        (sh, sw), (oh, ow) = self.stride, self.output_size(size)
        rows, columns = self.taps(0, size[0], oh), self.taps(1, size[1], ow)
        return tuple(
            (
                i,
                j,
                (slice(r0, r1), ALL, slice(c0, c1)),
                (slice(top, top + (r1 - r0 - 1) * sh + 1, sh), ALL, slice(left, left + (c1 - c0 - 1) * sw + 1, sw)),
            )
            for i, (r0, r1, top) in enumerate(rows)
            for j, (c0, c1, left) in enumerate(columns)
            if r1 > r0 and c1 > c0
        )


class RowWindow(Window):
    """The window of sequences, which are images of one row: its height is 1, and users call the width length."""

    @property
    def axes(self) -> int:
        return 1


WINDOWS = {1: RowWindow, 2: Window}


def pair(value: Any, name: str, least: int = 1, axes: int = 2) -> Pair:
    """Read a number, or one for each axis, as (height, width), each at least ``least``; one axis is the width."""
    try:
        numbers = value if hasattr(value, "__iter__") else (value,) * axes
        height, width = [least] * (2 - axes) + [whole(name, n, least) for n in numbers]
        return height, width
    except (TypeError, ValueError):  # ShapeError is a ValueError
        wanted = f"an integer{' or a pair of integers' if axes == 2 else ''} of at least {least}"
        raise ShapeError(f"{name} must be {wanted}, got {value!r}") from None


def make_window(
    kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, axes: int = 2
) -> Window:
    """Build a :class:`Window` from arguments as users write them.

    Padding is a number, (height, width), ((top, bottom), (left, right)), "same" or "valid"; the other arguments are a
    number or (height, width). With ``axes=1`` the window is for sequences and has no height: padding may be
    ((left, right),).

    Raises
    ------
    ShapeError
        If an argument does not have one of these forms, or is out of range.
    """
    kernel = pair(kernel_size, "kernel_size", axes=axes)
    steps, spread = pair(stride, "stride", axes=axes), pair(dilation, "dilation", axes=axes)
    return WINDOWS[axes](kernel, steps, _padding(padding, kernel, steps, spread, axes), spread, bool(ceil_mode))


def make_output_padding(output_padding: Any, window: Window) -> Pair:
    """Read the additional rows and columns of a transposed convolution's output: less than the stride or dilation.

    Images whose sizes differ by less than the stride have the same number of windows. A further pixel is in no window.
    """
    found = pair(output_padding, "output_padding", 0, window.axes)
    for what, more, s, d in zip(window.names, found, window.stride, window.dilation, strict=True):
        if more >= max(s, d):
            raise ShapeError(
                f"output_padding {more} along the {what} must be less than the stride {s} or the dilation {d}"
            )
    return found


def _padding(padding: Any, kernel: Pair, stride: Pair, dilation: Pair, axes: int) -> tuple[Pair, Pair]:
    if isinstance(padding, str) and padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding == "same":
        if stride != (1, 1):
            raise ShapeError(f'padding="same" needs stride 1, got stride {stride}; give the padding as numbers')
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    try:
        sides = list(padding) if hasattr(padding, "__iter__") else []
        if sides and all(hasattr(side, "__iter__") for side in sides):
            vertical, horizontal = [(0, 0)] * (2 - axes) + [pair(side, "padding", 0) for side in sides]
            return vertical, horizontal
        ph, pw = pair(padding, "padding", 0, axes)
    except ValueError:
        raise ShapeError(
            f'padding must be "same", "valid", an integer of at least 0{PADDINGS[axes]}, got {padding!r}'
        ) from None
    return (ph, ph), (pw, pw)


def pooling_window(
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    ceil_mode: bool = False,
    axes: int = 2,
    at_most_half: bool = True,
) -> Window:
    """Build a pooling window: the stride defaults to the kernel.

    Padding is at most half of the kernel, as in PyTorch, or else less than the window, so that each window sees the
    image.
    """
    window = make_window(kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode, axes)
    for what, pads, k, extent in zip(window.names, window.padding, window.kernel, window.extent, strict=True):
        if at_most_half and max(pads) > k // 2:
            raise ShapeError(f"padding {pads} along the {what} is more than half of the kernel's {k}")
        if max(pads) >= extent:
            raise ShapeError(f"padding {pads} along the {what} must be less than the window, which is {extent} long")
    return window
