"""Batch norm: sums over the batch, and affine maps of channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from im2colnet.backend.activation import Activation
from im2colnet.backend.kernel import kernel, like
from im2colnet.errors import NonFiniteError
from im2colnet.types import Array, Call, Spec


class Statistics(NamedTuple):
    """What batch norm computes from a batch's sums, for each channel, (C,) float64: ``y = scale·x + shift``."""

    mean: Array
    var: Array
    inverse: Array  #: 1 / √(var + eps)
    scale: Array
    shift: Array


def _two_sums(backend: Any, x: Spec, **arguments: Any) -> Spec:
    return Spec((2, x.shape[1]), "float64")


class Normalization(Activation):
    """Kernels of batch norm on images (H, C, W, N)."""

    @kernel(result=_two_sums)
    def batch_norm_sums(self, x: Array, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        """Σx and Σ(x - mean)², mean = Σx/n, of each channel into ``out`` (2, C), float64.

        Each row is summed about its own mean k, and the rows are joined: no large squares cancel, however far the mean
        is from 0 (Chan, Golub, LeVeque 1983).
        """
        H, C, W, N = x.shape
        m = W * N

        def compute() -> None:
            k = x.mean(axis=(2, 3), keepdims=True)  # (H, C, 1, 1)
            centred = x - k
            about = centred.sum(axis=(2, 3)).astype("float64") / m  # what rounding k has left of the row's mean
            spread = self.xp.square(centred).sum(axis=(2, 3)).astype("float64") - m * about * about
            k = k[:, :, 0, 0].astype("float64")
            of_rows = k - k[0] + about  # less the first row's, so that all are small
            mean = of_rows.mean(axis=0)
            out[0] = H * m * (k[0] + mean)
            out[1] = self.xp.maximum(spread, 0).sum(0) + m * self.xp.square(of_rows - mean).sum(0)

        yield compute

    @kernel(result=_two_sums)
    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Σdy and Σdy·(x - mean) of each channel into ``out`` (2, C), float64."""

        def compute() -> None:
            k = mean.astype(x.dtype)
            centred = x - k[:, None, None]
            out[0] = dy.sum(axis=(2, 3)).astype("float64").sum(0)
            out[1] = (dy * centred).sum(axis=(2, 3)).astype("float64").sum(0) - (mean - k) * out[0]

        yield compute

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        """Return what normalises a batch, from its ``[Σx, Σ(x - mean)²]`` (2, C) over n numbers of each channel.

        Raises
        ------
        NonFiniteError
            If mean or variance is not finite. (A device that would have to be waited for need not look.)
        """
        mean, var = sums[0] / n, sums[1] / n
        if not self.all_finite(mean + var):
            raise NonFiniteError(
                "mean or variance of a channel over the batch is infinite or NaN: an input has numbers too large to be"
                " squared, or training diverges (try a lower learning rate); parameters and running statistics are"
                " unchanged"
            )
        inverse = 1 / self.xp.sqrt(var + eps)
        return Statistics(mean, var, inverse, *normalizing(mean, inverse, weight, bias))

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        """B and c of ``dx = scale·dy + b·x + c``, for a batch's ``[Σdy, Σdy·(x - mean)]`` (2, C).

        ``dx = scale·(dy - Σdy/n - (x - mean)·Σdy·(x - mean) / ((var + eps)·n))``.
        """
        b = -of.scale * of.inverse**2 * sums[1] / n
        return b, -of.scale * sums[0] / n - b * of.mean

    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> None:
        """Move running mean and (unbiased) variance towards the batch's, in place."""
        mean[...] = (1 - momentum) * mean + momentum * of.mean
        var[...] = (1 - momentum) * var + momentum * (n / (n - 1)) * of.var

    @kernel(result=like("x"))
    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        activation: str | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """``f(x·scale + other·other_scale + shift)``, one coefficient for each channel; ``out`` may be ``x``.

        f is an ``activation`` among ``epilogues``; without one, nothing.
        """
        dtype = x.dtype

        def compute() -> None:
            self.xp.multiply(x, scale.astype(dtype)[:, None, None], out=out)
            if other is not None:
                scaled = other * other_scale.astype(dtype)[:, None, None]  # type: ignore[union-attr]
                self.xp.add(out, scaled, out=out)
            self.xp.add(out, shift.astype(dtype)[:, None, None], out=out)

        yield compute
        if activation:
            yield from self.activation.prepare(out, activation, out=out)


def normalizing(mean: Array, inverse: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array]:
    """Scale and shift of ``y = weight·(x - mean)·inverse + bias``, as one map for each channel."""
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale
    return scale, shift if bias is None else bias + shift
