"""Elementwise functions: a table of formulas behind two kernels.

A function ``y = f(x)`` is a row of :data:`FORMULAS`. Its *kind*, a string, names the row; constants follow a colon, as
in ``"leaky_relu:0.2"`` and ``"hardtanh:-1,1"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import pi, sqrt
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
    constants: tuple[float, ...] = ()  #: c and d of value and slope, where the kind gives no others


def _relu(xp: Any, x: Array, y: Array) -> None:
    xp.maximum(x, 0, out=y)


def _relu_slope(xp: Any, y: Array, s: Array) -> None:
    xp.greater(y, 0, out=s)


def _leaky_relu(xp: Any, x: Array, y: Array, t: Array, c: float) -> None:
    """Write x where x > 0, else c·x, with c ≥ 0: the larger of the two up to c = 1, the smaller above."""
    xp.multiply(x, c, out=t)
    (xp.maximum if c <= 1 else xp.minimum)(x, t, out=y)


def _leaky_relu_slope(xp: Any, y: Array, s: Array, c: float) -> None:
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


def _elu(xp: Any, x: Array, y: Array, t: Array, c: float, scale: float = 1.0, stretch: float = 1.0) -> None:
    """Write scale·x where x > 0, else scale·c·(exp(x / stretch) - 1)."""
    _times(xp, x, 1 / stretch, t, 0)
    xp.expm1(t, out=t)
    xp.multiply(t, scale * c, out=t)
    xp.maximum(x, 0, out=y)
    if scale != 1:
        xp.multiply(y, scale, out=y)
    xp.add(y, t, out=y)


def _elu_slope(xp: Any, y: Array, s: Array, t: Array, c: float, scale: float = 1.0, stretch: float = 1.0) -> None:
    """Write scale where y > 0, else (y + scale·c) / stretch."""
    xp.minimum(y, 0, out=s)
    xp.add(s, scale * c, out=s)
    if stretch != 1:
        xp.multiply(s, 1 / stretch, out=s)
    xp.greater(y, 0, out=t)
    xp.multiply(t, scale - scale * c / stretch, out=t)
    xp.add(s, t, out=s)


def _celu(xp: Any, x: Array, y: Array, t: Array, c: float) -> None:
    _elu(xp, x, y, t, c, stretch=c)


def _celu_slope(xp: Any, y: Array, s: Array, t: Array, c: float) -> None:
    _elu_slope(xp, y, s, t, c, stretch=c)


#: what keeps mean 0 and variance 1 of normal numbers (Klambauer et al. 2017, arXiv:1706.02515, equation 14)
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _selu(xp: Any, x: Array, y: Array, t: Array) -> None:
    _elu(xp, x, y, t, SELU_ALPHA, SELU_SCALE)


def _selu_slope(xp: Any, y: Array, s: Array, t: Array) -> None:
    _elu_slope(xp, y, s, t, SELU_ALPHA, SELU_SCALE)


def _softplus(xp: Any, x: Array, y: Array, t: Array, u: Array, c: float, d: float) -> None:
    """Write log(1 + exp(c·x)) / c, and x where c·x > d: log(1 + exp(-|c·x|)) + max(c·x, 0) does not overflow."""
    xp.greater(x, d / c, out=u)
    _times(xp, x, c, t, d)
    xp.maximum(x, 0, out=y)
    xp.multiply(u, y, out=u)  # x where it is far, else 0
    xp.abs(t, out=y)
    xp.multiply(y, -1, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    xp.maximum(t, 0, out=t)
    xp.add(y, t, out=y)
    xp.multiply(y, 1 / c, out=y)
    xp.equal(u, 0, out=t)
    xp.multiply(y, t, out=y)
    xp.add(y, u, out=y)


def _softplus_slope(xp: Any, x: Array, s: Array, t: Array, c: float, d: float) -> None:
    """Write σ(c·x), and 1 where c·x > d."""
    _times(xp, x, c, t, d)
    _sigmoid(xp, t, s)
    xp.greater(x, d / c, out=t)
    xp.maximum(s, t, out=s)


def _times(xp: Any, x: Array, c: float, t: Array, most: float) -> None:
    """Write c·x, at most ``most`` and at least a number whose exponential is as good as 0."""
    xp.minimum(x, most / c, out=t)
    xp.maximum(t, -1000 / c, out=t)
    xp.multiply(t, c, out=t)


def _softsign(xp: Any, x: Array, y: Array, t: Array) -> None:
    """Write x / (1 + |x|)."""
    xp.abs(x, out=t)
    xp.add(t, 1, out=t)
    xp.divide(x, t, out=y)


def _softsign_slope(xp: Any, x: Array, s: Array) -> None:
    """Write 1 / (1 + |x|)²."""
    xp.abs(x, out=s)
    xp.add(s, 1, out=s)
    xp.reciprocal(s, out=s)
    xp.multiply(s, s, out=s)


def _hardtanh(xp: Any, x: Array, y: Array, c: float, d: float) -> None:
    xp.maximum(x, c, out=y)
    xp.minimum(y, d, out=y)


def _hardtanh_slope(xp: Any, y: Array, s: Array, t: Array, c: float, d: float) -> None:
    xp.greater(y, c, out=t)
    xp.less(y, d, out=s)
    xp.logical_and(s, t, out=s)


def _relu6(xp: Any, x: Array, y: Array) -> None:
    _hardtanh(xp, x, y, 0, 6)


def _relu6_slope(xp: Any, y: Array, s: Array, t: Array) -> None:
    _hardtanh_slope(xp, y, s, t, 0, 6)


def _hardsigmoid(xp: Any, x: Array, y: Array) -> None:
    """Write (x + 3) / 6, from 0 to 1."""
    xp.add(x, 3, out=y)
    _hardtanh(xp, y, y, 0, 6)
    xp.multiply(y, 1 / 6, out=y)


def _hardsigmoid_slope(xp: Any, y: Array, s: Array, t: Array) -> None:
    xp.greater(y, 0, out=t)
    xp.less(y, 1, out=s)
    xp.multiply(s, t, out=s)
    xp.multiply(s, 1 / 6, out=s)


def _hardswish(xp: Any, x: Array, y: Array, t: Array) -> None:
    _hardsigmoid(xp, x, t)
    xp.multiply(x, t, out=y)


def _hardswish_slope(xp: Any, x: Array, s: Array, t: Array) -> None:
    """Write 0 up to -3, 1 from 3 on, else x/3 + 1/2."""
    xp.maximum(x, -3, out=s)
    xp.minimum(s, 3, out=s)
    xp.multiply(s, 1 / 3, out=s)
    xp.add(s, 0.5, out=s)
    xp.greater(x, -3, out=t)
    xp.multiply(s, t, out=s)
    xp.greater_equal(x, 3, out=t)
    xp.multiply(t, 0.5, out=t)
    xp.subtract(s, t, out=s)


def _log_sigmoid(xp: Any, x: Array, y: Array, t: Array) -> None:
    """Write min(x, 0) - log(1 + exp(-|x|))."""
    xp.abs(x, out=t)
    xp.multiply(t, -1, out=t)
    xp.exp(t, out=t)
    xp.log1p(t, out=t)
    xp.minimum(x, 0, out=y)
    xp.subtract(y, t, out=y)


def _log_sigmoid_slope(xp: Any, y: Array, s: Array) -> None:
    """Write σ(-x) = 1 - exp(y)."""
    xp.expm1(y, out=s)
    xp.multiply(s, -1, out=s)


def _exp_of_small(xp: Any, x: Array, w: Array) -> None:
    """Write exp(x), of numbers above 20 that of 20, whose square no type but float16 overflows."""
    xp.minimum(x, 20, out=w)
    xp.exp(w, out=w)


def _mish(xp: Any, x: Array, y: Array, t: Array, u: Array) -> None:
    """Write x·tanh(log(1 + exp(x))) = x·n / (n + 2), with n = w·(w + 2) and w = exp(x)."""
    _exp_of_small(xp, x, t)
    xp.add(t, 2, out=u)
    xp.multiply(t, u, out=t)
    xp.add(t, 2, out=u)
    xp.divide(t, u, out=t)
    xp.multiply(x, t, out=y)


def _mish_slope(xp: Any, x: Array, s: Array, t: Array, u: Array) -> None:
    """Write n / (n + 2) + 4·x·w·(w + 1) / (n + 2)²."""
    _exp_of_small(xp, x, t)
    xp.add(t, 2, out=s)
    xp.multiply(s, t, out=s)  # n
    xp.add(s, 2, out=u)
    xp.divide(s, u, out=s)
    xp.reciprocal(u, out=u)
    xp.multiply(u, u, out=u)
    xp.multiply(u, t, out=u)
    xp.add(t, 1, out=t)
    xp.multiply(u, t, out=u)
    xp.minimum(x, 20, out=t)
    xp.multiply(u, t, out=u)
    xp.multiply(u, 4, out=u)
    xp.add(s, u, out=s)


#: erfc(z)·exp(z²) = t·p(2t - 1) with t = 3 / (3 + z), for z ≥ 0: Chebyshev series of the two lengths, as polynomials
TAIL = {
    "float32": (
        2.2609878524e-5,
        7.0309889228e-5,
        -0.000169283526171,
        -0.000991123567515,
        -0.000410790347201,
        0.00893390719841,
        0.0398441002302,
        0.103490570754,
        0.196742658535,
        0.29446474468,
        0.358002304105,
    ),
    "float64": (
        1.343376127180342223e-9,
        -1.176635926295568597e-9,
        -1.317443684110056994e-8,
        1.662234916638524513e-8,
        7.241315287399993136e-8,
        -1.371877685731588329e-7,
        -3.27983892174816995e-7,
        9.225490794444182002e-7,
        1.580118948031330507e-6,
        -5.823839268597828114e-6,
        -0.00001013157868187257914,
        0.00003585391740143224645,
        0.00009225899998028777147,
        -0.0001827699129133707422,
        -0.001011353957982113586,
        -0.0004041388741101692376,
        0.008942411537958490051,
        0.03984258709567701731,
        0.1034890873003248678,
        0.1967427857013690564,
        0.2944648177232930046,
        0.3580023023627798947,
    ),
}


def _normal_tail(xp: Any, x: Array, q: Array, t: Array) -> None:
    """Write Φ(-|x|) = erfc(|x| / √2) / 2, the normal distribution's tail: it neither cancels nor overflows."""
    first, *others = TAIL["float64" if x.dtype.name == "float64" else "float32"]
    xp.abs(x, out=t)
    xp.minimum(t, 50, out=t)  # where it is 0 in every type
    xp.add(t, 3 * sqrt(2), out=t)
    xp.divide(3 * sqrt(2), t, out=t)
    xp.multiply(t, 2, out=t)
    xp.subtract(t, 1, out=t)
    xp.multiply(t, first, out=q)
    for coefficient in others[:-1]:
        xp.add(q, coefficient, out=q)
        xp.multiply(q, t, out=q)
    xp.add(q, others[-1], out=q)
    xp.add(t, 1, out=t)
    xp.multiply(q, t, out=q)
    xp.multiply(q, 0.25, out=q)
    _bell(xp, x, t)
    xp.multiply(q, t, out=q)


def _bell(xp: Any, x: Array, t: Array) -> None:
    """Write exp(-x²/2); above 50 it is as good as 0."""
    _hardtanh(xp, x, t, -50, 50)
    xp.multiply(t, t, out=t)
    xp.multiply(t, -0.5, out=t)
    xp.exp(t, out=t)


def _gelu(xp: Any, x: Array, y: Array, t: Array, u: Array) -> None:
    """Write x·Φ(x) = max(x, 0) - |x|·Φ(-|x|)."""
    _normal_tail(xp, x, t, u)
    xp.abs(x, out=u)
    xp.multiply(t, u, out=t)
    xp.maximum(x, 0, out=y)
    xp.subtract(y, t, out=y)


def _gelu_slope(xp: Any, x: Array, s: Array, t: Array, u: Array) -> None:
    """Write Φ(x) + x·φ(x)."""
    _normal_tail(xp, x, s, t)
    xp.greater(x, 0, out=t)  # Φ(x) = Φ(-|x|) where x ≤ 0, else 1 - Φ(-|x|)
    xp.multiply(t, -2, out=u)
    xp.add(u, 1, out=u)
    xp.multiply(s, u, out=s)
    xp.add(s, t, out=s)
    _bell(xp, x, t)
    _hardtanh(xp, x, u, -50, 50)
    xp.multiply(t, u, out=t)
    xp.multiply(t, 1 / sqrt(2 * pi), out=t)
    xp.add(s, t, out=s)


def _gelu_tanh_inner(xp: Any, x: Array, t: Array) -> None:
    """Write 2·√(2/π)·(x + 0.044715·x³), x at most 20: (1 + tanh(v)) / 2 is σ(2v)."""
    _hardtanh(xp, x, t, -20, 20)
    xp.multiply(t, t, out=t)
    xp.multiply(t, 0.044715, out=t)
    xp.add(t, 1, out=t)
    xp.multiply(t, 2 * sqrt(2 / pi), out=t)


def _gelu_tanh(xp: Any, x: Array, y: Array, t: Array, u: Array) -> None:
    """Write x·σ(2v), see :func:`_gelu_tanh_inner`."""
    _gelu_tanh_inner(xp, x, t)
    _hardtanh(xp, x, u, -20, 20)
    xp.multiply(t, u, out=t)
    _sigmoid(xp, t, u)
    xp.maximum(x, -20, out=t)
    xp.multiply(t, u, out=y)


def _gelu_tanh_slope(xp: Any, x: Array, s: Array, t: Array, u: Array) -> None:
    """Write σ + x·σ·(1 - σ)·2v', with σ = σ(2v), 1 - σ = σ(-2v) and 2v' = 2·√(2/π)·(1 + 3·0.044715·x²)."""
    _gelu_tanh_inner(xp, x, t)
    _hardtanh(xp, x, u, -20, 20)
    xp.multiply(t, u, out=s)
    xp.multiply(t, 3, out=t)
    xp.subtract(t, 4 * sqrt(2 / pi), out=t)  # 2v'
    xp.multiply(t, u, out=t)
    _sigmoid(xp, s, u)
    xp.multiply(s, -1, out=s)
    _sigmoid(xp, s, s)
    xp.multiply(t, s, out=t)
    xp.add(t, 1, out=t)
    xp.multiply(t, u, out=s)


def _threshold(xp: Any, x: Array, y: Array, c: float, d: float) -> None:
    """Write x where x > c, else d."""
    y[...] = xp.where(x > c, x, y.dtype.type(d))


def _threshold_slope(xp: Any, x: Array, s: Array, c: float, d: float) -> None:
    xp.greater(x, c, out=s)


FORMULAS = {
    "relu": Formula(_relu, _relu_slope, reads="y", mask=True),
    "leaky_relu": Formula(_leaky_relu, _leaky_relu_slope, reads="y", value_spare=1, constants=(0.01,)),
    "sigmoid": Formula(_sigmoid, _sigmoid_slope, reads="y"),
    "tanh": Formula(_tanh, _tanh_slope, reads="y"),
    "silu": Formula(_silu, _silu_slope, reads="x", value_spare=1, slope_spare=2),
    "elu": Formula(_elu, _elu_slope, reads="y", value_spare=1, slope_spare=1, constants=(1.0,)),
    "selu": Formula(_selu, _selu_slope, reads="y", value_spare=1, slope_spare=1),
    "celu": Formula(_celu, _celu_slope, reads="y", value_spare=1, slope_spare=1, constants=(1.0,)),
    "softplus": Formula(_softplus, _softplus_slope, reads="x", value_spare=2, slope_spare=1, constants=(1.0, 20.0)),
    "softsign": Formula(_softsign, _softsign_slope, reads="x", value_spare=1),
    "hardtanh": Formula(_hardtanh, _hardtanh_slope, reads="y", mask=True, slope_spare=1, constants=(-1.0, 1.0)),
    "relu6": Formula(_relu6, _relu6_slope, reads="y", mask=True, slope_spare=1),
    "hardsigmoid": Formula(_hardsigmoid, _hardsigmoid_slope, reads="y", slope_spare=1),
    "hardswish": Formula(_hardswish, _hardswish_slope, reads="x", value_spare=1, slope_spare=1),
    "log_sigmoid": Formula(_log_sigmoid, _log_sigmoid_slope, reads="y", value_spare=1),
    "mish": Formula(_mish, _mish_slope, reads="x", value_spare=2, slope_spare=2),
    "threshold": Formula(_threshold, _threshold_slope, reads="x", mask=True, constants=(0.0, 0.0)),
    "gelu": Formula(_gelu, _gelu_slope, reads="x", value_spare=2, slope_spare=2),
    "gelu_tanh": Formula(_gelu_tanh, _gelu_tanh_slope, reads="x", value_spare=2, slope_spare=2),
}


@lru_cache(maxsize=256)
def formula(kind: str) -> Formula:
    """Return the formula of a kind, with its constants, or raise a BackendError if there is none."""
    name, _, constants = kind.partition(":")
    if name not in FORMULAS:
        raise BackendError(f"there is no activation {name!r}; there are: {', '.join(FORMULAS)}")
    row, given = FORMULAS[name], tuple(map(float, filter(None, constants.split(","))))
    if len(given) > len(row.constants):
        raise BackendError(f"the activation {name!r} has {len(row.constants)} constants, got {kind!r}")
    c_and_d = given + row.constants[len(given) :]
    named = dict(zip("cd", c_and_d, strict=False))
    return row._replace(value=partial(row.value, **named), slope=partial(row.slope, **named), constants=c_and_d)


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
