"""Pictures of a network: filters, feature maps, the pixels that a score depends on, images that activate a channel.

Each function takes a network and images as :meth:`im2colnet.Network.predict` does, computes in evaluation mode on the
network's backend, and returns NumPy arrays; :func:`sheet` draws them. None of these pictures proves why a network makes
a decision: the guide describes what they do not show.

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
        A network with parameters.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.

    Returns
    -------
    (F, C / groups, KH, KW) array
        The filters. The shape is (C, F / groups, KH, KW) for a transposed convolution, and (F, C / groups, K) for a 1d
        convolution, as in PyTorch.

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
    known = f"layers with filters: {', '.join(having[:8])}" if having else "no layer of this network has filters"
    raise LayerError(f"layer {name!r} has no filters; {known}")


def feature_maps(net: Network, layer: str | int, image: Any) -> np.ndarray:
    """Return the output of a layer for an image: a map for each channel.

    Parameters
    ----------
    net : Network
        A network with parameters.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.
    image : (C, H, W) or (N, C, H, W) array
        One image, or several. uint8 is scaled to [0, 1].

    Returns
    -------
    (F, OH, OW) array
        The feature maps, or (features,) if the layer's output is a vector. Several images have the axis N first.

    Raises
    ------
    ShapeError
        If there is no such layer, or the network does not take images of this shape.

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
        A network with one output (N, classes). Its outputs are the scores; they are logits if the last layer is linear.
    image : (C, H, W) or (N, C, H, W) array
        One image, or several. uint8 is scaled to [0, 1].
    target : int or str, or sequence of them, optional
        The class, by its number or name; for several images also a class for each image. By default the class with the
        largest score.
    method : {"gradient", "gradient_times_input", "occlusion"}
        - "gradient": the largest absolute gradient of a pixel's channels (Simonyan, Vedaldi & Zisserman 2013,
          arXiv:1312.6034, section 3.1). It shows which pixels change the score most, not which pixels made it high.
        - "gradient_times_input": the sum over the channels of the gradient times the pixel. Values have a sign.
        - "occlusion": the decrease of the score if a patch is covered, as the mean over all patches that contain the
          pixel (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2). Values have a sign.
    patch : int or (int, int), optional
        Height and width of the covered patch, in pixels; by default a quarter of the image.
    stride : int or (int, int), optional
        The distance from one patch to the next, in pixels; by default half a patch.
    fill : float, optional
        The value of covered pixels, after uint8 is scaled to [0, 1]; by default each channel's mean over the image.

    Returns
    -------
    (H, W) array
        The saliency of each pixel, or (N, H, W) for several images. The unit is that of the score, or for "gradient"
        that of the score per unit of the pixels.

    Raises
    ------
    ShapeError
        If the network has several outputs, or its output is not a score for each class; or if the image, the patch or
        the target does not fit.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> three, classes = test.images[:3], [0, 1, 2]
    >>> ic.visualize.saliency(net, three, classes, "occlusion", patch=2).shape
    (3, 8, 8)
    """
    one_of("method", method, *METHODS)
    if method != "occlusion" and not (patch is stride is fill is None):
        raise ShapeError('patch, stride and fill are for method="occlusion"')
    images, one = _batch(net, image)
    images = _scaled(images)
    if images.ndim != 4:
        raise ShapeError(
            f"saliency is for images (C, H, W), but the network's input has the shape {tuple(images.shape[1:])}"
        )
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
    """Return an image that maximizes a channel of a layer, by gradient ascent from noise.

    Each step adds the gradient, divided by its root mean square, times ``lr``. Then it moves the image towards the
    middle of its range (``decay``) and each pixel towards its neighbours (``smooth``), and clips to the range. Erhan,
    Bengio, Courville & Vincent 2009 ("Visualizing higher-layer features of a deep network"); with a class's score as
    the channel, Simonyan, Vedaldi & Zisserman 2013 (arXiv:1312.6034, section 2); for ``smooth``, Yosinski et al. 2015
    (arXiv:1506.06579).

    Parameters
    ----------
    net : Network
        A network with parameters. The image is an input before normalization, which the network applies as in a
        prediction.
    layer : str or int
        The layer's name as in :meth:`im2colnet.Network.summary`, or its position as in ``net[i]``.
    channel : int, or sequence of int
        The channel, or the feature or class if the layer's output is a vector. A sequence gives an image for each
        channel.
    position : (int, int), optional
        The position in the channel whose value is maximized; by default the mean over the channel is maximized.
    steps : int
        The number of steps.
    lr : float
        The size of the first step, as a fraction of the range; it decreases linearly to 0.
    decay, smooth : float
        The strengths of the two regularizations, between 0 and 1.
    low, high : float, optional
        The range of the pixels; by default the range of the images that the network was trained on, or [0, 1].
    input_shape : (C, H, W), optional
        The shape of the image; by default the shape that the network was made for, or that of its first batch.
    seed : int
        The random seed of the initial noise. The same seed gives the same image.

    Returns
    -------
    (C, H, W) array of float32
        The image, or (n, C, H, W) for n channels.

    Raises
    ------
    ShapeError
        If there is no such layer, channel or position, or the network's input shape is unknown or is not an image's.

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
        raise ShapeError(f"maximize makes images (C, H, W), but the network's input has the shape {shape}")
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
    """Return a picture of an image with its saliency drawn over it.

    Parameters
    ----------
    image : (C, H, W) or (H, W) array
        The image: uint8, or numbers in [0, 1]. It is shown in grey.
    saliency : (H, W) array
        The result of :func:`saliency`. Positive values are orange, negative values are blue. The strongest pixel is
        opaque, 0 is transparent.

    Returns
    -------
    (3, H, W) array
        An image of red, green and blue in [0, 1], for :func:`sheet`.

    Raises
    ------
    ShapeError
        If image and saliency do not have the same height and width.

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
    # half as bright, so that the colors stand out on white pixels too
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

    If an array has numbers below 0, then 0 is white, larger numbers are red and smaller numbers are blue. Otherwise the
    array is drawn in grey, and its largest number is white.

    Parameters
    ----------
    arrays : sequence of (H, W) or (C, H, W) arrays, or one array of them
        The arrays to draw. uint8 is scaled to [0, 1]. An array with three channels and no number below 0 is drawn as
        red, green and blue. For any other number of channels, the channels are drawn side by side.
    titles : sequence of str, optional
        A title for each array.
    columns : int
        The number of pictures in a row.
    shared : bool
        Whether all pictures have the same color scale, so that they can be compared. By default each has its own scale.
    low, high : float, optional
        The numbers that are black and white; by default 0 and the largest number. If one of them is given, arrays with
        numbers below 0 are drawn in grey too. For red, green and blue, the range of the colors; by default [0, 1].

    Returns
    -------
    matplotlib.figure.Figure
        The figure. A notebook shows it; ``figure.savefig("sheet.png")`` writes it to a file.

    Raises
    ------
    ShapeError
        If there is nothing to draw, an array is not a picture, or the number of titles is wrong.
    ImportError
        If Matplotlib is not installed.

    Examples
    --------
    >>> import im2colnet as ic
    >>> net = ic.models.notebook(classes=10).init(seed=0)
    >>> filters = ic.visualize.filters(net, 0)
    >>> figure = ic.visualize.sheet(filters, ["filter 0", "filter 1"])
    """
    from im2colnet.show.sheet import draw_arrays

    drawn = [host_array("arrays", array) for array in arrays]
    for array in drawn:
        if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "fiub":
            raise ShapeError(f"arrays must be pictures (H, W) or (C, H, W), got one of shape {array.shape}")
    if not drawn:
        raise ShapeError("arrays must contain at least one picture, got none")
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
        raise ShapeError("image must contain at least one image, got none")
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
