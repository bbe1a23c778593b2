"""Cases of layers that change the shape, and not the numbers."""

from __future__ import annotations

from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    ConstantPad2d,
    Flatten,
    PixelShuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Unflatten,
    ZeroPad2d,
    ZeroPadShortcut,
)
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase

IMAGES = (4, 6, 5)
#: on all sides, of every other number, all that a reflection has, on one side, cut off, both along an axis
PADDINGS = 2, (1, 2, 3, 0), (4, 4, 5, 5), (0, 4, 0, 0), -1, (2, -3, -1, 2)
LAYERS = [
    LayerCase(
        Flatten,
        lambda layer, state, x: oracles.flatten(x),
        lambda layer, state, dy, x: ((oracles.flatten_grad(x, dy),), {}),
        examples=((Flatten(), IMAGES), (Flatten(), (4, 1, 5)), (Flatten(), (7,))),
    ),
    LayerCase(
        ZeroPadShortcut,
        lambda layer, state, x: oracles.zero_pad_shortcut(x, layer.out_channels, layer.stride),
        lambda layer, state, dy, x: ((oracles.zero_pad_shortcut_grad(x, dy, layer.stride),), {}),
        examples=((ZeroPadShortcut(4, 6, 2), IMAGES), (ZeroPadShortcut(4, 4), IMAGES)),
    ),
    LayerCase(
        PixelShuffle,
        lambda layer, state, x: oracles.pixel_shuffle(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.pixel_shuffle_grad(x, dy, **layer.config()),), {}),
        examples=((PixelShuffle(2), (8, 3, 2)), (PixelShuffle(3), (9, 2, 3)), (PixelShuffle(1), IMAGES)),
    ),
    LayerCase(
        ChannelShuffle,
        lambda layer, state, x: oracles.channel_shuffle(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.channel_shuffle_grad(x, dy, **layer.config()),), {}),
        examples=((ChannelShuffle(2), (6, 3, 2)), (ChannelShuffle(3), (6, 2, 3)), (ChannelShuffle(1), IMAGES)),
    ),
    LayerCase(
        Unflatten,
        lambda layer, state, x: oracles.unflatten(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.unflatten_grad(x, dy, **layer.config()),), {}),
        examples=(
            (Unflatten(1, (4, 3, 2)), (24,)),
            (Unflatten(-1, (4, 1, -1)), (24,)),
            (Unflatten(1, (4, 6)), (24,)),
            (Unflatten(1, [-1, 2]), IMAGES),
            (Unflatten(-2, (2, 3)), IMAGES),
            (Unflatten(2, (2, 3)), (4, 6)),
        ),
    ),
    LayerCase(
        ZeroPad2d,
        lambda layer, state, x: oracles.zero_pad2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.zero_pad2d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((ZeroPad2d(padding), IMAGES) for padding in PADDINGS),
    ),
    LayerCase(
        ReflectionPad2d,
        lambda layer, state, x: oracles.reflection_pad2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.reflection_pad2d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((ReflectionPad2d(padding), IMAGES) for padding in PADDINGS),
    ),
    LayerCase(
        ReplicationPad2d,
        lambda layer, state, x: oracles.replication_pad2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.replication_pad2d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((ReplicationPad2d(padding), IMAGES) for padding in PADDINGS),
    ),
    LayerCase(
        CircularPad2d,
        lambda layer, state, x: oracles.circular_pad2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.circular_pad2d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((CircularPad2d(padding), IMAGES) for padding in (*PADDINGS, (5, 5, 6, 6))),
    ),
    LayerCase(
        ConstantPad2d,
        lambda layer, state, x: oracles.constant_pad2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.constant_pad2d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((ConstantPad2d(padding, -1.5), IMAGES) for padding in PADDINGS),
    ),
]
