"""Convolution, by the algorithm that its shapes ask for (see :mod:`im2colnet_cupy.algorithms`), and lowering."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import setitem
from typing import Any

from im2colnet.backend.convolution import Convolution
from im2colnet.backend.kernel import kernel
from im2colnet.types import Call, Choice, Shape, Spec, accumulator
from im2colnet.window import Pair, Window
from im2colnet_cupy.algorithms import algorithm
from im2colnet_cupy.cuda import contiguous, prepared
from im2colnet_cupy.rows import WEIGHT_ORDER, window_arguments

Array = Any


def _output_scratch(backend: Any, x: Spec, w: Spec, window: Window, groups: int = 1, **others: Any) -> list[Spec]:
    return algorithm(x.shape, w.shape[0], window, groups, x.dtype).scratch["conv2d"]


def _weight_scratch(backend: Any, x: Spec, dy: Spec, window: Window, groups: int = 1) -> list[Spec]:
    return algorithm(x.shape, dy.shape[1], window, groups, x.dtype).scratch["conv2d_weight_grad"]


def _input_scratch(backend: Any, dy: Spec, w: Spec, size: Pair, window: Window, groups: int = 1) -> list[Spec]:
    x = size[0], w.shape[1] * groups, size[1], dy.shape[3]
    return algorithm(x, w.shape[0], window, groups, dy.dtype).scratch["conv2d_input_grad"]


class CupyConvolution(Convolution):
    """Convolution on the GPU."""

    weight_order = WEIGHT_ORDER

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        chosen = algorithm(x, y[1], window, groups, dtype)
        return Choice(type(chosen).__name__.lower(), chosen.why)

    @kernel()
    def im2col(self, x: Array, window: Window, fill: float = 0.0, out: Array = None) -> Iterator[Call]:
        H, C, W, N = x.shape
        arguments = window_arguments(window, (H, W))
        yield prepared("convolution.cu", "im2col", out, x, out, C, N, float(fill), *arguments)

    @kernel()
    def col2im(self, columns: Array, window: Window, size: Pair, out: Array = None) -> Iterator[Call]:
        C, N, arguments = columns.shape[1], columns.shape[-1], window_arguments(window, size)
        yield prepared("convolution.cu", "col2im", out, columns, out, 1, C, N, False, *arguments)

    @kernel(scratch=_output_scratch)
    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        window: Window,
        groups: int = 1,
        activation: str | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        chosen = algorithm(x.shape, len(w), window, groups, x.dtype.name)
        (x, copies), (w, of_w) = contiguous(x), contiguous(w.transpose(WEIGHT_ORDER))
        yield from (*copies, *of_w)
        yield from chosen.conv2d(x, w, b, activation, out, scratch, self.tf32)

    @kernel(scratch=_input_scratch)
    def conv2d_input_grad(
        self, dy: Array, w: Array, size: Pair, window: Window, groups: int = 1, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        chosen = algorithm(out.shape, len(w), window, groups, dy.dtype.name)
        (dy, copies), (w, of_w) = contiguous(dy), contiguous(w.transpose(WEIGHT_ORDER))
        yield from (*copies, *of_w)
        yield from chosen.input_grad(dy, w, out, scratch, self.tf32)

    @kernel(scratch=_weight_scratch)
    def conv2d_weight_grad(
        self, x: Array, dy: Array, window: Window, groups: int = 1, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        chosen = algorithm(x.shape, dy.shape[1], window, groups, x.dtype.name)
        stored, summed = out.transpose(WEIGHT_ORDER), accumulator(x.dtype.name)
        as_it_is = stored.flags.c_contiguous and stored.dtype.name == summed
        target = stored if as_it_is else self.empty(stored.shape, summed)
        (x, copies), (dy, of_dy) = contiguous(x), contiguous(dy)
        yield from (*copies, *of_dy)
        yield from chosen.weight_grad(x, dy, target, scratch, self.tf32)
        if not as_it_is:
            yield partial(setitem, stored, ..., target)
