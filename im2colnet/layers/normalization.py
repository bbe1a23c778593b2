"""Normalisation over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from im2colnet.backend import Backend, normalizing
from im2colnet.checks import number, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, Parameter, Work, _images, _same_rows
from im2colnet.layout import user_shape
from im2colnet.types import Array, Shape


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
    couples: ClassVar[int] = 2
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
        def work(kernel: str) -> Work:
            return {kernel: backend.workspace(kernel, x, y, dtype)}

        affine = work("channel_affine")
        if not training:
            return Needs(input=False, output=False, inplace=True, forward=affine)
        sums, grad_sums = work("batch_norm_sums"), work("batch_norm_grad_sums")
        return Needs(output=False, forward=affine, backward=affine, sums=sums, grad_sums=grad_sums)

    band = _same_rows

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * prod(x)

    def check_batch(self, x: Shape) -> None:
        H, _, W, N = _images(x)
        if H * W * N == 1:
            raise ShapeError("batch norm needs more than one value per channel to train; use a larger batch")

    def partial_sums(self, x: Array, ctx: Context) -> None:
        """``[Σx, Σ(x - mean)²]``, about the shard's own mean."""
        ctx.backend.batch_norm_sums(x, out=ctx.sums, work=ctx.work["batch_norm_sums"])

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

    def forward(self, x: Array, ctx: Context) -> Array:
        backend, params = ctx.backend, ctx.params
        if ctx.training:
            ctx.n = ctx.samples * x.shape[0] * x.shape[2]
            self.check_batch((*x.shape[:3], ctx.samples))
            weight, bias = params.get("weight"), params.get("bias")
            ctx.statistics = backend.batch_norm_statistics(ctx.sums, ctx.n, self.eps, weight, bias)
            scale, shift = ctx.statistics.scale, ctx.statistics.shift
        else:
            scale, shift = self.running_line(params, ctx.buffers, ctx.xp)
        return backend.channel_affine(x, scale, shift, relu=ctx.relu, out=ctx.y, work=ctx.work["channel_affine"])

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        """For each channel a and c of ``y = a·x + c`` in evaluation mode, float64."""
        inverse = 1 / xp.sqrt(state["running_var"].astype("float64") + self.eps)
        return normalizing(state["running_mean"], inverse, params.get("weight"), params.get("bias"))

    def partial_grad_sums(self, dy: Array, ctx: Context) -> None:
        """``[Σdy, Σdy·(x - mean)]``."""
        work, of = ctx.work["batch_norm_grad_sums"], ctx.statistics
        ctx.backend.batch_norm_grad_sums(ctx.x, of.mean, dy, out=ctx.sums, work=work)
        if self.affine:
            ctx.grads["bias"][...] = ctx.sums[0]
            ctx.xp.multiply(ctx.sums[1], of.inverse, out=ctx.grads["weight"])

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        if ctx.dx is None:
            return None
        backend, of = ctx.backend, ctx.statistics
        b, c = backend.batch_norm_input_grad(ctx.sums, ctx.n, of)
        return backend.channel_affine(dy, of.scale, c, ctx.x, b, out=ctx.dx, work=ctx.work["channel_affine"])

    def finish_step(self, ctx: Context) -> None:
        state = ctx.buffers
        ctx.backend.batch_norm_running(
            ctx.statistics, ctx.n, self.momentum, state["running_mean"], state["running_var"]
        )
