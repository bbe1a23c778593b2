"""Metrics: functions of a network's outputs and the targets, for :meth:`im2colnet.Trainer.evaluate` and ``fit``.

N samples, C classes or channels. Every function takes the outputs first and the targets second. The functions that
compare classes accept three kinds of outputs:

- scores (N, C, ...) for integer targets (N, ...): the predicted class is the class with the highest score, or the first
  of several with equal scores; ``...`` is empty for images, (H, W) for pixels. With C = 1 there are two classes, and a
  score above 0 means 1;
- floating-point scores, or booleans, of the targets' shape, (N, C) or (N, C, H, W): C binary answers, yes or no. A
  score above 0 and a target above 0.5 mean yes, as for :class:`im2colnet.BCEWithLogitsLoss`;
- integers of the targets' shape: the predicted classes, as for scikit-learn.

The values agree with scikit-learn. A fraction 0/0, such as the precision of a class that was never predicted, is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from im2colnet.arrays import host_array
from im2colnet.checks import one_of, whole
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.host import np
from im2colnet.text import class_names

__all__ = [
    "Metric",
    "accuracy",
    "class_report",
    "confusion_matrix",
    "dice",
    "f1_score",
    "iou",
    "mean_absolute_error",
    "precision",
    "r2_score",
    "recall",
    "root_mean_squared_error",
    "top_k_accuracy",
]

#: a function ``metric(outputs, targets)`` that returns a number; for several outputs its arguments are tuples
Metric: TypeAlias = Callable[[Any, Any], float]
IGNORED = -100  #: the default of the target that is ignored, as in the losses


# ---------------------------------------------------------------------- classes


def accuracy(outputs: Any, targets: Any, ignore_index: int = IGNORED) -> float:
    """Return the accuracy: the fraction of correct predictions, of images or of pixels.

    Parameters
    ----------
    outputs : (N, C, ...) scores, or (N, ...) classes
        The network's outputs.
    targets : (N, ...) integers, or (N, C, ...) answers
        The true classes or answers.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, or a class is out of range.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> ic.metrics.accuracy([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [0, 1, 1])
    0.6666666666666666
    """
    guesses, labels, _ = _compared(outputs, targets, ignore_index)
    return float(_ratio(np.count_nonzero(guesses == labels), labels.size))


def top_k_accuracy(outputs: Any, targets: Any, k: int = 5, ignore_index: int = IGNORED) -> float:
    """Return the fraction of samples whose class is among the ``k`` classes with the highest scores.

    Among equal scores the first class counts as the highest, so that ``k=1`` gives :func:`accuracy`.

    Parameters
    ----------
    outputs : (N, C, ...) scores
        The network's outputs.
    targets : (N, ...) integers
        The true classes.
    k : int
        The number of classes with the highest scores that count.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, or a class is out of range.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> scores = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]
    >>> [ic.metrics.top_k_accuracy(scores, [0, 1], k) for k in (1, 2)]
    [0.5, 1.0]
    """
    scores, labels = host_array("outputs", outputs), host_array("targets", targets)
    if scores.ndim != labels.ndim + 1:
        raise ShapeError(f"outputs must be scores (N, classes) for targets (N,), got {scores.shape} for {labels.shape}")
    _, kept, _ = _compared(scores, labels, ignore_index)
    scores = np.moveaxis(scores, 1, -1)[labels != ignore_index]  # (samples, C)
    own = np.take_along_axis(scores, kept[:, None], axis=1)
    before = np.arange(scores.shape[1]) < kept[:, None]
    rank = np.count_nonzero((scores > own) | (before & (scores == own)), axis=1)
    return float(_ratio(np.count_nonzero(rank < whole("k", k)), len(kept)))


def precision(outputs: Any, targets: Any, average: str | None = "macro", ignore_index: int = IGNORED) -> Any:
    """Return the precision, ``TP / (TP + FP)``: the fraction of the predictions of a class that are correct.

    Parameters
    ----------
    outputs : (N, C, ...) scores, or (N, ...) classes
        The network's outputs.
    targets : (N, ...) integers, or (N, C, ...) answers
        The true classes or answers.
    average : {"macro", "weighted", "micro"}, optional
        "macro" is the mean over the classes that occur in targets or predictions, or over all binary answers.
        "weighted" is the mean weighted by the number of targets of each class. "micro" is the fraction computed from
        the counts of all classes together. None returns an array with the value of each class.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float, or (C,) array
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, a class is out of range, or the average is unknown.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> guesses, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    >>> ic.metrics.precision(guesses, labels, average=None)
    array([0.66666667, 1.        ])
    """
    found = _Counts.of(outputs, targets, ignore_index)
    return found.score(found.right, found.predicted, average)


def recall(outputs: Any, targets: Any, average: str | None = "macro", ignore_index: int = IGNORED) -> Any:
    """Return the recall, ``TP / (TP + FN)``: the fraction of the samples of a class that are found.

    Parameters
    ----------
    outputs : (N, C, ...) scores, or (N, ...) classes
        The network's outputs.
    targets : (N, ...) integers, or (N, C, ...) answers
        The true classes or answers.
    average : {"macro", "weighted", "micro"}, optional
        The kind of average, see :func:`precision`.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float, or (C,) array
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, a class is out of range, or the average is unknown.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> guesses, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    >>> ic.metrics.recall(guesses, labels, average=None)
    array([1. , 0.5])
    """
    found = _Counts.of(outputs, targets, ignore_index)
    return found.score(found.right, found.support, average)


def f1_score(outputs: Any, targets: Any, average: str | None = "macro", ignore_index: int = IGNORED) -> Any:
    """Return F1, ``2 TP / (2 TP + FP + FN)``, the harmonic mean of precision and recall.

    Parameters
    ----------
    outputs : (N, C, ...) scores, or (N, ...) classes
        The network's outputs.
    targets : (N, ...) integers, or (N, C, ...) answers
        The true classes or answers.
    average : {"macro", "weighted", "micro"}, optional
        The kind of average, see :func:`precision`.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float, or (C,) array
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, a class is out of range, or the average is unknown.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> guesses, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    >>> ic.metrics.f1_score(guesses, labels, average=None)
    array([0.8       , 0.66666667])
    """
    found = _Counts.of(outputs, targets, ignore_index)
    return found.score(2 * found.right, found.predicted + found.support, average)


def dice(outputs: Any, targets: Any, average: str | None = "macro", ignore_index: int = IGNORED) -> Any:
    """Return the Dice coefficient of regions, ``2 |A ∩ B| / (|A| + |B|)``, which is F1 of their pixels.

    The pixels of all samples are counted together.

    Parameters
    ----------
    outputs : (N, C, H, W) scores, or (N, H, W) classes
        The network's outputs.
    targets : (N, H, W) integers, or (N, C, H, W) answers
        The true classes or answers.
    average : {"macro", "weighted", "micro"}, optional
        The kind of average, see :func:`precision`.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float, or (C,) array
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, a class is out of range, or the average is unknown.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> mask, truth = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    >>> mask[0, :2], truth[0, 1:3] = True, True  # one common row of two
    >>> ic.metrics.dice(mask.astype(int), truth.astype(int), average=None)
    array([0.5, 0.5])
    """
    return f1_score(outputs, targets, average, ignore_index)


def iou(outputs: Any, targets: Any, average: str | None = "macro", ignore_index: int = IGNORED) -> Any:
    """Return the intersection over union of regions, ``TP / (TP + FP + FN)``, also called the Jaccard index.

    The pixels of all samples are counted together.

    Parameters
    ----------
    outputs : (N, C, H, W) scores, or (N, H, W) classes
        The network's outputs.
    targets : (N, H, W) integers, or (N, C, H, W) answers
        The true classes or answers.
    average : {"macro", "weighted", "micro"}, optional
        The kind of average, see :func:`precision`.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    float, or (C,) array
        The value, from 0 to 1.

    Raises
    ------
    ShapeError
        If the shapes do not match, a class is out of range, or the average is unknown.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> mask, truth = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    >>> mask[0, :2], truth[0, 1:3] = True, True  # one row of three
    >>> ic.metrics.iou(mask.astype(int), truth.astype(int), average=None)
    array([0.33333333, 0.33333333])
    """
    found = _Counts.of(outputs, targets, ignore_index)
    return found.score(found.right, found.predicted + found.support - found.right, average)


def confusion_matrix(outputs: Any, targets: Any, classes: int | None = None, ignore_index: int = IGNORED) -> np.ndarray:
    """Return the confusion matrix: how often each class was predicted as each class.

    Parameters
    ----------
    outputs : (N, C, ...) scores, or (N, ...) classes
        The network's outputs.
    targets : (N, ...) integers
        The true classes.
    classes : int, optional
        The number of classes. The default is the number of classes of the scores, or the largest class plus 1.
    ignore_index : int
        The target value that is ignored where classes are compared.

    Returns
    -------
    (C, C) array of integers
        ``[i, j]`` is the number of samples of class i that were predicted as class j.

    Raises
    ------
    ShapeError
        If the shapes do not match, or a class is out of range.
    DTypeError
        If classes are compared and the targets are not integers.

    Examples
    --------
    >>> ic.metrics.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2])
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 0, 1]])
    """
    guesses, labels, found = _compared(outputs, targets, ignore_index)
    if guesses.ndim > 1 and guesses.shape[1] > 1:
        raise ShapeError(
            f"a confusion matrix needs one answer for each sample, got {guesses.shape[1]}: give one column"
        )
    guesses, labels = guesses.reshape(-1), labels.reshape(-1)
    size = found if classes is None else whole("classes", classes)
    if max(labels.max(initial=0), guesses.max(initial=0)) >= size:
        raise ShapeError(f"classes is {size}, but there is a class {max(labels.max(), guesses.max())}")
    return np.bincount(labels * size + guesses, minlength=size * size).reshape(size, size)


def class_report(matrix: Any, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return accuracy, precision, recall and F1 of each class.

    Parameters
    ----------
    matrix : (C, C) array
        The result of :func:`confusion_matrix`.
    classes : sequence of str
        The names of the first classes; only these classes are reported. Without names all classes are reported, by
        their numbers.

    Returns
    -------
    list of dict
        A dict for each class: ``class``; ``images`` and ``support``, the number of images of the class; ``correct``,
        the number of correctly predicted images; ``accuracy``, their fraction, None without images; ``precision``,
        ``recall``, ``f1``; ``mistaken_for``, the most frequent wrong prediction, and ``times``, its number.

    Raises
    ------
    ShapeError
        If the matrix is not square, or there are more names than classes.

    Examples
    --------
    >>> for row in ic.metrics.class_report([[8, 2], [0, 5]], ["cat", "dog"]):
    ...     print(row["class"], row["recall"], row["mistaken_for"])
    cat 0.8 dog
    dog 1.0 None
    """
    matrix = host_array("matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(classes) > len(matrix):
        raise ShapeError(f"matrix must be (classes, classes) for {len(classes)} names, got {matrix.shape}")
    names = class_names(classes, len(matrix))
    right, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - np.diag(right)
    scores = {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, support),
        "f1": _ratio(2 * right, predicted + support),
    }
    rows = []
    for i in range(len(classes) or len(matrix)):
        images, correct, times = int(support[i]), int(right[i]), int(wrong[i].max())
        rows.append(
            {
                "class": names[i],
                "images": images,
                "correct": correct,
                "accuracy": correct / images if images else None,
                **{name: float(values[i]) for name, values in scores.items()},
                "support": images,
                "mistaken_for": names[int(wrong[i].argmax())] if times else None,
                "times": times,
            }
        )
    return rows


# ---------------------------------------------------------------------- numbers


def mean_absolute_error(outputs: Any, targets: Any) -> float:
    """Return the mean absolute error, the mean of ``|output - target|`` over all elements.

    Parameters
    ----------
    outputs, targets : (N,), (N, outputs) or (N, C, H, W)
        Two arrays of the same shape.

    Returns
    -------
    float
        The error, in the unit of the targets.

    Raises
    ------
    ShapeError
        If outputs and targets have different shapes, or none.

    Examples
    --------
    >>> ic.metrics.mean_absolute_error([1.0, 2.0], [1.0, 5.0])
    1.5
    """
    return float(np.abs(np.subtract(*_numbers(outputs, targets))).mean())


def root_mean_squared_error(outputs: Any, targets: Any) -> float:
    """Return the root mean squared error, the square root of the mean of ``(output - target)²``.

    Parameters
    ----------
    outputs, targets : (N,), (N, outputs) or (N, C, H, W)
        Two arrays of the same shape. The root is computed for each output or channel; the result is the mean of the
        roots, as in scikit-learn.

    Returns
    -------
    float
        The error, in the unit of the targets.

    Raises
    ------
    ShapeError
        If outputs and targets have different shapes, or none.

    Examples
    --------
    >>> ic.metrics.root_mean_squared_error([4.0, 2.0], [1.0, 6.0])
    3.5355339059327378
    """
    squares = np.square(np.subtract(*_numbers(outputs, targets)))
    return float(np.sqrt(squares.mean(axis=0)).mean())


def r2_score(outputs: Any, targets: Any) -> float:
    """Return R², ``1 - Σ (output - target)² / Σ (target - mean)²``, the fraction of explained variance.

    Parameters
    ----------
    outputs, targets : (N,), (N, outputs) or (N, C, H, W)
        Two arrays of the same shape. The fraction is computed for each output or channel; the result is the mean of the
        fractions, as in scikit-learn. If all targets are equal, the fraction is 1 if the outputs equal them, else 0.

    Returns
    -------
    float
        The value: 1 is perfect, 0 is as good as predicting the mean. It may be negative.

    Raises
    ------
    ShapeError
        If outputs and targets have different shapes, or none.

    Examples
    --------
    >>> ic.metrics.r2_score([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    0.5
    """
    found, wanted = _numbers(outputs, targets)
    residual = np.square(found - wanted).sum(axis=0)
    total = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(total > 0, 1 - residual / total, residual == 0)
    return float(each.mean())


def _numbers(outputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs and targets as (numbers, channels) in float64."""
    found, wanted = host_array("outputs", outputs), host_array("targets", targets)
    if sorted((found.ndim, wanted.ndim)) == [1, 2] and found.size == wanted.size == len(found):
        found, wanted = found.reshape(-1), wanted.reshape(-1)  # a column is a vector
    if found.shape != wanted.shape or not found.size:
        raise ShapeError(f"outputs and targets must have one shape, got {found.shape} and {wanted.shape}")
    channels = found.shape[1] if found.ndim > 1 else 1
    both = (np.moveaxis(values.reshape(len(values), channels, -1), 1, 2) for values in (found, wanted))
    found, wanted = (values.reshape(-1, channels).astype(np.float64) for values in both)
    return found, wanted


# ---------------------------------------------------------------------- counting


class _Counts(NamedTuple):
    """The counts of each class, or each question: predictions, occurrences, and both together."""

    right: np.ndarray  #: (C,) true positives
    predicted: np.ndarray  #: (C,) true and false positives
    support: np.ndarray  #: (C,) true positives and false negatives
    occurs: np.ndarray  #: (C,) whether the class counts in a mean over the classes

    @classmethod
    def of(cls, outputs: Any, targets: Any, ignore_index: int) -> _Counts:
        guesses, labels, classes = _compared(outputs, targets, ignore_index)
        if guesses.ndim > 1:
            right, predicted, support = (each.sum(axis=0) for each in (guesses & labels, guesses, labels))
            return cls(right, predicted, support, np.ones(len(support), bool))
        right, predicted, support = (
            np.bincount(which, minlength=classes) for which in (labels[guesses == labels], guesses, labels)
        )
        return cls(right, predicted, support, predicted + support > 0)

    def score(self, numerator: np.ndarray, denominator: np.ndarray, average: str | None) -> Any:
        """Return a fraction for each class, or the requested average."""
        one_of("average", average, "macro", "weighted", "micro", None)
        if average == "micro":
            return float(_ratio(numerator.sum(), denominator.sum()))
        each = _ratio(numerator, denominator)
        if average is None:
            return each
        weight = self.support if average == "weighted" else self.occurs
        return float(_ratio((each * weight).sum(), weight.sum()))


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """Return the quotient in float64, and 0 where the denominator is 0."""
    return np.asarray(numerator / np.maximum(denominator, 1), np.float64)


def _compared(outputs: Any, targets: Any, ignore_index: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the arrays to compare, without ignored targets.

    Returns
    -------
    guesses, labels : (numbers,) integers, or of answers (numbers, questions) of type bool
    classes : int
        The number of classes.
    """
    found, wanted = host_array("outputs", outputs), host_array("targets", targets)
    if found.shape == wanted.shape and found.ndim and found.dtype.kind in "fb":
        questions = found.shape[1] if found.ndim > 1 else 1
        yes = (found > 0, wanted > 0.5)
        apart = (np.moveaxis(each.reshape(len(found), questions, -1), 1, 2) for each in yes)
        guesses, labels = (each.reshape(-1, questions) for each in apart)
        return guesses, labels, 2
    if wanted.dtype.kind not in "iub":
        raise DTypeError(f"targets must be integers (N, ...) for outputs {found.shape}, got {wanted.dtype}")
    scores = found.ndim == wanted.ndim + 1 and found.ndim > 1 and found.shape[:1] + found.shape[2:] == wanted.shape
    if not scores and (found.shape != wanted.shape or not found.ndim):
        raise ShapeError(
            f"outputs must be scores (N, classes, ...) for targets (N, ...), or classes of the targets' shape, got"
            f" {found.shape} for {wanted.shape}"
        )
    if not scores:
        guesses, classes = found, 0
    elif found.shape[1] == 1:
        guesses, classes = found[:, 0] > 0, 2
    else:
        guesses, classes = found.argmax(axis=1), found.shape[1]
    kept = wanted != ignore_index
    guesses, labels = guesses[kept].astype(np.int64), wanted[kept].astype(np.int64)
    low = min(labels.min(initial=0), guesses.min(initial=0))
    if low < 0:
        raise ShapeError(f"classes are integers from 0, got {low}; to ignore a target, give its value as ignore_index")
    most = int(max(labels.max(initial=-1), guesses.max(initial=-1))) + 1
    if classes and most > classes:
        raise ShapeError(f"targets must be 0 to {classes - 1} for {classes} network outputs, got {most - 1}")
    return guesses, labels, classes or most
