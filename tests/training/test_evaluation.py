"""Evaluation measures the predictions, of the network as it is now, and changes nothing."""

import numpy as np
import pytest
from helpers import assert_same_bits, batches, everything, normal
from small_networks import GOOD, LABELS, with_both

import im2colnet as ic
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")

batch = batches((1, 8, 8), classes=2, n=20)


def test_evaluation_is_that_of_the_predictions():
    x, labels = normal(70, 3, 8, 8, dtype="float32"), np.random.default_rng(0).integers(0, 4, 70)
    trainer = ic.Trainer(with_both().init(0, "float64"))
    trainer.step(GOOD, LABELS)
    before = everything(trainer)
    result = trainer.evaluate(ic.datasets.Dataset(x, labels))
    logits = trainer.net.predict(x)
    assert result["loss"] == pytest.approx(oracles.cross_entropy(logits, labels), rel=1e-10)
    assert result["accuracy"] == (logits.argmax(1) == labels).mean()
    assert_same_bits(everything(trainer), before)


def test_evaluate_and_save_refuse_a_network_that_was_initialised_again(tmp_path):
    net = ic.models.notebook().init(0)
    trainer, data = ic.Trainer(net), batch()
    before = trainer.evaluate(data)
    net.init(1)
    assert trainer.evaluate(data) != before
    with pytest.raises(ic.ShapeError, match="make a new Trainer"):
        trainer.save(tmp_path / "a")
