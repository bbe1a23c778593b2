"""Functions of two values, or of a value and a constant, by broadcasting along the axes of length 1; concatenation.

If a layer has several inputs, an argument ``x`` that is a shape is the tuple of the shapes of all inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from operator import setitem
from typing import Any, ClassVar, NamedTuple

from im2colnet.backend import Backend
from im2colnet.checks import check_dim, number, one_of, truth_value, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, Parameter
from im2colnet.layout import inner_axis, internal_axes, internal_shape, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator

__all__ = ["Add", "Concat", "Div", "Maximum", "Minimum", "Mul", "Pow", "Sub", "WithConstant"]


def _rows_of_all(layer: Layer, rows: slice, x: Any) -> Band:
    """Return the band of a layer whose rows of output depend on the same rows of all its inputs."""
    alike = all(len(shape) == len(x[0]) and shape[0] == x[0][0] for shape in x)
    return (layer, rows) if alike else None


class Slope(NamedTuple):
    """The gradient of an operation with respect to one of its values, ``dy`` times the slope."""

    #: calls(xp, mine, other, dy, out, *spare) are the calls that write it; ``mine`` is the value, ``other`` the other
    calls: Callable[..., Iterator[Call]]
    reads: frozenset[str] = frozenset()  #: which of "mine" and "other" it reads
    spare: int = 0  #: number of spare arrays, of the shape of ``dy``, that it needs


class Operation(NamedTuple):
    """A function y of two numbers, as calls that allocate nothing."""

    sign: str  #: the sign between the two shapes in error messages
    value: str  #: the name of the array module's function
    slopes: tuple[Slope, Slope]


def _unchanged(xp: Any, mine: Array, other: Array, dy: Array, out: Array) -> Iterator[Call]:
    yield partial(setitem, out, ..., dy)


def _negative(xp: Any, mine: Array, other: Array, dy: Array, out: Array) -> Iterator[Call]:
    yield partial(xp.negative, dy, out=out)


def _times_other(xp: Any, mine: Array, other: Array, dy: Array, out: Array) -> Iterator[Call]:
    yield partial(xp.multiply, other, dy, out)


def _over_other(xp: Any, mine: Array, other: Array, dy: Array, out: Array) -> Iterator[Call]:
    yield partial(xp.divide, dy, other, out)


def _of_divisor(xp: Any, mine: Array, other: Array, dy: Array, out: Array) -> Iterator[Call]:
    """``-dy · other / mine²``."""
    yield partial(xp.divide, dy, mine, out)
    yield partial(xp.divide, out, mine, out)
    yield partial(xp.multiply, out, other, out)
    yield partial(xp.negative, out, out=out)


def _of_base(xp: Any, mine: Array, other: Array, dy: Array, out: Array, t: Array) -> Iterator[Call]:
    """``dy · n · mine**(n - 1)`` with the exponent n; nothing where n is 0, also of a base that is 0."""
    yield partial(setitem, t, ..., other)
    yield partial(xp.equal, t, 0, out=out)
    yield partial(xp.add, out, t, out=out)
    yield partial(xp.subtract, out, 1, out=out)
    yield partial(xp.power, mine, out, out=out)
    yield partial(xp.multiply, out, t, out=out)
    yield partial(xp.multiply, out, dy, out=out)


def _of_exponent(xp: Any, mine: Array, other: Array, dy: Array, out: Array, t: Array) -> Iterator[Call]:
    """``dy · b**mine · log(b)`` with the base b; nothing where b is 0."""
    yield partial(setitem, t, ..., other)
    yield partial(xp.equal, t, 0, out=out)
    yield partial(xp.add, out, t, out=out)
    yield partial(xp.log, out, out=out)
    yield partial(xp.power, t, mine, out=t)
    yield partial(xp.multiply, out, t, out=out)
    yield partial(xp.multiply, out, dy, out=out)


def _of_winner(greater: str, xp: Any, mine: Array, other: Array, dy: Array, out: Array, t: Array) -> Iterator[Call]:
    """``dy`` where ``mine`` wins, half of it where both are equal, as in PyTorch."""
    yield partial(getattr(xp, greater), mine, other, out=out)
    yield partial(getattr(xp, f"{greater}_equal"), mine, other, out=t)
    yield partial(xp.add, out, t, out=out)
    yield partial(xp.multiply, out, 0.5, out=out)
    yield partial(xp.multiply, out, dy, out=out)


BOTH = frozenset({"mine", "other"})
UNCHANGED = Slope(_unchanged)
BY_OTHER = Slope(_times_other, frozenset({"other"}))
OF_LARGER = Slope(partial(_of_winner, "greater"), BOTH, spare=1)
OF_SMALLER = Slope(partial(_of_winner, "less"), BOTH, spare=1)
#: functions of two numbers a and b; the first slope is the one with respect to a
OPERATIONS = {
    "add": Operation("+", "add", (UNCHANGED, UNCHANGED)),
    "sub": Operation("-", "subtract", (UNCHANGED, Slope(_negative))),
    "mul": Operation("*", "multiply", (BY_OTHER, BY_OTHER)),
    "div": Operation("/", "divide", (Slope(_over_other, frozenset({"other"})), Slope(_of_divisor, BOTH))),
    "pow": Operation("**", "power", (Slope(_of_base, BOTH, spare=1), Slope(_of_exponent, BOTH, spare=1))),
    "maximum": Operation("and", "maximum", (OF_LARGER, OF_LARGER)),
    "minimum": Operation("and", "minimum", (OF_SMALLER, OF_SMALLER)),
}


def _broadcast(sign: str, first: Shape, second: Shape) -> Shape:
    """Return the shape of a function of two values; a ShapeError if they do not fit."""
    if len(first) != len(second) or any(a != b and 1 not in (a, b) for a, b in zip(first, second, strict=True)):
        raise ShapeError(
            f"the shapes {user_shape(first)} {sign} {user_shape(second)} do not fit: axes must be equal, or 1 in one of"
            " them"
        )
    return tuple(map(max, first, second))


class Elementwise(Layer):
    """A function of two values of equal shapes, or whose axes of length 1 are broadcast; never along the batch."""

    operation: ClassVar[str]  #: its name in the table

    @property
    def _row(self) -> Operation:
        return OPERATIONS[self.operation]

    def output_shape(self, *x: Shape) -> Shape:
        if len(x) != 2:
            raise ShapeError(f"{self!r} reads two values, got {len(x)}")
        first, second = x
        if first[-1] != second[-1]:
            raise ShapeError(f"{self!r} needs values with the same number of samples, got {first[-1]} and {second[-1]}")
        return _broadcast(self._row.sign, first, second)

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        slopes, alike = self._row.slopes, all(shape == y for shape in x)
        passes = all(slope is UNCHANGED for slope in slopes)
        summed = any(shape != y and slope is not UNCHANGED for shape, slope in zip(x, slopes, strict=True))
        scratch = [Spec(y, dtype)] * (max(slope.spare for slope in slopes) + summed)
        return Needs(
            input=any(slope.reads for slope in slopes),
            output=False,
            inplace=alike and (passes or not training),
            gradient_passes=alike and passes,
            backward={"gradient": scratch} if scratch else {},
        )

    band = _rows_of_all

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(getattr(ctx.xp, self._row.value), *ctx.xs, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        scratch = ctx.scratch.get("gradient", [])
        for dx, slope, mine, other in zip(ctx.dxs, self._row.slopes, ctx.xs, reversed(ctx.xs), strict=True):
            if dx is not None:
                yield from _gradient(slope, mine, other, dy, dx, scratch, ctx.xp)


def _gradient(
    slope: Slope, mine: Array, other: Array, dy: Array, dx: Array, scratch: Sequence[Array], xp: Any
) -> Iterator[Call]:
    """Write a gradient, summed along the axes that were broadcast, into ``dx``."""
    if dx.shape == dy.shape:
        yield from slope.calls(xp, mine, other, dy, dx, *scratch[: slope.spare])
    elif slope is UNCHANGED:
        yield from sum_broadcast(dy, dx, xp)
    else:
        yield from slope.calls(xp, mine, other, dy, scratch[-1], *scratch[: slope.spare])
        yield from sum_broadcast(scratch[-1], dx, xp)


class Add(Elementwise):
    """Sum of two values, such as the branches of a :class:`Residual`. Each value gets the whole gradient.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast; the gradient is summed over a broadcast axis.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.ReLU(), "y": (ic.Add(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[-2.,  8.]], dtype=float32)
    """

    operation = "add"


class Sub(Elementwise):
    """Difference of two values, the first minus the second.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.ReLU(), "y": (ic.Sub(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[-2.,  0.]], dtype=float32)
    """

    operation = "sub"


class Mul(Elementwise):
    """Product of two values: ``dx₁ = x₂ · dy`` and ``dx₂ = x₁ · dy``, summed where an axis was broadcast.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.Square(), "y": (ic.Mul(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[-8., 64.]], dtype=float32)
    """

    operation = "mul"


class Div(Elementwise):
    """Quotient of two values, the first divided by the second.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.Square(), "y": (ic.Div(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[-0.5 ,  0.25]], dtype=float32)
    """

    operation = "div"


class Pow(Elementwise):
    """Power of two values, the first raised to the second.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    The power of a negative base is NaN unless the exponent is an integer. Where the base is 0, the gradient of the
    exponent is 0.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.Abs(), "y": (ic.Pow(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[  4., 256.]], dtype=float32)
    """

    operation = "pow"


class Maximum(Elementwise):
    """The larger of two values; where they are equal each gets half of the gradient, as in PyTorch.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.Neg(), "y": (ic.Maximum(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[2., 4.]], dtype=float32)
    """

    operation = "maximum"


class Minimum(Elementwise):
    """The smaller of two values; where they are equal each gets half of the gradient, as in PyTorch.

    The values have the same number of axes and the same batch size. The other axes are equal, or have length 1 in one
    of the values and are broadcast.

    Raises
    ------
    ShapeError
        When a network runs, if the shapes of the values do not match.

    Examples
    --------
    >>> layers = {"r": ic.Neg(), "y": (ic.Minimum(), "input", "r")}
    >>> ic.Net(layers).predict([[-2.0, 4.0]])
    array([[-2., -4.]], dtype=float32)
    """

    operation = "minimum"


@dataclass(eq=False, repr=False)
class WithConstant(Layer):
    """A function of each number and a constant, such as ``x - mean`` or ``scale * x``.

    The constant is saved as part of the state, under the name ``constant``, and training does not change it. In
    evaluation mode a convolution before the layer also computes ``x + c``, ``x - c``, ``c - x``, ``x * c`` and
    ``x / c``, if the constant c is one number or has one number for each channel. Input and output have the same shape.

    Parameters
    ----------
    operation : {"add", "sub", "mul", "div", "pow", "maximum", "minimum"}
        The function.
    shape : sequence of int, optional
        Shape of the constant without the batch, such as (C, H, W). Axes of length 1 are broadcast, and missing axes in
        front count as axes of length 1. With None the constant is the number ``value`` and not part of the state.
    value : float
        Initial value of the constant.
    reverse : bool
        Whether the constant is the first operand, as in ``constant - x``.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the constant has more axes than a sample.

    Examples
    --------
    >>> layer = ic.WithConstant("sub", None, 10.0, reverse=True)
    >>> ic.Sequential([layer]).predict([[1.0, 2.0]])
    array([[9., 8.]], dtype=float32)
    """

    operation: str
    shape: Any = ()
    value: float = 0.0
    reverse: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset({"operation", "shape", "value", "reverse"})

    def __post_init__(self) -> None:
        one_of("operation", self.operation, *OPERATIONS)
        number("value", self.value, least=-inf)
        self._set(reverse=truth_value("reverse", self.reverse))
        if self.shape is not None:
            given = self.shape if hasattr(self.shape, "__iter__") else [None]
            try:
                self._set(shape=tuple(whole("shape", n) for n in given))
            except ShapeError:
                wanted = "the lengths of a sample's axes, such as (C, 1, 1), or None"
                raise ShapeError(f"shape must be {wanted}, got {self.shape!r}") from None

    @property
    def _row(self) -> Operation:
        return OPERATIONS[self.operation]

    @property
    def _slope(self) -> Slope:
        return self._row.slopes[1 if self.reverse else 0]

    def state(self) -> dict[str, Parameter]:
        return {} if self.shape is None else {"constant": Parameter(self.shape, value=float(self.value))}

    def _all_axes(self, x: Shape) -> Shape:
        """Return the constant's shape with all axes of a sample, as users see them."""
        shape = self.shape or ()
        missing = len(x) - 1 - len(shape)
        if missing < 0:
            raise ShapeError(f"a constant of shape {shape} has more axes than a sample: input shape {user_shape(x)}")
        return (1,) * missing + shape

    def _constant(self, ctx: Context) -> Any:
        """Return the constant as the library stores a value of one sample, a view."""
        if self.shape is None:
            return float(self.value)
        shape = self._all_axes(ctx.x.shape)
        return ctx.buffers["constant"].reshape(1, *shape).transpose(internal_axes(1 + len(shape)))

    def output_shape(self, x: Shape) -> Shape:
        constant = internal_shape(self._all_axes(x), 1)
        return _broadcast(self._row.sign, *((constant, x) if self.reverse else (x, constant)))

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        slope, reads = self._slope, "mine" in self._slope.reads
        scratch = [Spec(y, dtype)] * (slope.spare + (x != y and slope is not UNCHANGED))
        return Needs(
            input=reads,
            output=False,
            inplace=x == y and not (training and reads),
            gradient_passes=x == y and slope is UNCHANGED,
            backward={"gradient": scratch} if scratch else {},
        )

    def band(self, rows: slice, x: Shape) -> Band:
        of_all_rows = internal_shape(self._all_axes(x), 1)[0] == 1
        return (self, rows) if of_all_rows else None

    def is_line(self, channels: int) -> bool:
        line = self.operation in ("add", "sub", "mul") or (self.operation == "div" and not self.reverse)
        shape = self.shape or ()
        return line and super().is_line(channels) and (prod(shape) == 1 or shape == (channels, 1, 1))

    def running_line(self, params: dict[str, Array], state: dict[str, Array], xp: Any) -> tuple[Array, Array]:
        if self.shape is None:
            constant = xp.full((1,), self.value, dtype="float64")
        else:
            constant = state["constant"].reshape(-1).astype("float64")
        one, zero = xp.ones_like(constant), xp.zeros_like(constant)
        if self.operation == "add":
            return one, constant
        if self.operation == "sub":
            return (-one, constant) if self.reverse else (one, -constant)
        return constant if self.operation == "mul" else 1 / constant, zero

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        constant = self._constant(ctx)
        both = (constant, x) if self.reverse else (x, constant)
        yield partial(getattr(ctx.xp, self._row.value), *both, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        scratch = ctx.scratch.get("gradient", [])
        yield from _gradient(self._slope, ctx.x, self._constant(ctx), dy, ctx.dx, scratch, ctx.xp)


@dataclass(eq=False, repr=False)
class Concat(Layer):
    """Concatenation of values along an axis, by default the channels: PyTorch's ``torch.cat(values, dim)``.

    Maps values (N, C₁, H, W), (N, C₂, H, W), ... to (N, C₁ + C₂ + ..., H, W). Each value gets its part of the gradient.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.

    Raises
    ------
    ShapeError
        If the axis is the batch; when a network runs, also if the values differ along other axes.

    Examples
    --------
    >>> layers = {"r": ic.Neg(), "y": (ic.Concat(), "input", "r")}
    >>> ic.Net(layers).predict([[1.0, 2.0]])
    array([[ 1.,  2., -1., -2.]], dtype=float32)
    """

    dim: int = 1
    fixed: ClassVar[frozenset[str]] = frozenset({"dim"})

    def __post_init__(self) -> None:
        self._set(dim=check_dim(self.dim))

    def output_shape(self, *x: Shape) -> Shape:
        if len(x) < 2:
            raise ShapeError(f"Concat reads two values or more, got {len(x)}")
        axis = inner_axis(self.dim, x[0])
        others = {(*shape[:axis], *shape[axis + 1 :]) if len(shape) == len(x[0]) else shape for shape in x}
        if len(others) > 1:
            shapes = ", ".join(str(user_shape(shape)) for shape in x)
            along = "the channels" if self.dim == 1 else f"dim={self.dim}"
            raise ShapeError(f"all axes but {along} must be equal to concatenate values, got {shapes}")
        return *x[0][:axis], sum(shape[axis] for shape in x), *x[0][axis + 1 :]

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def flops(self, x: Any, y: Shape) -> int:
        return 0

    def band(self, rows: slice, x: Any) -> Band:
        return (self, rows) if inner_axis(self.dim, x[0]) else None

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        for part, one in zip(self._parts(ctx.y, ctx.xs), ctx.xs, strict=True):
            yield partial(setitem, part, ..., one)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        for part, dx in zip(self._parts(dy, ctx.xs), ctx.dxs, strict=True):
            if dx is not None:
                yield partial(setitem, dx, ..., part)

    def _parts(self, whole: Array, like: tuple[Array, ...]) -> Iterator[Array]:
        """Yield the part of a concatenated value that belongs to each of the values it is made of."""
        axis, start = inner_axis(self.dim, whole.shape), 0
        for one in like:
            stop = start + one.shape[axis]
            yield whole[(*(slice(None),) * axis, slice(start, stop))]
            start = stop


def sum_broadcast(dy: Array, dx: Array, xp: Any) -> Iterator[Call]:
    """Write a gradient, summed along the axes that were broadcast, into ``dx``."""
    if dx.shape == dy.shape:
        yield partial(setitem, dx, ..., dy)
        return
    axes = tuple(i for i, (n, m) in enumerate(zip(dx.shape, dy.shape, strict=True)) if n != m)
    sums = accumulator(dx.dtype.name)
    if sums == dx.dtype.name:
        yield partial(xp.sum, dy, axis=axes, keepdims=True, out=dx)
    else:
        yield lambda: setitem(dx, ..., xp.sum(dy, axis=axes, keepdims=True, dtype=sums))
