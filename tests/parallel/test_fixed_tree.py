"""Sums over the shards are made along a fixed tree, by however many workers."""

import numpy as np
import pytest
from helpers import assert_same_bits, loss_and_gradient, unequal_parts, whole_tree

import im2colnet as ic
from im2colnet.parallel import tree_sum

pytestmark = pytest.mark.usefixtures("one_thread")


def test_order_shows():
    parts = unequal_parts(37)
    assert (whole_tree(parts) != parts.sum(0)).any()
    assert (whole_tree(parts) != np.add.accumulate(parts)[-1]).any()


@pytest.mark.parametrize("count", range(1, 41))
def test_tree_sum(count):
    parts = unequal_parts(count)
    given = list(parts.copy())
    tree_sum(given)
    assert_same_bits(given[0], whole_tree(parts))
    halves = list(parts.copy())
    tree_sum(halves, 0, 3)
    tree_sum(halves, 3, 7)
    assert_same_bits(halves[0], whole_tree(parts))


@pytest.mark.parametrize(("n", "threads"), [(1, 1), (5, 2), (6, 1), (7, 3), (11, 4), (13, 2)])
def test_a_run_adds_gradients_along_the_tree(n, threads):
    """Shards of one sample, whose gradients are known exactly: a linear layer's are dy·x."""
    ic.set_num_threads(threads)
    x, net = unequal_parts(n, 5), ic.Sequential([ic.Linear(5, 1, bias=False)]).init(0)

    class Sum(ic.CrossEntropyLoss):
        def __call__(self, logits, labels, scale, metrics, dlogits, backend):
            metrics[...], dlogits[...] = (1, 0), 1

    loss, found = loss_and_gradient(net, x, np.zeros(n, int), Sum(), shard=1)
    assert loss == n
    assert_same_bits(found, whole_tree(x))
