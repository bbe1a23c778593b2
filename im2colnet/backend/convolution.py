"""Convolution as one product of matrices: the full im2col of the textbook."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import setitem
from typing import Any

from im2colnet.backend.activation import Activation
from im2colnet.backend.kernel import kernel
from im2colnet.backend.linear import Linear
from im2colnet.types import Array, Call, Choice, Shape, Spec
from im2colnet.window import Pair, Window


def _columns(backend: Any, x: Spec, window: Window, fill: float = 0.0) -> Spec:
    H, C, W, N = x.shape
    OH, OW = window.output_size((H, W))
    return Spec((OH, C, *window.kernel, OW, N), x.dtype)


def _image(backend: Any, columns: Spec, window: Window, size: Pair) -> Spec:
    return Spec((size[0], columns.shape[1], size[1], columns.shape[-1]), columns.dtype)


def _output(backend: Any, x: Spec, w: Spec, window: Window, **others: Any) -> Spec:
    H, _, W, N = x.shape
    OH, OW = window.output_size((H, W))
    return Spec((OH, w.shape[0], OW, N), x.dtype)


def _input(backend: Any, dy: Spec, w: Spec, size: Pair, window: Window, groups: int = 1) -> Spec:
    return Spec((size[0], w.shape[1] * groups, size[1], dy.shape[3]), dy.dtype)


def _weight(backend: Any, x: Spec, dy: Spec, window: Window, groups: int = 1) -> Spec:
    return Spec((dy.shape[1], x.shape[1] // groups, *window.kernel), x.dtype)


def _output_scratch(backend: Any, x: Spec, window: Window, **others: Any) -> list[Spec]:
    return [_columns(backend, x, window)]


def _input_scratch(backend: Any, dy: Spec, w: Spec, size: Pair, window: Window, groups: int = 1) -> list[Spec]:
    return [_columns(backend, _input(backend, dy, w, size, window, groups), window)]


def _weight_scratch(backend: Any, x: Spec, dy: Spec, window: Window, groups: int = 1) -> list[Spec]:
    OH, F, _, _ = dy.shape
    K = x.shape[1] // groups * window.kernel[0] * window.kernel[1]
    return [_columns(backend, x, window), Spec((OH, groups, F // groups, K), x.dtype)]


class Convolution(Linear, Activation):
    """Kernels of convolution, and lowering, which they are made of."""

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        """Return the algorithm that a convolution of these shapes takes."""
        return Choice("im2col", "the textbook's")

    @kernel(result=_columns)
    def im2col(self, x: Array, window: Window, fill: float = 0.0, out: Array = None) -> Iterator[Call]:
        """Copy each window of ``x`` (H, C, W, N) into a column: (OH, C, KH, KW, OW, N).

        ``columns[r, c, i, j, s, n] = x[r*stride + i*dilation - top, c, s*stride + j*dilation - left, n]``, and
        ``fill`` where that is outside the image (Chellapilla, Puri, Simard 2006).
        """
        if any(p for pads in window.padding for p in pads) or window.ceil_mode:
            yield partial(setitem, out, ..., fill)
        for i, j, outputs, inputs in window.pairs((x.shape[0], x.shape[2])):
            yield partial(setitem, out[:, :, i, j], outputs, x[inputs])

    @kernel(result=_image)
    def col2im(self, columns: Array, window: Window, size: Pair, out: Array = None) -> Iterator[Call]:
        """Add each column back to where :meth:`im2col` took it from, its adjoint: (H, C, W, N)."""
        yield partial(setitem, out, ..., 0)
        for i, j, outputs, inputs in window.pairs(size):
            target = out[inputs]
            yield partial(self.xp.add, target, columns[:, :, i, j][outputs], out=target)

    @kernel(result=_output, scratch=_output_scratch)
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
        """Cross-correlate: ``y = f(w · im2col(x) + b)``, (OH, F, OW, N).

        f is an ``activation`` among ``epilogues``; without one, nothing.
        """
        (columns,), (OH, F, OW, N), G = scratch, out.shape, groups
        K = w.shape[1] * w.shape[2] * w.shape[3]
        L, y = columns.reshape(OH, G, K, OW * N), out.reshape(OH, G, F // G, OW * N)
        yield from self.im2col.prepare(x, window, out=columns)
        yield lambda: self.matmul(w.reshape(G, F // G, K), L, out=y)
        if b is not None:
            yield partial(self.xp.add, out, b[:, None, None], out=out)
        if activation:
            yield from self.activation.prepare(out, activation, out=out)

    @kernel(result=_input, scratch=_input_scratch)
    def conv2d_input_grad(
        self, dy: Array, w: Array, size: Pair, window: Window, groups: int = 1, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Gradient with respect to the input of ``size`` (H, W): ``dx = col2im(wᵀ · dy)``."""
        (columns,), (OH, F, OW, N), G = scratch, dy.shape, groups
        K = w.shape[1] * w.shape[2] * w.shape[3]
        L = columns.reshape(OH, G, K, OW * N)
        yield lambda: self.matmul(
            w.reshape(G, F // G, K).swapaxes(1, 2), dy.reshape(OH, G, F // G, OW * N), out=L
        )  # (G, K, F/G) · (OH, G, F/G, OW·N)
        yield from self.col2im.prepare(columns, window, size, out=out)

    @kernel(result=_weight, scratch=_weight_scratch)
    def conv2d_weight_grad(
        self, x: Array, dy: Array, window: Window, groups: int = 1, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Gradient with respect to the weight: ``dw = Σ_rows dy · im2col(x)ᵀ``. (F, C/G, KH, KW)."""
        (columns, products), (OH, F, OW, N), G = scratch, dy.shape, groups
        columns_t = columns.reshape(OH, G, -1, OW * N).swapaxes(2, 3)  # (OH, G, OW·N, K)
        yield from self.im2col.prepare(x, window, out=columns)
        yield lambda: self.matmul(dy.reshape(OH, G, F // G, OW * N), columns_t, out=products)  # (OH, G, F/G, K)
        yield lambda: setitem(out, ..., products.sum(0).reshape(out.shape))

    @kernel(writes=("dw", "dx"))
    def conv2d_grads(
        self,
        x: Array,
        dy: Array,
        w: Array,
        window: Window,
        groups: int = 1,
        dw: Array = None,
        dx: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Write the gradient of the weight into ``dw`` and the gradient of the input into ``dx``.

        A backend that computes both at once, faster than one after the other, asks for scratch; layers then use this.
        """
        yield from self.conv2d_weight_grad.prepare(x, dy, window, groups, out=dw)
        yield from self.conv2d_input_grad.prepare(dy, w, (x.shape[0], x.shape[2]), window, groups, out=dx)
