"""Functions of each number: a class for each row of :data:`im2colnet.backend.FORMULAS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from im2colnet.backend import Backend, Spec, formula
from im2colnet.checks import number, one_of
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, _same_rows
from im2colnet.types import Array, Call, Shape

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "Threshold",
]


class Activation(Layer):
    """``y = f(x)`` for each number; f is the formula of the class's ``kind``."""

    kind: str  #: the formula's name, and its constants after a colon

    def _set_kind(self, name: str, *constants: float) -> None:
        self._set(kind=f"{name}:{','.join(repr(float(constant)) for constant in constants)}")

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        reads, spec = formula(self.kind).reads, Spec(x, dtype)
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
        return ctx.backend.activation.prepare(x, self.kind, out=ctx.y, scratch=ctx.scratch["activation"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        read = ctx.x if formula(self.kind).reads == "x" else ctx.y
        return ctx.backend.activation_grad.prepare(
            read, dy, self.kind, out=ctx.dx, scratch=ctx.scratch["activation_grad"]
        )


class ReLU(Activation):
    """``y = max(x, 0)``; the gradient passes where the input was positive."""

    kind = "relu"


@dataclass(eq=False, repr=False)
class LeakyReLU(Activation):
    """``y = x`` where x is positive, else ``negative_slope · x``; the slope is at least 0."""

    negative_slope: float = 0.01
    fixed: ClassVar[frozenset[str]] = frozenset({"negative_slope"})

    def __post_init__(self) -> None:
        number("negative_slope", self.negative_slope)
        self._set_kind("leaky_relu", self.negative_slope)


class Sigmoid(Activation):
    """``y = 1 / (1 + exp(-x))``."""

    kind = "sigmoid"


class Tanh(Activation):
    """``y = tanh(x)``."""

    kind = "tanh"


class SiLU(Activation):
    """``y = x / (1 + exp(-x))`` (Elfwing, Uchibe & Doya 2017, arXiv:1702.03118)."""

    kind = "silu"


@dataclass(eq=False, repr=False)
class ELU(Activation):
    """``y = x`` where x is positive, else ``alpha · (exp(x) - 1)`` (Clevert et al. 2015, arXiv:1511.07289)."""

    alpha: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def __post_init__(self) -> None:
        number("alpha", self.alpha)
        self._set_kind("elu", self.alpha)


class SELU(Activation):
    """ELU with constants that keep mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515)."""

    kind = "selu"


@dataclass(eq=False, repr=False)
class CELU(Activation):
    """``y = x`` where x is positive, else ``alpha · (exp(x / alpha) - 1)`` (Barron 2017, arXiv:1704.07483)."""

    alpha: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"alpha"})

    def __post_init__(self) -> None:
        if not number("alpha", self.alpha):
            raise ShapeError("alpha must be more than 0")
        self._set_kind("celu", self.alpha)


@dataclass(eq=False, repr=False)
class GELU(Activation):
    """``y = x · Φ(x)``, with the normal distribution Φ (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" takes ``(1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2`` for Φ.
    """

    approximate: str = "none"
    fixed: ClassVar[frozenset[str]] = frozenset({"approximate"})

    def __post_init__(self) -> None:
        self._set(kind="gelu" if one_of("approximate", self.approximate, "none", "tanh") == "none" else "gelu_tanh")


class Mish(Activation):
    """``y = x · tanh(log(1 + exp(x)))`` (Misra 2019, arXiv:1908.08681)."""

    kind = "mish"


@dataclass(eq=False, repr=False)
class Softplus(Activation):
    """``y = log(1 + exp(beta · x)) / beta``, and ``x`` where ``beta · x`` is above ``threshold``."""

    beta: float = 1.0
    threshold: float = 20.0
    fixed: ClassVar[frozenset[str]] = frozenset({"beta", "threshold"})

    def __post_init__(self) -> None:
        number("threshold", self.threshold)
        if not number("beta", self.beta):
            raise ShapeError("beta must be more than 0")
        self._set_kind("softplus", self.beta, self.threshold)


class Softsign(Activation):
    """``y = x / (1 + |x|)``."""

    kind = "softsign"


class LogSigmoid(Activation):
    """``y = -log(1 + exp(-x))``."""

    kind = "log_sigmoid"


@dataclass(eq=False, repr=False)
class Hardtanh(Activation):
    """``x``, but at least ``min_val`` and at most ``max_val``."""

    min_val: float = -1.0
    max_val: float = 1.0
    fixed: ClassVar[frozenset[str]] = frozenset({"min_val", "max_val"})

    def __post_init__(self) -> None:
        low, high = number("min_val", self.min_val, least=-inf), number("max_val", self.max_val, least=-inf)
        if low >= high:
            raise ShapeError(f"min_val must be less than max_val, got {self.min_val!r} and {self.max_val!r}")
        self._set_kind("hardtanh", low, high)


class ReLU6(Activation):
    """``x``, but at least 0 and at most 6."""

    kind = "relu6"


class Hardsigmoid(Activation):
    """``(x + 3) / 6``, but at least 0 and at most 1."""

    kind = "hardsigmoid"


class Hardswish(Activation):
    """``x · hardsigmoid(x)`` (Howard et al. 2019, arXiv:1905.02244, section 5.2)."""

    kind = "hardswish"


@dataclass(eq=False, repr=False)
class Threshold(Activation):
    """``x`` where x is above ``threshold``, else ``value``."""

    threshold: float
    value: float
    fixed: ClassVar[frozenset[str]] = frozenset({"threshold", "value"})

    def __post_init__(self) -> None:
        number("threshold", self.threshold, least=-inf)
        number("value", self.value, least=-inf)
        self._set_kind("threshold", self.threshold, self.value)
