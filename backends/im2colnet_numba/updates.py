"""Updates of parameters: one pass over them for each rule of :mod:`im2colnet.optim`, which has the formulas.

After parameters ``p`` and gradient ``g`` a kernel takes the vectors of the optimizer's state, by their names, and then
the numbers of ``Optimizer.scalars``. A vector that a setting does not use is neither read nor written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np

from im2colnet.backend.updates import Updates
from im2colnet.errors import BackendError
from im2colnet_numba.compile import compiled

Array = np.ndarray


@compiled
def sgd(
    p: Array,
    g: Array,
    velocity: Array,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    share: float,
    sign: float,
) -> None:
    """``share`` is 1 - dampening, but 1 in the first step; ``sign`` is -1 to maximize, else 1."""
    number = p.dtype.type
    rate, mu, decay, of_step, sign = number(lr), number(momentum), number(weight_decay), number(share), number(sign)
    if momentum == 0:
        for i in range(p.size):
            p[i] -= rate * (sign * g[i] + decay * p[i])
    elif nesterov:
        for i in range(p.size):
            step = sign * g[i] + decay * p[i]
            v = mu * velocity[i] + of_step * step
            velocity[i] = v
            p[i] -= rate * (step + mu * v)
    else:
        for i in range(p.size):
            v = mu * velocity[i] + of_step * (sign * g[i] + decay * p[i])
            velocity[i] = v
            p[i] -= rate * v


@compiled
def adam(
    p: Array,
    g: Array,
    mean: Array,
    square: Array,
    max_square: Array,
    lr: float,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    c1: float,
    c2: float,
    amsgrad: bool,
    sign: float,
) -> None:
    """``c1`` is 1 - β1ᵗ and ``c2`` 1 - β2ᵗ."""
    number = p.dtype.type
    of_mean, new_mean, of_square, new_square = number(b1), number(1 - b1), number(b2), number(1 - b2)
    kept, decay = number(1 - lr * weight_decay if decoupled else 1), number(0 if decoupled else weight_decay)
    rate, root, least, sign = number(lr / c1), number(1 / np.sqrt(c2)), number(eps), number(sign)
    if amsgrad:
        for i in range(p.size):
            d = sign * g[i] + decay * p[i]
            m = of_mean * mean[i] + new_mean * d
            v = of_square * square[i] + new_square * d * d
            most = max_square[i]
            most = v if v > most or v != v else most
            mean[i], square[i], max_square[i] = m, v, most
            p[i] = kept * p[i] - rate * m / (np.sqrt(most) * root + least)
    else:
        for i in range(p.size):
            d = sign * g[i] + decay * p[i]
            m = of_mean * mean[i] + new_mean * d
            v = of_square * square[i] + new_square * d * d
            mean[i], square[i] = m, v
            p[i] = kept * p[i] - rate * m / (np.sqrt(v) * root + least)


@compiled
def rmsprop(
    p: Array,
    g: Array,
    square: Array,
    mean: Array,
    velocity: Array,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    sign: float,
) -> None:
    """The gradient's usual size is the root of its mean square, or with ``centered`` of its variance."""
    number = p.dtype.type
    rate, of_old, of_new, least = number(lr), number(alpha), number(1 - alpha), number(eps)
    mu, decay, sign, zero = number(momentum), number(weight_decay), number(sign), number(0)
    if centered:  # the mean first, by passes of their own, so that no loop has all the vectors
        for i in range(p.size):
            mean[i] = of_old * mean[i] + of_new * (sign * g[i] + decay * p[i])
    for i in range(p.size):
        d = sign * g[i] + decay * p[i]
        square[i] = of_old * square[i] + of_new * d * d
    if centered:
        for i in range(p.size):
            variance = square[i] - mean[i] * mean[i]
            variance = zero if variance < 0 else variance  # by rounding
            g[i] = (sign * g[i] + decay * p[i]) / (np.sqrt(variance) + least)
    else:
        for i in range(p.size):
            g[i] = (sign * g[i] + decay * p[i]) / (np.sqrt(square[i]) + least)
    if momentum == 0:
        for i in range(p.size):
            p[i] -= rate * g[i]
    else:
        for i in range(p.size):
            v = mu * velocity[i] + g[i]
            velocity[i] = v
            p[i] -= rate * v


@compiled
def adagrad(
    p: Array, g: Array, sum: Array, rate: float, weight_decay: float, initial: float, eps: float, sign: float
) -> None:
    """``rate`` is lr / (1 + (t - 1)·lr_decay); the sum of squares begins at ``initial``."""
    number = p.dtype.type
    step, decay, first, least, sign = number(rate), number(weight_decay), number(initial), number(eps), number(sign)
    for i in range(p.size):
        d = sign * g[i] + decay * p[i]
        s = sum[i] + d * d
        sum[i] = s
        p[i] -= step * d / (np.sqrt(s + first) + least)


#: for each rule its kernel, and the vectors of the state that it takes
RULES: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "sgd": (sgd, ("velocity",)),
    "adam": (adam, ("mean", "square", "max_square")),
    "rmsprop": (rmsprop, ("square", "mean", "velocity")),
    "adagrad": (adagrad, ("sum",)),
}


def update(rule: str, p: Array, g: Array, state: dict[str, Array], *scalars: float) -> None:
    """Call the kernel of a rule; in the place of a vector that the state does not have, which it leaves alone, is p."""
    kernel, vectors = RULES[rule]
    if not state.keys() <= set(vectors):
        raise BackendError(
            f"the kernel of the rule {rule!r} takes the vectors {', '.join(vectors)}; the optimizer's state_slots() are"
            f" ({', '.join(state)}). With rule = None the optimizer's update is called instead"
        )
    kernel(p, g, *(state.get(name, p) for name in vectors), *map(float, scalars))  # ints would be compiled for anew


class NumbaUpdates(Updates):
    """Updates on the CPU."""

    #: a rule is one pass, so nothing has to stay in cache; a call costs as much as some thousand numbers
    update_chunk: ClassVar[int] = 1 << 16
    updates: ClassVar[Mapping[str, Callable[..., None]]] = {rule: partial(update, rule) for rule in RULES}
