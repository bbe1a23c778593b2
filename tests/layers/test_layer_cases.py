"""Every layer of the library keeps its contract and computes what its oracle does, on every backend."""

import pytest
from helpers import OFFSET, Probe, normal
from numpy.testing import assert_allclose

from im2colnet.testing import check_layer, differentiate
from im2colnet.testing.cases import LAYERS
from im2colnet.testing.inputs import PART, input_shape_of, network_of

EXAMPLES = [
    pytest.param(case, layer, shapes, id=f"{layer!r} of {', '.join(map(str, shapes))}")
    for case in LAYERS
    for layer, *shapes in case.examples
]


def random(case, layer, shapes):
    """Whether chance decides what the layer gives in training."""
    return getattr(layer, "p", 0) > 0


@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_the_contract(case, layer, shapes, every_backend):
    before = dict(vars(layer))
    check_layer(layer, shapes, backend=every_backend, expected=case.forward)
    assert vars(layer) == before


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize(("case", "layer", "shapes"), [example for example in EXAMPLES if not random(*example.values)])
def test_the_gradients_of_a_batch_are_the_oracle_s(case, layer, shapes, shard):
    x = normal(5, *input_shape_of(*shapes))
    probe = Probe([network_of(layer, *shapes)], x, shard=shard)
    result = probe.step()
    dx, gradients = differentiate(probe.net, x, probe.dy.reshape(5, -1), own=[OFFSET, PART])
    assert_allclose(result.dx, dx, rtol=1e-9, atol=1e-11)
    for name, gradient in result.gradients.items():
        assert_allclose(gradient, gradients[name], rtol=1e-9, atol=1e-11, err_msg=name)
