"""Of the helper ``Probe`` itself: it finds a wrong gradient, and shards find their own part of its loss."""

import pytest
from helpers import Probe, Projection, assert_close, normal

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_check_itself_finds_a_wrong_gradient():
    class Wrong(ic.ReLU):
        def backward(self, dy, ctx):
            return 1.001 * super().backward(dy, ctx)

    with pytest.raises(AssertionError, match="offset"):
        Probe([Wrong()], normal(3, 3, 7, 6)).check_gradients()


def test_the_projection_of_a_probe_is_of_the_whole_batch():
    """Of the helper itself: shards find their own part."""
    x = normal(5, 2, 3, 3)
    whole, parts = (Probe([ic.Conv2d(2, 3, 2)], x, shard=shard).step() for shard in (5, 2))
    assert_close(parts.y, whole.y)
    assert_close(parts.dx, whole.dx)
    assert isinstance(Probe([ic.ReLU()], x).loss, Projection)
