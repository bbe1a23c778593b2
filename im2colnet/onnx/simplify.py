"""Simplification: layers are joined or left out before a network is made; the results are the same.

Other frameworks write one layer as several operators, and put transpositions around layers for channels-last images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from im2colnet import layers as kinds
from im2colnet.host import np
from im2colnet.layers import Layer
from im2colnet.layers.activation import Activation, AlongAxis
from im2colnet.layers.merging import Elementwise
from im2colnet.layers.shaping import Reshaping
from im2colnet.network.draft import INPUT, Draft, Entry
from im2colnet.onnx.patterns import PATTERNS

#: a pass looks at all layers many times: in larger networks nothing is joined
MOST_LAYERS = 3000
#: a pass: what it does to the layer of a name; whether it did something
Pass = Callable[[Draft, str], bool]


def simplify(draft: Draft) -> Draft:
    """Return the draft with fewer layers."""
    if len(draft.entries) > MOST_LAYERS:
        return draft
    for passes in ([reorder, regroup], [reorder, regroup, *PATTERNS], [join_padding, join_bias, leave_out]):
        changed = True
        while changed:
            changed = False
            for name in [*draft.entries]:
                changed |= name in draft.entries and any(do(draft, name) for do in passes)
            draft.prune()
            draft.sort()
    return draft


# ---------------------------------------------------------------------- axes in another order


def order(layer: Layer | None, ndim: int) -> tuple[int, ...] | None:
    """Return the order in which a layer puts the axes of a batch; None if it does something else."""
    return tuple(layer.dims) if isinstance(layer, kinds.Permute) and len(layer.dims) == ndim else None


def reorder(draft: Draft, name: str) -> bool:
    """Join a reordering of axes with the one before it, or move those before a layer behind it."""
    entry = draft.entries[name]
    before = [draft.entries[read] for read in entry.reads if read != INPUT]
    orders = [order(b.layer, len(b.shape) + 1) for b in before]
    dims = order(entry.layer, len(entry.shape) + 1)
    if dims == (*range(len(entry.shape) + 1),) and not only_output(draft, name, entry.reads[0]):
        draft.redirect(name, entry.reads[0])
        return True
    first = orders[0] if orders else None
    if first is None or len({*orders}) > 1 or len(before) < len(entry.reads):
        return False
    inside = [b.reads[0] for b in before]
    if dims is not None:
        joined = tuple(first[dim] for dim in dims)
        draft.put(name, kinds.Permute(joined), inside)
        return True
    if not all(can_follow(draft, read) for read in entry.reads):
        return False
    moved = under(entry, first)
    if moved is None:
        return False
    layer, weights, then = moved
    behind = draft.free_name("order")
    draft.redirect(name, behind)
    draft.put(name, layer, inside, weights)
    draft.put(behind, kinds.Permute(then), [name])
    return True


def can_follow(draft: Draft, name: str) -> bool:
    """Whether all that reads a reordering of axes can be moved before it, so that it need not be computed twice."""
    readers = [draft.entries[reader] for reader in draft.readers_of(name)]
    first = order(draft.entries[name].layer, len(draft.shape(name)) + 1)
    return name not in draft.outputs and all(
        order(reader.layer, len(reader.shape) + 1) is not None or under(reader, first or ()) is not None
        for reader in readers
    )


#: what is done before a reordering in place of what follows it: the layer, its weights, and the order behind it
Moved = tuple[Layer, dict[str, Any], tuple[int, ...]]


def under(entry: Entry, dims: tuple[int, ...]) -> Moved | None:
    """Return the layer to use before a reordering of axes in place of a layer after it; None if there is none."""
    layer, weights = entry.layer, entry.weights
    if isinstance(layer, kinds.PReLU) and layer.num_parameters > 1 and dims[1] != 1:
        return None
    if isinstance(layer, (Activation, Elementwise, kinds.Dropout, kinds.PReLU)) and type(layer) is not kinds.Dropout2d:
        return layer, weights, dims
    if isinstance(layer, kinds.WithConstant):
        shape = layer.shape
        if not shape:
            return layer, weights, dims
        constant = np.reshape(weights["constant"], (1,) * (len(dims) - 1 - len(shape)) + shape)
        back = np.argsort(dims)[1:] - 1
        constant = constant.transpose(back)
        return kinds.WithConstant(layer.operation, constant.shape, reverse=layer.reverse), {"constant": constant}, dims
    if isinstance(layer, (AlongAxis, kinds.Concat)):
        config = {**layer.config(), "dim": dims[layer.dim % len(dims)]}
        return type(layer)(**config), weights, dims
    pad = padding_of(layer)
    if pad is not None and len(pad[1]) == len(dims) - 1:
        mode, sides, value = pad
        inside = tuple(both for _, both in sorted(zip(dims[1:], sides, strict=True)))
        return kinds.Pad(inside, mode, value), weights, dims
    if isinstance(layer, kinds.Slice):
        return kinds.Slice(dims[layer.dim % len(dims)], layer.start, layer.stop, layer.step), weights, dims
    if isinstance(layer, Reshaping):
        return reshaped(entry, dims)
    if isinstance(layer, (kinds.Sum, kinds.Amax)):  # and what is derived from them: Mean, Amin
        return reduced(layer, dims)
    return None


def padding_of(layer: Layer) -> tuple[str, tuple[tuple[int, int], ...], float] | None:
    """Return (mode, sides, value) of a layer of padding, as those of :class:`Pad`; None of another layer."""
    if isinstance(layer, kinds.Pad):
        return layer.mode, tuple(layer.sides), layer.value
    if type(layer) in OF_IMAGES:
        return OF_IMAGES[type(layer)], ((0, 0), *layer.sides), getattr(layer, "value", 0.0)  # type: ignore[attr-defined]
    return None


OF_IMAGES: dict[type[Layer], str] = {
    kinds.ConstantPad2d: "constant",
    kinds.ZeroPad2d: "constant",
    kinds.ReflectionPad2d: "reflect",
    kinds.ReplicationPad2d: "replicate",
    kinds.CircularPad2d: "circular",
}


def reduced(layer: Any, dims: tuple[int, ...]) -> Moved:
    """Return the same reduction of axes in another order."""
    ndim = len(dims)
    gone = {dim % ndim for dim in (layer.dim if isinstance(layer.dim, (tuple, list)) else [layer.dim])}
    axes = tuple(sorted(dims[dim] for dim in gone))
    made: Layer = type(layer)(axes, layer.keepdim)
    if type(layer) is kinds.Mean and layer.keepdim and ndim == 4 and axes == (2, 3):
        made = kinds.GlobalAvgPool2d()
    if layer.keepdim:
        return made, {}, dims
    left = [dim for place, dim in enumerate(dims) if place not in gone]
    return made, {}, tuple(sorted(left).index(dim) for dim in left)


def reshaped(entry: Entry, dims: tuple[int, ...]) -> Moved | None:
    """Return the reshaping, if the reordering only moves axes of length 1."""
    shape = entry.before
    kept = [dim for dim, n in zip(dims, (0, *shape), strict=True) if n != 1]
    if kept != sorted(kept):
        return None
    return (
        entry.layer if isinstance(entry.layer, kinds.Flatten) else kinds.Reshape(entry.shape),
        {},
        (*range(len(entry.shape) + 1),),
    )


# ---------------------------------------------------------------------- samples of another shape


def regroup(draft: Draft, name: str) -> bool:
    """Join a reshaping with the one before it, and leave out one that does nothing."""
    entry = draft.entries[name]
    if not isinstance(entry.layer, Reshaping):
        return False
    read = entry.reads[0]
    before = draft.entries.get(read)
    if entry.shape == draft.shape(read) and not only_output(draft, name, read):
        draft.redirect(name, read)
        return True
    if before is not None and isinstance(before.layer, Reshaping):
        draft.put(name, reshaping(entry.shape), before.reads)
        return True
    return False


def reshaping(shape: Sequence[int]) -> Layer:
    """Return the layer that gives samples a shape."""
    return kinds.Flatten() if len(shape) == 1 else kinds.Reshape(tuple(shape))


# ---------------------------------------------------------------------- what joins the layer beside it


def leave_out(draft: Draft, name: str) -> bool:
    """Leave out arithmetic that changes nothing, such as the sum with 0."""
    entry = draft.entries[name]
    layer, read = entry.layer, entry.reads[0]
    if not isinstance(layer, kinds.WithConstant) or entry.own_name or entry.shape != draft.shape(read):
        return False
    nothing = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}.get(layer.operation)
    constant = entry.weights.get("constant", layer.value)
    if nothing is None or layer.reverse or not np.all(constant == nothing) or only_output(draft, name, read):
        return False
    draft.redirect(name, read)
    return True


def only_output(draft: Draft, name: str, read: str) -> bool:
    """Whether a layer is needed as an output, since the value that it reads cannot be the output itself."""
    return name in draft.outputs and (read not in draft.entries or read in draft.outputs)


def join_padding(draft: Draft, name: str) -> bool:
    """Let a convolution, or a mean of windows, pad the images itself."""
    entry = draft.entries[name]
    before = draft.entries.get(entry.reads[0])
    pad = padding_of(before.layer) if before is not None else None
    layer: Any = entry.layer
    if pad is None or before is None or type(layer) not in WITH_PADDING or draft.readers()[entry.reads[0]] > 1:
        return False
    mode, (of_channels, *sides), value = pad
    own = layer.window.padding[2 - len(sides) :]
    if of_channels != (0, 0) or value or min(map(min, sides)) < 0:
        return False
    both = tuple((a + c, b + d) for (a, b), (c, d) in zip(own, sides, strict=True))
    config = {**layer.config(), "padding": as_argument(both)}
    if isinstance(layer, (kinds.AvgPool1d, kinds.AvgPool2d)):
        small = all(max(pair) < k for pair, k in zip(both, layer.window.kernel[2 - len(sides) :], strict=True))
        if mode != "constant" or layer.ceil_mode or not small or (any(map(any, own)) and not layer.count_include_pad):
            return False
        config["count_include_pad"] = True
    elif mode != "constant" or layer.padding_mode != "zeros":
        if any(map(any, own)) or layer.padding_mode != "zeros":
            return False
        config["padding_mode"] = mode
    draft.put(name, type(layer)(**config), before.reads, entry.weights)
    return True


WITH_PADDING = kinds.Conv1d, kinds.Conv2d, kinds.AvgPool1d, kinds.AvgPool2d


def as_argument(sides: tuple[tuple[int, int], ...]) -> Any:
    """Return padding as an argument of a layer, in the simplest form."""
    if any(a != b for a, b in sides):
        return sides
    return sides[0][0] if len({*sides}) == 1 else tuple(a for a, _ in sides)


CONVOLUTIONS = kinds.Conv1d, kinds.Conv2d, kinds.ConvTranspose1d, kinds.ConvTranspose2d


def join_bias(draft: Draft, name: str) -> bool:
    """Let a product or a convolution add the numbers that are added to each of its channels."""
    entry = draft.entries[name]
    read = entry.reads[0]
    before, layer = draft.entries.get(read), entry.layer
    plain = isinstance(layer, kinds.WithConstant) and layer.operation == "add" and layer.shape
    if not plain or before is None or draft.readers()[read] > 1 or entry.shape != before.shape:
        return False
    channels = getattr(before.layer, "out_features", getattr(before.layer, "out_channels", 0))
    last = type(before.layer) is kinds.Linear
    if not last and type(before.layer) not in CONVOLUTIONS:
        return False
    axis = len(before.shape) - 1 if last else 0
    constant = entry.weights["constant"]
    full = (1,) * (len(before.shape) - constant.ndim) + constant.shape
    if getattr(before.layer, "bias", True) or full[axis] != channels or prod(full) != channels:
        return False
    joined = type(before.layer)(**{**before.layer.config(), "bias": True})
    draft.put(name, joined, before.reads, {**before.weights, "bias": constant.reshape(-1)})
    draft.prune()
    if before.own_name or not entry.own_name:
        draft.rename(name, read)
    return True
