"""Losses that compare every element of the output with a target."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.foreign import to_host
from im2colnet.checks import more_than_zero, number, one_of
from im2colnet.errors import DTypeError, NonFiniteError, ShapeError
from im2colnet.host import np
from im2colnet.layout import internal_axes
from im2colnet.losses.base import Loss
from im2colnet.types import Array, Shape

__all__ = ["HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss"]


class ElementwiseLoss(Loss):
    """Base of the losses that are the mean of a function of output and target, over the batch and all elements.

    Targets have the shape of the network's output, (N, features) or (N, C, H, W), and are not scaled: integers stay as
    they are, unlike images of uint8.

    Parameters
    ----------
    reduction : {"mean", "sum"}
    """

    reduction: str = "mean"  # the default for a user's own class that takes no arguments

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = one_of("reduction", reduction, "mean", "sum")

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

    def totals(self, targets: np.ndarray) -> tuple[float, int]:
        """Return the number of samples, or 1 if the losses are added up, and the number of elements."""
        return 1 if self.reduction == "sum" else len(targets), targets.size

    def _share(self, scale: float, output: Array) -> float:
        """Return the factor of a single element in the sum."""
        share: float = scale if self.reduction == "sum" else scale * output.shape[-1] / output.size
        return share


class DifferenceLoss(ElementwiseLoss):
    """Base of the losses that are a function of the difference between output and target."""

    def _value(self, xp: Any, difference: Array) -> Array:
        """Return the function in float64."""
        raise NotImplementedError(f"{type(self).__name__} must define _value(xp, difference)")

    def _slope(self, xp: Any, difference: Array) -> None:
        """Overwrite the difference by the function's derivative."""
        raise NotImplementedError(f"{type(self).__name__} must define _slope(xp, difference)")

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss] and ``doutput`` to the gradient of that."""
        xp, share = backend.xp, self._share(scale, output)
        difference = xp.subtract(output, targets.transpose(internal_axes(targets.ndim)), out=doutput)
        metrics[0] = share * self._value(xp, difference).sum()
        if doutput is not None:
            self._slope(xp, difference)
            xp.multiply(difference, share, out=doutput)

    def each(self, output: Array, targets: Array, backend: Backend) -> tuple[Array, None]:
        """Return the losses of all elements in float64."""
        difference = output - targets.transpose(internal_axes(targets.ndim))
        return self._value(backend.xp, difference), None


class MSELoss(DifferenceLoss):
    """Mean squared error, ``mean((output - target)²)`` over the batch and all elements of a sample.

    Targets have the shape of the network's output, (N, features) or (N, C, H, W), and are not scaled: integers stay as
    they are, unlike images of uint8.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Whether the squares are averaged or added up.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if targets do not have the shape of the output.
    DTypeError
        In training, if targets are not numbers.
    NonFiniteError
        In training, if targets hold NaN or infinity.

    Examples
    --------
    >>> ic.MSELoss().measure(np.array([[1.0, 2.0]]), [[0.0, 4.0]])
    {'loss': 2.5}
    """

    def _value(self, xp: Any, difference: Array) -> Array:
        return xp.square(difference, dtype="float64")

    def _slope(self, xp: Any, difference: Array) -> None:
        xp.multiply(difference, 2, out=difference)


class L1Loss(DifferenceLoss):
    """Mean absolute error, ``mean(|output - target|)`` over the batch and all elements of a sample.

    Its gradient is 0 where output and target are equal. Targets are as for :class:`MSELoss`.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Whether the differences are averaged or added up.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if targets do not have the shape of the output.
    DTypeError
        In training, if targets are not numbers.
    NonFiniteError
        In training, if targets hold NaN or infinity.

    Examples
    --------
    >>> ic.L1Loss().measure(np.array([[1.0, 2.0]]), [[0.0, 4.0]])
    {'loss': 1.5}
    """

    def _value(self, xp: Any, difference: Array) -> Array:
        return xp.abs(difference).astype("float64")

    def _slope(self, xp: Any, difference: Array) -> None:
        xp.sign(difference, out=difference)


class HuberLoss(DifferenceLoss):
    """Huber loss: squared error for small differences, absolute error for large ones (Huber 1964).

    It is the mean, over the batch and all elements of a sample, of ``d²/2`` of the difference ``d`` where ``|d|`` is at
    most ``delta``, and of ``delta · (|d| - delta/2)`` beyond (doi:10.1214/aoms/1177703732). So outliers have less
    weight. Targets are as for :class:`MSELoss`.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Whether the losses are averaged or added up.
    delta : float
        The difference, above 0, from which on the loss grows linearly, in the unit of the targets.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if targets do not have the shape of the output.
    DTypeError
        In training, if targets are not numbers.
    NonFiniteError
        In training, if targets hold NaN or infinity.

    Examples
    --------
    >>> outputs, targets = np.array([[0.5], [10.0]]), [[0.0], [0.0]]
    >>> ic.HuberLoss(delta=1.0).measure(outputs, targets)  # 0.125 and 9.5
    {'loss': 4.8125}
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = more_than_zero("delta", delta)

    def _value(self, xp: Any, difference: Array) -> Array:
        return _huber(xp, difference, self.delta)

    def _slope(self, xp: Any, difference: Array) -> None:
        xp.clip(difference, -self.delta, self.delta, out=difference)


def _huber(xp: Any, difference: Array, delta: float) -> Array:
    """Return ``d²/2`` where |d| is at most ``delta``, ``delta · (|d| - delta/2)`` beyond, in float64."""
    size = xp.abs(difference).astype("float64")
    near = xp.minimum(size, delta)
    return near * (size - near / 2)


class SmoothL1Loss(DifferenceLoss):
    """Smooth L1 loss: the Huber loss divided by ``beta`` (Girshick 2015, arXiv:1504.08083, equation 3).

    It is the mean, over the batch and all elements of a sample, of ``d²/(2 beta)`` of the difference ``d`` where
    ``|d|`` is less than ``beta``, and of ``|d| - beta/2`` beyond. Its slope is 1 for large differences. With ``beta=0``
    it is the L1 loss. Targets are as for :class:`MSELoss`.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Whether the losses are averaged or added up.
    beta : float
        The difference, at least 0, from which on the loss grows linearly, in the unit of the targets.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if targets do not have the shape of the output.
    DTypeError
        In training, if targets are not numbers.
    NonFiniteError
        In training, if targets hold NaN or infinity.

    Examples
    --------
    >>> outputs, targets = np.array([[1.0], [10.0]]), [[0.0], [0.0]]
    >>> ic.SmoothL1Loss(beta=2.0).measure(outputs, targets)  # 0.25 and 9
    {'loss': 4.625}
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number("beta", beta)

    def _value(self, xp: Any, difference: Array) -> Array:
        if not self.beta:
            return xp.abs(difference).astype("float64")
        return _huber(xp, difference, self.beta) / self.beta

    def _slope(self, xp: Any, difference: Array) -> None:
        if not self.beta:
            xp.sign(difference, out=difference)
        else:
            xp.multiply(difference, 1 / self.beta, out=difference)
            xp.clip(difference, -1, 1, out=difference)
