"""The teaching notebook's network, one image at a time, as Python loops in float64.

8x8 image -> two 3x3 filters with bias -> ReLU -> 2x2 max-pool -> flatten -> linear -> softmax, cross-entropy -> SGD.

Parameters and gradients are dicts with the names ``filters`` (2, 3, 3), ``bias`` (2,), ``W`` (18, 2) and ``b`` (2,).
``forward`` and ``backward`` return every intermediate result by name.
"""

import numpy as np

FILTERS = 2
KERNEL = 3
POOL = 2
CLASSES = 2
SHAPES = {"filters": (2, 3, 3), "bias": (2,), "W": (18, 2), "b": (2,)}
GRADIENTS = {"filters": "dfilters", "bias": "dbias", "W": "dW", "b": "db"}  # the gradient's name in backward()


def random_parameters(rng):
    """Parameters drawn from ``rng``, a ``numpy.random.Generator``."""
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in SHAPES.items()}


def forward(image, label, parameters):
    """Return conv, relu, pooled, flat, logits, probabilities and loss, besides image and label."""
    image = np.asarray(image, np.float64)
    filters, bias, W, b = (np.asarray(parameters[name], np.float64) for name in ("filters", "bias", "W", "b"))

    conv = np.zeros((FILTERS, 6, 6))
    for f in range(FILTERS):
        for i in range(6):
            for j in range(6):
                total = bias[f]
                for u in range(KERNEL):
                    for v in range(KERNEL):
                        total += image[i + u, j + v] * filters[f, u, v]
                conv[f, i, j] = total

    relu = np.zeros((FILTERS, 6, 6))
    for f in range(FILTERS):
        for i in range(6):
            for j in range(6):
                relu[f, i, j] = max(0.0, conv[f, i, j])

    pooled = np.zeros((FILTERS, 3, 3))
    for f in range(FILTERS):
        for i in range(3):
            for j in range(3):
                pooled[f, i, j] = max(relu[f, POOL * i + u, POOL * j + v] for u in range(POOL) for v in range(POOL))

    flat = np.zeros(18)
    for f in range(FILTERS):
        for i in range(3):
            for j in range(3):
                flat[f * 9 + i * 3 + j] = pooled[f, i, j]

    logits = np.zeros(CLASSES)
    for k in range(CLASSES):
        logits[k] = b[k]
        for m in range(18):
            logits[k] += flat[m] * W[m, k]

    exponentials = [np.exp(logits[k] - max(logits)) for k in range(CLASSES)]
    probabilities = np.array([e / sum(exponentials) for e in exponentials])
    loss = -np.log(probabilities[label])

    return {
        "image": image,
        "label": label,
        "conv": conv,
        "relu": relu,
        "pooled": pooled,
        "flat": flat,
        "logits": logits,
        "probabilities": probabilities,
        "loss": loss,
    }


def backward(values, parameters, ties="all"):
    """Return dlogits, dW, db, dflat, dpooled, drelu, dconv, dfilters, dbias and dimage for ``forward``'s ``values``.

    Where a window has several equal maxima, ``ties="all"`` gives the gradient to each of them, as the notebook does,
    and ``ties="first"`` to the first in row-major order.
    """
    image, conv, relu, pooled, flat = (values[name] for name in ("image", "conv", "relu", "pooled", "flat"))
    filters, W = (np.asarray(parameters[name], np.float64) for name in ("filters", "W"))

    dlogits = np.zeros(CLASSES)
    for k in range(CLASSES):
        dlogits[k] = values["probabilities"][k] - (1.0 if k == values["label"] else 0.0)

    dW = np.zeros((18, CLASSES))
    dflat = np.zeros(18)
    for m in range(18):
        for k in range(CLASSES):
            dW[m, k] = flat[m] * dlogits[k]
            dflat[m] += W[m, k] * dlogits[k]
    db = dlogits.copy()

    dpooled = np.zeros((FILTERS, 3, 3))
    for f in range(FILTERS):
        for i in range(3):
            for j in range(3):
                dpooled[f, i, j] = dflat[f * 9 + i * 3 + j]

    drelu = np.zeros((FILTERS, 6, 6))
    for f in range(FILTERS):
        for i in range(3):
            for j in range(3):
                window = [(f, POOL * i + u, POOL * j + v) for u in range(POOL) for v in range(POOL)]
                maxima = [place for place in window if relu[place] == pooled[f, i, j]]
                for place in maxima if ties == "all" else maxima[:1]:
                    drelu[place] = dpooled[f, i, j]

    dconv = np.zeros((FILTERS, 6, 6))
    for f in range(FILTERS):
        for i in range(6):
            for j in range(6):
                dconv[f, i, j] = drelu[f, i, j] if conv[f, i, j] > 0 else 0.0

    dfilters = np.zeros((FILTERS, KERNEL, KERNEL))
    dbias = np.zeros(FILTERS)
    dimage = np.zeros((8, 8))
    for f in range(FILTERS):
        for i in range(6):
            for j in range(6):
                dbias[f] += dconv[f, i, j]
                for u in range(KERNEL):
                    for v in range(KERNEL):
                        dfilters[f, u, v] += image[i + u, j + v] * dconv[f, i, j]
                        dimage[i + u, j + v] += filters[f, u, v] * dconv[f, i, j]

    return {
        "dlogits": dlogits,
        "dW": dW,
        "db": db,
        "dflat": dflat,
        "dpooled": dpooled,
        "drelu": drelu,
        "dconv": dconv,
        "dfilters": dfilters,
        "dbias": dbias,
        "dimage": dimage,
    }


def update(parameters, gradients, rate=0.01):
    """New parameters ``theta - rate * dtheta``, with the gradients as ``backward`` or ``batch`` returns them."""
    return {name: theta - rate * gradients[GRADIENTS[name]] for name, theta in parameters.items()}


def batch(images, labels, parameters, ties="all"):
    """Return the mean loss and the mean of dfilters, dbias, dW and db over the images."""
    loss = 0.0
    gradients = {GRADIENTS[name]: np.zeros(shape) for name, shape in SHAPES.items()}
    for image, label in zip(images, labels, strict=True):
        values = forward(image, label, parameters)
        of_image = backward(values, parameters, ties)
        loss += values["loss"] / len(images)
        for name in gradients:
            gradients[name] += of_image[name] / len(images)
    return loss, gradients
