"""What trains in a process of its own, also where ranks would be asked for."""

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet.reports.doctor import step_seconds

pytestmark = pytest.mark.usefixtures("one_thread")


def estimator():
    pytest.importorskip("sklearn")
    from im2colnet.sklearn import CNNClassifier

    model = ic.Sequential([ic.Flatten(), ic.Linear(36, 3)])
    CNNClassifier(model, epochs=1).fit(normal(12, 36), np.arange(12) % 3)


TRAINERS = {
    "a trainer": lambda: ic.Trainer(ic.Sequential([ic.Linear(3, 2)]), ranks="none").step(normal(4, 3), [0, 1, 0, 1]),
    "an estimator": estimator,
    "a check of a layer": lambda: ic.testing.check_layer(ic.ReLU(), (2, 4, 4)),
    "the doctor": lambda: step_seconds(ic.get_backend("numpy"), 1, 2),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_no_ranks_are_asked_for(name, monkeypatch):
    """A trainer that asks for ranks refuses this setting."""
    monkeypatch.setenv("IM2COLNET_RANKS", "some")
    with pytest.raises(ic.ShapeError, match="IM2COLNET_RANKS must be one of"):
        ic.Trainer(ic.Sequential([ic.Linear(3, 2)]))
    TRAINERS[name]()
