"""Every layer of the library keeps its contract and computes what its oracle does, on every backend."""

import pytest
from helpers import OFFSET, Probe, divided, layer_examples, normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import check_layer, differentiate
from im2colnet.testing.cases import LAYERS
from im2colnet.testing.inputs import PART, input_shape_of, network_of

EXAMPLES = layer_examples()


def random(case, layer, shapes):
    """Whether chance decides what the layer gives in training."""
    return getattr(layer, "p", 0) > 0


@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_the_contract(case, layer, shapes, every_backend):
    before = dict(vars(layer))
    in_network = every_backend.name == "numpy" and layer is case.examples[0][0]
    check_layer(layer, shapes, backend=every_backend, expected=case.forward, domain=case.domain, in_network=in_network)
    assert vars(layer) == before


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize(("case", "layer", "shapes"), [example for example in EXAMPLES if not random(*example.values)])
def test_the_gradients_of_a_batch_are_the_oracle_s(case, layer, shapes, shard):
    x = case.domain(normal(5, *input_shape_of(*shapes)))
    probe = Probe([network_of(layer, *shapes)], x, shard=shard)
    result = probe.step()
    dx, gradients = differentiate(probe.net, x, probe.dy.reshape(5, -1), own=[OFFSET, PART])
    assert_allclose(result.dx, dx, rtol=1e-9, atol=1e-11)
    for name, gradient in result.gradients.items():
        assert_allclose(gradient, gradients[name], rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("bands", [2, 3])
@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_an_image_whose_rows_workers_share_is_the_whole_one(case, layer, shapes, bands):
    """One worker makes all bands here, by the programs that several workers have."""
    x, found = case.domain(normal(1, *input_shape_of(*shapes))), []
    for count in 1, bands:
        with divided(bands=count, band_min_flops=1):
            net = network_of(layer, *shapes).init(0, "float64")
        with ic.num_threads(1):
            found.append(net.predict(x))
    assert_allclose(found[1], found[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [case.kind for case in LAYERS], ids=lambda kind: kind.__name__)
def test_what_a_layer_says_of_rows_is_used(kind):
    """A family's ``band`` would not be, in a class that defines the forward pass anew."""
    assert kind.keeps("band") == (kind.band is not ic.Layer.band)
