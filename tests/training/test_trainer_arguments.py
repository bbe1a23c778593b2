"""What a trainer, its steps and ``fit`` refuse before they start."""

import pytest
from helpers import GenericBackend, batches
from small_networks import GOOD, LABELS, plain

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")

batch = batches((1, 8, 8), classes=2, n=20)


def test_a_network_initialised_again_needs_a_new_trainer():
    net = plain().init(0)
    trainer = ic.Trainer(net)
    trainer.step(GOOD, LABELS)
    net.init(1, "float64")
    with pytest.raises(ic.ShapeError, match="make a new Trainer"):
        trainer.step(GOOD, LABELS)
    ic.Trainer(net).step(GOOD, LABELS)


def test_the_backend_asked_for_is_that_of_the_parameters(tmp_path):
    net = plain().init(0, backend="numpy")
    other = GenericBackend()
    with pytest.raises(ic.BackendError, match=f"'{other.name}' is asked for.* on 'numpy' already: .*net.init"):
        ic.Trainer(net, backend=other)
    trainer = ic.Trainer(net, backend="numpy")
    trainer.save(tmp_path / "checkpoint")
    with pytest.raises(ic.BackendError, match="is asked for"):
        ic.Trainer.load(tmp_path / "checkpoint", net, other)
    assert ic.Trainer.load(tmp_path / "checkpoint", net, "numpy").net is net
    assert ic.Trainer.load(tmp_path / "checkpoint", backend=other).net.backend is other


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"shard": 0}, "shard"),
        ({"shard": -1}, "shard"),
        ({"shard": 1.5}, "shard"),
        ({"seed": -1}, "seed"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"optimizer": ic.SGD}, "optimizer"),
    ],
)
def test_bad_arguments_of_a_trainer(arguments, text):
    with pytest.raises(ic.Im2colnetError, match=text):
        ic.Trainer(plain(), **arguments)


def test_fit_takes_pairs_and_refuses_before_it_starts_what_it_cannot_use():
    images, labels = batch(40)
    trainer = ic.Trainer(ic.models.notebook())
    trainer.fit((images, labels), 1, validation=(images, labels))
    for wrong, text in (
        ({"train": images}, "train must be a data set or a pair"),
        ({"train": (images, labels + 1)}, "labels must be 0 to 1"),
        ({"train": (images, labels), "validation": (images[:, :, :2, :2], labels)}, "layer '0'"),
        ({"train": (images, labels), "validation": "digits"}, "validation must be"),
    ):
        with pytest.raises(ic.Im2colnetError, match=text):
            trainer.fit(**wrong, epochs=5)
    assert trainer.epoch == 1
