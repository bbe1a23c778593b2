"""Losses of networks that predict numbers, vectors or images."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.backend.foreign import to_host
from im2colnet.errors import DTypeError, NonFiniteError, ShapeError
from im2colnet.host import np
from im2colnet.layout import internal_axes
from im2colnet.losses.base import Loss
from im2colnet.types import Array, Shape

__all__ = ["MSELoss"]


class MSELoss(Loss):
    """Mean squared error, ``mean((output - target)²)`` over the batch and all numbers of a sample.

    Targets have the shape of the network's output, (N, features) or (N, C, H, W), and are taken as they are: integers
    are not scaled, unlike images of uint8.
    """

    stateless: ClassVar[bool] = True

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return targets of the output's shape as floating-point numbers of the host."""
        targets = to_host("targets", labels)
        if targets.dtype.kind not in "fiu":
            raise DTypeError(f"targets must be numbers, got {targets.dtype}")
        if targets.shape != tuple(output_shape):
            column = targets.shape == output_shape[:1] and output_shape[1:] == (1,)
            hint = "; make it so by targets[:, None]" if column else ""
            raise ShapeError(
                f"targets must have the shape of the network's output, {tuple(output_shape)}, got {targets.shape}{hint}"
            )
        kept = targets.dtype.name in ("float16", "float32", "float64")
        targets = np.asarray(targets, dtype=targets.dtype.name if kept else "float64")  # in this machine's byte order
        if not np.isfinite(targets).all():
            first = next(i for i, target in enumerate(targets) if not np.isfinite(target).all())
            raise NonFiniteError(f"target {first} holds NaN or infinity")
        return targets

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss] and ``doutput`` to scale · 2/numbers · (output - target)."""
        xp, share = backend.xp, scale * output.shape[-1] / output.size  # of a single number in the mean
        difference = xp.subtract(output, targets.transpose(internal_axes(targets.ndim)), out=doutput)
        metrics[0] = share * xp.square(difference, dtype="float64").sum()
        if doutput is not None:
            xp.multiply(difference, 2 * share, out=doutput)
