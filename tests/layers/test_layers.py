"""The layers and combinators inside real networks: PyTorch's values, gradient checks, users' own layers, errors."""

import numpy as np
import pytest
from helpers import OFFSET, Probe, Projection, assert_same_bits, loss_and_gradient, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.layers import Layer, Needs, Parameter
from im2colnet.layers.convolution import NormalizedConv2d
from im2colnet.testing import differentiate, evaluate, oracles
from im2colnet.testing.cases import LayerCase

pytestmark = pytest.mark.usefixtures("one_thread")


def close(actual, expected, rtol=1e-10, atol=1e-12):
    assert np.shape(actual) == np.shape(expected)
    assert_allclose(actual, expected, rtol=rtol, atol=atol)


def wide(arrays, *names):
    return (arrays[name].astype("float64") for name in names)


# PyTorch's values, in training and in evaluation --------------------------------------------------------------------
def check(layer, arrays, state=None, gradients=(), shard=None):
    """Compare a layer's y, dx and parameter gradients in training, and its y in evaluation, with PyTorch's."""
    x, dy = wide(arrays, "x", "dy")
    probe = Probe([layer], x, dy, {f"1.{name}": value for name, value in (state or {}).items()}, shard)
    result = probe.step()
    close(result.y, arrays["y"])
    close(result.dx, arrays["dx"])
    assert result.gradients.keys() == {f"1.{name}" for name in gradients}
    for name, key in dict(gradients).items():
        close(result.gradients[f"1.{name}"], arrays[key])
    net = ic.Sequential([layer]).init(0, "float64")
    for name, value in (state or {}).items():
        net.parameters()[f"0.{name}"][...] = value
    close(net.predict(x), arrays["y"])


def test_flatten_has_pytorch_s_order():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    check(ic.Flatten(), {"x": x, "dy": -x.reshape(2, 60), "y": x.reshape(2, 60), "dx": -x})
    features = x.reshape(8, 15)
    check(ic.Flatten(), {"x": features, "dy": -features, "y": features, "dx": -features})


def test_batch_norm_without_parameters():
    x, dy = normal(4, 3, 5, 2), normal(4, 3, 5, 2, seed=1)
    y, mean, var = oracles.batch_norm(x, np.zeros(3), np.ones(3), np.ones(3), np.zeros(3), training=True)
    dx, _, _ = oracles.batch_norm_grad(x, dy, mean, var, np.ones(3), training=True)
    probe = Probe([ic.BatchNorm2d(3, affine=False)], x, dy, shard=2)
    result = probe.step()
    close(result.y, y)
    close(result.dx, dx)
    assert result.gradients == {}
    close(probe.net.state_dict()["1.running_mean"], mean)
    close(probe.net.state_dict()["1.running_var"], var)


def test_zero_pad_shortcut():
    """Option A of He et al. 2015: every second pixel, and zeros for the new channels."""
    x, dy = normal(2, 3, 5, 6), normal(2, 7, 3, 3, seed=1)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for n, c, h, w in np.ndindex(2, 3, 3, 3):
        y[n, c, h, w] = x[n, c, 2 * h, 2 * w]
        dx[n, c, 2 * h, 2 * w] = dy[n, c, h, w]
    check(ic.ZeroPadShortcut(3, 7, 2), {"x": x, "dy": dy, "y": y, "dx": dx})
    check(ic.ZeroPadShortcut(3, 3), {"x": x, "dy": x, "y": x, "dx": x})


# Dropout ------------------------------------------------------------------------------------------------------------
def test_dropout():
    x = normal(8, 3, 10, 10) + 5
    probe = Probe([ic.Dropout(0.3)], x, np.ones_like(x))
    result = probe.step()
    kept = result.dx != 0
    assert abs(kept.mean() - 0.7) < 0.02
    close(result.dx[kept], np.full(kept.sum(), 1 / 0.7))
    close(result.y, np.where(kept, x / 0.7, 0))
    assert_same_bits(probe.step().dx, result.dx)  # the same key, the same mask
    assert_same_bits(Probe([ic.Dropout(0.3)], x, np.ones_like(x)).step().dx, result.dx)
    close(ic.Sequential([ic.Dropout(0.3)]).init(0, "float64").predict(x), x)


def test_dropout_draws_anew_for_every_step_layer_shard_and_seed():
    class Watched(ic.Dropout):
        def forward(self, x, ctx):
            y = super().forward(x, ctx)
            found.append((y != 0).ravel())
            return y

    found, x = [], np.ones((8, 500), "float32")
    for seed, steps, shard in [(0, 2, 8), (1, 1, 8), (2, 1, 4)]:
        net = ic.Sequential([Watched(0.5), ic.Linear(500, 500, bias=False), Watched(0.5), ic.Linear(500, 2)])
        trainer = ic.Trainer(net.init(0), optimizer=ic.SGD(lr=0.0), seed=seed, shard=shard)
        for _ in range(steps):
            trainer.step(x, [0] * 8)
    assert len(found) == 2 * 2 + 2 + 2 * 2
    for i, a in enumerate(found):
        assert abs(a.mean() - 0.5) < 0.05
        for b in found[:i]:
            n = min(len(a), len(b))
            assert abs((a[:n] == b[:n]).mean() - 0.5) < 0.05, "two masks are alike"


# Gradients by differences along random directions -------------------------------------------------------------------
def residual(*layers, shortcut=None):
    return ic.Residual(ic.Sequential(list(layers)), shortcut)


def bottleneck():
    """Two convolutions with batch norm, and another one as the shortcut."""
    shortcut = ic.Sequential([ic.Conv2d(3, 4, 1, 2, bias=False), ic.BatchNorm2d(4)])
    body = [ic.Conv2d(3, 4, 3, 2, padding=1, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1)]
    return [residual(*body, ic.BatchNorm2d(4), shortcut=shortcut), ic.ReLU()]


NETS = {
    "conv": lambda: [ic.Conv2d(3, 4, 3)],
    "conv without bias": lambda: [ic.Conv2d(3, 4, (2, 3), bias=False)],
    "conv strided, dilated, padded on one side": lambda: [
        ic.Conv2d(3, 4, 3, stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2))
    ],
    "conv in groups": lambda: [ic.Conv2d(3, 4, 1), ic.Conv2d(4, 6, 3, padding=1, groups=2)],
    "conv depthwise": lambda: [ic.Conv2d(3, 6, 3, padding="same", groups=3)],
    "conv, many channels": lambda: [ic.Conv2d(3, 12, 1), ic.Conv2d(12, 13, 3, padding=1), ic.Conv2d(13, 2, 1)],
    "linear": lambda: [ic.Flatten(), ic.Linear(3 * 7 * 6, 5), ic.Linear(5, 4, bias=False)],
    "relu after each": lambda: [ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(80, 6), ic.ReLU()],
    "relu alone": lambda: [ic.ReLU(), ic.ReLU()],
    "max pool": lambda: [ic.MaxPool2d(2)],
    "max pool, overlapping": lambda: [ic.MaxPool2d(3, 2, padding=1)],
    "max pool, dilated": lambda: [ic.MaxPool2d((3, 2), 1, dilation=(1, 2), ceil_mode=True)],
    "max pool, relu after": lambda: [ic.MaxPool2d(3, 1), ic.ReLU()],
    "max pool, padded to a whole": lambda: [ic.MaxPool2d((3, 2), padding=((1, 1), (0, 0)))],
    "avg pool": lambda: [ic.AvgPool2d(2)],
    "avg pool, ceil_mode": lambda: [ic.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)],
    "global avg pool": lambda: [ic.GlobalAvgPool2d()],
    "global avg pool, then linear": lambda: [ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(3, 4)],
    "batch norm": lambda: [ic.BatchNorm2d(3)],
    "batch norm without parameters": lambda: [ic.BatchNorm2d(3, affine=False)],
    "batch norm, relu": lambda: [ic.Conv2d(3, 4, 3, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 2, 1)],
    "batch norm twice": lambda: [ic.BatchNorm2d(3), ic.BatchNorm2d(3)],
    "dropout": lambda: [ic.Dropout(0.4), ic.Conv2d(3, 2, 3), ic.Dropout(0.2)],
    "zero-pad shortcut": lambda: [ic.ZeroPadShortcut(3, 5, 2)],
    "residual": lambda: [residual(ic.Conv2d(3, 3, 3, padding=1))],
    "residual, relu after": lambda: [residual(ic.Conv2d(3, 3, 3, padding=1), ic.ReLU()), ic.ReLU()],
    "residual of a relu": lambda: [residual(ic.ReLU())],
    "residual of a view": lambda: [ic.Flatten(), residual(ic.Flatten())],
    "residual with a view as shortcut": lambda: [ic.Flatten(), residual(ic.ReLU(), shortcut=ic.Flatten())],
    "residual of dropout": lambda: [residual(ic.Dropout(0.3), ic.ReLU()), ic.ReLU()],
    "residual with a relu as shortcut": lambda: [residual(ic.Conv2d(3, 3, 1), shortcut=ic.ReLU())],
    "residual with a shortcut": bottleneck,
    "residual with zero-padding": lambda: [
        residual(ic.Conv2d(3, 5, 3, 2, padding=1), shortcut=ic.ZeroPadShortcut(3, 5, 2)),
        ic.ReLU(),
    ],
    "residual, nested": lambda: [
        residual(
            ic.Conv2d(3, 3, 1),
            residual(ic.ReLU(), ic.Conv2d(3, 3, 3, padding=1)),
            ic.ReLU(),
            shortcut=residual(ic.BatchNorm2d(3), ic.ReLU()),
        )
    ],
    "residual of residuals alone": lambda: [ic.Residual(ic.Residual(ic.Residual(ic.ReLU())))],
    "pre-activation": lambda: [
        ic.Conv2d(3, 4, 1),
        residual(ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1), ic.ReLU(), ic.Conv2d(4, 4, 1)),
    ],
    "pre-activation with batch norm": lambda: [
        ic.Conv2d(3, 4, 1),
        residual(ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1)),
        ic.BatchNorm2d(4),
        ic.ReLU(),
    ],
    "a relu'd value read twice": lambda: [ic.Conv2d(3, 4, 1), ic.ReLU(), residual(ic.Conv2d(4, 4, 1), ic.ReLU())],
    "sequential in sequential": lambda: [
        ic.Sequential([ic.Conv2d(3, 4, 3), ic.Sequential([ic.ReLU()])]),
        ic.MaxPool2d(2),
    ],
}


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize("name", NETS)
def test_gradients(name, shard):
    Probe(NETS[name](), normal(3, 3, 7, 6), shard=shard if "global" not in name else None).check_gradients()


def test_gradients_of_the_loss():
    """Cross-entropy through a whole network, by all parameters at once."""
    net = ic.Sequential([ic.Conv2d(1, 3, 3), ic.BatchNorm2d(3), ic.ReLU(), ic.Flatten(), ic.Linear(48, 4)])
    net.init(0, "float64")
    x, labels = normal(5, 1, 6, 6), np.array([0, 3, 1, 1, 2])
    _, gradient = loss_and_gradient(net, x, labels, shard=2)
    start, direction, h = net.flat.copy(), normal(net.flat.size), 1e-5

    def loss(t):
        net.flat[...] = start + t * direction
        return loss_and_gradient(net, x, labels, shard=2)[0][0]

    assert np.dot(gradient, direction) == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-7)


def test_the_check_itself_finds_a_wrong_gradient():
    class Wrong(ic.ReLU):
        def backward(self, dy, ctx):
            return 1.001 * super().backward(dy, ctx)

    with pytest.raises(AssertionError, match="offset"):
        Probe([Wrong()], normal(3, 3, 7, 6)).check_gradients()


# Forward against a plain evaluation, in both modes ------------------------------------------------------------------
@pytest.mark.parametrize("name", NETS)
def test_forward(name):
    x = normal(3, 3, 7, 6)
    probe = Probe(NETS[name](), x)
    if "dropout" not in name:
        result = probe.step()
        close(result.y.reshape(3, -1), evaluate(probe.net, x, training=True, own=CASES))
        assert result.value == pytest.approx(np.vdot(result.y, probe.dy), rel=1e-10)
    state = probe.net.state_dict()
    probe.net.load_state_dict({name: value + 0.1 * ("running" in name) for name, value in state.items()})
    close(probe.net.predict(x), evaluate(probe.net, x, own=CASES))


@pytest.mark.parametrize("name", ["residual", "dropout", "view", "flatten"])
def test_a_shortcut_that_is_a_view_keeps_its_input(name):
    """Nothing is computed in a view, so what it shows must not be overwritten while it is needed."""
    layers = {
        "residual": [ic.Residual(ic.ReLU(), ic.Residual(ic.ReLU()))],
        "dropout": [ic.Residual(ic.ReLU(), ic.Dropout(0.5))],
        "view": [ic.Residual(ic.BatchNorm2d(3), ic.Sequential([ic.Dropout(0.5), ic.Dropout(0.5)]))],
        "flatten": [ic.Flatten(), ic.Residual(ic.ReLU(), ic.Flatten())],
    }[name]
    net, x = ic.Sequential(layers).init(0, "float64"), normal(3, 3, 4, 5)
    close(net.predict(x), evaluate(net, x))


# Layers of users' own -----------------------------------------------------------------------------------------------
class Silu(Layer):
    """Only what is needed: ``x · sigmoid(x)``."""

    def forward(self, x, ctx):
        ctx.sigmoid = 1 / (1 + ctx.xp.exp(-x))
        return x * ctx.sigmoid

    def backward(self, dy, ctx):
        return dy * (ctx.sigmoid + ctx.y * (1 - ctx.sigmoid))


class Mirror(Layer):
    """Returns views of its arguments."""

    def forward(self, x, ctx):
        return x[:, :, ::-1]

    def backward(self, dy, ctx):
        return dy[:, :, ::-1]


class Through(Layer):
    """Returns its arguments themselves."""

    def forward(self, x, ctx):
        return x

    def backward(self, dy, ctx):
        return dy


class UsersScale(Layer):
    """A factor for each channel, as images (N, C, H, W) never know it: rows are (H, C, W, N)."""

    def __init__(self, channels, start=1.0):
        self.channels, self.start = channels, start

    def parameters(self):
        return {"factor": Parameter((self.channels,), bound=0.1, value=self.start)}

    def forward(self, x, ctx):
        return x * ctx.params["factor"][:, None, None]

    def backward(self, dy, ctx):
        ctx.grads["factor"][...] = (dy * ctx.x).sum((0, 2, 3))
        return dy * ctx.params["factor"][:, None, None]


class Halve(Layer):
    """Changes the shape, writes where it is told to, and plans its buffers."""

    def output_shape(self, x):
        return (x[0] // 2, *x[1:])

    def needs(self, x, y, dtype, backend, training):
        return Needs(input=False, output=False)

    def forward(self, x, ctx):
        return ctx.xp.add(x[0 : len(ctx.y) * 2 : 2], x[1 : len(ctx.y) * 2 : 2], out=ctx.y)

    def backward(self, dy, ctx):
        ctx.dx[...] = 0
        for i in (0, 1):
            ctx.dx[i : len(dy) * 2 : 2] = dy
        return ctx.dx


#: what those must compute that stand in networks which the oracles walk
CASES = [
    OFFSET,
    LayerCase(Through, lambda layer, state, x: x, lambda layer, state, dy, x: ((dy,), {}), ()),
    LayerCase(Mirror, lambda layer, state, x: x[..., ::-1], lambda layer, state, dy, x: ((dy[..., ::-1],), {}), ()),
]
OWN = {
    "without parameters": lambda: [Silu()],
    "with parameters": lambda: [UsersScale(3)],
    "returning views": lambda: [Mirror(), ic.Conv2d(3, 2, 3), Mirror()],
    "returning its arguments": lambda: [Through(), ic.ReLU(), Through(), ic.Conv2d(3, 2, 1), Through()],
    "another shape": lambda: [Halve(), Silu()],
    "in a residual": lambda: [residual(UsersScale(3), Silu(), Mirror(), shortcut=Through()), Through(), ic.ReLU()],
    "views in a residual": lambda: [residual(Mirror()), residual(Through()), residual(ic.ReLU(), shortcut=Through())],
    "among others": lambda: [
        ic.Conv2d(3, 4, 3),
        ic.BatchNorm2d(4),
        Silu(),
        UsersScale(4, 2.0),
        ic.ReLU(),
        ic.Flatten(),
        ic.Linear(80, 4),
    ],
}


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize("name", OWN)
def test_gradients_of_users_layers(name, shard):
    Probe(OWN[name](), normal(3, 3, 7, 6), shard=shard).check_gradients()


def users_net():
    own = [UsersScale(3, start=0.5), Mirror(), Halve(), Silu(), Through()]
    return ic.Sequential([*own, ic.Flatten(), ic.Linear(54, 3)])


def test_a_user_s_layers_in_inference():
    net, x = users_net().init(0, "float64"), normal(5, 3, 7, 6)
    scaled = x[:, :, :, ::-1] * net.parameters()["0.factor"][:, None, None]
    halved = scaled[:, :, 0:6:2] + scaled[:, :, 1:6:2]
    swished = halved / (1 + np.exp(-halved))
    expected = oracles.linear(swished.reshape(5, -1), net.parameters()["6.weight"], net.parameters()["6.bias"])
    close(net.predict(x), expected)


def test_a_user_s_layers_in_a_checkpoint(tmp_path):
    x, labels = normal(5, 3, 7, 6), np.array([0, 1, 2, 1, 0])
    trainer = ic.Trainer(users_net(), optimizer=ic.SGD(lr=0.1, momentum=0.9))
    trainer.step(x, labels)
    trainer.save(tmp_path / "net.safetensors")
    again = ic.Trainer.load(tmp_path / "net.safetensors")
    assert repr(again.net.layers) == repr(trainer.net.layers)
    assert "0.factor" in again.net.state_dict()
    assert (again.net.layers[0].channels, again.net.layers[0].start) == (3, 0.5)
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    assert again.step(x, labels) == trainer.step(x, labels)
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())


def test_a_subclass_with_its_own_forward_is_not_asked_to_apply_a_relu():
    class Doubled(ic.Conv2d):
        def forward(self, x, ctx):
            return 2 * super().forward(x, ctx)

        def backward(self, dy, ctx):
            return super().backward(2 * dy, ctx)

    x = normal(3, 3, 7, 6)
    probe = Probe([Doubled(3, 4, 3), ic.ReLU()], x)
    weight, bias = (probe.net.parameters()[f"1.{name}"] for name in ("weight", "bias"))
    close(probe.step().y, oracles.relu(2 * oracles.conv2d(x, weight, bias)))
    probe.check_gradients()


@pytest.mark.parametrize("seen_from", ["the start", "later"])
def test_a_layer_s_forward_and_backward_can_be_watched(seen_from):
    """By a function in their place, as for a look at what passes through; also once calls are prepared."""
    x, labels, seen = normal(3, 3, 7, 6), np.array([0, 1, 2]), []
    net = ic.Sequential([ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(80, 3)]).init(dtype="float64")
    trainer, conv = ic.Trainer(net), net.layers[0]
    forward, backward = conv.forward, conv.backward
    if seen_from == "later":
        net.predict(x)
        trainer.step(x, labels)
    conv.forward = lambda x, ctx: seen.append("forward") or forward(x, ctx)
    conv.backward = lambda dy, ctx: seen.append("backward") or backward(dy, ctx)
    expected = net.predict(x)
    trainer.step(x, labels)
    assert seen == ["forward", "forward", "backward"]
    del conv.forward, conv.backward
    assert not np.array_equal(net.predict(x), expected)  # prepared calls see the new parameters
    assert seen == ["forward", "forward", "backward"]


# Random networks: what the planner puts into the same memory must not be needed at the same time -------------------
SAME_SIZE = {
    "relu": ic.ReLU,
    "sigmoid": ic.Sigmoid,
    "silu": ic.SiLU,
    "dropout": lambda: ic.Dropout(0.0),
    "batch norm": lambda: ic.BatchNorm2d(3),
    "conv": lambda: ic.Conv2d(3, 3, 3, padding=1),
    "depthwise": lambda: ic.Conv2d(3, 3, 1, groups=3),
    "max pool": lambda: ic.MaxPool2d(3, 1, padding=1),
    "avg pool": lambda: ic.AvgPool2d(3, 1, padding=1),
    "zero-pad": lambda: ic.ZeroPadShortcut(3, 3),
    "own, a view": lambda: Mirror(),
    "own": lambda: Through(),
}
FEATURES = {
    "relu": ic.ReLU,
    "silu": ic.SiLU,
    "dropout": lambda: ic.Dropout(0.0),
    "flatten": ic.Flatten,
    "linear": lambda: ic.Linear(27, 27),
    "own": lambda: Through(),
}


def descriptions(makers):
    """Lists of names and, for residual blocks within residual blocks, pairs (body, shortcut) of lists."""

    def several(one):
        return st.lists(one, min_size=1, max_size=4)

    names = st.sampled_from(sorted(makers))
    return several(st.recursive(names, lambda one: st.tuples(several(one), st.none() | several(one)), max_leaves=8))


def make(description, makers):
    def shortcut(parts):
        return None if parts is None else ic.Sequential(make(parts, makers))

    return [
        makers[part]() if isinstance(part, str) else residual(*make(part[0], makers), shortcut=shortcut(part[1]))
        for part in description
    ]


@settings(max_examples=150)
@given(images=descriptions(SAME_SIZE), features=descriptions(FEATURES), shard=st.sampled_from([1, 2, 3]))
def test_random_networks(images, features, shard):
    x = normal(3, 3, 3, 3, seed=5)
    probe = Probe([*make(images, SAME_SIZE), ic.Flatten(), *make(features, FEATURES)], x, shard=shard)
    result = probe.step()
    close(result.y.reshape(3, -1), evaluate(probe.net, x, training=True, own=CASES), rtol=1e-8, atol=1e-8)
    close(probe.net.predict(x), evaluate(probe.net, x, own=CASES), rtol=1e-8, atol=1e-8)
    dx, gradients = differentiate(probe.net, x, probe.dy.reshape(3, -1), own=CASES)
    close(result.dx, dx, rtol=1e-8, atol=1e-8)
    assert {"0.offset", *result.gradients} == gradients.keys()
    for name, gradient in result.gradients.items():
        close(gradient, gradients[name], rtol=1e-8, atol=1e-8)


# Convolution and batch norm in evaluation mode ----------------------------------------------------------------------
def joined(net, x):
    """The layers that the network runs to predict ``x``."""
    return [node.layer for node in net.plan(len(x), x.shape[1:], training=False).graph.nodes]


def with_statistics(layers):
    """A network of these layers whose batch norms have something to do."""
    net, rng = ic.Sequential(layers).init(0, dtype="float64"), np.random.default_rng(1)
    net.load_state_dict(
        {
            name: rng.uniform(0.5, 2, value.shape) if "running" in name else rng.standard_normal(value.shape)
            for name, value in net.state_dict().items()
        }
    )
    return net


@pytest.mark.parametrize("size", [3, 9], ids=["a weight larger than the images", "or smaller"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("bias", "relu", "affine"), [(True, True, True), (False, False, True), (True, True, False)])
def test_a_batch_norm_is_joined_to_the_convolution_before_it(size, groups, bias, relu, affine):
    layers = [
        ic.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias),
        ic.BatchNorm2d(8, affine=affine),
        *[ic.ReLU()] * relu,
    ]
    x = normal(2, 4, size, size)
    net = with_statistics(layers)
    assert isinstance(joined(net, x)[0], NormalizedConv2d)
    close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


class Mine(ic.BatchNorm2d):
    def forward(self, x, ctx):
        return super().forward(x, ctx) + 1


def test_what_a_convolution_is_not_joined_to():
    x = normal(2, 3, 5, 5)
    own = joined(with_statistics([ic.Conv2d(3, 3, 1), Mine(3)]), x)
    two = joined(with_statistics([ic.Conv2d(3, 3, 1), ic.Residual(ic.BatchNorm2d(3))]), x)
    first = joined(with_statistics([ic.BatchNorm2d(3), ic.Conv2d(3, 3, 1), ic.ReLU(), ic.BatchNorm2d(3)]), x)
    for layers in own, two, first:
        assert not any(isinstance(layer, NormalizedConv2d) for layer in layers)


# Errors -------------------------------------------------------------------------------------------------------------
X = normal(2, 3, 6, 6, dtype="float32")


def inner(layer):
    return ic.Sequential([ic.ReLU(), ic.Residual(ic.Sequential([ic.Conv2d(3, 3, 1), layer])), ic.Flatten()])


@pytest.mark.parametrize(
    ("layer", "texts"),
    [
        (ic.Conv2d(4, 3, 3), ["expected 4 input channels, got 3", "(2, 3, 6, 6)"]),
        (ic.Conv2d(3, 3, 7), ["height", "input 6", "kernel 7"]),
        (ic.BatchNorm2d(5), ["expected 5 channels, got 3"]),
        (ic.MaxPool2d(7), ["height", "kernel 7"]),
        (ic.AvgPool2d((1, 8)), ["width", "kernel 8"]),
        (ic.ZeroPadShortcut(2, 4), ["expected 2 input channels, got 3"]),
        (ic.Linear(3, 2), ["expected features (N, 3)", "(2, 3, 6, 6)", "Flatten()"]),
    ],
    ids=["Conv2d", "Conv2d too large", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "ZeroPadShortcut", "Linear"],
)
@pytest.mark.parametrize("training", [True, False])
def test_shape_errors_name_the_layer(layer, texts, training):
    net = inner(layer).init(0)
    with pytest.raises(ic.ShapeError) as error:
        ic.Trainer(net).step(X, [0, 0]) if training else net.predict(X)
    for text in ("layer '1.body.1'", repr(layer), type(layer).__name__, *texts):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("layers", "texts"),
    [
        ([ic.Flatten(), ic.Conv2d(3, 3, 3)], ["'1'", "Conv2d", "expected images (N, C, H, W)", "(2, 108)"]),
        ([ic.Flatten(), ic.MaxPool2d(2)], ["'1'", "MaxPool2d", "expected images"]),
        ([ic.Flatten(), ic.BatchNorm2d(2)], ["'1'", "BatchNorm2d", "expected images"]),
        ([ic.Flatten(), ic.GlobalAvgPool2d()], ["'1'", "GlobalAvgPool2d", "expected images"]),
        ([ic.Flatten(), ic.ZeroPadShortcut(2, 2)], ["'1'", "ZeroPadShortcut", "expected images"]),
        ([ic.Flatten(), ic.Linear(100, 2)], ["'1'", "Linear", "expected 100 input features, got 108"]),
        ([ic.Residual(ic.Conv2d(3, 4, 1))], ["'0.add'", "must agree", "(2, 4, 6, 6)", "(2, 3, 6, 6)"]),
        ([ic.Residual(ic.Conv2d(3, 4, 1), ic.Conv2d(3, 4, 1, 2))], ["'0.add'", "(2, 4, 6, 6)", "(2, 4, 3, 3)"]),
        ([ic.Residual(ic.Flatten())], ["'0.add'", "(2, 108)", "(2, 3, 6, 6)"]),
    ],
)
def test_rank_and_branch_errors_name_the_layer(layers, texts):
    with pytest.raises(ic.ShapeError) as error:
        ic.Sequential(layers).init(0).predict(X)
    for text in texts:
        assert text in str(error.value)


def test_a_loss_needs_class_scores():
    with pytest.raises(ic.ShapeError, match=r"class scores \(N, classes\).*Flatten"):
        ic.Trainer(ic.Sequential([ic.Conv2d(3, 2, 3)])).step(X, [0, 1])


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: ic.Conv2d(0, 1, 3), "in_channels must be a positive integer, got 0"),
        (lambda: ic.Conv2d(1, 1.5, 3), "out_channels must be a positive integer, got 1.5"),
        (lambda: ic.Conv2d(4, 6, 3, groups=3), "groups=3 for 4 and 6"),
        (lambda: ic.Conv2d(4, 6, 0), "kernel_size"),
        (lambda: ic.Conv2d(4, 6, 3, stride=0), "stride"),
        (lambda: ic.Conv2d(4, 6, 3, padding="both"), "padding"),
        (lambda: ic.Conv2d(4, 6, 3, dilation=(1, 0)), "dilation"),
        (lambda: ic.Conv2d(4, 6, 3, stride=2, padding="same"), "stride 1"),
        (lambda: ic.Linear(True, 2), "in_features"),
        (lambda: ic.Linear(2, -1), "out_features"),
        (lambda: ic.MaxPool2d(2, padding=2), "half"),
        (lambda: ic.AvgPool2d(2, stride=-1), "stride"),
        (lambda: ic.BatchNorm2d(0), "num_features"),
        (lambda: ic.Dropout(1.0), "p must be a number of at least 0 and less than 1; got 1.0"),
        (lambda: ic.Dropout(-0.1), "p must be"),
        (lambda: ic.Dropout(float("nan")), "p must be"),
        (lambda: ic.ZeroPadShortcut(3, 2), "out_channels must be an integer of at least 3, got 2"),
        (lambda: ic.ZeroPadShortcut(3, 4, 0), "stride"),
        (lambda: ic.Sequential([]), "at least one layer"),
        (lambda: ic.Sequential([ic.ReLU(), ic.ReLU]), "layer 1 must be a layer"),
        (lambda: ic.Sequential([ic.ReLU(), "ReLU"]), "layer 1 must be a layer"),
    ],
)
def test_bad_arguments(layer, text):
    with pytest.raises(ic.ShapeError) as error:
        layer()
    assert text in str(error.value)


def test_a_layer_cannot_be_in_a_network_twice():
    layer = ic.Conv2d(3, 3, 1)
    with pytest.raises(ic.ShapeError, match=r"layer '2' \(Conv2d.*is already in the network"):
        ic.Sequential([layer, ic.ReLU(), layer]).init(0)


class Broken(Layer):
    def __init__(self, what="forward"):
        self.what = what

    def forward(self, x, ctx):
        return {"shape": x[:1], "nothing": None}.get(self.what, x) if self.what != "forward" else 1 / 0

    def backward(self, dy, ctx):
        return {"backward shape": dy[:1], "backward nothing": None}[self.what]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("shape", "forward returned (1, 3, 6, 2), expected an array of shape (6, 3, 6, 2)"),
        ("nothing", "forward returned None"),
        ("backward shape", "backward returned (1, 3, 6, 2)"),
        ("backward nothing", "backward returned None"),
    ],
)
def test_a_user_s_layer_that_returns_something_else(what, text):
    net = ic.Sequential([UsersScale(3), Broken(what), ic.Flatten()])
    with pytest.raises(ic.ShapeError) as error:
        ic.Trainer(net).step(X, [0, 0])
    assert text in str(error.value)
    assert "layer '1', Broken" in str(error.value)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_user_s_layer_says_where(threads, monkeypatch):
    ic.set_num_threads(threads)
    net = ic.Sequential([ic.ReLU(), Broken(), ic.Flatten()])
    with pytest.raises(ZeroDivisionError) as error:
        ic.Trainer(net, shard=1).step(X, [0, 0])
    assert error.value.__notes__ == ["in layer '1', Broken()"]


def test_a_layer_without_forward_or_backward_says_so():
    class Empty(Layer):
        pass

    class Half(Layer):
        def forward(self, x, ctx):
            return x

    with pytest.raises(NotImplementedError, match="Empty must define forward"):
        ic.Sequential([Empty()]).init(0).predict(X)
    half = ic.Sequential([UsersScale(3), Half(), ic.Flatten()]).init(0)
    assert half.predict(X).shape == (2, 108)
    with pytest.raises(NotImplementedError, match="Half must define backward"):
        ic.Trainer(half).step(X, [0, 0])


# What layers say of themselves --------------------------------------------------------------------------------------
def test_reprs_are_the_calls_that_make_them():
    layers = [ic.Conv2d(3, 4, (3, 2), padding=((1, 0), (2, 2))), ic.MaxPool2d(2), ic.BatchNorm2d(3, affine=False)]
    for layer in [*layers, ic.Dropout(0.1), ic.ReLU(), ic.ZeroPadShortcut(3, 4, 2), ic.AvgPool2d(3), ic.Linear(2, 3)]:
        again = eval(repr(layer), vars(ic))
        assert type(again) is type(layer)
        assert again.config() == layer.config()


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (ic.Conv2d(3, 4, 3), (6, 3, 6, 2), 2 * 27 * (4 * 4 * 4 * 2) + 128),
        (ic.Conv2d(4, 4, 3, groups=4, bias=False, padding=1), (6, 4, 6, 1), 2 * 9 * 4 * 36),
        (ic.Linear(10, 5), (10, 3), 3 * (2 * 10 * 5 + 5)),
        (ic.MaxPool2d(2), (4, 1, 4, 1), 4 * 3),
        (ic.AvgPool2d(2), (4, 1, 4, 1), 4 * 4),
        (ic.Flatten(), (4, 1, 4, 1), 0),
    ],
)
def test_flops(layer, shape, flops):
    assert layer.flops(shape, layer.output_shape(shape)) == flops


def test_the_projection_of_a_probe_is_of_the_whole_batch():
    """Of the helper itself: shards find their own part."""
    x = normal(5, 2, 3, 3)
    whole, parts = (Probe([ic.Conv2d(2, 3, 2)], x, shard=shard).step() for shard in (5, 2))
    close(parts.y, whole.y)
    close(parts.dx, whole.dx)
    assert isinstance(Probe([ic.ReLU()], x).loss, Projection)
