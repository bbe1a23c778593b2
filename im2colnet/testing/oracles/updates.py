"""One step of each optimiser, as PyTorch's documentation writes it."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def sgd_step(
    p: Any,
    g: Any,
    velocity: Any = None,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Any:
    """Return the new parameter and velocity; ``velocity`` is None in the first step."""
    p, g = floats(p, g)
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g, None
    velocity = g if velocity is None else momentum * velocity + g
    return p - lr * (g + momentum * velocity if nesterov else velocity), velocity


def adam_step(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    t: int,
    *,
    lr: float = 1e-3,
    betas: Any = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Any:
    """Return the new parameter and moments; m and v start at 0 and t, the number of this step, at 1."""
    p, g = floats(p, g)
    g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat = m / (1 - betas[0] ** t)
    v_hat = v / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def adamw_step(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    t: int,
    *,
    lr: float = 1e-3,
    betas: Any = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Any:
    """Adam with the decay applied to the parameter itself, not to its gradient."""
    p, g = floats(p, g)
    return adam_step(p * (1 - lr * weight_decay), g, m, v, t, lr=lr, betas=betas, eps=eps)
