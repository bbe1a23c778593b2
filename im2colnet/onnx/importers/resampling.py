"""Images of another size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from im2colnet import functional
from im2colnet.host import np
from im2colnet.layers import Layer, Upsample
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: along an axis
MOST_PIXELS = 1 << 20


class Axis(NamedTuple):
    """How an axis is resampled."""

    length: int  #: of the input
    out: int
    scale: float


@importer("Upsample", (7, 9), "Upsample", "the coordinates of its modes nearest, and linear where they are Upsample's")
def upsample(node: OnnxNode, t: Translation) -> None:
    scales = node.attributes.get("scales", t.known(node, 1, "scales"))
    shape = t.shape(node.inputs[0])
    axes = [Axis(n, int(n * float(s)), float(s)) for n, s in zip(shape[1:], scales[1:], strict=True)]
    resample(node, t, axes, "asymmetric", "floor")


@importer("Resize", (10, 19), "Upsample", "nearest, and linear where its coordinates are Upsample's")
def resize(node: OnnxNode, t: Translation) -> None:
    if node.opset < 11:
        upsample(node, t)
        return
    coordinates = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    axes = resized(node, t)
    if node.attributes.get("antialias", 0) and any(axis.out < axis.length for axis in axes):
        raise Refused("antialias is not supported")
    resample(node, t, axes, coordinates, node.attributes.get("nearest_mode", "round_prefer_floor"))


def resized(node: OnnxNode, t: Translation) -> list[Axis]:
    """Return how each axis of a sample is resampled."""
    shape = t.shape(node.inputs[0])
    scales, sizes = t.known(node, 2, "scales"), t.numbers(node, 3, "sizes")
    dims = [dim % len(shape) for dim in node.attributes.get("axes", range(len(shape)))]
    found = [Axis(n, n, 1.0) for n in shape[1:]]
    for place, dim in enumerate(dims):
        n = shape[dim]
        if not dim:
            same = sizes is None or sizes[place] in (n, 1, t.file_batch)
            if not same or (scales is not None and scales.size and scales[place] != 1):
                raise Refused("it changes the batch size")
        elif sizes is not None:
            found[dim - 1] = Axis(n, sizes[place], sizes[place] / n)
        elif scales is not None and len(scales) == len(dims):
            scale = float(str(np.float32(scales[place])))
            found[dim - 1] = Axis(n, int(n * scale), scale)
        else:
            raise Refused("it has neither scales nor sizes")
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" and sizes is not None:
        dims = [dim - 1 for dim in dims if dim]
        scale = (min if policy == "not_larger" else max)(found[dim].scale for dim in dims)
        for dim in dims:
            n = found[dim].length
            found[dim] = Axis(n, int(n * scale + 0.5), scale)
    return found


def resample(node: OnnxNode, t: Translation, axes: Sequence[Axis], coordinates: str, rounding: str) -> None:
    """Add a layer that resamples the last two axes, or the last one of sequences."""
    x, mode = node.inputs[0], node.attributes.get("mode", "nearest")
    mode = {"bilinear": "linear"}.get(mode, mode)
    if all(axis.out == axis.length and axis.scale == 1 for axis in axes):
        t.same(node, x)
        return
    t.check_room([axis.out for axis in axes])
    if not all(0 < axis.out <= MOST_PIXELS for axis in axes):
        raise Refused(f"it makes images of {[axis.out for axis in axes]}")
    if len(axes) not in (2, 3) or axes[0].out != axes[0].length:
        raise Refused("it resamples other axes than height and width, or the length of a sequence")
    sequence = len(axes) == 2
    of_image = [Axis(1, 1, 1.0), axes[1]] if sequence else axes[1:]
    layer = fitting(of_image, mode, coordinates, rounding)
    if sequence:
        made = t.apply(node, layer, t.reshape(node, x, (axes[0].length, 1, axes[1].length)))
        t.same(node, t.reshape(node, made, (axes[0].length, axes[1].out)))
    else:
        t.add(node, layer, x)


def fitting(axes: Sequence[Axis], mode: str, coordinates: str, rounding: str) -> Layer:
    """Return the layer whose pixels come from the places that ONNX says."""
    if mode not in ("nearest", "linear"):
        raise Refused(f"mode {mode!r} is not supported, nearest and linear are")
    wanted = [places(axis, mode, coordinates, rounding) for axis in axes]
    for options in candidates(axes, mode):
        if all(np.allclose(found, w, 0, 1e-5) for found, w in zip(ramps(axes, options), wanted, strict=True)):
            return Upsample(**options)
    how = f"coordinate_transformation_mode {coordinates!r}" + (f" and {rounding!r}" if mode == "nearest" else "")
    raise Refused(f"mode {mode!r} with {how} takes other pixels than Upsample, from {[*axes]}")


def places(axis: Axis, mode: str, coordinates: str, rounding: str) -> Any:
    """Return for each pixel of the output the place in the input that it shows."""
    n, out, scale = axis
    pixels = np.arange(out)
    if coordinates == "align_corners":
        if out != n * scale:
            raise Refused("align_corners with scales that do not give a whole size means different things to others")
        found = pixels * ((n - 1) / (out - 1)) if out > 1 else np.zeros(1)
    elif coordinates == "asymmetric":
        found = pixels / scale
    elif coordinates in ("half_pixel", "pytorch_half_pixel"):
        found = (pixels + 0.5) / scale - 0.5
        if out == 1 and coordinates == "pytorch_half_pixel":
            found = np.zeros(1)
    elif coordinates == "half_pixel_symmetric":
        found = n / 2 * (1 - out / (scale * n)) + (pixels + 0.5) / scale - 0.5
    elif coordinates == "tf_half_pixel_for_nn":
        found = (pixels + 0.5) / scale
    else:
        raise Refused(f"coordinate_transformation_mode {coordinates!r} is not supported")
    if mode == "nearest":
        round_to: dict[str, Callable[[Any], Any]] = {
            "floor": np.floor,
            "ceil": np.ceil,
            "round_prefer_floor": lambda x: np.ceil(x - 0.5),
            "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        }
        found = round_to[rounding](np.round(found, 9))  # 2.0000000001 is 2
    return np.clip(found, 0, n - 1)


def candidates(axes: Sequence[Axis], mode: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments of the layers that may do the same, the simplest first."""
    size, factors = tuple(axis.out for axis in axes), tuple(axis.scale for axis in axes)
    if all(axis.out == axis.length * axis.scale for axis in axes):
        by = {"scale_factor": factors[0] if factors[0] == factors[1] else factors}
        sizes: list[dict[str, Any]] = [by, {"size": size}]
    else:
        sizes = [{"size": size}, {"scale_factor": factors}]
    for given in sizes:
        if mode == "nearest":
            yield given
        else:
            yield from (given | {"mode": "bilinear", "align_corners": corners} for corners in (False, True))


def ramps(axes: Sequence[Axis], options: dict[str, Any]) -> Iterator[Any]:
    """Yield the places that the pixels of a layer show, along the height and along the width."""
    for i, axis in enumerate(axes):
        other = axes[1 - i].length
        image = np.broadcast_to(np.arange(float(axis.length))[:, None], (axis.length, other))
        made = functional.interpolate(np.array(image if i == 0 else image.T)[None, None], **options)[0, 0]
        yield made[:, 0] if i == 0 else made[0]
