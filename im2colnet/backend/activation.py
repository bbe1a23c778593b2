"""Elementwise functions: a table of formulas behind two kernels.

A function ``y = f(x)`` is a row of :data:`FORMULAS`. Its *kind*, a string, names the row; a constant follows a colon,
as in ``"leaky_relu:0.2"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from operator import setitem
from typing import Any, ClassVar, Literal, NamedTuple

from im2colnet.backend.arrays import Arrays
from im2colnet.backend.kernel import kernel, like
from im2colnet.errors import BackendError
from im2colnet.types import Array, Call, Spec

#: natural logarithm of the largest number of each element type, rounded down: exp of more would overflow
LARGEST_EXPONENT = {"float16": 11.0, "bfloat16": 88.0, "float32": 88.0, "float64": 709.0}


class Formula(NamedTuple):
    """One elementwise function, as expressions over arrays that allocate nothing."""

    value: Callable[..., Any]  #: value(xp, x, y, *spare) writes f(x) into y, which may be x
    slope: Callable[..., Any]  #: slope(xp, read, s, *spare) writes f'(x) into s
    reads: Literal["x", "y"]  #: what ``read`` is: the input of f, or its output
    mask: bool = False  #: whether the slope is 0 or 1
    value_spare: int = 0  #: number of spare arrays that value needs
    slope_spare: int = 0  #: number of spare arrays that slope needs


def _relu(xp: Any, x: Array, y: Array) -> None:
    xp.maximum(x, 0, out=y)


def _relu_slope(xp: Any, y: Array, s: Array) -> None:
    xp.greater(y, 0, out=s)


def _leaky_relu(xp: Any, x: Array, y: Array, t: Array, c: float = 0.01) -> None:
    """Write x where x > 0, else c·x, with c ≥ 0: the larger of the two up to c = 1, the smaller above."""
    xp.multiply(x, c, out=t)
    (xp.maximum if c <= 1 else xp.minimum)(x, t, out=y)


def _leaky_relu_slope(xp: Any, y: Array, s: Array, c: float = 0.01) -> None:
    xp.greater(y, 0, out=s)
    xp.multiply(s, 1 - c, out=s)
    xp.add(s, c, out=s)


def _one_plus_exp(xp: Any, x: Array, y: Array) -> None:
    """Write 1 + exp(-x), at most the largest number: it does not overflow."""
    xp.multiply(x, -1, out=y)
    xp.minimum(y, LARGEST_EXPONENT[y.dtype.name], out=y)
    xp.exp(y, out=y)
    xp.add(y, 1, out=y)


def _sigmoid(xp: Any, x: Array, y: Array) -> None:
    _one_plus_exp(xp, x, y)
    xp.divide(1, y, out=y)


def _sigmoid_slope(xp: Any, y: Array, s: Array) -> None:
    """Write y·(1 - y)."""
    xp.subtract(1, y, out=s)
    xp.multiply(s, y, out=s)


def _tanh(xp: Any, x: Array, y: Array) -> None:
    xp.tanh(x, out=y)


def _tanh_slope(xp: Any, y: Array, s: Array) -> None:
    """Write 1 - y²."""
    xp.multiply(y, y, out=s)
    xp.subtract(1, s, out=s)


def _silu(xp: Any, x: Array, y: Array, t: Array) -> None:
    """Write x / (1 + exp(-x)); below -LARGEST_EXPONENT it is as good as 0."""
    xp.maximum(x, -LARGEST_EXPONENT[x.dtype.name], out=t)
    _one_plus_exp(xp, t, y)
    xp.divide(t, y, out=y)


def _silu_slope(xp: Any, x: Array, s: Array, t: Array, u: Array) -> None:
    """Write σ·(1 + x·(1 - σ)), with σ = σ(x)."""
    xp.maximum(x, -LARGEST_EXPONENT[x.dtype.name], out=t)
    _sigmoid(xp, t, s)
    xp.subtract(1, s, out=u)
    xp.multiply(u, t, out=u)
    xp.add(u, 1, out=u)
    xp.multiply(s, u, out=s)


FORMULAS = {
    "relu": Formula(_relu, _relu_slope, reads="y", mask=True),
    "leaky_relu": Formula(_leaky_relu, _leaky_relu_slope, reads="y", value_spare=1),
    "sigmoid": Formula(_sigmoid, _sigmoid_slope, reads="y"),
    "tanh": Formula(_tanh, _tanh_slope, reads="y"),
    "silu": Formula(_silu, _silu_slope, reads="x", value_spare=1, slope_spare=2),
}


@lru_cache(maxsize=256)
def formula(kind: str) -> Formula:
    """Return the formula of a kind, with its constant, or raise a BackendError if there is none."""
    name, _, constant = kind.partition(":")
    if name not in FORMULAS:
        raise BackendError(f"there is no activation {name!r}; there are: {', '.join(FORMULAS)}")
    row = FORMULAS[name]
    if not constant:
        return row
    c = float(constant)
    return row._replace(value=partial(row.value, c=c), slope=partial(row.slope, c=c))


def _value_scratch(backend: Any, x: Spec, kind: str) -> list[Spec]:
    return [x] * formula(kind).value_spare


def _slope_scratch(backend: Any, read: Spec, dy: Spec, kind: str) -> list[Spec]:
    row = formula(kind)
    return [Spec(dy.shape, "bool" if row.mask else dy.dtype)] + [dy] * row.slope_spare


class Activation(Arrays):
    """Kernels of elementwise functions."""

    #: names of the functions that ``conv2d`` and ``channel_affine`` apply themselves, as their ``activation``
    epilogues: ClassVar[frozenset[str]] = frozenset(name for name, row in FORMULAS.items() if not row.value_spare)

    def fuses(self, kind: str | None) -> bool:
        """Whether ``conv2d`` and ``channel_affine`` take this kind of activation."""
        return kind is not None and kind.partition(":")[0] in self.epilogues

    @kernel(result=like("x"), scratch=_value_scratch)
    def activation(self, x: Array, kind: str, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        """Write ``y = f(x)``, f being the function that ``kind`` names; ``out`` may be ``x``."""
        yield partial(formula(kind).value, self.xp, x, out, *scratch)

    @kernel(result=like("dy"), scratch=_slope_scratch)
    def activation_grad(
        self, read: Array, dy: Array, kind: str, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Write ``dx = f'(x)·dy``. ``read`` is x or y, as the formula of the kind says; ``out`` may be ``dy``."""
        row, xp, (slope, *spare) = formula(kind), self.xp, scratch
        yield partial(row.slope, xp, read, slope, *spare)
        if row.mask:  # no product with the mask: infinity times 0 is NaN
            yield lambda: setitem(out, ..., xp.where(slope, dy, dy.dtype.type(0)))
        else:
            yield partial(xp.multiply, dy, slope, out=out)
