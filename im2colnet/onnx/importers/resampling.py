"""Images of another size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from im2colnet.host import np
from im2colnet.layers import Layer, Resize, Upsample
from im2colnet.layers.resampling import COORDINATES, REACH, ROUNDINGS
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: the largest number of pixels along an axis
MOST_PIXELS = 1 << 20
#: the largest number of weights between the pixels of an axis before and after resampling
MOST_WEIGHTS = 1 << 25
#: ONNX's names of the arguments of Resize
ATTRIBUTES = {"mode": "mode", "coordinates": "coordinate_transformation_mode", "rounding": "nearest_mode"}


class Axis(NamedTuple):
    """How an axis is resampled."""

    length: int  #: of the input
    out: int
    scale: float


@importer("Upsample", (7, 9), "Upsample, Resize")
def upsample(node: OnnxNode, t: Translation) -> None:
    scales = node.attributes.get("scales", t.known(node, 1, "scales"))
    shape = t.shape(node.inputs[0])
    axes = [Axis(n, int(n * float(s)), float(s)) for n, s in zip(shape[1:], scales[1:], strict=True)]
    resample(node, t, axes, {"coordinates": "asymmetric", "rounding": "floor"})


@importer("Resize", (10, 19), "Upsample, Resize", "height and width, or the length of a sequence; no region of it")
def resize(node: OnnxNode, t: Translation) -> None:
    if node.opset < 11:
        upsample(node, t)
        return
    given = node.attributes
    options = {
        "coordinates": given.get("coordinate_transformation_mode", "half_pixel"),
        "rounding": given.get("nearest_mode", "round_prefer_floor"),
        "cubic_coeff_a": given.get("cubic_coeff_a", -0.75),
        "exclude_outside": bool(given.get("exclude_outside", 0)),
        "antialias": bool(given.get("antialias", 0)),
    }
    resample(node, t, resized(node, t), options)


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


def resample(node: OnnxNode, t: Translation, axes: Sequence[Axis], options: dict[str, Any]) -> None:
    """Add a layer that resamples the last two axes, or the last one of sequences."""
    x, mode = node.inputs[0], node.attributes.get("mode", "nearest")
    options = {"mode": {"bilinear": "linear"}.get(mode, mode), **options}
    if all(axis.out == axis.length and axis.scale == 1 for axis in axes):
        t.same(node, x)
        return
    t.check_room([axis.out for axis in axes])
    if not all(0 < axis.out <= MOST_PIXELS and axis.length <= MOST_PIXELS for axis in axes):
        raise Refused(f"it makes images of {[axis.out for axis in axes]}")
    if len(axes) not in (2, 3) or axes[0].out != axes[0].length:
        raise Refused("it resamples other axes than height and width, or the length of a sequence")
    sequence = len(axes) == 2
    of_image = [Axis(1, 1, 1.0), axes[1]] if sequence else axes[1:]
    layer = fitting(of_image, options)
    if sequence:
        made = t.apply(node, layer, t.reshape(node, x, (axes[0].length, 1, axes[1].length)))
        t.same(node, t.reshape(node, made, (axes[0].length, axes[1].out)))
    else:
        t.add(node, layer, x)


def fitting(axes: Sequence[Axis], options: dict[str, Any]) -> Layer:
    """Return the layer for these rules: Upsample, which is faster and exists in PyTorch, if it does the same."""
    for name, known in ("mode", ("nearest", *REACH)), ("coordinates", COORDINATES), ("rounding", ROUNDINGS):
        if options[name] not in known:
            raise Refused(f"{ATTRIBUTES[name]} {options[name]!r} is not supported, {', '.join(known)} are")
    if options["coordinates"] == "align_corners" and any(abs(a.out - a.length * a.scale) > 1e-6 for a in axes):
        raise Refused(
            "align_corners with scales that do not give a whole size is not supported: libraries compute it differently"
        )
    if any(axis.length * axis.out > MOST_WEIGHTS for axis in axes):
        raise Refused(f"it makes images of {[axis.out for axis in axes]} of {[axis.length for axis in axes]} pixels")
    size: Any = tuple(axis.out for axis in axes)
    factors: Any = tuple(axis.scale for axis in axes)
    wanted = Resize(size, factors, **options)
    for given in candidates(axes, options["mode"]):
        if same(axes, Upsample(**given), wanted):
            return Upsample(**given)
    for single in Resize(size, **options), Resize(scale_factor=factors, **options):
        if same(axes, single, wanted):
            return single
    return wanted


def same(axes: Sequence[Axis], layer: Any, other: Any) -> bool:
    """Return whether two layers give the same output for all images."""
    (H, OH, _), (W, OW, _) = axes
    if not layer.output_shape((H, 1, W, 1)) == other.output_shape((H, 1, W, 1)) == (OH, 1, OW, 1):
        return False
    return all(
        np.allclose(layer.weights(i, n, out), other.weights(i, n, out), rtol=0, atol=1e-5)
        for i, (n, out, _) in enumerate(axes)
    )


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
            yield from (given | {"mode": f"bi{mode}", "align_corners": corners} for corners in (False, True))
