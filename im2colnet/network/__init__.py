"""Networks: layers that form a static graph, with all their parameters in one flat vector."""

from im2colnet.graph.nodes import Graph, Node, locate
from im2colnet.layout import internal_shape, user_shape
from im2colnet.network.blocks import SeparableConv2d, SqueezeExcitation
from im2colnet.network.containers import Net, Residual, Sequential
from im2colnet.network.network import Network

__all__ = [
    "Graph",
    "Net",
    "Network",
    "Node",
    "Residual",
    "SeparableConv2d",
    "Sequential",
    "SqueezeExcitation",
    "internal_shape",
    "locate",
    "user_shape",
]
