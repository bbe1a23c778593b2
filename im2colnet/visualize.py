"""What a network sees: its filters, its feature maps, the pixels that a score depends on, what a channel answers to.

Each function takes a network and images as :meth:`im2colnet.Network.predict` does, computes in evaluation mode on the
network's backend, and returns NumPy arrays; :func:`sheet` draws them. None of these pictures proves why a network
decides as it does: the guide says what they do not show.

>>> import im2colnet as ic
>>> train, test = ic.datasets.load("digits")
>>> net = ic.models.notebook(classes=10).init(seed=0)
>>> ic.visualize.saliency(net, test.images[0]).shape
(8, 8)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from im2colnet.arrays import check_image_type, host_array
from im2colnet.checks import number, one_of, sides, whole
from im2colnet.errors import DTypeError, LayerError, ShapeError
from im2colnet.graph.choosing import similar
from im2colnet.host import np
from im2colnet.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters", "maximize", "overlay", "saliency", "sheet"]

METHODS = ("gradient", "gradient_times_input", "occlusion")
BATCH = 64  #: how many occluded images are predicted at once
NOISE = 0.1  #: the standard deviation of the image that maximize begins with, as a part of the range


def filters(net: Network, layer: str | int) -> np.ndarray:
    """Return the filters of a convolution: a copy of its weight.

    Parameters
    ----------
    net : Network
        With parameters.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.

    Returns
    -------
    (F, C / groups, KH, KW) array
        Of a transposed convolution (C, F / groups, KH, KW), of one along an axis (F, C / groups, K), as PyTorch has
        them.

    Raises
    ------
    ShapeError
        If there is no such layer.
    LayerError
        If the layer has no filters.

    Examples
    --------
    >>> import im2colnet as ic
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> ic.visualize.filters(net, 0).shape
    (2, 1, 3, 3)
    """
    name = _name(net, layer)
    parameters = net.parameters()
    weight = parameters.get(f"{name}.weight")
    if weight is not None and weight.ndim >= 3:
        return np.array(net.backend.to_numpy(weight), order="C")
    names = [node.name for node in net.graph.nodes]
    if name not in names:
        raise ShapeError(f"the network has no layer {name!r}; {similar(name, names)}")
    having = [key.removesuffix(".weight") for key, p in parameters.items() if key.endswith(".weight") and p.ndim >= 3]
    known = f"layers that have: {', '.join(having[:8])}" if having else "no layer of this network has"
    raise LayerError(f"layer {name!r} has no filters; {known}")


def feature_maps(net: Network, layer: str | int, image: Any) -> np.ndarray:
    """Return what a layer makes of an image: a map for each channel.

    Parameters
    ----------
    net : Network
        With parameters.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.
    image : (C, H, W) or (N, C, H, W) array
        uint8 is scaled to [0, 1].

    Returns
    -------
    (F, OH, OW) array
        Or (features,) of a layer of features; with N in front if several images were given.

    Raises
    ------
    ShapeError
        If there is no such layer, or the image has another shape than the network takes.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> ic.visualize.feature_maps(net, 0, test.images[0]).shape
    (2, 6, 6)
    """
    images, one = _batch(net, image)
    found: np.ndarray = net.features(images, _name(net, layer))
    return found[0] if one else found


def saliency(
    net: Network,
    image: Any,
    target: int | str | Sequence[int | str] | None = None,
    method: str = "gradient",
    *,
    patch: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: float | None = None,
) -> np.ndarray:
    """Return how much a class's score depends on each pixel.

    Parameters
    ----------
    net : Network
        With one output (N, classes). What it gives is the score, so logits where it ends with a linear layer.
    image : (C, H, W) or (N, C, H, W) array
        uint8 is scaled to [0, 1].
    target : int or str, optional
        The class, by its number or name; of several images also one for each. By default that of the largest score.
    method : {"gradient", "gradient_times_input", "occlusion"}
        - "gradient": the largest absolute gradient of a pixel's channels (Simonyan, Vedaldi & Zisserman 2013,
          arXiv:1312.6034, section 3.1). It says which pixels change the score fastest, not which made it high.
        - "gradient_times_input": the sum over the channels of the gradient times the pixel. With sign.
        - "occlusion": by how much the score falls where a patch around the pixel is covered, the mean over the patches
          that cover it (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2). With sign.
    patch : int or (int, int), optional
        Height and width of the patch that covers; by default a quarter of the image.
    stride : int or (int, int), optional
        Pixels from one patch to the next; by default half a patch.
    fill : float, optional
        The number in a covered pixel, after uint8 is scaled to [0, 1]; by default each channel's mean over the image.

    Returns
    -------
    (H, W) array
        Or (N, H, W) of several images. In units of the score; of the gradient, per unit of the pixels.

    Raises
    ------
    ShapeError
        If the network has several outputs or not one score for each class, or the image, the patch or the target does
        not fit.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> ic.visualize.saliency(net, test.images[:3], target=[0, 1, 2], method="occlusion", patch=2).shape
    (3, 8, 8)
    """
    one_of("method", method, *METHODS)
    if method != "occlusion" and not (patch is stride is fill is None):
        raise ShapeError('patch, stride and fill are for method="occlusion"')
    images, one = _batch(net, image)
    images = _scaled(images)
    if images.ndim != 4:
        raise ShapeError(f"saliency is for images (C, H, W), the network takes {tuple(images.shape[1:])}")
    scores = _scores(net, images)
    classes = _targets(net, target, scores)
    if method == "occlusion":
        found = _occlusion(net, images, scores, classes, patch, stride, fill)
    else:
        chosen = np.zeros(scores.shape)
        chosen[np.arange(len(classes)), classes] = 1
        slope = net.input_gradient(images, chosen)
        found = np.abs(slope).max(axis=1) if method == "gradient" else (slope * images).sum(axis=1)
    return found[0] if one else found


def maximize(
    net: Network,
    layer: str | int,
    channel: int | Sequence[int],
    *,
    position: tuple[int, int] | None = None,
    steps: int = 100,
    lr: float = 0.05,
    decay: float = 0.01,
    smooth: float = 0.1,
    low: float | None = None,
    high: float | None = None,
    input_shape: Sequence[int] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return an image that makes a channel of a layer large, by gradient ascent from noise.

    Each step adds the gradient, divided by its root mean square, times ``lr``; then draws the image towards the middle
    of its range (``decay``) and each pixel towards its neighbours (``smooth``), and keeps it within the range. Erhan,
    Bengio, Courville & Vincent 2009 ("Visualizing higher-layer features of a deep network"); with a class's score as
    the channel, Simonyan, Vedaldi & Zisserman 2013 (arXiv:1312.6034, section 2); for ``smooth``, Yosinski et al. 2015
    (arXiv:1506.06579).

    Parameters
    ----------
    net : Network
        Its normalization is applied as in a prediction: the image is one before it is normalised.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.
    channel : int, or sequence of int
        The channel, or the feature or class of a layer of features; several give an image each.
    position : (int, int), optional
        The output whose number becomes large; by default the mean over all of the channel.
    steps : int
        How many steps the ascent makes.
    lr : float
        The length of the first step, as a part of the range; it falls to 0 in a straight line.
    decay, smooth : float
        Between 0 and 1.
    low, high : float, optional
        The range of the pixels; by default that of the images which the network was trained on, or [0, 1].
    input_shape : (C, H, W), optional
        By default the one that the network was made for, or that of its first batch.
    seed : int
        The noise to begin with depends on it. The same seed gives the same image.

    Returns
    -------
    (C, H, W) array of float32
        Or (n, C, H, W) for n channels.

    Raises
    ------
    ShapeError
        If there is no such layer, channel or position, or the network's input is not known or no image.

    Examples
    --------
    >>> import im2colnet as ic
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> image = ic.visualize.maximize(net, 0, 1, input_shape=(1, 8, 8))
    >>> image.shape
    (1, 8, 8)
    """
    name, shape = _name(net, layer), net.check_shape(input_shape)
    if len(shape) != 3:
        raise ShapeError(f"maximize makes images (C, H, W), the network takes {shape}")
    steps, seed = whole("steps", steps), whole("seed", seed, least=0)
    for argument, value in {"lr": lr, "decay": decay, "smooth": smooth}.items():
        number(argument, value)
    if decay > 1 or smooth > 1:
        raise ShapeError(f"decay and smooth must be between 0 and 1, got {decay} and {smooth}")
    first, last = _range(net, low, high)
    several = isinstance(channel, (Sequence, np.ndarray))
    channels: list[Any] = [*channel] if isinstance(channel, (Sequence, np.ndarray)) else [channel]
    noise = np.random.default_rng(seed).standard_normal(shape)
    middle, width = (first + last) / 2, last - first
    images = np.stack([np.clip(middle + NOISE * width * noise, first, last)] * len(channels))
    ascent = _ascent(name, channels, position)
    for step in range(steps):
        slope = np.asarray(net.input_gradient(images, ascent, layer=name), dtype=np.float64)
        length = np.sqrt(np.square(slope).mean(axis=(1, 2, 3), keepdims=True))
        images += lr * (1 - step / steps) * width * slope / np.maximum(length, 1e-30)
        images = middle + (1 - decay) * (images - middle)
        images = np.clip((1 - smooth) * images + smooth * _neighbours(images), first, last)
    made = images.astype(np.float32)
    return made if several else made[0]


def overlay(image: Any, saliency: Any) -> np.ndarray:
    """Return a picture of an image with its saliency above it.

    Parameters
    ----------
    image : (C, H, W) or (H, W) array
        uint8, or within [0, 1]; it is shown in grey.
    saliency : (H, W) array
        What :func:`saliency` returns. The strongest pixel is opaque, 0 is transparent; above 0 it is orange, below 0
        it is blue.

    Returns
    -------
    (3, H, W) array
        Red, green and blue in [0, 1], for :func:`sheet`.

    Raises
    ------
    ShapeError
        If image and saliency have not the same height and width.

    Examples
    --------
    >>> import numpy as np
    >>> import im2colnet as ic
    >>> ic.visualize.overlay(np.zeros((1, 2, 2)), [[0, 1], [-1, 0]]).shape
    (3, 2, 2)
    """
    picture, strength = _scaled(host_array("image", image)), host_array("saliency", saliency).astype(np.float64)
    grey = np.clip(picture.mean(axis=0) if picture.ndim == 3 else picture, 0, 1)
    if grey.ndim != 2 or strength.shape != grey.shape:
        raise ShapeError(
            f"saliency must have the image's height and width: got {strength.shape} for an image {picture.shape}"
        )
    part = np.abs(strength) / (np.abs(strength).max() or 1)
    colours = np.where(strength < 0, *(np.reshape(c, (3, 1, 1)) for c in ((0.13, 0.45, 0.85), (0.95, 0.45, 0.05))))
    # half as bright, so that the colours stand out on white pixels too
    made: np.ndarray = (1 - part) * 0.6 * grey + part * colours
    return made


def sheet(
    arrays: Any,
    titles: Sequence[object] | None = None,
    *,
    columns: int = 8,
    shared: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Figure:
    """Draw arrays side by side. Needs Matplotlib (the extra ``viz``).

    Where an array has numbers below 0, 0 is white, above it is red and below it blue. Other numbers are grey, the
    largest is white.

    Parameters
    ----------
    arrays : sequence of (H, W) or (C, H, W) arrays, or one array of them
        uint8 is scaled to [0, 1]. Three channels without a number below 0 are red, green and blue. Of others each
        channel is drawn, beside the one before.
    titles : sequence of str, optional
        A line above each.
    columns : int
        How many are beside each other.
    shared : bool
        Whether all have one scale of colours, so that they can be compared. By default each has its own.
    low, high : float, optional
        The numbers that are black and white; of red, green and blue the range, else [0, 1].

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it; ``figure.savefig("sheet.png")`` writes it.

    Raises
    ------
    ShapeError
        If there is nothing to draw, or an array is no picture, or there are not as many titles.
    ImportError
        If Matplotlib is not installed.

    Examples
    --------
    >>> import im2colnet as ic
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> figure = ic.visualize.sheet(ic.visualize.filters(net, 0), ["filter 0", "filter 1"])
    """
    from im2colnet.show.sheet import draw_arrays

    drawn = [host_array("arrays", array) for array in arrays]
    for array in drawn:
        if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "fiub":
            raise ShapeError(f"arrays must be pictures (H, W) or (C, H, W), got one of shape {array.shape}")
    if not drawn:
        raise ShapeError("arrays must hold a picture or more, got none")
    texts = [str(title) for title in titles] if titles is not None else [""] * len(drawn)
    if len(texts) != len(drawn):
        raise ShapeError(f"there are {len(drawn)} arrays, but {len(texts)} titles")
    return draw_arrays(drawn, texts, whole("columns", columns), shared, low, high)


# ---------------------------------------------------------------------- parts


def _name(net: Network, layer: str | int) -> str:
    """Return the name of a layer that is given by its name or its position."""
    if isinstance(layer, str):
        return layer
    names = [*net.children()]
    if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)):
        raise ShapeError(f"layer must be a name or a position, got {layer!r:.80}")
    if not -len(names) <= layer < len(names):
        raise ShapeError(f"the network has {len(names)} layers, got position {layer}")
    return names[layer]


def _batch(net: Network, image: Any) -> tuple[Any, bool]:
    """Return images as a batch on the host, and whether one image alone was given."""
    backend = net.backend
    images = backend.to_numpy(image) if backend.owns(image) else host_array("image", image)
    check_image_type("image", images)
    axes = len(net.input_shape) if net.input_shape is not None else 3
    if images.ndim not in (axes, axes + 1):
        raise ShapeError(f"image must be one image (C, H, W) or several (N, C, H, W), got shape {images.shape}")
    one = images.ndim == axes
    images = images[None] if one else images
    if not len(images):
        raise ShapeError("image must hold an image or more, got none")
    return images, one


def _scaled(images: Any) -> np.ndarray:
    """Return images as floating point: uint8 is scaled to [0, 1], as a network does."""
    scaled: np.ndarray = images / np.float64(255) if images.dtype == np.uint8 else images.astype(np.float64)
    return scaled


def _scores(net: Network, images: Any) -> np.ndarray:
    """Return the scores of the classes, (N, classes)."""
    scores = net.predict(images)
    if isinstance(scores, tuple):
        raise ShapeError(f"saliency is for a network with one output, this one has {len(scores)}")
    if scores.ndim != 2:
        raise ShapeError(
            f"saliency is for a network with a score for each class, (N, classes); this one gives {scores.shape}"
        )
    return np.asarray(scores)


def _targets(net: Network, target: Any, scores: np.ndarray) -> np.ndarray:
    """Return the number of a class for each image."""
    if target is None:
        return np.asarray(scores.argmax(axis=1))
    several = isinstance(target, (Sequence, np.ndarray)) and not isinstance(target, str)
    given = [*target] if several else [target] * len(scores)
    if len(given) != len(scores):
        raise ShapeError(f"target has {len(given)} classes for {len(scores)} images")
    names = net.inputs.classes if net.inputs is not None else ()
    return np.array([_class(one, names, scores.shape[1]) for one in given])


def _class(target: Any, names: Sequence[str], classes: int) -> int:
    if isinstance(target, str):
        if target not in names:
            raise ShapeError(f"the network has no class {target!r}; {similar(target, list(names))}")
        return list(names).index(target)
    if isinstance(target, (bool, np.bool_)) or not isinstance(target, (int, np.integer)):
        raise DTypeError(f"target must be the number or the name of a class, got {target!r:.80}")
    if not 0 <= target < classes:
        raise ShapeError(f"target must be a class from 0 to {classes - 1}, got {target}")
    return int(target)


def _occlusion(
    net: Network,
    images: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    patch: int | tuple[int, int] | None,
    stride: int | tuple[int, int] | None,
    fill: float | None,
) -> np.ndarray:
    """Return the mean fall of the score over the patches that cover a pixel, (N, H, W)."""
    H, W = images.shape[2:]
    h, w = sides("patch", patch) if patch is not None else (max(1, H // 4), max(1, W // 4))
    if h > H or w > W:
        raise ShapeError(f"patch must not be larger than the image, {H} x {W}, got {h} x {w}")
    down, across = sides("stride", stride) if stride is not None else (max(1, h // 2), max(1, w // 2))
    corners = [(r, c) for r in _starts(H, h, down) for c in _starts(W, w, across)]
    found = np.zeros((len(images), H, W))
    for i, image in enumerate(images):
        cover = image.mean(axis=(1, 2)) if fill is None else np.full(len(image), fill, np.float64)
        total, count = found[i], np.zeros((H, W))
        for first in range(0, len(corners), BATCH):
            chunk = corners[first : first + BATCH]
            covered = np.stack([image] * len(chunk))
            for one, (r, c) in zip(covered, chunk, strict=True):
                one[:, r : r + h, c : c + w] = cover[:, None, None]
            falls = scores[i, classes[i]] - np.asarray(net.predict(covered))[:, classes[i]]
            for fall, (r, c) in zip(falls, chunk, strict=True):
                total[r : r + h, c : c + w] += fall
                count[r : r + h, c : c + w] += 1
        total /= np.maximum(count, 1)
    return found


def _starts(size: int, length: int, stride: int) -> list[int]:
    """Return where patches begin along an axis; the last one ends with the image."""
    return sorted({*range(0, size - length + 1, stride), size - length})


def _range(net: Network, low: float | None, high: float | None) -> tuple[float, float]:
    known = (net.inputs.low, net.inputs.high) if net.inputs is not None else (0.0, 1.0)
    first, last = (float(k if given is None else given) for given, k in zip((low, high), known, strict=True))
    if not first < last or not np.isfinite([first, last]).all():
        raise ShapeError(f"low must be less than high, and both finite; got {first} and {last}")
    return first, last


def _ascent(name: str, channels: Sequence[int], position: tuple[int, int] | None) -> Callable[[Any], Any]:
    """Return a function of a layer's output, which gives its gradient of the numbers that shall become large."""

    def gradient(output: Any) -> Any:
        if isinstance(output, tuple):
            raise ShapeError(f"{name!r} has several outputs: name one of its layers")
        places, features = output.shape[2:], output.shape[1]
        dy = np.zeros(output.shape)
        if position is not None and not _inside(position, places):
            raise ShapeError(f"position must be within the output {places} of layer {name!r}, got {position}")
        for i, channel in enumerate(channels):
            if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or not 0 <= channel < features:
                raise ShapeError(f"channel must be from 0 to {features - 1} in layer {name!r}, got {channel!r:.80}")
            if position is None:
                dy[i, channel] = 1 / max(dy[i, channel].size, 1)
            else:
                dy[(i, channel, *position)] = 1
        return dy

    return gradient


def _inside(position: Sequence[int], places: Sequence[int]) -> bool:
    return len(position) == len(places) and all(0 <= p < n for p, n in zip(position, places, strict=True))


def _neighbours(images: np.ndarray) -> np.ndarray:
    """Return the mean of the four pixels beside each; the border is repeated."""
    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    up, down, left, right = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
    made: np.ndarray = (up + down + left + right) / 4
    return made
