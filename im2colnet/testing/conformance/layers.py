"""Checks of every layer of the library on a backend, family by family, and faults of functions that layers use."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from im2colnet.host import np
from im2colnet.layout import internal_shape
from im2colnet.testing.cases import LayerCase, State
from im2colnet.testing.conformance.base import Check, Fault, Subject, images, miscounting, rows, spoiling
from im2colnet.testing.inputs import Part, input_shape_of, network_of
from im2colnet.testing.trial import Trial

FAMILIES = (
    "convolution",
    "pooling",
    "activation",
    "normalization",
    "linear",
    "resampling",
    "shaping",
    "merging",
    "dropout",
)
BATCH = 3


def layer_of_case(subject: Subject, case: LayerCase, layer: Any, shapes: Any, dtype: str) -> None:
    """Check output and gradients of a layer, in training, and its output in evaluation."""
    backend = subject.backend
    net = network_of(layer, *shapes).init(int(subject.rng.integers(1 << 31)), dtype, backend)
    net.graph.shapes(internal_shape(input_shape_of(*shapes), BATCH))
    node = next(node for node in net.graph.nodes if not isinstance(node.layer, Part))
    for parameter in node.params.values():  # or what begins as 0 would hide what is wrong
        noise = 0.1 * subject.normal(*parameter.shape)
        parameter[...] = backend.asarray((subject.back(parameter) + noise).astype(dtype))
    xs = [case.domain(subject.normal(BATCH, *shape, dtype=dtype)) for shape in shapes]
    wide = [x.astype("float64") for x in xs]
    arrays = {key: subject.back(a).astype("float64") for key, a in (node.params | node.buffers).items()}
    with subject.on(f"{layer!r}, input {', '.join(map(str, shapes))}"), backend.errstate(), np.errstate(all="ignore"):
        trial, state = Trial(net, node, list(shapes), True, [BATCH]), State(arrays, training=True)
        exact, y = case.forward(layer, state, *wide), trial.forward([rows(x) for x in xs])
        if exact is None:
            chance(subject, trial, layer.p, xs[0], images(y))
        else:
            subject.compare("the output in training", images(y), exact, dtype, 10)
            gradients_of_case(subject, case, trial, state, wide, subject.normal(*exact.shape, dtype=dtype))
        if exact is None or node.buffers:  # others do the same in evaluation, and oracles are slow
            exact = case.forward(layer, State(arrays, training=False), *wide)
        y = Trial(net, node, list(shapes), False, [BATCH]).forward([rows(x) for x in xs])
        subject.compare("the output in evaluation", images(y), exact, dtype, 10)


def gradients_of_case(subject: Subject, case: LayerCase, trial: Trial, state: State, xs: list[Any], dy: Any) -> None:
    """Check the gradients of inputs and parameters, after the forward pass."""
    dtype = dy.dtype.name
    dxs, gradients = trial.backward(rows(dy))
    exact_dxs, exact_gradients = case.backward(trial.layer, state, dy.astype("float64"), *xs)
    for i, (dx, wanted) in enumerate(zip(dxs, exact_dxs, strict=True)):
        subject.compare(f"the gradient of input {i}", images(dx), wanted, dtype, 10)
    for key in trial.node.params:
        subject.compare(f"the gradient of {key}", gradients[key], exact_gradients[key], dtype, 10)


def chance(subject: Subject, trial: Trial, p: float, x: Any, y: Any) -> None:
    """Check a layer where chance decides: numbers become 0 or are scaled, and so are their gradients."""
    kept = 0.0 if p == 1 else 1 / (1 - p)
    factors = np.where(y == 0, 0, kept)
    subject.compare("the output", y, x * factors, x.dtype.name)
    dy = subject.normal(*y.shape, dtype=x.dtype.name)
    dxs, _ = trial.backward(rows(dy))
    subject.compare("the gradient", images(dxs[0]), dy * factors, x.dtype.name)


def check_family(family: str, subject: Subject, dtype: str) -> None:
    """Every layer of a family."""
    for case in import_module(f"im2colnet.testing.cases.{family}").LAYERS:
        for layer, *shapes in case.examples:
            layer_of_case(subject, case, layer, shapes, dtype)


CHECKS = [Check(f"layers.{family}", partial(check_family, family), ("float64",), halves=False) for family in FAMILIES]


# Faults -------------------------------------------------------------------------------------------------------------
def everywhere(family: str, function: str) -> Fault:
    """A function of the array module that is wrong in its third digit."""
    return Fault(
        f"layers.{family}", f"{function} of the array module has an error of 1%", f"xp.{function}", miscounting
    )


FAULTS = [
    everywhere("convolution", "add"),
    everywhere("pooling", "power"),
    everywhere("activation", "exp"),
    everywhere("normalization", "power"),
    Fault("layers.linear", "the bias's gradient is halved", "sum_samples", spoiling(lambda s: s / 2)),
    everywhere("resampling", "matmul"),
    everywhere("shaping", "add"),
    everywhere("merging", "multiply"),
    everywhere("dropout", "multiply"),
]
