"""Measurements in addition to the loss: the user's metrics, and the worst mistakes of a classifier."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from im2colnet.errors import ShapeError, TrainingWarning
from im2colnet.layout import one_or_tuple
from im2colnet.losses import Loss
from im2colnet.show.display import RECORDED, VALIDATION
from im2colnet.text import class_names

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset
    from im2colnet.metrics import Metric


def check_metrics(metrics: Any, loss: Loss) -> Mapping[str, Metric]:
    """Return metrics by name; raise a ShapeError unless they are functions whose names are free."""
    if not isinstance(metrics, Mapping):
        raise ShapeError(f'metrics must be a dict such as {{"f1": ic.metrics.f1_score}}, got {metrics!r}')
    taken = (*RECORDED, *loss.metrics)
    for name, metric in metrics.items():
        if not isinstance(name, str) or not name.isidentifier() or name.startswith(VALIDATION) or name in taken:
            raise ShapeError(
                f"the name of a metric must be a word such as 'f1', which does not begin with {VALIDATION} and is none"
                f" of {', '.join(taken)}; got {name!r}"
            )
        if not callable(metric):
            raise ShapeError(f"metric {name!r} must be a function of outputs and targets, got {metric!r}")
    return dict(metrics)


def measure_all(metrics: Mapping[str, Metric], outputs: Sequence[Any], labels: Any) -> dict[str, float]:
    """Return the value of each metric for the outputs of a network."""
    found = {}
    for name, metric in metrics.items():
        value: Any = metric(one_or_tuple(outputs), labels)
        try:
            found[name] = float(value)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"metric {name!r} must return one number, it returned {value!r:.60}") from error
    return found


def finite(measured: Mapping[str, float], metrics: Mapping[str, Metric], epoch: int) -> dict[str, float]:
    """Return the measurements of an epoch without the metrics that are not finite; a warning names each of them.

    Checkpoints keep the history as JSON, which has no NaN.
    """
    undefined = [name for name in metrics if not math.isfinite(measured[name])]
    for name in undefined:
        text = f"metric {name!r} is {measured[name]} after epoch {epoch}: the history does not hold it"
        warnings.warn(text, TrainingWarning, stacklevel=6)  # the warning points at the call of fit
    return {name: value for name, value in measured.items() if name not in undefined}


@dataclass(frozen=True)
class Mistake:
    """An image for which a classifier predicts a wrong class.

    Parameters
    ----------
    index : int
        The image's number in the data set.
    file : str
        The name of the image's file, relative to the folder of the data set; empty if the image has no file.
    label : int
        The true class of the image.
    label_name : str
        The name of the true class.
    predicted : int
        The predicted class.
    predicted_name : str
        The name of the predicted class.
    probability : float
        The probability of the predicted class, from 0 to 1.
    label_probability : float
        The probability of the true class.
    """

    index: int
    file: str
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    probability: float
    label_probability: float


def worst_mistakes(loss: Loss, data: Dataset, outputs: Any, count: int) -> list[Mistake]:
    """Return the wrongly classified images of a data set whose true class has the lowest probability.

    Parameters
    ----------
    loss : Loss
        The loss of a classifier, which computes the probabilities.
    data : Dataset
    outputs : (N, classes) array
        The network's outputs for the images of the data set.
    count : int
        The largest number of images to return. Images with equal probabilities stay in the order of the data set.
    """
    from im2colnet.host import np

    if not data.classes:
        raise ShapeError(f"mistakes are for classifiers, but {data.name} has targets and no classes")
    probabilities = loss.probabilities(outputs)
    loss.targets(data.labels, outputs.shape)  # raises if they do not suit the outputs
    labels = data.labels.astype(np.int64)
    names = class_names(data.classes, outputs.shape[1])
    guesses, of = outputs.argmax(axis=1), np.arange(len(labels))
    own = probabilities[of, labels]
    wrong = np.flatnonzero((guesses != labels) & (labels != getattr(loss, "ignore_index", -1)))
    return [
        Mistake(
            i,
            data.files[i] if data.files else "",
            int(labels[i]),
            names[labels[i]],
            int(guesses[i]),
            names[guesses[i]],
            float(probabilities[i, guesses[i]]),
            float(own[i]),
        )
        for i in wrong[np.argsort(own[wrong], kind="stable")][:count].tolist()
    ]
