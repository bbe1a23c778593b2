"""What a loss counts beside its value. (Values and gradients: tests/reference/test_torch_values.py.)"""

import numpy as np
import pytest
from helpers import normal
from reference.torch_values import every_case

import im2colnet as ic


@every_case("cross_entropy")
def test_accuracy_is_the_share_of_right_predictions(config, arrays):
    logits, labels = arrays["logits"].astype("float64"), arrays["labels"]
    net = ic.Sequential([ic.Linear(logits.shape[1], logits.shape[1], bias=False)]).init(0, "float64")
    net.parameters()["0.weight"][...] = np.eye(logits.shape[1])
    found = ic.Trainer(net).evaluate((logits, labels))
    assert found["accuracy"] == (logits.argmax(1) == labels).mean()
    assert found["loss"] * (len(labels) if config["reduction"] == "sum" else 1) == pytest.approx(float(arrays["loss"]))


def test_the_first_of_equal_scores_is_the_prediction():
    net = ic.Sequential([ic.Linear(3, 3, bias=False)]).init(0)
    net.parameters()["0.weight"][...] = 0
    images = normal(4, 3, dtype="float32")
    assert ic.Trainer(net).evaluate((images, np.array([0, 0, 1, 2])))["accuracy"] == 0.5
