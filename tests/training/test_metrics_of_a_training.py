"""Metrics of the user's in evaluations and in the history of a training."""

import json

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic

x, labels = normal(40, 1, 8, 8, dtype="float32"), np.random.default_rng(0).integers(0, 3, 40)


def network():
    return ic.Sequential([ic.Flatten(), ic.BatchNorm1d(64), ic.Linear(64, 3)])


def wrong(outputs, targets):
    return (outputs.argmax(axis=1) != targets).sum()


@pytest.mark.parametrize("threads", [1, 2])
def test_evaluation_gives_a_metric_the_outputs_and_the_labels(threads, shards_of_32):
    given = []

    def metric(outputs, targets):
        given.append((outputs, targets))
        return np.float32(0.5)

    with ic.num_threads(threads):
        trainer = ic.Trainer(network(), metrics={"wrong": wrong})
        alone = trainer.evaluate((x, labels), metrics={})
        found = trainer.evaluate((x, labels), {"half": metric, "f1": ic.metrics.f1_score})
        outputs, targets = given[0]
        np.testing.assert_array_equal(outputs, trainer.net.predict(x))
        np.testing.assert_array_equal(targets, labels)
        assert found == alone | {"half": 0.5, "f1": ic.metrics.f1_score(outputs, labels)}
        assert trainer.evaluate((x, labels)) == alone | {"wrong": round(40 * (1 - alone["accuracy"]))}
        trainer.net.predict(np.zeros_like(x))
        np.testing.assert_array_equal(outputs, given[0][0])
        assert outputs.any(), "the outputs are the metric's own"


def test_the_history_has_what_was_measured_on_the_validation_data(tmp_path):
    plain, measured = ic.Trainer(network()), ic.Trainer(network())
    plain.fit((x, labels), 2, 8, (x[:20], labels[:20]))
    history = measured.fit((x, labels), 2, 8, (x[:20], labels[:20]), tmp_path, metrics={"wrong": wrong})
    for name in "loss", "validation_loss", "validation_accuracy":
        assert history[name] == plain.history[name]
    assert history["validation_wrong"] == [round(20 * (1 - share)) for share in history["validation_accuracy"]]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == list(history)
    again = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert again.history == history
    again.fit((x, labels), 3, 8, (x[:20], labels[:20]), metrics=measured.metrics)
    assert len(again.history["validation_wrong"]) == 3


def test_of_several_outputs_a_metric_gets_tuples():
    net = ic.Net({"flat": ic.Flatten(), "a": (ic.Linear(64, 3), "flat"), "b": (ic.Linear(64, 1), "flat")}, ["a", "b"])
    trainer = ic.Trainer(net, ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()]), ic.SGD(0.01))
    a, b = trainer.net.predict(x)
    seen = trainer.net.evaluated(x, (labels, np.zeros((40, 1))), trainer.loss, keep=True)[1]
    np.testing.assert_array_equal(seen[0], a)
    np.testing.assert_array_equal(seen[1], b)


def test_a_metric_that_is_not_finite_is_left_out_of_the_history(tmp_path):
    trainer = ic.Trainer(network())
    with pytest.warns(ic.TrainingWarning, match="metric 'odd' is nan after epoch 1: the history does not hold it"):
        history = trainer.fit((x, labels), 1, 8, (x, labels), tmp_path, metrics={"odd": lambda o, t: np.nan, "n": len_})
    assert "validation_odd" not in history[0]
    assert history[0]["validation_n"] == 40


def len_(outputs, targets):
    return len(targets)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([wrong], "metrics must be a dict"),
        ({"accuracy": wrong}, "none of epoch, .*, accuracy; got 'accuracy'"),
        ({"validation_wrong": wrong}, "does not begin with validation_"),
        ({"two words": wrong}, "got 'two words'"),
        ({"wrong": 3}, "metric 'wrong' must be a function of outputs and targets, got 3"),
        ({"wrong": lambda o, t: o}, "metric 'wrong' must return one number"),
        ({"wrong": lambda o, t: None}, "metric 'wrong' must return one number, it returned None"),
    ],
)
def test_unsuited_metrics_are_named(metrics, message):
    trainer = ic.Trainer(network())
    with pytest.raises(ic.ShapeError, match=message):
        trainer.evaluate((x, labels), metrics=metrics)
