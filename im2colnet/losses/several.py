"""Losses for networks with several outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import number
from im2colnet.errors import ShapeError
from im2colnet.host import np
from im2colnet.losses.base import Loss

__all__ = ["SumLoss"]


class SumLoss(Loss):
    """The weighted sum of several losses, for a network with several outputs: one loss for each output.

    The labels are a tuple, in the order of the network's outputs. The metrics of a loss are reported with the index of
    its output after the name, such as ``"accuracy_0"``.

    Parameters
    ----------
    losses : sequence of Loss
        The losses, one for each output, in the order of ``outputs``; two or more.
    weights : sequence of float, optional
        The weight of each loss, at least 0; by default 1.

    Raises
    ------
    ShapeError
        If there are fewer than two losses, or not one weight for each loss; in training also if the network does not
        have one output for each loss, or the labels are not a tuple with one entry for each loss.

    Examples
    --------
    >>> loss = ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()], [1, 4])
    >>> outputs = np.array([[9.0, 0.0]]), np.array([[0.5]])
    >>> found = loss.measure(outputs, ([0], [[0.0]]))
    >>> round(found["loss"], 2), found["accuracy_0"]
    (1.0, 1.0)
    """

    several_outputs: ClassVar[bool] = True

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        self.losses = tuple(losses)
        if len(self.losses) < 2 or not all(isinstance(loss, Loss) for loss in self.losses):
            raise ShapeError(f"losses must be two losses or more, such as [ic.MSELoss(), ic.MSELoss()], got {losses!r}")
        weights = [1.0] * len(self.losses) if weights is None else weights
        self.weights = tuple(number("each of weights", weight) for weight in weights)
        if len(self.weights) != len(self.losses):
            raise ShapeError(f"there are {len(self.weights)} weights for {len(self.losses)} losses")
        self.metrics = tuple(  # type: ignore[misc]
            f"{name}_{i}" for i, loss in enumerate(self.losses) for name in loss.metrics
        )

    def __repr__(self) -> str:
        return f"SumLoss({list(self.losses)!r}, {list(self.weights)!r})"

    def targets(self, labels: Any, output_shape: Any) -> Any:
        if not isinstance(labels, (tuple, list)) or len(labels) != len(self.losses):
            raise ShapeError(f"labels must be a tuple of {len(self.losses)}, one for each loss of {self!r}")
        self._check_outputs(output_shape)
        each = zip(self.losses, labels, output_shape, strict=True)
        return tuple(loss.targets(label, shape) for loss, label, shape in each)

    def __call__(self, output: Any, targets: Any, scale: Any, metrics: Any, doutput: Any, backend: Backend) -> None:
        metrics[...] = 0
        position = 1
        for i, (loss, weight) in enumerate(zip(self.losses, self.weights, strict=True)):
            found = backend.empty((1 + len(loss.metrics),), "float64")
            loss(output[i], targets[i], float(scale[i] * weight), found, doutput[i], backend)
            metrics[0] += found[0]
            metrics[position : position + len(loss.metrics)] = found[1:]
            position += len(loss.metrics)

    def totals(self, targets: Any) -> tuple[Any, Any]:
        """Return the divisor of each loss, so that ``scale`` has a number for each; and the divisors of the metrics."""
        divisors: list[Any] = []
        each: list[Any] = []
        for loss, target in zip(self.losses, targets, strict=True):
            divisor, counted = loss.totals(target)
            divisors.append(divisor)
            each += [counted] * len(loss.metrics) if isinstance(counted, int) else counted
        return np.array(divisors), each

    def random_targets(self, output_shape: Any, rng: np.random.Generator) -> Any:
        self._check_outputs(output_shape)
        return tuple(loss.random_targets(s, rng) for loss, s in zip(self.losses, output_shape, strict=True))

    def _check_outputs(self, outputs: Any) -> None:
        if len(outputs) != len(self.losses):
            raise ShapeError(f"there are {len(self.losses)} losses for {len(outputs)} outputs of the network")
