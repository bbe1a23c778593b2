"""Losses of the overlap of regions, for segmentation."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.checks import more_than_zero
from im2colnet.host import np
from im2colnet.layout import channel_axis
from im2colnet.losses.base import wide
from im2colnet.losses.classification import IGNORED, ClassLoss, labelled
from im2colnet.types import Array

__all__ = ["DiceLoss"]


class DiceLoss(ClassLoss):
    """Dice loss: one minus the overlap of regions, for segmentation with classes of few pixels (Milletari 2016).

    It is ``1 - (2 Σ p·t + smooth) / (Σ p + Σ t + smooth)``, averaged over the classes and the batch. The sums run over
    the pixels of an image, p are the probabilities of a class, the softmax of the network's output (N, classes, H, W),
    and t is 1 where the label (N, H, W) is that class. The output can also be (N, classes). The paper
    (arXiv:1606.04797, section 3) has squares in the denominator and no ``smooth``.

    Parameters
    ----------
    smooth : float
        A number above 0 that keeps the fraction defined for classes that an image does not contain.
    ignore_index : int
        A label that is ignored in the loss and the accuracy.
    reduction : {"mean", "sum"}
        Whether the losses of the images are averaged or added up.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if labels do not suit the network's output.
    DTypeError
        In training, if labels are not integers.

    Examples
    --------
    >>> labels = np.array([[[0, 0], [0, 1]]])  # an image of 2×2 pixels
    >>> right = 20.0 * np.stack([labels == 0, labels == 1], axis=1)
    >>> dice = ic.DiceLoss().measure
    >>> [round(dice(scores, labels)["loss"], 3) for scores in (right, -right)]
    [0.0, 0.8]
    """

    def __init__(self, smooth: float = 1.0, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(None, ignore_index, reduction)
        self.smooth = more_than_zero("smooth", smooth)

    def totals(self, targets: np.ndarray) -> tuple[float, int]:
        """Return the number of samples, and the number of labels that are not ignored."""
        _, counted = super().totals(targets)
        return 1 if self.reduction == "sum" else len(targets), counted

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss, right predictions] and ``doutput`` to the gradient of the first."""
        axis = channel_axis(output.shape)
        classes = output.shape[axis]
        labels, t = labelled(targets, output, backend)
        metrics[1] = (output.argmax(axis=axis) == labels.squeeze(axis)).sum()
        p, kept, overlap, whole = self._overlaps(output, labels, t, backend.xp)
        metrics[0] = scale * (1 - overlap / whole).sum() / classes
        if doutput is not None:
            slope = kept * (overlap / whole - 2 * t) / (whole * classes)
            slope = slope.astype(p.dtype)
            slope -= (slope * p).sum(axis=axis, keepdims=True)
            doutput[...] = slope * p * scale

    def each(self, output: Array, targets: Array, backend: Backend) -> tuple[Array, None]:
        """Return the loss of each sample."""
        labels, t = labelled(targets, output, backend)
        _, _, overlap, whole = self._overlaps(output, labels, t, backend.xp)
        return (1 - overlap / whole).reshape(-1, output.shape[-1]).mean(axis=0), None

    def _overlaps(self, output: Array, labels: Array, t: Array, xp: Any) -> tuple[Array, Array, Array, Array]:
        """Return the probabilities, which labels count, and numerator and denominator for each class and sample."""
        axis = channel_axis(output.shape)
        pixels = tuple(i for i in range(output.ndim - 1) if i != axis)
        z = wide(output)
        p = xp.exp(z - z.max(axis=axis, keepdims=True))
        p /= p.sum(axis=axis, keepdims=True)
        kept = labels != IGNORED
        overlap = 2 * (p * t).sum(axis=pixels, keepdims=True, dtype="float64") + self.smooth
        whole = (p * kept).sum(axis=pixels, keepdims=True, dtype="float64")
        whole += t.sum(axis=pixels, keepdims=True) + self.smooth
        return p, kept, overlap, whole
