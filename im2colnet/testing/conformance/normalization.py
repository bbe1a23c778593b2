"""Checks of batch norm and of the normalization of sets of numbers, and faults of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.backend import Statistics
from im2colnet.host import np
from im2colnet.testing import oracles
from im2colnet.testing.conformance.activation import EXACT, exactly
from im2colnet.testing.conformance.base import (
    Call,
    Check,
    Fault,
    Subject,
    changing,
    images,
    rows,
    spoiling,
)
from im2colnet.types import Shape, Spec, accumulator, run

#: shapes (N, C, H, W) of batches, and the mean of their numbers
BATCHES: list[tuple[tuple[int, int, int, int], float]] = [
    ((5, 2, 3, 4), 0),
    ((1, 3, 1, 2), 1),
    ((7, 1, 6, 1), -30),
    ((4, 5, 4, 3), 1000),  # far from 0, where large squares would cancel
    ((33, 4, 9, 8), 0),
]
EPS = 1e-5


def batches(subject: Subject, dtype: str) -> Any:
    """Yield images (N, C, H, W), and gradients of their shape; in 16 bits none are far from 0."""
    for shape, mean in BATCHES:
        if dtype in ("float32", "float64") or abs(mean) <= 1:
            yield (subject.normal(*shape) + mean).astype(dtype), subject.normal(*shape, dtype=dtype)


def statistics_error(dtype: str, mean: float) -> float:
    """Part of the largest number by which sums over a batch may be wrong: rounding of each number counts."""
    return {"float64": 1e-11, "float32": 2e-5}.get(dtype, 5e-3) * (1 + abs(mean) / 100)


def batch_norm_sums(subject: Subject, x: Any) -> None:
    """Check the sum of each channel, and the sum of the squared deviations from its mean."""
    sums = subject.call("batch_norm_sums", rows(x))
    exact, n, dtype = x.astype("float64"), x[:, 0].size, x.dtype.name
    subject.compare("Σx / n", sums[0] / n, exact.mean((0, 2, 3)), dtype)
    subject.compare("Σ(x - mean)² / n", sums[1] / n, exact.var((0, 2, 3)), dtype)


def batch_norm_grad_sums(subject: Subject, x: Any, dy: Any) -> None:
    """Check the sums of gradients, and those that begin with the gradient of an activation."""
    mean = x.astype("float64").mean((0, 2, 3))
    sums = subject.call("batch_norm_grad_sums", rows(x), mean, rows(dy))
    compare_grad_sums(subject, sums, x, mean, dy)
    if not subject.backend.batch_norm_grad_sums.takes("activation"):
        return
    for kind in filter(subject.backend.fuses, ("relu", "tanh")):
        value, gradient = EXACT[kind]
        z = subject.normal(*x.shape)
        y, dz = rows(value(z).astype(x.dtype)), gradient(z, dy)
        written = {"dz": Spec(y.shape, x.dtype.name)}
        found = subject.call("batch_norm_grad_sums", rows(x), mean, rows(dy), y, kind, written=written)
        subject.compare("dz", images(found["dz"]), dz, x.dtype.name)
        compare_grad_sums(subject, found["out"], x, mean, dz)
        with subject.backend.context(), subject.backend.errstate():
            X, at, over, Y = map(subject.there, (rows(x), mean, rows(dy), y))
            sums = subject.back(subject.backend.batch_norm_grad_sums(X, at, over, Y, kind, over))
            subject.equal("dz written over dy", subject.back(over), found["dz"])
            compare_grad_sums(subject, sums, x, mean, dz)


def compare_grad_sums(subject: Subject, sums: Any, x: Any, mean: Any, dz: Any) -> None:
    """Compare ``[Σdz, Σdz·(x - mean)]`` with the exact ones."""
    dtype, n, centred, dz = x.dtype.name, x[:, 0].size, x - mean[:, None, None], dz.astype("float64")
    subject.compare("Σdz / n", sums[0] / n, dz.mean((0, 2, 3)), dtype)
    subject.compare("Σdz·(x - mean) / n", sums[1] / n, (dz * centred).mean((0, 2, 3)), dtype)


def batch_norm(subject: Subject, x: Any, dy: Any, affine: bool = True, momentum: float = 0.3) -> None:
    """Check batch norm, its gradient and its running statistics, as a layer makes them of the kernels."""
    backend, C, n, dtype = subject.backend, x.shape[1], x[:, 0].size, x.dtype.name
    of_type = accumulator(dtype)
    weight, bias, at, spread = (subject.normal(C, dtype=of_type) for _ in range(4))
    there, back = subject.there, subject.back
    with (
        subject.on(f"batch norm of {dtype}{list(rows(x).shape)}, mean {float(x.mean()):.0f}"),
        backend.context(),
        backend.errstate(),
        np.errstate(all="ignore"),
    ):
        w, b = (there(weight), there(bias)) if affine else (None, None)
        X, DY, running = there(rows(x)), there(rows(dy)), (there(at), there(spread))
        sums = backend.batch_norm_sums(X)
        of = backend.batch_norm_statistics(sums, n, EPS, w, b)
        y = backend.channel_affine(X, of.scale, of.shift)
        grad_sums = backend.batch_norm_grad_sums(X, of.mean, DY)
        factor, shift = backend.batch_norm_input_grad(grad_sums, n, of)
        dx = backend.channel_affine(DY, of.scale, shift, X, factor)
        backend.batch_norm_running(of, n, momentum, *running)
        if not affine:
            weight, bias = np.ones(C), np.zeros(C)
        exact, *exact_running = oracles.batch_norm(x, at, spread, weight, bias, True, momentum, EPS)
        exact_dx, _, _ = oracles.batch_norm_grad(x, dy, at, spread, weight, True, EPS)
        slack = 10 * (1 + abs(float(x.mean())))
        subject.compare("the output", images(back(y)), exact, dtype, slack)
        subject.compare("the input's gradient", images(back(dx)), exact_dx, dtype, slack)
        for name, found, wanted in zip(("mean", "variance"), running, exact_running, strict=True):
            subject.compare(f"the running {name}", back(found), wanted, of_type if dtype == of_type else dtype)


def exact_line(sums: Any, n: int, eps: float, weight: Any, bias: Any) -> Statistics:
    """The rows of :class:`Statistics` in float64."""
    mean, var = sums / n
    inverse = 1 / np.sqrt(var + eps)
    scale = inverse if weight is None else inverse * weight
    return Statistics(mean, var, inverse, scale, (0 if bias is None else bias) - mean * scale)


def statistics(subject: Subject, dtype: str) -> Iterator[tuple[Any, int, float, Any, Any]]:
    """Yield sums over n numbers of each of 3 channels, n, epsilon, weight and bias."""
    for i, n in enumerate((2, 60, 1000)):
        sums = n * np.stack([subject.normal(3), 0.1 + subject.normal(3) ** 2])
        weight, bias = subject.normal(2, 3, dtype=accumulator(dtype))
        yield sums, n, 1e-3, weight if i != 1 else None, bias if i != 2 else None


def check_batch_norm_line(subject: Subject, dtype: str) -> None:
    """Scale and shift of each channel, with and without weight and bias."""
    for sums, n, eps, weight, bias in statistics(subject, dtype):
        line = subject.call("batch_norm_line", sums, n, lambda eps=eps: eps, weight, bias)
        for name, found, exact in zip(Statistics._fields, line, exact_line(sums, n, eps, weight, bias), strict=True):
            subject.compare(name, found, exact, "float64")


def check_batch_norm_grad_line(subject: Subject, dtype: str) -> None:
    """The factors of the input's gradient."""
    for sums, n, eps, weight, bias in statistics(subject, dtype):
        of, gradients = exact_line(sums, n, eps, weight, bias), n * subject.normal(2, 3)
        found = subject.call("batch_norm_grad_line", gradients, n, of)
        b = -of.scale * of.inverse**2 * gradients[1] / n
        subject.compare("b", found[0], b, "float64")
        subject.compare("c", found[1], -of.scale * gradients[0] / n - b * of.mean, "float64")


def check_batch_norm_running(subject: Subject, dtype: str) -> None:
    """Check that running statistics move in place, once for each call, and that the target does not change."""
    backend, kept = subject.backend, accumulator(dtype)
    for sums, n, eps, weight, bias in statistics(subject, dtype):
        of, start = exact_line(sums, n, eps, weight, bias), subject.normal(2, 3, dtype=kept)
        with subject.on(f"batch_norm_running over n = {n}, momentum 0.3"), backend.context():
            there = Statistics(*map(subject.there, of))
            mean, var = map(subject.there, start)
            calls = backend.batch_norm_running.prepare(there, n, 0.3, mean, var)
            backend.batch_norm_running(there, n, 0.3, mean, var)
            exact = start.astype("float64")
            for time in ("one call", "another, prepared", "one more of the same"):
                exact = 0.7 * exact + 0.3 * np.stack([of.mean, of.var * n / (n - 1)])
                for name, found, wanted in zip(("mean", "variance"), (mean, var), exact, strict=True):
                    subject.compare(f"the running {name} after {time}", subject.back(found), wanted, kept)
                run(calls)
            for name, found, before in zip(of._fields, there, of, strict=True):
                subject.equal(f"{name}, which is read,", subject.back(found), before)


def channel_affine(subject: Subject, x: Any, other: Any, kind: str | None) -> None:
    """Check an affine map of each channel, of one array or the sum of two, and over its input."""
    backend, C, dtype = subject.backend, x.shape[1], x.dtype.name
    kind = kind if backend.fuses(kind) else None
    scale, shift, other_scale = subject.normal(3, C)
    seconds = (None, None) if other is None else (rows(other), other_scale)
    exact = x.astype("float64") * scale[:, None, None] + shift[:, None, None]
    if other is not None:
        exact = exact + other.astype("float64") * other_scale[:, None, None]
    exact = exactly(exact, kind)
    y = subject.call("channel_affine", rows(x), scale, shift, *seconds, kind)
    subject.compare("the map", images(y), exact, dtype)
    with backend.context(), backend.errstate():
        over = subject.there(rows(x))
        b, c = (None if a is None else subject.there(a) for a in seconds)
        backend.channel_affine(over, subject.there(scale), subject.there(shift), b, c, kind, out=over)
        subject.equal("the map over its input", subject.back(over), y)


def exact_set_norm(x: Any, dy: Any, over: Any, weight: Any, bias: Any, eps: float, centred: bool) -> dict[str, Any]:
    """Output and gradients in float64; those of weight and bias for each number."""
    x, dy, weight = (np.asarray(each, "float64") for each in (x, dy, 1 if weight is None else weight))
    centre = x - x.mean(over, keepdims=True) if centred else x
    inverse = 1 / np.sqrt((centre**2).mean(over, keepdims=True) + eps)
    n, g = centre * inverse, dy * weight
    across = (g * n).mean(over, keepdims=True)
    dx = (g - n * across - (g.mean(over, keepdims=True) if centred else 0)) * inverse
    return {"y": n * weight + (0 if bias is None else bias), "dx": dx, "dbias": dy, "dweight": dy * n}


PARTS = "inverse", "mean", "rest"


class Sets:
    """Sets of numbers that are normalized.

    Parameters
    ----------
    shape : tuple of int
        Of the array; the batch is last.
    over : tuple of int
        The axes of a set.
    affine : tuple of int, optional
        Shape of weight and bias.
    centred : bool
        Whether the mean is subtracted.
    offset : float
        The mean of the numbers.
    """

    def __init__(
        self,
        shape: Shape,
        over: tuple[int, ...],
        affine: Shape | None = None,
        centred: bool = True,
        offset: float = 0.0,
    ) -> None:
        self.shape, self.over, self.affine, self.centred, self.offset = shape, over, affine, centred, offset
        self.of_sets = tuple(1 if axis in over else n for axis, n in enumerate(shape))


#: groups of channels, whole samples, places of a set, scattered axes, features, far from 0
SETS = [
    Sets((6, 2, 2, 5, 3), (0, 2, 3), (1, 2, 2, 1, 1)),
    Sets((6, 2, 2, 5, 3), (0, 2, 3)),
    Sets((4, 3, 5, 2), (0, 1, 2), (4, 3, 5, 1)),
    Sets((4, 3, 5, 2), (0, 1, 2), (4, 3, 5, 1), centred=False),
    Sets((4, 3, 5, 7), (2,), (1, 1, 5, 1)),
    Sets((4, 3, 5, 2), (1,), (1, 3, 1, 1), centred=False),
    Sets((3, 2, 4, 5, 3), (0, 3), (3, 1, 1, 5, 1)),
    Sets((9, 4), (0,), (9, 1)),
    Sets((1, 1, 1, 3), (0, 1, 2), (1, 1, 1, 1)),
    Sets((40, 3, 20, 9), (0, 2), (1, 3, 1, 1), offset=1000),
]


def set_norm(subject: Subject, sets: Sets, dtype: str, eps: float = 1e-3) -> None:
    """Check the normalization, and what it keeps for the gradients."""
    wide, x, weight, bias = _numbers(subject, sets, dtype)
    names = PARTS if sets.centred else PARTS[:1]
    written = {name: Spec(sets.of_sets, wide) for name in names}
    found = subject.call("set_norm", x, sets.over, eps, weight, bias, written=written)
    exact = exact_set_norm(x, x, sets.over, weight, bias, eps, sets.centred)
    subject.compare("the output", found["out"], exact["y"], dtype)
    x = x.astype("float64")
    mean = x.mean(sets.over, keepdims=True) if sets.centred else 0
    subject.compare(
        "inverse", found["inverse"], 1 / np.sqrt(((x - mean) ** 2).mean(sets.over, keepdims=True) + eps), dtype
    )
    if sets.centred:
        parts = found["mean"].astype("float64") + found["rest"]
        subject.compare("mean + rest", parts, mean, dtype, 1e-2 if dtype == "float32" else 1)


def _numbers(subject: Subject, sets: Sets, dtype: str) -> tuple[str, Any, Any, Any]:
    """Return the type of what is kept, the numbers, and weight and bias."""
    wide = accumulator(dtype)
    offset = sets.offset if dtype == wide else 0.0
    x = (subject.normal(*sets.shape) + offset).astype(dtype)
    weight, bias = (sets.affine and subject.normal(*sets.affine, dtype=wide) for _ in range(2))
    return wide, x, weight, bias


def set_norm_grads(subject: Subject, sets: Sets, dtype: str, eps: float = 1e-3) -> None:
    """Check the gradients of numbers, weight and bias."""
    wide, x, weight, _ = _numbers(subject, sets, dtype)
    dy = subject.normal(*sets.shape, dtype=dtype)
    x8 = x.astype("float64")
    mean8 = x8.mean(sets.over, keepdims=True) if sets.centred else 0
    inverse = (1 / np.sqrt(((x8 - mean8) ** 2).mean(sets.over, keepdims=True) + eps)).astype(wide)
    mean = np.asarray(mean8).astype(wide) if sets.centred else None
    rest = (mean8 - mean.astype("float64")).astype(wide) if mean is not None else None
    written = {"dx": Spec(sets.shape, dtype)}
    if sets.affine:
        written |= {"dweight": Spec(sets.affine, wide), "dbias": Spec(sets.affine, wide)}
    found = subject.call("set_norm_grads", x, dy, sets.over, inverse, mean, rest, weight, written=written)
    exact = exact_set_norm(x, dy, sets.over, weight, None, eps, sets.centred)
    subject.compare("dx", found["dx"], exact["dx"], dtype)
    for name in ("dweight", "dbias") if sets.affine else ():
        summed = tuple(axis for axis, n in enumerate(sets.affine or ()) if n == 1)
        subject.compare(name, found[name], exact[name].sum(summed, keepdims=True), dtype)


def equal_numbers(subject: Subject, dtype: str) -> None:
    """Check that a set of equal numbers gives exactly the bias."""
    bias = subject.normal(1, 6, 1, 1, dtype=dtype)
    x = (np.full((4, 6, 5, 3), 1 / 3, dtype) * np.array([1, 1000, 1e-9], dtype)).astype(dtype)
    written = {name: Spec((1, 6, 1, 3), dtype) for name in PARTS}
    y = subject.call("set_norm", x, (0, 2), 1e-5, None, bias, written=written)["out"]
    subject.equal("the output for equal numbers", y, np.broadcast_to(bias, x.shape))


def epsilon(subject: Subject, dtype: str) -> None:
    """Check that a function ``eps`` is asked at each call."""
    backend, x, eps = subject.backend, subject.normal(6, 4, 3, dtype=dtype), iter([0.5, 100.0])
    with backend.context(), subject.on("eps is a function"):
        inverse, y = (backend.empty(shape, dtype) for shape in ((1, 4, 3), (6, 4, 3)))
        calls = backend.set_norm.prepare(subject.there(x), (0,), lambda: next(eps), inverse=inverse, out=y)
        for wanted in (0.5, 100.0):
            for call in calls:
                call()
            exact = 1 / np.sqrt((x.astype("float64") ** 2).mean(0, keepdims=True) + wanted)
            subject.compare("inverse", subject.back(inverse), exact, dtype)


def check_batch_norm_sums(subject: Subject, dtype: str) -> None:
    """Near 0 and far from it."""
    for x, _ in batches(subject, dtype):
        batch_norm_sums(subject, x)


def check_batch_norm_grad_sums(subject: Subject, dtype: str) -> None:
    """Near 0 and far from it."""
    for x, dy in batches(subject, dtype):
        batch_norm_grad_sums(subject, x, dy)


def check_batch_norm(subject: Subject, dtype: str) -> None:
    """With and without weight and bias."""
    for i, (x, dy) in enumerate(batches(subject, dtype)):
        batch_norm(subject, x, dy, affine=i != 2)


def check_channel_affine(subject: Subject, dtype: str) -> None:
    """Of one array and of two, with an activation and without."""
    for kind in (None, "relu", "tanh"):
        for i, (x, other) in enumerate(batches(subject, dtype)):
            if abs(x.mean()) < 100:
                channel_affine(subject, x, other if i % 2 else None, kind)


def check_set_norm(subject: Subject, dtype: str) -> None:
    """Every kind of sets, equal numbers, and an epsilon that changes."""
    for sets in SETS:
        set_norm(subject, sets, dtype)
    if dtype == "float32":
        equal_numbers(subject, dtype)
    if dtype == accumulator(dtype):
        epsilon(subject, dtype)


def check_set_norm_grads(subject: Subject, dtype: str) -> None:
    """Every kind of sets."""
    for sets in SETS:
        set_norm_grads(subject, sets, dtype)


CHECKS = [
    Check("batch_norm_sums", check_batch_norm_sums),
    Check("batch_norm_grad_sums", check_batch_norm_grad_sums),
    Check("batch_norm", check_batch_norm),
    Check("batch_norm_line", check_batch_norm_line),
    Check("batch_norm_grad_line", check_batch_norm_grad_line),
    Check("batch_norm_running", check_batch_norm_running),
    Check("channel_affine", check_channel_affine),
    Check("set_norm", check_set_norm),
    Check("set_norm_grads", check_set_norm_grads),
]


# Faults -------------------------------------------------------------------------------------------------------------
def cancelling(call: Call) -> Any:
    """The squares about the mean as Σx² - n·mean², in the type of x."""
    (x,) = call.host("x")
    n = x[:, 0].size
    total = x.sum((0, 2, 3))
    return call.give(np.stack([total, (x * x).sum((0, 2, 3)) - total * total / n]).astype("float64"))


def about_zero(call: Call) -> Any:
    """The squares about 0, not about the mean."""
    (x,) = call.host("x")
    x = x.astype("float64")
    return call.give(np.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))]))


def eps_outside(call: Call) -> Any:
    """``1 / (√var + eps)``."""
    of = call.right(**call.arguments)
    var, scale, inverse = (np.array(call.backend.to_numpy(a)) for a in (of.var, of.scale, of.inverse))
    other = 1 / (np.sqrt(var) + call.arguments["eps"])
    to = call.backend.asarray
    return of._replace(inverse=to(other), scale=to(scale * other / inverse))


def without_variance(call: Call) -> Any:
    """The input's gradient without the term of the variance."""
    sums, n, of = call.host("sums", "n", "of")
    mean, scale = (np.array(call.backend.to_numpy(a)) for a in (of.mean, of.scale))
    return call.backend.asarray(0 * mean), call.backend.asarray(-scale * sums[0] / n)


def outside_in_rows(line: Any) -> Any:
    """``1 / (√var + eps)`` among the rows."""
    line[2] = 1 / (np.sqrt(line[1]) + 1e-3)
    return line


def without_b(line: Any) -> Any:
    """0 in place of b."""
    line[0] = 0
    return line


def spoiling_statistics(call: Call) -> Any:
    """The mean of the batch is set to the running one."""
    result, of = call.right(**call.arguments), call.arguments["of"]
    of.mean[...] = call.arguments["mean"]
    return result


def swapped(call: Call) -> Any:
    """The slope is taken where dy is, and dy where y is."""
    y, dy = call.arguments.get("y"), call.arguments["dy"]
    return call.right(**call.arguments) if y is None else call.changed(y=dy, dy=y)


def sums_of_dy(call: Call) -> Any:
    """Sums of dy, while dz is right."""
    (dy,), result = call.host("dy"), call.right(**call.arguments)
    if call.arguments.get("activation") is None:
        return result
    return call.changed(dy=call.backend.asarray(dy), activation=None)


def first_channel_twice(array: Any) -> Any:
    """The first channel in the place of the last."""
    array[:, -1] = array[:, 0]
    return array


def ones(weight: Any) -> Any:
    """1 in place of a weight, where there is one."""
    return None if weight is None else 0 * weight + 1


def squared(scale: Any) -> Any:
    """The square of the second input's scale, where there is one."""
    return None if scale is None else scale * scale


FAULTS = [
    Fault("batch_norm_sums", "Σx² - n·mean² cancels far from 0", "batch_norm_sums", cancelling),
    Fault("batch_norm_sums", "the squares are about 0", "batch_norm_sums", about_zero),
    Fault("batch_norm_grad_sums", "the mean is not subtracted", "batch_norm_grad_sums", changing(mean=lambda m: 0 * m)),
    Fault(
        "batch_norm_grad_sums",
        "dz is dy",
        "batch_norm_grad_sums",
        spoiling(lambda dz, dy: dy, "dz", among=["dy"]),
        "activation",
    ),
    Fault("batch_norm_grad_sums", "the sums use dy in place of dz", "batch_norm_grad_sums", sums_of_dy, "activation"),
    Fault("batch_norm_grad_sums", "the slope is that of dy", "batch_norm_grad_sums", swapped, "activation"),
    Fault("batch_norm", "the running variance is biased", "batch_norm_running", changing(n=lambda n: 10**9)),
    Fault("batch_norm", "eps is outside of the root", "batch_norm_statistics", eps_outside),
    Fault("batch_norm", "the gradient lacks the term of the variance", "batch_norm_input_grad", without_variance),
    Fault(
        "batch_norm", "momentum is applied to the old mean", "batch_norm_running", changing(momentum=lambda m: 1 - m)
    ),
    Fault("batch_norm_line", "eps is outside of the root", "batch_norm_line", spoiling(outside_in_rows)),
    Fault("batch_norm_line", "the bias is forgotten", "batch_norm_line", changing(bias=lambda b: None)),
    Fault("batch_norm_grad_line", "the term of the variance is missing", "batch_norm_grad_line", spoiling(without_b)),
    Fault("batch_norm_running", "the running variance is biased", "batch_norm_running", changing(n=lambda n: 10**9)),
    Fault(
        "batch_norm_running",
        "the batch's statistics are changed too",
        "batch_norm_running",
        spoiling_statistics,
    ),
    Fault("channel_affine", "the second scale is squared", "channel_affine", changing(other_scale=squared)),
    Fault("channel_affine", "the activation is ignored", "channel_affine", changing(activation=lambda kind: None)),
    Fault("set_norm", "the bias is forgotten", "set_norm", changing(bias=lambda b: None)),
    Fault("set_norm", "eps is called only once", "set_norm", changing(eps=lambda eps: 0.5 if callable(eps) else eps)),
    Fault("set_norm", "the rounding error of the mean is wrong", "set_norm", spoiling(lambda r: 0 * r + 1, "rest")),
    Fault("set_norm", "inverse is the standard deviation", "set_norm", spoiling(lambda i: 1 / i, "inverse")),
    Fault("set_norm_grads", "the weight is forgotten", "set_norm_grads", changing(weight=ones)),
    Fault("set_norm_grads", "the weight's gradient is missing", "set_norm_grads", spoiling(lambda g: 0 * g, "dweight")),
    Fault("set_norm_grads", "the bias's gradient is doubled", "set_norm_grads", spoiling(lambda g: 2 * g, "dbias")),
    Fault(
        "set_norm_grads",
        "a channel has the gradient of another channel",
        "set_norm_grads",
        spoiling(first_channel_twice, "dx"),
    ),
]
