"""Losses of classifiers: of images, and of each pixel."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.backend.foreign import to_host
from im2colnet.checks import LOWEST, number, numbers, one_of
from im2colnet.errors import DTypeError, NonFiniteError, ShapeError
from im2colnet.host import np
from im2colnet.layout import channel_axis, internal_axes
from im2colnet.losses.base import Loss, of_classes, wide
from im2colnet.types import Array, Shape

__all__ = ["CrossEntropyLoss", "FocalLoss", "NLLLoss"]

IGNORED = -1  # the number that replaces ignored labels in the targets


class ClassLoss(Loss):
    """Base of the losses that compare the scores of classes with labels.

    The network's output is (N, classes), or (N, classes, ...) for a class of each pixel. With the log-probabilities
    ``z`` of the classes, the loss of the label ``y`` is a function of ``z[y]`` times ``weight[y]``.

    Parameters
    ----------
    weight : (classes,) sequence of float, optional
        The weight of each class, in the sum and in its divisor.
    ignore_index : int
        A label that is ignored in the loss and the accuracy. A batch that has only this label has the loss 0.
    reduction : {"mean", "sum"}
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    #: whether the network gives log-probabilities, to which no softmax is applied
    normalized: ClassVar[bool] = False
    #: whether the mean is divided by the sum of the labels' weights, and not by their number
    weighted_mean: ClassVar[bool] = True
    # the defaults for a user's own class that does not take these arguments
    weight: tuple[float, ...] | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.weight = numbers("weight", weight, least=LOWEST)
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
            raise ShapeError(f"ignore_index must be an integer, got {ignore_index!r}")
        self.ignore_index = int(ignore_index)
        self.reduction = one_of("reduction", reduction, "mean", "sum")

    def _value(self, xp: Any, z: Array) -> Array:
        """Return the loss as a function of the log-probability of the right class."""
        return -z

    def _slope(self, xp: Any, z: Array) -> Array:
        """Return the derivative of :meth:`_value`."""
        return -xp.ones_like(z)

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return labels (N, 1, ...), 0 to classes - 1, and -1 for those that are ignored, as an array of the host.

        For an output (N, classes), labels without ignored ones are returned as (N,).
        """
        found = to_host("labels", labels)
        if found.dtype.kind not in "iu":
            raise DTypeError(f"labels must be integers, got {found.dtype}")
        n, classes, *places = output_shape
        if found.shape != (n, *places):
            if places and found.shape == (n,):
                raise ShapeError(
                    "the loss needs class scores (N, classes), but the network gives images: end it with Flatten() and"
                    f" Linear(...), or give a label for each pixel, {(n, *places)}"
                )
            each = "pixel" if places else "image"
            raise ShapeError(f"labels must have shape {(n, *places)}, one for each {each}, got {found.shape}")
        self._check_weight(classes)
        largest = int(found.view(found.dtype.str.replace("i", "u")).max())  # negative labels are large, unsigned
        if largest >= classes or 0 <= self.ignore_index < classes:
            ignored = found == self.ignore_index
            kept = found[~ignored]
            low, high = (int(kept.min()), int(kept.max())) if kept.size else (0, 0)
            if low < 0 or high >= classes:
                raise ShapeError(
                    f"labels must be 0 to {classes - 1} for {classes} network outputs, got {low} to {high}"
                )
            found = np.where(ignored, IGNORED, found.astype(np.int64))
            return found[:, None]
        return found[:, None] if places else found

    def _check_weight(self, classes: int) -> None:
        if self.weight is not None and len(self.weight) != classes:
            raise ShapeError(f"weight has {len(self.weight)} numbers, but the network gives {classes} classes")

    def totals(self, targets: np.ndarray) -> tuple[float, int]:
        """Return the sum of the weights of all labels that are not ignored, and their number."""
        counted = targets.size if targets.ndim == 1 else int(np.count_nonzero(targets >= 0))
        if self.reduction == "sum":
            return 1, counted
        if self.weight is None or not self.weighted_mean:
            return counted or 1, counted
        weights = np.array([*self.weight, 0.0])[targets]  # the last one is the weight of IGNORED, -1
        total = float(weights.sum())
        if not total and weights.any():
            raise NonFiniteError(
                "the weights of the batch's labels, some of which are negative, add up to 0, and the mean loss is"
                " divided by their sum: use other weights, or reduction='sum'"
            )
        return total or 1.0, counted

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss, right predictions] and ``doutput`` to the gradient of the first.

        Parameters
        ----------
        output : (classes, n) or (H, classes, W, n)
        targets : (n, 1, ...) or (n,) integer, or probabilities (n, classes, ...)
        scale : float
        metrics : (2,) float64, written
        doutput : array like ``output``, or None, written
        backend : Backend
        """
        xp, axis = backend.xp, channel_axis(output.shape)
        z = self._log_probabilities(output, axis, xp)
        q, right = self._wanted(targets, z, axis, backend)
        metrics[0] = scale * self._terms(xp, q, z).sum(dtype="float64")
        metrics[1] = (output.argmax(axis=axis) == right).sum()
        if doutput is not None:
            q *= self._slope(xp, z)
            if not self.normalized:
                q -= xp.exp(z) * q.sum(axis=axis, keepdims=True)
            doutput[...] = q * scale

    def _log_probabilities(self, output: Array, axis: int, xp: Any) -> Array:
        z = wide(output)
        if self.normalized:
            return z
        z = z - z.max(axis=axis, keepdims=True)
        z -= xp.log(xp.exp(z).sum(axis=axis, keepdims=True))
        return z

    def _terms(self, xp: Any, q: Array, z: Array) -> Array:
        """Return the term of each class in the sum, from its weight and its log-probability, which may be -infinity."""
        terms: Array = q * self._value(xp, xp.where(q != 0, z, 0))
        return terms

    def each(self, output: Array, targets: Array, backend: Backend) -> tuple[Array, Array | None]:
        """Return the loss of each label and its weight, without the axis of the classes."""
        xp, axis = backend.xp, channel_axis(output.shape)
        z = self._log_probabilities(output, axis, xp)
        q, _ = self._wanted(targets, z, axis, backend)
        losses = self._terms(xp, q, z).sum(axis=axis)
        if targets.dtype.kind == "f":
            return losses, None
        _, counts = labelled(targets, z, backend)
        if self.weight is not None and self.weighted_mean:
            counts = counts * of_classes(self.weight, z, backend)
        return losses, counts.sum(axis=axis)

    def _wanted(self, targets: Array, z: Array, axis: int, backend: Backend) -> tuple[Array, Array]:
        """Return the weight of each class's term in the sum, like ``z``, and the right classes without that axis."""
        if targets.dtype.kind != "f":
            labels, is_label = labelled(targets, z, backend)
            q, kept, right = is_label.astype(z.dtype), labels != IGNORED, labels.squeeze(axis)
        else:
            q = z.copy()
            q[...] = targets.transpose(internal_axes(z.ndim))
            kept, right = None, q.argmax(axis=axis)
        if self.label_smoothing:
            q *= 1 - self.label_smoothing
            q += self.label_smoothing / z.shape[axis]
        if self.weight is not None:
            q *= of_classes(self.weight, z, backend)
        if self.label_smoothing and kept is not None:
            q *= kept
        return q, right

    def probabilities(self, output: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes (N, classes, ...) in float64: the softmax of their scores."""
        scores = output.astype(np.float64)
        if not self.normalized:
            scores -= scores.max(axis=1, keepdims=True)
            scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return np.exp(scores, out=scores)

    def random_targets(self, output_shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return random labels for class scores (N, classes, ...)."""
        n, classes, *places = output_shape
        return rng.integers(0, classes, (n, *places))


def labelled(targets: Array, output: Array, backend: Backend) -> tuple[Array, Array]:
    """Return labels along the axes of the output, with one class, and whether each class is the class of the label."""
    labels = targets.reshape(len(targets), 1, *targets.shape[2:]).transpose(internal_axes(output.ndim))
    return labels, labels == of_classes(range(output.shape[channel_axis(output.shape)]), output, backend)


class CrossEntropyLoss(ClassLoss):
    """Cross-entropy: minus the logarithm of the softmax probability of the right class.

    It is the mean of ``-log softmax(scores)[label]``, as in PyTorch. Logarithm and softmax are computed together,
    without log(0) and without overflow. The network's outputs are scores of the classes (logits), (N, classes) or (N,
    classes, ...). Labels are integers, (N,) or (N, ...), the class of each image or pixel from 0; or probabilities of
    the classes, in the shape of the scores. Its gradient with respect to the scores is
    ``softmax(scores) - onehot(label)``, divided by the number of labels.

    Parameters
    ----------
    weight : (classes,) sequence of float, optional
        The weight of each class. The divisor of the mean is the sum of the weights of the labels; for probabilities it
        is the number of images or pixels.
    ignore_index : int
        A label that is ignored in the loss and the accuracy. A batch that has only this label has the loss 0.
    reduction : {"mean", "sum"}
        Whether the losses of all labels are averaged or added up.
    label_smoothing : float
        The fraction of each label, from 0 to 1, that is spread evenly over all classes (Szegedy et al. 2016,
        arXiv:1512.00567, section 7).

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if labels or weights do not suit the network's output.
    DTypeError
        In training, if labels are neither integers nor probabilities.
    NonFiniteError
        In training, if probabilities hold NaN or infinity, or the weights of a batch's labels add up to 0.

    Examples
    --------
    >>> sure, undecided = [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    >>> scores = np.array([sure, undecided])
    >>> found = ic.CrossEntropyLoss().measure(scores, [0, 1])
    >>> round(found["loss"], 3), found["accuracy"]  # half of log(3)
    (0.549, 0.5)
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = number("label_smoothing", label_smoothing)
        if self.label_smoothing > 1:
            raise ShapeError(f"label_smoothing must be a number from 0 to 1, got {label_smoothing!r}")

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return class labels (N, ...), or probabilities of the shape of the output, as an array of the host."""
        found = to_host("labels", labels)
        if found.dtype.kind != "f" or found.shape != tuple(output_shape):
            return super().targets(found, output_shape)
        self._check_weight(output_shape[1])
        if not np.isfinite(found).all():
            raise NonFiniteError("labels hold NaN or infinity, where they must be probabilities of the classes")
        low, high = found.min(), found.max()
        if low < 0 or high > 1:
            raise ShapeError(f"labels must be integers, or probabilities from 0 to 1, got {low:g} to {high:g}")
        return found.astype(np.promote_types(found.dtype.name, "float32"), copy=False)

    def totals(self, targets: np.ndarray) -> tuple[float, int]:
        """Return the sum of the weights of the labels (for probabilities, their number), and the number of labels."""
        if targets.dtype.kind != "f":
            return super().totals(targets)
        counted = targets.size // targets.shape[1]
        return 1 if self.reduction == "sum" else counted, counted

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        if output.ndim == 2 and targets.ndim == 1 and self.weight is None and not self.label_smoothing:
            backend.cross_entropy(output, targets, scale, out=metrics, dlogits=doutput)
        else:
            super().__call__(output, targets, scale, metrics, doutput, backend)


class NLLLoss(ClassLoss):
    """Negative log-likelihood: cross-entropy for a network that outputs log-probabilities, as after ``LogSoftmax``.

    It is the mean of ``-z[label]`` for log-probabilities ``z`` of the classes, (N, classes) or (N, classes, ...), as in
    PyTorch. For scores use :class:`CrossEntropyLoss`.

    Parameters
    ----------
    weight : (classes,) sequence of float, optional
        The weight of each class. The divisor of the mean is the sum of the weights of the labels.
    ignore_index : int
        A label that is ignored in the loss and the accuracy.
    reduction : {"mean", "sum"}
        Whether the losses of all labels are averaged or added up.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if labels or weights do not suit the network's output.
    DTypeError
        In training, if labels are not integers.
    NonFiniteError
        In training, if the weights of a batch's labels add up to 0.

    Examples
    --------
    >>> probabilities = np.array([[0.5, 0.25, 0.25]])
    >>> ic.NLLLoss().measure(np.log2(probabilities), [1])  # in bits
    {'loss': 2.0, 'accuracy': 0.0}
    """

    normalized: ClassVar[bool] = True


class FocalLoss(ClassLoss):
    """Focal loss: cross-entropy with less weight for easy labels (Lin et al. 2017, arXiv:1708.02002, equation 4).

    It is the mean of ``-(1 - p)^gamma · log p`` for the probability ``p`` of the label, the softmax of the scores. With
    ``gamma=0`` it is the cross-entropy, except that the divisor of the mean is the number of labels, whatever their
    weights.

    Parameters
    ----------
    gamma : float
        The exponent, at least 0. With a larger exponent, easy labels have less weight.
    weight : (classes,) sequence of float, optional
        The weight of each class, ``alpha`` in the paper.
    ignore_index : int
        A label that is ignored in the loss and the accuracy.
    reduction : {"mean", "sum"}
        Whether the losses of all labels are averaged or added up.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training also if labels or weights do not suit the network's output.
    DTypeError
        In training, if labels are not integers.

    Examples
    --------
    >>> easy, hard = np.array([[4.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> for loss in ic.FocalLoss(), ic.CrossEntropyLoss():
    ...     found = [loss.measure(x, [0])["loss"] for x in (easy, hard)]
    ...     print([round(number, 5) for number in found])
    [1e-05, 0.17329]
    [0.01815, 0.69315]
    """

    weighted_mean: ClassVar[bool] = False

    def __init__(
        self, gamma: float = 2.0, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.gamma = number("gamma", gamma)

    def _value(self, xp: Any, z: Array) -> Array:
        return -((-xp.expm1(z)) ** self.gamma) * z

    def _slope(self, xp: Any, z: Array) -> Array:
        rest = xp.maximum(-xp.expm1(z), 1e-37)  # 1 - p; not 0, for powers below 1
        return self.gamma * xp.exp(z) * z * rest ** (self.gamma - 1) - rest**self.gamma
