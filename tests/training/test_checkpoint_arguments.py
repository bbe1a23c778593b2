"""A checkpoint keeps layers, losses, optimisers and schedules with their arguments, and says what it cannot keep."""

import numpy as np
import pytest
from helpers import batches

import im2colnet as ic

batch = batches((1, 8, 8), classes=2, n=20)


class Halved(ic.CrossEntropyLoss):
    """Half the loss."""

    def __call__(self, logits, labels, scale, metrics, dlogits, backend):
        super().__call__(logits, labels, scale / 2, metrics, dlogits, backend)


def test_a_checkpoint_keeps_the_loss(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), loss=Halved())
    trainer.save(tmp_path / "a")
    assert type(ic.Trainer.load(tmp_path / "a").loss) is Halved
    with pytest.raises(ic.ShapeError, match="loss must be"):
        ic.Trainer(ic.models.notebook(), loss="cross entropy")


class Gain(ic.Layer):
    def __init__(self, gain):
        self.gain = gain

    def forward(self, x, ctx):
        return x

    def backward(self, dy, ctx):
        return dy


@pytest.mark.parametrize("gain", [np.array(0.5), np.array([1.0, 2.0])])
def test_array_arguments_are_not_stored_as_something_else(gain, tmp_path):
    trainer = ic.Trainer(ic.Sequential([Gain(gain), ic.Flatten(), ic.Linear(64, 2)]))
    with pytest.raises(ic.CheckpointError, match="cannot store"):
        trainer.save(tmp_path / "a")
    repr(trainer.net)


def test_a_layer_with_the_name_of_a_built_in_is_not_mistaken_for_it(tmp_path):
    trainer = ic.Trainer(ic.models.notebook())
    trainer.save(tmp_path / "a")
    mine = type("Conv2d", (ic.Conv2d,), {"__module__": __name__})
    assert type(ic.Trainer.load(tmp_path / "a").net.layers[0]) is ic.Conv2d
    other = ic.Trainer(ic.Sequential([mine(1, 2, 3), ic.Flatten(), ic.Linear(72, 2)]))
    other.save(tmp_path / "b")
    assert type(ic.Trainer.load(tmp_path / "b").net.layers[0]) is mine


def test_a_checkpoint_of_another_type_is_refused(tmp_path):
    ic.Trainer(ic.models.notebook()).save(tmp_path / "a")
    with pytest.raises(ic.CheckpointError, match=r"float32.*float64"):
        ic.Trainer.load(tmp_path / "a", net=ic.models.notebook().init(0, "float64"))


class Smooth(ic.CrossEntropyLoss):
    def __init__(self, eps=0.1):
        self.eps = eps


class Decaying(ic.Optimizer):
    def __init__(self, lr, rho=0.9):
        super().__init__(lr)
        object.__setattr__(self, "rho", rho)

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr * self.rho**t * g


class Steps(ic.Constant):
    def __call__(self, step, total):
        return self.lr / (1 + step // 10)


def test_checkpoints_keep_the_arguments_of_losses_optimisers_and_schedules_of_ones_own(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), Smooth(0.3), Decaying(Steps(0.1), rho=0.5))
    trainer.step(*batch())
    trainer.save(tmp_path / "a")
    loaded = ic.Trainer.load(tmp_path / "a")
    assert loaded.loss.eps == 0.3
    assert loaded.optimizer.rho == 0.5
    assert loaded.optimizer.lr == Steps(0.1)
    adam = type("Adam", (Decaying,), {"__module__": __name__})
    ic.Trainer(ic.models.notebook(), optimizer=adam(0.1)).save(tmp_path / "b")
    assert type(ic.Trainer.load(tmp_path / "b").optimizer) is adam


def test_numpy_integers_are_integers_in_checkpoints(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), seed=np.int64(3), shard=np.int64(8))
    trainer.fit(batch(), np.int64(1), np.int32(5), directory=tmp_path)
    assert ic.Trainer.load(tmp_path / "checkpoint.safetensors").epoch == 1
