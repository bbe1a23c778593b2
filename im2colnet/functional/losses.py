"""Losses of arrays; the classes of :mod:`im2colnet.losses` have the formulas."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.foreign import to_host
from im2colnet.checks import one_of
from im2colnet.errors import ShapeError
from im2colnet.functional.arguments import from_rows, on_arrays, to_rows, zeros
from im2colnet.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from im2colnet.losses.binary import binary_cross_entropy
from im2colnet.types import Array, Shape

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dice_loss",
    "focal_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


# Of classes ----------------------------------------------------------------------------------------------------------
@on_arrays("input")
def cross_entropy(
    backend: Backend,
    input: Array,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Cross-entropy of scores and labels, ``-log softmax(input)[target]``.

    Parameters
    ----------
    input : Array, (N, classes), (N, classes, ...) or (classes,)
        Scores (logits).
    target : array of int, (N,), (N, ...) or (), or array like ``input``
        Labels from 0 to classes - 1, or the probability of each class.
    weight : sequence of float, (classes,), optional
        Weight of each class, in the sum and in the divisor of the mean. For probabilities the divisor is the
        number of images or pixels.
    ignore_index : int
        Label that is ignored: its loss is 0, and it does not count in the mean.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each label. The mean of no labels is NaN, as in PyTorch.
    label_smoothing : float
        Part of each label, from 0 to 1, that is spread evenly over all classes.

    Returns
    -------
    Array
        One number; with "none" one number for each label.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together, or a label is not a class.

    See Also
    --------
    im2colnet.CrossEntropyLoss : The loss class for training, with references.

    Examples
    --------
    >>> scores = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    >>> F.cross_entropy(scores, [0, 2], reduction="none").round(4)
    array([0.2395, 0.036 ])
    """
    loss = CrossEntropyLoss(_numbers(weight), ignore_index, label_smoothing=label_smoothing)
    return _of_classes(loss, input, target, reduction, backend)


@on_arrays("input")
def nll_loss(
    backend: Backend,
    input: Array,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """Negative log-likelihood, ``-input[target]`` for log-probabilities.

    Parameters
    ----------
    input : Array, (N, classes), (N, classes, ...) or (classes,)
        Log-probabilities, such as the result of :func:`log_softmax`.
    target : array of int, (N,), (N, ...) or ()
        Labels from 0 to classes - 1.
    weight : sequence of float, (classes,), optional
        Weight of each class, in the sum and in the divisor of the mean.
    ignore_index : int
        Label that is ignored: its loss is 0, and it does not count in the mean.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each label.

    Returns
    -------
    Array
        One number; with "none" one number for each label.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together, or a label is not a class.

    See Also
    --------
    im2colnet.NLLLoss : The loss class for training.

    Examples
    --------
    >>> p = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    >>> float(F.nll_loss(np.log(p), [0, 2]).round(4))
    0.4581
    """
    return _of_classes(NLLLoss(_numbers(weight), ignore_index), input, target, reduction, backend)


@on_arrays("input")
def focal_loss(
    backend: Backend,
    input: Array,
    target: Any,
    gamma: float = 2.0,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """Focal loss, ``-(1 - p)**gamma · log p`` for the probability p of the label, so easy labels count little.

    Parameters
    ----------
    input : Array, (N, classes), (N, classes, ...) or (classes,)
        Scores (logits).
    target : array of int, (N,), (N, ...) or ()
        Labels from 0 to classes - 1.
    gamma : float
        Exponent of the factor, at least 0; with 0 the loss is the cross-entropy.
    weight : sequence of float, (classes,), optional
        Factor of each class.
    ignore_index : int
        Label that is ignored: its loss is 0, and it does not count in the mean.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each label. The mean is divided by the number of labels.

    Returns
    -------
    Array
        One number; with "none" one number for each label.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together, or a label is not a class.

    See Also
    --------
    im2colnet.FocalLoss : The loss class for training, with references.

    Examples
    --------
    >>> scores = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    >>> F.focal_loss(scores, [0, 2], reduction="none").round(4)
    array([0.0109, 0.    ])
    """
    return _of_classes(FocalLoss(gamma, _numbers(weight), ignore_index), input, target, reduction, backend)


@on_arrays("input")
def dice_loss(
    backend: Backend,
    input: Array,
    target: Any,
    smooth: float = 1.0,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """Dice loss: 1 minus the overlap of the predicted and the true region, for each class.

    Parameters
    ----------
    input : Array, (N, classes, H, W) or (N, classes)
        Scores (logits).
    target : array of int, (N, H, W) or (N,)
        Labels from 0 to classes - 1.
    smooth : float
        Number above 0 that is added to the numerator and the denominator of the overlap.
    ignore_index : int
        Label that is ignored: pixels with this label do not count.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each sample.

    Returns
    -------
    Array
        One number; with "none" one number for each sample.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together, or a label is not a class.

    See Also
    --------
    im2colnet.DiceLoss : The loss class for training, with its formula and references.

    Examples
    --------
    >>> scores = np.array([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> float(F.dice_loss(scores, [[[1, 0]]]).round(3))  # all wrong
    0.667
    """
    return _of_classes(DiceLoss(smooth, ignore_index), input, target, reduction, backend, each_label=False)


def _numbers(weight: Any) -> Any:
    """Return a number for each class as a list of the host."""
    return None if weight is None else to_host("weight", weight).tolist()


def _of_classes(
    loss: Loss, input: Array, target: Any, reduction: str, backend: Backend, each_label: bool = True
) -> Array:
    one_of("reduction", reduction, "mean", "sum", "none")
    if not input.ndim or (not each_label and input.ndim == 1) or not input.shape[input.ndim > 1]:
        raise ShapeError(f"input must be scores of classes, (N, classes, ...), got shape {input.shape}")
    target = to_host("target", target)
    single = input.ndim == 1
    if single:
        input, target = input[None], target[None]
    N, _, *places = input.shape
    if input.size:
        rows = to_rows(backend, input)
        losses, weights = loss.each(rows, backend.asarray(loss.targets(target, input.shape)), backend)
    else:
        if target.shape not in ((N, *places), input.shape):
            raise ShapeError(f"target must have shape {(N, *places)}, got {target.shape}")
        losses, weights = zeros(backend, input, (*places, N) if each_label else (N,)), None
    found = _reduced(losses, weights, reduction, backend)
    return found[0] if single and reduction == "none" else found


def _reduced(losses: Array, weights: Array | None, reduction: str, backend: Backend) -> Array:
    if reduction == "none":
        return from_rows(backend, losses)
    total = losses.sum(dtype="float64")
    if reduction == "sum":
        return total
    return total / (losses.size if weights is None else weights.sum(dtype="float64"))


# Of numbers ----------------------------------------------------------------------------------------------------------
@on_arrays("input", "weight", "pos_weight")
def binary_cross_entropy_with_logits(
    backend: Backend,
    input: Array,
    target: Any,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """Binary cross-entropy, ``-[pos_weight · t · log σ(x) + (1 - t) · log(1 - σ(x))]`` of scores x and targets t.

    Parameters
    ----------
    input : Array
        Scores (logits), of any shape.
    target : array, like ``input``
        Numbers from 0 to 1.
    weight : Array, optional
        Factor of each loss; it is broadcast to ``input``.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each number.
    pos_weight : Array, optional
        Factor of the first term; it is broadcast to ``input``.

    Returns
    -------
    Array
        One number; with "none" one number for each number of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.BCEWithLogitsLoss : The loss class for training.

    Examples
    --------
    >>> scores = np.array([3.0])
    >>> F.binary_cross_entropy_with_logits(scores, [1]).round(3)
    np.float64(0.049)
    """
    for name, given in {"weight": weight, "pos_weight": pos_weight}.items():
        if given is not None and not _can_be_broadcast(given.shape, input.shape):
            raise ShapeError(f"{name} must be broadcast to the shape of input, {input.shape}, got {given.shape}")
    t = _targets(BCEWithLogitsLoss(), input, target, reduction, backend).astype(input.dtype)
    losses, _, _ = binary_cross_entropy(backend.xp, input, t, pos_weight)
    if weight is not None:
        losses = losses * weight
    return _reduced(losses.reshape(-1), None, reduction, backend).reshape(input.shape if reduction == "none" else ())


def _can_be_broadcast(shape: Shape, to: Shape) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


@on_arrays("input")
def mse_loss(backend: Backend, input: Array, target: Any, *, reduction: str = "mean") -> Array:
    """Squared error, ``(input - target)²``.

    Parameters
    ----------
    input : Array
        Numbers, of any shape.
    target : array, like ``input``
        The target values.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each number.

    Returns
    -------
    Array
        One number; with "none" one number for each number of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.MSELoss : The loss class for training.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> F.mse_loss(x, [1.0, 1.5, 3.0], reduction="none")
    array([0.  , 0.25, 9.  ])
    """
    return _of_numbers(MSELoss(), input, target, reduction, backend)


@on_arrays("input")
def l1_loss(backend: Backend, input: Array, target: Any, *, reduction: str = "mean") -> Array:
    """Absolute error, ``|input - target|``.

    Parameters
    ----------
    input : Array
        Numbers, of any shape.
    target : array, like ``input``
        The target values.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each number.

    Returns
    -------
    Array
        One number; with "none" one number for each number of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.L1Loss : The loss class for training.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> F.l1_loss(x, [1.0, 1.5, 3.0], reduction="none")
    array([0. , 0.5, 3. ])
    """
    return _of_numbers(L1Loss(), input, target, reduction, backend)


@on_arrays("input")
def smooth_l1_loss(backend: Backend, input: Array, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Array:
    """Smooth L1 loss of the difference d: ``d²/(2 beta)`` where ``|d|`` is below ``beta``, ``|d| - beta/2`` beyond.

    Parameters
    ----------
    input : Array
        Numbers, of any shape.
    target : array, like ``input``
        The target values.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each number.
    beta : float
        Difference, at least 0, at which the quadratic part ends; with 0 the loss is :func:`l1_loss`.

    Returns
    -------
    Array
        One number; with "none" one number for each number of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.SmoothL1Loss : The loss class for training.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> F.smooth_l1_loss(x, [1.0, 1.5, 3.0], reduction="none")
    array([0.   , 0.125, 2.5  ])
    """
    return _of_numbers(SmoothL1Loss(beta=beta), input, target, reduction, backend)


@on_arrays("input")
def huber_loss(backend: Backend, input: Array, target: Any, *, reduction: str = "mean", delta: float = 1.0) -> Array:
    """Huber loss of the difference d: ``d²/2`` where ``|d| <= delta``, ``delta · (|d| - delta/2)`` beyond.

    Parameters
    ----------
    input : Array
        Numbers, of any shape.
    target : array, like ``input``
        The target values.
    reduction : {"mean", "sum", "none"}
        "none" returns the loss of each number.
    delta : float
        Difference, above 0, at which the quadratic part ends.

    Returns
    -------
    Array
        One number; with "none" one number for each number of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.HuberLoss : The loss class for training.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> F.huber_loss(x, [1.0, 1.5, 3.0], reduction="none")
    array([0.   , 0.125, 2.5  ])
    """
    return _of_numbers(HuberLoss(delta=delta), input, target, reduction, backend)


def _targets(loss: Loss, input: Array, target: Any, reduction: str, backend: Backend) -> Array:
    """Return the targets on the backend, or raise what is wrong with them."""
    one_of("reduction", reduction, "mean", "sum", "none")
    if input.size:
        return backend.asarray(loss.targets(to_host("target", target), input.shape))
    target = to_host("target", target)
    if target.shape != input.shape:
        raise ShapeError(f"target must have the shape of input, {tuple(input.shape)}, got {target.shape}")
    return zeros(backend, input, input.shape)


def _of_numbers(loss: Loss, input: Array, target: Any, reduction: str, backend: Backend) -> Array:
    t = _targets(loss, input, target, reduction, backend)
    losses, _ = loss.each(input.reshape(-1), t.reshape(-1), backend)
    return _reduced(losses, None, reduction, backend).reshape(input.shape if reduction == "none" else ())
