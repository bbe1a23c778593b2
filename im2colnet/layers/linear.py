"""Products with a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import one_of, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import BOUNDS, Context, Layer, Needs, Parameter
from im2colnet.layers.merging import sum_broadcast
from im2colnet.layout import internal_shape, user_axes, user_shape
from im2colnet.types import Array, Call, Shape, Spec

__all__ = ["Linear", "MatMul"]


@dataclass(eq=False, repr=False)
class Linear(Layer):
    """Fully connected (dense) layer, ``y = W x + b``.

    Maps features (N, in_features) to (N, out_features). If a value has more axes, the layer is applied to each vector
    along the last axis. The ``weight`` is (out_features, in_features), the ``bias`` (out_features,).

    Parameters
    ----------
    in_features, out_features : int
        Number of input features, and number of output features.
    bias : bool
        Whether to add the learned bias b.
    init : {"default", "he"}
        How ``net.init`` draws the parameters; see :class:`Conv2d`.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the last axis of the input has another
        length. :class:`Flatten` turns images into features.

    Examples
    --------
    >>> net = ic.Sequential([ic.Linear(2, 1)])
    >>> state = {"0.weight": [[1.0, 10.0]], "0.bias": [0.5]}
    >>> report = net.load_state_dict(state)
    >>> net.predict([[2.0, 3.0], [0.0, 1.0]])
    array([[32.5],
           [10.5]], dtype=float32)
    """

    in_features: int
    out_features: int
    bias: bool = True
    init: str = "default"
    fuses: ClassVar[bool] = True
    skips_frozen: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset({"in_features", "out_features", "bias", "init"})

    def __post_init__(self) -> None:
        self._set(in_features=whole("in_features", self.in_features))
        self._set(out_features=whole("out_features", self.out_features))
        one_of("init", self.init, *BOUNDS)

    def parameters(self) -> dict[str, Parameter]:
        bound, bias_bound = BOUNDS[self.init](self.in_features)
        bias = {"bias": Parameter((self.out_features,), bias_bound)} if self.bias else {}
        return {"weight": Parameter((self.out_features, self.in_features), bound), **bias}

    def output_shape(self, x: Shape) -> Shape:
        if x[-2] != self.in_features:
            if len(x) == 2:
                raise ShapeError(f"expected {self.in_features} input features, got {x[0]}")
            along = f"expected features (N, {self.in_features}), or (N, ..., {self.in_features})"
            raise ShapeError(f"{along}, got shape {user_shape(x)}; Flatten() is missing")
        return *x[:-2], self.out_features, x[-1]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        matrices = [] if len(x) == 2 else [Spec(_one_matrix(x), dtype), Spec(_one_matrix(y), dtype)]
        return Needs(input=self.learns("weight"), output=False, backward={"matrices": matrices} if matrices else {})

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * self.in_features * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        y = ctx.y  # (..., out_features, N): the last axis but the batch is a column of a matrix
        yield from ctx.backend.matmul.prepare(ctx.params["weight"], x, out=y)
        if self.bias:
            yield partial(ctx.xp.add, y, ctx.params["bias"][:, None], y)
        if kind := ctx.activation:
            yield from ctx.backend.activation.prepare(y, kind, out=y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        backend, columns = ctx.backend, dy
        learns_bias = self.bias and self.learns("bias")
        if dy.ndim > 2 and (self.learns("weight") or learns_bias):
            _, columns = ctx.scratch["matrices"]
            yield from _write_columns(dy, columns)
        if self.learns("weight"):
            x = ctx.x
            if x.ndim > 2:
                x, _ = ctx.scratch["matrices"]
                yield from _write_columns(ctx.x, x)
            yield from backend.matmul.prepare(columns, x.T, out=ctx.grads["weight"])
        if learns_bias:
            yield from backend.sum_samples.prepare(columns, out=ctx.grads["bias"])
        if ctx.dx is not None:
            yield from backend.matmul.prepare(ctx.params["weight"].T, dy, out=ctx.dx)


def _one_matrix(x: Shape) -> Shape:
    """Return the shape of the columns of all matrices (..., F, N) beside each other, (F, ...·N)."""
    return x[-2], prod(x[:-2]) * x[-1]


def _write_columns(x: Array, out: Array) -> Iterator[Call]:
    """Write the columns of matrices (..., F, N) beside each other, (F, ...·N)."""
    read = x.transpose(x.ndim - 2, *range(x.ndim - 2), x.ndim - 1)
    yield partial(setitem, out.reshape(read.shape), ..., read)


class MatMul(Layer):
    """Matrix product of two values, whose last two axes are matrices: ``x @ other``.

    The product of (N, ..., R, K) and (N, ..., K, C) is (N, ..., R, C). The other axes must be equal, or have length 1
    in one of the values.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    Each matrix times its transpose:

    >>> product = (ic.MatMul(), "input", "t")
    >>> net = ic.Net({"t": ic.Transpose(1, 2), "y": product})
    >>> net.predict([[[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]]])
    array([[[ 5.,  2.],
            [ 2., 10.]]], dtype=float32)
    """

    def output_shape(self, *x: Shape) -> Shape:
        if len(x) != 2:
            raise ShapeError(f"MatMul() reads two values, got {len(x)}")
        first, second = map(user_shape, x)
        pairs = [*zip(first[1:-2], second[1:-2], strict=False)]
        if (
            len(first) < 3
            or len(first) != len(second)
            or first[0] != second[0]
            or first[-1] != second[-2]
            or any(a != b and 1 not in (a, b) for a, b in pairs)
        ):
            raise ShapeError(
                f"the shapes {first} @ {second} do not fit: the last two axes of both must be matrices (M, K) and"
                " (K, P), and the other axes must be equal, or 1 in one of them"
            )
        return internal_shape((*map(max, pairs), first[-2], second[-1]), first[0])

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        first, second, product = (Spec(user_shape(shape), dtype) for shape in (*x, y))
        forward = {"matrices": [first, second, product]}
        full = [Spec((*product.shape[:-2], *each.shape[-2:]), dtype) for each in (first, second)]
        return Needs(output=False, forward=forward, backward={"matrices": [first, second, product, *full]})

    def flops(self, x: Any, y: Shape) -> int:
        return 2 * user_shape(x[0])[-1] * prod(y)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        a, b, product = ctx.scratch["matrices"]
        for matrices, one in zip((a, b), ctx.xs, strict=True):
            yield partial(setitem, matrices, ..., _batch_first(one))
        yield from ctx.backend.matmul.prepare(a, b, out=product)
        yield partial(setitem, _batch_first(ctx.y), ..., product)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``da = dy · bᵀ`` and ``db = aᵀ · dy``, summed where an axis was broadcast."""
        backend, (a, b, product, of_a, of_b) = ctx.backend, ctx.scratch["matrices"]
        yield partial(setitem, product, ..., _batch_first(dy))
        for matrices, one in zip((a, b), ctx.xs, strict=True):
            yield partial(setitem, matrices, ..., _batch_first(one))
        factors = (product, b.swapaxes(-1, -2)), (a.swapaxes(-1, -2), product)
        for dx, (left, right), full in zip(ctx.dxs, factors, (of_a, of_b), strict=True):
            if dx is not None:
                yield from backend.matmul.prepare(left, right, out=full)
                yield from sum_broadcast(full, _batch_first(dx), ctx.xp)


def _batch_first(x: Array) -> Array:
    """Return a view of a value with the axes as users see them."""
    return x.transpose(user_axes(x.ndim))
