"""Every optimiser of the library makes the steps of its oracle, on every backend."""

import numpy as np
import pytest
from helpers import Offset, Projection, images, normal, rows
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing.cases import OPTIMIZERS

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: repr(case.optimizer))
def test_five_steps(case, dtype, every_backend):
    """Of a network that is nothing but its input and an offset, whose gradient is what the loss says."""
    x, gradients = np.zeros((4, 3), dtype), normal(5, 4, 3, dtype=dtype)
    net = ic.Sequential([Offset(rows(x).shape, len(x))]).init(0, dtype, every_backend)
    loss = Projection(np.zeros_like(x))
    trainer = ic.Trainer(net, loss=loss, optimizer=case.optimizer, shard=len(x))
    p, state = x, ()
    with ic.num_threads(1):
        for t, gradient in enumerate(gradients, start=1):
            loss.dy[...] = gradient
            trainer.step(x, np.zeros(len(x), int))
            p, state = case.step(p, gradient, state, t)
            found = images(net.backend.to_numpy(net.parameters()["0.offset"]))
            assert found.dtype == dtype
            assert_allclose(found, p, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
