"""Operators that change the shape, not the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.host import np
from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    Concat,
    ConstantPad2d,
    Pad,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Slice,
    Upsample,
    WithConstant,
    ZeroPad2d,
)
from im2colnet.onnx.fold import BATCH
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: the largest number of ranges of an axis that are cut out one by one
MOST_PARTS = 256
MOVES = "it moves the batch axis; a network keeps it first"


@importer("Reshape", (6, 25), "Reshape, Flatten", "the batch axis stays first")
def reshape(node: OnnxNode, t: Translation) -> None:
    x, wanted = node.inputs[0], t.numbers(node, 1, "shape")
    shape = t.shape(x)
    if not node.attributes.get("allowzero", 0):
        wanted = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted or [])]
    t.same(node, t.reshape(node, x, new_sample(t, shape, wanted or [])))


def new_sample(t: Translation, shape: Sequence[Any], wanted: Sequence[Any]) -> list[int]:
    """Return the shape of a sample from the wanted shape of a whole batch, whose first number is the batch size.

    In a file with a fixed batch size, such as 1, this number stands for any batch size.
    """
    if not wanted:
        raise Refused(f"it makes {_shown(shape)} an array without a batch axis")
    first, rest = wanted[0], [*wanted[1:]]
    numbers, known = prod(shape[1:]), prod(n for n in rest if n != -1)
    if -1 in rest and known and not numbers % known:
        rest[rest.index(-1)] = numbers // known
    ok = first in (BATCH, -1, 1, t.file_batch)
    if not ok or any(not isinstance(n, int) or n < 1 for n in rest) or prod(rest) != numbers:
        raise Refused(f"it reshapes {_shown(shape)} to {_shown(wanted)}: {MOVES}")
    return rest


def _shown(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ")"


@importer("Flatten", (6, 25), "Flatten", "axis 1")
def flatten(node: OnnxNode, t: Translation) -> None:
    x, shape = node.inputs[0], t.shape(node.inputs[0])
    axis = node.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    if axis == 0 or prod(shape[1:axis]) != 1:
        raise Refused(f"axis {axis} joins the batch axis with others")
    t.same(node, t.reshape(node, x, [prod(shape[axis:])]))


@importer("Squeeze", (6, 25), "Reshape", "not the batch axis")
def squeeze(node: OnnxNode, t: Translation) -> None:
    x, shape, given = node.inputs[0], t.shape(node.inputs[0]), t.numbers(node, 1, "axes")
    gone = {i for i in range(1, len(shape)) if shape[i] == 1} if given is None else {n % len(shape) for n in given}
    if 0 in gone:
        raise Refused("it takes the batch axis away")
    if any(shape[i] != 1 for i in gone):
        raise Refused(f"it takes axes away of {_shown(shape)} whose length is not 1")
    t.same(node, t.reshape(node, x, [n for i, n in enumerate(shape) if i and i not in gone]))


@importer("Unsqueeze", (6, 25), "Reshape", "not before the batch axis")
def unsqueeze(node: OnnxNode, t: Translation) -> None:
    x, given = node.inputs[0], t.numbers(node, 1, "axes") or []
    sample = [*t.shape(x)]
    for axis in sorted(n % (len(sample) + len(given)) for n in given):
        sample.insert(axis, 1)
    if sample[0] != BATCH:
        raise Refused("it puts an axis before the batch axis")
    t.same(node, t.reshape(node, x, sample[1:]))


@importer("Transpose", (6, 25), "Permute", "the batch axis stays first")
def transpose(node: OnnxNode, t: Translation) -> None:
    ndim = len(t.shape(node.inputs[0]))
    perm = tuple(node.attributes.get("perm", range(ndim)[::-1]))
    if perm[0] != 0:
        raise Refused(f"perm {[*perm]} moves the batch axis; a network keeps it first")
    if perm == (*range(ndim),):
        t.same(node, node.inputs[0])
    else:
        t.add(node, Permute(perm), node.inputs[0])


# ---------------------------------------------------------------------- parts


def part(t: Translation, node: OnnxNode, tensor: str, axis: int, start: int, stop: int, step: int = 1) -> str:
    """Return a name for a part of an axis, as ``range(length)[start:stop:step]`` has it."""
    length = t.shape(tensor)[axis]
    places = range(length)[start:stop:step]
    if places == range(length):
        return tensor
    if not places:
        raise Refused(f"it leaves nothing of axis {axis}")
    end = places[-1] + (1 if places.step > 0 else -1)
    return t.apply(node, Slice(axis, places[0], None if end < 0 else end, places.step), tensor)


@importer("Slice", (6, 13), "Slice", "not along the batch")
def slice_(node: OnnxNode, t: Translation) -> None:
    x, shape = node.inputs[0], t.shape(node.inputs[0])
    starts, ends = t.numbers(node, 1, "starts") or [], t.numbers(node, 2, "ends") or []
    axes = t.numbers(node, 3, "axes") or [*range(len(starts))]
    steps = (t.numbers(node, 4, "steps") if node.opset >= 10 else None) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, (axis % len(shape) for axis in axes), steps, strict=True):
        if axis:
            x = part(t, node, x, axis, start, end, step)
        elif start != 0 or step != 1 or not (end in (BATCH, t.file_batch) or end >= 2**31 - 1):
            raise Refused("it takes a part of the batch")
    t.same(node, x)


@importer("Split", (6, 18), "Slice", "not along the batch")
def split(node: OnnxNode, t: Translation) -> None:
    x, shape = node.inputs[0], t.shape(node.inputs[0])
    axis, parts = node.attributes.get("axis", 0) % len(shape), node.attributes.get("num_outputs", len(node.outputs))
    if axis == 0:
        raise Refused("it takes parts of the batch")
    sizes = t.numbers(node, 1, "split")
    if sizes is None and not 0 < parts <= shape[axis]:
        raise Refused(f"it makes {parts} parts of an axis of {shape[axis]}")
    if sizes is None:
        each = -(-shape[axis] // parts)
        sizes = [min(each, shape[axis] - i * each) for i in range(parts)]
    if sum(sizes) != shape[axis] or min(sizes) < 1:
        raise Refused(f"its parts {sizes} do not divide an axis of {shape[axis]}")
    start = 0
    for output, size in enumerate(sizes):
        if output < len(node.outputs) and t.is_read(node.outputs[output]):
            t.same(node, part(t, node, x, axis, start, start + size), output)
        start += size


def ranges(places: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """Return (start, stop, step) of ranges that together have these places, in this order."""
    found: list[list[int]] = []
    for place in places:
        last = found[-1] if found else [place]
        if place == (2 * last[-1] - last[-2] if len(last) > 1 else place) != last[-1]:
            last.append(place)
        else:
            found.append([place])
    steps = [last[1] - last[0] if len(last) > 1 else 1 for last in found]
    ends = [last[-1] + step for last, step in zip(found, steps, strict=True)]
    return [
        (last[0], end if end >= 0 else -length - 1, step) for last, end, step in zip(found, ends, steps, strict=True)
    ]


@importer("Gather", (6, 13), "Slice, Concat, Upsample", "constant indices; not along the batch")
def gather(node: OnnxNode, t: Translation) -> None:
    x, shape, given = node.inputs[0], t.shape(node.inputs[0]), t.known(node, 1, "indices")
    axis = node.attributes.get("axis", 0) % len(shape)
    if axis == 0:
        raise Refused("it takes samples out of the batch")
    length = shape[axis]
    places = [n + length if n < 0 else n for n in given.ravel().tolist()]
    if not places or not all(0 <= n < length for n in places):
        raise Refused(f"its indices {places!s:.60} are not within the {length} of axis {axis}")
    parts = ranges(places, length)
    nearest = places == [i * length // len(places) for i in range(len(places))]
    if len(parts) > 1 and len(shape) == 4 and axis > 1 and given.ndim == 1 and nearest:
        size = (len(places), shape[3]) if axis == 2 else (shape[2], len(places))
        t.add(node, Upsample(size=size), x)
        return
    if len(parts) > MOST_PARTS:
        raise Refused(f"its indices {places!s:.60} are {len(parts)} ranges, {MOST_PARTS} at most are supported")
    taken = [part(t, node, x, axis, *each) for each in parts]
    made = taken[0] if len(parts) == 1 else t.apply(node, Concat(axis), *taken)
    t.same(node, t.reshape(node, made, [*shape[1:axis], *given.shape, *shape[axis + 1 :]]))


# ---------------------------------------------------------------------- more of the same


@importer("Expand", (8, 13), "WithConstant('add')", "not the batch")
def expand(node: OnnxNode, t: Translation) -> None:
    x, wanted = node.inputs[0], t.numbers(node, 1, "shape") or []
    shape = t.shape(x)
    if len(wanted) > len(shape):
        raise Refused("it adds axes before the batch axis")
    wanted = [*shape[: len(shape) - len(wanted)], *wanted]
    if wanted[0] not in (BATCH, 1, t.file_batch):
        raise Refused("it repeats the batch")
    larger = [n if m == 1 else 1 for m, n in zip(shape[1:], wanted[1:], strict=True)]
    if prod(larger) > 1:  # zeros are added where it is to be broadcast
        if prod(larger) * 4 > t.max_bytes:
            raise Refused(f"it makes samples of the size {larger}")
        zeros = np.zeros(larger, "float32")
        t.add(node, WithConstant("add", tuple(larger)), x, weights={"constant": zeros})
    else:
        t.same(node, x)


@importer("Tile", (6, 13), "Concat", "not the batch; at most 64 times")
def tile(node: OnnxNode, t: Translation) -> None:
    x, repeats = node.inputs[0], t.numbers(node, 1, "repeats") or []
    if repeats[0] != 1:
        raise Refused("it repeats the batch")
    for axis, times in enumerate(repeats):
        if not 1 <= times <= 64:
            raise Refused(f"it repeats an axis {times} times")
        if times > 1:
            x = t.apply(node, Concat(axis), *[x] * times)
    t.same(node, x)


#: ONNX's name of each padding mode -> its name here, and the layer for images
BORDERS: dict[str, tuple[str, Any]] = {
    "reflect": ("reflect", ReflectionPad2d),
    "edge": ("replicate", ReplicationPad2d),
    "wrap": ("circular", CircularPad2d),
}


@importer(
    "Pad", (6, 25), "ZeroPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d, Pad", "not the batch"
)
def pad(node: OnnxNode, t: Translation) -> None:
    x, ndim, given = node.inputs[0], len(t.shape(node.inputs[0])), t.numbers(node, 1, "pads") or []
    mode = node.attributes.get("mode", "constant")
    value = node.attributes.get("value", t.known(node, 2, "value"))
    value = 0.0 if value is None or np.size(value) == 0 else float(np.asarray(value).item())
    axes = [axis % ndim for axis in t.numbers(node, 3, "axes") or range(ndim)]
    sides = [(0, 0)] * ndim
    for i, axis in enumerate(axes):
        sides[axis] = given[i], given[i + len(axes)]
    if sides[0] != (0, 0):
        raise Refused("it pads the batch")
    if not any(map(any, sides)):
        t.same(node, x)
    else:
        t.add(node, padding(sides[1:], mode, value), x)


def padding(sides: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Any:
    """Return the layer that pads the axes of a sample."""
    if mode not in ("constant", *BORDERS):
        raise Refused(f"mode {mode!r} is not supported, constant, reflect, edge and wrap are")
    name, of_images = BORDERS.get(mode, (mode, ZeroPad2d))
    if len(sides) == 3 and sides[0] == (0, 0):
        (top, bottom), (left, right) = sides[1:]
        around = left, right, top, bottom
        return ConstantPad2d(around, value) if value else of_images(around)
    return Pad(tuple(sides), name, value)


@importer("DepthToSpace", (6, 28), "PixelShuffle, ChannelShuffle")
def depth_to_space(node: OnnxNode, t: Translation) -> None:
    size = node.attributes["blocksize"]
    by_pixels = node.attributes.get("mode", "DCR") == "DCR"  # the places of a block are before the channels
    t.chain(node, node.inputs[0], *([ChannelShuffle(size**2)] if by_pixels else []), PixelShuffle(size))


@importer("SpaceToDepth", (6, 28), "PixelUnshuffle, ChannelShuffle")
def space_to_depth(node: OnnxNode, t: Translation) -> None:
    channels = t.shape(node.inputs[0])[1]
    by_pixels = node.attributes.get("mode", "DCR") == "DCR"
    layer = PixelUnshuffle(node.attributes["blocksize"])
    t.chain(node, node.inputs[0], layer, *([ChannelShuffle(channels)] if by_pixels else []))
