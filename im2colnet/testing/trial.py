"""One layer, called as in training, so that its errors are detected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from types import MappingProxyType
from typing import Any

from im2colnet.errors import LayerError
from im2colnet.graph.nodes import Node
from im2colnet.host import np
from im2colnet.layers import Context, Needs
from im2colnet.layers.base import Scratch
from im2colnet.layout import channels, internal_shape
from im2colnet.network import Network
from im2colnet.types import Array, Shape, Spec

#: step of the differences that gradients are compared with
STEP = 1e-5
WHOLE = slice(None)


class Trial:
    """One layer on its own arrays, called as in training.

    Arrays that it must not read hold NaN, and arrays that it must not change are compared with copies.

    Parameters
    ----------
    net : Network
        Holds the parameters.
    node : Node
        The layer in its graph.
    samples : list of tuple of int
        The shape of one sample of each input.
    training : bool
    sizes : list of int
        The number of samples of each shard.
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
            raise self.error(f"needs says view, but an output of shape {tuple(y)} is not a reshaped input {shapes[0]}")
        if needs.gradient_passes and any(shape != tuple(y) for shape in shapes):
            raise self.error(f"needs says gradient_passes, but the output's shape {tuple(y)} is not the input's shape")
        ctx = Context()
        ctx.backend, ctx.training, ctx.activation = backend, self.training, None
        ctx.xs = tuple(backend.empty(shape, self.net.dtype) for shape in shapes)
        ctx.y, ctx.dxs = backend.empty(tuple(y), self.net.dtype), [None] * len(shapes)
        ctx.params, ctx.buffers = self.node.params, self.node.buffers
        ctx.saved = {key: backend.empty(*spec) for key, spec in needs.saved.items()}
        ctx.samples, ctx.key, ctx.grads = sum(self.sizes), (1, 2, 3, s), MappingProxyType(self._gradients)
        return ctx

    def scratch(self, kernels: Scratch) -> dict[str, list[Array]]:
        """Scratch for the kernels, which holds nothing yet."""
        return {k: [self.spoil(self.backend.empty(*spec)) for spec in specs] for k, specs in kernels.items()}

    @staticmethod
    def spoil(array: Array) -> Array:
        """Fill an array with values that must not be read."""
        array[...] = float("nan") if array.dtype.kind == "f" else 1
        return array

    def is_spoiled(self, array: Array) -> bool:
        """Whether an array of floating-point numbers was not written to since it was spoiled."""
        return bool(array.dtype.kind == "f" and np.isnan(self.host(array)).all() and prod(array.shape))

    @contextmanager
    def allocating(self) -> Iterator[list[Spec]]:
        """Return a context that records the allocations of the backend."""
        empty, made = self.backend.empty, []

        def noted(shape: Shape, dtype: str) -> Array:
            made.append(Spec(tuple(shape), dtype))
            return empty(shape, dtype)

        vars(self.backend)["empty"] = noted
        try:
            yield made
        finally:
            del vars(self.backend)["empty"]

    def host(self, array: Array) -> Any:
        """A copy of an array, on the host."""
        return self.backend.to_numpy(array).copy()

    def kept(self) -> dict[str, Any]:
        """Return copies of the arrays that no pass may change."""
        return {key: self.host(array) for key, array in (self.node.params | self.node.buffers).items()}

    def check_unchanged(self, what: str, before: dict[str, Any]) -> None:
        """Raise an error if a pass has changed what :meth:`kept` returned before it."""
        for key, array in self.kept().items():
            if array.tobytes() != before[key].tobytes():
                where = (
                    "change state in finish_step"
                    if key in self.node.buffers
                    else "only the optimizer may change parameters"
                )
                raise self.error(f"{what} changes {key!r} in place; {where}")

    # ------------------------------------------------------------------ the passes

    def forward(self, xs: Sequence[Any], order: slice = WHOLE, over: bool = False) -> Any:
        """Output for the batch, on the host; ``over`` the first input's memory if asked for.

        ``order`` is the order in which the shards are computed.
        """
        for array, x in zip(zip(*(ctx.xs for ctx in self.shards), strict=True), xs, strict=True):
            for mine, part in zip(array, self._divided(x), strict=True):
                mine[...] = self.backend.asarray(np.ascontiguousarray(part))
        for ctx in self.shards:
            for made in (ctx.y, *ctx.saved.values()):
                self.spoil(made)
        if self.layer.joins_batch(self.training):
            parts = [
                self._sums_of(self.layer.shard_sums, needs.sums, ctx.x, ctx)
                for ctx, needs in zip(self.shards, self.needs, strict=True)
            ]
            joined = self.layer.join_sums(parts, self.sizes, self.shards[0])
            for ctx in self.shards:
                ctx.sums = joined
            self.layer.use_sums(self.shards)
        for ctx, needs in list(zip(self.shards, self.needs, strict=True))[order]:
            if self.layer.step_sums and self.training:
                ctx.step_sums = self._empty_sums(self.layer.step_sums, ctx)
            if needs.view:
                ctx.y[...] = ctx.x.reshape(ctx.y.shape)
                continue
            ctx.scratch, y = self.scratch(needs.forward), ctx.y
            if over:
                ctx.y = ctx.x
            self._deliver("forward", self.layer.forward(ctx.x, ctx), ctx.y)
            if over:
                y[...], ctx.y = ctx.y, y
            for array in (array for arrays in ctx.scratch.values() for array in arrays):
                self.spoil(array)  # a run gives this memory to others
        return np.concatenate([self.host(ctx.y) for ctx in self.shards], axis=-1)

    def _divided(self, array: Any) -> list[Any]:
        """The shards' parts of an array of the whole batch."""
        return np.split(array, np.cumsum(self.sizes)[:-1], axis=-1)

    def _sums_of(self, method: Callable[[Array, Context], None], scratch: Scratch, array: Array, ctx: Context) -> Array:
        """Return the sums that a layer with ``batch_sums`` makes of one shard."""
        ctx.scratch = self.scratch(scratch)
        ctx.sums = self._empty_sums(self.layer.batch_sums, ctx)
        method(array, ctx)
        return ctx.sums

    def _empty_sums(self, count: int, ctx: Context) -> Array:
        return self.spoil(self.backend.empty((count, channels(ctx.x.shape)), "float64"))

    def step_sums(self) -> Any:
        """Return the sums of the whole batch that a layer with ``step_sums`` has made of its shards, on the host."""
        return sum(self.host(ctx.step_sums) for ctx in self.shards)

    def _deliver(self, what: str, result: Array, out: Array) -> None:
        if result is out:
            return
        if not self.backend.owns(result) or result.shape != out.shape:
            got = getattr(result, "shape", type(result).__name__)
            where = "y" if what == "forward" else "dx"
            raise self.error(
                f"{what} returns {got}, expected an array of shape {out.shape}: return ctx.{where} after writing it,"
                " or an array of that shape"
            )
        out[...] = result

    def backward(self, dy: Any, fill: float = 7.0, over: bool = False, wanted: bool = True) -> tuple[list[Any], Any]:
        """Gradients of the inputs, and of the parameters by name, after :meth:`forward`.

        ``fill`` is the content of the parameters' gradients before, ``over`` says whether dx overwrites dy, and
        ``wanted`` whether dx is needed. Arrays that ``needs`` does not keep hold NaN.
        """
        dys = [self.backend.asarray(np.array(part, order="C")) for part in self._divided(dy)]
        for ctx, needs in zip(self.shards, self.needs, strict=True):
            for array in (*ctx.xs * (not needs.input), *(ctx.y,) * (not needs.output)):
                self.spoil(array)
        self._flat[...] = fill
        totals = dict.fromkeys(self._gradients, 0.0)
        if self.layer.batch_sums:
            parts = []
            for ctx, needs, mine in zip(self.shards, self.needs, dys, strict=True):
                parts.append(self.host(self._sums_of(self.layer.shard_grad_sums, needs.grad_sums, mine, ctx)))
                self._add_gradients(totals)
            for ctx in self.shards:
                ctx.sums = self.backend.asarray(sum(parts))
        found = []
        for ctx, needs, mine in zip(self.shards, self.needs, dys, strict=True):
            if needs.view or needs.gradient_passes:
                found.append([self.host(mine.reshape(x.shape)) for x in ctx.xs])
                continue
            found.append(self._backward_of(ctx, needs, mine, over, wanted))
            if not self.layer.batch_sums:
                self._add_gradients(totals)
        return [np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True)], totals

    def _backward_of(self, ctx: Context, needs: Needs, dy: Array, over: bool, wanted: bool) -> list[Any]:
        """Gradients of the inputs of one shard."""
        before, ctx.scratch = self.host(dy), self.scratch(needs.backward)
        if not wanted:
            ctx.dxs = [None] * len(ctx.xs)
        elif over:
            ctx.dxs = [dy]
        else:
            ctx.dxs = [self.spoil(self.backend.empty(x.shape, self.net.dtype)) for x in ctx.xs]
        result = self.layer.backward(dy, ctx)
        results = result if len(ctx.xs) > 1 and isinstance(result, (tuple, list)) else [result]
        if wanted and len(results) != len(ctx.xs):
            raise self.error(f"backward returns {len(results)} gradients for {len(ctx.xs)} inputs")
        dxs = list(zip(results, ctx.dxs, strict=True)) if wanted else []
        for given, dx in dxs:
            self._deliver("backward", given, dx)
        found = [self.host(dx) for _, dx in dxs]
        if not over and self.host(dy).tobytes() != before.tobytes():
            raise self.error(
                "backward changes dy in place, which other layers may read: make a new array, or write to ctx.dx"
            )
        return found

    def _add_gradients(self, totals: dict[str, Any]) -> None:
        """Add the parameter gradients that a shard has written."""
        for key, array in self._gradients.items():
            totals[key] = totals[key] + self.host(array)

    def slope(self, xs: Sequence[Any], dy: Any, of: int | str, direction: Any) -> float:
        """Derivative of <dy, y> along a direction of an input or a parameter, by differences of the fourth order."""
        parameter = None if isinstance(of, int) else self.node.params[of]
        start = None if parameter is None else self.host(parameter)

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
