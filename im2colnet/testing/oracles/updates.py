"""One step of each optimizer, as PyTorch's documentation writes it.

Each takes the parameter, the gradient, what the step before has kept, an empty tuple at first, and the number ``t`` of
the step, from 1; it returns the new parameter and what it keeps.
"""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def sgd_step(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    t: int,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    dampening: float = 0.0,
    maximize: bool = False,
) -> tuple[Any, tuple[Any, ...]]:
    """SGD keeps the velocity."""
    p, g = floats(p, g)
    g = (-g if maximize else g) + weight_decay * p
    velocity = momentum * state[0] + (1 - dampening) * g if state else g
    if momentum == 0:
        return p - lr * g, (velocity,)
    return p - lr * (g + momentum * velocity if nesterov else velocity), (velocity,)


def adam_step(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    t: int,
    *,
    lr: float = 1e-3,
    betas: Any = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
) -> tuple[Any, tuple[Any, ...]]:
    """Adam keeps both moments, and the largest second one so far."""
    p, g = floats(p, g)
    m, v, v_max = state or (0.0, 0.0, 0.0)
    g = (-g if maximize else g) + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    v_max = np.maximum(v_max, v)
    m_hat = m / (1 - betas[0] ** t)
    v_hat = (v_max if amsgrad else v) / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), (m, v, v_max)


def adamw_step(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    t: int,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    **settings: Any,
) -> tuple[Any, tuple[Any, ...]]:
    """Adam with the decay applied to the parameter itself, not to its gradient."""
    p, g = floats(p, g)
    return adam_step(p * (1 - lr * weight_decay), g, state, t, lr=lr, **settings)


def rmsprop_step(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    t: int,
    *,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> tuple[Any, tuple[Any, ...]]:
    """RMSprop keeps the mean square, the mean and the velocity."""
    p, g = floats(p, g)
    s, m, v = state or (0.0, 0.0, 0.0)
    g = (-g if maximize else g) + weight_decay * p
    s = alpha * s + (1 - alpha) * g**2
    m = alpha * m + (1 - alpha) * g
    v = momentum * v + g / (np.sqrt(s - m**2 if centered else s) + eps)
    return p - lr * v, (s, m, v)


def adagrad_step(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    t: int,
    *,
    lr: float = 0.01,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> tuple[Any, tuple[Any, ...]]:
    """Adagrad keeps the sum of squares."""
    p, g = floats(p, g)
    g = (-g if maximize else g) + weight_decay * p
    s = (state[0] if state else initial_accumulator_value) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s) + eps), (s,)
