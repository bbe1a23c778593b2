"""Normalization: over the batch (batch norm), or within a sample (the others)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar, NamedTuple

from im2colnet.backend import Backend, Statistics, normalizing
from im2colnet.checks import number, truth_value, whole
from im2colnet.errors import FrozenError, ShapeError
from im2colnet.layers.base import (
    Band,
    Context,
    Layer,
    Needs,
    Parameter,
    Scratch,
    _images,
    _same_rows,
    as_rows,
    rows_shape,
)
from im2colnet.layout import channel_axis, channels, internal_axes, user_axes, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator, run

__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "InstanceNorm2d", "LayerNorm", "LocalResponseNorm", "RMSNorm"]


class RunningNorm(Layer):
    """Base of the norms whose channels have a weight, a bias and running statistics.

    The kernels see features as images of one pixel. Where the running statistics normalize, in evaluation, the layer
    is a line ``y = a·x + c`` for each channel.
    """

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    bias: bool
    fixed: ClassVar[frozenset[str]] = frozenset({"num_features", "affine", "track_running_stats", "bias"})

    def __post_init__(self) -> None:
        self._set(num_features=whole("num_features", self.num_features))
        number("eps", self.eps)
        if self.momentum is not None:
            number("momentum", self.momentum, or_else="None")
        for name in "affine", "track_running_stats", "bias":
            self._set(**{name: truth_value(name, getattr(self, name))})

    def parameters(self) -> dict[str, Parameter]:
        return _affine((self.num_features,), bias=self.bias) if self.affine else {}

    def learning(self) -> list[str]:
        """Return the names of the parameters whose gradients are wanted."""
        return [name for name in self.parameters() if self.learns(name)]

    @property
    def settled(self) -> bool:
        """Whether the running statistics are frozen, so that they normalize in training too."""
        return "running_mean" in self.skipped

    def state(self) -> dict[str, Parameter]:
        shape = (self.num_features,)
        running = {"running_mean": Parameter(shape), "running_var": Parameter(shape, value=1.0)}
        return running if self.track_running_stats else {}

    def is_line(self, channels: int) -> bool:
        return self.track_running_stats and super().is_line(channels)

    def _line_scratch(self, x: Shape, dtype: str, backend: Backend) -> Scratch:
        images, of_channels = Spec(rows_shape(x), dtype), Spec((self.num_features,), "float64")
        return {"channel_affine": backend.channel_affine.scratch(images, of_channels, of_channels)}

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        scratch, line = ctx.scratch["channel_affine"], ctx.backend.empty((2, self.num_features), "float64")
        yield partial(self._write_line, x, ctx, line)
        affine = ctx.backend.channel_affine
        x, y = as_rows(x), as_rows(ctx.y)
        yield from affine.prepare(x, line[0], line[1], activation=ctx.activation, out=y, scratch=scratch)

    def _write_line(self, x: Array, ctx: Context, line: Array) -> None:
        """Write scale and shift of ``y = scale·x + shift`` for each channel into ``line`` (2, C)."""
        line[0], line[1] = self.running_line(ctx.params, ctx.buffers, ctx.xp)

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        """For each channel a and c of ``y = a·x + c`` in evaluation mode, float64."""
        inverse = self._inverse(state, xp)
        return normalizing(state["running_mean"], inverse, params.get("weight"), params.get("bias"))

    def _inverse(self, state: dict[str, Array], xp: Any) -> Array:
        """Return 1 / √(running variance + eps) of each channel, float64."""
        return 1 / xp.sqrt(state["running_var"].astype("float64") + self.eps)

    def _settled_needs(self, x: Shape, dtype: str, backend: Backend) -> Needs:
        """Say which arrays training takes where the running statistics are frozen."""
        line, learning = self._line_scratch(x, dtype, backend), bool(self.learning())
        return Needs(
            input=learning,
            output=False,
            inplace=True,
            forward=line,
            backward=line | (self._grad_sums_scratch(x, dtype, backend) if learning else {}),
        )

    def _grad_sums_scratch(self, x: Shape, dtype: str, backend: Backend, activation: str | None = None) -> Scratch:
        images, of_channels = Spec(rows_shape(x), dtype), Spec((self.num_features,), "float64")
        slope: Any = {} if activation is None else {"y": images, "activation": activation, "dz": images}
        return {"batch_norm_grad_sums": backend.batch_norm_grad_sums.scratch(images, of_channels, images, **slope)}

    def _write_grad_sums(self, dy: Array, mean: Array, sums: Array, ctx: Context) -> Iterator[Call]:
        """Write ``[Σdz, Σdz·(x - mean)]``, and dz if the activation's gradient is not made yet."""
        scratch = ctx.scratch["batch_norm_grad_sums"]
        slope: Any = {}
        if ctx.dz is not None:
            slope = {"y": as_rows(ctx.y), "activation": ctx.activation, "dz": as_rows(ctx.dz)}
        make = ctx.backend.batch_norm_grad_sums.prepare
        yield from make(as_rows(ctx.x), mean, as_rows(dy), **slope, out=sums, scratch=scratch)

    def _settled_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``dx = scale·dy``, where the running statistics are frozen: they do not depend on x."""
        backend, C = ctx.backend, self.num_features
        line, sums, statistics = (backend.empty((2, C), "float64") for _ in range(3))
        mean, inverse = statistics[0], statistics[1]

        def read() -> None:
            line[0], line[1] = self.running_line(ctx.params, ctx.buffers, ctx.xp)[0], 0
            mean[...], inverse[...] = ctx.buffers["running_mean"], self._inverse(ctx.buffers, ctx.xp)

        yield read
        if self.learning():
            yield from self._write_grad_sums(dy, mean, sums, ctx)
            yield from self._gradients(ctx, sums, inverse)
            dy = dy if ctx.dz is None else ctx.dz
        if ctx.dx is not None:
            out, scratch = as_rows(ctx.dx), ctx.scratch["channel_affine"]
            yield from backend.channel_affine.prepare(as_rows(dy), line[0], line[1], out=out, scratch=scratch)

    def _gradients(self, ctx: Context, sums: Array, inverse: Array) -> Iterator[Call]:
        """Write the gradients of weight and bias from ``[Σdy, Σdy·(x - mean)]``."""
        learning = self.learning()
        if "weight" in learning:
            yield partial(ctx.xp.multiply, sums[1], inverse, out=ctx.grads["weight"])
        if "bias" in learning:
            yield partial(setitem, ctx.grads["bias"], ..., sums[0])


@dataclass(eq=False, repr=False)
class BatchNorm(RunningNorm):
    """Base of the layers that normalize over the batch."""

    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    bias: bool = field(default=True, kw_only=True)
    batch_sums: ClassVar[int] = 2
    fuses: ClassVar[bool] = True
    skips_frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sums_in_evaluation = not self.track_running_stats

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "momentum" and (value is None) != (vars(self).get(name, value) is None):
            raise FrozenError(
                "momentum of a layer cannot change between None and a number, since only with None the number of"
                f" batches is part of the state: make a new {type(self).__name__}(..., momentum={value!r})"
            )
        super().__setattr__(name, value)

    def joins_batch(self, training: bool) -> bool:
        return super().joins_batch(training and not self.settled)

    def state(self) -> dict[str, Parameter]:
        counts = self.track_running_stats and self.momentum is None
        return super().state() | ({"num_batches_tracked": Parameter(())} if counts else {})

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if training and self.settled:
            return self._settled_needs(x, dtype, backend)
        images, of_channels = Spec(rows_shape(x), dtype), Spec((self.num_features,), "float64")
        affine = self._line_scratch(x, dtype, backend)
        sums: Scratch = {"batch_norm_sums": backend.batch_norm_sums.scratch(images)}
        if not training:
            return Needs(input=False, output=False, inplace=True, forward=affine, sums=sums)
        grad_sums = self._grad_sums_scratch(x, dtype, backend)
        two: Scratch = {
            "channel_affine": backend.channel_affine.scratch(images, of_channels, of_channels, images, of_channels)
        }
        return Needs(output=False, forward=affine, backward=two, sums=sums, grad_sums=grad_sums)

    def needs_with_slope(self, x: Shape, y: Shape, dtype: str, backend: Backend, activation: str) -> Needs | None:
        if not backend.batch_norm_grad_sums.takes("activation") or (self.settled and not self.learning()):
            return None
        needs, sums = self.needs(x, y, dtype, backend, True), self._grad_sums_scratch(x, dtype, backend, activation)
        return replace(needs, backward=needs.backward | sums) if self.settled else replace(needs, grad_sums=sums)

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * prod(x)

    def check_batch(self, x: Shape) -> None:
        H, _, W, N = rows_shape(x)
        if H * W * N == 1 and not self.settled:
            raise ShapeError("batch norm needs more than one value per channel to train; use a larger batch")

    def shard_sums(self, x: Array, ctx: Context) -> None:
        """``[Σx, Σ(x - mean)²]``, about the shard's own mean."""
        sums, scratch = ctx.sums, ctx.scratch["batch_norm_sums"]
        make = ctx.backend.batch_norm_sums.prepare
        run(ctx.prepared("sums", (x, sums), lambda: make(as_rows(x), out=sums, scratch=scratch)))

    def join_sums(self, parts: Sequence[Array], sizes: Sequence[int], ctx: Context) -> Array:
        """``Σ(x - mean)² = Σ_shards [Σ(x - m)² + n·(m - mean)²]``, m and n of each shard (Chan, Golub, LeVeque 1983).

        Squares of numbers far from 0 are nowhere subtracted from each other.
        """
        if len(parts) == 1:
            return parts[0]
        H, _, W, _ = rows_shape(ctx.x.shape)
        all_parts = ctx.xp.concatenate(parts).reshape((len(parts), *parts[0].shape))  # (shards, 2, C)
        n = ctx.backend.asarray(sizes, "float64")[:, None] * (H * W)
        joined = all_parts.sum(axis=0)
        mean = joined[0] / (sum(sizes) * H * W)
        within = n * ctx.xp.square(all_parts[:, 0] / n - mean)
        within[0] += joined[1]
        joined[1] = within.sum(axis=0)
        return joined

    running_line = RunningNorm.running_line  # so that `keeps` finds it beside prepare_forward

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        if not self.joins_batch(ctx.training):
            yield from super().prepare_forward(x, ctx)
            return
        self.check_batch((*x.shape[:-1], ctx.samples))
        of, scratch = ctx.statistics, ctx.scratch["channel_affine"]
        affine, y = ctx.backend.channel_affine, as_rows(ctx.y)
        yield from affine.prepare(as_rows(x), of.scale, of.shift, activation=ctx.activation, out=y, scratch=scratch)

    def use_sums(self, contexts: Sequence[Context]) -> None:
        """Write the statistics of the batch, which all these contexts share."""
        first = contexts[0]
        run(first.prepared("line", (first.sums,), partial(self._prepare_statistics, contexts)))

    def _prepare_statistics(self, contexts: Sequence[Context]) -> Iterable[Call]:
        first, eps = contexts[0], partial(getattr, self, "eps")
        if not hasattr(first, "line"):  # made once, since what is prepared reads it where it is
            H, _, W, _ = rows_shape(first.x.shape)
            line = first.backend.empty((len(Statistics._fields), self.num_features), "float64")
            statistics = Statistics(*(line[k] for k in range(len(line))))
            for ctx in contexts:
                ctx.statistics, ctx.n = statistics, ctx.samples * H * W
            first.line = line  # set last, so that an interruption before leaves nothing half done
        weight, bias = first.params.get("weight"), first.params.get("bias")
        return first.backend.batch_norm_line.prepare(first.sums, first.n, eps, weight, bias, out=first.line)

    def shard_grad_sums(self, dy: Array, ctx: Context) -> None:
        """``[Σdz, Σdz·(x - mean)]``, where dz is the gradient of what was normalized."""
        run(ctx.prepared("grad_sums", (dy, ctx.sums, ctx.grads), partial(self._prepare_grad_sums, dy, ctx)))

    def _prepare_grad_sums(self, dy: Array, ctx: Context) -> Iterator[Call]:
        of = ctx.statistics
        yield from self._write_grad_sums(dy, of.mean, ctx.sums, ctx)
        yield from self._gradients(ctx, ctx.sums, of.inverse)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        if self.settled:
            yield from self._settled_backward(dy, ctx)
            return
        if ctx.dx is None:
            return
        scratch, line = ctx.scratch["channel_affine"], ctx.backend.empty((2, self.num_features), "float64")
        yield partial(self._write_gradient_line, ctx, line)
        a, b, c = ctx.statistics.scale, line[0], line[1]
        x, dy, dx = as_rows(ctx.x), as_rows(dy), as_rows(ctx.dx)
        yield from ctx.backend.channel_affine.prepare(dy, a, c, x, b, out=dx, scratch=scratch)

    def _write_gradient_line(self, ctx: Context, line: Array) -> None:
        """Write b and c of ``dx = scale·dy + b·x + c`` for each channel."""
        sums, make = ctx.sums, ctx.backend.batch_norm_grad_line.prepare
        run(ctx.prepared("grad_line", (sums, line), lambda: make(sums, ctx.n, ctx.statistics, out=line)))

    def finish_step(self, ctx: Context) -> None:
        if not self.track_running_stats:
            return
        state, momentum = ctx.buffers, self.momentum
        if momentum is None:  # the mean of all batches so far
            batches = state["num_batches_tracked"]
            batches += 1
            momentum = 1 / float(ctx.backend.to_numpy(batches))
        make, running = ctx.backend.batch_norm_running.prepare, (state["running_mean"], state["running_var"])
        run(ctx.prepared("running", (momentum,), lambda: make(ctx.statistics, ctx.n, momentum, *running)))


@dataclass(eq=False, repr=False)
class BatchNorm2d(BatchNorm):
    """2-D batch normalization: normalize each channel over the batch and all pixels.

    ``y = weight · (x - mean) / √(var + eps) + bias`` for each channel. Training uses the mean and the (biased) variance
    of the batch, evaluation the running mean and variance. Input and output are images (N, num_features, H, W);
    ``weight``, ``bias``, ``running_mean`` and ``running_var`` are (num_features,).

    Parameters
    ----------
    num_features : int
        Number of channels of the images.
    eps : float
        Added to the variance.
    momentum : float or None
        ``running = (1 - momentum) · running + momentum · batch``, with the unbiased variance. With None the running
        statistics are the mean over all batches: the momentum is 1 / ``num_batches_tracked``, which is part of the
        state.
    affine : bool
        Whether to learn a ``weight`` and, unless ``bias`` is False, a ``bias``.
    track_running_stats : bool
        Whether to keep running statistics. With False the statistics of the batch are used in evaluation too, so a
        prediction depends on the other images of its batch.
    bias : bool
        Whether to learn a ``bias`` beside the ``weight``.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the number of channels differs, or if a channel has
        only one number and the statistics of the batch are used.

    Notes
    -----
    Ioffe & Szegedy 2015 (arXiv:1502.03167, algorithm 1). The statistics are those of the whole batch, for any number of
    workers: each shard computes its sums, the sums are combined, and then each shard is normalized. In evaluation a
    convolution before the layer also computes the normalization.

    Examples
    --------
    >>> net = ic.Sequential([ic.BatchNorm2d(3)]).init()
    >>> [*net.state_dict()]
    ['0.weight', '0.bias', '0.running_mean', '0.running_var']
    """

    def output_shape(self, x: Shape) -> Shape:
        _images(x)
        return _with_channels(self.num_features, x)

    band = _same_rows


@dataclass(eq=False, repr=False)
class BatchNorm1d(BatchNorm):
    """1-D batch normalization of features (N, F), or of sequences (N, C, L) over the batch and all positions.

    Input and output have the same shape. For the formulas and the other details see :class:`BatchNorm2d`.

    Parameters
    ----------
    num_features : int
        Number of features, or number of channels of the sequences.
    eps : float
        Added to the variance.
    momentum : float or None
        Momentum of the running statistics. With None they are the mean over all batches.
    affine : bool
        Whether to learn a ``weight`` and, unless ``bias`` is False, a ``bias``.
    track_running_stats : bool
        Whether to keep running statistics.
    bias : bool
        Whether to learn a ``bias`` beside the ``weight``.

    Raises
    ------
    ShapeError
        As for :class:`BatchNorm2d`.

    Examples
    --------
    >>> net = ic.Sequential([ic.BatchNorm1d(2)]).init()
    >>> state = net.state_dict()
    >>> state["0.running_mean"] = [1.0, 10.0]
    >>> state["0.running_var"] = [4.0, 100.0]
    >>> report = net.load_state_dict(state)
    >>> net.predict([[3.0, 10.0], [1.0, 30.0]]).round(3)
    array([[1., 0.],
           [0., 2.]], dtype=float32)
    """

    def output_shape(self, x: Shape) -> Shape:
        if len(x) not in (2, 3):
            expected = f"expected features (N, {self.num_features}) or sequences (N, {self.num_features}, L)"
            hint = "; for images use BatchNorm2d" if len(x) == 4 else ""
            raise ShapeError(f"{expected}, got shape {user_shape(x)}{hint}")
        return _with_channels(self.num_features, x)


def _with_channels(wanted: int, x: Shape) -> Shape:
    """Return a shape, or raise a ShapeError if it has another number of channels, or features."""
    if channels(x) != wanted:
        raise ShapeError(f"expected {wanted} channels, got {channels(x)}: input shape {user_shape(x)}")
    return x


class Division(NamedTuple):
    """How a value is divided into the sets of numbers that are normalized."""

    shape: Shape  #: of the value, with an axis for groups
    over: tuple[int, ...]  #: the axes of a set
    affine: Shape  #: of the parameters, as they are broadcast

    @property
    def statistics(self) -> Shape:
        """Shape of the statistics, with one number for each set."""
        return tuple(1 if axis in self.over else n for axis, n in enumerate(self.shape))

    @property
    def members(self) -> int:
        """The number of elements in a set."""
        return prod(self.shape[axis] for axis in self.over)


class WithinSample(Layer):
    """Base of the layers that normalize numbers of one sample: ``y = (x - mean) / √(var + eps) · weight + bias``.

    With ``centres`` False no mean is subtracted, and the mean square replaces the variance. Only the statistics are
    kept for the backward pass, which normalizes x again.
    """

    centres: ClassVar[bool] = True
    skips_frozen: ClassVar[bool] = True

    def _division(self, x: Shape) -> Division:
        raise NotImplementedError

    def _broadcast(self, parameter: Array, x: Shape) -> Array:
        """Return a view of a parameter, or of its gradient, in the order of the axes of the divided value."""
        raise NotImplementedError

    def epsilon(self, dtype: str) -> float:
        eps: float = vars(self)["eps"]
        return eps

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of, affine = self._division(x), self.parameters()
        numbers, rounded = Spec(of.shape, dtype), Spec(of.statistics, accumulator(dtype))
        names = ["inverse", "mean", "rest"] if self.centres else ["inverse"]
        saved = dict.fromkeys(names, rounded)
        weight, bias = (Spec(of.affine, accumulator(dtype)) if name in affine else None for name in ("weight", "bias"))
        both = {"weight": weight, "bias": bias}
        gradients = {f"d{name}": spec if self.learns(name) else None for name, spec in both.items()}
        return Needs(
            input=training,
            output=False,
            inplace=not training,
            saved=saved,
            forward={"set_norm": backend.set_norm.scratch(numbers, of.over, 0.0, weight, bias, **saved)},
            backward={
                "set_norm_grads": backend.set_norm_grads.scratch(
                    numbers, numbers, of.over, weight=weight, **saved, **gradients
                )
            },
        )

    def flops(self, x: Shape, y: Shape) -> int:
        return (7 if self.centres else 5) * prod(x)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        of, shape = self._division(x.shape), x.shape
        return ctx.backend.set_norm.prepare(
            x.reshape(of.shape),
            of.over,
            partial(self.epsilon, ctx.y.dtype.name),
            **{name: self._broadcast(array, shape) for name, array in ctx.params.items()},
            **ctx.saved,
            out=ctx.y.reshape(of.shape),
            scratch=ctx.scratch["set_norm"],
        )

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        x, shape = ctx.x, ctx.x.shape
        of = self._division(shape)
        weight = {name: self._broadcast(array, shape) for name, array in ctx.params.items() if name == "weight"}
        return ctx.backend.set_norm_grads.prepare(
            x.reshape(of.shape),
            dy.reshape(of.shape),
            of.over,
            **weight,
            **{f"d{name}": self._broadcast(ctx.grads[name], shape) for name in ctx.params if self.learns(name)},
            **ctx.saved,
            dx=None if ctx.dx is None else ctx.dx.reshape(of.shape),
            scratch=ctx.scratch["set_norm_grads"],
        )


class ByChannels(WithinSample):
    """Normalization of groups of channels that follow each other; weight and bias have a number for each channel."""

    def _divided(self, x: Shape, channels: int, groups: int) -> Division:
        axis = channel_axis(x)
        shape = *x[:axis], groups, channels // groups, *x[axis + 1 :]
        over = tuple(i for i in range(len(shape) - 1) if i != axis)
        return Division(shape, over, tuple(n if i in (axis, axis + 1) else 1 for i, n in enumerate(shape)))

    def _broadcast(self, parameter: Array, x: Shape) -> Array:
        return parameter.reshape(self._division(x).affine)


def _affine(shape: Shape, weight: bool = True, bias: bool = True) -> dict[str, Parameter]:
    """Return the parameters of a layer that begins with weight 1 and bias 0; they stay precise in 16 bits."""
    found = {"weight": Parameter(shape, value=1.0, precise=True)} if weight else {}
    return found | ({"bias": Parameter(shape, precise=True)} if bias else {})


@dataclass(eq=False, repr=False)
class GroupNorm(ByChannels):
    """Group normalization: normalize each group of channels of each sample.

    ``y = weight · (x - mean) / √(var + eps) + bias`` with mean and (biased) variance of the group, weight and bias of
    the channel. Input and output are images (N, C, H, W), features (N, C), or other values with the channels after the
    batch. The result is the same in training and evaluation.

    Parameters
    ----------
    num_groups : int
        Number of groups; it must divide the number of channels.
    num_channels : int
        Number of channels of the input.
    eps : float
        Added to the variance.
    affine : bool
        Whether to learn a ``weight`` and, unless ``bias`` is False, a ``bias``.
    bias : bool
        Whether to learn a ``bias`` beside the ``weight``.

    Raises
    ------
    ShapeError
        If ``num_groups`` does not divide ``num_channels``; when a network runs, also if the number of channels differs.

    Notes
    -----
    Wu & He 2018 (arXiv:1803.08494).

    Examples
    --------
    >>> net = ic.Sequential([ic.GroupNorm(2, 4)]).init()
    >>> net.predict([[1.0, 3.0, 10.0, 50.0]]).round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    affine: bool = True
    bias: bool = field(default=True, kw_only=True)
    fixed: ClassVar[frozenset[str]] = frozenset({"num_groups", "num_channels", "affine", "bias"})

    def __post_init__(self) -> None:
        self._set(num_groups=whole("num_groups", self.num_groups))
        self._set(num_channels=whole("num_channels", self.num_channels))
        if self.num_channels % self.num_groups:
            raise ShapeError(
                f"num_groups must divide num_channels, got num_groups={self.num_groups} for {self.num_channels}"
            )
        number("eps", self.eps)
        self._set(affine=truth_value("affine", self.affine), bias=truth_value("bias", self.bias))

    def parameters(self) -> dict[str, Parameter]:
        return _affine((self.num_channels,), bias=self.bias) if self.affine else {}

    def output_shape(self, x: Shape) -> Shape:
        return _with_channels(self.num_channels, x)

    def _division(self, x: Shape) -> Division:
        return self._divided(x, self.num_channels, self.num_groups)


@dataclass(eq=False, repr=False)
class InstanceNorm2d(RunningNorm, ByChannels):
    """2-D instance normalization: normalize each channel of each image.

    ``y = weight · (x - mean) / √(var + eps) + bias``, with the mean and (biased) variance of one channel of one image.
    The result is the same in training and evaluation, unless the layer keeps running statistics, which evaluation then
    uses. Input and output are images (N, num_features, H, W).

    Parameters
    ----------
    num_features : int
        Number of channels of the images.
    eps : float
        Added to the variance.
    momentum : float or None
        ``running = (1 - momentum) · running + momentum · new``, where ``new`` is the mean, over the images of the
        batch, of their means or unbiased variances. None counts as 0, as in PyTorch: the running statistics do not
        change.
    affine : bool
        Whether to learn a ``weight`` and, unless ``bias`` is False, a ``bias``; by default False, as in PyTorch.
    track_running_stats : bool
        Whether to keep running statistics; by default False, as in PyTorch.
    bias : bool
        Whether to learn a ``bias`` beside the ``weight``.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the number of channels differs, or if images have
        only one pixel and the running statistics are not used.

    Notes
    -----
    Ulyanov, Vedaldi & Lempitsky 2016 (arXiv:1607.08022).

    Examples
    --------
    >>> net = ic.Sequential([ic.InstanceNorm2d(2)])
    >>> net.predict([[[[1.0, 3]], [[10, 50]]]]).ravel().round(3)
    array([-1.,  1., -1.,  1.], dtype=float32)
    """

    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = False
    track_running_stats: bool = False
    bias: bool = field(default=True, kw_only=True)

    skips_frozen: ClassVar[bool] = True

    @property
    def step_sums(self) -> int:  # type: ignore[override]
        return 2 if self.track_running_stats and not self.settled else 0

    def output_shape(self, x: Shape) -> Shape:
        _images(x)
        _with_channels(self.num_features, x)
        if not self.track_running_stats:
            self.check_batch(x)
        return x

    def check_batch(self, x: Shape) -> None:
        H, _, W, _ = x
        if H * W == 1 and not self.settled:
            raise ShapeError(
                f"instance norm needs more than one pixel for each channel, got input shape {user_shape(x)}"
            )

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if training and self.settled:
            return self._settled_needs(x, dtype, backend)
        if self._runs(training):
            return Needs(input=False, output=False, inplace=True, forward=self._line_scratch(x, dtype, backend))
        self.check_batch(x)
        return ByChannels.needs(self, x, y, dtype, backend, training)

    running_line = RunningNorm.running_line  # so that `keeps` finds it beside prepare_forward

    def band(self, rows: slice, x: Shape) -> Band:
        return (self, rows) if self.track_running_stats else None

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        if self._runs(ctx.training):
            yield from super().prepare_forward(x, ctx)
            return
        yield from ByChannels.prepare_forward(self, x, ctx)
        if self.track_running_stats:
            yield partial(self._write_step_sums, ctx)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        return self._settled_backward(dy, ctx) if self.settled else super().prepare_backward(dy, ctx)

    def finish_step(self, ctx: Context) -> None:
        if self.track_running_stats and self.momentum:
            (H, _, W, _), state = ctx.x.shape, ctx.buffers
            of = self._statistics(ctx, ctx.samples)
            ctx.backend.batch_norm_running(of, H * W, self.momentum, state["running_mean"], state["running_var"])

    def _runs(self, training: bool) -> bool:
        """Whether the running statistics normalize."""
        return self.track_running_stats and (self.settled or not training)

    def _write_step_sums(self, ctx: Context) -> None:
        """Write ``[Σ mean, Σ var]`` over the images of a shard, of each channel."""
        of_images = self.num_features, ctx.x.shape[-1]
        mean, rest, inverse = (
            ctx.saved[name].astype("float64").reshape(of_images) for name in ("mean", "rest", "inverse")
        )
        ctx.step_sums[0] = (mean + rest).sum(axis=1)
        ctx.step_sums[1] = ctx.xp.maximum(1 / inverse**2 - self.eps, 0).sum(axis=1)
        self._statistics(ctx, of_images[1])  # raises an error before the parameters change

    def _statistics(self, ctx: Context, samples: int) -> Statistics:
        """Return the means over images of their statistics, or raise an error if they are not finite."""
        return ctx.backend.batch_norm_statistics(ctx.step_sums, samples, self.eps, None, None)

    def _division(self, x: Shape) -> Division:
        return self._divided(x, self.num_features, self.num_features)


class OverLastAxes(WithinSample):
    """Normalization over the last axes as users see them; the parameters have their shape."""

    normalized_shape: Any

    def _set_normalized_shape(self) -> None:
        given = self.normalized_shape
        sizes = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if not sizes:
            raise ShapeError("normalized_shape must be a positive integer or several, got ()")
        self._set(normalized_shape=tuple(whole("normalized_shape", n) for n in sizes))

    def output_shape(self, x: Shape) -> Shape:
        wanted: Shape = self.normalized_shape
        sample = user_shape(x)[1:]
        if sample[-len(wanted) :] != wanted:
            expected = "*, " + ", ".join(map(str, wanted))
            raise ShapeError(f"expected input of shape (N, {expected}), got {user_shape(x)}")
        return x

    def _division(self, x: Shape) -> Division:
        last = set(user_axes(len(x))[-len(self.normalized_shape) :])
        return Division(x, tuple(sorted(last)), tuple(n if axis in last else 1 for axis, n in enumerate(x)))

    def _broadcast(self, parameter: Array, x: Shape) -> Array:
        ones = (1,) * (len(x) - parameter.ndim)
        return parameter.reshape((*ones, *parameter.shape)).transpose(internal_axes(len(x)))


@dataclass(eq=False, repr=False)
class LayerNorm(OverLastAxes):
    """Layer normalization: normalize each sample over its last axes.

    ``y = weight · (x - mean) / √(var + eps) + bias``. Input and output have the same shape. The result is the same in
    training and evaluation.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the axes to normalize over: the last axes of (N, C, H, W) or (N, features), but not the batch.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether to learn a ``weight`` of that shape and, unless ``bias`` is False, a ``bias``.
    bias : bool
        Whether to learn a ``bias`` beside the ``weight``.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the last axes have other sizes.

    Notes
    -----
    Ba, Kiros & Hinton 2016 (arXiv:1607.06450).

    Examples
    --------
    >>> net = ic.Sequential([ic.LayerNorm(3)]).init()
    >>> net.predict([[1.0, 2.0, 3.0], [10.0, 30.0, 50.0]]).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]], dtype=float32)
    """

    normalized_shape: Any
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True
    fixed: ClassVar[frozenset[str]] = frozenset({"normalized_shape", "elementwise_affine", "bias"})

    def __post_init__(self) -> None:
        self._set_normalized_shape()
        number("eps", self.eps)
        self._set(elementwise_affine=truth_value("elementwise_affine", self.elementwise_affine))
        self._set(bias=truth_value("bias", self.bias))

    def parameters(self) -> dict[str, Parameter]:
        return _affine(self.normalized_shape, bias=self.bias) if self.elementwise_affine else {}


@dataclass(eq=False, repr=False)
class RMSNorm(OverLastAxes):
    """Root mean square normalization: each sample divided by its root mean square over the last axes.

    ``y = weight · x / √(mean(x²) + eps)``. Input and output have the same shape. The result is the same in training
    and evaluation.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        As for :class:`LayerNorm`.
    eps : float or None
        Added to the mean square. None means the machine epsilon of the type in which the layer computes: float32 for
        networks in 16 bits, as in PyTorch.
    elementwise_affine : bool
        Whether to learn a ``weight`` of that shape.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the last axes have other sizes.

    Notes
    -----
    Zhang & Sennrich 2019 (arXiv:1910.07467).

    Examples
    --------
    >>> net = ic.Sequential([ic.RMSNorm(4)]).init()
    >>> net.predict([[1.0, 1.0, 1.0, 3.0]]).round(3)
    array([[0.577, 0.577, 0.577, 1.732]], dtype=float32)
    """

    normalized_shape: Any
    eps: float | None = None
    elementwise_affine: bool = True
    centres: ClassVar[bool] = False
    fixed: ClassVar[frozenset[str]] = frozenset({"normalized_shape", "elementwise_affine"})

    def __post_init__(self) -> None:
        self._set_normalized_shape()
        if self.eps is not None:
            number("eps", self.eps, or_else="None")
        self._set(elementwise_affine=truth_value("elementwise_affine", self.elementwise_affine))

    def epsilon(self, dtype: str) -> float:
        if self.eps is None:
            return 2.0**-52 if accumulator(dtype) == "float64" else 2.0**-23
        return self.eps

    def parameters(self) -> dict[str, Parameter]:
        return _affine(self.normalized_shape, bias=False) if self.elementwise_affine else {}


@dataclass(eq=False, repr=False)
class LocalResponseNorm(Layer):
    """Local response normalization over neighbouring channels.

    ``y = x / (k + alpha · mean(x²))**beta``, where the mean is over ``size`` channels at the same position, from
    ``size // 2`` before to ``(size - 1) // 2`` after; missing channels count as 0. Input and output have the same
    shape. The result is the same in training and evaluation.

    Parameters
    ----------
    size : int
        Number of channels in the mean.
    alpha, beta, k : float
        The constants of the formula.

    Raises
    ------
    ShapeError
        If an argument is out of range.

    Notes
    -----
    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks", section 3.3.

    Examples
    --------
    >>> layer = ic.LocalResponseNorm(2, alpha=1.0)
    >>> net = ic.Sequential([layer])
    >>> net.predict(np.ones((1, 3, 1, 1))).ravel().round(3)
    array([0.738, 0.595, 0.595], dtype=float32)
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"size"})

    def __post_init__(self) -> None:
        self._set(size=whole("size", self.size))
        number("alpha", self.alpha)
        number("beta", self.beta)
        number("k", self.k)

    def output_shape(self, x: Shape) -> Shape:
        _images(x)
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        wide = accumulator(dtype)
        full = Spec(x, wide)
        if not training:
            return Needs(input=False, output=False, inplace=True, forward={"local_response": [full, full, full]})
        return Needs(
            output=False,
            saved={"base": full},
            forward={"local_response": [full, full]},
            backward={"local_response": [full, full, full]},
        )

    band = _same_rows

    def flops(self, x: Shape, y: Shape) -> int:
        return (5 + self.size) * prod(x)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, (squares, power, *base_of_evaluation) = ctx.xp, ctx.scratch["local_response"]
        base = ctx.saved["base"] if ctx.saved else base_of_evaluation[0]
        yield partial(setitem, squares, ..., x)
        yield partial(xp.square, squares, out=squares)
        yield from self._sums(xp, squares, base, self.size // 2)
        yield lambda: xp.multiply(base, self.alpha / self.size, out=base)
        yield lambda: xp.add(base, self.k, out=base)
        yield lambda: xp.power(base, -self.beta, out=power)
        yield partial(xp.multiply, x, power, out=power)
        yield partial(setitem, ctx.y, ..., power)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``dx = dy · base**-beta - 2 alpha beta / size · x · Σ dy · x · base**(-beta - 1)``, Σ over who reads x."""
        if ctx.dx is None:
            return
        xp, base, (first, second, sums) = ctx.xp, ctx.saved["base"], ctx.scratch["local_response"]
        yield lambda: xp.power(base, -self.beta, out=first)
        yield partial(xp.multiply, first, dy, out=first)
        yield partial(xp.multiply, first, ctx.x, out=second)
        yield partial(xp.divide, second, base, out=second)
        yield from self._sums(xp, second, sums, (self.size - 1) // 2)
        yield partial(xp.multiply, sums, ctx.x, out=sums)
        yield lambda: xp.multiply(sums, 2 * self.alpha * self.beta / self.size, out=sums)
        yield partial(xp.subtract, first, sums, out=first)
        yield partial(setitem, ctx.dx, ..., first)

    def _sums(self, xp: Any, x: Array, out: Array, before: int) -> Iterator[Call]:
        """Write into ``out`` for each channel the sum over ``size`` channels, the first of them ``before`` it."""
        C = x.shape[1]
        yield partial(setitem, out, ..., x)
        for shift in range(max(1 - C, -before), min(C, self.size - before)):
            if shift:
                to, of = slice(max(0, -shift), C - max(0, shift)), slice(max(0, shift), C - max(0, -shift))
                yield partial(xp.add, out[:, to], x[:, of], out=out[:, to])
