"""Checks of pooling, with ties and with numbers that are not finite, and faults of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.backend import position_type
from im2colnet.host import np
from im2colnet.testing import oracles
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
from im2colnet.window import Pair, Window, pooling_window

#: numbers that pooling treats in their own ways
SPECIAL = np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0
#: windows and sizes (H, W) that drawn problems may lack
CHOSEN: list[tuple[Window, Pair]] = [
    (pooling_window(2, None, 0), (6, 4)),
    (pooling_window(3, 2, 1), (7, 6)),
    (pooling_window(3, 1, ((1, 0), (0, 1))), (5, 5)),
    (pooling_window(3, 2, 0, ceil_mode=True), (6, 8)),  # the last windows reach beyond the image
    (pooling_window((3, 2), (2, 2), ((1, 0), (0, 1)), ceil_mode=True), (5, 3)),
    (pooling_window((3, 2), 1, 0, (1, 2), True), (7, 6)),
    (pooling_window((2, 1), (2, 1), ((1, 1), (0, 0)), (2, 1)), (1, 3)),  # windows that see padding alone
    (pooling_window(1, 1, 0), (1, 1)),
    (pooling_window((17, 16), (3, 5), 2), (18, 16)),  # more taps than 8 bits can number
    (pooling_window(2, 3, 0), (8, 7)),
]


def windows(subject: Subject) -> Iterator[tuple[Window, Pair]]:
    """Yield windows and the sizes of images for them."""
    yield from CHOSEN
    yield from subject.windows(12, pooling=True)


def how(window: Window) -> dict[str, Any]:
    """The arguments that oracles take."""
    return {
        "kernel_size": window.kernel,
        "stride": window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
        "ceil_mode": window.ceil_mode,
    }


def max_pool2d(subject: Subject, x: Any, window: Window) -> None:
    """Check the largest numbers of images, which are copies, so equal, and the positions that are saved beside them."""
    exact, index = oracles.max_pool2d(x, **how(window), return_indices=True)
    y = subject.call("max_pool2d", rows(x), window)
    subject.equal("the maximum", images(y).astype("float64"), exact)
    if subject.backend.max_pool2d.takes("positions"):
        found = subject.call("max_pool2d", rows(x), window, written={"positions": Spec(y.shape, position_type(window))})
        subject.equal("the maximum beside its position", found["out"], y)
        subject.equal("the position", places(images(found["positions"]), index, x.shape[3], window), index)


def max_pool2d_grad(subject: Subject, x: Any, dy: Any, window: Window) -> None:
    """Check where the gradient of each window goes, and that :meth:`first_maximum` names the same place.

    With these positions the kernel reads neither images nor maxima.
    """
    exact, index = oracles.max_pool2d(x, **how(window), return_indices=True)
    y, dtype, backend = rows(exact.astype(x.dtype)), x.dtype.name, subject.backend
    dx = subject.call("max_pool2d_grad", rows(x), y, rows(dy), window)
    wanted = oracles.max_pool2d_grad(x, dy, **how(window))
    subject.compare("the gradient", images(dx), wanted, dtype)
    with backend.context(), backend.errstate(), np.errstate(all="ignore"):
        tap = subject.back(backend.first_maximum(subject.there(rows(x)), window))
    with subject.on(f"the call was first_maximum({dtype}{list(rows(x).shape)}, {window})"):
        subject.equal("the position of the maximum", places(images(tap), index, x.shape[3], window), index)
    if not backend.max_pool2d_grad.takes("positions"):
        return
    tap, nothing = tap.astype(position_type(window)), (np.full_like(rows(x), np.nan), np.full_like(y, np.nan))
    dx = subject.call("max_pool2d_grad", *nothing, rows(dy), window, tap)
    subject.compare("the gradient by positions", images(dx), wanted, dtype)
    with backend.context(), backend.errstate(), np.errstate(all="ignore"):
        out, there = subject.spoiled(Spec(dx.shape, dtype)), subject.there
        backend.max_pool2d_grad(None, None, there(rows(dy)), window, there(tap), out=out)
        subject.equal("the gradient by positions, without x and y,", subject.back(out), dx)


def places(tap: Any, index: Any, W: int, window: Window) -> Any:
    """Return the pixels of an image of width W that taps (N, C, OH, OW) name, -1 where ``index`` says that none is."""
    i, j = np.divmod(tap.astype("int64"), window.kernel[1])
    row = np.arange(tap.shape[2])[:, None] * window.stride[0] + i * window.dilation[0] - window.padding[0][0]
    column = np.arange(tap.shape[3]) * window.stride[1] + j * window.dilation[1] - window.padding[1][0]
    return np.where(index < 0, -1, row * W + column)


def avg_pool2d(subject: Subject, x: Any, window: Window, include: bool, divisor: int | None) -> None:
    """Check the means."""
    exact = oracles.avg_pool2d(x, **how(window), count_include_pad=include, divisor_override=divisor)
    y = subject.call("avg_pool2d", rows(x), window, include, divisor)
    subject.compare("the mean", images(y), exact, x.dtype.name)


def avg_pool2d_grad(subject: Subject, dy: Any, size: Shape, window: Window, include: bool, divisor: int | None) -> None:
    """Check the gradient of the means."""
    exact = oracles.avg_pool2d_grad(
        (*dy.shape[:2], *size), dy, **how(window), count_include_pad=include, divisor_override=divisor
    )
    dx = subject.call("avg_pool2d_grad", rows(dy), size, window, include, divisor)
    subject.compare("the gradient", images(dx), exact, dy.dtype.name)


def drawn(subject: Subject, i: int, size: Shape, dtype: str) -> Any:
    """Images: of whole numbers, so that there are ties; of normal ones; of -infinity; of special numbers."""
    shape, r = (2, 3, *size), subject.rng
    if i % 4 == 0:
        return subject.normal(*shape, dtype=dtype)
    if i % 4 == 1:
        return r.integers(-2, 3, shape).astype(dtype)
    if i % 4 == 2:
        return np.where(r.random(shape) < 0.6, -np.inf, r.integers(-2, 3, shape)).astype(dtype)
    return r.choice(SPECIAL, shape).astype(dtype)


def check_max_pool2d(subject: Subject, dtype: str) -> None:
    """Of numbers, ties, infinity and NaN."""
    for i, (window, size) in enumerate(windows(subject)):
        max_pool2d(subject, drawn(subject, i, size, dtype), window)


def check_max_pool2d_grad(subject: Subject, dtype: str) -> None:
    """Of numbers, ties, infinity and NaN; the gradient may be infinite too."""
    for i, (window, size) in enumerate(windows(subject)):
        dy = subject.normal(2, 3, *window.output_size(size), dtype=dtype)
        if i % 5 == 4:
            dy.flat[0] = np.inf
        max_pool2d_grad(subject, drawn(subject, i, size, dtype), dy, window)


#: count_include_pad and divisor_override
COUNTS = (True, None), (False, None), (True, 5)


def check_avg_pool2d(subject: Subject, dtype: str) -> None:
    """With each way to count, and the shares by which they are multiplied."""
    for window, size in windows(subject):
        x = subject.normal(2, 3, *size, dtype=dtype)
        for include, divisor in COUNTS:
            avg_pool2d(subject, x, window, include, divisor)


def check_avg_pool2d_grad(subject: Subject, dtype: str) -> None:
    """With each way to count; an infinite gradient stays in its window."""
    for i, (window, size) in enumerate(windows(subject)):
        dy = subject.normal(2, 3, *window.output_size(size), dtype=dtype)
        if i % 3 == 2:
            dy.flat[0] = np.inf
        for include, divisor in COUNTS:
            avg_pool2d_grad(subject, dy, size, window, include, divisor)


CHECKS = [
    Check("max_pool2d", check_max_pool2d),
    Check("max_pool2d_grad", check_max_pool2d_grad),
    Check("avg_pool2d", check_avg_pool2d),
    Check("avg_pool2d_grad", check_avg_pool2d_grad),
]


# Faults -------------------------------------------------------------------------------------------------------------
def zero_padding(call: Call) -> Any:
    """The maximum of each window where the padding is 0."""
    x, window = call.host("x", "window")
    columns = Textbook().im2col(x, window)
    return call.give(columns.max(axis=(2, 3)))


def to_every_maximum(call: Call) -> Any:
    """The gradient goes to all maxima of a window."""
    x, dy, window = call.host("x", "dy", "window")
    columns = Textbook().im2col(x, window, -np.inf)
    best = columns == columns.max(axis=(2, 3), keepdims=True)
    spread = np.where(best, dy[:, :, None, None], 0).astype(dy.dtype)
    return call.give(Textbook().col2im(spread, window, (x.shape[0], x.shape[2])))


class Last(Textbook):
    """The last maximum in place of the first."""

    def first_maximum(self, x: Any, window: Window) -> Any:
        columns = self.im2col(x, window, -np.inf)
        OH, C, KH, KW, OW, N = columns.shape
        return KH * KW - 1 - columns.reshape(OH, C, KH * KW, OW, N)[:, :, ::-1].argmax(2)


def to_the_last_maximum(call: Call) -> Any:
    """The gradient goes to the last maximum."""
    x, y, dy, window = call.host("x", "y", "dy", "window")
    with np.errstate(all="ignore"):
        return call.give(Last().max_pool2d_grad(x, y, dy, window))


def the_last_place(call: Call) -> Any:
    """The place of the last maximum."""
    x, window = call.host("x", "window")
    return call.backend.asarray(Last().first_maximum(x, window))


def the_last_positions(call: Call) -> Any:
    """Saved are the positions of the last maxima."""
    (x, window), result = call.host("x", "window"), call.right(**call.arguments)
    if call.arguments.get("positions") is not None:
        call.give(Last().first_maximum(x, window), "positions")
    return result


def without_nan(x: Any) -> Any:
    """-infinity in place of NaN."""
    return np.where(np.isnan(x), -np.inf, x)


def beyond(call: Call) -> Any:
    """Means that also count the pixels beyond the padding that a window reaches because of ``ceil_mode``."""
    window, include = call.arguments["window"], call.arguments.get("count_include_pad", True)
    if not (window.ceil_mode and include) or call.arguments.get("divisor"):
        return call.right(**call.arguments)
    return call.changed(divisor=window.kernel[0] * window.kernel[1])


def column_by_column(positions: Any, window: Window) -> Any:
    """Taps that are numbered down the columns."""
    i, j = np.divmod(positions, window.kernel[1])
    return j * window.kernel[0] + i


def turned(positions: Any) -> Any:
    """The positions of one sample in place of the positions of another sample."""
    return positions[..., ::-1]


FAULTS = [
    Fault("max_pool2d", "the padding is 0, not -infinity", "max_pool2d", zero_padding),
    Fault("max_pool2d", "NaN is lost", "max_pool2d", changing_arrays(x=without_nan)),
    Fault(
        "max_pool2d",
        "the window is not dilated",
        "max_pool2d",
        spoiling(lambda y, window: y if window.dilation == (1, 1) else -y, among=["window"]),
    ),
    Fault("max_pool2d", "the position of the last maximum is saved", "max_pool2d", the_last_positions, "positions"),
    Fault(
        "max_pool2d",
        "positions are numbered down the columns",
        "max_pool2d",
        spoiling(column_by_column, "positions", among=["window"]),
        "positions",
    ),
    Fault(
        "max_pool2d_grad",
        "positions are ignored",
        "max_pool2d_grad",
        changing(positions=lambda positions: None),
        "positions",
    ),
    Fault(
        "max_pool2d_grad",
        "a sample has the positions of another sample",
        "max_pool2d_grad",
        changing_arrays(positions=turned),
        "positions",
    ),
    Fault("max_pool2d_grad", "the gradient goes to every maximum", "max_pool2d_grad", to_every_maximum),
    Fault("max_pool2d_grad", "the gradient goes to the last maximum", "max_pool2d_grad", to_the_last_maximum),
    Fault("max_pool2d_grad", "a NaN gets no gradient", "max_pool2d_grad", changing_arrays(x=without_nan)),
    Fault("max_pool2d_grad", "the position is that of the last maximum", "first_maximum", the_last_place),
    Fault("avg_pool2d", "what ceil_mode reaches is counted", "avg_pool2d", beyond),
    Fault(
        "avg_pool2d",
        "count_include_pad is ignored",
        "avg_pool2d",
        changing(count_include_pad=lambda include: True),
    ),
    Fault("avg_pool2d", "divisor_override is ignored", "avg_pool2d", changing(divisor=lambda divisor: None)),
    Fault("avg_pool2d_grad", "what ceil_mode reaches is counted", "avg_pool2d_grad", beyond),
    Fault(
        "avg_pool2d_grad",
        "count_include_pad is ignored",
        "avg_pool2d_grad",
        changing(count_include_pad=lambda include: True),
    ),
    Fault("avg_pool2d_grad", "the gradient is not divided", "avg_pool2d_grad", changing(divisor=lambda divisor: 1)),
]
