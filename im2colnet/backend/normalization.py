"""Batch norm: sums over the batch, and affine maps of channels. Normalization of sets of numbers of one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from operator import setitem
from typing import Any, NamedTuple

from im2colnet.backend.activation import Activation
from im2colnet.backend.kernel import kernel, like
from im2colnet.errors import NonFiniteError
from im2colnet.types import Array, Call, Shape, Spec, accumulator


class Statistics(NamedTuple):
    """The statistics that batch norm computes from a batch's sums, for each channel: ``y = scale·x + shift``.

    Parameters
    ----------
    mean, var : (C,) float64 array
        Mean and biased variance of the batch.
    inverse : (C,) float64 array
        ``1 / √(var + eps)``.
    scale, shift : (C,) float64 array
        The coefficients of the affine map of each channel.
    """

    mean: Array
    var: Array
    inverse: Array  #: 1 / √(var + eps)
    scale: Array
    shift: Array


def _two_sums(backend: Any, x: Spec, **arguments: Any) -> Spec:
    return Spec((2, x.shape[1]), "float64")


def _statistics(backend: Any, sums: Spec, **arguments: Any) -> Spec:
    return Spec((len(Statistics._fields), sums.shape[1]), "float64")


def _like_sums(backend: Any, sums: Spec, **arguments: Any) -> Spec:
    return sums


def statistics_shape(x: Shape, over: tuple[int, ...]) -> Shape:
    """Shape of an array with one number for each set, where ``over`` are the axes of a set."""
    return tuple(1 if axis in over else n for axis, n in enumerate(x))


def slope_scratch(
    backend: Any, dy: Spec, y: Spec | None = None, activation: str | None = None, **others: Any
) -> list[Spec]:
    """Return the scratch of the activation's gradient, with which the sums of batch norm's gradient begin."""
    return [] if activation is None else backend.activation_grad.scratch(y, dy, activation)


def _set_norm(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    wide = accumulator(x.dtype)
    copy = [] if wide == x.dtype else [Spec(x.shape, wide)]
    return [Spec(x.shape, wide), Spec(statistics_shape(x.shape, over), "float64"), *copy]


def _set_norm_grads(
    backend: Any,
    x: Spec,
    dy: Spec,
    over: tuple[int, ...],
    weight: Any = None,
    dweight: Any = None,
    dbias: Any = None,
    **others: Any,
) -> list[Spec]:
    full, sums, *copy = _set_norm(backend, x, over)
    of_weight = next((each.shape for each in (weight, dweight, dbias) if each is not None), ())
    return [full, full, sums, Spec(sums.shape, full.dtype), Spec(of_weight, "float64"), *copy]


class Normalization(Activation):
    """Kernels for batch norm on images (H, C, W, N), and for normalization over sets of numbers of one sample."""

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

    @kernel(result=_two_sums, scratch=slope_scratch, writes=("dz",))
    def batch_norm_grad_sums(
        self,
        x: Array,
        mean: Array,
        dy: Array,
        y: Array | None = None,
        activation: str | None = None,
        dz: Array = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Σdz and Σdz·(x - mean) of each channel into ``out`` (2, C), float64.

        dz is the gradient of the normalized images z: ``dy``, or with an ``activation`` f that made ``y = f(z)``, one
        whose formula reads y, ``dz = f'(z)·dy``. That is written to ``dz``, which may be ``dy``.
        """
        if activation:
            yield from self.activation_grad.prepare(y, dy, activation, out=dz, scratch=scratch)
        of_z = dz if activation else dy

        def compute() -> None:
            k = mean.astype(x.dtype)
            centred = x - k[:, None, None]
            out[0] = of_z.sum(axis=(2, 3)).astype("float64").sum(0)
            out[1] = (of_z * centred).sum(axis=(2, 3)).astype("float64").sum(0) - (mean - k) * out[0]

        yield compute

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        """Return the :class:`Statistics` of a batch, from ``[Σx, Σ(x - mean)²]`` (2, C) over n numbers of each channel.

        Raises
        ------
        NonFiniteError
            If mean or variance is not finite. (A GPU backend may skip this check, which has to wait for the GPU.)
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

    @kernel(result=_statistics)
    def batch_norm_line(
        self,
        sums: Array,
        n: int,
        eps: Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        out: Array = None,
    ) -> Iterator[Call]:
        """Write the rows of :class:`Statistics` into ``out`` (5, C), float64; ``eps()`` is called each time."""

        def compute() -> None:
            for k, value in enumerate(self.batch_norm_statistics(sums, n, eps(), weight, bias)):
                out[k] = value

        yield compute

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        """B and c of ``dx = scale·dy + b·x + c``, for a batch's ``[Σdy, Σdy·(x - mean)]`` (2, C).

        ``dx = scale·(dy - Σdy/n - (x - mean)·Σdy·(x - mean) / ((var + eps)·n))``.
        """
        b = -of.scale * of.inverse**2 * sums[1] / n
        return b, -of.scale * sums[0] / n - b * of.mean

    @kernel(result=_like_sums)
    def batch_norm_grad_line(self, sums: Array, n: int, of: Statistics, out: Array = None) -> Iterator[Call]:
        """Write b and c of :meth:`batch_norm_input_grad` into ``out`` (2, C), float64."""

        def compute() -> None:
            out[0], out[1] = self.batch_norm_input_grad(sums, n, of)

        yield compute

    @kernel(writes=("mean", "var"))
    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> Iterator[Call]:
        """Move running mean and (unbiased) variance towards the batch's, in place."""

        def compute() -> None:
            mean[...] = (1 - momentum) * mean + momentum * of.mean
            var[...] = (1 - momentum) * var + momentum * (n / (n - 1)) * of.var

        yield compute

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

        f is an ``activation`` among ``epilogues``; without one it is the identity.
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

    @kernel(result=like("x"), scratch=_set_norm, writes=("inverse", "mean", "rest"))
    def set_norm(
        self,
        x: Array,
        over: tuple[int, ...],
        eps: float | Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        inverse: Array = None,
        mean: Array | None = None,
        rest: Array | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """``(x - mean) / √(var + eps) · weight + bias``, mean and (biased) variance of each set of numbers.

        Sums are float64. The mean is subtracted in two parts, its value in the type of x and its rounding error, so a
        set far from 0 keeps its digits, and a constant set gives exactly the bias.

        Parameters
        ----------
        x
            An array of any shape, the batch axis last.
        over
            The axes of a set; never the batch axis.
        eps
            A number, or a function that returns it and is called each time.
        weight, bias
            Arrays of a shape that can be broadcast.
        inverse, mean, rest
            The arrays for ``1 / √(var + eps)`` and the two parts of the mean, with the axes ``over`` of length 1.
            Without ``mean`` nothing is subtracted, and the mean square takes the place of the variance.
        """
        xp, members = self.xp, prod(x.shape[axis] for axis in over)
        squares, sums, *copy = scratch
        y = copy[0] if copy else out
        if copy:  # what has 16 bits is computed in float32
            yield partial(setitem, y, ..., x)
            x = y
        if mean is not None:
            yield partial(xp.sum, x, axis=over, dtype="float64", keepdims=True, out=sums)
            yield partial(xp.divide, sums, members, out=sums)
            yield partial(setitem, mean, ..., sums)
            yield partial(xp.subtract, sums, mean, out=sums)
            yield partial(setitem, rest, ..., sums)
            yield partial(xp.subtract, x, mean, out=y)
            yield partial(xp.subtract, y, rest, out=y)
            x = y
        yield partial(xp.square, x, out=squares)
        yield partial(xp.sum, squares, axis=over, dtype="float64", keepdims=True, out=sums)
        yield partial(xp.divide, sums, members, out=sums)
        yield lambda: xp.add(sums, eps() if callable(eps) else eps, out=sums)
        yield partial(xp.sqrt, sums, out=sums)
        yield partial(xp.reciprocal, sums, out=sums)
        yield partial(setitem, inverse, ..., sums)
        yield partial(xp.multiply, x, inverse, out=y)
        if weight is not None:
            yield partial(xp.multiply, y, weight, out=y)
        if bias is not None:
            yield partial(xp.add, y, bias, out=y)
        if copy:
            yield partial(setitem, out, ..., y)

    @kernel(scratch=_set_norm_grads, writes=("dweight", "dbias", "dx"))
    def set_norm_grads(
        self,
        x: Array,
        dy: Array,
        over: tuple[int, ...],
        inverse: Array,
        mean: Array | None = None,
        rest: Array | None = None,
        weight: Array | None = None,
        dweight: Array | None = None,
        dbias: Array | None = None,
        dx: Array | None = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Gradients of :meth:`set_norm`: of x, and of weight and bias if ``dweight`` and ``dbias`` are given.

        With n = (x - mean) / √(var + eps) and g = dy · weight: ``dx = (g - mean(g) - n · mean(g · n)) / √(var + eps)``,
        where the term mean(g) is left out if there is no mean.
        """
        xp = self.xp
        normed, product, sums, average, of_weight, *copy = scratch
        out = copy[0] if copy else dx
        if copy:
            yield partial(setitem, out, ..., dy)
            dy = out
        if mean is not None:
            yield partial(xp.subtract, x, mean, out=normed)
            yield partial(xp.subtract, normed, rest, out=normed)
            x = normed
        yield partial(xp.multiply, x, inverse, out=normed)
        total = partial(xp.sum, axis=tuple(i for i, n in enumerate(of_weight.shape) if n == 1), keepdims=True)
        if dbias is not None:
            yield partial(total, dy, dtype="float64", out=of_weight)
            yield partial(setitem, dbias, ..., of_weight)
        if dweight is not None:
            yield partial(xp.multiply, dy, normed, out=product)
            yield partial(total, product, dtype="float64", out=of_weight)
            yield partial(setitem, dweight, ..., of_weight)
        if dx is None:
            return
        if weight is not None:
            yield partial(xp.multiply, dy, weight, out=out)
            dy = out
        yield partial(xp.multiply, dy, normed, out=product)
        yield from _mean(xp, product, over, sums, average)
        yield partial(xp.multiply, normed, average, out=normed)
        if mean is not None:
            yield from _mean(xp, dy, over, sums, average)
            yield partial(xp.add, normed, average, out=normed)
        yield partial(xp.subtract, dy, normed, out=out)
        yield partial(xp.multiply, out, inverse, out=out)
        if copy:
            yield partial(setitem, dx, ..., out)


def _mean(xp: Any, x: Array, over: tuple[int, ...], sums: Array, out: Array) -> Iterator[Call]:
    """Write the mean of each set into ``out``, by way of ``sums`` in float64."""
    yield partial(xp.sum, x, axis=over, dtype="float64", keepdims=True, out=sums)
    yield partial(xp.divide, sums, prod(x.shape[axis] for axis in over), out=sums)
    yield partial(setitem, out, ..., sums)


def normalizing(mean: Array, inverse: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array]:
    """Return the scale and shift of ``y = weight·(x - mean)·inverse + bias``, for each channel.

    Parameters
    ----------
    mean, inverse : (C,) array
        The mean, and ``1 / √(var + eps)``.
    weight, bias : (C,) array or None
        The learned scale and shift.

    Returns
    -------
    scale, shift : (C,) array
        The coefficients of ``y = scale·x + shift``.
    """
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale
    return scale, shift if bias is None else bias + shift
