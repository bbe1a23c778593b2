"""The evaluation of a network: its results on held-out data, for each class, and its worst mistakes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from im2colnet import metrics
from im2colnet.datasets.dataset import Dataset
from im2colnet.losses import Loss
from im2colnet.losses.classification import ClassLoss
from im2colnet.network import Network
from im2colnet.show.pixels import as_pixels
from im2colnet.training.measuring import worst_mistakes
from im2colnet.types import Array

MANY = 10  #: classes of which also those with the five highest scores are compared
MISTAKES = 25  #: how many mistakes are reported, the worst ones


def evaluation(loss: Loss, data: Dataset, outputs: Any) -> dict[str, Any]:
    """Return the metrics of a network's outputs for a data set.

    Parameters
    ----------
    loss : Loss
        The loss of the training.
    data : Dataset
    outputs : (N, ...) array
        The network's output for the images of the data set.

    Returns
    -------
    dict
        ``loss`` and its metrics. For a classifier also ``top_5_accuracy``, if it has more than ten classes;
        ``classes``, see :func:`im2colnet.metrics.class_report`; ``mean``, the ``precision``, ``recall`` and ``f1``
        averaged over the classes; ``confusion_matrix``, whose entry [i][j] is the number of images of class i predicted
        as class j; and ``mistakes``, see :meth:`im2colnet.Trainer.mistakes`. For other networks, the usual metrics for
        their targets.
    """
    facts: dict[str, Any] = loss.measure(outputs, data.labels)
    ignored = loss.ignore_index if isinstance(loss, ClassLoss) else metrics.IGNORED
    if not data.classes:
        return facts | _usual(loss, data.labels, outputs, ignored) | {"classes": []}
    if outputs.shape[1] > MANY:
        facts["top_5_accuracy"] = metrics.top_k_accuracy(outputs, data.labels, 5, ignore_index=ignored)
    matrix = metrics.confusion_matrix(outputs, data.labels, ignore_index=ignored)
    scores = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1_score}
    mistakes = worst_mistakes(loss, data, outputs, MISTAKES)
    return facts | {
        "classes": metrics.class_report(matrix, data.classes),
        "mean": {name: score(outputs, data.labels, ignore_index=ignored) for name, score in scores.items()},
        "confusion_matrix": matrix.tolist(),
        "mistakes": [asdict(mistake) for mistake in mistakes],
    }


def _usual(loss: Loss, labels: Any, outputs: Any, ignored: int) -> dict[str, float]:
    """Return the usual metrics for a loss whose targets are not classes of images."""
    if "accuracy" not in loss.metrics:
        names = "mean_absolute_error", "root_mean_squared_error", "r2_score"
        return {name: getattr(metrics, name)(outputs, labels) for name in names}
    if isinstance(loss, ClassLoss) and labels.shape == outputs.shape:  # probabilities of the classes
        labels = labels.argmax(axis=1)
    found = {"f1_score": metrics.f1_score(outputs, labels, ignore_index=ignored)}
    return found | ({"iou": metrics.iou(outputs, labels, ignore_index=ignored)} if outputs.ndim > 2 else {})


def class_rows(measured: dict[str, Any], digits: int) -> list[list[str]]:
    """Return the table of the classes from :func:`evaluation`: a header, the classes, and sums and means.

    Percentages have ``digits`` decimal places; a class without images has no recall.
    """
    classes, scores = measured["classes"], ("recall", "precision", "f1")
    rows = [["class", "images", "correct", "recall", "precision", "F1", "most often mistaken for"]]
    for row in classes:
        parts = ["-" if name == "recall" and not row["images"] else f"{row[name]:.{digits}%}" for name in scores]
        mistaken = f"{row['mistaken_for']} ({row['times']}×)" if row["times"] else ""
        rows.append([row["class"], f"{row['images']:,}", f"{row['correct']:,}", *parts, mistaken])
    sums = (f"{sum(row[name] for row in classes):,}" for name in ("images", "correct"))
    return [*rows, ["all / mean", *sums, *(f"{measured['mean'][name]:.{digits}%}" for name in scores), ""]]


def mistake_pictures(mistakes: list[dict[str, Any]], data: Dataset, net: Network) -> list[Array]:
    """Return the pixels of the images of mistakes, (H, W, ...) of uint8, or an empty list if they are no pictures."""
    low, high = (net.inputs.low, net.inputs.high) if net.inputs is not None else (0.0, 1.0)
    images = (data.images[mistake["index"] : mistake["index"] + 1][0] for mistake in mistakes)
    found = [as_pixels(image, low, high) for image in images]
    return [pixels for pixels in found if pixels is not None]


def mistake_text(mistake: dict[str, Any]) -> str:
    """Return the description of a mistake, in three lines."""
    what = mistake["file"] or f"image {mistake['index']}"
    taken = f"predicted {mistake['predicted_name']} ({mistake['probability']:.0%})"
    return f"{what}\n{taken}\ntrue class {mistake['label_name']} ({mistake['label_probability']:.0%})"
