"""Checkpoints that earlier versions wrote load, and training goes on as it did there."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference.make_checkpoints import batches

import im2colnet as ic

FOLDER = Path(__file__).parents[1] / "reference" / "checkpoints"
FILES = sorted(FOLDER.rglob("*.safetensors"))
#: other processors round otherwise, and three steps of training let that grow
TOLERANCE = {"float32": 2e-3, "float64": 1e-6}


def test_there_are_checkpoints_of_both_versions():
    assert {path.parent.name for path in FILES} == {"e8ed18f", "f9962d8"}
    assert len(FILES) == 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_training_goes_on(path):
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (26, 1, 8, 8)).astype("uint8"), np.arange(26) % 3
    after = json.loads(path.with_name("after.json").read_text())[path.stem]
    trainer = ic.Trainer.load(path)
    done = 1 if path.stem.endswith("middle") else 2
    assert trainer.epoch == len(trainer.history) == done
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.TrainingWarning)  # a cosine gets another length
        losses = trainer.fit(data, epochs=3, batch_size=6, validation=data)["loss"]
    assert trainer.epoch == 3
    rtol = TOLERANCE[trainer.net.dtype]
    assert_allclose(losses, after["epochs"], rtol=rtol)
    assert_allclose([trainer.step(*batch) for batch in batches()], after["losses"], rtol=rtol)
    assert_allclose(trainer.net.predict(data[0][:2]), after["prediction"], rtol=rtol, atol=rtol)
