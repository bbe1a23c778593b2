"""Convolution, by the algorithm that its shapes ask for (see :mod:`im2colnet_numpy.algorithms`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from im2colnet.backend.convolution import Convolution
from im2colnet.backend.kernel import kernel
from im2colnet.types import Call, Choice, Shape, Spec
from im2colnet.window import Pair, Window
from im2colnet_numpy.algorithms import algorithm
from im2colnet_numpy.rows import WEIGHT_ORDER
from im2colnet_numpy.tuning import Tuning

Array = np.ndarray


def _scratch(kernel: str, backend: Any, x: Spec, F: int, window: Window, groups: int) -> list[Spec]:
    found: list[Spec] = backend._chosen(x.shape, F, window, groups, x.dtype).scratch.get(kernel, [])
    return found


def _output_scratch(backend: Any, x: Spec, w: Spec, window: Window, groups: int = 1, **others: Any) -> list[Spec]:
    return _scratch("conv2d", backend, x, w.shape[0], window, groups)


def _weight_scratch(backend: Any, x: Spec, dy: Spec, window: Window, groups: int = 1) -> list[Spec]:
    return _scratch("conv2d_weight_grad", backend, x, dy.shape[1], window, groups)


def _input_scratch(backend: Any, dy: Spec, w: Spec, size: Pair, window: Window, groups: int = 1) -> list[Spec]:
    x = Spec((size[0], w.shape[1] * groups, size[1], dy.shape[3]), dy.dtype)
    return _scratch("conv2d_input_grad", backend, x, w.shape[0], window, groups)


def _both_scratch(backend: Any, x: Spec, w: Spec, window: Window, groups: int = 1, **others: Any) -> list[Spec]:
    return _scratch("conv2d_grads", backend, x, w.shape[0], window, groups)


class NumpyConvolution(Convolution):
    """Convolution on the CPU."""

    weight_order = WEIGHT_ORDER
    tuning: Tuning

    def _chosen(self, x: Shape, F: int, window: Window, groups: int, dtype: str | np.dtype) -> Any:
        """Return the algorithm for images ``x`` (H, C, W, N) and F filters: a convolution and its gradients."""
        return algorithm(x, F, window, groups, np.dtype(dtype), self.tuning)

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        chosen = self._chosen(x, y[1], window, groups, dtype)
        return Choice(type(chosen).__name__.lower(), chosen.why)

    @kernel(scratch=_output_scratch)
    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        window: Window,
        groups: int = 1,
        activation: str | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        w, copies = _stored(w)
        yield from copies
        yield from self._chosen(x.shape, len(w), window, groups, x.dtype).conv2d(x, w, b, activation, out, scratch)

    @kernel(scratch=_weight_scratch)
    def conv2d_weight_grad(
        self, x: Array, dy: Array, window: Window, groups: int = 1, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        yield from self._chosen(x.shape, dy.shape[1], window, groups, x.dtype).weight_grad(x, dy, out, scratch)

    @kernel(scratch=_input_scratch)
    def conv2d_input_grad(
        self, dy: Array, w: Array, size: Pair, window: Window, groups: int = 1, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        w, copies = _stored(w)
        yield from copies
        yield from self._chosen(out.shape, len(w), window, groups, dy.dtype).input_grad(dy, w, out, scratch)

    @kernel(scratch=_both_scratch)
    def conv2d_grads(
        self,
        x: Array,
        dy: Array,
        w: Array,
        window: Window,
        groups: int = 1,
        dw: Any = None,
        dx: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if not scratch:
            yield from super().conv2d_grads.prepare(x, dy, w, window, groups, dw, dx)
            return
        w, copies = _stored(w)
        yield from copies
        yield from self._chosen(x.shape, len(w), window, groups, x.dtype).grads(x, dy, w, dw, dx, scratch)


def _stored(w: Array) -> tuple[Array, list[Call]]:
    """Return a weight as the kernels take it, and the call that copies it if it is stored otherwise."""
    if w.transpose(WEIGHT_ORDER).flags.c_contiguous:
        return w, []
    stored = np.empty_like(w.transpose(WEIGHT_ORDER), order="C")
    w_stored = stored.transpose(np.argsort(WEIGHT_ORDER))
    return w_stored, [partial(setitem, w_stored, ..., w)]
