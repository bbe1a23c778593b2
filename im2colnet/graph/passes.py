"""Passes over the graph, which join layers before the graph is planned."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import replace

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Graph
from im2colnet.parallel.state import stateless


def lowered(graph: Graph, backend: Backend, training: bool) -> Graph:
    """Return the graph as it is planned and run on a backend: two layers become one if one can do the work of both.

    Its nodes share the parameters and the state of the given graph's nodes. In training it has a node for each node of
    the given graph, in the same order.
    """
    return fused(settled(graph) if training else folded(graph), backend, training)


def settled(graph: Graph) -> Graph:
    """Return the graph for training, in which layers skip computations for frozen parameters or state.

    A layer that skips something is a copy. A layer that may keep its own state is not copied: it still writes gradients
    of frozen parameters, but nothing reads them.

    Raises
    ------
    ShapeError
        If a layer that is not copied uses sums over the batch and its running statistics are frozen: it would normalize
        with the batch's statistics instead.
    """
    if not graph.frozen:
        return graph
    found = Graph()
    found.outputs, found.size, found.frozen = graph.outputs, graph.size, graph.frozen
    for node in graph.nodes:
        layer = node.layer
        if node.frozen and layer.skips_frozen and layer.keeps_backward("skips_frozen") and stateless(layer):
            layer = copy(layer)
            layer.skipped = node.frozen
        elif layer.joins_batch(training=True) and node.frozen.intersection(layer.state()):
            raise ShapeError(
                f"layer {node.name!r}, {layer!r}, cannot be trained with frozen statistics: its class has its own"
                " backward pass, or does not have stateless = True"
            )
        found.nodes.append(replace(node, layer=layer))
    return found


def folded(graph: Graph) -> Graph:
    """Return the graph in evaluation mode: a layer and its only reader become one, if the layer can absorb it."""
    readers = _readers(graph)
    found, values = Graph(), {0: 0}  # the value of the new graph for each value of this graph
    for node in graph.nodes:
        x = node.inputs[0]
        before = graph.nodes[x - 1].layer if x and readers[x] == 1 and len(node.inputs) == 1 else None
        joined = before.absorb(node.layer) if before is not None and before.keeps("absorb") else None
        if joined is not None:
            into = found.nodes[values[x] - 1]
            into.layer, into.buffers = joined, node.params | node.buffers
            values[node.output] = into.output
        else:
            inputs = tuple(values[v] for v in node.inputs)
            found.nodes.append(replace(node, inputs=inputs, output=len(found.nodes) + 1))
            values[node.output] = len(found.nodes)
    found.outputs = tuple(values[v] for v in graph.outputs)
    return found


def fused(graph: Graph, backend: Backend, training: bool) -> Graph:
    """Return the graph in which a layer applies the elementwise function after it, its only reader, if it can."""
    readers = _readers(graph)
    found = Graph()
    found.outputs, found.size = graph.outputs, graph.size
    for node in graph.nodes:
        node = replace(node)
        found.nodes.append(node)
        x, layer = node.inputs[0], node.layer
        kind = layer.epilogue(training) if layer.keeps("epilogue") else None
        if backend.fuses(kind) and x and readers[x] == 1:
            producer = found.nodes[x - 1]
            if producer.layer.fuses and producer.layer.keeps("fuses"):
                producer.activation, node.fused = kind, True
    return found


def _readers(graph: Graph) -> Counter[int]:
    """Count the readers of each value: nodes, and the network's outputs."""
    return Counter([*(v for node in graph.nodes for v in node.inputs), *graph.outputs])
