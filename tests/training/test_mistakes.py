"""The worst mistakes of a classifier."""

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet.datasets import Dataset

x, labels = normal(60, 1, 4, 4, dtype="float32"), np.random.default_rng(0).integers(0, 3, 60)


@pytest.fixture
def trainer():
    return ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 3)]))


def test_the_worst_mistakes_by_a_loop(trainer):
    files = tuple(f"folder/{i}.png" for i in range(60))
    data = Dataset(x, labels, "mine", ("a", "b", "c"), files)
    logits = trainer.net.predict(x).astype(np.float64)
    expected = []
    for i, row in enumerate(logits):
        p = np.exp(row) / np.exp(row).sum()
        if p.argmax() != labels[i]:
            expected.append((p[labels[i]], i, p.argmax(), p.max()))
    expected.sort()
    found = trainer.mistakes(data, count=1000)
    assert len(found) == len(expected) > 25
    for mistake, (own, i, guess, probability) in zip(found, expected, strict=True):
        assert (mistake.index, mistake.file, mistake.label, mistake.predicted) == (i, files[i], labels[i], guess)
        assert (mistake.label_name, mistake.predicted_name) == ("abc"[labels[i]], "abc"[guess])
        assert (mistake.label_probability, mistake.probability) == pytest.approx((own, probability))
    assert trainer.mistakes(data) == found[:25]


def test_names_are_those_of_the_training(trainer):
    trainer.fit(Dataset(x, labels, "mine", ("a", "b", "c")), 1)
    assert {mistake.label_name for mistake in trainer.mistakes((x, labels))} <= {"a", "b", "c"}
    assert trainer.mistakes((x, labels))[0].file == ""


def test_mistakes_are_those_of_classes(trainer):
    regression = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 3)]), ic.MSELoss())
    with pytest.raises(ic.ShapeError, match="has targets and no classes"):
        regression.mistakes((x, normal(60, 3)))
    with pytest.raises(ic.ShapeError, match="gives no probabilities of classes"):
        regression.mistakes((x, labels))
    with pytest.raises(ic.ShapeError, match="labels must be 0 to 2 for 3 network outputs, got 0 to 5"):
        trainer.mistakes((x, np.arange(60) % 6))
    with pytest.raises(ic.ShapeError, match="count must be a positive integer"):
        trainer.mistakes((x, labels), count=0)
