"""Pooling by kernels of its own (``kernels/pooling.cu``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.backend.kernel import kernel
from im2colnet.backend.pooling import Pooling
from im2colnet.types import Call
from im2colnet.window import Pair, Window
from im2colnet_cupy.cuda import prepared
from im2colnet_cupy.rows import window_arguments

Array = Any


class CupyPooling(Pooling):
    """Pooling on the GPU."""

    @kernel()
    def max_pool2d(
        self, x: Array, window: Window, positions: Array = None, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        (_, C, _, N), arguments = x.shape, window_arguments(window, x.shape[::2])
        save = positions is not None
        saved, other = (positions, positions.dtype.name) if save else (out, "uint8")
        yield prepared("pooling.cu", "max_pool", out, x, out, saved, save, C, N, *arguments, other=other)

    @kernel()
    def max_pool2d_grad(
        self,
        x: Array | None,
        y: Array | None,
        dy: Array,
        window: Window,
        positions: Array = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        (_, C, _, N), arguments = out.shape, window_arguments(window, out.shape[::2])
        if positions is None:
            yield prepared("pooling.cu", "max_pool_grad", out, x, y, dy, out, C, N, *arguments, other="uint8")
            return
        given, other = (positions, dy, out), positions.dtype.name
        yield prepared("pooling.cu", "max_pool_grad_at", out, *given, C, N, *arguments, other=other)

    @kernel()
    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        (_, C, _, N), arguments = x.shape, _average_arguments(window, x.shape[::2], count_include_pad, divisor)
        yield prepared("pooling.cu", "avg_pool", out, x, out, C, N, *arguments)

    @kernel(scratch=lambda backend, **arguments: [])
    def avg_pool2d_grad(
        self,
        dy: Array,
        size: Pair,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        (_, C, _, N), arguments = dy.shape, _average_arguments(window, size, count_include_pad, divisor)
        yield prepared("pooling.cu", "avg_pool_grad", out, dy, out, C, N, *arguments)


def _average_arguments(window: Window, size: Pair, count_include_pad: bool, divisor: int | None) -> tuple[Any, ...]:
    """Return the arguments of average pooling.

    They are padding below and to the right, whether it counts, the divisor, 0 for what is counted, and the window.
    """
    (_, bottom), (_, right) = window.padding
    return bottom, right, count_include_pad, divisor or 0, *window_arguments(window, size)
