"""What several tests share: the library's layout of arrays, and single layers inside a real network."""

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.backend import Division, shard_sizes
from im2colnet.layers import Layer, Parameter
from im2colnet.layout import user_shape
from im2colnet.testing.cases import LAYERS, LayerCase
from im2colnet.testing.conformance.base import images, rows
from im2colnet.testing.inputs import input_shape_of, network_of


def normal(*shape, seed=0, dtype="float64"):
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer_examples(most=None):
    """Parameters of a test of every layer, or of ``most`` of each class: its case, the layer, its inputs' shapes."""
    return [
        pytest.param(case, layer, shapes, id=f"{layer!r} of {', '.join(map(str, shapes))}")
        for case in LAYERS
        for layer, *shapes in case.examples[:most]
    ]


def explained(layer, *shapes, domain=lambda x: x, backend=None):
    """The explanation of a layer in a network around it, for an image of normal numbers."""
    net = network_of(layer, *shapes).init(0, "float64")
    (name,) = (node.name for node in net.graph.nodes if node.layer is layer)
    return ic.explain(net, name, domain(normal(1, *input_shape_of(*shapes)))[0], backend=backend)


def numba_backend(**sizes):
    """The Numba backend, where Numba is installed; elsewhere the test is skipped."""
    pytest.importorskip("numba")
    from im2colnet_numba import NumbaBackend

    return NumbaBackend(**sizes)


def quick(name):
    """Arguments by which a model that can be smaller is quick to test."""
    smaller = {"width": 0.1, "hidden": 16}
    return {option: smaller[option] for option in ic.models.MODELS[name].options if option in smaller}


def batches(shape, classes, n, pixels=False):
    """Return what draws images (N, *shape) and their labels, by default ``n`` of them.

    Images are normal numbers, or ``pixels``: bytes, or bytes scaled to [0, 1] if another dtype is asked for.
    """

    def batch(n=n, seed=0, dtype="uint8" if pixels else "float32"):
        rng = np.random.default_rng(seed)
        if pixels:
            images = rng.integers(0, 256, (n, *shape), dtype="uint8")
            images = images if dtype == "uint8" else (images / 255).astype(dtype)
        else:
            images = rng.standard_normal((n, *shape)).astype(dtype)
        return images, rng.integers(0, classes, n)

    return batch


def strided(x, how):
    """A read-only copy of ``x`` in another memory order: equal numbers, other strides."""
    copy = {
        "contiguous": lambda: x.copy(order="C"),
        "fortran": lambda: x.copy(order="F"),
        "reversed": lambda: np.flip(np.flip(x).copy()),
        "transposed": lambda: x.swapaxes(0, -1).copy().swapaxes(0, -1),
        "gaps": lambda: np.repeat(x, 2, axis=-1)[..., ::2],
    }[how]()
    copy.flags.writeable = False
    return copy


LAYOUTS = ["contiguous", "fortran", "reversed", "transposed", "gaps"]


def assert_same_bits(actual, expected):
    """Assert that two arrays, or dicts of arrays, are equal to the last bit."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_same_bits(actual[name], expected[name])
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


#: of results that are computed in another order
TOLERANCE = {"float64": {"rtol": 1e-11, "atol": 1e-12}, "float32": {"rtol": 1e-4, "atol": 1e-4}}


def assert_close(actual, expected, dtype=None, **tolerance):
    """Assert that arrays of equal shapes hold nearly the same numbers; and that the first is of a type, if it is given.

    The tolerance is by default that of the type, without one that of float64.
    """
    assert np.shape(actual) == np.shape(expected)
    if dtype is not None:
        assert actual.dtype == dtype
    assert_allclose(actual, expected, **(TOLERANCE[dtype or "float64"] | tolerance))


def predicts_in_a_fork(net, images, expected):
    """Whether a process forked here predicts the same, within 20 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if np.array_equal(net.predict(images), expected) else 1)
    return os.waitpid(child, 0)[1] == 0


def everything(trainer):
    """Copies of all that training changes: parameters, statistics, the optimiser's state, and the number of steps."""
    on_host = trainer.net.backend.to_numpy
    slots = {f"slot {name}": on_host(vector).copy() for name, vector in trainer.optimizer_state.items()}
    return {**trainer.net.state_dict(), **slots, "step": np.array(trainer.steps)}


def timeless(history):
    """The records of a history without the numbers that depend on a clock."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in history]


@contextmanager
def workers(number, kind):
    """A number of workers, which are threads or processes; afterwards the settings are as before."""
    before = ic.get_workers()
    ic.set_workers(kind)
    try:
        with ic.num_threads(number):
            yield
    finally:
        ic.set_workers(before)


class CtrlC(ic.Callback):
    """Presses Ctrl-C after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def press(self, *argument):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)

    step = press


class Stop(ic.Callback):
    """Ends the training after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def start(self, trainer):
        self.trainer = trainer

    def step(self, progress):
        self.left -= 1
        if not self.left:
            self.trainer.stop("enough")


class GenericBackend(ic.Backend):
    """Nothing but an array module: the textbook kernels of the base class."""

    name = "generic"
    xp = np


def updates(optimizer, initial, gradients):
    """Parameters after each step, for gradients that do not depend on them."""
    p = initial.ravel().copy()
    state = {name: np.zeros_like(p) for name in optimizer.state_slots()}
    work, steps = np.full_like(p, np.nan), []
    for t, gradient in enumerate(gradients):
        lr = optimizer.schedule(t, len(gradients))
        optimizer.update(p, gradient.ravel().copy(), state, lr, t + 1, work, np)
        steps.append(p.reshape(initial.shape).copy())
        assert all(vector.dtype == p.dtype for vector in state.values())
    return np.array(steps)


# One layer in a real network ----------------------------------------------------------------------------------------
class Offset(Layer):
    """``y = x + offset``, another offset for every number of the batch: its gradient is that of its output."""

    def __init__(self, shape, shard):
        self.shape, self.shard = shape, shard

    def parameters(self):
        return {"offset": Parameter(self.shape)}

    def _mine(self, array, ctx):
        sizes = shard_sizes(self.shape[-1], self.shard)
        start = sum(sizes[: ctx.key[-1]])
        return array[..., start : start + ctx.x.shape[-1]]

    def forward(self, x, ctx):
        return x + self._mine(ctx.params["offset"], ctx)

    def backward(self, dy, ctx):
        ctx.grads["offset"][...] = 0
        self._mine(ctx.grads["offset"], ctx)[...] = dy
        return dy


#: what the oracles need to know of it; the offsets are zeros, but while their gradient is taken
OFFSET = LayerCase(
    Offset, lambda layer, state, x: x, lambda layer, state, dy, x: ((dy,), {"offset": rows(dy)}), examples=()
)


class Projection(ic.Loss):
    """The loss <dy, y>, whose gradient is dy (N, features). One worker gives it the shards in their order."""

    def __init__(self, dy):
        self.dy, self.y, self.start = dy, np.full_like(dy, np.nan), 0

    def targets(self, labels, output_shape):
        return labels

    def __call__(self, output, targets, scale, metrics, doutput, backend):
        mine = slice(self.start, self.start + output.shape[1])
        self.start = mine.stop % len(self.dy)
        self.y[mine] = backend.to_numpy(output).T
        metrics[0] = float(np.sum(self.dy[mine] * self.y[mine]))
        if doutput is not None:
            doutput[...] = backend.asarray(self.dy[mine].T)


@dataclass(frozen=True)
class Gradient(ic.Optimizer):
    """Puts the gradient in the place of the parameters."""

    lr: float = 1.0

    def update(self, p, g, state, lr, t, work, xp):
        p[...] = g


class Probe:
    """Layers between an ``Offset`` and a ``Projection``, trained as every network is, but for the update.

    Layer i has the name ``i + 1``. ``state`` sets parameters, which are otherwise drawn at random.
    """

    def __init__(self, layers, x, dy=None, state=None, shard=None, seed=0):
        self.x, self.shard = x, shard or len(x)
        self.net = ic.Sequential([Offset(rows(x).shape, self.shard), *layers, ic.Flatten()]).init(seed, x.dtype.name)
        for name, parameter in self.net.parameters().items():
            if state and name in state:
                parameter[...] = state[name]
            elif not name.startswith("0."):  # batch norm's too
                parameter += normal(*parameter.shape, seed=seed + 1, dtype=x.dtype) / 2
        shape = self.net.graph.shapes(rows(x).shape)[-2]
        self.y_shape = user_shape(shape)
        self.dy = normal(*self.y_shape, seed=seed + 2) if dy is None else dy
        self.loss = Projection(self.dy.reshape(len(x), -1))

    def step(self, x=None):
        """Return y, dx, the parameters' gradients by name, and <dy, y>."""
        x, parameters = self.x if x is None else x, self.net.parameters()
        before = {name: parameter.copy() for name, parameter in parameters.items()}
        trainer = ic.Trainer(self.net, loss=self.loss, optimizer=Gradient(), shard=self.shard)
        with ic.num_threads(1):
            value = trainer.step(x, np.zeros(len(x), int))
        gradients = {name: parameter.copy() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter[...] = before[name]
        y, dx = self.loss.y.reshape(self.y_shape).copy(), images(gradients.pop("0.offset"))
        return SimpleNamespace(y=y, dx=dx, gradients=gradients, value=value)

    def check_gradients(self, rtol=2e-7):
        """Compare each gradient with differences along a random direction of that parameter, in float64."""
        assert self.net.dtype == "float64"
        result = self.step()
        gradients = {"0.offset": rows(result.dx), **result.gradients}
        assert gradients.keys() == self.net.parameters().keys()
        for number, (name, parameter) in enumerate(self.net.parameters().items()):
            start, direction, h = parameter.copy(), normal(*parameter.shape, seed=number), 1e-5

            def value(t, parameter=parameter, start=start, direction=direction):
                parameter[...] = start + t * direction
                return self.step().value

            numeric = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
            parameter[...] = start
            scale = np.linalg.norm(gradients[name]) * np.linalg.norm(direction)
            assert abs(np.vdot(gradients[name], direction) - numeric) <= rtol * scale + 1e-8, name
            assert scale > 0, f"{name} has no gradient"


def trained_loss(loss, output, targets, shard=None, backend=None):
    """Loss, and gradient of the output, of a network that is nothing but its input and an offset."""
    shard = shard or len(output)
    net = ic.Sequential([Offset(rows(output).shape, shard)]).init(0, output.dtype.name, backend)
    with ic.num_threads(1):
        value = ic.Trainer(net, loss=loss, optimizer=Gradient(), shard=shard).step(output, targets)
    return np.asarray(value, output.dtype), images(net.backend.to_numpy(net.parameters()["0.offset"]))


def loss_and_gradient(net, images, labels, loss=None, shard=None):
    """Return the loss of a training step, and the gradient by all parameters, which stay as they are."""
    before = net.flat.copy()
    value = ic.Trainer(net, loss=loss, optimizer=Gradient(), shard=shard).step(images, labels)
    gradient = net.flat.copy()
    net.flat[...] = before
    return value, gradient


def divided(**sizes):
    """Within the block NumPy's backend divides its work by other sizes: see :class:`im2colnet.backend.Division`."""
    return ic.use_backend(NumpyBackend(division=Division(**sizes)))


# The fixed tree ------------------------------------------------------------------------------------------------------
def tree(parts, first, width):
    """The sum of shards [first, first + width), ``width`` a power of two, from the definition."""
    if first >= len(parts):
        return None
    if width == 1:
        return parts[first]
    left, right = tree(parts, first, width // 2), tree(parts, first + width // 2, width // 2)
    return left if right is None else left + right


def whole_tree(parts):
    return tree(parts, 0, 64)


def unequal_parts(count, size=7):
    """Numbers of many magnitudes in float32: the order of additions shows."""
    rng = np.random.default_rng(count)
    return (rng.standard_normal((count, size)) * 10.0 ** rng.integers(-3, 4, (count, size))).astype("float32")
