"""Callbacks that write down the history, and one that calls functions."""

import csv
import sys

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet.training.callbacks import CSVLog, Function, TensorBoard

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = normal(20, 1, 4, 4, dtype="float32"), np.arange(20) % 3


def fit(epochs, *callbacks, trainer=None, **more):
    trainer = trainer or ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 3)]))
    return trainer, trainer.fit(DATA, epochs, 5, validation=DATA, callbacks=callbacks, progress=False, **more)


def test_a_table_of_the_history(tmp_path):
    class Adds(ic.Callback):
        def epoch(self, record):
            if record["epoch"] == 2:
                record["=1+1"] = 3.5

    path = tmp_path / "log.csv"
    trainer, history = fit(2, Adds(), CSVLog(path))
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == [*history[0], "'=1+1"]  # what begins with = is a formula elsewhere
    assert [[float(cell) for cell in row] for row in (rows[1][:-1], rows[2])] == [[*r.values()] for r in history]
    assert rows[1][-1] == ""
    fit(3, CSVLog(path), trainer=trainer)
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(ic.CheckpointError, match="there is no folder"):
        fit(1, CSVLog(tmp_path / "missing" / "log.csv"))


def test_functions_are_called():
    seen = []
    fit(
        2,
        Function(
            on_start=lambda trainer: seen.append(trainer.epoch),
            on_step=lambda progress: seen.append((progress.epoch, progress.batch)),
            on_epoch=lambda record: seen.append(record["epoch"]),
            on_end=lambda: seen.append("end"),
        ),
        Function(),
    )
    steps = [[(epoch, batch) for batch in range(1, 5)] for epoch in (1, 2)]
    assert seen == [0, *steps[0], 1, *steps[1], 2, "end"]
    with pytest.raises(ic.ShapeError, match="on_epoch must be a function"):
        Function(on_epoch=3)


def scalars(folder):
    """Read the scalars of TensorBoard's files: length, checksum, record, checksum, as the protocol buffers say."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            event = event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    trainer, history = fit(2, TensorBoard(every=3), directory=tmp_path)
    found = scalars(tmp_path / "tensorboard")
    assert found.keys() == {
        *("loss/training", "loss/validation", "accuracy/training", "accuracy/validation"),
        *("lr", "seconds", "images_per_second", "loss/step"),
    }
    for tag, name in {"loss/training": "loss", "accuracy/validation": "validation_accuracy", "lr": "lr"}.items():
        assert found[tag] == pytest.approx(dict(zip((1, 2), history[name], strict=True)))
    assert [*found["loss/step"]] == [3, 6]
    fit(3, TensorBoard(tmp_path / "tensorboard"), trainer=trainer)
    assert [*scalars(tmp_path / "tensorboard")["lr"]] == [1, 2, 3]


def test_tensorboard_says_what_it_needs(monkeypatch, tmp_path):
    with pytest.raises(ic.ShapeError, match="TensorBoard needs a folder"):
        fit(1, TensorBoard())
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ic.Im2colnetError, match=r"needs tensorboardX: pip install tensorboardX"):
        fit(1, TensorBoard(tmp_path))
