"""Layers that change the number of pixels without parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import LOWEST, more_than_zero, number, one_of, truth_value
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, _images
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import pair

__all__ = ["Resize", "Upsample"]


class Resampling(Layer):
    """Base of the layers whose pixels are sums of the input's: products with a matrix along each axis of the image."""

    def weights(self, axis: int, n: int, out: int) -> Any:
        """Return the weights (out, n) of the input's pixels for each of the output's, on the first axis or the second.

        It is an array of the host, float64.
        """
        raise NotImplementedError(f"{type(self).__name__} must define weights(axis, n, out)")

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        rows = {"rows": [Spec((y[0], *x[1:]), dtype)]}
        return Needs(input=False, output=False, forward=rows, backward=rows)

    def flops(self, x: Shape, y: Shape) -> int:
        (H, C, W, N), (OH, _, OW, _) = x, y
        return 2 * OH * C * N * W * (H + OW)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        (along_height, along_width), (rows,) = self._matrices(x, ctx.y, ctx), ctx.scratch["rows"]
        yield partial(ctx.xp.matmul, along_height, _flat(x), out=_flat(rows))
        yield partial(ctx.xp.matmul, along_width, rows, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        (along_height, along_width), (rows,) = self._matrices(ctx.dx, dy, ctx), ctx.scratch["rows"]
        yield partial(ctx.xp.matmul, along_width.T, dy, out=rows)
        yield partial(ctx.xp.matmul, along_height.T, _flat(rows), out=_flat(ctx.dx))

    def _matrices(self, x: Array, y: Array, ctx: Context) -> list[Array]:
        """Return the matrices (OH, H) and (OW, W) of weights, which are made once, on the host."""
        matrices = self.weights(0, x.shape[0], y.shape[0]), self.weights(1, x.shape[2], y.shape[2])
        return [ctx.backend.asarray(matrix.astype(x.dtype.name)) for matrix in matrices]


def linear(distance: Any) -> Any:
    """Weight of a pixel at a distance, for an image that is linear between its pixels."""
    return (1 - abs(distance)).clip(0)


def cubic(distance: Any, a: float) -> Any:
    """Weight of a pixel at a distance, for cubic convolution (Keys 1981, where a is -1/2)."""
    d = abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, (((d - 5) * d + 8) * d - 4) * a
    return near * (d <= 1) + far * ((d > 1) & (d < 2))


#: how far the weights reach, in pixels
REACH = {"linear": 1, "cubic": 2}


def weights_at(
    places: Any, n: int, weight: Callable[[Any], Any], reach: int, density: float = 1.0, inside_alone: bool = False
) -> Any:
    """Return the weights of n pixels for each of several places between them, (places, n).

    Parameters
    ----------
    places : (P,) array
    n : int
    weight : callable
        Function of an array of distances, in pixels.
    reach : int
        The distance from which on the weight is 0.
    density : float
        Factor of the distances. It is less than 1 if an image becomes smaller, so that all its pixels have a weight.
    inside_alone : bool
        Whether pixels outside have weight 0; otherwise they have the value of the outermost pixel.
    """
    from im2colnet.host import np

    first = np.floor(places - reach / density).astype(int) + 1
    pixels = first[:, None] + np.arange(ceil(2 * reach / density))
    found = weight((pixels - places[:, None]) * density)
    if inside_alone:
        found = found * ((pixels >= 0) & (pixels < n))
    if inside_alone or density != 1:
        found = found / found.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(places), n))
    np.add.at(matrix, (np.arange(len(places))[:, None], pixels.clip(0, n - 1)), found)
    return matrix


def shown_pixels(pixels: Any, n: int) -> Any:
    """Return the weights (P, n) where each number is one of n pixels."""
    from im2colnet.host import np

    return np.equal(pixels[:, None], np.arange(n)).astype("float64")


@dataclass(eq=False, repr=False)
class Upsample(Resampling):
    """Resize images by interpolation (upsampling), with PyTorch's rules.

    Maps images (N, C, H, W) to (N, C, OH, OW), where (OH, OW) is ``size``, or OH is ``floor(H · scale_factor)`` and OW
    is ``floor(W · scale_factor)``.

    Parameters
    ----------
    scale_factor : float or (height, width), optional
        The size of the output is the size of the input times this factor, rounded down. By default 2 if there is no
        ``size``.
    size : int or (height, width), optional
        Size of the output, in place of ``scale_factor``.
    mode : {"nearest", "bilinear", "bicubic"}
        "bicubic" is cubic convolution with a = -3/4 (Keys 1981).
    align_corners : bool, optional
        For "bilinear" and "bicubic": whether to align the centers of the corner pixels of input and output, instead of
        the corners of these pixels. By default False.
    recompute_scale_factor : bool, optional
        Whether to compute the scale again from the sizes of input and output, as for a given ``size``. By default
        ``scale_factor`` itself is used, which makes a difference if the size of the output was rounded down.

    Raises
    ------
    ShapeError
        If an argument is out of range, or both a size and a factor are given.

    Notes
    -----
    As in PyTorch, the scale is always computed from the sizes along an axis whose size stays the same, unless the mode
    is "bicubic", and for "nearest" also along an axis whose size doubles.

    Each axis is resized by a product with a matrix, whose rows hold the weights of the input's pixels. The exception is
    "nearest" to a multiple of the size, which repeats the pixels.

    Examples
    --------
    >>> layer = ic.Upsample(size=(1, 4), mode="bilinear")
    >>> ic.Sequential([layer]).predict([[[[0.0, 8.0]]]])
    array([[[[0., 2., 6., 8.]]]], dtype=float32)
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
        one_of("mode", self.mode, "nearest", "bilinear", "bicubic")
        one_of("align_corners", self.align_corners, None, True, False)
        if self.mode == "nearest" and self.align_corners is not None:
            raise ShapeError('align_corners is for mode="bilinear" and "bicubic" alone')
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
        stays = out == n and self.mode != "bicubic"
        return not rounded_down or bool(self.recompute_scale_factor) or stays or doubles

    def _repeats(self, x: Shape, y: Shape) -> bool:
        """Whether each pixel is repeated, the same number of times along an axis."""
        sizes = (x[0], y[0]), (x[2], y[2])
        even = all(out % n == 0 and self.evenly(axis, n, out) for axis, (n, out) in enumerate(sizes))
        return self.mode == "nearest" and even

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if self._repeats(x, y):
            return Needs(input=False, output=False)
        return super().needs(x, y, dtype, backend, training)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0 if self._repeats(x, y) else super().flops(x, y)

    def band(self, rows: slice, x: Shape) -> Band:
        y = self.output_shape(x)
        a = y[0] // x[0]
        if not self._repeats(x, y) or self._size or rows.start % a or rows.stop % a:
            return None
        return self, slice(rows.start // a, rows.stop // a)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        if self._repeats(x.shape, ctx.y.shape):
            yield partial(setitem, _blocks(ctx.y, x.shape), ..., x[:, None, :, :, None])
        else:
            yield from super().prepare_forward(x, ctx)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, dx = ctx.xp, ctx.dx
        if not self._repeats(dx.shape, dy.shape):
            yield from super().prepare_backward(dy, ctx)
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

    def weights(self, axis: int, n: int, out: int) -> Any:
        from im2colnet.host import np

        if self.mode == "nearest":
            return shown_pixels(self.nearest(axis, n, out), n)
        apart = n / out if self.evenly(axis, n, out) else 1 / self.factors[axis]  # in pixels of the input
        pixels = np.arange(out)
        places = pixels * ((n - 1) / max(1, out - 1)) if self.align_corners else (pixels + 0.5) * apart - 0.5
        if self.mode == "bilinear":
            return weights_at(places.clip(0, n - 1), n, linear, REACH["linear"])
        return weights_at(places, n, partial(cubic, a=-0.75), REACH["cubic"])


#: functions that round a position to a pixel, by ONNX's names
ROUNDINGS: dict[str, Callable[[Any, Any], Any]] = {
    "round_prefer_floor": lambda np, place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda np, place: np.floor(place + 0.5),
    "floor": lambda np, place: np.floor(place),
    "ceil": lambda np, place: np.ceil(place),
}
#: where the output's pixels lie in the input, from their numbers, the input's length, the output's, and its factor
COORDINATES: dict[str, Callable[[Any, int, int, float], Any]] = {
    "half_pixel": lambda pixels, n, out, factor: (pixels + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda pixels, n, out, factor: (pixels + 0.5) / factor - 0.5 if out > 1 else pixels * 0.0,
    "half_pixel_symmetric": lambda pixels, n, out, factor: (
        n / 2 * (1 - out / (n * factor)) + (pixels + 0.5) / factor - 0.5
    ),
    "align_corners": lambda pixels, n, out, factor: pixels * ((n - 1) / max(1, out - 1)),
    "asymmetric": lambda pixels, n, out, factor: pixels / factor,
    "tf_half_pixel_for_nn": lambda pixels, n, out, factor: (pixels + 0.5) / factor,
}


@dataclass(eq=False, repr=False)
class Resize(Resampling):
    """Resize images with the rules of ONNX's ``Resize``, which include those of other libraries.

    Maps images (N, C, H, W) to (N, C, OH, OW). For PyTorch's rules use :class:`Upsample`, which is faster if it repeats
    pixels.

    Parameters
    ----------
    size : int or (height, width), optional
        Size of the output.
    scale_factor : float or (height, width), optional
        Factor of the input's size. The size of the output is the product, rounded down, unless ``size`` is given too.
        By default the factor is the ratio of the sizes.
    mode : {"nearest", "linear", "cubic"}
        How an output pixel is interpolated from the input's pixels.
    coordinates : str
        Positions of the output's pixels in the input: "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric",
        "align_corners", "asymmetric" or "tf_half_pixel_for_nn", ONNX's ``coordinate_transformation_mode``.
    rounding : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}
        For "nearest": how the position is rounded to a pixel, ONNX's ``nearest_mode``.
    cubic_coeff_a : float
        The constant a of cubic convolution (Keys 1981).
    exclude_outside : bool
        For "linear" and "cubic": whether pixels outside of the image have weight 0; otherwise they have the values of
        the image's outermost pixels.
    antialias : bool
        For "linear" and "cubic": whether to make the filter wider if the image becomes smaller, so that every pixel of
        the input contributes to the output.

    Raises
    ------
    ShapeError
        If an argument is out of range, or neither a size nor a factor is given.

    Examples
    --------
    >>> layer = ic.Resize((1, 4), mode="linear")
    >>> net = ic.Sequential([layer])
    >>> net.predict([[[[0.0, 8.0]]]])
    array([[[[0., 2., 6., 8.]]]], dtype=float32)
    """

    size: int | tuple[int, int] | None = None
    scale_factor: float | tuple[float, float] | None = None
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset(
        {
            "size",
            "scale_factor",
            "mode",
            "coordinates",
            "rounding",
            "cubic_coeff_a",
            "exclude_outside",
            "antialias",
        }
    )

    def __post_init__(self) -> None:
        if self.size is None and self.scale_factor is None:
            raise ShapeError("give size or scale_factor, got neither")
        self.factors = None if self.scale_factor is None else _two_factors(self.scale_factor)
        self._size = None if self.size is None else pair(self.size, "size")
        one_of("mode", self.mode, "nearest", *REACH)
        one_of("coordinates", self.coordinates, *COORDINATES)
        one_of("rounding", self.rounding, *ROUNDINGS)
        number("cubic_coeff_a", self.cubic_coeff_a, least=LOWEST)
        for name in "exclude_outside", "antialias":
            self._set(**{name: truth_value(name, getattr(self, name))})

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), size = _images(x), self._size
        if size is None:
            a, b = self.factors or (1, 1)
            size = int(H * a), int(W * b)
        if not all(size):
            raise ShapeError(f"scale_factor={self.scale_factor!r} leaves no pixel of images of the size {(H, W)}")
        return size[0], C, size[1], N

    def weights(self, axis: int, n: int, out: int) -> Any:
        from im2colnet.host import np

        factor = out / n if self.factors is None else self.factors[axis]
        places = COORDINATES[self.coordinates](np.arange(out), n, out, factor)
        if self.mode == "nearest":
            shown = ROUNDINGS[self.rounding](np, np.round(places, 9))  # 2.0000000001 is 2
            return shown_pixels(shown.clip(0, n - 1).astype(int), n)
        weight = linear if self.mode == "linear" else partial(cubic, a=self.cubic_coeff_a)
        density = min(factor, 1.0) if self.antialias else 1.0
        return weights_at(places, n, weight, REACH[self.mode], density, self.exclude_outside)


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
