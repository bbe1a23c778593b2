"""Products with a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import one_of, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import BOUNDS, Context, Layer, Needs, Parameter
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Shape

__all__ = ["Linear"]


@dataclass(eq=False, repr=False)
class Linear(Layer):
    """``y = W x + b``; weight (out_features, in_features).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : {"default", "he"}
        How ``net.init`` draws the parameters; see :class:`Conv2d`.
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
        if len(x) != 2:
            expected = f"(N, {self.in_features})"
            raise ShapeError(f"expected features {expected}, got shape {user_shape(x)}; Flatten() is missing")
        if x[0] != self.in_features:
            raise ShapeError(f"expected {self.in_features} input features, got {x[0]}")
        return self.out_features, x[1]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=self.learns("weight"), output=False)

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * self.in_features * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        y = ctx.y
        yield from ctx.backend.matmul.prepare(ctx.params["weight"], x, out=y)
        if self.bias:
            yield partial(ctx.xp.add, y, ctx.params["bias"][:, None], y)
        if kind := ctx.activation:
            yield from ctx.backend.activation.prepare(y, kind, out=y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        backend = ctx.backend
        if self.learns("weight"):
            yield from backend.matmul.prepare(dy, ctx.x.T, out=ctx.grads["weight"])
        if self.bias and self.learns("bias"):
            yield from backend.sum_samples.prepare(dy, out=ctx.grads["bias"])
        if ctx.dx is not None:
            yield from backend.matmul.prepare(ctx.params["weight"].T, dy, out=ctx.dx)
