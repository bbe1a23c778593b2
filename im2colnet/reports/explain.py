"""The explanation of a layer: what it does with one image, with real numbers.

Here ``K = C/G·KH·KW`` is the number of rows of the lowered matrix of a group of channels, ``F`` the number of filters,
``G`` the number of groups, and ``P = OH·OW`` the number of positions of the window.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from im2colnet.arrays import check_image_type, host_array
from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import whole
from im2colnet.engine.passes import Passes
from im2colnet.errors import ShapeError
from im2colnet.files import replace_file
from im2colnet.graph.choosing import similar
from im2colnet.graph.nodes import Graph, Node
from im2colnet.graph.parameters import Parameters
from im2colnet.host import np
from im2colnet.layers import AvgPool2d, ConvTranspose2d, Layer, LPPool2d, MatMul
from im2colnet.layers.activation import AlongAxis
from im2colnet.layers.pooling import AdaptiveMaxPool2d, MaxPool2d, Reduction
from im2colnet.layout import internal_axes, internal_shape, user_axes
from im2colnet.network import Network, Sequential
from im2colnet.reports.windows import OUTSIDE, WindowFacts, gather, scatter, windows_of
from im2colnet.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: the kind of a layer, by the module of its class in im2colnet.layers
KINDS = {
    "convolution": "convolution",
    "pooling": "pooling",
    "linear": "linear",
    "activation": "elementwise",
    "dropout": "elementwise",
    "normalization": "normalization",
    "shaping": "shape",
    "merging": "merging",
}
FORMULAS = {
    "Conv2d": "y = w · im2col(x) + b",
    "ConvTranspose2d": "y = col2im(wᵀ · x) + b",
    "Linear": "y = W · x + b",
    "MaxPool2d": "y = the largest number of each window",
    "AdaptiveMaxPool2d": "y = the largest number of each window",
    "AvgPool2d": "y = the mean of each window",
    "AdaptiveAvgPool2d": "y = the mean of each window",
    "GlobalAvgPool2d": "y = the mean of each channel",
    "LPPool2d": "y = (Σ x^p)^(1/p) of each window",
    "BatchNorm": "y = weight · (x - running mean) / √(running variance + eps) + bias, for each channel",
    "Dropout": "y = x (in training some numbers are set to zero)",
}
#: a JSON file has the lowered matrix if the matrix has at most this many numbers
MOST_IN_JSON = 1_000_000


class Score(NamedTuple):
    """The number whose gradient an explanation shows.

    Attributes
    ----------
    name : str
        Such as "class 3".
    value : float
    place : tuple of int
        Its index in the network's output for one image.
    """

    name: str
    value: float
    place: tuple[int, ...]


@dataclass(repr=False, eq=False)
class Explanation:
    """The numbers of a layer for one image, as NumPy arrays of float64: the result of :func:`im2colnet.explain`.

    ``str(explanation)`` is a text for a terminal. :meth:`plot` draws a picture. :meth:`save` writes the text, the
    picture or an interactive page to a file.

    Parameters
    ----------
    layer : str
        The layer's name.
    kind : str
        "convolution", "transposed convolution", "pooling", "linear", "elementwise", "normalization", "shape",
        "merging" or "other".
    title : str
        The layer with its arguments, such as "Conv2d(1, 8, 3, padding=1)".
    formula : str
        The formula of the layer, in one line.
    inputs : list of (C, H, W), (C, L) or (features,) arrays
        The inputs of the layer. For the first layer it is the image, after the network has scaled and normalized it.
    output : array
        The output of the layer.
    score : Score
        The number that is differentiated: its name, its value, and its index in the network's output.
    doutput : array
        The gradient of the score with respect to the layer's output.
    dinputs : list of arrays
        The gradients of the score with respect to the layer's inputs, through this layer only.
    parameters : dict of str to array
        The layer's parameters, with PyTorch's names.
    gradients : dict of str to array
        The gradients of the score with respect to the parameters.
    state : dict of str to array
        The layer's state, such as running statistics.
    flops : int
        Floating-point operations of the forward pass for this image.
    window : WindowFacts or None
        How the window of a convolution or a pooling slides.
    sources : (KH·KW, P) array of int, or None
        The index ``h·W + w`` of the pixel in each row of the lowered matrix of a channel, for each position of the
        window; -1 outside the image. For a transposed convolution it is the output pixel to which the number is added.
    weight : (G, F/G, K) array, or (out_features, in_features), or None
        The weight, as the matrix in the product. For a transposed convolution it has the shape (G, C/G, K): the weight
        of the convolution whose gradient the layer computes.
    bias : array or None
        The layer's bias.
    made_by : Layer
        The layer itself.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> seen = ic.explain(net, 0, test.images[0])
    >>> seen.columns.shape, seen.dcolumns.shape
    ((1, 9, 36), (1, 9, 36))
    >>> dx = seen.fold(seen.dcolumns)  # col2im: the input's gradient
    >>> print(abs(dx - seen.dinputs[0]).max() < 1e-12)
    True
    >>> seen.save("layer.html")  # to open in a browser
    """

    layer: str
    kind: str
    title: str
    formula: str
    inputs: list[Array]
    output: Array
    score: Score
    doutput: Array
    dinputs: list[Array]
    parameters: dict[str, Array]
    gradients: dict[str, Array]
    state: dict[str, Array] = field(default_factory=dict)
    flops: int = 0
    window: WindowFacts | None = None
    sources: Any = None
    weight: Any = None
    bias: Any = None
    made_by: Any = None

    # ------------------------------------------------------------------ what is made of these

    @cached_property
    def columns(self) -> Any:
        """The lowered matrix: im2col of the input, (G, K, P) for a convolution, (C, KH·KW, P) for pooling.

        Padding is 0, or -inf in max pooling. For a transposed convolution it is ``wᵀ · x``, from which col2im makes the
        output. It is None for a layer without a window.
        """
        if self.window is None:
            return None
        if self.kind == "transposed convolution":
            return np.einsum("gck,gcp->gkp", self.weight, self._of_groups(self.inputs[0]))
        columns = gather(self.as_image(self.inputs[0]), self.sources, -np.inf if self.takes_maximum else 0.0)
        return columns if self.weight is None else columns.reshape(len(self.weight), -1, columns.shape[-1])

    @cached_property
    def dcolumns(self) -> Any:
        """The gradient of the score with respect to the lowered matrix, in the same shape.

        For a convolution it is ``wᵀ · doutput``; col2im of it is the input's gradient. For a transposed convolution it
        is im2col of ``doutput``; the input's gradient is ``w`` times it.
        """
        if self.window is None:
            return None
        if self.kind == "transposed convolution":
            columns = gather(self.as_image(self.doutput), self.sources)
            return columns.reshape(*self.columns.shape)
        if self.weight is not None:
            return np.einsum("gfk,gfp->gkp", self.weight, self._of_groups(self.doutput))
        return self.shares_of_windows * self.as_image(self.doutput).reshape(len(self.output), 1, -1)

    @cached_property
    def picked(self) -> Any:
        """The row of the lowered matrix with the (first) maximum of each window, (C, P), in max pooling; else None."""
        return self.columns.argmax(axis=1) if self.takes_maximum else None

    @cached_property
    def shares_of_windows(self) -> Any:
        """The derivative of each pooling output by each number of its window, (C, KH·KW, P); None for other layers."""
        if self.kind != "pooling":
            return None
        rows, inside = np.arange(len(self.sources)), self.sources != OUTSIDE
        if self.takes_maximum:
            return (self.picked[:, None] == rows[:, None]) * inside.astype(float)
        if isinstance(self.made_by, LPPool2d):
            p, y = self.made_by.norm_type, self.as_image(self.output).reshape(len(self.output), 1, -1)
            with np.errstate(divide="ignore", invalid="ignore"):
                slopes = (self.columns / y) ** (p - 1) * (len(rows) / inside.sum(axis=0))
            return np.where(inside & (y != 0), slopes, 0.0)
        return np.broadcast_to(inside / np.maximum(self.divisors, 1), (len(self.inputs[0]), *inside.shape))

    @cached_property
    def divisors(self) -> Any:
        """The divisor of the sum of each window in average pooling, (P,); None for other layers."""
        if self.kind != "pooling" or self.takes_maximum or isinstance(self.made_by, LPPool2d):
            return None
        layer, inside = self.made_by, (self.sources != OUTSIDE).sum(axis=0)
        if not isinstance(layer, AvgPool2d):
            return inside
        if layer.divisor_override is not None:
            return np.full(inside.shape, layer.divisor_override)
        down, across = layer.window.counts(self.image_size, layer.count_include_pad)
        return np.multiply.outer(down, across).ravel()

    @property
    def takes_maximum(self) -> bool:
        """Whether the layer is a max pooling."""
        return self.kind == "pooling" and isinstance(self.made_by, (MaxPool2d, AdaptiveMaxPool2d))

    @cached_property
    def reads(self) -> Any:
        """How often the windows read each pixel, (H, W); None for a layer without a window.

        For a transposed convolution, the number of values that are added to each pixel of the output.
        """
        if self.window is None:
            return None
        size = self.output_image_size if self.kind == "transposed convolution" else self.image_size
        inside = self.sources[self.sources != OUTSIDE]
        return np.bincount(inside, minlength=prod(size)).reshape(size)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input; a sequence is an image of one row."""
        _, H, W = self.as_image(self.inputs[0]).shape
        return H, W

    @property
    def output_image_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        _, OH, OW = self.as_image(self.output).shape
        return OH, OW

    def fold(self, columns: Any) -> Array:
        """Return col2im of a matrix in the shape of :attr:`columns`: its numbers are added to the pixels of an image.

        Parameters
        ----------
        columns : (G, K, P) array
            A lowered matrix of this layer, or its gradient.

        Returns
        -------
        (C, H, W) array
            The image: it has the shape of the input, or of the output for a transposed convolution (without bias).

        Raises
        ------
        ShapeError
            If the layer has no window.
        """
        if self.window is None:
            raise ShapeError(f"layer {self.layer!r}, {self.title}, has no window: there is no col2im")
        size = self.output_image_size if self.kind == "transposed convolution" else self.image_size
        return scatter(np.asarray(columns).reshape(-1, *self.sources.shape), self.sources, size)

    @staticmethod
    def as_image(array: Array) -> Any:
        """Return a value as an image (C, H, W): a sequence (C, L) has one row, features are channels of one pixel."""
        if array.ndim > 2:
            return array.reshape(len(array), -1, array.shape[-1])
        return array[:, None] if array.ndim == 2 else array[:, None, None]

    def _of_groups(self, array: Array) -> Any:
        """Return an image as (G, channels of a group, pixels)."""
        return array.reshape(len(self.weight), len(array) // len(self.weight), -1)

    # ------------------------------------------------------------------ parts, which large layers are shown by

    def group_of(self, channel: int) -> int:
        """Return the group of the lowered matrix from which an output channel is computed; for pooling, the channel."""
        if self.window is None or self.weight is None:
            return channel
        return channel * self.window.groups // len(self.output)

    def channels_of(self, channel: int) -> slice:
        """Return the channels of the input from which a channel of the output is computed."""
        if self.kind == "pooling":
            return slice(channel, channel + 1)
        per = len(self.inputs[0]) // (1 if self.window is None else self.window.groups)
        return slice(per * self.group_of(channel), per * (self.group_of(channel) + 1))

    def columns_at(self, channel: int, positions: Any) -> Any:
        """Return some columns of the lowered matrix of a channel's group, (K, len(positions)).

        For a large layer, the whole matrix would take much time and memory.
        """
        if self.kind == "transposed convolution":
            x = self._of_groups(self.inputs[0])[self.group_of(channel)][:, positions]
            return self.weight[self.group_of(channel)].T @ x
        outside = -np.inf if self.takes_maximum else 0.0
        image = self.as_image(self.inputs[0])[self.channels_of(channel)]
        return gather(image, self.sources[:, positions], outside).reshape(-1, len(positions))

    def dcolumns_at(self, channel: int, positions: Any) -> Any:
        """Return the gradient of the score with respect to the columns of :meth:`columns_at`."""
        group = self.group_of(channel)
        if self.kind == "transposed convolution":
            per = len(self.output) // len(self.weight)
            image = self.as_image(self.doutput)[per * group : per * (group + 1)]
            return gather(image, self.sources[:, positions]).reshape(-1, len(positions))
        if self.weight is not None:
            return self.weight[group].T @ self._of_groups(self.doutput)[group][:, positions]
        return self.shares_of_windows[channel][:, positions] * self.as_image(self.doutput)[channel].ravel()[positions]

    # ------------------------------------------------------------------ positions

    def position(self, position: Sequence[int] | int | None = None, channel: int = 0) -> tuple[int, int]:
        """Return a position of the window; by default the position whose output, in a channel, changes the score most.

        For a transposed convolution it is the pixel of the input that changes the score most.

        Raises
        ------
        ShapeError
            If there is no such position; the message says which positions exist.
        """
        OH, OW = self.output_image_size if self.window is None else self.window.output_size
        if position is None:
            slopes = np.abs(self.as_image(self.doutput)[channel])
            if self.kind == "transposed convolution":
                slopes = np.abs(self.as_image(self.dinputs[0])).sum(axis=0)
            # where rounding alone decides, it is the first
            row, column = np.unravel_index(int((slopes >= (1 - 1e-9) * slopes.max()).argmax()), slopes.shape)
            return (int(row), int(column)) if slopes.any() else (OH // 2, OW // 2)
        given = [position] if isinstance(position, int) else [*position]
        places = [whole("position", n, least=0) for n in given]
        if len(places) == 1 and OH == 1:
            places = [0, *places]
        if len(places) != 2 or places[0] >= OH or places[1] >= OW:
            raise ShapeError(
                f"position {tuple(given)} is outside of the {OH}×{OW} positions of layer {self.layer!r}: give (row,"
                f" column) from (0, 0) to ({OH - 1}, {OW - 1})"
            )
        return places[0], places[1]

    def channel(self, channel: int | None = None) -> int:
        """Return a channel of the output; by default the channel that the score depends on most.

        Raises
        ------
        ShapeError
            If there is no such channel; the message says which channels exist.
        """
        if channel is None:
            sums = np.abs(self.doutput).reshape(len(self.doutput), -1).sum(axis=1)
            return int((sums >= (1 - 1e-9) * sums.max()).argmax())
        found = whole("channel", channel, least=0)
        if found >= len(self.output):
            raise ShapeError(
                f"channel {channel} is outside of the {len(self.output)} channels of the output of layer"
                f" {self.layer!r}: give 0 to {len(self.output) - 1}"
            )
        return found

    def _place(self, position: Any, channel: int | None) -> tuple[tuple[int, int], int]:
        number = self.channel(channel)
        return self.position(position, number), number

    # ------------------------------------------------------------------ forms

    def __repr__(self) -> str:
        return f"<Explanation of layer {self.layer!r}, {self.title}: {self.score.name} = {self.score.value:.4g}>"

    def __str__(self) -> str:
        return self.text()

    def text(
        self,
        width: int | None = None,
        position: Sequence[int] | int | None = None,
        channel: int | None = None,
        color: bool = False,
    ) -> str:
        """Return the explanation as a text.

        Parameters
        ----------
        width : int, optional
            The number of columns of the terminal; by default 100.
        position : (row, column), optional
            The position of the window that is worked out; by default the one that the score depends on most.
        channel : int, optional
            The channel of the output; by default the channel that the score depends on most.
        color : bool
            Whether the window is marked by colors, in addition to brackets.

        Returns
        -------
        str
            Lines of at most ``width`` characters.
        """
        from im2colnet.show.explain_text import explanation_text

        return explanation_text(self, width or 100, *self._place(position, channel), color)

    def facts(self) -> dict[str, Any]:
        """Return all attributes in types that JSON can represent; infinity and NaN become None.

        Returns
        -------
        dict
            The attributes, by name.

        Notes
        -----
        ``columns``, ``sources``, ``dcolumns`` and ``picked`` are None if the lowered matrix has more than a million
        numbers.
        """
        window = self.window and self.window._asdict()
        lowered: dict[str, Any] = dict.fromkeys(("columns", "sources", "dcolumns", "picked"))
        if self.window is not None:
            channels = len(self.output if self.kind == "transposed convolution" else self.inputs[0])
            if self.sources.size * channels <= MOST_IN_JSON:
                lowered = {name: _plain(getattr(self, name)) for name in lowered}
        return {
            "layer": self.layer,
            "kind": self.kind,
            "title": self.title,
            "formula": self.formula,
            "score": self.score._asdict() | {"value": _plain(self.score.value)},
            "flops": self.flops,
            "window": window,
            "inputs": [_plain(x) for x in self.inputs],
            "output": _plain(self.output),
            "doutput": _plain(self.doutput),
            "dinputs": [_plain(x) for x in self.dinputs],
            "parameters": {name: _plain(array) for name, array in self.parameters.items()},
            "gradients": {name: _plain(array) for name, array in self.gradients.items()},
            "state": {name: _plain(array) for name, array in self.state.items()},
            "weight": _plain(self.weight),
            **lowered,
        }

    def plot(
        self, part: str | None = None, position: Sequence[int] | int | None = None, channel: int | None = None
    ) -> Figure:
        """Draw the explanation, with Matplotlib (the extra ``viz``).

        Parameters
        ----------
        part : {"input", "columns", "product", "gradient", "rows"}, optional
            The part to draw; by default all parts that the layer has.

            - "input": the image, and how often the windows read each pixel.
            - "columns": the image with one window marked, and the lowered matrix with its column marked.
            - "product": the window beside its column, the filter, and the output.
            - "gradient": the way back: the output's gradient, the gradient of the columns, and col2im of it.
            - "rows": the library's lowering along the width only, and in it the window of a row of outputs.
        position : (row, column), optional
            The position of the window; by default the one that the score depends on most.
        channel : int, optional
            The channel of the output; by default the channel that the score depends on most.

        Returns
        -------
        matplotlib.figure.Figure
            The figure. A notebook shows it; its ``savefig`` writes it to a file.

        Raises
        ------
        ImportError
            If Matplotlib is not installed.
        ShapeError
            If the layer has no such part, position or channel.
        """
        from im2colnet.show.explain_plots import draw

        return draw(self, part, *self._place(position, channel))

    def save(
        self,
        path: str | os.PathLike[str],
        part: str | None = None,
        position: Sequence[int] | int | None = None,
        channel: int | None = None,
    ) -> None:
        """Write the explanation to a file, whole or not at all.

        Parameters
        ----------
        path : path
            The file. Its ending chooses the format: ``.html`` an interactive page, ``.svg`` or ``.png`` the picture of
            :meth:`plot`, ``.json`` the :meth:`facts`, ``.txt`` the text.
        part : str, optional
            The part to draw, for a picture: see :meth:`plot`.
        position : (row, column), optional
            The position of the window, for the picture or at first in the page: see :meth:`plot`.
        channel : int, optional
            The channel of the output: see :meth:`plot`.

        Raises
        ------
        ShapeError
            If the file name has another ending.
        ImportError
            If Matplotlib is needed, and is not installed.
        CheckpointError
            If the file cannot be written.
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending not in ENDINGS:
            raise ShapeError(f"the file must end with one of {', '.join(ENDINGS)}, got {os.fspath(path)!r}")
        if ending in (".svg", ".png"):
            from im2colnet.show.explain_plots import rendered

            content = rendered(self.plot(part, position, channel), ending[1:])
        elif ending == ".html":
            from im2colnet.show.explain_page import explanation_page

            this: Any = self
            content = explanation_page(this, *self._place(position, channel)).encode()
        elif ending == ".json":
            content = json.dumps(self.facts(), allow_nan=False).encode()
        else:
            content = f"{self.text(position=position, channel=channel)}\n".encode()
        replace_file(path, content)

    def _repr_html_(self) -> str:
        from im2colnet.show.html import code

        return code(str(self).split("\n"))


ENDINGS = (".html", ".svg", ".png", ".json", ".txt")


def _plain(array: Any) -> Any:
    """Return an array as lists, with None for infinity and NaN, which JSON does not have."""
    if array is None:
        return None
    array = np.asarray(array)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    found = array.astype(object)
    found[~np.isfinite(array)] = None
    return found.tolist()


# ---------------------------------------------------------------------- making one


def explain(
    net: Network,
    layer: str | int | Layer,
    image: Any,
    *,
    output: Any = None,
    backend: str | Backend | None = None,
) -> Explanation:
    """Explain what a layer of a network does with one image: its numbers, forward and backward.

    The image goes through the network in evaluation mode and in float64. The *score*, one number of the output, is
    differentiated, so that each array comes with its gradient.

    Parameters
    ----------
    net : Network
        A network with parameters.
    layer : str, int or Layer
        The layer's name as in ``net.summary()``, or ``i`` as in ``net[i]``, or the layer itself.
    image : (C, H, W) array
        One image; also (H, W) for one channel, (C, L) or (features,). :meth:`im2colnet.Network.predict` takes a batch
        of such images.
    output : int, str, tuple of int, or (str, ...), optional
        The number of the network's output that is differentiated: the number or name of a class. If the output has
        several axes, the index of a number, or a channel, whose largest number is used. If the network has several
        outputs, a pair of the name of an output's layer and one of these. By default the largest number of the first
        output.
    backend : str or Backend, optional
        The backend that computes; by default the network's backend.

    Returns
    -------
    Explanation
        An object whose attributes are the layer's input, output, parameters, gradients, and the lowered matrix.

    Raises
    ------
    ShapeError
        If there is no such layer or output, or the image does not fit the network.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> explained = ic.explain(net, "0", test.images[0])
    >>> explained.columns.shape  # 9 numbers for each of 6×6 outputs
    (1, 9, 36)
    >>> product = explained.weight[0] @ explained.columns[0]
    >>> product += explained.bias[:, None]
    >>> bool(abs(product - explained.output.reshape(2, 36)).max() < 1e-12)
    True
    """
    if not isinstance(net, Network):
        raise ShapeError(f"explain takes a network such as ic.models.notebook().init(), got {net!r:.80}")
    net.check_unchanged()
    held = net.held
    name = _name_of(net, layer)
    images = _one_image(net, image)
    graph = net.graph.for_loss()
    if all(node.name != name for node in graph.nodes):
        graph = net.graph  # the scores do not depend on the layers after them
    graph = graph.part(graph.outputs)  # with nodes of its own
    parameters = Parameters(graph, held.backend if backend is None else get_backend(backend), "float64", seed=None)
    parameters.normalization = held.normalization
    parameters.load_state_dict(held.state_dict())
    passes = Passes(graph, parameters, images, learning=name)
    value, score = _score(net, graph, passes, output)
    flat = parameters.backend.empty(parameters.flat.shape, "float64")
    dinputs = passes.backward(_one_hot(passes, value, score.place), flat)
    (node,) = (node for node in graph.nodes if node.name == name)
    return _explanation(node, passes, score, dinputs, parameters.views(node, flat))


def _name_of(net: Network, layer: Any) -> str:
    """Return the name of a layer in the network's graph."""
    nodes, known = net.graph.nodes, [node.name for node in net.graph.nodes]
    if isinstance(layer, (int, np.integer)) and not isinstance(layer, bool):
        if not isinstance(net, Sequential):
            raise ShapeError(f"layers of {type(net).__name__} have names, got {layer!r}; {similar(str(layer), known)}")
        if not -len(net) <= layer < len(net):
            raise ShapeError(f"the network has {len(net)} layers, from 0 to {len(net) - 1}, got {layer}")
        layer = str(int(layer) % len(net))
    if isinstance(layer, Layer):
        found = [node.name for node in nodes if node.layer is layer]
        if not found:
            raise ShapeError(f"{layer!r} is not a layer of the network; {similar(repr(layer), known)}")
        return found[0]
    if not isinstance(layer, str):
        raise ShapeError(f"layer must be the name of a layer, or its number, got {layer!r:.80}")
    if layer not in known:
        inside = [name for name in known if name.startswith(f"{layer}.")]
        if inside:
            raise ShapeError(f"{layer!r} is a network of {len(inside)} layers: name one of them, such as {inside[0]!r}")
        raise ShapeError(f"the network has no layer {layer!r}; {similar(layer, known)}")
    return layer


def _one_image(net: Network, image: Any) -> Any:
    """Return one image as a batch of one, checked; an axis for one channel is added where it is missing."""
    array = np.asarray(host_array("image", image))
    check_image_type("image", array)
    wanted = net.input_shape
    if wanted is not None:
        given = array
        if array.ndim == len(wanted) - 1 and wanted[0] == 1:
            array = array[None]
        elif array.ndim == len(wanted) + 1 and len(array) == 1:
            array = array[0]
        if array.ndim != len(wanted):
            raise ShapeError(f"explain takes one image of shape {wanted}, got an array of shape {given.shape}")
    elif array.ndim == 2 and _fits(net, array.shape) is not None and _fits(net, (1, *array.shape)) is None:
        array = array[None]
    error = _fits(net, array.shape)
    if error is not None:
        raise error
    images = net.check_images(array[None])
    if net.inputs is not None:
        net.inputs.compare_kind("image", images.dtype.name == "uint8")
    return images


def _fits(net: Network, shape: Sequence[int]) -> ShapeError | None:
    """Return the problem with the shape of an image, if there is one."""
    try:
        net.graph.shapes(internal_shape(shape, 1))
    except ShapeError as error:
        return error
    return None


def _score(net: Network, graph: Graph, passes: Passes, output: Any) -> tuple[int, Score]:
    """Return the value of the graph that holds the score, and the score."""
    made = {node.output: node.name for node in graph.nodes}
    value, several = graph.outputs[0], len(graph.outputs) > 1
    if several and isinstance(output, (tuple, list)) and output and isinstance(output[0], str):
        named = {made[v]: v for v in graph.outputs}
        if output[0] not in named:
            raise ShapeError(f"the network has no output {output[0]!r}; {similar(output[0], [*named])}")
        value, output = named[output[0]], output[1] if len(output) == 2 else tuple(output[1:]) or None
    numbers = _host(passes, passes.values[value])
    classes = net.inputs.classes if net.inputs is not None and numbers.ndim == 1 else ()
    classes = classes if len(classes) == len(numbers) else ()
    index = _index(numbers, classes, output)
    where = f" of {made[value]}" if several else ""
    if numbers.ndim > 1:
        name = f"output {index}"
    elif classes:
        name = f"class {classes[index[0]]}"
    else:
        name = f"{'output' if several or len(numbers) == 1 else 'class'} {index[0]}"
    return value, Score(name + where, float(numbers[index]), index)


def _index(numbers: Array, classes: Sequence[str], output: Any) -> tuple[int, ...]:
    """Return the index of the number that ``output`` names."""
    if output is None:
        return tuple(map(int, np.unravel_index(int(np.argmax(numbers)), numbers.shape)))
    if isinstance(output, str):
        if output in classes:
            return (list(classes).index(output),)
        if not output.isdigit():
            known = f"; {similar(output, classes)}" if classes else ": the names of the classes are not known"
            raise ShapeError(f"there is no class {output!r}{known}")
        output = int(output)
    given = output if isinstance(output, (tuple, list)) else (output,)
    places = tuple(whole("output", n, least=0) for n in given)
    if len(places) not in (1, numbers.ndim) or any(n >= size for n, size in zip(places, numbers.shape, strict=False)):
        kind = "a class" if numbers.ndim == 1 else "an index"
        raise ShapeError(f"output {output!r} is outside of the network's output, of shape {numbers.shape}: give {kind}")
    if len(places) < numbers.ndim:
        channel = numbers[places[0]]
        places = (places[0], *map(int, np.unravel_index(int(np.argmax(channel)), channel.shape)))
    return places


def _one_hot(passes: Passes, value: int, index: tuple[int, ...]) -> dict[int, Array]:
    """Return the gradient of one number of a value by that value: 1 at its index, else 0."""
    like, backend = passes.values[value], passes.backend
    shown = np.zeros([like.shape[axis] for axis in user_axes(like.ndim)])
    shown[(0, *index)] = 1
    return {value: backend.asarray(np.ascontiguousarray(shown.transpose(internal_axes(like.ndim))))}


def _host(passes: Passes, array: Any) -> Any:
    """Return the first sample of a value as users see it, on the host."""
    return np.array(passes.backend.to_numpy(array.copy())).transpose(user_axes(array.ndim))[0].copy()


def _explanation(
    node: Node, passes: Passes, score: Score, dinputs: Sequence[Array], gradients: dict[str, Array]
) -> Explanation:
    values, doutput = passes.values, passes.gradients[node.output]

    def numbers(arrays: dict[str, Array]) -> dict[str, Any]:
        return {key: np.array(passes.backend.to_numpy(array), order="C") for key, array in arrays.items()}

    layer, inputs = node.layer, [values[v] for v in node.inputs]
    kind, formula = _kind(layer), _formula(layer)
    found = Explanation(
        node.name,
        kind,
        repr(layer),
        formula,
        [_host(passes, x) for x in inputs],
        _host(passes, values[node.output]),
        score,
        _host(passes, values[node.output] * 0.0 if doutput is None else doutput),
        [_host(passes, dx) for dx in dinputs],
        numbers(node.params),
        numbers(gradients),
        numbers(node.buffers),
        layer.flops(inputs[0].shape if len(inputs) == 1 else tuple(x.shape for x in inputs), values[node.output].shape),
        made_by=layer,
    )
    found.bias = found.parameters.get("bias")
    if kind in ("convolution", "transposed convolution", "pooling"):
        windows = windows_of(layer, found.image_size, found.output_image_size)
        if windows is None:
            found.kind = "other"
            return found
        found.window, found.sources = windows
        if kind != "pooling":
            groups, weight = windows[0].groups, found.parameters["weight"]
            found.weight = weight.reshape(groups, len(weight) // groups, -1)
    elif kind == "linear":
        found.weight = found.parameters["weight"]
    return found


def _defining(layer: Layer) -> type[Layer]:
    """Return the class that defines the layer's forward pass."""
    for base in type(layer).__mro__:
        if {"forward", "prepare_forward"} & vars(base).keys():
            return base
    return type(layer)


def _kind(layer: Layer) -> str:
    """Return the kind of a layer; it is unknown for a user's class with its own forward pass."""
    home = _defining(layer).__module__
    if "forward" in vars(layer) or not home.startswith("im2colnet.layers"):
        return "other"
    if isinstance(layer, ConvTranspose2d):
        return "transposed convolution"
    if isinstance(layer, MatMul):
        return "merging"
    if isinstance(layer, (Reduction, AlongAxis)):
        return "other"
    return KINDS.get(_family(layer), "other")


def _family(layer: Layer) -> str:
    """Return the family of a library layer: the module of its class, or of the nearest base class of the library."""
    for base in type(layer).__mro__:
        if base.__module__.startswith("im2colnet.layers.") and base is not Layer:
            return base.__module__.rpartition(".")[2]
    return ""


def _formula(layer: Layer) -> str:
    """Return what a layer computes: a formula, or the first sentence of its class's docstring."""
    if "forward" in vars(layer):
        return "y = what this object's own forward returns"
    known = [FORMULAS[base.__name__] for base in type(layer).__mro__ if base.__name__ in FORMULAS]
    if known and _kind(layer) != "other":
        return known[0] if getattr(layer, "bias", True) else re.sub(r" \+ b(ias)?", "", known[0])
    for base in type(layer).__mro__:
        if base.__doc__ and base is not Layer:
            first = base.__doc__.strip().split("\n\n")[0].replace("\n", " ")
            return re.sub(r"\s+", " ", re.sub(r":\w+:`([^`]*)`|``", r"\1", first)).rstrip(".")
    return "y = layer(x)"
