"""Cases of layers that change the shape, and not the numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    ConstantPad2d,
    Flatten,
    Layer,
    Pad,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Reshape,
    Slice,
    Transpose,
    Unflatten,
    ZeroPad2d,
    ZeroPadShortcut,
)
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase
from im2colnet.types import Array, Shape

IMAGES = (4, 6, 5)


def moving(kind: type[Layer], move: Callable[..., Array], *examples: tuple[Layer, Shape]) -> LayerCase:
    """The case of a layer that does nothing but move numbers, as a function of the layer's arguments does."""
    return LayerCase(
        kind,
        lambda layer, state, x: move(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.moved_grad(x, dy, partial(move, **layer.config())),), {}),
        examples,
    )


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
    moving(
        PixelUnshuffle,
        oracles.pixel_unshuffle,
        (PixelUnshuffle(2), (2, 6, 4)),
        (PixelUnshuffle(3), (1, 6, 9)),
        (PixelUnshuffle(1), IMAGES),
    ),
    LayerCase(
        Pad,
        lambda layer, state, x: oracles.pad_axes(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.pad_axes_grad(x, dy, **layer.config()),), {}),
        examples=(
            *(
                (Pad(padding, mode, 1.5 if mode == "constant" else 0.0), shape)
                for mode in ("constant", "reflect", "replicate", "circular")
                for padding, shape in (
                    (((1, 2), (0, 3), (2, 1)), IMAGES),
                    ([[0, 0], [-1, 2], [1, 0]], IMAGES),
                    (((2, 1), (0, 0), (0, -2)), IMAGES),
                    (((0, 0), (0, 0), (0, 0)), IMAGES),
                    (((3, 4),), (7,)),
                    (((1, 0), (2, -1)), (4, 6)),
                    (((0, 0), (1, 1), (0, 0), (1, 0)), (2, 3, 4, 2)),
                )
            ),
        ),
    ),
    moving(
        Reshape,
        oracles.reshape,
        (Reshape((8, 3, -1)), IMAGES),
        (Reshape((-1,)), IMAGES),
        (Reshape((4, 5, 6)), IMAGES),
        (Reshape((2, 60)), IMAGES),
        (Reshape([4, 3, 2]), (24,)),
        (Reshape((4, 1, -1)), (24,)),
        (Reshape((6, 4)), (4, 6)),
        (Reshape((3, 2, 2, 2)), (4, 3, 2)),
    ),
    moving(
        Permute,
        oracles.permute,
        (Permute((0, 2, 3, 1)), IMAGES),
        (Permute([0, 1, 3, 2]), IMAGES),
        (Permute((0, 2, 1)), (4, 6)),
        (Permute((0, 1)), (7,)),
        (Permute((0, 3, 4, 1, 2)), (2, 3, 4, 2)),
    ),
    moving(
        Transpose,
        oracles.transpose,
        (Transpose(1, 2), IMAGES),
        (Transpose(-1, 2), IMAGES),
        (Transpose(1, 1), IMAGES),
        (Transpose(1, -1), (4, 6)),
    ),
    moving(
        Slice,
        oracles.part,
        (Slice(1, stop=2), IMAGES),
        (Slice(1, 2), IMAGES),
        (Slice(2, 1, -1, 2), IMAGES),
        (Slice(-1, None, None, -2), IMAGES),
        (Slice(1, -3, 100), (7,)),
        (Slice(-1, 1), (4, 6)),
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
