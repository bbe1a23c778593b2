"""What losses refuse, and what they say then."""

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.errors import DTypeError, NonFiniteError, ShapeError

SCORES, MAPS = (3, 4), (3, 4, 2, 2)
LABELS = np.array([0, 3, 1])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ic.CrossEntropyLoss(reduction="none"), "reduction must be 'mean' or 'sum', got 'none'"),
        (lambda: ic.CrossEntropyLoss(weight="abc"), "weight must be a sequence of numbers, got 'abc'"),
        (lambda: ic.CrossEntropyLoss(weight=[]), "weight must be a sequence of numbers"),
        (lambda: ic.CrossEntropyLoss(weight=2), "weight must be a sequence of numbers, got 2"),
        (lambda: ic.CrossEntropyLoss(weight=[1, -np.inf]), "each of weight must be a finite number; got -inf"),
        (lambda: ic.CrossEntropyLoss(weight=[1, np.nan]), "each of weight must be a finite number; got nan"),
        (lambda: ic.CrossEntropyLoss(ignore_index=1.5), "ignore_index must be an integer, got 1.5"),
        (lambda: ic.CrossEntropyLoss(ignore_index=True), "ignore_index must be an integer, got True"),
        (lambda: ic.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing must be a number from 0 to 1, got 1.5"),
        (lambda: ic.CrossEntropyLoss(label_smoothing=-0.1), "label_smoothing must be a number"),
        (lambda: ic.FocalLoss(gamma=-1), "gamma must be a number of at least 0"),
        (lambda: ic.DiceLoss(smooth=0), "smooth must be more than 0"),
        (lambda: ic.HuberLoss(delta=0), "delta must be more than 0"),
        (lambda: ic.SmoothL1Loss(beta="a"), "beta must be a number"),
        (lambda: ic.L1Loss("average"), "reduction must be 'mean' or 'sum', got 'average'"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ShapeError, match=match):
        make()


@pytest.mark.parametrize(
    ("loss", "labels", "shape", "error", "match"),
    [
        (
            ic.CrossEntropyLoss(),
            [0, 4, 1],
            SCORES,
            ShapeError,
            "labels must be 0 to 3 for 4 network outputs, got 0 to 4",
        ),
        (ic.CrossEntropyLoss(), [0, -1, 1], SCORES, ShapeError, "got -1 to 1"),
        (ic.CrossEntropyLoss(ignore_index=255), [0, 254, 255], SCORES, ShapeError, "got 0 to 254"),
        (ic.CrossEntropyLoss(), np.uint8([0, 200, 1]), SCORES, ShapeError, "got 0 to 200"),
        (ic.CrossEntropyLoss(), np.array([0, 1 << 56, 1], ">i8"), SCORES, ShapeError, "got 0 to 72057594037927936"),
        (
            ic.CrossEntropyLoss([1, 2]),
            LABELS,
            SCORES,
            ShapeError,
            "weight has 2 numbers, but the network gives 4 classes",
        ),
        (ic.CrossEntropyLoss([1, 2]), np.ones(SCORES) / 4, SCORES, ShapeError, "weight has 2 numbers"),
        (ic.CrossEntropyLoss(), LABELS, MAPS, ShapeError, r"or give a label for each pixel, \(3, 2, 2\)"),
        (ic.CrossEntropyLoss(), np.zeros((3, 2, 3), int), MAPS, ShapeError, r"shape \(3, 2, 2\), one for each pixel"),
        (ic.CrossEntropyLoss(), np.zeros((2, 2), int), SCORES, ShapeError, r"shape \(3,\), one for each image"),
        (ic.CrossEntropyLoss(), LABELS * 1.0, SCORES, DTypeError, "labels must be integers, got float64"),
        (ic.CrossEntropyLoss(), np.full(SCORES, np.nan), SCORES, NonFiniteError, "labels hold NaN or infinity"),
        (ic.CrossEntropyLoss(), np.full(SCORES, 1.5), SCORES, ShapeError, "probabilities from 0 to 1, got 1.5 to 1.5"),
        (ic.NLLLoss(), np.ones(SCORES) / 4, SCORES, DTypeError, "labels must be integers"),
        (ic.DiceLoss(), np.full((3, 2, 2), 4), MAPS, ShapeError, "labels must be 0 to 3"),
        (ic.BCEWithLogitsLoss(), np.full(SCORES, 2.0), SCORES, ShapeError, "targets must be 0 to 1, got 2 to 2"),
        (ic.BCEWithLogitsLoss(), LABELS, SCORES, ShapeError, "targets must have the shape of the network's output"),
        (ic.BCEWithLogitsLoss(pos_weight=[1, 2]), np.zeros(SCORES), SCORES, ShapeError, "pos_weight has 2 numbers"),
        (ic.L1Loss(), np.full(SCORES, np.inf), SCORES, NonFiniteError, "target 0 holds NaN or infinity"),
    ],
)
def test_wrong_labels(loss, labels, shape, error, match):
    with pytest.raises(error, match=match):
        loss.targets(labels, shape)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "<i8", ">i8", "int32", "uint64"])
def test_labels_of_every_integer_type(dtype):
    output = np.random.default_rng(0).standard_normal(SCORES)
    expected = ic.CrossEntropyLoss().measure(output, LABELS)
    assert ic.CrossEntropyLoss().measure(output, LABELS.astype(dtype)) == expected


def test_answers_may_be_truth_values():
    output, answers = np.random.default_rng(0).standard_normal(SCORES), np.arange(12).reshape(SCORES) % 2 == 0
    loss = ic.BCEWithLogitsLoss()
    assert loss.measure(output, answers) == loss.measure(output, answers.astype(float))


def test_ignored_labels_count_in_no_mean():
    output = np.random.default_rng(0).standard_normal((6, 4))
    labels = np.array([0, 1, -100, 3, -100, 2])
    for loss in ic.CrossEntropyLoss(), ic.CrossEntropyLoss([1, 2, 3, 4], label_smoothing=0.1), ic.FocalLoss():
        kept = loss.measure(output[labels >= 0], labels[labels >= 0])
        assert loss.measure(output, labels) == pytest.approx(kept, rel=1e-14)
        nothing = loss.measure(output, np.full(6, -100))
        assert nothing == {"loss": 0.0, "accuracy": 0.0}


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_label_for_each_pixel_some_ignored(kind, shards_of_32):
    """The division of a batch among shards and workers changes no mean, though the parts hold different numbers."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((16, 2, 4, 4), dtype=np.float32), rng.integers(0, 3, (16, 4, 4))
    labels[3:9] = 255
    loss = ic.CrossEntropyLoss([1.0, 2.0, 0.5], 255)
    found = []
    for workers, shard in (1, 16), (2, 4):
        with ic.num_threads(workers):
            ic.set_workers(kind)
            try:
                net = ic.Sequential([ic.Conv2d(2, 3, 3, padding=1)]).init(0, "float64")
                trainer = ic.Trainer(net, loss, ic.SGD(0.1), shard=shard)
                before = trainer.evaluate((images, labels))
                assert before == pytest.approx(loss.measure(net.predict(images), labels), rel=1e-12)
                losses = [trainer.step(images, labels) for _ in range(5)]
                assert losses[0] == pytest.approx(before["loss"], rel=1e-12)
                found.append([*losses, *net.flat])
            finally:
                ic.set_workers("auto")
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    history = trainer.fit((images, labels), 1, 16)
    assert 0 <= history["accuracy"][-1] <= 1


@pytest.mark.parametrize("size", [1e30, 1e4, 200.0])
def test_huge_scores_overflow_nowhere(size):
    scores = np.array([[size, 0, -size], [-size, size, 0]], "float32")
    with np.errstate(all="raise", under="ignore"):
        for loss in ic.CrossEntropyLoss(label_smoothing=0.1), ic.FocalLoss(), ic.FocalLoss(0.5), ic.DiceLoss():
            assert np.isfinite(loss.measure(scores, [0, 2])["loss"])
        assert np.isfinite(ic.BCEWithLogitsLoss().measure(scores, np.float32([[1, 0, 1], [0, 0.5, 1]]))["loss"])


def test_weights_that_add_up_to_nothing_have_no_mean():
    loss = ic.CrossEntropyLoss(weight=[1, -1])
    assert loss.totals(np.array([1, 1])) == (-2.0, 2)
    with pytest.raises(ic.NonFiniteError, match=r"add up to 0.*reduction='sum'"):
        loss.totals(np.array([0, 1]))
    assert ic.CrossEntropyLoss(weight=[0, 1]).totals(np.array([0, 0])) == (1.0, 2)
