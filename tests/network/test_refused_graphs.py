"""Graphs that cannot be trained are refused by the name of the layer."""

import pytest
from helpers import batches

import im2colnet as ic
from im2colnet.network import Network

batch = batches((1, 8, 8), classes=2, n=20)


class Product(ic.Layer):
    def output_shape(self, x, other=None):
        return x

    def forward(self, x, ctx):
        return ctx.xs[0] * ctx.xs[1]

    def backward(self, dy, ctx):
        return dy


class Both(Network):
    """A combinator of a user's own."""

    def __init__(self, join):
        self.join = join

    def children(self):
        return {"join": self.join}

    def build(self, graph, name, x):
        a, b = ic.ReLU().build(graph, "a", x), ic.Dropout(0.1).build(graph, "b", x)
        return graph.add(self.join, "join", a, b) if self.join else a


def test_graphs_that_cannot_be_trained_are_refused():
    net = ic.Sequential([ic.Conv2d(1, 1, 1), Both(Product()), ic.Flatten(), ic.Linear(64, 2)]).init(0)
    net.predict(batch()[0])
    with pytest.raises(ic.ShapeError, match=r"'join', Product\(\): backward returned 1 gradients for 2 inputs"):
        ic.Trainer(net).step(*batch())
    with pytest.raises(ic.ShapeError, match="nothing reads the output of layer 'b'"):
        ic.Sequential([Both(None), ic.Flatten(), ic.Linear(64, 2)]).init(0).predict(batch()[0])
