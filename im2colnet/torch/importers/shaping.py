"""Functions that change the shape, take parts, or reorder axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    ConstantPad2d,
    Flatten,
    Pad,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Reshape,
    Slice,
    ZeroPad2d,
)
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import BATCH, BatchSize, Value

#: mode of padding -> the layer of images
PADDINGS = {"reflect": ReflectionPad2d, "replicate": ReplicationPad2d, "circular": CircularPad2d}


def _sizes(given: Sequence[Any]) -> list[Any]:
    """Return what is given as one sequence or as several arguments."""
    return [*given[0]] if len(given) == 1 and isinstance(given[0], (tuple, list)) else [*given]


def _axis(t: Trace, input: Value, dim: int, more: int = 0) -> int:
    """Return the number of an axis of a value that has ``more`` axes than the input; refuse the batch axis."""
    axes = 1 + len(t.sample_shape(input)) + more
    if not -axes <= dim < axes:
        raise Refused(f"dim={dim} is not an axis of a value of {axes} axes")
    if dim % axes == 0:
        raise Refused("dim=0 is the batch, which a network keeps first")
    return dim % axes


def _reshape(t: Trace, input: Value, sample: Sequence[int]) -> Value:
    """Give the samples another shape."""
    if not sample:
        raise Refused("it leaves no axis of a sample")
    if tuple(sample) == t.sample_shape(input):
        return t.same(input)
    return t.add(Flatten() if len(sample) == 1 else Reshape(tuple(sample)), input)


@importer("reshape", "view", "view_as", "reshape_as")
def reshape(t: Trace, input: Value, *shape: Any) -> Value:
    sizes = [*shape[0].shape] if isinstance(shape[0], Value) else _sizes(shape)
    numbers = prod(t.sample_shape(input))
    if any(isinstance(size, BatchSize) and (place or size is not BATCH) for place, size in enumerate(sizes)):
        raise Refused("its shape is computed from the batch size: a network keeps the batch as its first axis")
    first, *sample = sizes
    if first is not BATCH and (first != -1 or prod(sample) != numbers):
        raise Refused(f"a shape of {tuple(sizes)} does not keep the batch first: write x.size(0) there")
    if -1 in sample:
        sample[sample.index(-1)] = numbers // -prod(sample)
    return _reshape(t, input, sample)


@importer("flatten")
def flatten(t: Trace, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    start, end = _axis(t, input, start_dim), _axis(t, input, end_dim)
    shape = t.sample_shape(input)
    return _reshape(t, input, [*shape[: start - 1], prod(shape[start - 1 : end]), *shape[end:]])


@importer("unflatten")
def unflatten(t: Trace, input: Value, dim: int, sizes: Sequence[int]) -> Value:
    axis, shape = _axis(t, input, dim), t.sample_shape(input)
    new = [*sizes]
    if -1 in new:
        new[new.index(-1)] = shape[axis - 1] // -prod(new)
    return _reshape(t, input, [*shape[: axis - 1], *new, *shape[axis:]])


@importer("squeeze")
def squeeze(t: Trace, input: Value, dim: Any = None) -> Value:
    shape = t.sample_shape(input)
    given = range(1, len(shape) + 1) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    gone = {_axis(t, input, each) for each in given}
    return _reshape(t, input, [n for axis, n in enumerate(shape, 1) if axis not in gone or n != 1])


@importer("unsqueeze")
def unsqueeze(t: Trace, input: Value, dim: int) -> Value:
    axis, shape = _axis(t, input, dim, 1), t.sample_shape(input)
    return _reshape(t, input, [*shape[: axis - 1], 1, *shape[axis - 1 :]])


@importer("expand", "expand_as")
def expand(t: Trace, input: Value, *sizes: Any) -> Value:
    """Repeat numbers along axes of length 1, as arithmetic does by itself."""
    wanted = [*sizes[0].shape] if isinstance(sizes[0], Value) else _sizes(sizes)
    shape, made = t.sample_shape(input), t.same(input)
    fits = len(wanted) == len(shape) + 1 and (wanted[0] is BATCH or wanted[0] == -1)
    if not fits or any(n not in (-1, m) and m != 1 for n, m in zip(wanted[1:], shape, strict=True)):
        raise Refused(f"a shape of {tuple(wanted)} is not that of samples whose axes of length 1 are repeated")
    sample = tuple(m if n == -1 else n for n, m in zip(wanted[1:], shape, strict=True))
    made.repeated = sample if sample != shape else made.repeated
    return made


@importer("permute")
def permute(t: Trace, input: Value, *dims: Any) -> Value:
    axes = 1 + len(t.sample_shape(input))
    order = [dim % axes for dim in _sizes(dims)]
    return t.same(input) if order == [*range(axes)] else t.add(Permute(order), input)


@importer("transpose", "swapaxes", "swapdims")
def transpose(t: Trace, input: Value, dim0: int, dim1: int) -> Value:
    first, second = _axis(t, input, dim0), _axis(t, input, dim1)
    order = [*range(1 + len(t.sample_shape(input)))]
    order[first], order[second] = second, first
    return permute(t, input, order)


@importer("mT")
def matrix_transpose(t: Trace, input: Value) -> Value:
    return transpose(t, input, -1, -2)


# ---------------------------------------------------------------------- parts


def _part(t: Trace, input: Value, axis: int, start: int | None, stop: int | None, step: int = 1) -> Value:
    length = t.sample_shape(input)[axis - 1]
    if range(length)[start:stop:step] == range(length):
        return t.same(input)
    return t.add(Slice(axis, start, stop, step), input)


@importer("getitem")
def getitem(t: Trace, input: Value, index: Any) -> Value:
    given = [*index] if isinstance(index, tuple) else [index]
    if any(not isinstance(one, (int, slice, type(None), type(...))) for one in given):
        raise Refused("its index is not a number, slice or None")
    missing = 1 + len(t.sample_shape(input)) - sum(one is not None and one is not ... for one in given)
    place = given.index(...) if ... in given else len(given)
    given[place : place + 1] = [slice(None)] * missing
    if given[0] != slice(None):
        raise Refused("it takes some samples of the batch, or puts an axis before it")
    shape, axis = [], 1
    for one in given[1:]:
        if one is None:
            shape.append(1)
            continue
        if isinstance(one, slice):
            input = _part(t, input, axis, one.start, one.stop, one.step or 1)
            shape.append(t.sample_shape(input)[axis - 1])
        else:
            input = _part(t, input, axis, one, one + 1 or None)
        axis += 1
    return _reshape(t, input, shape)


@importer("select")
def select(t: Trace, input: Value, dim: int, index: int) -> Value:
    axis = _axis(t, input, dim)
    return getitem(t, input, (slice(None),) * axis + (index,))


@importer("narrow")
def narrow(t: Trace, input: Value, dim: int, start: int, length: int) -> Value:
    return _part(t, input, _axis(t, input, dim), start, start + length)


@importer("split", "split_with_sizes")
def split(t: Trace, tensor: Value, split_size_or_sections: Any, dim: int = 0) -> tuple[Value, ...]:
    axis, sizes = _axis(t, tensor, dim), split_size_or_sections
    length, found, start = t.sample_shape(tensor)[axis - 1], [], 0
    if isinstance(sizes, int):
        sizes = [min(sizes, length - begin) for begin in range(0, length, sizes)]
    for size in sizes:
        found.append(_part(t, tensor, axis, start, start + size))
        start += size
    return tuple(found)


@importer("chunk")
def chunk(t: Trace, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    length = t.sample_shape(input)[_axis(t, input, dim) - 1]
    return split(t, input, -(-length // chunks), dim)


@importer("unbind")
def unbind(t: Trace, input: Value, dim: int = 0) -> tuple[Value, ...]:
    length = t.sample_shape(input)[_axis(t, input, dim) - 1]
    return tuple(select(t, input, dim, index) for index in range(length))


# ---------------------------------------------------------------------- pixels


@importer("pixel_shuffle")
def pixel_shuffle(t: Trace, input: Value, upscale_factor: int) -> Value:
    return t.add(PixelShuffle(upscale_factor), input)


@importer("pixel_unshuffle")
def pixel_unshuffle(t: Trace, input: Value, downscale_factor: int) -> Value:
    return t.add(PixelUnshuffle(downscale_factor), input)


@importer("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Trace, input: Value, groups: int) -> Value:
    return t.add(ChannelShuffle(groups), input)


@importer("pad")
def pad(t: Trace, input: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    shape, sides = t.sample_shape(input), [*pad]
    while sides[-2:] == [0, 0]:
        sides = sides[:-2]
    if len(shape) == 3 and len(sides) <= 4:
        around = (*sides, *[0] * (4 - len(sides)))
        if mode != "constant":
            return t.add(PADDINGS[mode](around), input)
        return t.add(ConstantPad2d(around, float(value)) if value else ZeroPad2d(around), input)
    of_axes = [*zip(sides[-2::-2], sides[-1::-2], strict=True)]
    return t.add(Pad([(0, 0)] * (len(shape) - len(of_axes)) + of_axes, mode, float(value or 0)), input)
