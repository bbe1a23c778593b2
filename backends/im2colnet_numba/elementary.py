"""Elementary functions of one float32 number, without branches, so that LLVM makes vectors of loops that call them.

The C library's functions are called number by number. These follow Cody and Waite (Software Manual for the Elementary
Functions, 1980): a number is reduced by a multiple of log 2, whose digits are in two constants, a polynomial does the
rest (the coefficients are those of Moshier's Cephes), and the multiple becomes the exponent's bits. Sums must be made
in the order that is written: kernels that call them are compiled with ``IN_ORDER``. The error is below 1.5 units of the
last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from im2colnet_numba.compile import inlined

f, i = np.float32, np.int32
MAGIC = f(3 << 22)  # a float32 number plus it is rounded to a whole one, in its last bits
MAGIC_BITS = i(MAGIC.view(np.int32))
LOG2_E = f(1.44269504088896341)
LOG_2, LOG_2_REST = f(0.693359375), f(-2.12194440e-4)
LEAST, MOST = f(-104), f(89)  # exp of less is 0, of more infinite
ONE_BITS = i(127)
SQRT_HALF_BITS = i(0x3F3504F3)
MINUS_INFINITY, NAN = f(-np.inf), f(np.nan)


@inlined
def bits(x: Any) -> Any:
    """The bits of a number."""
    return f(x).view(np.int32)


@inlined
def number(n: Any) -> Any:
    """The number that has these bits."""
    return i(n).view(np.float32)


@inlined
def power(n: Any) -> Any:
    """2ⁿ, for n from -126 to 127."""
    return number(i(n + ONE_BITS) << 23)


@inlined
def reduced(x: Any) -> Any:
    """A whole number n, r = x - n·log 2 within ±log 2 / 2, and exp(r) - 1 - r."""
    shifted = x * LOG2_E + MAGIC
    n = shifted - MAGIC
    r = x - n * LOG_2
    r = r - n * LOG_2_REST
    p = f(1.9875691500e-4) * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    return i(bits(shifted) - MAGIC_BITS), r, p * r * r


@inlined
def exp(x: Any) -> Any:
    """exp(x), by two factors of 2ⁿ, since one would overflow before the result does."""
    x = LEAST if x < LEAST else x
    x = MOST if x > MOST else x
    n, r, rest = reduced(x)
    half = i(n >> 1)
    return (f(1) + (r + rest)) * power(half) * power(i(n - half))


@inlined
def expm1(x: Any) -> Any:
    """exp(x) - 1, exact near 0: ``2ⁿ·(exp(r) - 1) + (2ⁿ - 1)``, where ``2ⁿ = a·b`` and ``a·b - 1 = b·(a - 1/b)``."""
    x = LEAST if x < LEAST else x
    x = MOST if x > MOST else x
    n, r, rest = reduced(x)
    half = i(n >> 1)
    a, b, one_over_b = power(half), power(i(n - half)), power(i(half - n))
    return ((r + rest) * a + (a - one_over_b)) * b


@inlined
def log1p(x: Any) -> Any:
    """log(1 + x), exact near 0: what rounding 1 + x loses is added, divided by the slope."""
    u = f(1) + x
    lost = (x - (u - f(1))) / u
    e = i(i(bits(u) - SQRT_HALF_BITS) >> 23)
    m = number(i(bits(u) - i(e << 23))) - f(1)
    n = f(e)
    p = f(7.0376836292e-2) * m - f(1.1514610310e-1)
    p = p * m + f(1.1676998740e-1)
    p = p * m - f(1.2420140846e-1)
    p = p * m + f(1.4249322787e-1)
    p = p * m - f(1.6668057665e-1)
    p = p * m + f(2.0000714765e-1)
    p = p * m - f(2.4999993993e-1)
    p = p * m + f(3.3333331174e-1)
    p = p * m * m * m + n * LOG_2_REST - f(0.5) * m * m
    y = m + p + lost + n * LOG_2
    y = y if x > f(-1) else MINUS_INFINITY if x == f(-1) else NAN
    return x if x == -MINUS_INFINITY else y
