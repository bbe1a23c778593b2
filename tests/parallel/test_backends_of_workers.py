"""Which backend the workers use, and which backends get several workers."""

import numpy as np
from helpers import batches

import im2colnet as ic
from im2colnet.backend import Division

batch = batches((1, 8, 8), classes=2, n=20)


class Convolve(ic.Layer):
    """Uses the functional operators, so the backend in use."""

    stateless = True

    def __init__(self, seen):
        self.seen = seen

    def forward(self, x, ctx):
        self.seen.append(ic.get_backend())
        return x

    def backward(self, dy, ctx):
        return dy


def test_use_backend_reaches_the_workers():
    class Mine(ic.Backend):
        name, xp, threads = "mine", np, True
        division = Division(shard_max_numbers=1, shard_min_numbers=1)

    seen, mine = [], Mine()
    before = ic.get_num_threads()
    try:
        ic.set_num_threads(3)
        with ic.use_backend(mine):
            net = ic.Sequential([Convolve(seen), ic.Flatten(), ic.Linear(64, 2)]).init(0)
            net.predict(batch(100)[0])
    finally:
        ic.set_num_threads(before)
    assert len(seen) == 4
    assert set(seen) == {mine}


def test_a_generic_backend_is_not_given_threads():
    class Mine(ic.Backend):
        name, xp = "mine", np

    net = ic.models.notebook().init(0, backend=Mine())
    trainer = ic.Trainer(net)
    trainer.step(*batch(100))
    assert trainer.workers == "1 worker"
