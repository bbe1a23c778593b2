"""Products with a matrix."""

from __future__ import annotations

from math import prod

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.functional.arguments import check_rank, check_vector, on_arrays
from im2colnet.types import Array

__all__ = ["linear"]


@on_arrays("input", "weight", "bias")
def linear(backend: Backend, input: Array, weight: Array, bias: Array | None = None) -> Array:
    """Linear map ``y = x Wᵀ + b`` of each vector x along the last axis.

    Parameters
    ----------
    input : Array, (..., in_features)
        Vectors.
    weight : Array, (out_features, in_features)
        The matrix W.
    bias : Array, (out_features,), optional
        Vector b, which is added to each product.

    Returns
    -------
    Array, (..., out_features)
        The products.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[2.0, 3.0], [0.0, 1.0]])
    >>> F.linear(x, np.array([[1.0, 10.0]]), np.array([0.5]))
    array([[32.5],
           [10.5]])
    """
    check_rank("weight", weight, 2, meaning=", (out_features, in_features)")
    if not input.ndim or input.shape[-1] != weight.shape[1]:
        raise ShapeError(f"input must end in the {weight.shape[1]} features that weight takes, got shape {input.shape}")
    check_vector("bias", bias, len(weight), "output feature")
    *places, K = input.shape
    x = backend.xp.ascontiguousarray(input).reshape(prod(places), K)
    y = backend.matmul(x, weight.T) if x.size and weight.size else backend.xp.zeros((len(x), len(weight)), x.dtype)
    if bias is not None:
        y += bias
    return y.reshape(*places, len(weight))
