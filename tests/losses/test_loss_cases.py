"""Every loss of the library gives what its oracle does, on every backend and however the batch is divided."""

import numpy as np
import pytest
from helpers import normal, trained_loss
from numpy.testing import assert_allclose

from im2colnet.testing.cases import LOSSES

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
GRADIENT_TOLERANCE = {"float64": 1e-9, "float32": 1e-5}  # most oracles find gradients by differences


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize("case", LOSSES, ids=lambda case: repr(case.loss))
def test_value_and_gradient(case, shard, dtype, every_backend):
    output, targets = normal(*case.output, dtype=dtype), case.targets(np.random.default_rng(1))
    value, gradient = trained_loss(case.loss, output, targets, shard, every_backend)
    assert_allclose(value, case.value(output, targets), rtol=TOLERANCE[dtype])
    tolerance = GRADIENT_TOLERANCE[dtype]
    assert_allclose(gradient, case.gradient(output, targets), rtol=tolerance, atol=tolerance)
