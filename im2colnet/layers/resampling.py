"""Layers that change the number of pixels without parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import more_than_zero, one_of
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, _images
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import pair

__all__ = ["Upsample"]


@dataclass(eq=False, repr=False)
class Upsample(Layer):
    """Images of another size, each pixel taken from the nearest ones of the input: PyTorch's ``Upsample``.

    Parameters
    ----------
    scale_factor : float or (height, width), optional
        2 if no ``size`` is given. The size of the output is its product with that of the input, rounded down.
    size : int or (height, width), optional
        Size of the output, in place of ``scale_factor``.
    mode : {"nearest", "bilinear"}
    align_corners : bool, optional
        Of "bilinear": whether the corners of input and output are the middles of their corner pixels, and not the
        corners of these. By default False.
    recompute_scale_factor : bool, optional
        Whether the output's pixels lie evenly over the input, as for a ``size``. By default they are
        ``1 / scale_factor`` of its pixels apart, which is not the same if the size of the output was rounded down.

    Notes
    -----
    As in PyTorch, the output's pixels lie evenly in any case along an axis whose size stays the same, and for "nearest"
    along one whose size doubles.

    "bilinear", and "nearest" to a size that is no multiple, are products with a matrix along each axis, whose rows hold
    the weights of the input's pixels.
    """

    scale_factor: float | tuple[float, float] | None = None
    size: int | tuple[int, int] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None
    fixed: ClassVar[frozenset[str]] = frozenset(
        {"scale_factor", "size", "mode", "align_corners", "recompute_scale_factor"}
    )

    def __post_init__(self) -> None:
        if self.size is not None and self.scale_factor is not None:
            raise ShapeError(f"give scale_factor or size, not both: got {self.scale_factor!r} and {self.size!r}")
        self.factors = _two_factors(2 if self.scale_factor is None else self.scale_factor)
        self._size = None if self.size is None else pair(self.size, "size")
        one_of("mode", self.mode, "nearest", "bilinear")
        one_of("align_corners", self.align_corners, None, True, False)
        if self.mode == "nearest" and self.align_corners is not None:
            raise ShapeError('align_corners is for mode="bilinear" alone')
        one_of("recompute_scale_factor", self.recompute_scale_factor, None, True, False)
        if self.recompute_scale_factor and self.size is not None:
            raise ShapeError("recompute_scale_factor is for scale_factor, not for size")

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), (a, b) = _images(x), self.factors
        oh, ow = self._size or (int(H * a), int(W * b))
        if not (oh and ow):
            raise ShapeError(f"scale_factor={self.scale_factor!r} leaves no pixel of images of the size {(H, W)}")
        return oh, C, ow, N

    def evenly(self, axis: int, n: int, out: int) -> bool:
        """Whether ``out`` pixels lie evenly over n pixels of the input, on the first axis or the second."""
        rounded_down = self._size is None and out != n * self.factors[axis]
        doubles = self.mode == "nearest" and out == 2 * n
        return not rounded_down or bool(self.recompute_scale_factor) or out == n or doubles

    def _repeats(self, x: Shape, y: Shape) -> bool:
        """Whether each pixel is repeated, the same number of times along an axis."""
        sizes = (x[0], y[0]), (x[2], y[2])
        even = all(out % n == 0 and self.evenly(axis, n, out) for axis, (n, out) in enumerate(sizes))
        return self.mode == "nearest" and even

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if self._repeats(x, y):
            return Needs(input=False, output=False)
        rows = {"rows": [Spec((y[0], *x[1:]), dtype)]}
        return Needs(input=False, output=False, forward=rows, backward=rows)

    def flops(self, x: Shape, y: Shape) -> int:
        if self._repeats(x, y):
            return 0
        (H, C, W, N), (OH, _, OW, _) = x, y
        return 2 * OH * C * N * W * (H + OW)

    def band(self, rows: slice, x: Shape) -> Band:
        y = self.output_shape(x)
        a = y[0] // x[0]
        if not self._repeats(x, y) or self._size or rows.start % a or rows.stop % a:
            return None
        return self, slice(rows.start // a, rows.stop // a)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        if self._repeats(x.shape, ctx.y.shape):
            yield partial(setitem, _blocks(ctx.y, x.shape), ..., x[:, None, :, :, None])
            return
        (along_height, along_width), (rows,) = self._matrices(x, ctx), ctx.scratch["rows"]
        yield partial(ctx.xp.matmul, along_height, _flat(x), out=_flat(rows))
        yield partial(ctx.xp.matmul, along_width, rows, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, dx = ctx.xp, ctx.dx
        if not self._repeats(dx.shape, dy.shape):
            (along_height, along_width), (rows,) = self._matrices(dx, ctx), ctx.scratch["rows"]
            yield partial(xp.matmul, along_width.T, dy, out=rows)
            yield partial(xp.matmul, along_height.T, _flat(rows), out=_flat(dx))
            return
        blocks, sums = _blocks(dy, dx.shape), accumulator(dx.dtype.name)
        if sums == dx.dtype.name:
            yield partial(xp.sum, blocks, axis=(1, 4), out=dx)
        else:
            yield lambda: setitem(dx, ..., xp.sum(blocks, axis=(1, 4), dtype=sums))

    def nearest(self, axis: int, n: int, out: int) -> Any:
        """Return the pixel of n of the input that each of ``out`` pixels shows, on the first axis or the second."""
        from im2colnet.host import np

        pixels = np.arange(out)
        if self.evenly(axis, n, out):
            return pixels * n // out
        return np.minimum((pixels * (1 / self.factors[axis])).astype(int), n - 1)

    def _matrices(self, x: Array, ctx: Context) -> list[Array]:
        """Return the matrices (OH, H) and (OW, W) of weights."""
        from im2colnet.host import np  # they are made once, on the host

        y, found = self.output_shape(x.shape), []
        for axis, (n, out) in enumerate(((x.shape[0], y[0]), (x.shape[2], y[2]))):
            pixels = np.arange(out)
            if self.mode == "nearest":
                low = high = self.nearest(axis, n, out)
                weight = np.zeros(out)
            else:
                apart = n / out if self.evenly(axis, n, out) else 1 / self.factors[axis]  # in pixels of the input
                if self.align_corners:
                    place = pixels * ((n - 1) / max(1, out - 1))
                else:
                    place = np.maximum((pixels + 0.5) * apart - 0.5, 0)
                low = np.minimum(place.astype(int), n - 1)
                high, weight = np.minimum(low + 1, n - 1), place - low
            matrix = np.zeros((out, n))
            np.add.at(matrix, (pixels, low), 1 - weight)
            np.add.at(matrix, (pixels, high), weight)
            found.append(ctx.backend.asarray(matrix.astype(x.dtype.name)))
        return found


def _two_factors(given: Any) -> tuple[float, float]:
    """Return the factors of height and width, as integers where they are whole."""
    factors = list(given) if hasattr(given, "__iter__") and not isinstance(given, str) else [given, given]
    if len(factors) != 2:
        raise ShapeError(f"scale_factor must be a number or two, (height, width), got {given!r}")
    height, width = (more_than_zero("scale_factor", factor) for factor in factors)
    return int(height) if height == int(height) else height, int(width) if width == int(width) else width


def _flat(x: Array) -> Array:
    """Images (H, C, W, N) as the matrix (H, C·W·N), a view."""
    return x.reshape(x.shape[0], -1)


def _blocks(y: Array, x: Shape) -> Array:
    """Outputs (H·a, C, W·b, N) as (H, a, C, W, b, N), a view."""
    (OH, C, OW, N), (H, _, W, _) = y.shape, x
    return y.reshape(H, OH // H, C, W, OW // W, N)
