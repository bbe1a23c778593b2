"""Layers that an exporter has written as several operators, recognized by the last of them."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose, pi, prod, sqrt
from typing import Any

from im2colnet import layers as kinds
from im2colnet.host import np
from im2colnet.layers import Layer
from im2colnet.network.draft import Draft


def is_a(draft: Draft, name: str, *wanted: type[Layer]) -> bool:
    """Whether a value is made by a layer of one of these kinds."""
    return name in draft.entries and isinstance(draft.entries[name].layer, wanted)


def read_by(draft: Draft, name: str) -> str:
    """Return the first value that a layer reads."""
    return draft.entries[name].reads[0]


def with_number(draft: Draft, name: str) -> tuple[str, float, str] | None:
    """Return (operation, number, value) if a value is arithmetic of another value and a number, else None.

    A difference is a sum, and a quotient is a product.
    """
    if not is_a(draft, name, kinds.WithConstant):
        return None
    entry = draft.entries[name]
    layer: Any = entry.layer
    constant = entry.weights.get("constant", np.float64(layer.value))
    if constant.size != 1 or layer.reverse:
        return None
    number = float(constant.reshape(()))
    if layer.operation == "sub":
        return "add", -number, entry.reads[0]
    if layer.operation == "div" and number:
        return "mul", 1 / number, entry.reads[0]
    return layer.operation, number, entry.reads[0]


def same(a: float, b: float) -> bool:
    """Whether two numbers are equal as far as an exporter keeps their digits."""
    return isclose(a, b, rel_tol=1e-4)


def number_of(draft: Draft, name: str, operation: str, number: float) -> str | None:
    """Return the value that a number is added to, or multiplied with; None if a value is made otherwise."""
    found = with_number(draft, name)
    return found[2] if found and found[0] == operation and same(found[1], number) else None


def product(draft: Draft, name: str) -> tuple[float, list[str]]:
    """Return a number and values whose product a value is."""
    factor, open_ = 1.0, [name]
    found: list[str] = []
    while open_ and len(found) + len(open_) < 16:
        one = open_.pop()
        scaled = with_number(draft, one)
        if scaled and scaled[0] == "mul":
            factor *= scaled[1]
            open_.append(scaled[2])
        elif is_a(draft, one, kinds.Mul):
            open_ += draft.entries[one].reads
        else:
            found.append(one)
    return factor, sorted([*found, *open_])


# ---------------------------------------------------------------------- functions that are x times something


def gate_of(draft: Draft, name: str) -> tuple[str, float, Callable[[], Layer]] | None:
    """Return (x, c, layer) if a value is g(x) and c·x·g(x) is a layer's function; None if it is not."""
    if is_a(draft, name, kinds.Sigmoid):
        return read_by(draft, name), 1.0, kinds.SiLU
    if is_a(draft, name, kinds.Hardsigmoid):
        return read_by(draft, name), 1.0, kinds.Hardswish
    if is_a(draft, name, kinds.Tanh) and is_a(draft, inner := read_by(draft, name), kinds.Softplus):
        return read_by(draft, inner), 1.0, kinds.Mish
    if clipped := three_more(draft, name):
        return clipped, 1 / 6, kinds.Hardswish
    inner = number_of(draft, name, "add", 1.0) or ""
    if inner and is_a(draft, inner, kinds.Tanh):
        return gate_of_tanh(draft, read_by(draft, inner))
    if type_name(draft, inner) == "Erf":
        x = number_of(draft, read_by(draft, inner), "mul", sqrt(0.5))
        return (x, 0.5, kinds.GELU) if x else None
    return None


def three_more(draft: Draft, name: str) -> str | None:
    """Return x if a value is x + 3, at least 0 and at most 6."""
    limited = is_a(draft, name, kinds.ReLU6) or (
        is_a(draft, name, kinds.Hardtanh) and limits(draft.entries[name].layer) == (0, 6)
    )
    return number_of(draft, read_by(draft, name), "add", 3.0) if limited else None


def limits(layer: Any) -> tuple[float, float]:
    return layer.min_val, layer.max_val


def gate_of_tanh(draft: Draft, name: str) -> tuple[str, float, Callable[[], Layer]] | None:
    """Return x for ``√(2/π) · (x + 0.044715 · x³)``, what the approximation of GELU has within tanh."""
    summed = number_of(draft, name, "mul", sqrt(2 / pi)) or ""
    if not is_a(draft, summed, kinds.Add):
        return None
    for x, cube in permutations(draft, summed):
        factor, of = product(draft, cube)
        power = with_number(draft, of[0]) if len(of) == 1 else None
        cubed = of == [x] * 3 or (power is not None and power[0] == "pow" and power[1] == 3 and power[2] == x)
        if cubed and same(factor, 0.044715):
            return x, 0.5, lambda: kinds.GELU("tanh")
    return None


def permutations(draft: Draft, name: str) -> list[tuple[str, str]]:
    """Return the two values that a layer reads, in both orders."""
    a, b = draft.entries[name].reads
    return [(a, b), (b, a)]


def gated(draft: Draft, name: str) -> bool:
    """Recognize SiLU, Hardswish, Mish and GELU."""
    if not is_a(draft, name, kinds.Mul, kinds.WithConstant):
        return False
    factor, values = product(draft, name)
    for i, value in enumerate(values):
        gate = gate_of(draft, value) if len(values) > 1 else None
        if gate is None:
            continue
        x, wanted, layer = gate
        of_x, parts = product(draft, x)
        if sorted(parts) == [*values[:i], *values[i + 1 :]] and same(factor, wanted * of_x):
            draft.put(name, layer(), [x])
            return True
    return False


def hardsigmoid(draft: Draft, name: str) -> bool:
    """Recognize ``clip(x + 3, 0, 6) / 6``."""
    clipped = number_of(draft, name, "mul", 1 / 6)
    x = three_more(draft, clipped) if clipped else None
    if x is None:
        return False
    draft.put(name, kinds.Hardsigmoid(), [x])
    return True


def prelu(draft: Draft, name: str) -> bool:
    """Recognize ``max(x, 0) + c · min(x, 0)`` with a c for each channel."""
    if not is_a(draft, name, kinds.Add):
        return False
    for above, scaled in permutations(draft, name):
        if not is_a(draft, above, kinds.ReLU) or not is_a(draft, scaled, kinds.WithConstant):
            continue
        x, below = read_by(draft, above), with_number(draft, read_by(draft, scaled))
        layer: Any = draft.entries[scaled].layer
        constant, channels = draft.entries[scaled].weights.get("constant"), draft.shape(x)[0]
        if constant is None or constant.shape != (channels, *(1,) * (len(draft.shape(x)) - 1)):
            continue
        if below == ("minimum", 0.0, x) and layer.operation == "mul":
            draft.put(name, kinds.PReLU(channels), [x], {"weight": constant.reshape(-1)})
            return True
    return False


# ---------------------------------------------------------------------- normalization


def layer_norm(draft: Draft, name: str) -> bool:
    """Recognize ``(x - mean) / √(mean((x - mean)²) + eps)`` over the last axes."""
    if not is_a(draft, name, kinds.Div):
        return False
    apart, root = draft.entries[name].reads
    if not is_a(draft, apart, kinds.Sub) or type_name(draft, root) != "Sqrt":
        return False
    x, mean = draft.entries[apart].reads
    found = with_number(draft, read_by(draft, root))
    if not found or found[0] != "add" or not is_a(draft, mean, kinds.Mean) or not is_a(draft, found[2], kinds.Mean):
        return False
    squares = read_by(draft, found[2])
    dims = last_axes(draft, mean)
    if dims is None or last_axes(draft, found[2]) != dims or read_by(draft, mean) != x:
        return False
    if not squared(draft, squares, apart):
        return False
    draft.put(name, kinds.LayerNorm(draft.shape(x)[-dims:], found[1], elementwise_affine=False), [x])
    return True


def squared(draft: Draft, name: str, of: str) -> bool:
    """Whether a value is the square of another."""
    if type_name(draft, name) == "Square":
        return read_by(draft, name) == of
    return with_number(draft, name) == ("pow", 2.0, of) or (
        is_a(draft, name, kinds.Mul) and draft.entries[name].reads == (of, of)
    )


def type_name(draft: Draft, name: str) -> str:
    return type(draft.entries[name].layer).__name__ if name in draft.entries else ""


def last_axes(draft: Draft, name: str) -> int | None:
    """Return how many of the last axes a mean is of, if it keeps them; else None."""
    layer: Any = draft.entries[name].layer
    ndim = len(draft.shape(name)) + 1
    dims = sorted(dim % ndim for dim in (layer.dim if isinstance(layer.dim, (tuple, list)) else [layer.dim]))
    return len(dims) if layer.keepdim and dims == [*range(ndim - len(dims), ndim)] else None


def group_norm(draft: Draft, name: str) -> bool:
    """Recognize the norm of each of G channels of (G, L), between reshapings from (C, H, W) and back."""
    if not is_a(draft, name, kinds.Reshape) or not is_a(draft, inner := read_by(draft, name), kinds.GroupNorm):
        return False
    norm: Any = draft.entries[inner].layer
    weights = draft.entries[inner].weights
    first = read_by(draft, inner)
    plain = np.all(weights.get("weight", 1) == 1) and np.all(weights.get("bias", 0) == 0)
    if norm.num_groups != norm.num_channels or not plain or not is_a(draft, first, kinds.Reshape, kinds.Unflatten):
        return False
    x, shape = read_by(draft, first), draft.shape(name)
    if draft.shape(x) != shape or shape[0] % norm.num_groups or len(draft.shape(first)) < 2:
        return False
    draft.put(name, kinds.GroupNorm(norm.num_groups, shape[0], norm.eps, affine=False), [x])
    return True


def affine(draft: Draft, name: str) -> bool:
    """Give a norm the weight that its result is multiplied with, or then the bias that is added."""
    entry = draft.entries[name]
    read = entry.reads[0]
    if not is_a(draft, name, kinds.WithConstant) or not is_a(draft, read, kinds.LayerNorm, kinds.GroupNorm):
        return False
    norm, layer, weights = draft.entries[read], entry.layer, entry.weights
    config = norm.layer.config()
    key = "elementwise_affine" if isinstance(norm.layer, kinds.LayerNorm) else "affine"
    step: tuple[str, bool, bool] = (layer.operation, config[key], config["bias"] and config[key])  # type: ignore[attr-defined]
    wanted = config["normalized_shape"] if key == "elementwise_affine" else (config["num_channels"],)
    constant = weights.get("constant")
    if constant is None or step not in (("mul", False, False), ("add", True, False)):
        return False
    sample = norm.shape
    full = (1,) * (len(sample) - constant.ndim) + constant.shape
    at = sample[-len(wanted) :] if key == "elementwise_affine" else sample[:1]
    place = full[-len(wanted) :] if key == "elementwise_affine" else full[:1]
    if place != at or prod(full) != prod(wanted) or draft.readers()[read] > 1:
        return False
    number = constant.reshape(wanted)
    more = {"weight": number} if step[0] == "mul" else {**norm.weights, "bias": number}
    made = type(norm.layer)(**{**config, key: True, "bias": step[0] == "add"})
    draft.put(name, made, norm.reads, more)
    return True


def response_norm(draft: Draft, name: str) -> bool:
    """Recognize ``x / (k + alpha · mean(x²))**beta`` with the mean of neighbouring channels, as PyTorch writes it."""
    if not is_a(draft, name, kinds.Div):
        return False
    x, read = draft.entries[name].reads
    numbers = []
    for operation in ("pow", "add", "mul"):
        found = with_number(draft, read)
        if found is None or found[0] != operation:
            return False
        numbers.append(found[1])
        read = found[2]
    layers: list[Any] = []
    for kind in (kinds.Reshape, kinds.AvgPool2d, kinds.Reshape, kinds.Pad, kinds.Reshape):
        if not is_a(draft, read, kind):
            return False
        layers.append(draft.entries[read].layer)
        read = read_by(draft, read)
    (size, width), sides = layers[1].window.kernel, [*map(tuple, layers[3].sides)]
    beside = (size // 2, (size - 1) // 2)
    whole = draft.shape(name) == draft.shape(x) and len(draft.shape(x)) == 3 and layers[1].window.stride == (1, 1)
    if not whole or width != 1 or sides != [(0, 0), beside, (0, 0), (0, 0)] or not squared(draft, read, x):
        return False
    beta, k, alpha = numbers
    draft.put(name, kinds.LocalResponseNorm(size, alpha, beta, k), [x])
    return True


def batch_norm(draft: Draft, name: str) -> bool:
    """Give a batch norm the numbers that its channels are multiplied with, or that are added to them."""
    entry = draft.entries[name]
    read, layer = entry.reads[0], entry.layer
    if not isinstance(layer, kinds.WithConstant) or not is_a(draft, read, kinds.BatchNorm1d, kinds.BatchNorm2d):
        return False
    norm, constant = draft.entries[read], entry.weights.get("constant")
    if constant is None or constant.shape != (norm.shape[0], *(1,) * (len(norm.shape) - 1)):
        return False
    if layer.operation not in ("add", "mul") or draft.readers()[read] > 1:
        return False
    number, weights = np.reshape(constant, -1), dict(norm.weights)
    if layer.operation == "mul":
        weights["weight"] = weights["weight"] * number
        weights["bias"] = weights["bias"] * number
    else:
        weights["bias"] = weights["bias"] + number
    draft.put(name, norm.layer, norm.reads, weights)
    return True


# ---------------------------------------------------------------------- shapes


def channel_shuffle(draft: Draft, name: str) -> bool:
    """Recognize (C, H, W) as (g, C/g, H, W), its first two axes exchanged, and back."""
    if not is_a(draft, name, kinds.Reshape) or not is_a(draft, inner := read_by(draft, name), kinds.Permute):
        return False
    first = read_by(draft, inner)
    permute: Any = draft.entries[inner].layer
    if not is_a(draft, first, kinds.Reshape) or tuple(permute.dims) != (0, 2, 1, 3, 4):
        return False
    x, split = read_by(draft, first), draft.shape(first)
    if draft.shape(x) != draft.shape(name) or split[2:] != draft.shape(x)[1:]:
        return False
    draft.put(name, kinds.ChannelShuffle(split[0]), [x])
    return True


def shortcut(draft: Draft, name: str) -> bool:
    """Recognize every stride-th pixel, and zeros for new channels."""
    if not is_a(draft, name, kinds.Pad):
        return False
    layer: Any = draft.entries[name].layer
    read, steps = read_by(draft, name), {2: 1, 3: 1}
    while is_a(draft, read, kinds.Slice):
        part: Any = draft.entries[read].layer
        inside = read_by(draft, read)
        length = draft.shape(inside)[part.dim - 1]
        if part.dim not in steps or draft.shape(read)[part.dim - 1] != -(-length // part.step) or part.start:
            return False
        steps[part.dim] *= part.step
        read = inside
    more = layer.sides[0][1]
    zeros = layer.mode == "constant" and layer.value == 0
    if not zeros or [*map(tuple, layer.sides)] != [(0, more), (0, 0), (0, 0)] or more < 1 or len({*steps.values()}) > 1:
        return False
    channels = draft.shape(read)[0]
    draft.put(name, kinds.ZeroPadShortcut(channels, channels + more, steps[2]), [read])
    return True


def upsampling(draft: Draft, name: str) -> bool:
    """Recognize the nearest pixels along one axis, and then along the other."""
    if not is_a(draft, name, kinds.Upsample) or not is_a(draft, read := read_by(draft, name), kinds.Upsample):
        return False
    first, second = draft.entries[read].layer.config(), draft.entries[name].layer.config()
    (_, h, w), (_, oh, ow), before = draft.shape(read), draft.shape(name), draft.entries[read].before
    apart = (h == oh and w == before[2]) or (w == ow and h == before[1])
    if not apart or any(c["mode"] != "nearest" or c["size"] is None for c in (first, second)):
        return False
    draft.put(name, kinds.Upsample(size=(oh, ow)), draft.entries[read].reads)
    return True


def adaptive_pooling(draft: Draft, name: str) -> bool:
    """Recognize the means along one axis, and then along the other."""
    if not is_a(draft, name, kinds.AdaptiveAvgPool2d) or not is_a(draft, read_by(draft, name), kinds.AdaptiveAvgPool2d):
        return False
    first, second = draft.entries[read_by(draft, name)], draft.entries[name]
    sizes = [entry.layer.config()["output_size"] for entry in (first, second)]
    free = [size.index(None) if isinstance(size, tuple) and None in size else -1 for size in sizes]
    if sorted(free) != [0, 1]:
        return False
    draft.put(name, kinds.AdaptiveAvgPool2d(second.shape[1:]), first.reads)
    return True


PATTERNS = [
    gated,
    hardsigmoid,
    prelu,
    layer_norm,
    group_norm,
    affine,
    batch_norm,
    response_norm,
    channel_shuffle,
    shortcut,
    upsampling,
    adaptive_pooling,
]
