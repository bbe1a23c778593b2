"""The layers: functions with parameters.

A layer computes the shape of its output from the shape of its input, declares which arrays it needs (:class:`Needs`),
and has ``forward`` and ``backward``. It holds no array: its parameters belong to the network, everything else to the
run, and both reach it through the :class:`Context`. Shapes are the library's own: images are rows (H, C, W, N),
features (features, N).

Arguments, defaults and initialization are PyTorch's.
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
    """Shape and initial values of a parameter: uniform in ±``bound`` around ``value``.

    Parameters
    ----------
    shape : tuple of int
        Shape in PyTorch's layout, such as (F, C / groups, KH, KW).
    bound : float
        Half the width of the range from which the initial values are drawn.
    value : float
        The middle of this range.
    order : {"filter"} or None
        "filter" for the weight of a convolution, (F, C/G, KH, KW) or (F, C/G, K): it is stored in the memory order that
        the backend's kernels need. All other parameters are C-contiguous.
    precise : bool
        Whether the parameter stays float32 if the network computes in 16 bits.

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
    """Arrays that a layer needs in a run; the defaults suit a layer that allocates its own arrays.

    Parameters
    ----------
    input, output : bool
        Whether the backward pass reads the layer's input, and whether it reads its output.
    inplace : bool
        Whether the output may overwrite the input, and dx may overwrite dy.
    view : bool
        Whether the output is the reshaped input. If so, neither pass is called.
    gradient_passes : bool
        Whether the gradient of each input equals the gradient of the output. If so, the backward pass is not called.
    saved : dict of str to Spec
        Arrays that are kept from the forward pass to the backward pass.
    forward, backward, sums, grad_sums : dict of str to list of Spec
        Scratch memory of the kernels that a pass calls, by the kernels' names. The kernels run one after the other, so
        they share memory.

    See Also
    --------
    Layer.needs : Method that returns this object.

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
    """Arrays and settings that a run passes to a layer, for one shard of the batch.

    A layer may store its own values as attributes of this object, from the forward pass to the backward pass.

    Attributes
    ----------
    backend : Backend
        The backend that computes.
    xp : module
        The array module of the backend.
    training : bool
        Whether the run is a training step.
    activation : str or None
        Name of the elementwise function that follows, which ``forward`` must apply too (only if the layer has
        ``fuses = True``).
    xs : tuple of Array
        The layer's inputs; ``x`` is the first of them.
    y : Array
        The layer's output. ``forward`` writes to it and returns it, or returns its own array.
    dxs : list of Array or None
        Arrays for the gradients of the inputs. ``backward`` writes to them and returns them, or returns its own arrays.
        An entry is None if this gradient is not needed. ``dx`` is the first of them, which a layer with one input
        returns.
    params, buffers : dict of str to Array
        The layer's parameters, and its state.
    saved : dict of str to Array
        The arrays of ``Needs.saved`` (:class:`Needs`), by the same names.
    scratch : dict of str to list of Array
        The scratch memory of each kernel, by the kernel's name.
    grads : dict of str to Array
        Arrays to which ``backward`` writes the gradient of each parameter.
    sums : Array
        For a layer with ``batch_sums``: the sums of this shard; after they are joined, the sums of the whole batch.
    dz : Array or None
        Array for the gradient of the activation's input, if :meth:`Layer.needs_with_slope` has promised that the layer
        writes it. Then ``dy`` is the gradient of ``y``, the output of the activation. It may be the same array as
        ``dy``.
    step_sums : Array
        For a layer with ``step_sums``: array (step_sums, C) to which ``forward`` writes this shard's sums while
        training; in ``finish_step`` it has the sums of the whole batch.
    samples : int
        Number of samples in the whole batch.
    key : tuple of int
        Key of the random numbers: (seed, step, layer, shard).

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
        """Return the calls that ``make`` returns. ``make`` is called again only if other objects are ``given``."""
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

    Your own layer needs only ``forward`` and ``backward``, and ``output_shape`` if the shape changes. To be stored in a
    checkpoint it must keep each argument of its constructor as an attribute of the same name. Its arrays have the
    library's layout: images are (H, C, W, N), features (features, N).

    Attributes
    ----------
    batch_sums : int
        Number of float64 sums over the whole batch that each channel needs in each pass (see :class:`BatchNorm2d`).
    sums_in_evaluation : bool
        Whether the layer needs these sums in evaluation too. If so, its result in evaluation depends on the whole
        batch.
    step_sums : int
        Number of such sums that each channel needs at the end of a training step, for ``finish_step``.
    fuses : bool
        Whether ``forward`` also applies the elementwise function that follows, if ``ctx.activation`` names one.
    stateless : bool
        Whether a pass changes no attribute of the layer, only the context. If so, worker processes may run the layer.
        Each of your own classes must set ``stateless = True`` itself: a class without it is watched for changes and
        runs on threads.

    See Also
    --------
    im2colnet.testing.check_layer : Checks your own layer: its gradients, and all other requirements.

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
    #: arguments of the constructor that are read only once, so a later change raises a FrozenError
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
                f"{name} of a layer cannot be changed, since the layer was built with it: make a new"
                f" {type(self).__name__}(..., {name}={value!r}), and a new network with it"
            )
        super().__setattr__(name, value)

    def _set(self, **values: Any) -> None:
        """Set checked and converted arguments of the constructor, while it runs."""
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
        """Return whether the layer computes the line of ``running_line`` for each channel in evaluation mode."""
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
                    f" {type(value).__name__}; to apply it to arrays make a network: ic.Sequential([layer])"
                )
        if not inputs:
            raise ShapeError(f"{type(self).__name__} is called without a value")
        return inputs[0].scope.apply(self, inputs)

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        """Add this layer to a graph, reading these values; return the value it makes, or several."""
        return graph.add(self, name, *inputs)

    def parameters(self) -> dict[str, Parameter]:
        """Return the shapes and initial values of the parameters, by name.

        Returns
        -------
        dict of str to Parameter
            Empty by default.
        """
        return {}

    def state(self) -> dict[str, Parameter]:
        """Return the shapes and initial values of the state, such as running statistics, by name.

        Returns
        -------
        dict of str to Parameter
            Empty by default.
        """
        return {}

    def output_shape(self, x: Shape) -> Shape:
        """Return the shape of the output; by default the shape of the input.

        Parameters
        ----------
        x : tuple of int
            Shape of the input in the library's layout, (H, C, W, N) or (features, N). A layer with several inputs gets
            one argument for each.

        Returns
        -------
        tuple of int
            Shape of the output.

        Raises
        ------
        ShapeError
            If the layer cannot process an input of this shape; the message says what is wrong.
        """
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        """Return the arrays that a run must provide; by default none, so the passes allocate their own arrays.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.
        dtype : str
            The element type.
        backend : Backend
            The backend that computes.
        training : bool
            Whether there will be a backward pass.

        Returns
        -------
        Needs
            The arrays that the passes read, keep and write.
        """
        return Needs()

    def needs_with_slope(self, x: Shape, y: Shape, dtype: str, backend: Backend, activation: str) -> Needs | None:
        """Return the arrays that training needs if the backward pass also computes the gradient of the next activation.

        Then ``shard_grad_sums``, or ``backward`` if the layer needs no sums, also writes ``ctx.dz``, and ``y``
        is kept for it. The method is called only for a layer with ``fuses = True``.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.
        dtype : str
            The element type.
        backend : Backend
            The backend that computes.
        activation : str
            Name of the elementwise function that follows.

        Returns
        -------
        Needs or None
            None if the layer cannot do this. Then the activation's layer computes its gradient.
        """
        return None

    def flops(self, x: Shape, y: Shape) -> int:
        """Return the number of floating-point operations of a forward pass; a multiply-add counts as two.

        Parameters
        ----------
        x, y : tuple of int
            Shapes of the input and the output.

        Returns
        -------
        int
            The number of operations; by default one for each number of the output.
        """
        return prod(y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        """Name of the algorithm, where the backend chooses one by the shapes."""
        return Choice("", "")

    def epilogue(self, training: bool) -> str | None:
        """Return the name of the elementwise function that this layer computes, if the layer before it may apply it.

        Parameters
        ----------
        training : bool
            Whether the network trains: then it is allowed only if the gradient depends on the output alone.

        Returns
        -------
        str or None
            The function's name; None if the layer is not such a function.
        """
        return None

    def absorb(self, following: Layer) -> Layer | None:
        """Return a layer that, in evaluation mode, computes this layer and the following layer together.

        Its parameters are those of this layer. Its state is the parameters and the state of the following layer.

        Parameters
        ----------
        following : Layer
            The layer that follows.

        Returns
        -------
        Layer or None
            None if there is no such layer.
        """
        return None

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        """Return a and c of a layer that computes ``y = a·x + c`` for each channel in evaluation mode.

        A convolution before such a layer absorbs it.

        Parameters
        ----------
        params, state : dict of str to Array
            The layer's parameters and its state.
        xp : module
            The array module.

        Returns
        -------
        tuple of Array
            a and c, both (C,) float64, or (1,) if they are the same for all channels.
        """
        raise NotImplementedError(f"{type(self).__name__} must define running_line(params, state, xp)")

    @classmethod
    def prepares(cls, kind: str) -> bool:
        """Return whether a run uses ``prepare_forward`` or ``prepare_backward`` for a pass, "forward" or "backward".

        It does not if a derived class defines the pass itself.
        """
        return cls._first(kind, f"prepare_{kind}") == f"prepare_{kind}"

    @classmethod
    def keeps(cls, name: str) -> bool:
        """Return whether ``fuses``, ``band`` or ``absorb`` of a class is valid for its forward pass.

        It is not if a derived class defines the forward pass again, but not this attribute or method.
        """
        return cls._first(name, "forward", "prepare_forward") == name

    @classmethod
    def keeps_backward(cls, name: str) -> bool:
        """Return whether ``skips_frozen`` of a class is valid for its backward pass.

        As for :meth:`keeps`, it is not if a derived class defines the backward pass again, but not this attribute.
        """
        return cls._first(name, "backward", "prepare_backward") == name

    @classmethod
    def joins_slope(cls) -> bool:
        """Return whether ``needs_with_slope`` of a class is valid for its backward pass, as for :meth:`keeps`."""
        passes = "shard_grad_sums", "backward", "prepare_backward"
        return cls._first("needs_with_slope", *passes) == "needs_with_slope"

    @classmethod
    def _first(cls, *names: str) -> str | None:
        """Return the first of several names that the class defines, or else the nearest of its base classes.

        Definitions in this class, ``Layer``, do not count; the result is None if there is no other one.
        """
        derived = cls.__mro__[: cls.__mro__.index(Layer)]
        return next((name for base in derived for name in names if name in vars(base)), None)

    def band(self, rows: slice, x: Shape) -> Band:
        """Return a layer that computes only some rows of the output, and the input rows that it reads.

        It is used if several workers share an image.

        Parameters
        ----------
        rows : slice
            The rows of the output.
        x : tuple of int
            Shape of the input.

        Returns
        -------
        (Layer, slice) or None
            None if there is no such layer.
        """
        return None

    def check_batch(self, x: Shape) -> None:
        """Raise a ShapeError if a batch has the right shape but too few samples for training.

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
            The input, which must not be changed. A layer with several inputs finds all of them in ``ctx.xs``.
        ctx : Context
            Arrays and settings of the run.

        Returns
        -------
        Array
            ``ctx.y`` with the output, or the layer's own array.
        """
        run(self.prepare_forward(x, ctx))
        return ctx.y

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        """Return the forward pass as functions without arguments, which read ``x`` and write ``ctx.y``.

        If the layer's class defines this method and not ``forward``, a run calls these functions, the same ones in each
        step.

        Parameters
        ----------
        x : Array
            The input.
        ctx : Context
            Arrays and settings of the run.

        Returns
        -------
        iterable of callable
            The functions, in the order of the calls.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, ctx)")

    def backward(self, dy: Array, ctx: Context) -> Any:
        """Compute the gradients of the parameters, which are written to ``ctx.grads``, and of each input.

        Parameters
        ----------
        dy : Array
            Gradient of the output, which must not be changed.
        ctx : Context
            The context of the forward pass.

        Returns
        -------
        Array or list of Array
            ``ctx.dx`` with the gradient of the input, or the layer's own array. A layer with several inputs returns
            ``ctx.dxs``, or a list of its own arrays.
        """
        run(self.prepare_backward(dy, ctx))
        return ctx.dx if len(ctx.dxs) == 1 else ctx.dxs

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        """Return the backward pass as functions without arguments, which write ``ctx.dx`` and ``ctx.grads``.

        Parameters
        ----------
        dy : Array
            Gradient of the output.
        ctx : Context
            The context of the forward pass.

        Returns
        -------
        iterable of callable
            The functions, in the order of the calls.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy, ctx)")

    def shard_sums(self, x: Array, ctx: Context) -> None:
        """Write a shard's sums to ``ctx.sums`` (batch_sums, C).

        When ``forward`` is called, ``ctx.sums`` has the sums of the whole batch, joined by :meth:`join_sums`.

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
            The sums of each shard. Several workers read them, so do not change them.
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
        """Compute from the sums of the whole batch the values that ``forward`` needs, once for all shards of a worker.

        Parameters
        ----------
        contexts : sequence of Context
            The contexts of the worker's shards. Each has the joined sums.
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
        """Update the state, such as running statistics. Called once after each training step.

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
    """Return the shape of features (F, N) or sequences (C, L, N) as a shape of images; image shapes are unchanged."""
    if len(x) == 2:
        return 1, x[0], 1, x[1]
    return (1, x[0], x[1], x[2]) if len(x) == 3 else (x[0], x[1], x[2], x[3])


def as_rows(x: Array) -> Array:
    """Return features or sequences as images, a view; images are unchanged."""
    return x if len(x.shape) == 4 else x.reshape(rows_shape(x.shape))


class OneRow(Layer):
    """Mixin that turns a layer of images into one of sequences (N, C, L): each sequence is an image of one row.

    It comes before the layer of images in the list of base classes, and gives it views of the sequences' arrays:
    (C, L, N) lies in memory as the rows (1, C, L, N) do, and a weight (F, C/G, K) as (F, C/G, 1, K).
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
