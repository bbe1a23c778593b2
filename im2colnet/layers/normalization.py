"""Normalisation over the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

from im2colnet.backend import Backend, normalizing
from im2colnet.checks import number, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, Parameter, Scratch, _images, _same_rows
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Shape, Spec

__all__ = ["BatchNorm2d"]


@dataclass(eq=False, repr=False)
class BatchNorm2d(Layer):
    """Batch normalisation over the whole batch and image (Ioffe & Szegedy 2015, algorithm 1).

    ``y = weight · (x - mean) / √(var + eps) + bias`` for each channel, with the batch's mean and (biased) variance
    while training and the running ones otherwise. The statistics are of the whole batch however it is divided among
    workers: each shard gives its sums, the sums are joined, and only then is the shard normalised.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float
        ``running = (1 - momentum) · running + momentum · batch``, with the unbiased variance.
    affine : bool
        Learn ``weight`` and ``bias``.
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    batch_sums: ClassVar[int] = 2
    fuses: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset({"num_features", "affine"})

    def __post_init__(self) -> None:
        self._set(num_features=whole("num_features", self.num_features))
        number("eps", self.eps)
        number("momentum", self.momentum)

    def parameters(self) -> dict[str, Parameter]:
        shape = (self.num_features,)
        if not self.affine:
            return {}
        return {"weight": Parameter(shape, value=1.0, precise=True), "bias": Parameter(shape, precise=True)}

    def state(self) -> dict[str, Parameter]:
        shape = (self.num_features,)
        return {"running_mean": Parameter(shape), "running_var": Parameter(shape, value=1.0)}

    def output_shape(self, x: Shape) -> Shape:
        _, C, _, _ = _images(x)
        if self.num_features != C:
            raise ShapeError(f"expected {self.num_features} channels, got {C}: input shape {user_shape(x)}")
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        images, channels = Spec(x, dtype), Spec((self.num_features,), "float64")
        affine: Scratch = {"channel_affine": backend.channel_affine.scratch(images, channels, channels)}
        if not training:
            return Needs(input=False, output=False, inplace=True, forward=affine)
        sums: Scratch = {"batch_norm_sums": backend.batch_norm_sums.scratch(images)}
        grad_sums: Scratch = {"batch_norm_grad_sums": backend.batch_norm_grad_sums.scratch(images, channels, images)}
        two: Scratch = {"channel_affine": backend.channel_affine.scratch(images, channels, channels, images, channels)}
        return Needs(output=False, forward=affine, backward=two, sums=sums, grad_sums=grad_sums)

    band = _same_rows

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * prod(x)

    def check_batch(self, x: Shape) -> None:
        H, _, W, N = _images(x)
        if H * W * N == 1:
            raise ShapeError("batch norm needs more than one value per channel to train; use a larger batch")

    def shard_sums(self, x: Array, ctx: Context) -> None:
        """``[Σx, Σ(x - mean)²]``, about the shard's own mean."""
        ctx.backend.batch_norm_sums(x, out=ctx.sums, scratch=ctx.scratch["batch_norm_sums"])

    def join_sums(self, parts: Sequence[Array], sizes: Sequence[int], ctx: Context) -> Array:
        """``Σ(x - mean)² = Σ_shards [Σ(x - m)² + n·(m - mean)²]``, m and n of each shard (Chan, Golub, LeVeque 1983).

        Squares of numbers far from 0 are nowhere subtracted from each other.
        """
        if len(parts) == 1:
            return parts[0]
        pixels, joined = ctx.x.shape[0] * ctx.x.shape[2], parts[0].copy()
        for part in parts[1:]:
            joined += part
        mean = joined[0] / (sum(sizes) * pixels)
        for part, size in zip(parts, sizes, strict=True):
            joined[1] += size * pixels * ctx.xp.square(part[0] / (size * pixels) - mean)
        return joined

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        scratch, line = ctx.scratch["channel_affine"], ctx.backend.empty((2, self.num_features), "float64")
        yield partial(self._write_line, x, ctx, line)
        affine = ctx.backend.channel_affine
        yield from affine.prepare(x, line[0], line[1], activation=ctx.activation, out=ctx.y, scratch=scratch)

    def _write_line(self, x: Array, ctx: Context, line: Array) -> None:
        """Write scale and shift of ``y = scale·x + shift`` for each channel into ``line`` (2, C)."""
        if not ctx.training:
            line[0], line[1] = self.running_line(ctx.params, ctx.buffers, ctx.xp)
            return
        ctx.n = ctx.samples * x.shape[0] * x.shape[2]
        self.check_batch((*x.shape[:3], ctx.samples))
        weight, bias = ctx.params.get("weight"), ctx.params.get("bias")
        ctx.statistics = ctx.backend.batch_norm_statistics(ctx.sums, ctx.n, self.eps, weight, bias)
        line[0], line[1] = ctx.statistics.scale, ctx.statistics.shift

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        """For each channel a and c of ``y = a·x + c`` in evaluation mode, float64."""
        inverse = 1 / xp.sqrt(state["running_var"].astype("float64") + self.eps)
        return normalizing(state["running_mean"], inverse, params.get("weight"), params.get("bias"))

    def shard_grad_sums(self, dy: Array, ctx: Context) -> None:
        """``[Σdy, Σdy·(x - mean)]``."""
        scratch, of = ctx.scratch["batch_norm_grad_sums"], ctx.statistics
        ctx.backend.batch_norm_grad_sums(ctx.x, of.mean, dy, out=ctx.sums, scratch=scratch)
        if self.affine:
            ctx.grads["bias"][...] = ctx.sums[0]
            ctx.xp.multiply(ctx.sums[1], of.inverse, out=ctx.grads["weight"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        if ctx.dx is None:
            return
        scratch, line = ctx.scratch["channel_affine"], ctx.backend.empty((3, self.num_features), "float64")
        a, b, c = line[0], line[1], line[2]
        yield partial(self._write_gradient_line, ctx, a, b, c)
        yield from ctx.backend.channel_affine.prepare(dy, a, c, ctx.x, b, out=ctx.dx, scratch=scratch)

    def _write_gradient_line(self, ctx: Context, a: Array, b: Array, c: Array) -> None:
        """Write a, b and c of ``dx = a·dy + b·x + c`` for each channel."""
        a[...] = ctx.statistics.scale
        b[...], c[...] = ctx.backend.batch_norm_input_grad(ctx.sums, ctx.n, ctx.statistics)

    def finish_step(self, ctx: Context) -> None:
        state = ctx.buffers
        ctx.backend.batch_norm_running(
            ctx.statistics, ctx.n, self.momentum, state["running_mean"], state["running_var"]
        )
