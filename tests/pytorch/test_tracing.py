"""Tracing without PyTorch: a few lines stand in for it, since values answer its protocol and nothing else."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet.network.draft import INPUT
from im2colnet.torch.trace import Trace
from im2colnet.torch.values import BATCH, Untraceable, Value


class Module:
    """A module without parameters, such as PyTorch's."""

    __module__ = "torch.nn.modules.stand_in"
    training = True

    def named_modules(self):
        return [("", self)]

    def modules(self):
        return [self]

    def named_parameters(self, remove_duplicate=True):
        return []

    named_buffers = named_parameters

    def parameters(self, recurse):
        return iter(())

    buffers = children = lambda self, *recurse: iter(())


class Tensor:
    """What PyTorch's class says of the methods that are called by name."""

    def method(self, *args, **kwargs):
        raise AssertionError("nothing is computed while a module is traced")

    add_ = chunk = flatten = mean = relu_ = reshape = roll = softmax = unsqueeze = view = method


TORCH = SimpleNamespace(Tensor=Tensor, is_grad_enabled=lambda: True, nn=SimpleNamespace(Module=Module))
SHAPE = 4, 6, 5


def traced(function, shape=SHAPE):
    """Return a network of what a function does with a symbolic value, and the trace."""
    trace = Trace(TORCH, Module(), shape)
    made = function(Value(trace, INPUT))
    made = made if isinstance(made, tuple) else (made,)
    trace.draft.outputs = [value.name for value in made]
    trace.draft.prune()
    return trace.draft.network(), trace


def assert_traced(function, expected):
    """Compare what a traced function computes with NumPy."""
    net, trace = traced(function)
    assert not trace.problems
    assert not trace.lacking
    x = normal(3, *SHAPE, dtype="float32")
    np.testing.assert_allclose(net.predict(x), expected(x), rtol=1e-6, atol=1e-6)


def test_sizes_are_numbers_and_the_batch_is_a_symbol():
    _, trace = traced(lambda x: x.relu_())
    x = Value(trace, INPUT)
    assert x.shape == (BATCH, *SHAPE)
    assert (x.dim(), x.size(1), x.size(-1)) == (4, 4, 5)
    for asked in (lambda: x.size(0) == 1, lambda: range(x.size(0)), lambda: bool(x.size(0) * 2)):
        with pytest.raises(Untraceable, match="depends on the batch size"):
            asked()
    for asked in (lambda: bool(x), lambda: [*x], lambda: len(x), lambda: float(x)):
        with pytest.raises(Untraceable, match="depends on the numbers of a tensor"):
            asked()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.view(x.size(0), -1), lambda x: x.reshape(3, -1)),
        (lambda x: x.view(-1, 4 * 6, 5), lambda x: x.reshape(3, 24, 5)),
        (lambda x: x.reshape(x.shape[0], 2, -1, 5).flatten(1, 2), lambda x: x.reshape(3, -1, 5)),
        (lambda x: x[:, 1:3, ::2, -1], lambda x: x[:, 1:3, ::2, -1]),
        (lambda x: x[..., None, 1:].mean((-1, 2)), lambda x: x[..., None, 1:].mean((-1, 2))),
        (lambda x: x.mean((2, 3), keepdim=True) * x, lambda x: x.mean((2, 3), keepdims=True) * x),
        (lambda x: 1 - x / 2 + -x, lambda x: 1 - x / 2 - x),
        (lambda x: (2 / (x**2 + 1)) ** 0.5, lambda x: (2 / (x**2 + 1)) ** 0.5),
        (lambda x: x.chunk(2, 1)[1] * x[:, :2], lambda x: x[:, 2:] * x[:, :2]),
        (lambda x: x.unsqueeze(-1).view(x.size(0), 6, 5, 4), lambda x: x.reshape(3, 6, 5, 4)),
    ],
)
def test_shapes_parts_and_arithmetic(function, expected):
    assert_traced(function, expected)


def test_a_change_in_place_is_seen_by_all_that_show_the_tensor():
    def function(x):
        y = x * 2
        alias = y
        y += 1
        return alias * y

    assert_traced(function, lambda x: (2 * x + 1) ** 2)

    def relu(x):
        y = x * 2
        z = y.relu_()
        return y + z

    assert_traced(relu, lambda x: 2 * np.maximum(2 * x, 0))


def test_a_view_of_what_was_changed_in_place_is_refused():
    def function(x):
        y = x * 2
        y.view(y.size(0), -1).relu_()
        return y + 1

    trace = Trace(TORCH, Module(), SHAPE)
    function(Value(trace, INPUT))
    assert "add in 'Module'" in trace.problems[0]
    assert "changed in place through a view of it" in trace.problems[0]

    def harmless(x):
        return (x * 2).view(x.size(0), -1).relu_()

    assert_traced(harmless, lambda x: np.maximum(2 * x, 0).reshape(3, -1))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.view(-1, 5), "does not keep the batch first"),
        (lambda x: x.view(x.size(0) * 2, -1), "computed from the batch size"),
        (lambda x: x.view(4, x.size(0), -1), "computed from the batch size"),
        (lambda x: x.mean(), "combines the samples of the batch"),
        (lambda x: x.mean((0, 2)), "combines the samples of the batch"),
        (lambda x: x[0], "takes some samples of the batch"),
        (lambda x: x[x.mean(1)], "its index is not a number, slice or None"),
        (lambda x: x.flatten(), "dim=0 is the batch"),
        (lambda x: x.chunk(2), "dim=0 is the batch"),
        (lambda x: x.softmax(), "its axis is not given"),
        (lambda x: x * x.size(0), "computes with the batch size"),
        (lambda x: x + x.flatten(1), "the shapes .* do not fit"),
        (lambda x: x.view(x.size(0), 7, -1), "a sample has 120 numbers"),
    ],
)
def test_what_is_refused(function, reason):
    trace = Trace(TORCH, Module(), SHAPE)
    function(Value(trace, INPUT))
    assert re.search(reason, "\n".join(trace.problems))


def test_all_that_is_lacking_is_noted():
    trace = Trace(TORCH, Module(), SHAPE)
    x = Value(trace, INPUT)
    assert (x.roll(1) < 3).name is None
    assert {*trace.lacking} == {"Module"}  # of PyTorch's own modules the name says more than the function's
    with pytest.raises(AttributeError, match="a tensor has no 'nonsense'"):
        _ = x.nonsense


def test_a_softmax_at_the_end_is_left_out_for_the_loss():
    net, _ = traced(lambda x: (x.flatten(1) * 2).softmax(-1))
    x = normal(3, *SHAPE, dtype="float32")
    np.testing.assert_allclose(net.predict(x).sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(net.predict(x, scores=True), 2 * x.reshape(3, -1))


def test_without_pytorch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ic.ModelError, match="needs PyTorch: pip install torch"):
        ic.torch.from_module(object(), (3, 4, 4))
