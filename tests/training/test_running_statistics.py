"""Batch norm's running statistics are those of the whole batch, however it is divided."""

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "shard"), [(10, 3), (7, 1), (5, 32)])
def test_running_statistics_are_those_of_the_whole_batch(n, shard, threads):
    ic.set_num_threads(threads)
    net = ic.Sequential([ic.BatchNorm2d(3, momentum=0.3), ic.Flatten(), ic.Linear(60, 2)]).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.0), shard=shard)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = normal(n, 3, 4, 5, seed=step) * 3 + 100
        trainer.step(x, np.zeros(n, int))
        _, mean, var = oracles.batch_norm(x, mean, var, np.ones(3), np.zeros(3), training=True, momentum=0.3)
        assert_allclose(net.state_dict()["0.running_mean"], mean, rtol=1e-12)
        assert_allclose(net.state_dict()["0.running_var"], var, rtol=1e-10)


def test_running_statistics_in_float32_of_pixels_far_from_zero():
    """The variance is not the difference of two large numbers."""
    net = ic.Sequential([ic.BatchNorm2d(1, momentum=1.0), ic.Flatten(), ic.Linear(100, 2)]).init(0)
    x = (normal(64, 1, 10, 10) + 1000).astype("float32")
    ic.Trainer(net, optimizer=ic.SGD(0.0), shard=8).step(x, np.zeros(64, int))
    assert_allclose(net.state_dict()["0.running_var"], [x.astype("f8").var(ddof=1)], rtol=1e-4)
