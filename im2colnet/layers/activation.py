"""Functions of each number, most of them rows of :data:`im2colnet.backend.FORMULAS`, and of numbers along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend, Spec, formula
from im2colnet.checks import check_dim, more_than_zero, number, one_of, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, Parameter, _same_rows
from im2colnet.layout import channel_axis, channels, inner_axis, user_shape
from im2colnet.types import Array, Call, Shape, accumulator

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Abs",
    "Cos",
    "Erf",
    "Exp",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "Neg",
    "PReLU",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "SiLU",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Square",
    "Tanh",
    "Threshold",
]


class Activation(Layer):
    """``y = f(x)`` for each number; f is the formula of the class's ``kind``.

    The input may have any shape, and the output has the same shape. The gradient is ``dx = f'(x) · dy``.
    """

    kind: str  #: the formula's name, and its constants after a colon

    def _set_kind(self, name: str, *constants: float) -> None:
        self._set(kind=f"{name}:{','.join(repr(float(constant)) for constant in constants)}")

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        reads, spec = formula(self.kind).reads, Spec(x, dtype)
        if training and backend.saves_slope(self.kind):
            both = backend.activation_and_slope.scratch(spec, self.kind, spec)
            return Needs(
                input=False,
                output=False,
                inplace=True,
                saved={"slope": spec},
                forward={"activation_and_slope": both},
            )
        return Needs(
            input=reads == "x",
            output=reads == "y",
            inplace=reads == "y" or not training,
            forward={"activation": backend.activation.scratch(spec, self.kind)},
            backward={"activation_grad": backend.activation_grad.scratch(spec, spec, self.kind)},
        )

    band = _same_rows

    def epilogue(self, training: bool) -> str | None:
        return self.kind if formula(self.kind).reads == "y" or not training else None

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        if "slope" in ctx.saved:
            return ctx.backend.activation_and_slope.prepare(
                x, self.kind, ctx.saved["slope"], out=ctx.y, scratch=ctx.scratch["activation_and_slope"]
            )
        return ctx.backend.activation.prepare(x, self.kind, out=ctx.y, scratch=ctx.scratch["activation"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        if "slope" in ctx.saved:
            return [partial(ctx.xp.multiply, dy, ctx.saved["slope"], out=ctx.dx)]
        read = ctx.x if formula(self.kind).reads == "x" else ctx.y
        return ctx.backend.activation_grad.prepare(
            read, dy, self.kind, out=ctx.dx, scratch=ctx.scratch["activation_grad"]
        )


class ReLU(Activation):
    """Rectified linear unit, ``y = max(x, 0)``. The gradient is ``dy`` where the input is positive, else 0.

    Notes
    -----
    Nair & Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".

    Examples
    --------
    >>> ic.Sequential([ic.ReLU()]).predict([[-2.0, 0.0, 3.0]])
    array([[0., 0., 3.]], dtype=float32)
    """

    kind = "relu"


@dataclass(eq=False, repr=False)
class LeakyReLU(Activation):
    """Leaky ReLU, ``y = x`` where x is positive, else ``negative_slope · x``.

    Parameters
    ----------
    negative_slope : float
        The slope for negative x, at least 0.

    Raises
    ------
    ShapeError
        If the slope is negative.

    Notes
    -----
    Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".

    Examples
    --------
    >>> net = ic.Sequential([ic.LeakyReLU(0.1)])
    >>> net.predict([[-2.0, 0.0, 3.0]])
    array([[-0.2,  0. ,  3. ]], dtype=float32)
    """

    negative_slope: float = 0.01
    fixed: ClassVar[frozenset[str]] = frozenset({"negative_slope"})

    def __post_init__(self) -> None:
        number("negative_slope", self.negative_slope)
        self._set_kind("leaky_relu", self.negative_slope)


class Sigmoid(Activation):
    """Sigmoid, the logistic function ``y = 1 / (1 + exp(-x))``.

    Examples
    --------
    >>> net = ic.Sequential([ic.Sigmoid()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[0.119, 0.5  , 0.953]], dtype=float32)
    """

    kind = "sigmoid"


class Tanh(Activation):
    """Hyperbolic tangent, ``y = tanh(x)``.

    Examples
    --------
    >>> net = ic.Sequential([ic.Tanh()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.964,  0.   ,  0.995]], dtype=float32)
    """

    kind = "tanh"


class SiLU(Activation):
    """Sigmoid linear unit (swish), ``y = x / (1 + exp(-x))``.

    Notes
    -----
    Elfwing, Uchibe & Doya 2017 (arXiv:1702.03118); as "swish" in Ramachandran, Zoph & Le 2017 (arXiv:1710.05941).

    Examples
    --------
    >>> net = ic.Sequential([ic.SiLU()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.238,  0.   ,  2.858]], dtype=float32)
    """

    kind = "silu"


@dataclass(eq=False, repr=False)
class ELU(Activation):
    """Exponential linear unit, ``y = x`` where x is positive, else ``alpha · (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float
        The scale of the negative part, at least 0. The output for very negative inputs is ``-alpha``.

    Raises
    ------
    ShapeError
        If alpha is negative.

    Notes
    -----
    Clevert, Unterthiner & Hochreiter 2015 (arXiv:1511.07289).

    Examples
    --------
    >>> net = ic.Sequential([ic.ELU()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.865,  0.   ,  3.   ]], dtype=float32)
    """

    alpha: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def __post_init__(self) -> None:
        number("alpha", self.alpha)
        self._set_kind("elu", self.alpha)


class SELU(Activation):
    """Scaled ELU, ``y = scale · ELU(x)`` with constants that keep mean 0 and variance 1 from layer to layer.

    Notes
    -----
    ``scale = 1.0507…`` and ``alpha = 1.6733…`` (Klambauer et al. 2017, arXiv:1706.02515, equation 2).

    Examples
    --------
    >>> net = ic.Sequential([ic.SELU()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-1.52 ,  0.   ,  3.152]], dtype=float32)
    """

    kind = "selu"


@dataclass(eq=False, repr=False)
class CELU(Activation):
    """Continuously differentiable ELU, ``y = x`` where x is positive, else ``alpha · (exp(x / alpha) - 1)``.

    Parameters
    ----------
    alpha : float
        The scale of the negative part, more than 0. The output for very negative inputs is ``-alpha``.

    Raises
    ------
    ShapeError
        If alpha is not positive.

    Notes
    -----
    Barron 2017 (arXiv:1704.07483).

    Examples
    --------
    >>> net = ic.Sequential([ic.CELU(0.5)])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.491,  0.   ,  3.   ]], dtype=float32)
    """

    alpha: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def __post_init__(self) -> None:
        more_than_zero("alpha", self.alpha)
        self._set_kind("celu", self.alpha)


@dataclass(eq=False, repr=False)
class GELU(Activation):
    """Gaussian error linear unit, ``y = x · Φ(x)``, with the distribution function Φ of the normal distribution.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" approximates Φ by ``(1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2``; "none" computes Φ itself.

    Raises
    ------
    ShapeError
        If ``approximate`` has another value.

    Notes
    -----
    Hendrycks & Gimpel 2016 (arXiv:1606.08415, section 2).

    Examples
    --------
    >>> net = ic.Sequential([ic.GELU()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.046,  0.   ,  2.996]], dtype=float32)
    """

    approximate: str = "none"
    fixed: ClassVar[frozenset[str]] = frozenset({"approximate"})

    def __post_init__(self) -> None:
        self._set(kind="gelu" if one_of("approximate", self.approximate, "none", "tanh") == "none" else "gelu_tanh")


class Mish(Activation):
    """Mish, ``y = x · tanh(log(1 + exp(x)))``.

    Notes
    -----
    Misra 2019 (arXiv:1908.08681).

    Examples
    --------
    >>> net = ic.Sequential([ic.Mish()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.253,  0.   ,  2.987]], dtype=float32)
    """

    kind = "mish"


@dataclass(eq=False, repr=False)
class Softplus(Activation):
    """Smooth ReLU, ``y = log(1 + exp(beta · x)) / beta``, and ``x`` where ``beta · x`` is above ``threshold``.

    Parameters
    ----------
    beta : float
        Sharpness, more than 0. The larger it is, the closer the function is to ReLU.
    threshold : float
        Value of ``beta · x``, at least 0, above which the output is x itself.

    Raises
    ------
    ShapeError
        If beta is not positive, or the threshold is negative.

    Notes
    -----
    Dugas et al. 2001, "Incorporating second-order functional knowledge for better option pricing".

    Examples
    --------
    >>> net = ic.Sequential([ic.Softplus()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[0.127, 0.693, 3.049]], dtype=float32)
    """

    beta: float = 1.0
    threshold: float = 20.0
    fixed: ClassVar[frozenset[str]] = frozenset({"beta", "threshold"})

    def __post_init__(self) -> None:
        number("threshold", self.threshold)
        more_than_zero("beta", self.beta)
        self._set_kind("softplus", self.beta, self.threshold)


class Softsign(Activation):
    """Softsign, ``y = x / (1 + |x|)``.

    Notes
    -----
    Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", section 3.3.

    Examples
    --------
    >>> net = ic.Sequential([ic.Softsign()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.667,  0.   ,  0.75 ]], dtype=float32)
    """

    kind = "softsign"


class LogSigmoid(Activation):
    """Logarithm of the sigmoid, ``y = -log(1 + exp(-x))``.

    Examples
    --------
    >>> net = ic.Sequential([ic.LogSigmoid()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-2.127, -0.693, -0.049]], dtype=float32)
    """

    kind = "log_sigmoid"


@dataclass(eq=False, repr=False)
class Hardtanh(Activation):
    """Clip to a range: ``y = x``, but at least ``min_val`` and at most ``max_val``.

    Parameters
    ----------
    min_val, max_val : float
        The smallest and the largest output.

    Raises
    ------
    ShapeError
        If min_val is not less than max_val.

    Examples
    --------
    >>> ic.Sequential([ic.Hardtanh()]).predict([[-2.0, 0.5, 3.0]])
    array([[-1. ,  0.5,  1. ]], dtype=float32)
    """

    min_val: float = -1.0
    max_val: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"min_val", "max_val"})

    def __post_init__(self) -> None:
        low, high = number("min_val", self.min_val, least=-inf), number("max_val", self.max_val, least=-inf)
        if low >= high:
            raise ShapeError(f"min_val must be less than max_val, got {self.min_val!r} and {self.max_val!r}")
        self._set_kind("hardtanh", low, high)


class ReLU6(Activation):
    """ReLU with a maximum of 6: ``y = x``, but at least 0 and at most 6.

    Notes
    -----
    Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10".

    Examples
    --------
    >>> ic.Sequential([ic.ReLU6()]).predict([[-2.0, 3.0, 8.0]])
    array([[0., 3., 6.]], dtype=float32)
    """

    kind = "relu6"


class Hardsigmoid(Activation):
    """Piecewise linear sigmoid: ``y = (x + 3) / 6``, but at least 0 and at most 1.

    Notes
    -----
    Howard et al. 2019 (arXiv:1905.02244, section 5.2).

    Examples
    --------
    >>> net = ic.Sequential([ic.Hardsigmoid()])
    >>> net.predict([[-4.0, 0.0, 1.5]])
    array([[0.  , 0.5 , 0.75]], dtype=float32)
    """

    kind = "hardsigmoid"


class Hardswish(Activation):
    """Piecewise approximation of swish: ``y = x · hardsigmoid(x)``.

    Notes
    -----
    Howard et al. 2019 (arXiv:1905.02244, section 5.2).

    Examples
    --------
    >>> net = ic.Sequential([ic.Hardswish()])
    >>> net.predict([[-2.0, 0.0, 3.0]]).round(3)
    array([[-0.333,  0.   ,  3.   ]], dtype=float32)
    """

    kind = "hardswish"


@dataclass(eq=False, repr=False)
class Threshold(Activation):
    """``y = x`` where x is above ``threshold``, else ``value``.

    Parameters
    ----------
    threshold : float
        The output is x if x is above this number.
    value : float
        The output otherwise.

    Raises
    ------
    ShapeError
        If threshold or value is not a number.

    Examples
    --------
    >>> net = ic.Sequential([ic.Threshold(1.0, -5.0)])
    >>> net.predict([[-2.0, 1.0, 3.0]])
    array([[-5., -5.,  3.]], dtype=float32)
    """

    threshold: float
    value: float
    fixed: ClassVar[frozenset[str]] = frozenset({"threshold", "value"})

    def __post_init__(self) -> None:
        number("threshold", self.threshold, least=-inf)
        number("value", self.value, least=-inf)
        self._set_kind("threshold", self.threshold, self.value)


class Exp(Activation):
    """Exponential function, ``y = exp(x)``.

    Examples
    --------
    >>> net = ic.Sequential([ic.Exp()])
    >>> net.predict([[-1.0, 0.0, 1.0]]).round(3)
    array([[0.368, 1.   , 2.718]], dtype=float32)
    """

    kind = "exp"


class Log(Activation):
    """Natural logarithm, ``y = log(x)``, for positive x.

    Examples
    --------
    >>> net = ic.Sequential([ic.Log()])
    >>> net.predict([[0.5, 1.0, 2.0]]).round(3)
    array([[-0.693,  0.   ,  0.693]], dtype=float32)
    """

    kind = "log"


class Sqrt(Activation):
    """Square root, ``y = √x``, for x that is not negative.

    Examples
    --------
    >>> ic.Sequential([ic.Sqrt()]).predict([[0.0, 2.25, 9.0]])
    array([[0. , 1.5, 3. ]], dtype=float32)
    """

    kind = "sqrt"


class Abs(Activation):
    """Absolute value, ``y = |x|``. The gradient at 0 is 0.

    Examples
    --------
    >>> ic.Sequential([ic.Abs()]).predict([[-2.0, 0.0, 3.0]])
    array([[2., 0., 3.]], dtype=float32)
    """

    kind = "abs"


class Neg(Activation):
    """Negative, ``y = -x``.

    Examples
    --------
    >>> ic.Sequential([ic.Neg()]).predict([[-2.0, 1.0, 3.0]])
    array([[ 2., -1., -3.]], dtype=float32)
    """

    kind = "neg"


class Reciprocal(Activation):
    """Reciprocal, ``y = 1 / x``.

    Examples
    --------
    >>> ic.Sequential([ic.Reciprocal()]).predict([[-2.0, 1.0, 4.0]])
    array([[-0.5 ,  1.  ,  0.25]], dtype=float32)
    """

    kind = "reciprocal"


class Square(Activation):
    """Square, ``y = x²``.

    Examples
    --------
    >>> ic.Sequential([ic.Square()]).predict([[-2.0, 0.0, 3.0]])
    array([[4., 0., 9.]], dtype=float32)
    """

    kind = "square"


class Erf(Activation):
    """Error function, ``y = 2/√π · ∫ exp(-t²) dt`` from 0 to x.

    Examples
    --------
    >>> net = ic.Sequential([ic.Erf()])
    >>> net.predict([[-1.0, 0.0, 2.0]]).round(3)
    array([[-0.843,  0.   ,  0.995]], dtype=float32)
    """

    kind = "erf"


class Sin(Activation):
    """Sine, ``y = sin(x)``, with x in radians.

    Examples
    --------
    >>> net = ic.Sequential([ic.Sin()])
    >>> net.predict([[-np.pi / 2, 0.0, np.pi / 6]]).round(3)
    array([[-1. ,  0. ,  0.5]], dtype=float32)
    """

    kind = "sin"


class Cos(Activation):
    """Cosine, ``y = cos(x)``, with x in radians.

    Examples
    --------
    >>> net = ic.Sequential([ic.Cos()])
    >>> net.predict([[-np.pi, 0.0, np.pi / 3]]).round(3)
    array([[-1. ,  1. ,  0.5]], dtype=float32)
    """

    kind = "cos"


class AlongAxis(Layer):
    """A function of all numbers along the axis ``dim``, which is counted as users see it: 1 is channels or features."""

    dim: int

    fixed: ClassVar[frozenset[str]] = frozenset({"dim"})

    def output_shape(self, x: Shape) -> Shape:
        inner_axis(self.dim, x)
        return x

    @staticmethod
    def _sums(x: Shape, axis: int, dtype: str) -> Spec:
        return Spec((*x[:axis], 1, *x[axis + 1 :]), accumulator(dtype))


@dataclass(eq=False, repr=False)
class Softmax(AlongAxis):
    """Softmax, which turns scores into probabilities: ``exp(x)`` divided by its sum along an axis.

    Input and output have the same shape. Do not use it before a :class:`CrossEntropyLoss`, which needs the scores.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Softmax(dim=1)])
    >>> net.predict([[0.0, 1.0, 3.0]]).round(3)
    array([[0.042, 0.114, 0.844]], dtype=float32)
    """

    dim: int

    def __post_init__(self) -> None:
        check_dim(self.dim)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of_sums = accumulator(dtype)
        scratch = [self._sums(x, inner_axis(self.dim, x), dtype), *([] if of_sums == dtype else [Spec(x, of_sums)])]
        return Needs(input=False, forward={"softmax": scratch}, backward={"softmax": scratch})

    def flops(self, x: Shape, y: Shape) -> int:
        return 4 * prod(x)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, axis, (of_axis, *wide) = ctx.xp, inner_axis(self.dim, x.shape), ctx.scratch["softmax"]
        y = wide[0] if wide else ctx.y
        yield from largest(x, axis, of_axis, xp)
        yield partial(xp.subtract, x, of_axis, out=y)
        yield partial(xp.exp, y, out=y)
        yield partial(xp.sum, y, axis=axis, keepdims=True, out=of_axis)
        yield partial(xp.divide, y, of_axis, out=y)
        if wide:
            yield partial(setitem, ctx.y, ..., y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``dx = y · (dy - Σ y·dy)``."""
        xp, axis, (of_axis, *wide) = ctx.xp, inner_axis(self.dim, dy.shape), ctx.scratch["softmax"]
        dx = wide[0] if wide else ctx.dx
        yield partial(xp.multiply, ctx.y, dy, out=dx)
        yield partial(xp.sum, dx, axis=axis, keepdims=True, out=of_axis)
        yield partial(xp.subtract, dy, of_axis, out=dx)
        yield partial(xp.multiply, dx, ctx.y, out=dx)
        if wide:
            yield partial(setitem, ctx.dx, ..., dx)


@dataclass(eq=False, repr=False)
class LogSoftmax(AlongAxis):
    """Logarithm of :class:`Softmax`, ``y = x - log Σ exp(x)`` along an axis.

    Input and output have the same shape.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.LogSoftmax(dim=1)])
    >>> net.predict([[0.0, 1.0, 3.0]]).round(3)
    array([[-3.17, -2.17, -0.17]], dtype=float32)
    """

    dim: int

    def __post_init__(self) -> None:
        check_dim(self.dim)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of_axis, wide = self._sums(x, inner_axis(self.dim, x), dtype), Spec(x, accumulator(dtype))
        scratch = {"log_softmax": [of_axis, of_axis, wide]}
        return Needs(input=False, forward=scratch, backward=scratch)

    def flops(self, x: Shape, y: Shape) -> int:
        return 4 * prod(x)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, axis, (most, total, wide) = ctx.xp, inner_axis(self.dim, x.shape), ctx.scratch["log_softmax"]
        yield from largest(x, axis, most, xp)
        yield partial(xp.subtract, x, most, out=wide)
        yield partial(xp.exp, wide, out=wide)
        yield partial(xp.sum, wide, axis=axis, keepdims=True, out=total)
        yield partial(xp.log, total, out=total)
        yield partial(xp.subtract, x, most, out=wide)  # most is not added to the logarithm, which may be far smaller
        yield partial(xp.subtract, wide, total, out=wide)
        yield partial(setitem, ctx.y, ..., wide)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``dx = dy - exp(y) · Σ dy``."""
        xp, axis, (_, total, wide) = ctx.xp, inner_axis(self.dim, dy.shape), ctx.scratch["log_softmax"]
        yield partial(xp.sum, dy, axis=axis, keepdims=True, dtype=total.dtype, out=total)
        yield partial(setitem, wide, ..., ctx.y)
        yield partial(xp.exp, wide, out=wide)
        yield partial(xp.multiply, wide, total, out=wide)
        yield partial(xp.subtract, dy, wide, out=wide)
        yield partial(setitem, ctx.dx, ..., wide)


@dataclass(eq=False, repr=False)
class GLU(AlongAxis):
    """Gated linear unit, ``y = a · sigmoid(b)`` of the two halves a and b of an axis.

    Input and output have the same shape, except that the output is half as long along that axis.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The default is the last axis, as in PyTorch.

    Raises
    ------
    ShapeError
        If the input has no such axis, the axis is the batch, or its length is odd.

    Notes
    -----
    Dauphin et al. 2016 (arXiv:1612.08083, equation 1).

    Examples
    --------
    >>> ic.Sequential([ic.GLU()]).predict([[1.0, 2.0, 0.0, 100.0]])
    array([[0.5, 2. ]], dtype=float32)
    """

    dim: int = -1

    def __post_init__(self) -> None:
        check_dim(self.dim)

    def output_shape(self, x: Shape) -> Shape:
        axis = inner_axis(self.dim, x)
        if x[axis] % 2:
            raise ShapeError(
                f"the axis dim={self.dim} must have an even length, got {x[axis]}: input shape {user_shape(x)}"
            )
        return *x[:axis], x[axis] // 2, *x[axis + 1 :]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        half = Spec(y, dtype)
        forward = {"activation": backend.activation.scratch(half, "sigmoid")}
        if not training:
            return Needs(input=False, output=False, forward={"glu": [half, half, *forward["activation"]]})
        backward = {"glu": [half, half, *backend.activation_grad.scratch(half, half, "sigmoid")]}
        return Needs(
            output=False, saved={"gate": half}, forward={"glu": [half, *forward["activation"]]}, backward=backward
        )

    def flops(self, x: Shape, y: Shape) -> int:
        return 2 * prod(y)

    def _halves(self, x: Array) -> tuple[Array, Array]:
        axis = inner_axis(self.dim, x.shape)
        before, middle = (slice(None),) * axis, x.shape[axis] // 2
        return x[(*before, slice(None, middle))], x[(*before, slice(middle, None))]

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        (a, b), (copy, *rest) = self._halves(x), ctx.scratch["glu"]  # kernels of a device want whole arrays
        gate, *rest = [ctx.saved["gate"], *rest] if ctx.saved else rest
        yield partial(setitem, copy, ..., b)
        yield from ctx.backend.activation.prepare(copy, "sigmoid", out=gate, scratch=rest)
        yield partial(ctx.xp.multiply, a, gate, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        """``da = dy · gate`` and ``db = dy · a · gate · (1 - gate)``."""
        (a, _), (da, db), gate = self._halves(ctx.x), self._halves(ctx.dx), ctx.saved["gate"]
        product, found, *rest = ctx.scratch["glu"]
        yield partial(ctx.xp.multiply, dy, a, out=product)
        yield from ctx.backend.activation_grad.prepare(gate, product, "sigmoid", out=found, scratch=rest)
        yield partial(setitem, db, ..., found)
        yield partial(ctx.xp.multiply, dy, gate, out=da)


def largest(x: Array, axis: int, out: Array, xp: Any) -> Iterator[Call]:
    """Write the largest number along an axis, which stays with length 1."""
    before = (slice(None),) * axis
    yield partial(setitem, out, ..., x[(*before, slice(0, 1))])
    if out.dtype == x.dtype:
        yield partial(x.max, axis=axis, keepdims=True, out=out)
        return
    for i in range(1, x.shape[axis]):
        yield partial(xp.maximum, out, x[(*before, slice(i, i + 1))], out=out)


@dataclass(eq=False, repr=False)
class PReLU(Layer):
    """ReLU with a learned slope: ``y = x`` where x is positive, else ``weight · x``.

    Input and output have the same shape. The ``weight`` is (num_parameters,).

    Parameters
    ----------
    num_parameters : int
        Number of weights: 1, or the number of channels or features.
    init : float
        Initial value of the weights.

    Raises
    ------
    ShapeError
        If num_parameters is neither 1 nor the number of channels.

    Notes
    -----
    He et al. 2015 (arXiv:1502.01852, equation 1).

    Examples
    --------
    >>> net = ic.Sequential([ic.PReLU()]).init()
    >>> net.predict([[-2.0, 0.0, 3.0]])
    array([[-0.5,  0. ,  3. ]], dtype=float32)
    """

    num_parameters: int = 1
    init: float = 0.25
    skips_frozen: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset({"num_parameters", "init"})

    def __post_init__(self) -> None:
        self._set(num_parameters=whole("num_parameters", self.num_parameters))
        number("init", self.init, least=-inf)

    def parameters(self) -> dict[str, Parameter]:
        return {"weight": Parameter((self.num_parameters,), value=float(self.init))}

    def output_shape(self, x: Shape) -> Shape:
        if self.num_parameters not in (1, channels(x)):
            raise ShapeError(
                f"num_parameters must be 1 or the number of channels, got {self.num_parameters} and {channels(x)}:"
                f" input shape {user_shape(x)}"
            )
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        wide = Spec(x, accumulator(dtype))
        return Needs(output=False, forward={"parts": [wide, wide]}, backward={"parts": [wide, wide, wide]})

    def band(self, rows: slice, x: Shape) -> Any:
        by_row = self.num_parameters > 1 and channel_axis(x) == 0  # each row has a weight of its own
        return None if by_row else (self, rows)

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x)

    def _along_channels(self, weight: Array, ndim: int) -> Array:
        return weight.reshape([-1 if i == channel_axis((0,) * ndim) else 1 for i in range(ndim)])

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, weight, (above, below) = ctx.xp, self._along_channels(ctx.params["weight"], x.ndim), ctx.scratch["parts"]
        yield partial(xp.maximum, x, 0, out=above)
        yield partial(xp.minimum, x, 0, out=below)
        yield partial(xp.multiply, below, weight, out=below)
        yield partial(xp.add, above, below, out=above)
        yield partial(setitem, ctx.y, ..., above)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, x, dweight = ctx.xp, ctx.x, ctx.grads["weight"]
        weight, (above, below, product) = self._along_channels(ctx.params["weight"], x.ndim), ctx.scratch["parts"]
        yield partial(xp.greater, x, 0, out=above)
        yield partial(xp.multiply, dy, above, out=above)
        yield partial(xp.subtract, dy, above, out=below)
        if self.learns("weight"):
            yield partial(xp.multiply, below, x, out=product)
            kept = () if self.num_parameters == 1 else (channel_axis(x.shape),)
            axes = tuple(i for i in range(x.ndim) if i not in kept)
            yield partial(xp.sum, product, axis=axes, out=dweight if kept else dweight.reshape(()))
        if ctx.dx is not None:
            yield partial(xp.multiply, below, weight, out=below)
            yield partial(xp.add, above, below, out=above)
            yield partial(setitem, ctx.dx, ..., above)
