"""The base class of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import shown
from im2colnet.errors import ShapeError
from im2colnet.host import np
from im2colnet.layout import channel_axis, internal_axes, one_or_tuple
from im2colnet.text import count
from im2colnet.types import Array, Shape, accumulator

__all__ = ["Loss"]


class Loss:
    """Base of the losses: it checks the targets, and computes its value and gradient for a part of a batch.

    A class that is derived from it defines :meth:`targets` and :meth:`__call__`. Like a layer, it keeps the arguments
    of its constructor as attributes of the same names, so that checkpoints hold them.

    Examples
    --------
    >>> class Squared(ic.Loss):
    ...     def targets(self, labels, output_shape):
    ...         return np.asarray(labels, "float32").reshape(output_shape)
    ...
    ...     def __call__(self, output, targets, scale, metrics, doutput, backend):
    ...         difference = output - targets.T  # the batch is the last axis
    ...         metrics[0] = scale * (difference**2).sum()
    ...         if doutput is not None:
    ...             doutput[...] = 2 * scale * difference
    >>> Squared().measure(np.array([[1.0], [2.0]]), [0, 0])
    {'loss': 2.5}
    """

    #: the names of the metrics that :meth:`__call__` sums beside the loss; their means are reported by these names
    metrics: ClassVar[tuple[str, ...]] = ()
    #: whether the loss is for networks with several outputs: then it gets tuples of shapes, arrays and labels
    several_outputs: ClassVar[bool] = False
    #: see :attr:`im2colnet.Layer.stateless`
    stateless: ClassVar[bool] = True

    def __repr__(self) -> str:
        return shown(self)

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Check the labels and convert them to targets.

        It is called with the labels of every batch, and with the labels of a whole data set before the first step.

        Parameters
        ----------
        labels : array_like, (N, ...)
            The argument ``labels`` of :meth:`im2colnet.Trainer.step`, or a data set's ``labels``.
        output_shape : tuple of int, (N, ...)
            The shape of the network's output for these N samples, batch first.

        Returns
        -------
        numpy.ndarray, (N, ...)
            The targets, an entry for each sample. A worker gets the entries of its samples.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If the labels or the output of the network do not suit the loss.
        """
        raise NotImplementedError(f"{type(self).__name__} must define targets(labels, output_shape)")

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to the sums over n samples, and ``doutput`` to the gradient of the scaled loss.

        Parameters
        ----------
        output : (features, n) or (H, C, W, n) array
            The network's output, batch last.
        targets : (n, ...) array
            The result of :meth:`targets` for these samples, on the backend.
        scale : float
            1 / the divisor of the whole batch (see :meth:`totals`), times the loss scale of float16. ``metrics[0]`` and
            ``doutput`` are multiplied by it, so that the sums over all parts of a batch are the mean loss and its
            gradient.
        metrics : (1 + len(self.metrics),) float64 array, written
            The loss, then the sum over the samples of each metric that the class attribute ``metrics`` names.
        doutput : array like ``output``, or None, written
            The gradient with respect to ``output``; None in an evaluation.
        backend : Backend
            ``backend.xp`` is the array module.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define __call__(output, targets, scale, metrics, doutput, backend)"
        )

    def each(self, output: Array, targets: Array, backend: Backend) -> tuple[Array, Array | None]:
        """Return the single losses whose mean is the loss, and their weights in the mean, or None if all are equal.

        ``im2colnet.functional`` uses it to return single losses. Training does not need it.

        Parameters
        ----------
        output : (features, n) or (H, C, W, n) array
            The network's output, batch last.
        targets : (n, ...) array
            The result of :meth:`targets` for these samples, on the backend.
        backend : Backend
            ``backend.xp`` is the array module.

        Returns
        -------
        losses : array
            The single losses.
        weights : array or None
            The weight of each single loss in the mean.
        """
        raise NotImplementedError(f"{type(self).__name__} must define each(output, targets, backend)")

    def totals(self, targets: Any) -> tuple[Any, Any]:
        """Return the divisor of the sum of the loss, and the divisor of the sum of each metric.

        Both are for a whole batch, or data set. By default they are the number of samples. A loss that is a mean over
        other elements, such as pixels, returns their number, or the sum of their weights.

        Parameters
        ----------
        targets : (N, ...) array
            The result of :meth:`targets`, on the host.

        Returns
        -------
        divisor : number
            The divisor of the sum of the loss.
        counted : int, or a sequence with a number for each of ``metrics``
            The divisor of the sum of each metric: the number of elements that it counts.
        """
        n = len(targets[0] if self.several_outputs else targets)
        return n, n

    def measure(self, output: Any, labels: Any) -> dict[str, float]:
        """Return the mean loss for the outputs of a network, and the means of the metrics of the loss, by name.

        Parameters
        ----------
        output : (N, ...) array
            The result of :meth:`im2colnet.Network.predict`; a tuple for several outputs.
        labels : (N, ...) array_like
            The labels, in the form that the loss takes.

        Returns
        -------
        dict of str to float
            ``"loss"``, and each of ``metrics``, such as ``"accuracy"``.
        """
        outputs = output if isinstance(output, tuple) else (output,)
        metrics = np.zeros(1 + len(self.metrics))
        targets = self.targets(labels, output_shape_for(self, [each.shape for each in outputs]))
        stored = [np.ascontiguousarray(each.transpose(internal_axes(each.ndim))) for each in outputs]
        given, gradients = one_or_tuple(stored), one_or_tuple([None] * len(stored))
        divisor, counted = self.totals(targets)
        self(given, targets, 1 / divisor, metrics, gradients, get_backend("numpy"))
        metrics[1:] /= np.maximum(counted, 1)
        return dict(zip(("loss", *self.metrics), metrics.tolist(), strict=True))

    def probabilities(self, output: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes for a network's output, if the loss is for a classifier.

        Parameters
        ----------
        output : (N, classes) or (N, classes, ...) array
            The network's output, a NumPy array.

        Returns
        -------
        (N, classes) or (N, classes, ...) array
            The probabilities in float64.

        Raises
        ------
        ShapeError
            If the loss is not for a classifier.
        """
        raise ShapeError(f"the network was trained with {self!r}, which gives no probabilities of classes")

    def random_targets(self, output_shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return random labels that suit a network's output, to measure the time of a step; by default normal numbers.

        Parameters
        ----------
        output_shape : tuple of int, (N, ...)
            The shape of the network's output.
        rng : numpy.random.Generator
            The generator of the random numbers.

        Returns
        -------
        (N, ...) array
            Labels for :meth:`targets`.
        """
        return rng.standard_normal(output_shape, dtype=np.float32)


def wide(output: Array) -> Array:
    """Return a network's output in the type of the sums: float32 for types of 16 bits."""
    of_sums = accumulator(output.dtype.name)
    return output if output.dtype.name == of_sums else output.astype(of_sums)


def of_classes(numbers: Sequence[float], like: Array, backend: Backend) -> Array:
    """Return a number for each class as an array that is broadcast along the classes of ``like``, (.., classes, ..)."""
    shape = [len(numbers) if axis == channel_axis(like.shape) else 1 for axis in range(like.ndim)]
    return backend.asarray(np.array(numbers, like.dtype.name)).reshape(shape)


def output_shape_for(loss: Loss, output_shapes: Sequence[Shape]) -> Any:
    """Return the shapes of a network's outputs, (N, ...), in the form that a loss takes.

    Raises
    ------
    ShapeError
        If the loss does not take this number of outputs.
    """
    if (len(output_shapes) > 1) != loss.several_outputs:
        raise ShapeError(
            f"the network has {count(len(output_shapes), 'output')}, which {loss!r} does not take: ic.SumLoss([...])"
            " takes a loss for each of several outputs"
        )
    return one_or_tuple(output_shapes)
