"""Checks of your own layer: are its gradients right, and does it follow the rules that training relies on?

>>> import im2colnet as ic
>>> ic.testing.check_layer(ic.Conv2d(3, 4, 3, padding=1), (3, 6, 6))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import whole
from im2colnet.errors import Im2colnetError, LayerError, ShapeError
from im2colnet.graph.nodes import Node
from im2colnet.host import np
from im2colnet.layers import Layer, Needs
from im2colnet.layout import internal_shape, user_shape
from im2colnet.network import Network
from im2colnet.plan import Plan
from im2colnet.testing.cases.base import State
from im2colnet.testing.inputs import Part, input_shape_of, network_of
from im2colnet.testing.layer_in_network import ROUNDING, LayerInNetwork
from im2colnet.testing.trial import Trial
from im2colnet.types import Array, Spec, run

__all__ = ["LayerError", "check_layer"]

#: points at which a gradient may be compared: near a kink, such as that of ReLU at 0, differences mean nothing
POINTS = 3
#: how far a gradient may be from the differences, as a share of the norms
TOLERANCE = 1e-5


def check_layer(
    layer: Layer,
    input_shape: Sequence[Any],
    batch: int = 3,
    seed: int = 0,
    backend: str | Backend | None = None,
    expected: Callable[..., Any] | None = None,
    domain: Callable[[Any], Any] | None = None,
    in_network: bool = True,
) -> None:
    """Check a layer in float64, in training and in evaluation mode. If it is a network, check each of its layers.

    The gradients of the input and of each parameter are compared with finite differences along random directions.
    ``forward`` and ``backward`` must not change ``x``, ``dy``, the parameters or the state. They must write the whole
    of each result, read only the arrays that ``needs`` asks for, give the same result each time, and give the shape
    that ``output_shape`` returns. No sample may depend on the other samples of the batch. A layer with ``batch_sums``
    may combine samples, but its result must not depend on how the batch is divided into shards. Prepared calls must do
    the same as plain calls. The layer must not use memory that the plan has given to other layers, and must use each
    array that it asks for.

    Then the layer is trained in a network. The result must have the same bits each time, and for 1, 2 and 3 workers. It
    must not depend on the number of shards, except for rounding. Training must continue from a checkpoint as if it had
    not been interrupted. A prediction next to other layers must be the same as without them.

    Parameters
    ----------
    layer : Layer
        The layer. It is not changed.
    input_shape : tuple of int, or list of tuples
        The shape of one sample, such as (C, H, W) or (features,). If the layer has several inputs, the list of their
        shapes.
    batch : int
        The batch size, at least 2.
    seed : int
        The random seed of the input, the parameters, and the directions.
    backend : str or Backend, optional
        The backend. By default the selected backend.
    expected : callable, optional
        ``expected(layer, state, *inputs)`` computes in float64 the right output for inputs (N, C, H, W) or
        (N, features), such as ``im2colnet.testing.cases.LayerCase.forward``; ``state`` is a
        ``im2colnet.testing.cases.State``.
    domain : callable, optional
        ``domain(x)`` maps normally distributed numbers to valid inputs of the layer, such as ``numpy.exp`` for positive
        numbers.
    in_network : bool
        Whether the layer is also trained in a network, which takes most of the time.

    Raises
    ------
    LayerError
        If a check fails. The message describes the first problem, and how to solve it. The error is also an
        AssertionError.

    Examples
    --------
    >>> class Halve(ic.Layer):
    ...     def forward(self, x, ctx):
    ...         return x / 2
    ...
    ...     def backward(self, dy, ctx):
    ...         return dy                # it should be dy / 2
    >>> ic.testing.check_layer(Halve(), (2, 3, 3))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    im2colnet.errors.LayerError: ...gradient...
    """
    if not isinstance(layer, Layer):
        raise ShapeError(f"layer must be a layer such as ic.ReLU(), got {layer!r}")
    batch, seed = whole("batch", batch, least=2), whole("seed", seed, least=0)
    several = bool(input_shape) and all(isinstance(shape, (tuple, list)) for shape in input_shape)
    inputs = [
        tuple(whole("input_shape's numbers", n) for n in one) for one in (input_shape if several else [input_shape])
    ]
    sample = input_shape_of(*inputs)
    net = network_of(layer, *inputs).init(seed, "float64", get_backend(backend))
    given = expected, domain
    with net.backend.errstate():
        shapes = net.graph.shapes(internal_shape(sample, batch))
        for node in net.graph.nodes:
            if isinstance(node.layer, Part):
                continue
            samples = [_sample(shapes[v]) for v in node.inputs]
            for training in (True, False):
                mine = node.layer is layer
                try:
                    _check(net, node, samples, training, batch, seed, *(given if mine else (None, None)))
                except Exception as error:
                    if not isinstance(error, Im2colnetError):  # of the layer's own code
                        mode = "training" if training else "evaluation"
                        error.add_note(f"in {node.layer!r}, input {samples}, in {mode} mode")
                    raise
        for training in (True, False):
            Plan(net.graph, internal_shape(sample, batch), "float64", net.backend, training)
    if in_network:
        images = np.random.default_rng(seed).standard_normal((batch, *sample))
        LayerInNetwork(layer, inputs, domain(images) if domain else images, seed, net.backend).check(not domain)


def _sample(x: Sequence[int]) -> tuple[int, ...]:
    return user_shape(tuple(x))[1:]


def _user_array(x: Any) -> Any:
    return x.transpose(3, 1, 0, 2) if x.ndim == 4 else np.moveaxis(x, -1, 0)


def _check(
    net: Network,
    node: Node,
    samples: list[tuple[int, ...]],
    training: bool,
    batch: int,
    seed: int,
    expected: Callable[..., Any] | None,
    domain: Callable[[Any], Any] | None,
) -> None:
    rng = np.random.default_rng(seed)
    suited = domain or (lambda x: x)
    for parameter in node.params.values():  # or what begins as 0 would hide what is wrong
        parameter[...] = net.backend.asarray(
            net.backend.to_numpy(parameter) + 0.1 * rng.standard_normal(parameter.shape)
        )
    trial = Trial(net, node, samples, training, [batch])
    xs = [suited(rng.standard_normal(internal_shape(sample, batch))) for sample in samples]
    _check_forward(trial, xs)
    if expected is not None:
        _check_expected(trial, xs, expected)
    divided = Trial(net, node, samples, training, [1, batch - 1])
    _check_samples(trial, divided, xs, [suited(rng.standard_normal(x.shape[:-1])) for x in xs])
    if not training:
        return
    dy = rng.standard_normal(trial.forward(xs).shape)
    _check_backward(trial, xs, dy)
    _check_gradients(trial, xs, dy, rng, suited)
    _check_order(divided, xs, dy)
    _check_sums(trial, divided, xs, dy)
    _check_state(trial, divided, xs)


def _check_samples(trial: Trial, divided: Trial, xs: Sequence[Any], others: Sequence[Any]) -> None:
    """Check that no sample depends on other samples, or, with ``batch_sums``, that only the whole batch matters."""
    y = trial.forward(xs)
    if not trial.layer.joins_batch(trial.training):
        other = [x.copy() for x in xs]
        for x, sample in zip(other, others, strict=True):
            x[..., 0] = sample
        if not np.array_equal(trial.forward(other)[..., 1:], y[..., 1:]):
            raise trial.error(
                "forward lets a sample depend on the other samples of the batch, so that results depend on how a batch"
                " is divided into shards: a layer that combines samples must have `batch_sums` (see BatchNorm2d)"
            )
    elif not np.allclose(divided.forward(xs), y, rtol=ROUNDING, atol=ROUNDING):
        raise trial.error(
            "the result depends on how the batch is divided into shards: forward must take its sums over the batch from"
            " ctx.sums, and the number of samples from ctx.samples"
        )


def _check_order(divided: Trial, xs: Sequence[Any], dy: Any) -> None:
    """Check that several shards of a batch may be between forward and backward at the same time."""
    found = []
    for order in (slice(None), slice(None, None, -1)):
        divided.forward(xs, order)
        found.append(divided.backward(dy)[0])
    if any(a.tobytes() != b.tobytes() for a, b in zip(*found, strict=True)):
        raise divided.error(
            "backward depends on which shard forward was called for last. Several shards of a batch are processed at"
            " the same time, so forward must keep values for backward in ctx, as in ctx.gate = ..., not in the layer"
        )


def _check_sums(trial: Trial, divided: Trial, xs: Sequence[Any], dy: Any) -> None:
    """Check that the gradients of a layer with ``batch_sums`` do not depend on the shards."""
    if not trial.layer.batch_sums:
        return
    divided.forward(xs)
    dxs, gradients = divided.backward(dy)
    trial.forward(xs)
    whole_dxs, whole = trial.backward(dy)
    pairs = [*zip(dxs, whole_dxs, strict=True), *((gradients[key], whole[key]) for key in whole)]
    if not all(np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING) for a, b in pairs):
        raise trial.error("gradients depend on how the batch is divided into shards: take the sums from ctx.sums")


def _check_state(trial: Trial, divided: Trial, xs: Sequence[Any]) -> None:
    """Check the state after the end of a step."""
    trial.forward(xs)
    if trial.layer.step_sums:
        divided.forward(xs)
        if not np.allclose(divided.step_sums(), trial.step_sums(), rtol=ROUNDING, atol=ROUNDING):
            raise trial.error(
                "the sums for finish_step depend on how the batch is divided into shards: forward must write the sums"
                " over its shard's samples to all of ctx.step_sums"
            )
    trial.layer.finish_step(trial.shards[0])
    for key, state in trial.node.buffers.items():
        if not trial.backend.all_finite(state):
            raise trial.error(f"finish_step makes the state {key!r} infinite or NaN")


def _check_forward(trial: Trial, xs: Sequence[Any]) -> None:
    """Check that forward is repeatable, writes the whole result, and changes nothing else."""
    before = trial.kept()
    y = trial.forward(xs)
    trial.check_unchanged("forward", before)
    for array, x in zip(trial.shards[0].xs, xs, strict=True):
        if trial.host(array).tobytes() != np.ascontiguousarray(x).tobytes():
            raise trial.error(
                "forward changes its input in place, which other layers may read: make a new array, or write to ctx.y"
            )
    if not np.isfinite(y).all():
        raise trial.error(
            "forward gives NaN or infinity for normally distributed numbers: it does not write all of ctx.y, or reads"
            " scratch or saved arrays before it has written them"
        )
    unused = [key for key, array in trial.shards[0].saved.items() if trial.training and trial.is_spoiled(array)]
    if unused and not trial.needs[0].view:
        raise trial.error(
            f"needs asks for {', '.join(map(repr, unused))} to be saved, which costs memory from forward to backward,"
            " but forward does not write to the entry of ctx.saved with that name: remove it from needs"
        )
    if trial.forward(xs).tobytes() != y.tobytes():
        raise trial.error(
            "forward does not give the same result for the same input: random numbers must come from ctx.key, as in"
            " ctx.backend.random(ctx.key, out=...), and no value may be kept from one call to the next"
        )
    if trial.needs[0].inplace and trial.forward(xs, over=True).tobytes() != y.tobytes():
        raise trial.error(
            "needs says inplace, but the output is different if ctx.y shares its memory with the input: read x before"
            " writing to ctx.y, or remove inplace from needs"
        )
    if not trial.needs[0].view:
        _check_prepared(trial, "forward", trial.shards[0].x, trial.shards[0].y, lambda: trial.forward(xs), y)


def _check_expected(trial: Trial, xs: Sequence[Any], expected: Callable[..., Any]) -> None:
    """Compare the output with the expected output, unless that is None."""
    arrays = {key: trial.host(array) for key, array in (trial.node.params | trial.node.buffers).items()}
    wanted = expected(trial.layer, State(arrays, trial.training), *map(_user_array, xs))
    if wanted is None:
        return
    y = _user_array(trial.forward(xs))
    if y.shape != wanted.shape:
        raise trial.error(f"forward gives an output of shape {y.shape}, expected {wanted.shape}")
    difference = float(np.abs(y - wanted).max(initial=0))
    if not difference <= ROUNDING * (1 + float(np.abs(wanted).max(initial=0))):
        raise trial.error(f"forward gives an output that is wrong by {difference:.6g}")


def _check_prepared(trial: Trial, what: str, given: Array, out: Array, plain: Callable[[], Any], expected: Any) -> None:
    """Check that calls prepared while ``given`` holds other numbers give the results of plain calls, twice."""
    names = what, f"prepare_{what}"
    definer = next(base for base in type(trial.layer).__mro__ if any(name in vars(base) for name in names))
    if definer is Layer or f"prepare_{what}" not in vars(definer):
        return
    ctx, needs = trial.shards[0], trial.needs[0]
    plain()
    ctx.scratch = trial.scratch(needs.forward if what == "forward" else needs.backward)
    numbers = trial.host(given)
    given[...] = 1
    with trial.allocating() as made:
        calls = list(getattr(trial.layer, f"prepare_{what}")(given, ctx))
    if made and set(made) - set(_allocated_for_more(trial, what)):
        raise trial.error(
            f"prepare_{what} allocates {', '.join(map(str, made))}, which grows with the batch size and is not part of"
            " the memory plan: a kernel is called without scratch, or with too little. Ask for it in needs, as in"
            f" Needs({what}={{'matmul': [Spec(shape, dtype)]}}), and pass the kernel its entry of ctx.scratch"
        )
    given[...] = trial.backend.asarray(numbers)
    for _ in range(2):
        trial.spoil(out)
        run(calls)
        if trial.host(out).tobytes() != expected.tobytes():
            raise trial.error(
                f"the calls that prepare_{what} returns give another result than {what}: they must read their arrays"
                " each time they are called, and write the result to the array of ctx"
            )


def _allocated_for_more(trial: Trial, what: str) -> list[Spec]:
    """Return what preparing a pass allocates for one sample more."""
    more = Trial(trial.net, trial.node, trial.samples, trial.training, [trial.sizes[0] + 1])
    ctx, needs = more.shards[0], more.needs[0]
    y = more.forward([np.ones(x.shape) for x in ctx.xs])
    ctx.scratch = more.scratch(needs.forward if what == "forward" else needs.backward)
    ctx.dxs = [more.backend.empty(x.shape, more.net.dtype) for x in ctx.xs]
    with more.allocating() as made:
        list(getattr(more.layer, f"prepare_{what}")(ctx.x if what == "forward" else more.backend.asarray(y), ctx))
    return made


def _check_backward(trial: Trial, xs: Sequence[Any], dy: Any) -> None:
    """Check that backward is repeatable and writes the whole result; parameter gradients are written, not added."""

    def again(**options: Any) -> tuple[list[Any], Any]:
        trial.forward(xs)
        return trial.backward(dy, **options)

    before = trial.kept()
    dxs, of = again()
    trial.check_unchanged("backward", before)
    needs, ctx = trial.needs[0], trial.shards[0]
    passes = needs.view or needs.gradient_passes
    if needs.input and not passes:
        for array, x in zip(ctx.xs, xs, strict=True):
            if trial.host(array).tobytes() != np.ascontiguousarray(x).tobytes():
                raise trial.error("backward changes the layer's input ctx.x in place, which other layers may read")
    if not all(np.isfinite(a).all() for a in (*dxs, *of.values())):
        raise trial.error(
            "backward gives NaN or infinity: it does not write all of ctx.dx, or reads an array that needs does not"
            f" ask for (input={needs.input}, output={needs.output}), or scratch before it has written it, or scratch"
            " of forward: other layers use that memory in between, so what backward reads must be in ctx.saved"
        )
    _check_output_kept(trial, needs, passes)
    others = {"": again(fill=-3.0)}
    if needs.inplace and not passes:
        others["if dx shares its memory with dy"] = again(fill=-3.0, over=True)
    if trial.node.params and not passes:  # else the layer is not asked
        others["if dx is not needed"] = again(fill=-3.0, wanted=False)
    for how, (other, of_other) in others.items():
        for dx, mine in zip(other, dxs, strict=False):
            if dx.tobytes() != mine.tobytes():
                raise trial.error(
                    f"backward does not give the same gradient of the input each time{f' {how}' if how else ''}: it"
                    " must depend only on dy and on the contents of ctx, and write all of ctx.dx"
                )
        for key, gradient in of_other.items():
            same = np.allclose(gradient, of[key], rtol=ROUNDING, atol=ROUNDING)  # it may be made in another way
            if not same and not _unwritten(of[key], gradient):
                raise trial.error(
                    f"backward does not write the same ctx.grads[{key!r}] each time: it adds to the array, or leaves a"
                    f" part of it unwritten {how}".rstrip()
                )
    if not passes and not trial.layer.batch_sums:
        trial.forward(xs)
        given = trial.backend.asarray(np.ascontiguousarray(dy))
        made = [trial.backend.empty(x.shape, trial.net.dtype) for x in ctx.xs]
        dx = made[0]

        def plain() -> None:
            again()
            ctx.dxs = made

        _check_prepared(trial, "backward", given, dx, plain, dxs[0])


def _check_output_kept(trial: Trial, needs: Needs, passes: bool) -> None:
    """Check that backward does not write to memory that other layers may use at that time."""
    if passes:
        return
    ctx = trial.shards[0]
    lost = [("x", x) for x in ctx.xs if not needs.input] + [("y", ctx.y)] * (not needs.output)
    for name, array in lost:
        if not np.isnan(trial.host(array)).all():
            raise trial.error(
                f"backward writes to ctx.{name}, whose memory other layers use at that time, since needs does not say"
                f" {'input' if name == 'x' else 'output'}=True. Write to ctx.dx, or to scratch that needs asks for"
            )


def _unwritten(first: Any, second: Any) -> bool:
    """Whether a gradient was not written, which counts as 0."""
    return bool((first == 7.0).all() and (second == -3.0).all())


def _check_gradients(trial: Trial, xs: Sequence[Any], dy: Any, rng: Any, suited: Callable[[Any], Any]) -> None:
    """Compare each gradient with differences along a random direction."""
    wanted: list[int | str] = [*range(len(xs)), *trial.node.params]
    for of in wanted:
        what = f"the parameter {of!r}" if isinstance(of, str) else f"the input{f' {of}' if len(xs) > 1 else ''}"
        for _ in range(POINTS):
            point = [suited(x + 0.1 * rng.standard_normal(x.shape)) for x in xs]
            trial.forward(point)
            dxs, gradients = trial.backward(dy)
            exact = dxs[of] if isinstance(of, int) else gradients[of]
            if isinstance(of, str) and (exact == 7.0).all():
                exact = exact * 0  # it writes none
            direction = rng.standard_normal(exact.shape)
            given, numeric = float((exact * direction).sum()), trial.slope(point, dy, of, direction)
            norms = float((exact**2).sum() * (direction**2).sum()) ** 0.5
            if abs(given - numeric) <= TOLERANCE * max(norms, abs(numeric)) + 1e-8:
                break
        else:
            raise trial.error(
                f"the gradient of {what} is wrong: along a random direction backward says {given:.6g}, differences"
                f" of forward say {numeric:.6g}"
            )
