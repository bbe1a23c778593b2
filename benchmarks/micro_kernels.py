"""The backend's kernels, one at a time, on arrays (H, C, W, N) of one shard of images.

There is no ``setup``: asv would run it before every single call, and a call of microseconds must be timed in a loop.
What a benchmark needs is made in its first call, which is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from benchmarks.common import BATCH, SHAPES, WARM_UP, Convolution, empty, kernel, normal, start_backend
from im2colnet.window import pooling_window

Calls = dict[str, Callable[[], None]]


@cache
def convolution(shape: str) -> Convolution:
    """Return the kernels of one of ``SHAPES``."""
    return Convolution(start_backend(), SHAPES[shape])


@cache
def lowering(shape: str) -> Calls:
    """Return im2col and its adjoint for one of ``SHAPES``."""
    backend, case = start_backend(), SHAPES[shape]
    window, size = case.window, (case.H, case.H)
    OH, OW = window.output_size(size)
    x = normal(backend, (case.H, case.C, case.H, BATCH), 0)
    columns, dx = empty(backend, (OH, case.C, case.K, case.K, OW, BATCH)), empty(backend, x.shape)
    return {
        "im2col": kernel(backend, "im2col", x, window, out=columns),
        "col2im": kernel(backend, "col2im", columns, window, size, out=dx),
    }


@cache
def pooling(shape: str) -> Calls:
    """Return both poolings and their gradients for channels, size, kernel and stride."""
    C, H, K, stride = (int(part.lstrip("ks")) for part in shape.split("-"))
    backend, window, size = start_backend(), pooling_window(K, stride, 0), (H, H)
    OH, OW = window.output_size(size)
    x, dy = normal(backend, (H, C, H, BATCH), 0), normal(backend, (OH, C, OW, BATCH), 1)
    y, dx = empty(backend, dy.shape), empty(backend, x.shape)
    shapes, maxima = (x.shape, y.shape, "float32", window), backend.max_pool2d(x, window)
    return {
        "max": kernel(backend, "max_pool2d", x, window, shapes=shapes, out=y),
        "max_grad": kernel(backend, "max_pool2d_grad", x, maxima, dy, window, shapes=shapes, out=dx),
        "avg": kernel(backend, "avg_pool2d", x, window, shapes=shapes, out=y),
        "avg_grad": kernel(backend, "avg_pool2d_grad", dy, size, window, shapes=shapes, out=dx),
    }


@cache
def batch_norm(shape: str) -> Calls:
    """Return the four passes of batch norm for channels and size."""
    C, H = map(int, shape.split("-"))
    backend = start_backend()
    x, dy = (normal(backend, (H, C, H, BATCH), seed) for seed in (0, 1))
    a, b, mean = (normal(backend, (C,), seed).astype("float64") for seed in (2, 3, 4))
    y, sums, shapes = empty(backend, x.shape), backend.empty((2, C), "float64"), (x.shape, x.shape, "float32")
    return {
        "sums": kernel(backend, "batch_norm_sums", x, shapes=shapes, out=sums),
        "normalise": kernel(backend, "channel_affine", x, a, b, relu=True, shapes=shapes, out=y),
        "grad_sums": kernel(backend, "batch_norm_grad_sums", x, mean, dy, shapes=shapes, out=sums),
        "input_grad": kernel(backend, "channel_affine", dy, a, b, x, mean, shapes=shapes, out=y),
    }


class Kernels:
    """How asv times them."""

    param_names = ("shape",)
    version = "1"
    warmup_time, repeat = WARM_UP, (2, 10, 1.0)


class Lowering(Kernels):
    """im2col and its adjoint: the textbook ones, unless the backend has its own."""

    params = (["64-64-k3-16", "1-6-k5-28"],)

    def time_im2col(self, shape: str) -> None:
        lowering(shape)["im2col"]()

    def time_col2im(self, shape: str) -> None:
        lowering(shape)["col2im"]()


class Conv2d(Kernels):
    """A convolution forward, and each gradient. Shapes: channels-filters-kernel-stride-size; dw: depthwise."""

    params = (list(SHAPES),)

    def time_forward(self, shape: str) -> None:
        convolution(shape).forward()

    def time_input_grad(self, shape: str) -> None:
        convolution(shape).input_grad()

    def time_weight_grad(self, shape: str) -> None:
        convolution(shape).weight_grad()


class Pooling(Kernels):
    """Pooling forward and backward. Shapes: channels-size-kernel-stride."""

    params = (["16-28-k2-s2", "64-16-k3-s2"],)

    def time_max(self, shape: str) -> None:
        pooling(shape)["max"]()

    def time_max_grad(self, shape: str) -> None:
        pooling(shape)["max_grad"]()

    def time_avg(self, shape: str) -> None:
        pooling(shape)["avg"]()

    def time_avg_grad(self, shape: str) -> None:
        pooling(shape)["avg_grad"]()


class BatchNorm(Kernels):
    """The four passes of batch norm. Shapes: channels-size."""

    params = (["16-32", "64-8"],)

    def time_sums(self, shape: str) -> None:
        batch_norm(shape)["sums"]()

    def time_normalise(self, shape: str) -> None:
        batch_norm(shape)["normalise"]()

    def time_grad_sums(self, shape: str) -> None:
        batch_norm(shape)["grad_sums"]()

    def time_input_grad(self, shape: str) -> None:
        batch_norm(shape)["input_grad"]()
