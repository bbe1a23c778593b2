"""Every operation as naive loops in float64: slow, small and meant to be obviously correct.

Arrays are (N, C, H, W) and the semantics are those of ``torch.nn.functional`` and ``torch.nn.grad``. Everything is
computed and returned in float64, whatever comes in.

Letters: N batch, C channels, H, W height and width, F filters, KH, KW kernel, OH, OW output.

``stride``, ``dilation`` and ``kernel_size`` are a number or a pair (height, width); ``padding`` is a number, a pair,
``"same"``, ``"valid"`` or ``((top, bottom), (left, right))``.
"""

from itertools import product

import numpy as np


# Arguments and sizes ------------------------------------------------------------------------------------------------
def pair(value):
    """``value`` as a pair (height, width) of integers."""
    if np.ndim(value) == 0:
        return int(value), int(value)
    height, width = value
    return int(height), int(width)


def padding_pairs(padding, kernel_size, dilation=1, stride=1):
    """``padding`` in the form ((top, bottom), (left, right)).

    "same" adds ``dilation * (kernel - 1)`` zeros in all; where that is odd, the extra one is at the bottom or right.
    As in PyTorch, "same" needs stride 1.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if pair(stride) != (1, 1):
            raise ValueError("padding='same' needs stride 1")
        totals = [d * (k - 1) for k, d in zip(pair(kernel_size), pair(dilation), strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if np.ndim(padding) == 2:
        return tuple(pair(sides) for sides in padding)
    height, width = pair(padding)
    return (height, height), (width, width)


def output_length(length, kernel, stride=1, padding=(0, 0), dilation=1, ceil_mode=False):
    """Number of windows along one axis with ``padding = (before, after)``.

    With ``ceil_mode`` a last window may reach beyond the padding, but, as in PyTorch, it has to start inside the input
    or the padding before it.
    """
    before, after = padding
    room = before + length + after - (dilation * (kernel - 1) + 1)  # how far the first window can be moved
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    if (count - 1) * stride >= before + length:
        count -= 1
    return count


def output_size(size, kernel_size, stride=1, padding=0, dilation=1, ceil_mode=False):
    """(OH, OW) for an image of ``size`` (H, W)."""
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    axes = zip(size, pair(kernel_size), pair(stride), pads, pair(dilation), strict=True)
    return tuple(output_length(*axis, ceil_mode=ceil_mode) for axis in axes)


def floats(*arrays):
    """The arrays in float64, so that no float32 number takes part in any sum; None stays None."""
    return [None if array is None else np.asarray(array, np.float64) for array in arrays]


def pad_image(x, pads):
    """``x`` with zeros around it."""
    return np.pad(x, ((0, 0), (0, 0), *pads))


def crop_image(x, pads):
    """The inverse of ``pad_image``."""
    (top, bottom), (left, right) = pads
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right].copy()


# Convolution --------------------------------------------------------------------------------------------------------
def _conv2d_windows(padded_shape, weight_shape, stride, dilation, groups):
    """Yield (n, f, oh, ow) and the index of the window of the padded input that this output is made from."""
    N, C, H, W = padded_shape
    F, C_group, KH, KW = weight_shape
    if C_group * groups != C or F % groups:
        raise ValueError(f"{C} channels and weights {weight_shape} do not fit {groups} groups")
    (SH, SW), (DH, DW) = pair(stride), pair(dilation)
    OH, OW = output_size((H, W), (KH, KW), stride, 0, dilation)
    for n, f, oh, ow in product(range(N), range(F), range(OH), range(OW)):
        first_channel = f // (F // groups) * C_group
        window = (
            n,
            slice(first_channel, first_channel + C_group),
            slice(oh * SH, oh * SH + DH * (KH - 1) + 1, DH),
            slice(ow * SW, ow * SW + DW * (KW - 1) + 1, DW),
        )
        yield (n, f, oh, ow), window


def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """``y[n, f, oh, ow] = sum(window of x * w[f]) + b[f]``."""
    x, w, b = floats(x, w, b)
    xp = pad_image(x, padding_pairs(padding, w.shape[2:], dilation, stride))
    y = np.zeros((len(xp), len(w), *output_size(xp.shape[2:], w.shape[2:], stride, 0, dilation)))
    for out, window in _conv2d_windows(xp.shape, w.shape, stride, dilation, groups):
        f = out[1]
        y[out] = np.sum(xp[window] * w[f]) + (0.0 if b is None else b[f])
    return y


def conv2d_input(input_shape, w, dy, stride=1, padding=0, dilation=1, groups=1):
    """Gradient with respect to the input: each output hands ``dy * w[f]`` back to its window."""
    w, dy = floats(w, dy)
    pads = padding_pairs(padding, w.shape[2:], dilation, stride)
    dxp = pad_image(np.zeros(input_shape), pads)
    for out, window in _conv2d_windows(dxp.shape, w.shape, stride, dilation, groups):
        dxp[window] += dy[out] * w[out[1]]
    return crop_image(dxp, pads)


def conv2d_weight(x, weight_shape, dy, stride=1, padding=0, dilation=1, groups=1):
    """Gradient with respect to the weight: each output adds ``dy * window`` to its filter."""
    x, dy = floats(x, dy)
    dw = np.zeros(weight_shape)
    xp = pad_image(x, padding_pairs(padding, weight_shape[2:], dilation, stride))
    for out, window in _conv2d_windows(xp.shape, weight_shape, stride, dilation, groups):
        dw[out[1]] += dy[out] * xp[window]
    return dw


def conv2d_bias(dy):
    """Gradient with respect to the bias."""
    (dy,) = floats(dy)
    return np.array([np.sum(dy[:, f]) for f in range(dy.shape[1])])


# Pooling ------------------------------------------------------------------------------------------------------------
def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum of each window; padding never wins.

    An index is ``h * W + w`` in the unpadded image, of the first maximum in row-major order. A window that holds
    nothing but padding gives -inf and the index -1. For numbers only: NaN is not treated.
    """
    (x,) = floats(x)
    N, C, H, W = x.shape
    stride = kernel_size if stride is None else stride
    (KH, KW), (SH, SW), (DH, DW) = pair(kernel_size), pair(stride), pair(dilation)
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    (top, _), (left, _) = pads
    OH, OW = output_size((H, W), kernel_size, stride, pads, dilation, ceil_mode)
    y = np.full((N, C, OH, OW), -np.inf)
    indices = np.full((N, C, OH, OW), -1, np.int64)
    for out in np.ndindex(N, C, OH, OW):
        n, c, oh, ow = out
        for kh, kw in product(range(KH), range(KW)):
            h = oh * SH - top + kh * DH
            w = ow * SW - left + kw * DW
            if 0 <= h < H and 0 <= w < W and (indices[out] == -1 or x[n, c, h, w] > y[out]):
                y[out] = x[n, c, h, w]
                indices[out] = h * W + w
    return (y, indices) if return_indices else y


def max_pool2d_grad(x, dy, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Gradient with respect to the input: all of ``dy`` goes to the first maximum of the window."""
    x, dy = floats(x, dy)
    _, indices = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    dx = np.zeros(x.shape)
    for n, c, oh, ow in np.ndindex(dy.shape):
        index = indices[n, c, oh, ow]
        if index >= 0:
            dx[n, c, index // x.shape[3], index % x.shape[3]] += dy[n, c, oh, ow]
    return dx


def _avg_pool2d_windows(input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    """Yield the index of each output, of the part of its window inside the image, and its divisor.

    PyTorch's divisor: with ``count_include_pad`` the window's pixels in the image or its padding (those that
    ``ceil_mode`` lets reach beyond the padding never count), otherwise only those in the image.
    """
    N, C, H, W = input_shape
    stride = kernel_size if stride is None else stride
    (KH, KW), (SH, SW) = pair(kernel_size), pair(stride)
    pads = padding_pairs(padding, kernel_size, 1, stride)
    (top, bottom), (left, right) = pads
    OH, OW = output_size((H, W), kernel_size, stride, pads, 1, ceil_mode)
    for n, c, oh, ow in np.ndindex(N, C, OH, OW):
        rows = range(oh * SH - top, min(oh * SH - top + KH, H + bottom))
        columns = range(ow * SW - left, min(ow * SW - left + KW, W + right))
        inside = [(h, w) for h, w in product(rows, columns) if 0 <= h < H and 0 <= w < W]
        divisor = len(rows) * len(columns) if count_include_pad else len(inside)
        yield (n, c, oh, ow), [(n, c, h, w) for h, w in inside], max(divisor, 1)


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Mean of each window, with PyTorch's divisor; a window with nothing of the image gives 0."""
    (x,) = floats(x)
    stride = kernel_size if stride is None else stride
    y = np.zeros((*x.shape[:2], *output_size(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)))
    for out, inside, divisor in _avg_pool2d_windows(
        x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad
    ):
        y[out] = sum(x[pixel] for pixel in inside) / divisor
    return y


def avg_pool2d_grad(input_shape, dy, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Gradient with respect to the input: ``dy / divisor`` goes to each pixel of the window."""
    (dy,) = floats(dy)
    dx = np.zeros(input_shape)
    for out, inside, divisor in _avg_pool2d_windows(
        input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad
    ):
        for pixel in inside:
            dx[pixel] += dy[out] / divisor
    return dx


def global_avg_pool2d(x):
    """Mean of each channel's image, (N, C, 1, 1): ``adaptive_avg_pool2d(x, 1)``."""
    (x,) = floats(x)
    y = np.zeros((*x.shape[:2], 1, 1))
    for n, c in np.ndindex(x.shape[:2]):
        y[n, c, 0, 0] = np.mean(x[n, c])
    return y


def global_avg_pool2d_grad(input_shape, dy):
    """Gradient with respect to the input: the same number for each pixel of an image."""
    (dy,) = floats(dy)
    dx = np.zeros(input_shape)
    for n, c in np.ndindex(*input_shape[:2]):
        dx[n, c] = dy[n, c, 0, 0] / (input_shape[2] * input_shape[3])
    return dx


# im2col and col2im --------------------------------------------------------------------------------------------------
def _unfold_pairs(input_shape, kernel_size, dilation, padding, stride):
    """Yield the index of each pixel of the image, once per window that holds it, and of its place in the columns."""
    N, C, H, W = input_shape
    (KH, KW), (SH, SW), (DH, DW) = pair(kernel_size), pair(stride), pair(dilation)
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    (top, _), (left, _) = pads
    OH, OW = output_size((H, W), kernel_size, stride, pads, dilation)
    for n, c, kh, kw, oh, ow in np.ndindex(N, C, KH, KW, OH, OW):
        h = oh * SH - top + kh * DH
        w = ow * SW - left + kw * DW
        if 0 <= h < H and 0 <= w < W:
            yield (n, c, h, w), (n, (c * KH + kh) * KW + kw, oh * OW + ow)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Every window as a column: (N, C, H, W) -> (N, C*KH*KW, OH*OW)."""
    (x,) = floats(x)
    N, C, H, W = x.shape
    KH, KW = pair(kernel_size)
    OH, OW = output_size((H, W), kernel_size, stride, padding, dilation)
    cols = np.zeros((N, C * KH * KW, OH * OW))
    for pixel, place in _unfold_pairs(x.shape, kernel_size, dilation, padding, stride):
        cols[place] = x[pixel]
    return cols


def fold(cols, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """The sum of every pixel's copies, the adjoint of ``unfold``: (N, C*KH*KW, OH*OW) -> (N, C, *output_size)."""
    (cols,) = floats(cols)
    KH, KW = pair(kernel_size)
    x = np.zeros((cols.shape[0], cols.shape[1] // (KH * KW), *pair(output_size)))
    for pixel, place in _unfold_pairs(x.shape, kernel_size, dilation, padding, stride):
        x[pixel] += cols[place]
    return x


# Batch normalisation ------------------------------------------------------------------------------------------------
def batch_norm(x, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
    """Return y and the new running mean and variance; x is (N, C, ...).

    The batch is normalised by its biased variance; the running variance takes the unbiased one.
    """
    x, weight, bias = floats(x, weight, bias)
    running_mean, running_var = np.array(running_mean, np.float64), np.array(running_var, np.float64)  # copies
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        if training:
            mean, var, count = x[:, c].mean(), x[:, c].var(), x[:, c].size
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
            running_var[c] = (1 - momentum) * running_var[c] + momentum * var * count / (count - 1)
        else:
            mean, var = running_mean[c], running_var[c]
        y[:, c] = (x[:, c] - mean) / np.sqrt(var + eps) * weight[c] + bias[c]
    return y, running_mean, running_var


def batch_norm_grad(x, dy, running_mean, running_var, weight, training=False, eps=1e-5):
    """Gradients with respect to x, weight and bias. (The running statistics are not used in training.)"""
    x, dy, running_mean, running_var, weight = floats(x, dy, running_mean, running_var, weight)
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        mean = x[:, c].mean() if training else running_mean[c]
        std = np.sqrt((x[:, c].var() if training else running_var[c]) + eps)
        normed = (x[:, c] - mean) / std
        dbias[c] = np.sum(dy[:, c])
        dweight[c] = np.sum(dy[:, c] * normed)
        dnormed = dy[:, c] * weight[c]
        if training:  # the mean and the variance depend on x too
            dx[:, c] = (dnormed - dnormed.mean() - normed * np.mean(dnormed * normed)) / std
        else:
            dx[:, c] = dnormed / std
    return dx, dweight, dbias


# Pointwise, linear, loss --------------------------------------------------------------------------------------------
def relu(x):
    """``max(x, 0)``."""
    (x,) = floats(x)
    return np.where(x > 0, x, 0.0)


def relu_grad(x, dy):
    """``dy`` where x > 0; nothing at 0."""
    x, dy = floats(x, dy)
    return np.where(x > 0, dy, 0.0)


def linear(x, w, b=None):
    """``y[n, o] = sum over i of x[n, i] * w[o, i] + b[o]``."""
    x, w, b = floats(x, w, b)
    y = np.zeros((len(x), len(w)))
    for n, o in np.ndindex(y.shape):
        y[n, o] = sum(x[n, i] * w[o, i] for i in range(x.shape[1])) + (0.0 if b is None else b[o])
    return y


def linear_grad(x, w, dy):
    """Gradients with respect to x, w and b."""
    x, w, dy = floats(x, w, dy)
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n, o in np.ndindex(dy.shape):
        dx[n] += dy[n, o] * w[o]
        dw[o] += dy[n, o] * x[n]
        db[o] += dy[n, o]
    return dx, dw, db


def softmax(x):
    """Softmax of each row."""
    (x,) = floats(x)
    y = np.zeros(x.shape)
    for n in range(len(x)):
        exponentials = np.exp(x[n] - np.max(x[n]))
        y[n] = exponentials / exponentials.sum()
    return y


def cross_entropy(logits, labels, reduction="mean"):
    """``-log softmax(logits)[label]``, averaged ("mean"), added up ("sum") or of each row ("none")."""
    (logits,) = floats(logits)
    losses = np.zeros(len(logits))
    for n, label in enumerate(labels):
        shifted = logits[n] - logits[n].max()
        losses[n] = np.log(np.exp(shifted).sum()) - shifted[label]
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def cross_entropy_grad(logits, labels, reduction="mean"):
    """Gradient of the loss with respect to the logits: ``softmax - one-hot``, over N for the mean."""
    dlogits = softmax(logits)
    for n, label in enumerate(labels):
        dlogits[n, label] -= 1
    return dlogits / len(logits) if reduction == "mean" else dlogits


# Optimisers: one step, as in PyTorch's documentation ----------------------------------------------------------------
def sgd_step(p, g, velocity=None, *, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """Return the new parameter and velocity; ``velocity`` is None in the first step."""
    p, g = floats(p, g)
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g, None
    velocity = g if velocity is None else momentum * velocity + g
    return p - lr * (g + momentum * velocity if nesterov else velocity), velocity


def adam_step(p, g, m, v, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """Return the new parameter and moments; m and v start at 0 and t, the number of this step, at 1."""
    p, g = floats(p, g)
    g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat = m / (1 - betas[0] ** t)
    v_hat = v / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def adamw_step(p, g, m, v, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Adam with the decay applied to the parameter itself, not to its gradient."""
    p, g = floats(p, g)
    return adam_step(p * (1 - lr * weight_decay), g, m, v, t, lr=lr, betas=betas, eps=eps)
