"""The layers: functions with parameters.

A layer knows the shape of its output from that of its input, says which arrays it needs (:class:`Needs`), and has
``forward`` and ``backward``. It holds no array: its parameters belong to the network, everything else to the run, and
both reach it through the :class:`Context`. Shapes are the library's own: images are rows (H, C, W, N), features
(features, N).

Arguments, defaults and initialisation are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from math import prod, sqrt
from operator import setitem
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from im2colnet.backend import Array, Backend, Call, Choice, Shape, Spec, accumulator, normalizing, run
from im2colnet.checks import arguments, groups_divide, number, whole
from im2colnet.errors import FrozenError, ShapeError
from im2colnet.window import make_window, pooling_window

if TYPE_CHECKING:
    from im2colnet.network import Graph


Work = dict[str, list[Spec]]  # a kernel's name -> its scratch


class Parameter(NamedTuple):
    """Shape and initial value of a parameter: uniform in ±bound around ``value``."""

    shape: Shape
    bound: float = 0.0
    value: float = 0.0


@dataclass
class Needs:
    """What a layer asks the planner for; the default suits a layer that allocates for itself."""

    input: bool = True  #: backward reads the layer's input
    output: bool = True  #: backward reads the layer's output
    inplace: bool = False  #: the output may overwrite the input, and dx may overwrite dy
    view: bool = False  #: the output is the input reshaped: neither pass is called
    gradient_passes: bool = False  #: the gradient of each input is that of the output: no backward is called
    saved: dict[str, Spec] = field(default_factory=dict)  #: kept from forward to backward
    forward: Work = field(default_factory=dict)  #: scratch of the kernels that each pass calls,
    backward: Work = field(default_factory=dict)  #: one after the other, so they share memory
    sums: Work = field(default_factory=dict)
    grad_sums: Work = field(default_factory=dict)


class Context:
    """What a run gives to a layer for one shard of the batch.

    A layer may keep its own values here from forward to backward, as attributes.

    Attributes
    ----------
    backend, xp
        The backend and its array module.
    training : bool
    relu : bool
        Apply the ReLU that follows (only layers with ``fuses_relu`` are asked).
    x, y : Array
        The layer's input (all of them: ``xs``) and output. ``forward`` writes ``y`` and returns it, or returns an array
        of its own.
    dx : Array or None
        Where ``backward`` writes the gradient of the input and returns it, or it returns an array of its own. None if
        nobody needs it.
    params, buffers : dict of str to Array
        The layer's parameters and its state.
    saved : dict of str to Array
    work : dict of str to list of Array
        The scratch of each kernel.
    grads : dict of str to Array
        Where ``backward`` writes the gradient of each parameter.
    sums : Array
        Of a layer that couples samples: this shard's sums; after the join, those of the whole batch.
    samples : int
        Samples in the whole batch.
    key : tuple of int
        Seeds random numbers: (seed, step, layer, shard).
    """

    backend: Backend
    training: bool
    relu: bool
    x: Array
    xs: tuple[Array, ...]
    y: Array
    dx: Array
    params: dict[str, Array]
    buffers: dict[str, Array]
    saved: dict[str, Array]
    work: dict[str, list[Array]]
    grads: Mapping[str, Array]
    sums: Array
    samples: int
    key: tuple[int, ...]

    if TYPE_CHECKING:  # a layer's own values

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    @property
    def xp(self) -> Any:
        return self.backend.xp


Band = tuple["Layer", slice] | None


class Layer:
    """Base class of all layers.

    A layer of your own needs only ``forward`` and ``backward``, and ``output_shape`` if the shape changes. To be
    stored in a checkpoint it keeps each argument of its constructor as the attribute of the same name.
    """

    #: number of float64 sums per channel that join the samples of a batch in each pass (see ``BatchNorm2d``)
    couples: ClassVar[int] = 0
    #: whether ``forward`` applies a following ReLU itself where ``ctx.relu`` is set
    fuses_relu: ClassVar[bool] = False
    #: whether its parameters stay float32 where the network computes in 16 bits
    keeps_float32: ClassVar[bool] = False
    #: whether nothing of the object changes while it works, but what is in the context: then worker processes may do
    #: its work. Each class of your own says it for itself; one that does not is watched, and works on threads
    stateless: ClassVar[bool] = True
    #: arguments of the constructor that later changes do not reach, so that they are refused
    fixed: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed and name in vars(self) and value is not vars(self)[name]:
            raise FrozenError(
                f"{name} of a layer cannot be changed, since its shapes have been made of it: make a new"
                f" {type(self).__name__}(..., {name}={value!r}), and a new network of it"
            )
        super().__setattr__(name, value)

    def _set(self, **values: Any) -> None:
        """Write arguments of the constructor as they are meant, while it runs."""
        vars(self).update(values)

    def __repr__(self) -> str:
        shown = []
        for name, parameter in arguments(type(self)).items():
            value = getattr(self, name, "?")
            if parameter.default is parameter.empty:
                shown.append(repr(value))
            elif repr(value) != repr(parameter.default):  # of arrays, != is no bool
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in arguments(type(self))}

    def build(self, graph: Graph, name: str, x: int) -> int:
        """Add this layer to a graph, reading value ``x``; return the value it makes."""
        return graph.add(self, name, x)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters' shapes and initial values, by name."""
        return {}

    def state(self) -> dict[str, Parameter]:
        """Return what is learned without a gradient, such as running statistics."""
        return {}

    def output_shape(self, x: Shape) -> Shape:
        """Shape of the output for an input of shape ``x``, or a ShapeError that says what is wrong."""
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        """Say which arrays a run must provide."""
        return Needs()

    def flops(self, x: Shape, y: Shape) -> int:
        """Floating-point operations of a forward pass; a multiply-add counts as two."""
        return prod(y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        """Name of the algorithm, where the backend chooses one by the shapes."""
        return Choice("", "")

    def band(self, rows: slice, x: Shape) -> Band:
        """Return a layer that makes only these rows of the output for an input of shape ``x``, and the rows it reads.

        None if there is no such layer. Used where several workers share an image.
        """
        return None

    def check_batch(self, x: Shape) -> None:
        """Raise a ShapeError if a batch of shape ``x`` fits, but has too few samples to train on."""

    def forward(self, x: Array, ctx: Context) -> Array:
        """Compute the output."""
        run(self.prepare_forward(x, ctx))
        return ctx.y

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        """Return what ``forward`` does as calls that can be made again: they read ``x`` and write ``ctx.y`` each time.

        Where the layer's own class defines it, and no ``forward``, a run makes these calls instead.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, ctx)")

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """Compute the gradients of the parameters, into ``ctx.grads``, and of the input."""
        run(self.prepare_backward(dy, ctx))
        return ctx.dx

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        """Return what ``backward`` does in the same way: calls that write ``ctx.dx`` and ``ctx.grads``."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy, ctx)")

    def partial_sums(self, x: Array, ctx: Context) -> None:
        """Write a shard's sums to ``ctx.sums`` (couples, C).

        There ``forward`` will find those of the whole batch, joined by :meth:`join_sums`.
        """
        raise NotImplementedError(f"{type(self).__name__} couples samples: it must define partial_sums(x, ctx)")

    def join_sums(self, parts: Sequence[Array], sizes: Sequence[int], ctx: Context) -> Array:
        """Return the sums of the whole batch, of those of its shards with ``sizes`` samples: by default added up.

        The shards' own sums stay as they are: several workers read them. ``ctx`` is that of one of the shards.
        """
        joined = parts[0].copy()
        for part in parts[1:]:
            joined += part
        return joined

    def partial_grad_sums(self, dy: Array, ctx: Context) -> None:
        """Do the same before ``backward``, and write the gradients of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} couples samples: it must define partial_grad_sums(dy, ctx)")

    def finish_step(self, ctx: Context) -> None:
        """After a training step, once: change the state, such as running statistics."""


def _images(x: Shape) -> tuple[int, int, int, int]:
    if len(x) != 4:
        raise ShapeError(f"expected images (N, C, H, W), got {len(x)}-dimensional input of shape {user_shape(x)}")
    return x[0], x[1], x[2], x[3]


def _same_rows(layer: Layer, rows: slice, x: Shape) -> Band:
    """Of a layer whose rows of output depend on the same rows of input."""
    return layer, rows


def _rows_of_windows(layer: Any, rows: slice, x: Shape) -> Band:
    """Of a layer that slides a window: the same layer with a window of its own."""
    found = layer.window.band(rows, x[0])
    if found is None:
        return None
    part = copy(layer)
    part.window, inputs = found
    return part, inputs


def user_shape(x: Shape) -> Shape:
    """Shape as users see it, batch first, for one as the library stores it."""
    return (x[3], x[1], x[0], x[2]) if len(x) == 4 else (x[-1], *x[:-1])


@dataclass(eq=False, repr=False)
class Conv2d(Layer):
    """Convolution (cross-correlation, as everywhere in deep learning).

    ``y = w · im2col(x) + b``; weight (out_channels, in_channels / groups, KH, KW), bias (out_channels,), both
    initialised uniform in ±1/√(fan-in).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (height, width)
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
    groups : int
        Groups of channels that do not see each other; ``groups=in_channels`` is a depthwise convolution.
    bias : bool
    """

    in_channels: int
    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    fuses_relu: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset(
        {"in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"}
    )

    def __post_init__(self) -> None:
        self._set(in_channels=whole("in_channels", self.in_channels))
        self._set(out_channels=whole("out_channels", self.out_channels))
        self._set(groups=groups_divide(self.in_channels, self.out_channels, self.groups))
        self.window = make_window(self.kernel_size, self.stride, self.padding, self.dilation)

    def parameters(self) -> dict[str, Parameter]:
        shape = (self.out_channels, self.in_channels // self.groups, *self.window.kernel)
        bound = 1 / sqrt(prod(shape[1:]))
        bias = {"bias": Parameter((self.out_channels,), bound)} if self.bias else {}
        return {"weight": Parameter(shape, bound), **bias}

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        if self.in_channels != C:
            raise ShapeError(f"expected {self.in_channels} input channels, got {C}: input shape {user_shape(x)}")
        OH, OW = self.window.output_size((H, W))
        return OH, self.out_channels, OW, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        def work(*kernels: str) -> Work:
            return {k: backend.workspace(k, x, y, dtype, self.window, self.groups) for k in kernels}

        backward = work("conv2d_weight_grad", "conv2d_grads")
        if not backward["conv2d_grads"]:
            backward |= work("conv2d_input_grad")
        return Needs(output=False, forward=work("conv2d"), backward=backward)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return backend.algorithm(x, y, dtype, self.window, self.groups)

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        K = self.in_channels // self.groups * prod(self.window.kernel)
        return 2 * K * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        w, b, window = ctx.params["weight"], ctx.params.get("bias"), (self.window, self.groups)
        return ctx.backend.prepare("conv2d", x, w, b, *window, relu=ctx.relu, out=ctx.y, work=ctx.work["conv2d"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        x, w, dw, dx, work = ctx.x, ctx.params["weight"], ctx.grads["weight"], ctx.dx, ctx.work
        prepare, window = ctx.backend.prepare, (self.window, self.groups)
        if self.bias:
            yield from prepare("sum_samples", dy, out=ctx.grads["bias"])
        if dx is not None and work["conv2d_grads"]:
            yield from prepare("conv2d_grads", x, dy, w, *window, dw=dw, dx=dx, work=work["conv2d_grads"])
            return
        yield from prepare("conv2d_weight_grad", x, dy, *window, out=dw, work=work["conv2d_weight_grad"])
        if dx is not None:
            size = x.shape[0], x.shape[2]
            yield from prepare("conv2d_input_grad", dy, w, size, *window, out=dx, work=work["conv2d_input_grad"])


@dataclass(eq=False, repr=False)
class Linear(Layer):
    """``y = W x + b``; weight (out_features, in_features), initialised like :class:`Conv2d`."""

    in_features: int
    out_features: int
    bias: bool = True
    fuses_relu: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset({"in_features", "out_features", "bias"})

    def __post_init__(self) -> None:
        self._set(in_features=whole("in_features", self.in_features))
        self._set(out_features=whole("out_features", self.out_features))

    def parameters(self) -> dict[str, Parameter]:
        bound = 1 / sqrt(self.in_features)
        bias = {"bias": Parameter((self.out_features,), bound)} if self.bias else {}
        return {"weight": Parameter((self.out_features, self.in_features), bound), **bias}

    def output_shape(self, x: Shape) -> Shape:
        if len(x) != 2:
            expected = f"(N, {self.in_features})"
            raise ShapeError(f"expected features {expected}, got shape {user_shape(x)}; Flatten() is missing")
        if x[0] != self.in_features:
            raise ShapeError(f"expected {self.in_features} input features, got {x[0]}")
        return self.out_features, x[1]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(output=False)

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * self.in_features * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        y = ctx.y
        yield from ctx.backend.prepare("matmul", ctx.params["weight"], x, out=y)
        if self.bias:
            yield partial(ctx.xp.add, y, ctx.params["bias"][:, None], y)
        if ctx.relu:
            yield from ctx.backend.prepare("relu", y, out=y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        prepare = ctx.backend.prepare
        yield from prepare("matmul", dy, ctx.x.T, out=ctx.grads["weight"])
        if self.bias:
            yield from prepare("sum_samples", dy, out=ctx.grads["bias"])
        if ctx.dx is not None:
            yield from prepare("matmul", ctx.params["weight"].T, dy, out=ctx.dx)


@dataclass(eq=False, repr=False)
class ReLU(Layer):
    """``y = max(x, 0)``; the gradient passes where the input was positive."""

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        work = {"relu_grad": backend.workspace("relu_grad", x, y, dtype)}
        return Needs(input=False, output=True, inplace=True, backward=work)

    band = _same_rows

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("relu", x, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("relu_grad", ctx.y, dy, out=ctx.dx, work=ctx.work["relu_grad"])


@dataclass(eq=False, repr=False)
class MaxPool2d(Layer):
    """Largest value of each window; the gradient goes to the first maximum.

    Parameters
    ----------
    kernel_size, stride, dilation : int or (height, width)
        The stride defaults to the kernel.
    padding : int, (height, width) or ((top, bottom), (left, right))
        At most half the window; padding never wins.
    ceil_mode : bool
        Round the output's size up.
    """

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset({"kernel_size", "stride", "padding", "dilation", "ceil_mode"})

    def __post_init__(self) -> None:
        self.window = pooling_window(self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        OH, OW = self.window.output_size((H, W))
        return OH, C, OW, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        def work(kernel: str) -> Work:
            return {kernel: backend.workspace(kernel, x, y, dtype, self.window)}

        return Needs(forward=work("max_pool2d"), backward=work("max_pool2d_grad"))

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * (prod(self.window.kernel) - 1)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("max_pool2d", x, self.window, out=ctx.y, work=ctx.work["max_pool2d"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        work = ctx.work["max_pool2d_grad"]
        return ctx.backend.prepare("max_pool2d_grad", ctx.x, ctx.y, dy, self.window, out=ctx.dx, work=work)


@dataclass(eq=False, repr=False)
class AvgPool2d(Layer):
    """Mean of each window; ``count_include_pad`` says whether padding counts in the divisor."""

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    fixed: ClassVar[frozenset[str]] = frozenset({"kernel_size", "stride", "padding", "ceil_mode"})

    def __post_init__(self) -> None:
        self.window = pooling_window(self.kernel_size, self.stride, self.padding, 1, self.ceil_mode)

    output_shape = MaxPool2d.output_shape

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        def work(kernel: str) -> Work:
            return {kernel: backend.workspace(kernel, x, y, dtype, self.window)}

        return Needs(input=False, output=False, forward=work("avg_pool2d"), backward=work("avg_pool2d_grad"))

    def band(self, rows: slice, x: Shape) -> Band:
        return None if self.window.ceil_mode else _rows_of_windows(self, rows, x)

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * prod(self.window.kernel)

    def forward(self, x: Array, ctx: Context) -> Array:
        return ctx.backend.avg_pool2d(x, self.window, self.count_include_pad, out=ctx.y, work=ctx.work["avg_pool2d"])

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        work, (H, _, W, _) = ctx.work["avg_pool2d_grad"], ctx.dx.shape
        return ctx.backend.avg_pool2d_grad(dy, (H, W), self.window, self.count_include_pad, out=ctx.dx, work=work)


@dataclass(eq=False, repr=False)
class GlobalAvgPool2d(Layer):
    """Mean of each channel over the whole image, (N, C, 1, 1): PyTorch's ``AdaptiveAvgPool2d(1)``."""

    def output_shape(self, x: Shape) -> Shape:
        _, C, _, N = _images(x)
        return 1, C, 1, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of_sums = accumulator(dtype)
        return Needs(input=False, output=False, forward={"sum": [Spec((1, *x[1:]), of_sums), Spec(y, of_sums)]})

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x)

    def forward(self, x: Array, ctx: Context) -> Array:
        row, total = ctx.work["sum"]
        # then the columns: faster than both axes at once
        ctx.xp.sum(x, axis=0, keepdims=True, dtype=row.dtype, out=row)
        ctx.xp.sum(row, axis=2, keepdims=True, out=total)
        ctx.y[...] = ctx.xp.divide(total, x.shape[0] * x.shape[2], out=total)
        return ctx.y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        return ctx.xp.divide(dy, ctx.dx.shape[0] * ctx.dx.shape[2], out=ctx.dx)


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
    fuses_relu: ClassVar[bool] = True
    keeps_float32: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset({"num_features", "affine"})

    def __post_init__(self) -> None:
        self._set(num_features=whole("num_features", self.num_features))
        number("eps", self.eps)
        number("momentum", self.momentum)

    def parameters(self) -> dict[str, Parameter]:
        shape = (self.num_features,)
        return {"weight": Parameter(shape, value=1.0), "bias": Parameter(shape)} if self.affine else {}

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


class NormalizedConv2d(Layer):
    """A convolution and the batch norm that follows it, in evaluation mode, where the graph joins them.

    ``a·(w * x + b) + c = (a·w) * x + (a·b + c)``: the weight is normalised, not the images, unless it is the larger.
    Its parameters are the convolution's, its state is parameters and state of the batch norm.
    """

    fuses_relu: ClassVar[bool] = True

    def __init__(self, conv: Conv2d, norm: BatchNorm2d) -> None:
        self.conv, self.norm = conv, norm

    def output_shape(self, x: Shape) -> Shape:
        return self.norm.output_shape(self.conv.output_shape(x))

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        conv = self.conv.needs(x, y, dtype, backend, training).forward
        weight = self.conv.parameters()["weight"].shape
        if prod(weight) > prod(y):
            return Needs(forward=conv | self.norm.needs(y, y, dtype, backend, training).forward)
        stored = tuple(weight[axis] for axis in backend.weight_order)
        return Needs(forward={"conv2d": [*conv["conv2d"], Spec(stored, dtype)]})

    def flops(self, x: Shape, y: Shape) -> int:
        return self.conv.flops(x, y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return self.conv.algorithm(x, y, dtype, backend)

    def band(self, rows: slice, x: Shape) -> Band:
        found = self.conv.band(rows, x)
        return found and (NormalizedConv2d(cast(Conv2d, found[0]), self.norm), found[1])

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        conv, w, b, y, work = self.conv, ctx.params["weight"], ctx.params.get("bias"), ctx.y, ctx.work["conv2d"]
        window = conv.window, conv.groups
        line = ctx.backend.empty((2, conv.out_channels), accumulator(x.dtype.name))
        a, c = line[0], line[1]
        if "channel_affine" in ctx.work:
            yield partial(self._write_line, ctx, None, line)
            yield from ctx.backend.prepare("conv2d", x, w, b, *window, relu=False, out=y, work=work)
            affine = ctx.work["channel_affine"]
            yield from ctx.backend.prepare("channel_affine", y, a, c, relu=ctx.relu, out=y, work=affine)
            return
        *work, stored = work
        order = ctx.backend.weight_order
        stored = stored.transpose([order.index(axis) for axis in range(4)])
        yield partial(self._write_line, ctx, b, line)
        if w.dtype == a.dtype:
            yield partial(ctx.xp.multiply, w, a[:, None, None, None], stored)
        else:
            yield lambda: setitem(stored, ..., w * a[:, None, None, None])
        yield from ctx.backend.prepare("conv2d", x, stored, c, *window, relu=ctx.relu, out=y, work=work)

    def _write_line(self, ctx: Context, b: Array | None, line: Array) -> None:
        """Write a and c into ``line`` (2, C), with a bias ``b`` of the convolution a and a·b + c."""
        line[0], line[1] = self.norm.running_line(ctx.buffers, ctx.buffers, ctx.xp)
        if b is not None:
            line[1] += line[0] * b


@dataclass(eq=False, repr=False)
class Dropout(Layer):
    """While training, set each value to zero with probability ``p`` and scale the rest by 1 / (1 - p)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        number("p", self.p, below=1)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if not training:
            return Needs(input=False, output=False, view=True)
        draws = {} if accumulator(dtype) == dtype else {"draws": [Spec(x, accumulator(dtype))]}
        return Needs(input=False, output=False, inplace=True, saved={"mask": Spec(x, dtype)}, forward=draws)

    def forward(self, x: Array, ctx: Context) -> Array:
        mask = ctx.saved["mask"]
        (draws,) = ctx.work.get("draws", [mask])
        ctx.backend.random(ctx.key, out=draws)
        ctx.xp.greater_equal(draws, self.p, out=draws)
        ctx.xp.multiply(draws, 1 / (1 - self.p), out=draws)
        if draws is not mask:
            mask[...] = draws
        return ctx.xp.multiply(x, mask, out=ctx.y)

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        return ctx.xp.multiply(dy, ctx.saved["mask"], out=ctx.dx)


@dataclass(eq=False, repr=False)
class Flatten(Layer):
    """Images (N, C, H, W) to features (N, C·H·W)."""

    def output_shape(self, x: Shape) -> Shape:
        return prod(x[:-1]), x[-1]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        # one row (1, C, W, N) lies in memory as its features do; several change places
        return Needs(input=False, output=False, view=len(x) != 4 or x[0] == 1)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        H, C, W, N = x.shape
        yield partial(setitem, ctx.y.reshape(C, H, W, N), ..., x.transpose(1, 0, 2, 3))

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        H, C, W, N = ctx.dx.shape
        yield partial(setitem, ctx.dx, ..., dy.reshape(C, H, W, N).transpose(1, 0, 2, 3))


@dataclass(eq=False, repr=False)
class ZeroPadShortcut(Layer):
    """Every ``stride``-th pixel, and zeros for the new channels: option A of He et al. 2015 (arXiv:1512.03385)."""

    in_channels: int
    out_channels: int
    stride: int = 1
    fixed: ClassVar[frozenset[str]] = frozenset({"in_channels", "out_channels", "stride"})

    def __post_init__(self) -> None:
        self._set(in_channels=whole("in_channels", self.in_channels), stride=whole("stride", self.stride))
        self._set(out_channels=whole("out_channels", self.out_channels, least=self.in_channels))

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        if self.in_channels != C:
            raise ShapeError(f"expected {self.in_channels} input channels, got {C}: input shape {user_shape(x)}")
        return -(-H // self.stride), self.out_channels, -(-W // self.stride), N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def band(self, rows: slice, x: Shape) -> Band:
        return self, slice(rows.start * self.stride, (rows.stop - 1) * self.stride + 1)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        C, s = self.in_channels, self.stride
        yield partial(setitem, ctx.y[:, :C], ..., x[::s, :, ::s])
        yield partial(setitem, ctx.y[:, C:], ..., 0)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        s = self.stride
        yield partial(setitem, ctx.dx, ..., 0)
        yield partial(setitem, ctx.dx[::s, :, ::s], ..., dy[:, : self.in_channels])


class Add(Layer):
    """Sum of two values: where the branches of a :class:`Residual` meet. Its gradient passes to both."""

    def output_shape(self, x: Shape, other: Shape | None = None) -> Shape:
        if other != x:
            raise ShapeError(
                f"the branches of a residual block must agree: the body gives {user_shape(x)}, the shortcut"
                f" {user_shape(other) if other else None}; give a shortcut that changes the shape as the body does"
            )
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False, inplace=True, gradient_passes=True)

    band = _same_rows

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.add, *ctx.xs, ctx.y)
