"""Deep networks: planning takes time in proportion to the depth, and what is nested too deeply is told."""

import copy

import numpy as np
import pytest
from helpers import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import im2colnet as ic
from im2colnet.plan import Buffer, buffers, lay_out
from im2colnet.training.checkpoint import describe


def greedy(buffers):
    """The largest first, each at the lowest place that is free during its life, by looking at all others."""
    placed = []
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.start)):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.start <= buffer.end and buffer.start <= other.end:
                if offset + buffer.nbytes <= other.offset:
                    break
                offset = max(offset, other.offset + other.nbytes)
        buffer.offset = offset
        placed.append(buffer)
    return max((b.offset + b.nbytes for b in placed), default=0)


lives = st.tuples(st.integers(0, 6), st.integers(0, 20), st.integers(0, 20))


@settings(max_examples=300)
@given(given=st.lists(lives, max_size=30))
def test_the_layout_is_the_greedy_one(given):
    mine, simple = ([Buffer(64 * size, min(a, b), max(a, b), "") for size, a, b in given] for _ in range(2))
    assert lay_out(mine) == greedy(simple)
    assert [b.offset for b in mine] == [b.offset for b in simple]


def deep(n):
    layers = []
    for _ in range(n):
        layers += [ic.Conv2d(2, 2, 3, padding=1), ic.BatchNorm2d(2), ic.ReLU()]
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(32, 2)])


def test_planning_grows_with_the_depth_and_not_with_its_square(monkeypatch):
    """By the bounds that are looked at, for all arrays together."""
    looked_at = []

    def counting(values, **options):
        values = list(values)
        looked_at.append(len(values))
        return sorted(values, **options)

    monkeypatch.setattr(buffers, "sorted", counting, raising=False)
    totals = []
    for n in (50, 200):
        net = deep(n)
        for training in (True, False):
            net.plan(4, (2, 4, 4), training=training)
        totals.append(sum(looked_at))
        looked_at.clear()
    assert totals[0] > 0
    assert totals[1] < 4 * 2 * totals[0]


def nested(n, kind):
    net = ic.Sequential([ic.Linear(3, 3)])
    for _ in range(n):
        net = kind(net)
    return net


@pytest.mark.parametrize("kind", [lambda net: ic.Sequential([net]), ic.Residual], ids=["Sequential", "Residual"])
def test_networks_that_are_nested_deeply_work_or_say_what_to_do(kind):
    x = np.ones((2, 3), "float64")
    net = nested(60, kind).init(0, "float64")
    copied = copy.deepcopy(net)
    assert_same_bits(copied.predict(x), net.predict(x))
    assert copied.flat is not net.flat
    assert repr(copied) == repr(net)
    assert describe(net)["type"] == type(net).__name__

    net = nested(300, kind).init(0, "float64")
    net.predict(x)
    assert repr(net).startswith(f"{type(net).__name__}(\n  (")
    net = nested(3000, kind)
    assert repr(net).startswith(f"{type(net).__name__}(\n  (")
    for call in (net.init, lambda: net.graph, lambda: copy.deepcopy(net), lambda: ic.Trainer(net)):
        with pytest.raises(ic.ShapeError, match="nested in each other more deeply than Python can follow"):
            call()
    with pytest.raises(ic.CheckpointError, match="put the layers into one list"):
        describe(net)


def test_a_network_that_holds_itself_is_told_of():
    net = ic.Sequential([ic.ReLU()])
    net.layers.append(net)
    with pytest.raises(ic.ShapeError):
        net.init()
    assert "..." in repr(net)
