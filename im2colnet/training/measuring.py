"""What is measured beside the loss: metrics of the user's, and the worst mistakes of a classifier."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from im2colnet.errors import ShapeError, TrainingWarning
from im2colnet.layout import one_or_tuple
from im2colnet.losses import Loss
from im2colnet.show.display import RECORDED, VALIDATION

if TYPE_CHECKING:
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
    """Return what each metric finds for the outputs of a network."""
    found = {}
    for name, metric in metrics.items():
        value: Any = metric(one_or_tuple(outputs), labels)
        try:
            found[name] = float(value)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"metric {name!r} must return one number, it returned {value!r:.60}") from error
    return found


def finite(measured: Mapping[str, float], metrics: Mapping[str, Metric], epoch: int) -> dict[str, float]:
    """Return what was measured after an epoch without the metrics that are not finite, of which a warning tells.

    JSON, in which checkpoints keep the history, has no NaN.
    """
    undefined = [name for name in metrics if not math.isfinite(measured[name])]
    for name in undefined:
        text = f"metric {name!r} is {measured[name]} after epoch {epoch}: the history does not hold it"
        warnings.warn(text, TrainingWarning, stacklevel=6)  # the warning points at the call of fit
    return {name: value for name, value in measured.items() if name not in undefined}
