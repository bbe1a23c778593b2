"""Checks of elementwise functions over the whole range of float32, and faults of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from im2colnet.backend import formula
from im2colnet.host import np
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import positive
from im2colnet.testing.conformance.base import Call, Check, Fault, Subject, changing, changing_arrays, spoiling
from im2colnet.types import Spec

Exact = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]


def _exact(name: str, **constants: float) -> Exact:
    """Value and gradient of a function, in float64."""
    return partial(getattr(oracles, name), **constants), partial(getattr(oracles, f"{name}_grad"), **constants)


#: kinds of activations, with value and gradient in float64
EXACT: dict[str, Exact] = {
    "relu": _exact("relu"),
    "leaky_relu": _exact("leaky_relu"),
    "leaky_relu:0.2": _exact("leaky_relu", negative_slope=0.2),
    "leaky_relu:3": _exact("leaky_relu", negative_slope=3.0),
    "sigmoid": _exact("sigmoid"),
    "tanh": _exact("tanh"),
    "silu": _exact("silu"),
    "elu": _exact("elu"),
    "elu:0.2": _exact("elu", alpha=0.2),
    "selu": _exact("selu"),
    "celu": _exact("celu"),
    "celu:3": _exact("celu", alpha=3.0),
    "softplus": _exact("softplus"),
    "softplus:2,30": _exact("softplus", beta=2.0, threshold=30.0),
    "softsign": _exact("softsign"),
    "log_sigmoid": _exact("log_sigmoid"),
    "hardtanh": _exact("hardtanh"),
    "hardtanh:-2,30": _exact("hardtanh", min_val=-2.0, max_val=30.0),
    "relu6": _exact("relu6"),
    "hardsigmoid": _exact("hardsigmoid"),
    "hardswish": _exact("hardswish"),
    "threshold:5,-7": _exact("threshold", threshold=5.0, value=-7.0),
    "mish": _exact("mish"),
    "gelu": _exact("gelu"),
    "gelu_tanh": _exact("gelu_tanh"),
    "exp": _exact("exp"),
    "log": _exact("log"),
    "sqrt": _exact("sqrt"),
    "abs": _exact("absolute"),
    "neg": _exact("negative"),
    "reciprocal": _exact("reciprocal"),
    "square": _exact("square"),
    "erf": _exact("erf"),
    "sin": _exact("sin"),
    "cos": _exact("cos"),
}
#: numbers that a function is of, where that is not all of them, or where it overflows
DOMAINS: dict[str, Callable[[Any], Any]] = {
    "exp": lambda x: x.clip(-80, 80),
    "log": lambda x: abs(x).clip(1e-37),
    "sqrt": lambda x: abs(x).clip(1e-37),
    "reciprocal": lambda x: abs(x).clip(1e-18, 1e18),
    "square": lambda x: x.clip(-1e18, 1e18),
}
#: relative error of a value in float32, where it is more than 1e-6: of numbers whose square stands in an exponent
LESS_EXACT = {"gelu": 3e-5, "gelu_tanh": 1e-4}
#: relative and absolute error of a value, and of a gradient, by element type
VALUE = {"float32": (1e-6, 1e-36), "float64": (2e-12, 1e-100)}
GRADIENT = {"float32": (1e-5, 4e-7), "float64": (1e-10, 1e-12)}


def exactly(x: Any, kind: str | None) -> Any:
    """The activation of ``x`` in float64; without a kind, nothing."""
    return x if kind is None else EXACT[kind][0](x)


def whole_range(kind: str) -> Any:
    """Numbers of float32 of every size whose function is one too, close to each other where the functions bend."""
    constant = 2 if kind == "selu" else abs(float(kind.partition(":")[2].partition(",")[0] or 1))
    far = np.logspace(-37, 38, 300)
    numbers = np.concatenate([np.linspace(-120, 120, 961), far, -far, [0.0, np.finfo("float32").max]])
    return DOMAINS.get(kind, lambda x: x)(numbers / max(1, constant)).astype("float32")


def points(kind: str, dtype: str) -> Any:
    """Where a function is checked, (n, 1): everywhere; in 16 bits where it bends."""
    bends = np.linspace(-8, 8, 161)
    if kind in ("log", "sqrt", "reciprocal"):
        bends = positive(bends)
    numbers = whole_range(kind) if dtype in VALUE else bends
    return numbers.astype(dtype).reshape(-1, 1)


def within(subject: Subject, what: str, got: Any, exact: Any, dtype: str, allowed: tuple[float, float] | None) -> None:
    """Compare each number by itself, with the relative and the absolute error that are allowed; without, as usual."""
    if allowed is None:
        subject.compare(what, got, exact, dtype, 2)
        return
    relative, absolute = allowed
    got = got.astype("float64")
    bad = ~(np.abs(got - exact) <= relative * np.abs(exact) + absolute)
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        raise subject.wrong(
            f"{what} is {got[at]:.9g} at {list(at)}, expected {exact[at]:.9g}: {bad.sum()} of {bad.size} numbers are"
            f" further from the exact ones than {relative:.0e} of them"
        )


def value_error(kind: str, dtype: str) -> tuple[float, float] | None:
    """The error that is allowed of a value."""
    if dtype == "float32":
        return LESS_EXACT.get(kind, VALUE[dtype][0]), VALUE[dtype][1]
    return VALUE.get(dtype)


def over_input(subject: Subject, kernel: str, given: Any, place: int, kind: str, expected: Any) -> None:
    """Check that the result may go over one of the arrays that are read."""
    backend = subject.backend
    with backend.context(), backend.errstate(), np.errstate(all="ignore"):
        arrays = [backend.asarray(np.array(a)) for a in given]
        result = getattr(backend, kernel)(*arrays, kind, out=arrays[place])
        subject.equal(f"{kernel} over its input", subject.back(result), expected)


def activation(subject: Subject, kind: str, dtype: str) -> None:
    """Check the values of a function over its whole range."""
    x = points(kind, dtype)
    y = subject.call("activation", x, kind)
    within(subject, f"{kind} of x", y, EXACT[kind][0](x), dtype, value_error(kind, dtype))
    over_input(subject, "activation", [x], 0, kind, y)


def activation_grad(subject: Subject, kind: str, dtype: str) -> None:
    """Check the gradients of a function over its whole range."""
    x = points(kind, dtype)
    dy = subject.normal(*x.shape, dtype=dtype)
    with subject.backend.errstate(), np.errstate(all="ignore"):
        read = x if formula(kind).reads == "x" else subject.back(subject.backend.activation(subject.there(x), kind))
    dx = subject.call("activation_grad", read, dy, kind)
    within(subject, f"the gradient of {kind}", dx, EXACT[kind][1](x, dy), dtype, GRADIENT.get(dtype))
    over_input(subject, "activation_grad", [read, dy], 1, kind, dx)


def activation_and_slope(subject: Subject, kind: str, dtype: str) -> None:
    """Check values and slopes that are made at once."""
    x = points(kind, dtype)
    found = subject.call("activation_and_slope", x, kind, written={"slope": Spec(x.shape, dtype)})
    value, gradient = EXACT[kind]
    within(subject, f"{kind} of x", found["out"], value(x), dtype, value_error(kind, dtype))
    exact = gradient(x, np.ones_like(x))
    within(subject, f"the slope of {kind}", found["slope"], exact, dtype, GRADIENT.get(dtype))


def stopped_gradient(subject: Subject, dtype: str) -> None:
    """Check that ReLU stops a gradient that is infinite or NaN: no product with a mask."""
    y, dy = np.array([0, 0, 1, 2], dtype), np.array([np.inf, np.nan, -np.inf, 3], dtype)
    dx = subject.call("activation_grad", y.reshape(-1, 1), dy.reshape(-1, 1), "relu")
    subject.equal("relu's gradient for numbers that are not finite", dx.ravel(), np.array([0, 0, -np.inf, 3], dtype))


def kept_nan(subject: Subject, dtype: str) -> None:
    """Check that ReLU keeps NaN."""
    y = subject.call("activation", np.array([np.nan, -1, 2], dtype).reshape(-1, 1), "relu")
    subject.equal("relu of NaN, -1 and 2", y.ravel(), np.array([np.nan, 0, 2], dtype))


def _every(check: Callable[[Subject, str, str], None], subject: Subject, dtype: str) -> None:
    for kind in EXACT:
        check(subject, kind, dtype)


def check_activation(subject: Subject, dtype: str) -> None:
    """Of every kind, and of NaN."""
    _every(activation, subject, dtype)
    kept_nan(subject, dtype)


def check_activation_grad(subject: Subject, dtype: str) -> None:
    """Of every kind, and of gradients that are not finite."""
    _every(activation_grad, subject, dtype)
    stopped_gradient(subject, dtype)


CHECKS = [
    Check("activation", check_activation),
    Check("activation_grad", check_activation_grad),
    Check("activation_and_slope", partial(_every, activation_and_slope)),
]


# Faults -------------------------------------------------------------------------------------------------------------
def passing_at_0(call: Call) -> Any:
    """ReLU's gradient where the output is 0."""
    read, dy, kind = call.host("read", "dy", "kind")
    if kind != "relu":
        return call.right(**call.arguments)
    return call.give(np.where(read >= 0, dy, 0))


def with_mask(call: Call) -> Any:
    """ReLU's gradient as a product with a mask."""
    read, dy, kind = call.host("read", "dy", "kind")
    if kind != "relu":
        return call.right(**call.arguments)
    with np.errstate(invalid="ignore"):
        return call.give(dy * (read > 0))


def overflowing(call: Call) -> Any:
    """Softplus without care for large numbers."""
    x, kind = call.host("x", "kind")
    if kind != "softplus":
        return call.right(**call.arguments)
    with np.errstate(all="ignore"):
        return call.give(np.log1p(np.exp(x)))


FAULTS = [
    Fault("activation", "softplus overflows", "activation", overflowing),
    Fault(
        "activation",
        "the constants of a kind are ignored",
        "activation",
        changing(kind=lambda kind: "leaky_relu" if kind == "leaky_relu:0.2" else kind),
    ),
    Fault("activation", "NaN is lost", "activation", changing_arrays(x=np.nan_to_num)),
    Fault(
        "activation",
        "elu is selu",
        "activation",
        changing(kind=lambda kind: "selu" if kind == "elu" else kind),
    ),
    Fault("activation_grad", "relu's gradient passes at 0", "activation_grad", passing_at_0),
    Fault("activation_grad", "infinity times 0 of a mask is NaN", "activation_grad", with_mask),
    Fault(
        "activation_grad",
        "silu's gradient is sigmoid's",
        "activation_grad",
        spoiling(lambda dx, kind: dx / 2 if kind == "silu" else dx, among=["kind"]),
    ),
    Fault("activation_and_slope", "the slope is not written", "activation_and_slope", changing(slope=lambda s: 0 * s)),
    Fault(
        "activation_and_slope",
        "the slope of mish has a wrong sign below 0",
        "activation_and_slope",
        spoiling(lambda s, kind: np.abs(s) if kind == "mish" else s, "slope", among=["kind"]),
    ),
]
