"""Metrics, beside what scikit-learn found for the same numbers (tests/reference/make_sklearn_metrics.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet import metrics

KNOWN = json.loads((Path(__file__).parents[1] / "reference/sklearn_metrics.json").read_text())
AVERAGES = ("macro", "weighted", "micro", None)


def check_averages(known, outputs, targets):
    for name, values in known.items():
        for average in AVERAGES:
            expected, found = values[str(average)], getattr(metrics, name)(outputs, targets, average=average)
            if average is None:  # without scores there are as many classes as the largest one says
                assert not any(expected[len(found) :])
                expected = expected[: len(found)]
            np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"{name} {average}")


@pytest.mark.parametrize("case", KNOWN["classes"])
def test_classes(case):
    scores, labels = np.array(case["scores"]), np.array(case["true"])
    assert metrics.accuracy(scores, labels) == pytest.approx(case["accuracy"], rel=1e-12)
    assert metrics.top_k_accuracy(scores, labels, case["k"]) == pytest.approx(case["top_k"], rel=1e-12)
    np.testing.assert_array_equal(metrics.confusion_matrix(scores, labels), case["confusion"])
    check_averages(case["average"], scores, labels)
    check_averages(case["average"], scores.argmax(axis=1), labels)  # the classes themselves
    as_pixels = scores.T[None, :, None], labels[None, None]  # a picture of one row, (1, C, 1, N) and (1, 1, N)
    assert metrics.accuracy(*as_pixels) == pytest.approx(case["accuracy"], rel=1e-12)
    assert metrics.top_k_accuracy(*as_pixels, case["k"]) == pytest.approx(case["top_k"], rel=1e-12)
    check_averages(case["average"], *as_pixels)
    ignored = np.concatenate([scores, scores]), np.concatenate([labels, np.full_like(labels, -100)])
    assert metrics.accuracy(*ignored) == pytest.approx(case["accuracy"], rel=1e-12)
    assert metrics.top_k_accuracy(*ignored, case["k"]) == pytest.approx(case["top_k"], rel=1e-12)
    check_averages(case["average"], *ignored)


def test_answers():
    case = KNOWN["answers"]
    scores, answers = np.array(case["scores"]), np.array(case["true"])
    check_averages(case["average"], scores, answers)
    check_averages(case["average"], scores > 0, answers)
    as_pixels = scores.T[None, :, None], answers.T[None, :, None].astype(float)
    check_averages(case["average"], *as_pixels)
    assert metrics.accuracy(scores, answers) == np.mean((scores > 0) == answers)


@pytest.mark.parametrize("case", KNOWN["numbers"])
@pytest.mark.parametrize("name", ["mean_absolute_error", "root_mean_squared_error", "r2_score"])
def test_numbers(case, name):
    outputs, targets = np.array(case["outputs"]), np.array(case["targets"])
    metric = getattr(metrics, name)
    assert metric(outputs, targets) == pytest.approx(case[name], rel=1e-12)
    if outputs.ndim == 1:
        assert metric(outputs[:, None], targets) == pytest.approx(case[name], rel=1e-12)
    else:  # pictures with a channel for each output
        as_pictures = (values.reshape(5, 2, 3, 3).transpose(0, 3, 1, 2) for values in (outputs, targets))
        assert metric(*as_pictures) == pytest.approx(case[name], rel=1e-12)


def test_regions_by_counting():
    """Intersection and union of masks, counted pixel by pixel."""
    rng = np.random.default_rng(0)
    scores, mask = rng.standard_normal((4, 1, 5, 6)), rng.integers(0, 2, (4, 1, 5, 6))
    both = sum(1 for s, t in zip(scores.flat, mask.flat, strict=True) if s > 0 and t)
    either = sum(1 for s, t in zip(scores.flat, mask.flat, strict=True) if s > 0 or t)
    assert metrics.iou(scores, mask) == pytest.approx(both / either)
    assert metrics.dice(scores, mask) == pytest.approx(2 * both / (both + either))
    np.testing.assert_array_equal(
        metrics.confusion_matrix(scores, mask),
        [[np.sum((mask == i) & ((scores > 0) == j)) for j in (0, 1)] for i in (0, 1)],
    )


def test_equal_scores_count_in_the_order_of_the_classes():
    scores, labels = np.zeros((3, 4)), np.array([0, 1, 3])
    assert [metrics.top_k_accuracy(scores, labels, k) for k in (1, 2, 3, 4, 9)] == [1 / 3, 2 / 3, 2 / 3, 1, 1]
    assert metrics.accuracy(scores, labels) == 1 / 3


def test_one_score_says_which_of_two_classes():
    scores, labels = np.array([[-1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    assert metrics.accuracy(scores, labels) == 2 / 3
    assert metrics.confusion_matrix(scores, labels).tolist() == [[1, 1], [0, 1]]


def test_nothing_counts():
    scores, labels = np.zeros((3, 4)), np.full(3, -100)
    assert metrics.accuracy(scores, labels) == metrics.f1_score(scores, labels) == 0
    assert metrics.top_k_accuracy(scores, labels) == 0
    assert metrics.confusion_matrix(scores, labels).tolist() == np.zeros((4, 4)).tolist()


def test_the_report_of_the_classes():
    labels = np.array([0, 0, 0, 1, 1, 3])
    guesses = np.array([0, 1, 1, 1, 0, 2])
    matrix = metrics.confusion_matrix(guesses, labels, classes=5)
    rows = metrics.class_report(matrix, ["a", "b", "c", "d"])
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["support"] for row in rows] == [row["images"] for row in rows] == [3, 2, 0, 1]
    assert [row["precision"] for row in rows] == [1 / 2, 1 / 3, 0, 0]
    assert [row["recall"] for row in rows] == [1 / 3, 1 / 2, 0, 0]
    assert [row["f1"] for row in rows] == pytest.approx([2 / 5, 2 / 5, 0, 0])
    assert [row["accuracy"] for row in rows] == [1 / 3, 1 / 2, None, 0]
    assert [(row["mistaken_for"], row["times"]) for row in rows] == [("b", 2), ("a", 1), (None, 0), ("c", 1)]
    assert [row["class"] for row in metrics.class_report(matrix)] == list("01234")


@pytest.mark.parametrize(
    ("metric", "arguments", "error", "message"),
    [
        (metrics.accuracy, (np.zeros((3, 2)), np.zeros(4, int)), ic.ShapeError, r"got \(3, 2\) for \(4,\)"),
        (metrics.accuracy, (np.zeros((3, 2)), np.zeros(3)), ic.DTypeError, "targets must be integers"),
        (
            metrics.accuracy,
            (np.zeros((3, 2)), np.array([0, 1, 2])),
            ic.ShapeError,
            "0 to 1 for 2 network outputs, got 2",
        ),
        (metrics.accuracy, (np.zeros((3, 2)), np.array([0, 1, -1])), ic.ShapeError, "integers from 0, got -1"),
        (
            metrics.confusion_matrix,
            (np.arange(3), np.arange(3), 2),
            ic.ShapeError,
            "classes is 2, but there is a class 2",
        ),
        (
            metrics.confusion_matrix,
            (np.zeros((3, 2)), np.zeros((3, 2))),
            ic.ShapeError,
            "one answer for each sample",
        ),
        (metrics.top_k_accuracy, (np.arange(3), np.arange(3)), ic.ShapeError, "must be scores"),
        (
            metrics.top_k_accuracy,
            (np.zeros((3, 2)), np.zeros(3, int), 0),
            ic.ShapeError,
            "k must be a positive integer",
        ),
        (metrics.precision, (np.arange(3), np.arange(3), "mean"), ic.ShapeError, "average must be 'macro'"),
        (metrics.r2_score, (np.zeros((3, 2)), np.zeros((3, 3))), ic.ShapeError, "must have one shape"),
        (metrics.r2_score, (np.zeros(0), np.zeros(0)), ic.ShapeError, "must have one shape"),
        (metrics.class_report, (np.zeros((2, 2), int), "abc"), ic.ShapeError, "for 3 names"),
    ],
)
def test_what_does_not_fit_is_named(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(*arguments)
