"""Passes over the graph: what is joined before it is planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import prod
from operator import setitem
from typing import ClassVar, cast

from im2colnet.backend import Backend
from im2colnet.graph.nodes import Graph, Node
from im2colnet.layers import Band, BatchNorm2d, Context, Conv2d, Layer, Needs, ReLU
from im2colnet.types import Array, Call, Choice, Shape, Spec, accumulator


def fuse(graph: Graph) -> None:
    """Let a layer that can apply the ReLU after it do so, where nothing else reads its output."""
    readers = Counter(v for node in graph.nodes for v in node.inputs)
    for node in graph.nodes:
        producer = graph.nodes[node.inputs[0] - 1] if node.inputs[0] else None
        # a subclass with a forward of its own need not know of it
        if producer and vars(type(producer.layer)).get("fuses_relu") and type(node.layer) is ReLU:
            node.fused = producer.relu = readers[producer.output] == 1


def evaluated(source: Graph) -> Graph:
    """The graph in evaluation mode: a convolution and the batch norm that alone reads it are one layer."""
    readers = Counter(v for node in source.nodes for v in node.inputs)
    graph, values = Graph(), {0: 0}  # of this one, and which of the new one they are
    for node in source.nodes:
        x = node.inputs[0]
        before = source.nodes[x - 1].layer if x and readers[x] == 1 else None
        if type(before) is Conv2d and type(node.layer) is BatchNorm2d:
            joined = graph.nodes[values[x] - 1]
            joined.layer = NormalizedConv2d(before, node.layer)
            joined.buffers = node.params | node.buffers
            values[node.output] = joined.output
        else:
            inputs = tuple(values[v] for v in node.inputs)
            graph.nodes.append(
                Node(node.layer, node.name, inputs, len(graph.nodes) + 1, params=node.params, buffers=node.buffers)
            )
            values[node.output] = len(graph.nodes)
    fuse(graph)
    return graph


class NormalizedConv2d(Layer):
    """A convolution and the batch norm that follows it, in evaluation mode, where the graph joins them.

    ``a·(w * x + b) + c = (a·w) * x + (a·b + c)``: the weight is normalised, not the images, unless it is the larger.
    Its parameters are the convolution's, its state is parameters and state of the batch norm.
    """

    fuses_relu: ClassVar[bool] = True

    def __init__(self, conv: Conv2d, norm: BatchNorm2d) -> None:
        self.conv, self.norm = conv, norm

    def output_shape(self, x: Shape) -> Shape:
        return self.norm.output_shape(self.conv.output_shape(x))

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        conv = self.conv.needs(x, y, dtype, backend, training).forward
        weight = self.conv.parameters()["weight"].shape
        if prod(weight) > prod(y):
            return Needs(forward=conv | self.norm.needs(y, y, dtype, backend, training).forward)
        stored = tuple(weight[axis] for axis in backend.weight_order)
        return Needs(forward={"conv2d": [*conv["conv2d"], Spec(stored, dtype)]})

    def flops(self, x: Shape, y: Shape) -> int:
        return self.conv.flops(x, y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return self.conv.algorithm(x, y, dtype, backend)

    def band(self, rows: slice, x: Shape) -> Band:
        found = self.conv.band(rows, x)
        return found and (NormalizedConv2d(cast(Conv2d, found[0]), self.norm), found[1])

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        conv, w, b, y, work = self.conv, ctx.params["weight"], ctx.params.get("bias"), ctx.y, ctx.work["conv2d"]
        window = conv.window, conv.groups
        line = ctx.backend.empty((2, conv.out_channels), accumulator(x.dtype.name))
        a, c = line[0], line[1]
        if "channel_affine" in ctx.work:
            yield partial(self._write_line, ctx, None, line)
            yield from ctx.backend.prepare("conv2d", x, w, b, *window, relu=False, out=y, work=work)
            affine = ctx.work["channel_affine"]
            yield from ctx.backend.prepare("channel_affine", y, a, c, relu=ctx.relu, out=y, work=affine)
            return
        *work, stored = work
        order = ctx.backend.weight_order
        stored = stored.transpose([order.index(axis) for axis in range(4)])
        yield partial(self._write_line, ctx, b, line)
        if w.dtype == a.dtype:
            yield partial(ctx.xp.multiply, w, a[:, None, None, None], stored)
        else:
            yield lambda: setitem(stored, ..., w * a[:, None, None, None])
        yield from ctx.backend.prepare("conv2d", x, stored, c, *window, relu=ctx.relu, out=y, work=work)

    def _write_line(self, ctx: Context, b: Array | None, line: Array) -> None:
        """Write a and c into ``line`` (2, C), with a bias ``b`` of the convolution a and a·b + c."""
        line[0], line[1] = self.norm.running_line(ctx.buffers, ctx.buffers, ctx.xp)
        if b is not None:
            line[1] += line[0] * b
