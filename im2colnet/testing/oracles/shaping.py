"""Layers that change the shape and not the numbers, a pixel at a time.

Letters: N batch, C channels, H, W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def flatten(x: Any) -> Any:
    """(N, ...) to (N, features), in row-major order."""
    (x,) = floats(x)
    return np.array([list(sample.ravel()) for sample in x])


def flatten_grad(x: Any, dy: Any) -> Any:
    """Gradient with respect to the input: each number goes back to its place."""
    x, dy = floats(x, dy)
    return np.array([list(numbers) for numbers in dy]).reshape(x.shape)


def zero_pad_shortcut(x: Any, out_channels: int, stride: int = 1) -> Any:
    """Every ``stride``-th pixel, and zeros for new channels: option A of He et al. 2015 (arXiv:1512.03385)."""
    (x,) = floats(x)
    N, C, H, W = x.shape
    y = np.zeros((N, out_channels, -(-H // stride), -(-W // stride)))
    for n, c, h, w in np.ndindex(N, C, *y.shape[2:]):
        y[n, c, h, w] = x[n, c, h * stride, w * stride]
    return y


def zero_pad_shortcut_grad(x: Any, dy: Any, stride: int = 1) -> Any:
    """Gradient with respect to the input: it is 0 for the pixels that the stride skips."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(*x.shape[:2], *dy.shape[2:]):
        dx[n, c, h * stride, w * stride] = dy[n, c, h, w]
    return dx


def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    """(N, C·r², H, W) to (N, C, H·r, W·r) with r = upscale_factor."""
    (x,) = floats(x)
    (N, C, H, W), r = x.shape, upscale_factor
    y = np.zeros((N, C // r**2, H * r, W * r))
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = x[n, c * r**2 + h % r * r + w % r, h // r, w // r]
    return y


def pixel_shuffle_grad(x: Any, dy: Any, upscale_factor: int) -> Any:
    """Gradient with respect to the input: each number goes back to its place."""
    x, dy = floats(x, dy)
    dx, r = np.zeros(x.shape), upscale_factor
    for n, c, h, w in np.ndindex(dy.shape):
        dx[n, c * r**2 + h % r * r + w % r, h // r, w // r] = dy[n, c, h, w]
    return dx


def pixel_unshuffle(x: Any, downscale_factor: int) -> Any:
    """(N, C, H·r, W·r) to (N, C·r², H, W) with r = downscale_factor."""
    (x,) = floats(x)
    (N, C, H, W), r = x.shape, downscale_factor
    y = np.zeros((N, C * r**2, H // r, W // r))
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c * r**2 + h % r * r + w % r, h // r, w // r] = x[n, c, h, w]
    return y


def channel_shuffle(x: Any, groups: int) -> Any:
    """Channels of the groups in turn: the first of each, then the second of each."""
    (x,) = floats(x)
    of_each = x.shape[1] // groups
    return np.stack([x[:, group * of_each + i] for i in range(of_each) for group in range(groups)], axis=1)


def channel_shuffle_grad(x: Any, dy: Any, groups: int) -> Any:
    """Gradient with respect to the input: channels go back to their groups."""
    x, dy = floats(x, dy)
    return np.stack([dy[:, i * groups + group] for group in range(groups) for i in range(x.shape[1] // groups)], axis=1)


def _padded(x: Any, padding: Any, pixel: Any) -> Any:
    """Yield each index of the padded image, and the index of the pixel that it shows, or None."""
    left, right, top, bottom = padding if isinstance(padding, (tuple, list)) else [padding] * 4
    N, C, H, W = x.shape
    for n, c, h, w in np.ndindex(N, C, H + top + bottom, W + left + right):
        row, column = pixel(h - top, H), pixel(w - left, W)
        yield (n, c, h, w), None if row is None or column is None else (n, c, row, column)


def _pad(x: Any, padding: Any, pixel: Any, value: float = 0.0) -> Any:
    (x,) = floats(x)
    numbers = {place: value if of is None else x[of] for place, of in _padded(x, padding, pixel)}
    return np.reshape(list(numbers.values()), [i + 1 for i in max(numbers)])


def _pad_grad(x: Any, dy: Any, padding: Any, pixel: Any) -> Any:
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for place, of in _padded(x, padding, pixel):
        if of is not None:
            dx[of] += dy[place]
    return dx


def _inside(i: int, length: int) -> int | None:
    return i if 0 <= i < length else None


def _mirrored(i: int, length: int) -> int:
    return -i if i < 0 else i if i < length else 2 * (length - 1) - i


def _nearest(i: int, length: int) -> int:
    return min(max(i, 0), length - 1)


def zero_pad2d(x: Any, padding: Any) -> Any:
    """Zeros around the image; ``padding`` is a number or (left, right, top, bottom)."""
    return _pad(x, padding, _inside)


def zero_pad2d_grad(x: Any, dy: Any, padding: Any) -> Any:
    """Gradient with respect to the input: the gradient of the pixels inside the padding."""
    return _pad_grad(x, dy, padding, _inside)


def constant_pad2d(x: Any, padding: Any, value: float) -> Any:
    """A number around the image."""
    return _pad(x, padding, _inside, value)


def constant_pad2d_grad(x: Any, dy: Any, padding: Any, value: float) -> Any:
    """Gradient with respect to the input: the gradient of the pixels inside the padding."""
    return _pad_grad(x, dy, padding, _inside)


def reflection_pad2d(x: Any, padding: Any) -> Any:
    """The image mirrored at its outermost pixels."""
    return _pad(x, padding, _mirrored)


def reflection_pad2d_grad(x: Any, dy: Any, padding: Any) -> Any:
    """Gradient with respect to the input: the sum over all places that show the pixel."""
    return _pad_grad(x, dy, padding, _mirrored)


def replication_pad2d(x: Any, padding: Any) -> Any:
    """The image's outermost pixels repeated."""
    return _pad(x, padding, _nearest)


def replication_pad2d_grad(x: Any, dy: Any, padding: Any) -> Any:
    """Gradient with respect to the input: the sum over all places that show the pixel."""
    return _pad_grad(x, dy, padding, _nearest)


def _cut(x: Any, padding: Any) -> tuple[Any, Any]:
    """Return the image cropped by negative padding, as a view, and the padding with 0 for negative numbers."""
    left, right, top, bottom = padding if isinstance(padding, (tuple, list)) else [padding] * 4
    rows = slice(max(-top, 0), x.shape[2] - max(-bottom, 0))
    columns = slice(max(-left, 0), x.shape[3] - max(-right, 0))
    return x[:, :, rows, columns], [max(side, 0) for side in (left, right, top, bottom)]


def circular_pad2d(x: Any, padding: Any) -> Any:
    """The image repeated, after it is cropped by negative padding."""
    return _pad(*_cut(floats(x)[0], padding), lambda i, length: i % length)


def circular_pad2d_grad(x: Any, dy: Any, padding: Any) -> Any:
    """Gradient with respect to the input: the sum over all places that show the pixel."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    cut, sides = _cut(dx, padding)
    cut += _pad_grad(cut, dy, sides, lambda i, length: i % length)
    return dx


#: functions of a place along an axis and of its length: they return the place of the number shown there, or None
SHOWN: dict[str, Callable[[int, int], int | None]] = {
    "constant": _inside,
    "reflect": _mirrored,
    "replicate": _nearest,
    "circular": lambda i, length: i % length,
}


def _pad_axes(x: Any, padding: Any, mode: str) -> tuple[Any, Any, Any]:
    """Return the padded array's shape, pairs (place, place in x or None), and x, which may be cropped, as a view."""
    pads, around = [(0, 0), *padding], SHOWN[mode]
    if mode == "circular":  # what is cut off is not repeated
        x = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(pads, x.shape, strict=True))]
        pads = [(max(a, 0), max(b, 0)) for a, b in pads]
    shape = [n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)]
    places = []
    for place in np.ndindex(*shape):
        of = tuple(around(i - a, n) for i, (a, _), n in zip(place, pads, x.shape, strict=True))
        places.append((place, None if None in of else of))
    return shape, places, x


def pad_axes(x: Any, padding: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """Numbers around each sample; ``padding`` has (before, after) for each of its axes."""
    (x,) = floats(x)
    shape, places, x = _pad_axes(x, padding, mode)
    y = np.zeros(shape)
    for place, of in places:
        y[place] = value if of is None else x[of]
    return y


def pad_axes_grad(x: Any, dy: Any, padding: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """Gradient with respect to the input: the sum over all places that show the number."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    _, places, left = _pad_axes(dx, padding, mode)
    for place, of in places:
        if of is not None:
            left[of] += dy[place]
    return dx


def unflatten(x: Any, dim: int, unflattened_size: Any) -> Any:
    """One axis as several, in row-major order; -1 stands for the remaining length."""
    (x,) = floats(x)
    axis = dim % x.ndim
    sizes = np.empty(x.shape[axis]).reshape(unflattened_size).shape
    y = np.zeros((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))
    for i, place in enumerate(np.ndindex(sizes)):
        y[(*(slice(None),) * axis, *place)] = x[(*(slice(None),) * axis, i)]
    return y


def unflatten_grad(x: Any, dy: Any, dim: int, unflattened_size: Any) -> Any:
    """Gradient with respect to the input: each number goes back to its place."""
    x, dy = floats(x, dy)
    return np.reshape(list(dy.ravel()), x.shape)


def reshape(x: Any, shape: Any) -> Any:
    """Each sample's numbers in row-major order, in this shape; -1 stands for the remaining length."""
    (x,) = floats(x)
    return np.array([np.reshape(list(sample.ravel()), shape) for sample in x])


def permute(x: Any, dims: Any) -> Any:
    """Axis i of the result is axis ``dims[i]``."""
    (x,) = floats(x)
    y = np.zeros([x.shape[dim] for dim in dims])
    for place in np.ndindex(y.shape):
        y[place] = x[tuple(place[list(dims).index(axis)] for axis in range(x.ndim))]
    return y


def transpose(x: Any, dim0: int, dim1: int) -> Any:
    """Two axes change places."""
    dims = [*range(np.ndim(x))]
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(x, dims)


def part(x: Any, dim: int, start: int | None = None, stop: int | None = None, step: int = 1) -> Any:
    """The numbers of an axis from ``start`` to before ``stop``, every ``step``-th, as Python slices a list."""
    (x,) = floats(x)
    return np.stack(list(np.moveaxis(x, dim, 0))[start:stop:step], axis=dim)


def moved_grad(x: Any, dy: Any, move: Any) -> Any:
    """Gradient with respect to the input of a function that only moves numbers: gradients are moved back."""
    x, dy = floats(x, dy)
    dx, places = np.zeros(x.size), move(np.arange(x.size).reshape(x.shape))
    for place, gradient in zip(places.ravel(), dy.ravel(), strict=True):
        dx[int(place)] += gradient
    return dx.reshape(x.shape)
