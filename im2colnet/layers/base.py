"""The layers: functions with parameters.

A layer knows the shape of its output from that of its input, says which arrays it needs (:class:`Needs`), and has
``forward`` and ``backward``. It holds no array: its parameters belong to the network, everything else to the run, and
both reach it through the :class:`Context`. Shapes are the library's own: images are rows (H, C, W, N), features
(features, N).

Arguments, defaults and initialisation are PyTorch's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import prod, sqrt
from operator import is_not
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from im2colnet.backend import Backend
from im2colnet.checks import arguments, shown
from im2colnet.errors import FrozenError, ShapeError
from im2colnet.layout import channels, user_shape
from im2colnet.types import Array, Call, Choice, Shape, Spec, run

__all__ = ["Context", "Layer", "Needs", "Parameter"]

#: methods and attributes of a layer by the names of version 0.1, which a user's layer may still define
RENAMED = {"couples": "batch_sums", "partial_sums": "shard_sums", "partial_grad_sums": "shard_grad_sums"}
#: a kernel's name -> the scratch arrays that it needs
Scratch = dict[str, list[Spec]]


class Parameter(NamedTuple):
    """Shape and initial value of a parameter: uniform in ±bound around ``value``.

    Parameters
    ----------
    shape : tuple of int
        As users see it, such as (F, C / groups, KH, KW).
    bound : float
        Half the width of the range that the numbers are drawn from.
    value : float
        Its middle.
    order : {"filter"} or None
        "filter" for the weight of a convolution, (F, C/G, KH, KW) or (F, C/G, K): it is stored in the order of memory
        that the backend's kernels take. Any other parameter is stored in the order of its shape.
    precise : bool
        Whether it stays float32 where the network computes in 16 bits.

    Examples
    --------
    >>> ic.Linear(4, 2).parameters()["weight"].bound
    0.5
    """

    shape: Shape
    bound: float = 0.0
    value: float = 0.0
    order: str | None = None
    precise: bool = False


#: a layer's ``init`` -> the bounds of weight and bias for a fan-in, the number of inputs of each output. "default" is
#: PyTorch's; "he" has the variance 2 / fan-in of He, Zhang, Ren & Sun 2015 (arXiv:1502.01852, equation 10)
BOUNDS: dict[str, Callable[[int], tuple[float, float]]] = {
    "default": lambda fan_in: (1 / sqrt(fan_in), 1 / sqrt(fan_in)),
    "he": lambda fan_in: (sqrt(6 / fan_in), 0.0),
}


@dataclass
class Needs:
    """What a layer asks the planner for; the default suits a layer that allocates for itself.

    Parameters
    ----------
    input, output : bool
        Whether backward reads the layer's input, and its output.
    inplace : bool
        Whether the output may overwrite the input, and dx may overwrite dy.
    view : bool
        Whether the output is the input reshaped: neither pass is called then.
    gradient_passes : bool
        Whether the gradient of each input is that of the output: no backward is called then.
    saved : dict of str to Spec
        Arrays that are kept from forward to backward.
    forward, backward, sums, grad_sums : dict of str to list of Spec
        Scratch of the kernels that a pass calls, by their names. They are called one after the other, so they share
        memory.

    See Also
    --------
    Layer.needs : Returns it.

    Examples
    --------
    >>> mask = ic.Spec((8, 4, 8, 64), "bool")
    >>> ic.Needs(input=False, saved={"mask": mask}).saved
    {'mask': Spec(shape=(8, 4, 8, 64), dtype='bool')}
    """

    input: bool = True
    output: bool = True
    inplace: bool = False
    view: bool = False
    gradient_passes: bool = False
    saved: dict[str, Spec] = field(default_factory=dict)
    forward: Scratch = field(default_factory=dict)
    backward: Scratch = field(default_factory=dict)
    sums: Scratch = field(default_factory=dict)
    grad_sums: Scratch = field(default_factory=dict)


class Context:
    """What a run gives to a layer for one shard of the batch.

    A layer may keep its own values here from forward to backward, as attributes.

    Attributes
    ----------
    backend : Backend
        What computes.
    xp : module
        The array module of the backend.
    training : bool
        Whether it is a training step.
    activation : str or None
        The elementwise function that follows, which ``forward`` applies too (only layers that ``fuses`` are asked).
    xs : tuple of Array
        The layer's inputs; ``x`` is the first of them.
    y : Array
        The layer's output. ``forward`` writes and returns it, or returns an array of its own.
    dxs : list of Array or None
        Where ``backward`` writes the gradients of the inputs and returns them, or it returns arrays of its own in their
        place. None where nobody needs one. ``dx`` is the first of them, which a layer of one input returns.
    params, buffers : dict of str to Array
        The layer's parameters and its state.
    saved : dict of str to Array
        What :class:`Needs` asks for by the same name.
    scratch : dict of str to list of Array
        The scratch of each kernel, by the kernel's name.
    grads : dict of str to Array
        Where ``backward`` writes the gradient of each parameter.
    sums : Array
        For a layer with ``batch_sums``: this shard's sums; after the join, the sums of the whole batch.
    dz : Array or None
        Where :meth:`Layer.needs_with_slope` has promised that the layer writes the gradient of what ``activation`` was
        given: then ``dy`` is the gradient of ``y``, which the activation has made. It may be ``dy``.
    step_sums : Array
        For a layer with ``step_sums``: where ``forward`` writes this shard's sums, (step_sums, C), while training; in
        ``finish_step`` the sums of the whole batch.
    samples : int
        Samples in the whole batch.
    key : tuple of int
        Seeds random numbers: (seed, step, layer, shard).

    Examples
    --------
    >>> class Swish(ic.Layer):
    ...     def forward(self, x, ctx):
    ...         ctx.gate = 1 / (1 + ctx.xp.exp(-x))
    ...         return x * ctx.gate
    ...
    ...     def backward(self, dy, ctx):
    ...         return dy * ctx.gate * (1 + ctx.x * (1 - ctx.gate))
    >>> net = ic.Sequential([Swish()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.238,  0.   ,  2.858]], dtype=float32)
    """

    backend: Backend
    training: bool
    activation: str | None
    xs: tuple[Array, ...]
    y: Array
    dxs: list[Any]
    params: dict[str, Array]
    buffers: dict[str, Array]
    saved: dict[str, Array]
    scratch: dict[str, list[Array]]
    grads: Mapping[str, Array]
    sums: Array
    step_sums: Array
    samples: int
    key: tuple[int, ...]
    dz: Any = None

    if TYPE_CHECKING:  # a layer's own values

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    @property
    def xp(self) -> Any:
        return self.backend.xp

    @property
    def x(self) -> Array:
        return self.xs[0]

    @property
    def dx(self) -> Any:
        return self.dxs[0]

    def prepared(self, name: str, given: tuple[Any, ...], make: Callable[[], Iterable[Call]]) -> list[Call]:
        """Return what ``make`` returns, made once for these objects: calls that depend on arrays of the run."""
        made: dict[str, tuple[tuple[Any, ...], list[Call]]] = vars(self).setdefault("_prepared", {})
        if name not in made or any(map(is_not, made[name][0], given)):
            made[name] = given, list(make())
        return made[name][1]

    @property
    def work(self) -> dict[str, list[Array]]:
        """The scratch by the name that it had in version 0.1."""
        warnings.warn("ctx.work is now called ctx.scratch", DeprecationWarning, stacklevel=2)
        return self.scratch

    @property
    def relu(self) -> bool:
        """Whether the elementwise function that follows is ReLU."""
        return self.activation == "relu"


Band = tuple["Layer", slice] | None


class GraphBuilder(Protocol):
    """The graph that a network is made into."""

    def add(self, layer: Layer, name: str, *inputs: int) -> int:
        """Append a layer that reads these values; return the value it makes."""


class Layer:
    """Base class of all layers.

    A layer of your own needs only ``forward`` and ``backward``, and ``output_shape`` if the shape changes. To be
    stored in a checkpoint it keeps each argument of its constructor as the attribute of the same name. Its arrays are
    as the library stores them: images are rows (H, C, W, N), features (features, N).

    Attributes
    ----------
    batch_sums : int
        How many float64 sums over the whole batch each channel needs in each pass (see :class:`BatchNorm2d`).
    sums_in_evaluation : bool
        Whether the layer needs these sums in evaluation too, where its result then depends on the whole batch.
    step_sums : int
        How many such sums each channel needs at the end of a training step, for ``finish_step``.
    fuses : bool
        Whether ``forward`` applies the elementwise function that follows, where ``ctx.activation`` names one.
    stateless : bool
        Whether nothing of the object changes while it works, but what is in the context: then worker processes may do
        its work. Each class of your own says it for itself; one that does not is watched, and works on threads.

    See Also
    --------
    im2colnet.testing.check_layer : Checks a layer of your own: its gradients, and all that it promises.

    Examples
    --------
    >>> class Times(ic.Layer):
    ...     def __init__(self, factor):
    ...         self.factor = factor
    ...
    ...     def forward(self, x, ctx):
    ...         return self.factor * x
    ...
    ...     def backward(self, dy, ctx):
    ...         return self.factor * dy
    >>> ic.Sequential([Times(10.0)]).predict([[1.0, 2.0]])
    array([[10., 20.]], dtype=float32)
    """

    batch_sums: ClassVar[int] = 0
    sums_in_evaluation: bool = False
    step_sums: int = 0
    fuses: ClassVar[bool] = False
    stateless: ClassVar[bool] = True
    #: whether the backward pass leaves out the gradients of parameters in :attr:`skipped`
    skips_frozen: ClassVar[bool] = False
    #: the parameters and the state that are frozen; set in a copy of the layer, which training runs in its place
    skipped: frozenset[str] = frozenset()
    #: arguments of the constructor that later changes do not reach, so that they are refused
    fixed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in RENAMED.items():
            nearest = next(vars(base) for base in cls.__mro__ if old in vars(base) or new in vars(base))
            if new not in nearest:
                warnings.warn(f"{cls.__name__}.{old} is now called {new}", DeprecationWarning, stacklevel=2)
                setattr(cls, new, nearest[old])

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
        return shown(self)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in arguments(type(self))}

    def joins_batch(self, training: bool) -> bool:
        """Return whether the layer needs sums over the whole batch in this mode."""
        return self.batch_sums > 0 and (training or self.sums_in_evaluation)

    def is_line(self, channels: int) -> bool:
        """Return whether the layer is a line for each of these channels when it evaluates, as ``running_line`` says."""
        return self.keeps("running_line") and not self.joins_batch(training=False)

    def learns(self, name: str) -> bool:
        """Return whether the gradient of a parameter is wanted."""
        return name not in self.skipped

    def __call__(self, *inputs: Any) -> Any:
        """Apply the layer to symbolic values, within ``define`` of a network; return the symbolic value it makes."""
        for value in inputs:
            if not hasattr(value, "scope"):
                raise ShapeError(
                    f"a layer is called with symbolic values, within define(self, x) of a network, got a"
                    f" {type(value).__name__}; to apply it to arrays make a network of it: ic.Sequential([layer])"
                )
        if not inputs:
            raise ShapeError(f"{type(self).__name__} is called without a value")
        return inputs[0].scope.apply(self, inputs)

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        """Add this layer to a graph, reading these values; return the value it makes, or several."""
        return graph.add(self, name, *inputs)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters' shapes and initial values, by name.

        Returns
        -------
        dict of str to Parameter
            Empty by default.
        """
        return {}

    def state(self) -> dict[str, Parameter]:
        """Return what is learned without a gradient, such as running statistics.

        Returns
        -------
        dict of str to Parameter
            Empty by default.
        """
        return {}

    def output_shape(self, x: Shape) -> Shape:
        """Return the shape of the output; by default it is that of the input.

        Parameters
        ----------
        x : tuple of int
            Shape of the input as the library stores it, (H, C, W, N) or (features, N); of several inputs one after the
            other.

        Returns
        -------
        tuple of int
            Shape of the output.

        Raises
        ------
        ShapeError
            If the layer does not take such an input; the message says what is wrong.
        """
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        """Say which arrays a run must provide; by default none, so that the passes allocate for themselves.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.
        dtype : str
            Their element type.
        backend : Backend
            What computes.
        training : bool
            Whether there will be a backward pass.

        Returns
        -------
        Needs
            Which arrays are read, kept, and written.
        """
        return Needs()

    def needs_with_slope(self, x: Shape, y: Shape, dtype: str, backend: Backend, activation: str) -> Needs | None:
        """Say which arrays training needs if the backward pass begins with the gradient of the activation that follows.

        That is, the first of ``shard_grad_sums`` and ``backward`` also writes :attr:`Context.dz`, and ``y`` is kept for
        it. Only a layer that ``fuses`` is asked.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.
        dtype : str
            Their element type.
        backend : Backend
            What computes.
        activation : str
            The elementwise function that follows.

        Returns
        -------
        Needs or None
            None if it does not: then the activation's layer makes its gradient.
        """
        return None

    def flops(self, x: Shape, y: Shape) -> int:
        """Return the floating-point operations of a forward pass; a multiply-add counts as two.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.

        Returns
        -------
        int
            By default one for each number of the output.
        """
        return prod(y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        """Name of the algorithm, where the backend chooses one by the shapes."""
        return Choice("", "")

    def epilogue(self, training: bool) -> str | None:
        """Return the elementwise function that this layer is, if the layer before it may apply it.

        Parameters
        ----------
        training : bool
            In training that is so only where the gradient needs the output alone.

        Returns
        -------
        str or None
            The function's name; None if it is none.
        """
        return None

    def absorb(self, following: Layer) -> Layer | None:
        """Return a layer that in evaluation mode does what this one and the one that follows do.

        It has the parameters of this layer, and as its state the parameters and the state of the other.

        Parameters
        ----------
        following : Layer
            The layer that follows.

        Returns
        -------
        Layer or None
            None if there is none.
        """
        return None

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        """Return a and c of ``y = a·x + c`` for each channel, of a layer that is such a line when it evaluates.

        It is absorbed by a convolution before it.

        Parameters
        ----------
        params, state : dict of str to Array
            The layer's parameters and its state.
        xp : module
            The array module.

        Returns
        -------
        tuple of Array
            Both (C,) float64, or (1,) if they are the same for all channels.
        """
        raise NotImplementedError(f"{type(self).__name__} is no line for each channel")

    @classmethod
    def prepares(cls, kind: str) -> bool:
        """Whether a pass, "forward" or "backward", is what ``prepare_forward`` or ``prepare_backward`` says.

        It is not in a class that is derived from one that prepares, and defines the pass itself.
        """
        return cls._first(kind, f"prepare_{kind}") == f"prepare_{kind}"

    @classmethod
    def keeps(cls, name: str) -> bool:
        """Whether what a class says by ``fuses``, ``band`` or ``absorb`` holds for its forward pass.

        It does not in a class that is derived from it and defines the forward pass anew, which need not know of it.
        """
        return cls._first(name, "forward", "prepare_forward") == name

    @classmethod
    def keeps_backward(cls, name: str) -> bool:
        """Whether what a class says by ``skips_frozen`` holds for its backward pass.

        As for :meth:`keeps`, it does not in a class that is derived from it and defines the backward pass anew.
        """
        return cls._first(name, "backward", "prepare_backward") == name

    @classmethod
    def joins_slope(cls) -> bool:
        """Whether what a class says by ``needs_with_slope`` holds for its backward pass, as for :meth:`keeps`."""
        passes = "shard_grad_sums", "backward", "prepare_backward"
        return cls._first("needs_with_slope", *passes) == "needs_with_slope"

    @classmethod
    def _first(cls, *names: str) -> str | None:
        """Return which of several names the class, or else the nearest class that it derives from, defines.

        What this base class defines says nothing of a layer: None then.
        """
        derived = cls.__mro__[: cls.__mro__.index(Layer)]
        return next((name for base in derived for name in names if name in vars(base)), None)

    def band(self, rows: slice, x: Shape) -> Band:
        """Return a layer that makes only some rows of the output, and the rows that it reads.

        Used where several workers share an image.

        Parameters
        ----------
        rows : slice
            Rows of the output.
        x : tuple of int
            Shape of the input.

        Returns
        -------
        (Layer, slice) or None
            None if there is no such layer.
        """
        return None

    def check_batch(self, x: Shape) -> None:
        """Raise a ShapeError if a batch fits, but has too few samples to train on.

        Parameters
        ----------
        x : tuple of int
            Shape of the batch.
        """

    def forward(self, x: Array, ctx: Context) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : Array
            The input, which must not be changed; all inputs are ``ctx.xs``.
        ctx : Context
            What the run gives.

        Returns
        -------
        Array
            ``ctx.y``, written, or an array of the layer's own.
        """
        run(self.prepare_forward(x, ctx))
        return ctx.y

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        """Return what ``forward`` does as calls that can be made again: they read ``x`` and write ``ctx.y`` each time.

        Where the layer's own class defines it, and no ``forward``, a run makes these calls instead.

        Parameters
        ----------
        x : Array
            The input.
        ctx : Context
            What the run gives.

        Returns
        -------
        iterable of callable
            Calls without arguments, in their order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, ctx)")

    def backward(self, dy: Array, ctx: Context) -> Any:
        """Compute the gradients of the parameters, into ``ctx.grads``, and of the input, or of each input.

        Parameters
        ----------
        dy : Array
            Gradient of the output, which must not be changed.
        ctx : Context
            The context that the forward pass had.

        Returns
        -------
        Array or list of Array
            ``ctx.dx``, written, or an array of the layer's own; of several inputs ``ctx.dxs``, or such arrays.
        """
        run(self.prepare_backward(dy, ctx))
        return ctx.dx if len(ctx.dxs) == 1 else ctx.dxs

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        """Return what ``backward`` does in the same way: calls that write ``ctx.dx`` and ``ctx.grads``.

        Parameters
        ----------
        dy : Array
            Gradient of the output.
        ctx : Context
            The context that the forward pass had.

        Returns
        -------
        iterable of callable
            Calls without arguments, in their order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy, ctx)")

    def shard_sums(self, x: Array, ctx: Context) -> None:
        """Write a shard's sums to ``ctx.sums`` (batch_sums, C).

        Afterwards ``forward`` finds the sums of the whole batch there, joined by :meth:`join_sums`.

        Parameters
        ----------
        x : Array
            The shard's input.
        ctx : Context
            The shard's context.
        """
        raise NotImplementedError(f"{type(self).__name__} has batch_sums: it must define shard_sums(x, ctx)")

    def join_sums(self, parts: Sequence[Array], sizes: Sequence[int], ctx: Context) -> Array:
        """Return the sums of the whole batch; by default the sums of its shards are added.

        Parameters
        ----------
        parts : sequence of Array
            The sums of each shard. Several workers read them, so they must not be changed.
        sizes : sequence of int
            The number of samples in each shard.
        ctx : Context
            The context of one of the shards.

        Returns
        -------
        Array
            The sums, (batch_sums, C).
        """
        joined = parts[0].copy()
        for part in parts[1:]:
            joined += part
        return joined

    def use_sums(self, contexts: Sequence[Context]) -> None:
        """Make of the sums of the whole batch what ``forward`` needs of them, once for the shards of a worker.

        Parameters
        ----------
        contexts : sequence of Context
            The contexts of the worker's shards; each has the joined sums.
        """

    def shard_grad_sums(self, dy: Array, ctx: Context) -> None:
        """Write a shard's sums for ``backward`` to ``ctx.sums``, and the parameters' gradients to ``ctx.grads``.

        Parameters
        ----------
        dy : Array
            Gradient of the shard's output.
        ctx : Context
            The shard's context.
        """
        raise NotImplementedError(f"{type(self).__name__} has batch_sums: it must define shard_grad_sums(dy, ctx)")

    def finish_step(self, ctx: Context) -> None:
        """After a training step, once: change the state, such as running statistics.

        Parameters
        ----------
        ctx : Context
            The context of one of the shards, with the sums of the whole batch.
        """


def _images(x: Shape) -> tuple[int, int, int, int]:
    if len(x) != 4:
        hint = "; images of one channel need an axis for it, images[:, None]" if len(x) == 3 else ""
        raise ShapeError(f"expected images (N, C, H, W), got {len(x)}-dimensional input of shape {user_shape(x)}{hint}")
    return x[0], x[1], x[2], x[3]


def images_of(wanted: int, x: Shape) -> tuple[int, int, int, int]:
    """Return the shape of images that have this number of channels, or raise a ShapeError."""
    found = _images(x)
    check_input_channels(wanted, x)
    return found


def check_input_channels(wanted: int, x: Shape) -> None:
    """Raise a ShapeError if images or sequences have another number of channels."""
    if channels(x) != wanted:
        raise ShapeError(f"expected {wanted} input channels, got {channels(x)}: input shape {user_shape(x)}")


def rows_shape(x: Shape) -> tuple[int, int, int, int]:
    """Shape of features (F, N), or of sequences (C, L, N), as that of images; that of images as it is."""
    if len(x) == 2:
        return 1, x[0], 1, x[1]
    return (1, x[0], x[1], x[2]) if len(x) == 3 else (x[0], x[1], x[2], x[3])


def as_rows(x: Array) -> Array:
    """Return features, or sequences, as images, a view; images as they are."""
    return x if len(x.shape) == 4 else x.reshape(rows_shape(x.shape))


class OneRow(Layer):
    """What makes a layer of images one of sequences (N, C, L): each sequence is an image of one row.

    It stands before the layer of images among the base classes, and shows it views of the sequences' arrays: (C, L, N)
    lies in memory as the rows (1, C, L, N) do, and a weight (F, C/G, K) as (F, C/G, 1, K).
    """

    axes: ClassVar[int] = 1

    def output_shape(self, x: Shape) -> Shape:
        if len(x) != 3:
            hint = "; sequences of one channel need an axis for it, sequences[:, None]" if len(x) == 2 else ""
            raise ShapeError(f"expected sequences (N, C, L), got shape {user_shape(x)}{hint}")
        return super().output_shape(rows_shape(x))[1:]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return super().needs(rows_shape(x), rows_shape(y), dtype, backend, training)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return super().algorithm(rows_shape(x), rows_shape(y), dtype, backend)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return super().prepare_forward(as_rows(x), self.of_rows(ctx))

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        return super().prepare_backward(as_rows(dy), self.of_rows(ctx))

    def of_rows(self, ctx: Context) -> Context:
        """Return a context that shows the sequences' inputs, output and gradients as images."""
        found = copy(ctx)
        found.xs, found.y = tuple(map(as_rows, ctx.xs)), as_rows(ctx.y)
        gradients = getattr(ctx, "dxs", [])  # there are none in evaluation
        found.dxs = [dx if dx is None else as_rows(dx) for dx in gradients]
        return found


def _same_rows(layer: Layer, rows: slice, x: Shape) -> Band:
    """Return the band of a layer whose rows of output depend on the same rows of input: the layer itself."""
    return layer, rows


def _rows_of_windows(layer: Any, rows: slice, x: Shape) -> Band:
    """Return the band of a layer that slides a window: the same layer with a window of its own."""
    found = layer.window.band(rows, x[0])
    if found is None:
        return None
    part = copy(layer)
    part.window, inputs = found
    return part, inputs
