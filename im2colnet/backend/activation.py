"""Elementwise functions: a table of formulas behind two kernels.

A function ``y = f(x)`` is a row of :data:`FORMULAS`. Its *kind*, a string, names the row; constants follow a colon, as
in ``"leaky_relu:0.2"`` and ``"hardtanh:-1,1"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from math import factorial, inf, pi, sqrt
from operator import setitem
from typing import Any, ClassVar, Literal, NamedTuple

from im2colnet.backend.arrays import Arrays
from im2colnet.backend.kernel import kernel, like
from im2colnet.errors import BackendError
from im2colnet.types import Array, Call, Spec

#: natural logarithm of the largest number of each element type, rounded down: exp of more would overflow
LARGEST_EXPONENT = {"float16": 11.0, "bfloat16": 88.0, "float32": 88.0, "float64": 709.0}


class Formula(NamedTuple):
    """An elementwise function, as expressions over arrays that allocate nothing.

    Parameters
    ----------
    value : callable
        ``value(xp, x, y, *spare)`` writes f(x) into y, which may be x.
    slope : callable
        ``slope(xp, read, s, *spare)`` writes f'(x) into s.
    reads : {"x", "y"}
        Which array ``read`` is: the input of f, or its output.
    mask : bool
        Whether the slope is 0 or 1.
    value_spare : int
        Number of spare arrays that ``value`` needs.
    slope_spare : int
        Number of spare arrays that ``slope`` needs.
    constants : tuple of float
        The default values of the constants c and d of ``value`` and ``slope``.
    both : callable, optional
        ``both(xp, x, y, s, *spare)`` writes f(x) into y, which may be x, and f'(x) into s; the common part is computed
        once.
    both_spare : int
        Number of spare arrays that ``both`` needs.
    positive : bool
        Whether f is defined for positive numbers only, or has a pole at 0.
    """

    value: Callable[..., Any]
    slope: Callable[..., Any]
    reads: Literal["x", "y"]
    mask: bool = False
    value_spare: int = 0
    slope_spare: int = 0
    constants: tuple[float, ...] = ()
    both: Callable[..., Any] | None = None
    both_spare: int = 0
    positive: bool = False


def _relu(xp: Any, x: Array, y: Array) -> None:
    x.clip(0, inf, out=y)


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
    x.clip(-LARGEST_EXPONENT[y.dtype.name], inf, out=y)
    xp.multiply(y, -1, out=y)
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
    x.clip(-LARGEST_EXPONENT[x.dtype.name], inf, out=t)
    xp.multiply(t, -1, out=y)
    xp.exp(y, out=y)
    xp.add(y, 1, out=y)
    xp.divide(t, y, out=y)


def _silu_both(xp: Any, x: Array, y: Array, s: Array, t: Array) -> None:
    """Write the slope σ + y·(1 - σ), with σ = σ(x), too."""
    x.clip(-LARGEST_EXPONENT[x.dtype.name], inf, out=t)
    xp.multiply(t, -1, out=s)
    xp.exp(s, out=s)
    xp.add(s, 1, out=s)
    xp.divide(1, s, out=s)
    xp.multiply(t, s, out=y)
    xp.subtract(1, s, out=t)
    xp.multiply(t, y, out=t)
    xp.add(s, t, out=s)


def _elu(xp: Any, x: Array, y: Array, t: Array, c: float, scale: float = 1.0, stretch: float = 1.0) -> None:
    """Write scale·x where x > 0, else scale·c·(exp(x / stretch) - 1)."""
    _times(xp, x, 1 / stretch, t, 0)
    xp.expm1(t, out=t)
    if scale * c != 1:
        xp.multiply(t, scale * c, out=t)
    x.clip(0, inf, out=y)
    if scale != 1:
        xp.multiply(y, scale, out=y)
    xp.add(y, t, out=y)


def _elu_slope(xp: Any, y: Array, s: Array, t: Array, c: float, scale: float = 1.0, stretch: float = 1.0) -> None:
    """Write scale where y > 0, else (y + scale·c) / stretch."""
    y.clip(-inf, 0, out=s)
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


#: of each element type, the z above which log(1 + exp(z)) and z are the same number
LARGEST_LOG1P = {"float16": 8.0, "bfloat16": 6.0, "float32": 17.0, "float64": 37.0}


def _softplus(xp: Any, x: Array, y: Array, t: Array, u: Array, c: float, d: float) -> None:
    """Write log(1 + exp(c·x)) / c, and x where c·x > d: log(1 + exp(-|c·x|)) + max(c·x, 0) does not overflow."""
    xp.abs(x, out=t)
    _times(xp, t, c, t, 1000)
    xp.multiply(t, -1, out=t)
    xp.exp(t, out=t)
    xp.log1p(t, out=t)
    if c != 1:
        xp.multiply(t, 1 / c, out=t)
    if d < LARGEST_LOG1P[x.dtype.name]:  # else the two are the same number there
        xp.greater(x, d / c, out=u)
        xp.equal(u, 0, out=u)
        xp.multiply(t, u, out=t)
    x.clip(0, inf, out=y)
    xp.add(y, t, out=y)


def _softplus_both(xp: Any, x: Array, y: Array, s: Array, t: Array, u: Array, c: float, d: float) -> None:
    """Write the slope 1 - exp(-c·y), and 1 where c·x > d, too."""
    far = d < LARGEST_LOG1P[x.dtype.name]
    if far:
        xp.greater(x, d / c, out=u)
    _softplus(xp, x, y, t, s, c, d)
    _times(xp, y, c, s, 1000)
    xp.multiply(s, -1, out=s)
    xp.expm1(s, out=s)
    xp.multiply(s, -1, out=s)
    if far:
        xp.maximum(s, u, out=s)


def _times(xp: Any, x: Array, c: float, t: Array, most: float) -> None:
    """Write c·x, at most ``most`` and at least a number whose exponential is as good as 0."""
    x.clip(-1000 / c, most / c, out=t)
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
    x.clip(c, d, out=y)


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


def _hardswish_both(xp: Any, x: Array, y: Array, s: Array, t: Array) -> None:
    """Write the slope too: 0 up to -3, 1 from 3 on, else x/3 + 1/2."""
    xp.multiply(x, 1 / 3, out=s)
    s.clip(-1, 1, out=s)
    xp.multiply(s, 0.5, out=t)
    xp.add(t, 0.5, out=t)
    xp.multiply(x, t, out=y)
    xp.trunc(s, out=t)  # 0 but at the ends, -1 and 1
    xp.multiply(t, -0.5, out=t)
    xp.add(t, 0.5, out=t)
    xp.add(s, t, out=s)


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
    """Write exp(x) with x clipped to at most 20, or 5 in 16 bits, so that its square does not overflow."""
    x.clip(-inf, 20 if x.dtype.itemsize > 2 else 5, out=w)
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
    x.clip(-inf, 20, out=t)
    xp.multiply(u, t, out=u)
    xp.multiply(u, 4, out=u)
    xp.add(s, u, out=s)


#: Mills' ratio Φ(-a) / φ(a) of the normal distribution, as p(a) / q(a) for a from 0 to ``far``, from where on Φ(-a) is
#: as good as 0. The largest relative error is 3.5e-7 in float32, 1.5e-13 in float64: fitted for this library by least
#: squares of the relative error, whose weights were moved to where it is largest (Lawson 1961).
MILLS: dict[str, dict[str, Any]] = {
    "float32": {
        "far": 13.0,
        "p": (0.99986940446700923, 7.0458027221200483, 21.404805175423987, 29.695264383499624),
        "q": (1, 7.0406667578484016, 22.488406226490405, 35.982751573804150, 23.693401144650082),
    },
    "float64": {
        "far": 38.0,
        "p": (
            0.99999999945659939,
            19.103159568671217,
            177.09990142380209,
            1011.9784839816048,
            3820.177919266261,
            9532.3317194779382,
            14700.074180207721,
            11132.575484406858,
        ),
        "q": (
            1,
            19.103159483208740,
            178.09990728178592,
            1031.0814099247738,
            3995.2839393414153,
            10505.991068670746,
            18177.584697756105,
            18816.179901613189,
            8882.5101009820042,
        ),
    },
}


def _polynomial(xp: Any, a: Array, coefficients: Sequence[float], p: Array) -> None:
    """Write the polynomial of a with these coefficients, the highest power first."""
    first, second, *others = coefficients
    if first == 1:
        xp.add(a, second, out=p)
    else:
        xp.multiply(a, first, out=p)
        xp.add(p, second, out=p)
    for coefficient in others:
        xp.multiply(p, a, out=p)
        xp.add(p, coefficient, out=p)


def _normal(xp: Any, x: Array, a: Array, f: Array, p: Array) -> None:
    """Write a = |x|, the normal distribution's density f = φ(a), and its tail p = Φ(-a), which does not cancel."""
    mills = MILLS["float64" if x.dtype.name == "float64" else "float32"]
    xp.abs(x, out=a)
    a.clip(0, mills["far"], out=a)
    _polynomial(xp, a, mills["p"], p)
    _polynomial(xp, a, mills["q"], f)
    xp.divide(p, f, out=p)
    xp.multiply(a, a, out=f)
    xp.multiply(f, -0.5, out=f)
    xp.exp(f, out=f)
    xp.multiply(f, 1 / sqrt(2 * pi), out=f)
    xp.multiply(p, f, out=p)


def _gelu(xp: Any, x: Array, y: Array, a: Array, f: Array, p: Array) -> None:
    _normal(xp, x, a, f, p)
    _gelu_of_tail(xp, x, y, a, p)


def _gelu_both(xp: Any, x: Array, y: Array, s: Array, a: Array, f: Array, p: Array) -> None:
    _normal(xp, x, a, f, p)
    _gelu_slope_of_tail(xp, x, s, a, f, p)
    _gelu_of_tail(xp, x, y, a, p)


def _gelu_of_tail(xp: Any, x: Array, y: Array, a: Array, p: Array) -> None:
    """Write x·Φ(x) = max(x, 0) - |x|·Φ(-|x|)."""
    xp.multiply(a, p, out=p)
    x.clip(0, inf, out=y)
    xp.subtract(y, p, out=y)


def _gelu_slope_of_tail(xp: Any, x: Array, s: Array, a: Array, f: Array, p: Array) -> None:
    """Write Φ(x) + x·φ(x) = 1/2 ± (1/2 - Φ(-|x|) + |x|·φ(x)), by the sign of x."""
    xp.multiply(a, f, out=s)
    xp.subtract(s, p, out=s)
    xp.add(s, 0.5, out=s)
    _give_sign(xp, x, s, f)
    xp.add(s, 0.5, out=s)


def _give_sign(xp: Any, x: Array, s: Array, t: Array) -> None:
    """Write s ≥ 0 with the sign of x over s, as ``copysign`` does, for which NumPy has no vector instructions."""
    kind = f"i{x.itemsize}"
    bits, sign = s.view(kind), t.view(kind)
    xp.bitwise_and(x.view(kind), -1 << 8 * x.itemsize - 1, out=sign)
    xp.bitwise_or(bits, sign, out=bits)


#: of each element type, the x for which GELU's tanh form of -x and of all numbers below is as good as 0: σ(2v) is about
#: exp(-LARGEST_EXPONENT) at -x
GELU_TANH_FAR = {"float16": 4.0, "bfloat16": 10.0, "float32": 10.0, "float64": 21.0}
#: c and d of 2v = c·x + d·x³, where v = √(2/π)·(x + 0.044715·x³) and (1 + tanh(v)) / 2 = σ(2v)
GELU_TANH = 2 * sqrt(2 / pi), 2 * sqrt(2 / pi) * 0.044715


def _gelu_tanh_sigma(xp: Any, x: Array, t: Array, u: Array) -> None:
    """Write t = σ(2v), and u = x within ±GELU_TANH_FAR."""
    far, (c, d) = GELU_TANH_FAR[x.dtype.name], GELU_TANH
    x.clip(-far, far, out=u)
    xp.multiply(u, u, out=t)
    xp.multiply(t, -d, out=t)
    xp.subtract(t, c, out=t)
    xp.multiply(t, u, out=t)
    xp.exp(t, out=t)
    xp.add(t, 1, out=t)
    xp.divide(1, t, out=t)


def _gelu_tanh(xp: Any, x: Array, y: Array, t: Array, u: Array) -> None:
    """Write x·σ(2v)."""
    _gelu_tanh_sigma(xp, x, t, u)
    x.clip(-GELU_TANH_FAR[x.dtype.name], inf, out=u)
    xp.multiply(u, t, out=y)


def _gelu_tanh_both(xp: Any, x: Array, y: Array, s: Array, t: Array, u: Array, w: Array) -> None:
    _gelu_tanh_sigma(xp, x, t, u)
    _gelu_tanh_slope_of_sigma(xp, s, t, u, w)
    x.clip(-GELU_TANH_FAR[x.dtype.name], inf, out=u)
    xp.multiply(u, t, out=y)


def _gelu_tanh_slope_of_sigma(xp: Any, s: Array, t: Array, u: Array, w: Array) -> None:
    """Write s = σ·(1 + x·(1 - σ)·2v'), with σ = σ(2v) in t and x in u."""
    c, d = GELU_TANH
    xp.multiply(u, u, out=s)
    xp.multiply(s, 3 * d, out=s)
    xp.add(s, c, out=s)  # 2v'
    xp.multiply(s, u, out=s)
    xp.subtract(1, t, out=w)
    xp.multiply(s, w, out=s)
    xp.add(s, 1, out=s)
    xp.multiply(s, t, out=s)


def _threshold(xp: Any, x: Array, y: Array, t: Array, u: Array, c: float, d: float) -> None:
    """Write x where x > c, else d."""
    kind = f"i{x.itemsize}"
    mask = t.view(kind)
    xp.greater(x, c, out=mask)
    xp.equal(mask, 0, out=u)
    xp.multiply(x.view(kind), mask, out=y.view(kind))  # as integers, since infinity times 0 is NaN
    xp.multiply(u, d, out=u)
    xp.add(y, u, out=y)


def _threshold_slope(xp: Any, x: Array, s: Array, c: float, d: float) -> None:
    xp.greater(x, c, out=s)


def _exp(xp: Any, x: Array, y: Array) -> None:
    xp.exp(x, out=y)


def _exp_slope(xp: Any, y: Array, s: Array) -> None:
    s[...] = y


def _log(xp: Any, x: Array, y: Array) -> None:
    xp.log(x, out=y)


def _log_slope(xp: Any, x: Array, s: Array) -> None:
    xp.reciprocal(x, out=s)


def _sqrt(xp: Any, x: Array, y: Array) -> None:
    xp.sqrt(x, out=y)


def _sqrt_slope(xp: Any, y: Array, s: Array) -> None:
    xp.divide(0.5, y, out=s)


def _abs(xp: Any, x: Array, y: Array) -> None:
    xp.abs(x, out=y)


def _abs_slope(xp: Any, x: Array, s: Array) -> None:
    xp.sign(x, out=s)


def _neg(xp: Any, x: Array, y: Array) -> None:
    xp.negative(x, out=y)


def _neg_slope(xp: Any, y: Array, s: Array) -> None:
    s[...] = -1


def _reciprocal(xp: Any, x: Array, y: Array) -> None:
    xp.reciprocal(x, out=y)


def _reciprocal_slope(xp: Any, y: Array, s: Array) -> None:
    """Write -y²."""
    xp.multiply(y, y, out=s)
    xp.negative(s, out=s)


def _square(xp: Any, x: Array, y: Array) -> None:
    xp.multiply(x, x, out=y)


def _square_slope(xp: Any, x: Array, s: Array) -> None:
    xp.add(x, x, out=s)


def _sin(xp: Any, x: Array, y: Array) -> None:
    xp.sin(x, out=y)


def _cos(xp: Any, x: Array, y: Array) -> None:
    xp.cos(x, out=y)


def _cos_slope(xp: Any, x: Array, s: Array) -> None:
    xp.sin(x, out=s)
    xp.negative(s, out=s)


#: erf is computed by its Taylor series up to this x, with a number of terms for each element type
ERF_NEAR = 0.5
ERF_TERMS = {"float16": 5, "bfloat16": 5, "float32": 7, "float64": 12}
#: an x for which erf is as good as 1
ERF_FAR = 10.0


def _erf(xp: Any, x: Array, y: Array, t: Array, a: Array, f: Array, p: Array) -> None:
    """Write ±(1 - 2·Φ(-√2·|x|)), and near 0, where that cancels, 2/√π · Σ (-1)ⁿ x²ⁿ⁺¹ / (n!·(2n + 1))."""
    x.clip(-ERF_FAR, ERF_FAR, out=t)
    xp.multiply(t, sqrt(2), out=y)
    _normal(xp, y, a, f, p)
    xp.multiply(p, -2, out=p)
    xp.add(p, 1, out=p)
    _give_sign(xp, t, p, f)
    t.clip(-ERF_NEAR, ERF_NEAR, out=a)
    xp.multiply(a, a, out=f)
    terms = [2 / sqrt(pi) * (-1) ** n / (factorial(n) * (2 * n + 1)) for n in range(ERF_TERMS[x.dtype.name])]
    _polynomial(xp, f, terms[::-1], y)
    xp.multiply(y, a, out=y)
    xp.abs(t, out=f)
    xp.less(f, ERF_NEAR, out=f)
    xp.multiply(y, f, out=y)
    xp.subtract(1, f, out=f)
    xp.multiply(p, f, out=p)
    xp.add(y, p, out=y)


def _erf_slope(xp: Any, x: Array, s: Array) -> None:
    """Write 2/√π · exp(-x²)."""
    x.clip(-ERF_FAR, ERF_FAR, out=s)
    xp.multiply(s, s, out=s)
    xp.negative(s, out=s)
    xp.exp(s, out=s)
    xp.multiply(s, 2 / sqrt(pi), out=s)


def _shared(
    value: Callable[..., Any],
    both: Callable[..., Any],
    value_spare: int,
    both_spare: int,
    constants: tuple[float, ...] = (),
) -> Formula:
    """Return the formula of a function whose value and slope ``both`` writes; ``slope`` throws the value away."""

    def slope(xp: Any, x: Array, s: Array, y: Array, *spare: Array, **c_and_d: float) -> None:
        both(xp, x, y, s, *spare, **c_and_d)

    return Formula(value, slope, "x", False, value_spare, both_spare + 1, constants, both, both_spare)


FORMULAS = {
    "relu": Formula(_relu, _relu_slope, reads="y", mask=True),
    "leaky_relu": Formula(_leaky_relu, _leaky_relu_slope, reads="y", value_spare=1, constants=(0.01,)),
    "sigmoid": Formula(_sigmoid, _sigmoid_slope, reads="y"),
    "tanh": Formula(_tanh, _tanh_slope, reads="y"),
    "silu": _shared(_silu, _silu_both, value_spare=1, both_spare=1),
    "elu": Formula(_elu, _elu_slope, reads="y", value_spare=1, slope_spare=1, constants=(1.0,)),
    "selu": Formula(_selu, _selu_slope, reads="y", value_spare=1, slope_spare=1),
    "celu": Formula(_celu, _celu_slope, reads="y", value_spare=1, slope_spare=1, constants=(1.0,)),
    "softplus": _shared(_softplus, _softplus_both, value_spare=2, both_spare=2, constants=(1.0, 20.0)),
    "softsign": Formula(_softsign, _softsign_slope, reads="x", value_spare=1),
    "hardtanh": Formula(_hardtanh, _hardtanh_slope, reads="y", mask=True, slope_spare=1, constants=(-1.0, 1.0)),
    "relu6": Formula(_relu6, _relu6_slope, reads="y", mask=True, slope_spare=1),
    "hardsigmoid": Formula(_hardsigmoid, _hardsigmoid_slope, reads="y", slope_spare=1),
    "hardswish": _shared(_hardswish, _hardswish_both, value_spare=1, both_spare=1),
    "log_sigmoid": Formula(_log_sigmoid, _log_sigmoid_slope, reads="y", value_spare=1),
    "mish": Formula(_mish, _mish_slope, reads="x", value_spare=2, slope_spare=2),
    "threshold": Formula(_threshold, _threshold_slope, reads="x", mask=True, value_spare=2, constants=(0.0, 0.0)),
    "gelu": _shared(_gelu, _gelu_both, value_spare=3, both_spare=3),
    "gelu_tanh": _shared(_gelu_tanh, _gelu_tanh_both, value_spare=2, both_spare=3),
    "exp": Formula(_exp, _exp_slope, reads="y"),
    "log": Formula(_log, _log_slope, reads="x", positive=True),
    "sqrt": Formula(_sqrt, _sqrt_slope, reads="y", positive=True),
    "abs": Formula(_abs, _abs_slope, reads="x"),
    "neg": Formula(_neg, _neg_slope, reads="y"),
    "reciprocal": Formula(_reciprocal, _reciprocal_slope, reads="y", positive=True),
    "square": Formula(_square, _square_slope, reads="x"),
    "erf": Formula(_erf, _erf_slope, reads="x", value_spare=4),
    "sin": Formula(_sin, _cos, reads="x"),
    "cos": Formula(_cos, _cos_slope, reads="x"),
}


@lru_cache(maxsize=256)
def formula(kind: str) -> Formula:
    """Return the formula of a kind of function, with its constants.

    Parameters
    ----------
    kind : str
        A name in :data:`FORMULAS`, with constants after a colon, as in "leaky_relu:0.2".

    Returns
    -------
    Formula
        The formula with its constants.

    Raises
    ------
    BackendError
        If there is no such function, or there are too many constants.
    """
    name, _, constants = kind.partition(":")
    if name not in FORMULAS:
        raise BackendError(f"there is no activation {name!r}; there are: {', '.join(FORMULAS)}")
    row, given = FORMULAS[name], tuple(map(float, filter(None, constants.split(","))))
    if len(given) > len(row.constants):
        raise BackendError(f"the activation {name!r} has {len(row.constants)} constants, got {kind!r}")
    c_and_d = given + row.constants[len(given) :]
    named = dict(zip("cd", c_and_d, strict=False))
    value, slope, both = partial(row.value, **named), partial(row.slope, **named), row.both
    return row._replace(value=value, slope=slope, constants=c_and_d, both=both and partial(both, **named))


def _value_scratch(backend: Any, x: Spec, kind: str) -> list[Spec]:
    return [x] * formula(kind).value_spare


def _slope_scratch(backend: Any, read: Spec, dy: Spec, kind: str) -> list[Spec]:
    row = formula(kind)
    return [Spec(dy.shape, "bool" if row.mask else dy.dtype)] + [dy] * row.slope_spare


def _both_scratch(backend: Any, x: Spec, kind: str, slope: Any = None) -> list[Spec]:
    row = formula(kind)
    return [x] * (row.both_spare if row.both else max(row.value_spare, row.slope_spare))


class Activation(Arrays):
    """Kernels of elementwise functions."""

    #: names of the functions that ``conv2d`` and ``channel_affine`` apply themselves, as their ``activation``
    epilogues: ClassVar[frozenset[str]] = frozenset(name for name, row in FORMULAS.items() if not row.value_spare)

    #: names of the functions whose slope a training step's forward pass writes, so that backward only multiplies by it
    slopes: ClassVar[frozenset[str]] = frozenset()

    def saves_slope(self, kind: str) -> bool:
        """Whether a training step saves the slope of this kind of activation in place of its input."""
        return kind.partition(":")[0] in self.slopes

    def fuses(self, kind: str | None) -> bool:
        """Whether ``conv2d`` and ``channel_affine`` take this kind of activation."""
        return kind is not None and kind.partition(":")[0] in self.epilogues

    @kernel(result=like("x"), scratch=_value_scratch)
    def activation(self, x: Array, kind: str, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        """Write ``y = f(x)``, f being the function that ``kind`` names; ``out`` may be ``x``."""
        yield partial(formula(kind).value, self.xp, x, out, *scratch)

    @kernel(result=like("x"), scratch=_both_scratch, writes=("slope",))
    def activation_and_slope(
        self, x: Array, kind: str, slope: Array = None, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Write ``y = f(x)``, and ``f'(x)`` into ``slope``; ``out`` may be ``x``."""
        row, xp = formula(kind), self.xp
        if row.both:
            yield partial(row.both, xp, x, out, slope, *scratch)
            return
        value = partial(row.value, xp, x, out, *scratch[: row.value_spare])
        of_slope = partial(row.slope, xp, x if row.reads == "x" else out, slope, *scratch[: row.slope_spare])
        yield from (of_slope, value) if row.reads == "x" else (value, of_slope)

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
