"""Both passes through a graph in evaluation mode, with every value and its gradient in an array of its own.

Training has its own backward pass, which is planned, and in which values share memory. This one is for inspecting a
network: the input and output of a layer, and the gradients of a score by both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any

from im2colnet.engine import binding
from im2colnet.errors import LayerError, NonFiniteError
from im2colnet.graph.nodes import Graph, Node, locate
from im2colnet.graph.parameters import Parameters
from im2colnet.layers import Context, Layer, Needs
from im2colnet.layers.base import Scratch
from im2colnet.layout import channel_axis, channels, internal_shape
from im2colnet.memory import working
from im2colnet.types import Array

#: the gradients of a node's parameters, by the parameters' names in the layer
Gradients = Mapping[str, Array]


class Passes:
    """The values of a graph for some images in evaluation mode, and after :meth:`backward` their gradients.

    Batch norms use their running statistics, which do not depend on the images, and dropout does nothing. The outputs
    are the same as in :meth:`im2colnet.Network.predict`, except for rounding, since no layers are joined.

    Parameters
    ----------
    graph : Graph
        The parameters' graph, or a part of it.
    parameters : Parameters
    images : (N, ...) array of the host or of the backend
        The images. uint8 is scaled to [0, 1]; then the network's normalization is applied, if there is one.
    learning : str, optional
        The name of the node whose parameter gradients are computed. The parameter gradients of other nodes are left out
        if the layers allow it.

    Attributes
    ----------
    values : list of Array
        Every value of the graph, as the library stores it; value 0 is the images.
    gradients : list of Array or None
        The gradient of each value, after :meth:`backward`; None if nothing depends on the value.
    """

    def __init__(self, graph: Graph, parameters: Parameters, images: Any, learning: str | None = None) -> None:
        self.graph, self.backend, self._dtype = graph, parameters.backend, parameters.dtype
        self._parameters, self._learning = parameters, learning
        self.gradients: list[Any] = []
        self._steps: list[tuple[Node, Layer, Context, Needs]] = []
        with working(), self.backend.context(), self.backend.errstate():
            self.values = [self._load(images)]
            for node in graph.nodes:
                with locate(node):
                    self.values.append(self._forward(node))

    def _load(self, images: Any) -> Array:
        backend, given = self.backend, self.backend.asarray(images)
        x = backend.to_rows(given, out=self._empty(internal_shape(given.shape[1:], given.shape[0])))
        if given.dtype.kind == "f" and not backend.all_finite(x):
            raise NonFiniteError("the images hold NaN or infinity")
        normalization = self._parameters.normalization
        if normalization is not None:
            x -= self._of_channels(normalization.mean, x)
            x /= self._of_channels(normalization.std, x)
        return x

    def _of_channels(self, numbers: Sequence[float], x: Array) -> Array:
        shape = [-1 if axis == channel_axis(x.shape) else 1 for axis in range(x.ndim)]
        return self.backend.xp.asarray(numbers, dtype=x.dtype).reshape(shape)

    def _empty(self, shape: Sequence[int]) -> Array:
        return self.backend.empty(tuple(shape), self._dtype)

    def _settled(self, node: Node) -> Layer:
        """Return a layer in evaluation mode: it uses running statistics, as if they were frozen.

        It does not compute parameter gradients that are not needed.
        """
        layer = node.layer
        if not (layer.skips_frozen and layer.keeps_backward("skips_frozen")):
            return layer
        layer = copy(layer)
        unwanted = () if node.name == self._learning else layer.parameters()
        layer.skipped = frozenset((*layer.state(), *unwanted))
        return layer

    def _scratch(self, kernels: Scratch) -> dict[str, list[Array]]:
        return {kernel: [self.backend.empty(*spec) for spec in specs] for kernel, specs in kernels.items()}

    # ------------------------------------------------------------------ forward

    def _forward(self, node: Node) -> Array:
        layer, xs = self._settled(node), tuple(self.values[v] for v in node.inputs)
        y: Any = layer.output_shape(*(x.shape for x in xs))
        x: Any = xs[0].shape if len(xs) == 1 else tuple(x.shape for x in xs)
        needs = layer.needs(x, y, self._dtype, self.backend, False)
        if not needs.view:  # dropout is a view in evaluation alone; all others keep what their gradients need
            needs = layer.needs(x, y, self._dtype, self.backend, True)
        ctx = Context()
        ctx.backend, ctx.training, ctx.activation = self.backend, False, None
        ctx.xs, ctx.samples, ctx.key = xs, xs[0].shape[-1], (0, 0, 0, 0)
        ctx.params, ctx.buffers = node.params, node.buffers
        self._steps.append((node, layer, ctx, needs))
        if needs.view:
            ctx.y = xs[0].reshape(y)
            return ctx.y
        ctx.y, ctx.saved = self._empty(y), {name: self.backend.empty(*spec) for name, spec in needs.saved.items()}
        if layer.joins_batch(training=False):
            self._sum(layer.shard_sums, layer.batch_sums, needs.sums, ctx.x, ctx)
            ctx.sums = layer.join_sums([ctx.sums], [ctx.samples], ctx)
            layer.use_sums([ctx])
        ctx.scratch = self._scratch(needs.forward)
        binding.forward(layer, ctx, None)
        return ctx.y

    def _sum(
        self, write: Callable[[Array, Context], None], count: int, scratch: Scratch, x: Array, ctx: Context
    ) -> None:
        ctx.sums, ctx.scratch = self.backend.empty((count, channels(ctx.x.shape)), "float64"), self._scratch(scratch)
        write(x, ctx)

    # ------------------------------------------------------------------ backward

    def backward(self, gradients: Mapping[int, Array], flat: Array | None = None) -> list[Array]:
        """Compute the gradients of all values from given gradients; keys are the numbers of the values in the graph.

        Parameters
        ----------
        gradients : dict of int to Array
            As the library stores the values.
        flat : Array, optional
            A vector as long as the parameters, into which the parameter gradients of the learning node are written;
            zeros if nothing depends on them.

        Returns
        -------
        list of Array
            The gradients of the inputs of the learning node through this node only; the pass ends there. Empty without
            such a node.
        """
        with working(), self.backend.context(), self.backend.errstate():
            self.gradients = [None] * len(self.values)
            for value, gradient in gradients.items():
                self.gradients[value] = gradient
            flat = self.backend.empty(self._parameters.flat.shape, self._dtype) if flat is None else flat
            flat[...] = 0
            for node, layer, ctx, needs in reversed(self._steps):
                found = []
                if self.gradients[node.output] is not None:
                    with locate(node):
                        found = self._backward(node, layer, ctx, needs, flat)
                if node.name == self._learning:
                    return found or [self.backend.xp.zeros_like(x) for x in ctx.xs]
        return []

    def _backward(self, node: Node, layer: Layer, ctx: Context, needs: Needs, flat: Array) -> list[Array]:
        dy = self.gradients[node.output]
        if needs.view or needs.gradient_passes:
            found = [dy.reshape(x.shape) for x in ctx.xs]
        else:
            found = self._made(layer, ctx, needs, dy, self._parameters.views(node, flat))
        for value, gradient in zip(node.inputs, found, strict=True):
            before = self.gradients[value]
            self.gradients[value] = gradient if before is None else before + gradient
        return found

    def _made(self, layer: Layer, ctx: Context, needs: Needs, dy: Array, grads: Gradients) -> list[Array]:
        """Return the gradient of each input of a layer, and write the gradients of its parameters."""
        ctx.grads, ctx.dxs = MappingProxyType({**grads}), [self._empty(x.shape) for x in ctx.xs]
        if layer.joins_batch(training=False):
            self._sum(layer.shard_grad_sums, layer.batch_sums, needs.grad_sums, dy, ctx)
        elif layer.joins_batch(training=True):
            raise LayerError(
                "its backward pass is for training, with the sums of a batch: its gradient in evaluation mode is not"
                " known, unless its class has skips_frozen = True"
            )
        ctx.scratch = self._scratch(needs.backward)
        binding.backward(layer, ctx, binding.BackwardArrays(dy, dy, ctx.dxs, []), None)
        return ctx.dxs

    def of_images(self) -> Array:
        """Return the gradient of the images before normalization, as the library stores it.

        It is zero if nothing depends on the images.
        """
        found, normalization = self.gradients[0], self._parameters.normalization
        if found is None:
            found = self._empty(self.values[0].shape)
            found[...] = 0
        if normalization is not None:
            found = found / self._of_channels(normalization.std, found)
        return found
