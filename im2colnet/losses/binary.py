"""Losses for binary classification, and for several binary labels per sample."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import LOWEST, numbers
from im2colnet.errors import ShapeError
from im2colnet.host import np
from im2colnet.layout import internal_axes
from im2colnet.losses.base import of_classes, wide
from im2colnet.losses.regression import ElementwiseLoss
from im2colnet.types import Array, Shape

__all__ = ["BCEWithLogitsLoss"]


class BCEWithLogitsLoss(ElementwiseLoss):
    """Binary cross-entropy of scores (logits), for one or several binary labels of each sample or pixel.

    It is the mean of ``-[pos_weight · t · log σ(x) + (1 - t) · log(1 - σ(x))]`` for scores x and targets t from 0 to 1,
    where σ is the sigmoid, as in PyTorch. It is computed without log(0) and without overflow. Targets have the shape of
    the network's output, (N, classes) or (N, classes, H, W). The accuracy is the fraction of all elements in which the
    score is above 0 exactly if the target is above 0.5.

    Parameters
    ----------
    weight : (classes,) sequence of float, optional
        The factor of the loss of each class.
    reduction : {"mean", "sum"}
        Whether the losses are averaged over batch and classes, or added up.
    pos_weight : (classes,) sequence of float, optional
        The factor of the first term, for positive targets, of each class.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if targets are not from 0 to 1, or do not have the shape of
        the output.
    DTypeError
        In training, if targets are not numbers.
    NonFiniteError
        In training, if targets hold NaN or infinity.

    Examples
    --------
    >>> scores, answers = np.array([[2.0, -1.0]]), [[1, 1]]
    >>> found = ic.BCEWithLogitsLoss().measure(scores, answers)
    >>> round(found["loss"], 3), found["accuracy"]
    (0.72, 0.5)
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.weight, self.pos_weight = (
            numbers(name, given, least=LOWEST) for name, given in {"weight": weight, "pos_weight": pos_weight}.items()
        )

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return targets of the output's shape, from 0 to 1, as floating-point numbers of the host."""
        labels = np.asarray(labels, "uint8") if getattr(labels, "dtype", None) == np.bool_ else labels
        targets = super().targets(labels, output_shape)
        if targets.min() < 0 or targets.max() > 1:
            raise ShapeError(f"targets must be 0 to 1, got {targets.min():g} to {targets.max():g}")
        for name in "weight", "pos_weight":
            given = getattr(self, name)
            if given is not None and len(given) not in (1, output_shape[1]):
                raise ShapeError(f"{name} has {len(given)} numbers, but the network gives {output_shape[1]} classes")
        return targets

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss, right answers] and ``doutput`` to the gradient of the first."""
        xp, share = backend.xp, self._share(scale, output)
        x = wide(output)
        t = targets.transpose(internal_axes(targets.ndim)).astype(x.dtype)

        pos_weight = None if self.pos_weight is None else of_classes(self.pos_weight, x, backend)
        loss, factor, tail = binary_cross_entropy(xp, x, t, pos_weight)
        weight = None if self.weight is None else of_classes(self.weight, x, backend)
        if weight is not None:
            loss *= weight
        metrics[0] = share * loss.sum(dtype="float64")
        metrics[1] = ((output > 0) == (t > 0.5)).sum()
        if doutput is not None:
            negative = xp.where(x > 0, tail, 1) / (1 + tail)  # σ(-x)
            slope = (1 - t) - factor * negative
            if weight is not None:
                slope *= weight
            doutput[...] = slope * share

    def each(self, output: Array, targets: Array, backend: Backend) -> tuple[Array, None]:
        """Return the losses of all elements."""
        x = wide(output)
        weight, pos_weight = (
            None if given is None else of_classes(given, x, backend) for given in (self.weight, self.pos_weight)
        )
        t = targets.transpose(internal_axes(targets.ndim)).astype(x.dtype)
        losses, _, _ = binary_cross_entropy(backend.xp, x, t, pos_weight)
        return losses if weight is None else losses * weight, None

    def random_targets(self, output_shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return random answers, 0 or 1, for an output (N, ...)."""
        return rng.integers(0, 2, output_shape)


def binary_cross_entropy(xp: Any, x: Array, t: Array, pos_weight: Array | None) -> tuple[Array, Any, Array]:
    """Return the losses of scores x and targets t, the factor of -log σ(x), and exp(-|x|)."""
    tail = xp.exp(-xp.abs(x))  # σ(-|x|) is tail / (1 + tail)
    softplus = xp.log1p(tail) + xp.maximum(-x, 0)  # -log σ(x)
    factor = 1 if pos_weight is None else (pos_weight - 1) * t + 1
    return (1 - t) * x + factor * softplus, factor, tail
