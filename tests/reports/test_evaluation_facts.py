"""What is measured of a network, by its loss and its targets."""

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet.datasets import Dataset
from im2colnet.reports.evaluation import evaluation

rng = np.random.default_rng(0)


def shares(guesses, labels, classes):
    """F1 and intersection over union, class by class, counted in a loop; their means over the classes that occur."""
    f1, iou = [], []
    for c in range(classes):
        both = sum(1 for g, t in zip(guesses, labels, strict=True) if g == t == c)
        either = sum(1 for g, t in zip(guesses, labels, strict=True) if c in (g, t))
        if either:
            f1.append(2 * both / (both + either))
            iou.append(both / either)
    return np.mean(f1), np.mean(iou)


def test_pixels_of_which_some_do_not_count():
    labels, outputs = rng.integers(0, 3, (4, 5, 6)), normal(4, 3, 5, 6)
    labels[:, 0] = 255
    data = Dataset(np.zeros((4, 1, 5, 6), np.uint8), labels, "mine")
    facts = evaluation(ic.CrossEntropyLoss(ignore_index=255), data, outputs)
    kept = labels != 255
    f1, iou = shares(outputs.argmax(axis=1)[kept], labels[kept], 3)
    assert (facts["f1_score"], facts["iou"]) == pytest.approx((f1, iou))
    assert facts["accuracy"] == pytest.approx((outputs.argmax(axis=1) == labels)[kept].mean())
    assert facts["classes"] == []


def test_a_mask():
    mask, outputs = rng.integers(0, 2, (4, 1, 5, 6)), normal(4, 1, 5, 6)
    facts = evaluation(ic.BCEWithLogitsLoss(), Dataset(np.zeros((4, 1, 5, 6), np.uint8), mask, "mine"), outputs)
    both, either = ((outputs > 0) & (mask == 1)).sum(), ((outputs > 0) | (mask == 1)).sum()
    assert facts["iou"] == pytest.approx(both / either)


def test_probabilities_as_targets():
    targets, outputs = rng.dirichlet(np.ones(3), 40), normal(40, 3)
    facts = evaluation(ic.CrossEntropyLoss(), Dataset(np.zeros((40, 1, 2, 2), np.uint8), targets, "mine"), outputs)
    f1, _ = shares(outputs.argmax(axis=1), targets.argmax(axis=1), 3)
    assert facts["f1_score"] == pytest.approx(f1)
    assert "iou" not in facts


def test_a_class_that_is_ignored():
    labels, outputs = rng.integers(0, 4, 60), normal(60, 4)
    data = Dataset(np.zeros((60, 1, 2, 2), np.uint8), labels, "mine", ("a", "b", "c", "d"))
    facts = evaluation(ic.CrossEntropyLoss(ignore_index=2), data, outputs)
    assert np.sum(facts["confusion_matrix"]) == (labels != 2).sum()
    assert facts["classes"][2]["images"] == 0
    assert all(mistake["label"] != 2 for mistake in facts["mistakes"])


@pytest.mark.parametrize("classes", [10, 11])
def test_the_best_five_of_many_classes(classes):
    labels, outputs = rng.integers(0, classes, 100), normal(100, classes)
    facts = evaluation(ic.CrossEntropyLoss(), Dataset(np.zeros((100, 1, 2, 2), np.uint8), labels, "mine"), outputs)
    among = np.mean([label in np.argsort(-row)[:5] for label, row in zip(labels, outputs, strict=True)])
    assert facts.get("top_5_accuracy") == (pytest.approx(among) if classes > 10 else None)
