"""What backward takes over: the gradient of the activation in that of batch norm, and the positions of maxima."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, normal
from im2colnet_numpy import NumpyBackend

import im2colnet as ic
from im2colnet.backend import kernel, position_type
from im2colnet.backend.normalization import Normalization
from im2colnet.backend.pooling import Pooling
from im2colnet.window import make_window

IMAGES, LABELS = normal(6, 3, 9, 8, dtype="float32"), np.arange(6) % 4


def network(activation=ic.ReLU, norm=ic.BatchNorm2d):
    """Convolution, batch norm, activation, overlapping pool, and the same in a branch that others read too."""
    body = [ic.Conv2d(5, 5, 3, padding=1, bias=False), norm(5), activation(), ic.Conv2d(5, 5, 1), norm(5)]
    return ic.Sequential(
        [
            ic.Conv2d(3, 5, 3, padding=1, bias=False),
            norm(5),
            activation(),
            ic.MaxPool2d(3, 2, 1),
            ic.Residual(ic.Sequential(body)),
            activation(),
            ic.Flatten(),
            ic.Linear(100, 4),
        ]
    )


class Separate(GenericBackend):
    """The generic backend as it was: kernels that know neither an activation nor positions."""

    def saves_positions(self, window):
        return False

    @kernel()
    def batch_norm_grad_sums(self, x, mean, dy, out=None, scratch=None):
        yield from Normalization.batch_norm_grad_sums.prepare(self, (x, mean, dy), {"out": out})


class Old(GenericBackend):
    """A plug-in written before: its own kernels have none of the new arguments."""

    @kernel()
    def max_pool2d(self, x, window, out=None, scratch=None):
        yield from Pooling.max_pool2d.prepare(self, (x, window), {"out": out})

    def max_pool2d_grad(self, x, y, dy, window, out=None):
        return Pooling.max_pool2d_grad(self, x, y, dy, window, out=out)

    def batch_norm_grad_sums(self, x, mean, dy, **options):
        return Normalization.batch_norm_grad_sums(self, x, mean, dy, **options)


def trained(net, backend, steps=3, **options):
    """The state of a network after some steps."""
    net.init(seed=1, dtype="float32", backend=backend)
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1, momentum=0.9), seed=1, **options)
    losses = [trainer.step(IMAGES, LABELS) for _ in range(steps)]
    return {"loss": np.array(losses), **net.state_dict()}


def joined(net, backend):
    """Names of the nodes that begin with the gradient of the activation after them."""
    net.init(seed=1, backend=backend)
    plan = net.plan(len(IMAGES), IMAGES.shape[1:], training=True).largest
    return [plan.graph.nodes[i].name for i in plan.joined]


@pytest.mark.parametrize("activation", [ic.ReLU, ic.Tanh, ic.ReLU6, ic.SiLU])
@pytest.mark.parametrize("shard", [None, 2])
def test_training_has_the_bits_of_gradients_that_are_made_apart(activation, shard):
    expected = trained(network(activation), Separate(), shard=shard)
    found = trained(network(activation), GenericBackend(), shard=shard)
    for name, array in expected.items():
        assert_same_bits(found[name], array)


@pytest.mark.parametrize("backend", [GenericBackend, NumpyBackend])
def test_batch_norm_makes_the_gradient_of_the_activation_that_it_applies(backend):
    assert joined(network(), backend()) == ["1", "4.body.1"]
    assert joined(network(ic.SiLU), backend()) == []  # whose slope reads the input
    assert joined(network(), Separate()) == []


def test_kernels_of_an_older_plug_in_are_called_as_they_were():
    old, net = Old(), network()
    assert not old.max_pool2d.takes("positions")
    assert not old.max_pool2d_grad.takes("positions")
    assert not old.batch_norm_grad_sums.takes("activation")
    assert joined(net, old) == []
    expected, found = trained(network(), Separate()), trained(network(), old)
    for name, array in expected.items():
        assert_same_bits(found[name], array)


class Doubled(ic.ReLU):
    """Its gradient is its own."""

    def backward(self, dy, ctx):
        ctx.dx[...] = 2 * dy * (ctx.y > 0)
        return ctx.dx


class OwnSums(ic.BatchNorm2d):
    """Its sums are its own, and it does not know of the activation's gradient."""

    def shard_grad_sums(self, dy, ctx):
        super().shard_grad_sums(dy.copy(), ctx)


def test_a_gradient_of_ones_own_stays_ones_own():
    assert joined(network(Doubled), GenericBackend()) == []
    assert joined(network(norm=OwnSums), GenericBackend()) == []
    replaced = network()
    replaced[2].backward = replaced[2].backward
    assert joined(replaced, GenericBackend()) == ["4.body.1"]


@pytest.mark.parametrize(
    "frozen", [["1.running_mean", "1.running_var"], ["1.*"], ["0.*", "1.*"], ["1.weight"], ["4.body.1.*"]]
)
def test_what_is_frozen_changes_no_bit(frozen):
    results = []
    for backend in Separate(), GenericBackend():
        net = network()
        net.init(seed=1, dtype="float32", backend=backend)
        net.freeze(*frozen, statistics=True)
        trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1), seed=1)
        losses = [trainer.step(IMAGES, LABELS) for _ in range(2)]
        results.append({"loss": np.array(losses), **net.state_dict()})
    for name, array in results[0].items():
        assert_same_bits(results[1][name], array)


@pytest.mark.parametrize(
    ("kernel_size", "dtype"), [(1, "uint8"), (16, "uint8"), ((1, 257), "int16"), ((128, 256), "int16"), (182, "int32")]
)
def test_positions_are_of_the_narrowest_type(kernel_size, dtype):
    assert position_type(make_window(kernel_size)) == dtype
    largest = np.prod(make_window(kernel_size).kernel) - 1
    assert largest <= np.iinfo(dtype).max


def test_without_x_the_size_of_the_image_must_be_given():
    dy, positions = np.ones((2, 1, 2, 1), "float32"), np.zeros((2, 1, 2, 1), "uint8")
    for backend in GenericBackend(), NumpyBackend():
        with pytest.raises(TypeError, match="needs out="):
            backend.max_pool2d_grad(None, None, dy, make_window(2, 2), positions)


def test_saved_positions_are_all_that_pooling_keeps():
    net = ic.Sequential([ic.Conv2d(3, 5, 1), ic.MaxPool2d(3, 2), ic.Flatten(), ic.Linear(60, 4)])
    net.init(backend=GenericBackend())
    plan = net.plan(6, (3, 9, 8), training=True).largest
    made, loss = plan.made[1], plan.when["loss", len(plan.graph.nodes)]
    assert plan.values[1].end == made  # the convolution's output is read by the forward pass alone
    saved = plan.saved[1]["positions"]
    assert (saved.start, saved.end > loss) == (made, True)
    assert saved.nbytes == 384  # 4·5·3·6 bytes, rounded up to a line of the cache
