"""Checks of lowering, of convolution and of its gradients, and faults of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from im2colnet.host import np
from im2colnet.testing import oracles
from im2colnet.testing.conformance.activation import exactly
from im2colnet.testing.conformance.base import (
    Call,
    Check,
    Fault,
    Subject,
    Textbook,
    changing,
    changing_arrays,
    images,
    rows,
    spoiling,
)
from im2colnet.types import Shape, Spec
from im2colnet.window import Pair, Window, make_window


class Convolution(NamedTuple):
    """A convolution of images, and a gradient of its output."""

    x: Any  #: (N, C, H, W)
    w: Any  #: (F, C/G, KH, KW)
    b: Any
    dy: Any  #: (N, F, OH, OW)
    window: Window
    groups: int

    @property
    def how(self) -> dict[str, Any]:
        """The arguments that oracles take."""
        window = self.window
        return {
            "stride": window.stride,
            "padding": window.padding,
            "dilation": window.dilation,
            "groups": self.groups,
        }


#: window, size (H, W), samples, groups, channels and filters of a group: what drawn problems may lack
CHOSEN: list[tuple[Window, Pair, int, int, int, int]] = [
    (make_window((3, 2), (2, 1), ((2, 0), (1, 3)), (1, 2)), (6, 5), 2, 1, 3, 4),
    (make_window(3, 1, ((0, 2), (1, 1))), (5, 5), 2, 2, 2, 3),
    (make_window(3, 1, 1), (5, 4), 3, 6, 1, 1),  # depthwise
    (make_window(3, 2, 1), (7, 6), 2, 3, 1, 2),
    (make_window(1), (4, 3), 2, 1, 5, 4),
    (make_window(2, 3), (8, 7), 1, 1, 2, 2),  # pixels between the windows
    (make_window(3, 1, 3), (1, 1), 1, 1, 1, 1),  # windows that see padding alone
    (make_window(3, 1, 1), (6, 5), 8, 1, 32, 33),  # large enough for fast algorithms
    (make_window(5, 1, 2), (6, 7), 4, 1, 3, 8),
]
DRAWN = 8


def convolutions(subject: Subject, dtype: str) -> Iterator[Convolution]:
    """Yield convolutions: those above, and some that are drawn."""
    r = subject.rng
    drawn = []
    for window, size in subject.windows(DRAWN):
        N, groups, channels, filters = (int(n) for n in r.integers(1, 4, 4))
        drawn.append((window, size, N, groups, channels, filters))
    for window, size, N, groups, channels, filters in [*CHOSEN, *drawn]:
        x = subject.normal(N, groups * channels, *size, dtype=dtype)
        w = subject.normal(groups * filters, channels, *window.kernel, dtype=dtype)
        dy = subject.normal(N, len(w), *window.output_size(size), dtype=dtype)
        yield Convolution(x, w, subject.normal(len(w), dtype=dtype), dy, window, groups)


def conv2d(subject: Subject, problem: Convolution, kind: str | None = None, bias: bool = True) -> None:
    """Check the convolution of one problem, with an activation if the backend fuses it."""
    x, w, b, _, window, groups = problem
    kind, b = kind if subject.backend.fuses(kind) else None, b if bias else None
    y = subject.call("conv2d", rows(x), w, b, window, groups, kind)
    exact = oracles.conv2d(x, w, b, **problem.how)
    subject.compare("the convolution", images(y), exactly(exact, kind), x.dtype.name)


def conv2d_input_grad(subject: Subject, problem: Convolution) -> None:
    """Check the input's gradient of one problem."""
    x, w, _, dy, window, groups = problem
    dx = subject.call("conv2d_input_grad", rows(dy), w, x.shape[2:], window, groups)
    exact = oracles.conv2d_input(x.shape, w, dy, **problem.how)
    subject.compare("the input's gradient", images(dx), exact, x.dtype.name)


def conv2d_weight_grad(subject: Subject, problem: Convolution) -> None:
    """Check the weight's gradient of one problem."""
    x, w, _, dy, window, groups = problem
    dw = subject.call("conv2d_weight_grad", rows(x), rows(dy), window, groups)
    exact = oracles.conv2d_weight(x, w.shape, dy, **problem.how)
    subject.compare("the weight's gradient", dw, exact, x.dtype.name)


def conv2d_grads(subject: Subject, problem: Convolution) -> None:
    """Check both gradients of one problem, which one kernel makes."""
    x, w, _, dy, window, groups = problem
    dtype = x.dtype.name
    written = {"dw": Spec(w.shape, dtype), "dx": Spec(rows(x).shape, dtype)}
    found = subject.call("conv2d_grads", rows(x), rows(dy), w, window, groups, written=written)
    exact = oracles.conv2d_weight(x, w.shape, dy, **problem.how)
    subject.compare("the weight's gradient", found["dw"], exact, dtype)
    exact = oracles.conv2d_input(x.shape, w, dy, **problem.how)
    subject.compare("the input's gradient", images(found["dx"]), exact, dtype)


def check_conv2d(subject: Subject, dtype: str) -> None:
    """With and without a bias, and with each activation that the backend fuses."""
    kinds = [None, "relu", None, "leaky_relu:0.2", "tanh", "sigmoid", "silu"]
    for i, problem in enumerate(convolutions(subject, dtype)):
        conv2d(subject, problem, kinds[i % len(kinds)], bias=i % 3 != 1)


def each(check: Any, subject: Subject, dtype: str) -> None:
    """Check every problem."""
    for problem in convolutions(subject, dtype):
        check(subject, problem)


def as_columns(columns: Any) -> Any:
    """Columns (OH, C, KH, KW, OW, N) as the oracle's, (N, C·KH·KW, OH·OW)."""
    OH, C, KH, KW, OW, N = columns.shape
    return columns.transpose(5, 1, 2, 3, 0, 4).reshape(N, C * KH * KW, OH * OW)


def windows(subject: Subject) -> Iterator[tuple[Window, Pair]]:
    """Yield windows and the sizes of images for them."""
    yield from ((window, size) for window, size, *_ in CHOSEN)
    yield from subject.windows(DRAWN)


def im2col(subject: Subject, x: Any, window: Window, fill: float = 0.0) -> None:
    """Check the columns of images: they are copies, so equal; outside the image they hold ``fill``."""
    how = window.kernel, window.dilation, window.padding, window.stride
    got = as_columns(subject.call("im2col", rows(x), window, fill))
    exact = oracles.unfold(x, *how)
    inside = oracles.unfold(np.ones_like(x), *how) > 0
    subject.equal("the array of columns", got.astype("float64"), np.where(inside, exact, fill))


def col2im(subject: Subject, columns: Any, window: Window, size: Shape) -> None:
    """Check the images that columns are added to."""
    got = subject.call("col2im", columns, window, size)
    how = window.kernel, window.dilation, window.padding, window.stride
    subject.compare("the image", images(got), oracles.fold(as_columns(columns), size, *how), columns.dtype.name)


def check_im2col(subject: Subject, dtype: str) -> None:
    """With zeros around the image, and with another number."""
    for i, (window, size) in enumerate(windows(subject)):
        im2col(subject, subject.normal(2, 3, *size, dtype=dtype), window, -7.0 if i % 3 == 2 else 0.0)


def check_col2im(subject: Subject, dtype: str) -> None:
    """Each number is added to the pixel that it is a copy of."""
    for window, size in windows(subject):
        OH, OW = window.output_size(size)
        col2im(subject, subject.normal(OH, 3, *window.kernel, OW, 2, dtype=dtype), window, size)


CHECKS = [
    Check("im2col", check_im2col),
    Check("col2im", check_col2im),
    Check("conv2d", check_conv2d),
    Check("conv2d_input_grad", partial(each, conv2d_input_grad)),
    Check("conv2d_weight_grad", partial(each, conv2d_weight_grad)),
    Check("conv2d_grads", partial(each, conv2d_grads)),
]


# Faults -------------------------------------------------------------------------------------------------------------
def upside_down(window: Window) -> Window:
    """The padding of the top and the bottom exchanged; the output has the same size."""
    top_bottom, left_right = window.padding
    return window._replace(padding=(top_bottom[::-1], left_right))


def sideways(window: Window) -> Window:
    """The paddings of height and width in each other's place, where the output has the same size then."""
    other = window._replace(padding=window.padding[::-1])
    same = sum(window.padding[0]) == sum(window.padding[1])
    return other if same else window


def without_border(call: Call) -> Any:
    """Columns whose numbers outside of the image are left as they were."""
    out, window = call.arguments.get("out"), call.arguments["window"]
    if out is None:
        return call.right(**call.arguments)
    (x,) = call.host("x")
    for i, j, outputs, inputs in window.pairs((x.shape[0], x.shape[2])):
        out[:, :, i, j][outputs] = call.backend.asarray(np.ascontiguousarray(x[inputs]))
    return out


def adding(call: Call) -> Any:
    """An image that is added to the previous contents of ``out``."""
    out = call.arguments.get("out")
    before = 0 if out is None else call.host("out")[0]
    image = np.array(call.backend.to_numpy(call.right(**call.arguments)))
    return call.give(image + before)


def in_float32(call: Call) -> Any:
    """Computed in float32, whatever comes in."""
    x, w, b, window, groups, activation = call.host("x", "w", "b", "window", "groups", "activation")
    x4, w4, b4 = (None if a is None else a.astype("float32") for a in (x, w, b))
    return call.give(Textbook().conv2d(x4, w4, b4, window, groups or 1, activation).astype(x.dtype))


def own_array(call: Call) -> Any:
    """The result in a new array, although ``out`` was given."""
    return call.changed(out=None)


def spoiled_input(call: Call) -> Any:
    """The input is multiplied in place, afterwards."""
    result, x = call.right(**call.arguments), call.arguments["x"]
    if getattr(getattr(x, "flags", None), "writeable", True):
        x[...] = call.backend.asarray(call.host("x")[0] * x.dtype.type(1.5))
    return result


def groups_reversed(w: Any, groups: int) -> Any:
    """The groups' filters in the opposite order."""
    return w.reshape(groups, -1, *w.shape[1:])[::-1].reshape(w.shape)


def in_wrong_groups(call: Call) -> Any:
    """Each group of channels with another group's filters."""
    (w,), groups = call.host("w"), call.arguments.get("groups", 1)
    return call.changed(w=call.backend.asarray(np.ascontiguousarray(groups_reversed(w, groups))))


def without_last(axis: int) -> Any:
    """A function that sets the numbers at the last place of an axis to 0."""

    def change(array: Any) -> Any:
        np.moveaxis(array, axis, 0)[-1] = 0
        return array

    return change


def nothing(array: Any) -> Any:
    """Zeros in place of numbers."""
    return 0 * array


FAULTS = [
    Fault("im2col", "the padding of top and bottom is swapped", "im2col", changing(window=upside_down)),
    Fault("im2col", "the border of out is not cleared", "im2col", without_border),
    Fault("im2col", "fill is ignored", "im2col", changing(fill=lambda fill: 0.0)),
    Fault("col2im", "it adds to what out held", "col2im", adding),
    Fault("col2im", "the padding of top and bottom is swapped", "col2im", changing(window=upside_down)),
    Fault("conv2d", "the padding of height and width is swapped", "conv2d", changing(window=sideways)),
    Fault("conv2d", "the padding of top and bottom is swapped", "conv2d", changing(window=upside_down)),
    Fault("conv2d", "the bias is forgotten", "conv2d", changing(b=lambda b: None)),
    Fault("conv2d", "the activation is ignored", "conv2d", changing(activation=lambda kind: None)),
    Fault("conv2d", "the groups are in the wrong order", "conv2d", in_wrong_groups),
    Fault("conv2d", "float64 is computed in float32", "conv2d", in_float32),
    Fault("conv2d", "out is not written to, another array is returned", "conv2d", own_array),
    Fault("conv2d", "the input is multiplied in place", "conv2d", spoiled_input),
    Fault("conv2d", "the kernel is flipped", "conv2d", changing_arrays(w=lambda w: w[:, :, ::-1, ::-1])),
    Fault(
        "conv2d_input_grad",
        "the kernel is not flipped",
        "conv2d_input_grad",
        changing_arrays(w=lambda w: w[:, :, ::-1]),
    ),
    Fault("conv2d_input_grad", "the last sample is left out", "conv2d_input_grad", spoiling(without_last(3))),
    Fault(
        "conv2d_weight_grad",
        "the last row of outputs is left out",
        "conv2d_weight_grad",
        changing_arrays(dy=without_last(0)),
    ),
    Fault("conv2d_weight_grad", "the groups are in the wrong order", "conv2d_weight_grad", spoiling(lambda w: w[::-1])),
    Fault("conv2d_grads", "the input's gradient is missing", "conv2d_grads", spoiling(nothing, "dx")),
    Fault("conv2d_grads", "the weight's gradient is missing", "conv2d_grads", spoiling(nothing, "dw")),
]
