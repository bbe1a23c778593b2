"""Checks of a layer of your own: is its gradient right, and does it keep to what a run relies on?

>>> import im2colnet as ic
>>> ic.testing.check_layer(ic.Conv2d(3, 4, 3, padding=1), (3, 6, 6))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import whole
from im2colnet.errors import LayerError, ShapeError
from im2colnet.graph.nodes import Node
from im2colnet.host import np
from im2colnet.layers import Context, Layer, Needs, Work
from im2colnet.layout import channels, internal_shape, user_shape
from im2colnet.network import Network
from im2colnet.plan import Plan
from im2colnet.testing.cases.base import State
from im2colnet.testing.inputs import Part, input_shape_of, network_of
from im2colnet.types import Array, run

__all__ = ["LayerError", "check_layer"]

POINTS = 3  # at which a gradient may be compared: near a kink, as of ReLU at 0, differences mean nothing
STEP = 1e-5  # of the differences
TOLERANCE = 1e-5  # of the norms


def check_layer(
    layer: Layer,
    input_shape: Sequence[Any],
    batch: int = 3,
    seed: int = 0,
    backend: str | Backend | None = None,
    expected: Callable[..., Any] | None = None,
) -> None:
    """Check a layer in float64, in training and in evaluation mode; of a network, each of its layers.

    The gradients of the input and of each parameter are compared with differences along random directions. ``forward``
    and ``backward`` must leave ``x``, ``dy``, the parameters and the state as they are, write all that they are to
    write, read nothing that ``needs`` does not ask for, do the same each time, give the shape that ``output_shape``
    says, and not let samples depend on each other (unless the layer ``couples`` them: then the result may not depend on
    how the batch is divided). Calls that are prepared must do what the plain ones do.

    Parameters
    ----------
    layer : Layer
        It is not changed.
    input_shape : tuple of int, or list of them
        Of one sample, such as (C, H, W) or (features,); of a layer with several inputs the list of their shapes.
    batch : int
        Samples, at least 2.
    seed : int
        Of the input, the parameters, and the directions.
    backend : str or Backend, optional
    expected : callable, optional
        ``expected(layer, state, *inputs)`` computes in float64 what ``forward`` must give for inputs (N, C, H, W) or
        (N, features), such as :attr:`im2colnet.testing.cases.LayerCase.forward`; ``state`` is a
        :class:`~im2colnet.testing.cases.State`.

    Raises
    ------
    LayerError
        Which is an AssertionError too: with the first thing that is wrong, and what to do about it.
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
    with net.backend.errstate():
        shapes = net.graph.shapes(internal_shape(sample, batch))
        for node in net.graph.nodes:
            if isinstance(node.layer, Part):
                continue
            samples = [_sample(shapes[v]) for v in node.inputs]
            for training in (True, False):
                _check(net, node, samples, training, batch, seed, expected if node.layer is layer else None)
        for training in (True, False):
            Plan(net.graph, internal_shape(sample, batch), "float64", net.backend, training)


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
) -> None:
    rng = np.random.default_rng(seed)
    for parameter in node.params.values():  # or what begins as 0 would hide what is wrong
        parameter[...] = net.backend.asarray(
            net.backend.to_numpy(parameter) + 0.1 * rng.standard_normal(parameter.shape)
        )
    trial = Trial(net, node, samples, training, [batch])
    xs = [rng.standard_normal(internal_shape(sample, batch)) for sample in samples]
    trial.check_forward(xs)
    if expected is not None:
        trial.check_expected(xs, expected)
    one, divided = trial.forward(xs), Trial(net, node, samples, training, [1, batch - 1])
    if not node.layer.couples or not training:
        other = [x.copy() for x in xs]
        for x in other:
            x[..., 0] = rng.standard_normal(x.shape[:-1])
        if not np.array_equal(trial.forward(other)[..., 1:], one[..., 1:]):
            raise trial.error(
                "forward lets a sample depend on the others of the batch, so that results depend on how a batch is"
                " divided into shards: a layer that joins samples must say so by `couples` (see BatchNorm2d)"
            )
    elif not np.allclose(divided.forward(xs), one, rtol=1e-9, atol=1e-9):
        raise trial.error(
            "the result depends on how the batch is divided into shards: forward must take its sums over the batch from"
            " ctx.sums, and ctx.samples for their number"
        )
    if not training:
        return
    dy = rng.standard_normal(one.shape)
    trial.check_backward(xs, dy)
    trial.check_gradients(xs, dy, rng)
    if node.layer.couples:
        divided.forward(xs)
        dxs, of_parameters = divided.backward(dy)
        trial.forward(xs)
        whole_dxs, whole_of = trial.backward(dy)
        pairs = [*zip(dxs, whole_dxs, strict=True), *((of_parameters[k], whole_of[k]) for k in whole_of)]
        if not all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs):
            raise trial.error("gradients depend on how the batch is divided into shards: take the sums from ctx.sums")
    trial.forward(xs)
    node.layer.finish_step(trial.shards[0])
    for key, state in node.buffers.items():
        if not net.backend.all_finite(state):
            raise trial.error(f"finish_step makes the state {key!r} infinite or NaN")


class Trial:
    """One layer on arrays of its own, called as a run calls it: what it may not read is NaN, what it may not change is
    compared with what it was.

    Parameters
    ----------
    net : Network
        Holds the parameters.
    node : Node
        The layer in its graph.
    samples : list of tuple of int
        Shape of one sample of each input.
    training : bool
    sizes : list of int
        Samples of each shard.
    """

    def __init__(
        self, net: Network, node: Node, samples: list[tuple[int, ...]], training: bool, sizes: list[int]
    ) -> None:
        self.net, self.node, self.samples, self.training, self.sizes = net, node, samples, training, sizes
        self.layer, self.backend = node.layer, net.backend
        self._flat = self.backend.empty(net.flat.shape, net.dtype)
        self._gradients = net.views(node, self._flat)
        self.needs: list[Needs] = []
        self.shards = [self._context(s, n) for s, n in enumerate(sizes)]

    def error(self, text: str) -> LayerError:
        """An error that names the layer."""
        mode = "training" if self.training else "evaluation"
        return LayerError(f"{self.layer!r}, input {self.samples[0]}, in {mode} mode: {text}")

    def _context(self, s: int, n: int) -> Context:
        backend, shapes = self.backend, [internal_shape(sample, n) for sample in self.samples]
        y = self.layer.output_shape(*shapes)
        if not isinstance(y, (tuple, list)) or len(y) < 2 or y[-1] != n:
            raise self.error(
                f"output_shape gives {y!r} for an input of {n} samples: expected rows (H, C, W, {n}) or ({'features'},"
                f" {n})"
            )
        x: Any = shapes[0] if len(shapes) == 1 else tuple(shapes)
        self.needs.append(needs := self.layer.needs(x, tuple(y), self.net.dtype, backend, self.training))
        if needs.view and (len(shapes) > 1 or prod(y) != prod(shapes[0])):
            raise self.error(f"needs says view, but an output of shape {tuple(y)} is no input {shapes[0]} reshaped")
        if needs.gradient_passes and any(shape != tuple(y) for shape in shapes):
            raise self.error(f"needs says gradient_passes, but the output's shape {tuple(y)} is not its input's")
        ctx = Context()
        ctx.backend, ctx.training, ctx.activation = backend, self.training, None
        ctx.xs = tuple(backend.empty(shape, self.net.dtype) for shape in shapes)
        ctx.y, ctx.dxs = backend.empty(tuple(y), self.net.dtype), [None] * len(shapes)
        ctx.params, ctx.buffers = self.node.params, self.node.buffers
        ctx.saved = {key: backend.empty(*spec) for key, spec in needs.saved.items()}
        ctx.samples, ctx.key, ctx.grads = sum(self.sizes), (1, 2, 3, s), MappingProxyType(self._gradients)
        return ctx

    def _scratch(self, kernels: Work) -> dict[str, list[Array]]:
        return {k: [self._spoiled(self.backend.empty(*spec)) for spec in specs] for k, specs in kernels.items()}

    @staticmethod
    def _spoiled(array: Array) -> Array:
        array[...] = float("nan") if array.dtype.kind == "f" else 1
        return array

    def _host(self, array: Array) -> Any:
        return self.backend.to_numpy(array).copy()

    def _kept(self) -> dict[str, Any]:
        """What no pass may change."""
        return {key: self._host(array) for key, array in (self.node.params | self.node.buffers).items()}

    def _unchanged(self, what: str, before: dict[str, Any]) -> None:
        for key, array in self._kept().items():
            if array.tobytes() != before[key].tobytes():
                where = "do that in finish_step" if key in self.node.buffers else "only the optimiser may"
                raise self.error(f"{what} changes {key!r} in place; {where}")

    # ------------------------------------------------------------------ the passes

    def forward(self, xs: Sequence[Any], over: bool = False) -> Any:
        """Output for the batch, on the host; ``over`` the first input's memory if asked for."""
        start = 0
        for ctx, size in zip(self.shards, self.sizes, strict=True):
            for array, x in zip(ctx.xs, xs, strict=True):
                array[...] = self.backend.asarray(np.ascontiguousarray(x[..., start : start + size]))
            start += size
            self._spoiled(ctx.y)
            for saved in ctx.saved.values():
                self._spoiled(saved)
        if self.layer.couples and self.training:
            parts = self._sums("partial_sums", [n.sums for n in self.needs], [ctx.x for ctx in self.shards])
            joined = self.layer.join_sums(parts, self.sizes, self.shards[0])
            for ctx in self.shards:
                ctx.sums = joined
        for ctx, needs in zip(self.shards, self.needs, strict=True):
            if needs.view:
                ctx.y[...] = ctx.x.reshape(ctx.y.shape)
                continue
            ctx.work, y = self._scratch(needs.forward), ctx.y
            if over:
                ctx.y = ctx.x
            self._deliver("forward", self.layer.forward(ctx.x, ctx), ctx.y)
            if over:
                y[...], ctx.y = ctx.y, y
        return np.concatenate([self._host(ctx.y) for ctx in self.shards], axis=-1)

    def _sums(self, method: str, kernels: Iterable[Work], arrays: Iterable[Array]) -> list[Array]:
        parts = []
        for ctx, work, array in zip(self.shards, kernels, arrays, strict=True):
            ctx.work = self._scratch(work)
            ctx.sums = self._spoiled(self.backend.empty((self.layer.couples, channels(ctx.x.shape)), "float64"))
            getattr(self.layer, method)(array, ctx)
            parts.append(ctx.sums)
        return parts

    def _deliver(self, what: str, result: Array, out: Array) -> None:
        if result is out:
            return
        if not self.backend.owns(result) or result.shape != out.shape:
            got = getattr(result, "shape", type(result).__name__)
            raise self.error(f"{what} returns {got}, expected an array of shape {out.shape}")
        out[...] = result

    def backward(self, dy: Any, fill: float = 7.0, over: bool = False, wanted: bool = True) -> tuple[list[Any], Any]:
        """Gradients of the inputs, and of the parameters by name, after :meth:`forward`.

        ``fill`` is what the parameters' gradients hold before, ``over`` says whether dx is to go over dy, ``wanted``
        whether anybody wants it. What ``needs`` does not keep is NaN.
        """
        start, dys, total = 0, [], dict.fromkeys(self._gradients, 0.0)
        for ctx, needs, size in zip(self.shards, self.needs, self.sizes, strict=True):
            dys.append(self.backend.asarray(np.array(dy[..., start : start + size], order="C")))
            start += size
            if not needs.input:
                for x in ctx.xs:
                    self._spoiled(x)
            if not needs.output:
                self._spoiled(ctx.y)
        self._flat[...] = fill
        if self.layer.couples:
            parts = []
            for ctx, needs, mine in zip(self.shards, self.needs, dys, strict=True):
                ctx.work = self._scratch(needs.grad_sums)
                ctx.sums = self._spoiled(self.backend.empty((self.layer.couples, channels(ctx.x.shape)), "float64"))
                self.layer.partial_grad_sums(mine, ctx)
                parts.append(self._host(ctx.sums))
                total = {key: total[key] + self._host(array) for key, array in self._gradients.items()}
            for ctx in self.shards:
                ctx.sums = self.backend.asarray(sum(parts))
        dxs: list[list[Any]] = [[] for _ in self.samples]
        for ctx, needs, mine in zip(self.shards, self.needs, dys, strict=True):
            if needs.view or needs.gradient_passes:
                for position, x in enumerate(ctx.xs):
                    dxs[position].append(self._host(mine.reshape(x.shape)))
                continue
            before, ctx.work = self._host(mine), self._scratch(needs.backward)
            if not wanted:
                ctx.dxs = [None] * len(ctx.xs)
            elif over:
                ctx.dxs = [mine]
            else:
                ctx.dxs = [self._spoiled(self.backend.empty(x.shape, self.net.dtype)) for x in ctx.xs]
            result = self.layer.backward(mine, ctx)
            results = result if len(ctx.xs) > 1 and isinstance(result, (tuple, list)) else [result]
            if wanted and len(results) != len(ctx.xs):
                raise self.error(f"backward returns {len(results)} gradients for {len(ctx.xs)} inputs")
            for position, dx in enumerate(ctx.dxs if wanted else []):
                self._deliver("backward", results[position], dx)
                dxs[position].append(self._host(dx))
            if not over and self._host(mine).tobytes() != before.tobytes():
                raise self.error(
                    "backward changes dy in place, which other layers may read: make a new array, or write to ctx.dx"
                )
            if not self.layer.couples:
                total = {key: total[key] + self._host(array) for key, array in self._gradients.items()}
        return [np.concatenate(parts, axis=-1) for parts in dxs if parts], total

    # ------------------------------------------------------------------ what is checked

    def check_forward(self, xs: Sequence[Any]) -> None:
        """Check that it is repeatable, writes all, and changes nothing else."""
        before = self._kept()
        y = self.forward(xs)
        self._unchanged("forward", before)
        for array, x in zip(self.shards[0].xs, xs, strict=True):
            if self._host(array).tobytes() != np.ascontiguousarray(x).tobytes():
                raise self.error(
                    "forward changes its input in place, which other layers may read: make a new array, or"
                    " write to ctx.y"
                )
        if not np.isfinite(y).all():
            raise self.error(
                "forward gives NaN or infinity for normal numbers: it leaves a part of ctx.y as it was, or reads"
                " scratch or saved arrays before they are written"
            )
        if self.forward(xs).tobytes() != y.tobytes():
            raise self.error(
                "forward does not give the same result for the same input: random numbers must come from ctx.key, as in"
                " ctx.backend.random(ctx.key, out=...), and nothing may be kept from one call to the next"
            )
        if self.needs[0].inplace and self.forward(xs, over=True).tobytes() != y.tobytes():
            raise self.error("needs says inplace, but the output is another one where ctx.y is the input's own memory")
        if not self.needs[0].view:
            self._check_prepared("forward", self.shards[0].x, self.shards[0].y, lambda: self.forward(xs), y)

    def check_expected(self, xs: Sequence[Any], expected: Callable[..., Any]) -> None:
        """Compare the output with what it must be; None says nothing."""
        arrays = {key: self._host(array) for key, array in (self.node.params | self.node.buffers).items()}
        wanted = expected(self.layer, State(arrays, self.training), *map(_user_array, xs))
        if wanted is None:
            return
        y = _user_array(self.forward(xs))
        if y.shape != wanted.shape:
            raise self.error(f"forward gives an output of shape {y.shape}, expected {wanted.shape}")
        difference = float(np.abs(y - wanted).max(initial=0))
        if not difference <= 1e-9 * (1 + float(np.abs(wanted).max(initial=0))):
            raise self.error(f"forward gives an output that is wrong by {difference:.6g}")

    def _check_prepared(self, what: str, given: Array, out: Array, plain: Callable[[], Any], expected: Any) -> None:
        """Calls that are prepared while ``given`` holds other numbers must give what the plain ones do, twice."""
        names = what, f"prepare_{what}"
        definer = next(base for base in type(self.layer).__mro__ if any(name in vars(base) for name in names))
        if definer is Layer or f"prepare_{what}" not in vars(definer):
            return
        ctx, needs = self.shards[0], self.needs[0]
        plain()
        ctx.work = self._scratch(needs.forward if what == "forward" else needs.backward)
        numbers = self._host(given)
        given[...] = 1
        calls = list(getattr(self.layer, f"prepare_{what}")(given, ctx))
        given[...] = self.backend.asarray(numbers)
        for _ in range(2):
            self._spoiled(out)
            run(calls)
            if self._host(out).tobytes() != expected.tobytes():
                raise self.error(
                    f"the calls that prepare_{what} returns do not do what {what} does: they must read their arrays"
                    " each time they are made, and write the result to the context's"
                )

    def check_backward(self, xs: Sequence[Any], dy: Any) -> None:
        """Check the same of backward, and that gradients of parameters are written and not added."""

        def again(**options: Any) -> tuple[list[Any], Any]:
            self.forward(xs)
            return self.backward(dy, **options)

        before = self._kept()
        dxs, of = again()
        self._unchanged("backward", before)
        needs, ctx = self.needs[0], self.shards[0]
        passes = needs.view or needs.gradient_passes
        if needs.input and not passes:
            for array, x in zip(ctx.xs, xs, strict=True):
                if self._host(array).tobytes() != np.ascontiguousarray(x).tobytes():
                    raise self.error("backward changes the layer's input ctx.x in place, which other layers may read")
        if not all(np.isfinite(a).all() for a in (*dxs, *of.values())):
            raise self.error(
                "backward gives NaN or infinity: it leaves a part of ctx.dx as it was, or reads what needs says that it"
                f" does not (input={needs.input}, output={needs.output}), or scratch that is not written yet"
            )
        others = {"": again(fill=-3.0)}
        if needs.inplace and not passes:
            others["if dx is dy's own memory"] = again(fill=-3.0, over=True)
        if self.node.params and not passes:  # else the layer is not asked
            others["if nobody wants dx"] = again(fill=-3.0, wanted=False)
        for how, (other, of_other) in others.items():
            for dx, mine in zip(other, dxs, strict=False):
                if dx.tobytes() != mine.tobytes():
                    raise self.error(f"backward does not give the same gradient of the input each time {how}".rstrip())
            for key, gradient in of_other.items():
                same = np.allclose(gradient, of[key], rtol=1e-9, atol=1e-9)  # it may be made in another way
                if not same and not self._unwritten(of[key], gradient):
                    raise self.error(
                        f"backward does not write ctx.grads[{key!r}], the same each time, but adds to it, or leaves a"
                        f" part of it as it was {how}".rstrip()
                    )
        if not passes and not self.layer.couples:
            self.forward(xs)
            given = self.backend.asarray(np.ascontiguousarray(dy))
            made = [self.backend.empty(x.shape, self.net.dtype) for x in ctx.xs]
            dx = made[0]

            def plain() -> None:
                again()
                ctx.dxs = made

            self._check_prepared("backward", given, dx, plain, dxs[0])

    @staticmethod
    def _unwritten(first: Any, second: Any) -> bool:
        """Whether a gradient was left as it was before, which a run takes for 0."""
        return bool((first == 7.0).all() and (second == -3.0).all())

    def check_gradients(self, xs: Sequence[Any], dy: Any, rng: Any) -> None:
        """Compare each gradient with differences along a random direction."""
        wanted: list[int | str] = [*range(len(xs)), *self.node.params]
        for of in wanted:
            what = f"the parameter {of!r}" if isinstance(of, str) else f"the input{f' {of}' if len(xs) > 1 else ''}"
            for _ in range(POINTS):
                point = [x + 0.1 * rng.standard_normal(x.shape) for x in xs]
                self.forward(point)
                dxs, gradients = self.backward(dy)
                exact = dxs[of] if isinstance(of, int) else gradients[of]
                if isinstance(of, str) and (exact == 7.0).all():
                    exact = exact * 0  # it writes none
                direction = rng.standard_normal(exact.shape)
                given, numeric = float((exact * direction).sum()), self._slope(point, dy, of, direction)
                norms = float((exact**2).sum() * (direction**2).sum()) ** 0.5
                if abs(given - numeric) <= TOLERANCE * max(norms, abs(numeric)) + 1e-8:
                    break
            else:
                raise self.error(
                    f"the gradient of {what} is wrong: along a random direction backward says {given:.6g}, differences"
                    f" of forward say {numeric:.6g}"
                )

    def _slope(self, xs: Sequence[Any], dy: Any, of: int | str, direction: Any) -> float:
        """Derivative of <dy, y> along a direction of an input or a parameter, by differences of the fourth order."""
        parameter = None if isinstance(of, int) else self.node.params[of]
        start = None if parameter is None else self._host(parameter)

        def value(t: float) -> float:
            moved = list(xs)
            if isinstance(of, int):
                moved[of] = xs[of] + t * direction
            else:
                parameter[...] = self.backend.asarray(start + t * direction)  # type: ignore[index]
            return float((dy * self.forward(moved)).sum())

        h = STEP
        try:
            return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
        finally:
            if parameter is not None:
                parameter[...] = self.backend.asarray(start)
