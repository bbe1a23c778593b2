"""Writes ``values/FAMILY.npz``: what PyTorch 2.13.0 computes, for tests that do not need PyTorch.

    python tests/reference/make_torch_values.py [FAMILY ...]

Each case draws from a generator that its own name seeds, so a case that is added changes no other. Inputs are multiples
of 1/64, so they are exact in float32, which is how they are stored; everything is computed and stored in float64. A
case's arrays are "group/name/array", its configuration is the JSON string "group/name/config"; they are read by
``torch_values.py``.
"""

import json
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

assert torch.__version__.split("+")[0] == "2.13.0", "made with another version of PyTorch"

FOLDER = Path(__file__).with_name("values")


class Random:
    """Numbers of one case."""

    def __init__(self, name):
        self.rng = np.random.default_rng(crc32(name.encode()))

    def __call__(self, *shape, scale=1.0):
        """Normal numbers rounded to multiples of 1/64."""
        return np.round(self.rng.standard_normal(shape) * scale * 64) / 64


def tensor(array):
    """A float64 leaf that wants its gradient."""
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def pad(x, padding, value=0.0):
    """Pad by ((top, bottom), (left, right))."""
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def is_asymmetric(padding):
    return not isinstance(padding, int | str) and not isinstance(padding[0], int)


# A function for each group: it draws its inputs and returns (configuration, inputs, outputs) -------------------------
def conv2d(random, x, w, stride=1, padding=0, dilation=1, groups=1):
    x, w, b = tensor(random(*x)), tensor(random(*w)), tensor(random(w[0]))
    if is_asymmetric(padding):
        y = F.conv2d(pad(x, padding), w, b, stride, 0, dilation, groups)
    else:
        y = F.conv2d(x, w, b, stride, padding, dilation, groups)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return config, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}


def conv_transpose2d(random, x, w, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """A weight of shape (in, out / groups, KH, KW)."""
    x, w, b = tensor(random(*x)), tensor(random(*w)), tensor(random(w[1] * groups))
    y = F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"stride": stride, "padding": padding, "output_padding": output_padding}
    config |= {"groups": groups, "dilation": dilation}
    return config, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}


def conv1d(random, x, w, **config):
    x, w, b = tensor(random(*x)), tensor(random(*w)), tensor(random(w[0]))
    y = F.conv1d(x, w, b, **config)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    return config, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}


def conv_transpose1d(random, x, w, groups=1, **config):
    """A weight of shape (in, out / groups, K)."""
    x, w, b = tensor(random(*x)), tensor(random(*w)), tensor(random(w[1] * groups))
    y = F.conv_transpose1d(x, w, b, groups=groups, **config)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"groups": groups, **config}
    return config, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}


def padding_mode(random, x, channels, **config):
    """A convolution whose images, or sequences, are padded by what they show."""
    kind = nn.Conv2d if len(x) == 4 else nn.Conv1d
    layer, x = kind(x[1], channels, **config, dtype=torch.float64), tensor(random(*x))
    w, b = random(*layer.weight.shape), random(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w))
        layer.bias.copy_(torch.tensor(b))
    y = layer(x)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    outputs = {"y": y, "dx": x.grad, "dw": layer.weight.grad, "db": layer.bias.grad}
    return config, {"x": x, "w": w, "b": b, "dy": dy}, outputs


def unfold(random, x, kernel_size, dilation=1, padding=0, stride=1):
    """Unfold ``x`` to ``cols``; fold ``dcols`` to ``folded``, an image of x's size and also the gradient of x."""
    size, x = x[2:], tensor(random(*x))
    cols = F.unfold(x, kernel_size, dilation, padding, stride)
    dcols = random(*cols.shape)
    cols.backward(torch.tensor(dcols))
    folded = F.fold(torch.tensor(dcols), size, kernel_size, dilation, padding, stride)
    assert torch.equal(folded, x.grad)
    config = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    return config, {"x": x, "cols": cols, "dcols": dcols}, {"folded": folded}


def max_pool2d(random, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, ties=False):
    x = tensor(np.clip(np.round(random(*x)), -1, 1) if ties else random(*x))
    if is_asymmetric(padding):
        (top, bottom), (left, right) = padding
        padded = pad(x, padding, -torch.inf)
        y, indices = F.max_pool2d(padded, kernel_size, stride, 0, dilation, ceil_mode, return_indices=True)
        height, width = padded.shape[2:]
        indices = (indices // width - top) * x.shape[3] + indices % width - left  # in the image without padding
        assert (indices >= 0).all()
        assert height == x.shape[2] + top + bottom
        assert width == x.shape[3] + left + right
    else:
        y, indices = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    config["ceil_mode"] = ceil_mode
    return config, {"x": x, "dy": dy, "indices": indices.to(torch.int32)}, {"y": y, "dx": x.grad}


def avg_pool2d(random, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, **others):
    x = tensor(random(*x))
    if is_asymmetric(padding):
        assert count_include_pad
        assert not ceil_mode
        y = F.avg_pool2d(pad(x, padding), kernel_size, stride)
    else:
        y = F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, **others)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    config |= {"count_include_pad": count_include_pad, **others}
    return config, {"x": x, "dy": dy}, {"y": y, "dx": x.grad}


def lp_pool2d(random, x, zeros=False, **config):
    """Of images that are not negative, since most powers are of such numbers; with zeros, of whole windows of 0."""
    x = np.abs(random(*x))
    x[..., : x.shape[-1] // 2] *= 1 - zeros
    x = tensor(x)
    y = F.lp_pool2d(x, **config)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    return config, {"x": x, "dy": dy}, {"y": y, "dx": x.grad}


def layer(function):
    """The group of a function of one array."""

    def values(random, x, ties=False, scale=1.0, **config):
        x = random(*x, scale=scale)
        x = tensor(np.clip(np.round(x), -1, 1) if ties else x)
        y = function(x, **config)
        dy = random(*y.shape)
        y.backward(torch.tensor(dy))
        return config, {"x": x, "dy": dy}, {"y": y, "dx": x.grad}

    return values


def activation(function, **config):
    """The group of a function of each number."""

    def values(random, x, scale=1.0):
        x = random(*x, scale=scale)
        x.flat[:4] = [0.0, -0.0, 1.0, -1.0]  # the gradient of relu at 0 is 0
        x, dy = tensor(x), random(*x.shape)
        y = function(x, **config)
        y.backward(torch.tensor(dy))
        return config, {"x": x, "dy": dy}, {"y": y, "dx": x.grad}

    return values


def of_two(function):
    """The group of a function of two arrays."""

    def values(random, x, other, positive=False, ties=False):
        a, b = random(*x), random(*other)
        a, b = (np.abs(a) + 0.5, np.abs(b) + 0.5) if positive else (a, b)
        a, b = (tensor(np.clip(np.round(array), -1, 1) if ties else array) for array in (a, b))
        y = function(a, b)
        dy = random(*y.shape)
        y.backward(torch.tensor(dy))
        return {}, {"x": a, "other": b, "dy": dy}, {"y": y, "dx": a.grad, "dother": b.grad}

    return values


def module(kind):
    """The group of a module without parameters, whose arguments are its configuration."""
    return layer(lambda x, **config: kind(**config)(x))


def prelu(random, x, num_parameters):
    x, w = tensor(random(*x)), tensor(random(num_parameters, scale=0.5))
    y = F.prelu(x, w)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    return {"num_parameters": num_parameters}, {"x": x, "w": w, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad}


def linear(random, x, w):
    x, w, b, dy = tensor(random(*x)), tensor(random(*w)), tensor(random(w[0])), random(*x[:-1], w[0])
    y = F.linear(x, w, b)
    y.backward(torch.tensor(dy))
    return {}, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}


def channel_norm(kind, random, shape, **config):
    """A layer of this kind, "BatchNorm" or "InstanceNorm", for a batch of this shape; its parameters are drawn."""
    channels, cls = shape[1], getattr(nn, f"{kind}{2 if len(shape) == 4 else 1}d")
    layer = cls(channels, affine=True, dtype=torch.float64, **config)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(1 + random(channels, scale=0.5)))
        if layer.bias is not None:
            layer.bias.copy_(torch.tensor(random(channels)))
    return layer


def gradients_of(layer, x, dy):
    """y, dx, dw and, if there is a bias, db of one batch."""
    x = tensor(x)
    layer.zero_grad()
    y = layer(x)
    y.backward(torch.tensor(dy))
    found = {"y": y.detach(), "dx": x.grad, "dw": layer.weight.grad}
    found |= {} if layer.bias is None else {"db": layer.bias.grad}
    return {name: value.numpy().copy() for name, value in found.items()}


def norm_training(kind, random, x, momentum, eps):
    """Batches one after another.

    The first axis of every array is the batch's number; running statistics come before the first batch and after each.
    """
    layer = channel_norm(kind, random, x[1:], momentum=momentum, eps=eps, track_running_stats=True)
    inputs = {"x": 2 * random(*x) + 1, "dy": random(*x), "weight": layer.weight, "bias": layer.bias}
    outputs = {name: [] for name in ("y", "dx", "dw", "db")}
    statistics = {name: [getattr(layer, name).numpy().copy()] for name in ("running_mean", "running_var")}
    for batch, dy in zip(inputs["x"], inputs["dy"], strict=True):
        for name, value in gradients_of(layer, batch, dy).items():
            outputs[name].append(value)
        for name, values in statistics.items():
            values.append(getattr(layer, name).numpy().copy())
    return {"momentum": momentum, "eps": eps}, inputs, {**outputs, **statistics}


def norm_eval(kind, random, x, momentum, eps):
    layer = channel_norm(kind, random, x, momentum=momentum, eps=eps, track_running_stats=True)
    running_mean, running_var = random(x[1]), 1 + np.abs(random(x[1]))
    layer.running_mean.copy_(torch.tensor(running_mean))
    layer.running_var.copy_(torch.tensor(running_var))
    layer.eval()
    inputs = {"x": random(*x), "dy": random(*x), "weight": layer.weight, "bias": layer.bias}
    outputs = gradients_of(layer, inputs["x"], inputs["dy"])
    inputs.update(running_mean=running_mean, running_var=running_var)
    return {"momentum": momentum, "eps": eps}, inputs, outputs


def batch_norm_of_batch(random, x, **config):
    """Without running statistics, so training and evaluation are the same."""
    layer = channel_norm("BatchNorm", random, x, **config, track_running_stats=False).eval()
    inputs = {"x": 2 * random(*x) + 1, "dy": random(*x), **dict(layer.named_parameters())}
    return config, inputs, gradients_of(layer, inputs["x"], inputs["dy"])


def norm_within_sample(kind):
    """The group of a layer that normalises within a sample, whose parameters are drawn."""

    def values(random, x, offset=0.0, **config):
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        layer = kind(**arguments).double()
        x, dy = tensor(offset + random(*x, scale=2.0)), random(*x)
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                drawn = random(*parameter.shape, scale=0.5)
                parameter.copy_(torch.tensor(1 + drawn if name == "weight" else drawn))
        y = layer(x)
        y.backward(torch.tensor(dy))
        gradients = {f"d{name[0]}": parameter.grad for name, parameter in layer.named_parameters()}
        inputs = {"x": x, "dy": dy, **dict(layer.named_parameters())}
        return config, inputs, {"y": y, "dx": x.grad, **gradients}

    return values


def cross_entropy(random, labels, reduction, classes=None, logits=None):
    logits = tensor(random(len(labels), classes) if logits is None else np.array(logits))
    labels = np.array(labels, np.int64)
    loss = F.cross_entropy(logits, torch.tensor(labels), reduction=reduction)
    loss.backward()
    outputs = {"loss": loss, "dlogits": logits.grad, "probabilities": F.softmax(logits, 1)}
    return {"reduction": reduction}, {"logits": logits, "labels": labels}, outputs


def mse_loss(random, shape, reduction):
    output, targets = tensor(random(*shape)), random(*shape)
    loss = F.mse_loss(output, torch.tensor(targets), reduction=reduction)
    loss.backward()
    return {"reduction": reduction}, {"output": output, "targets": targets}, {"loss": loss, "doutput": output.grad}


def loss(random, name, shape, targets, **settings):
    """A class of losses on an output of a shape, with targets of a kind."""
    output, classes, places = tensor(random(*shape, scale=3.0)), shape[1], (shape[0], *shape[2:])
    if targets == "labels":
        wanted = random.rng.integers(0, classes, places)
    elif targets == "some ignored":
        wanted = random.rng.integers(0, classes, places)
        wanted[random.rng.random(places) < 0.3] = settings.get("ignore_index", -100)
    elif targets == "probabilities":
        wanted = np.moveaxis(random.rng.multinomial(64, [1 / classes] * classes, places) / 64, -1, 1)
    elif targets == "answers":
        wanted = np.round(random.rng.random(shape) * 64) / 64
    else:
        wanted = random(*shape)
    given = {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v for k, v in settings.items()}
    if "pos_weight" in given and len(shape) > 2:
        given = {k: v[:, None, None] if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    if name == "NLLLoss":
        output = tensor(-abs(random(*shape)))
    found = getattr(nn, name)(**given)(output, torch.tensor(wanted))
    found.backward()
    return {"name": name, **settings}, {"output": output, "targets": wanted}, {"loss": found, "doutput": output.grad}


def functional(random, function, shapes, positive=(), labels=None, indices_of=None, **config):
    """A function on plain arrays: its arrays are drawn by the names of its arguments, and may be changed by it."""
    inputs = {name: random(*shape) for name, shape in shapes.items()}
    for name in positive:
        inputs[name] = 1 + abs(inputs[name])
    if labels == "probabilities":
        inputs["target"] = np.round(random.rng.random(shapes["input"]) * 64) / 64
    elif labels is not None:
        inputs["target"] = np.array(labels, np.int64)
    if indices_of is not None:  # the windows' largest values of an image
        largest, indices = F.max_pool2d(torch.tensor(random(*indices_of)), **config, return_indices=True)
        inputs |= {"input": largest, "indices": indices}
    given = {name: torch.tensor(np.array(value)) for name, value in inputs.items()}
    found = getattr(F, function)(**given, **config)
    outputs = dict(zip(("y", "at"), found, strict=False)) if isinstance(found, tuple) else {"y": found}
    for name in given.keys() & {"running_mean", "running_var"}:
        outputs[f"{name} after"] = given[name]
    return {"function": function, **config}, inputs, outputs


def optimizer(random, name, **settings):
    """Ten steps with gradients that do not depend on the parameters, so only the update rule is tested."""
    initial, gradients = random(2, 3), random(10, 2, 3)
    parameter = tensor(initial)
    update = getattr(torch.optim, name)([parameter], **settings)
    steps = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        update.step()
        steps.append(parameter.detach().numpy().copy())
    return {"name": name, **settings}, {"initial": initial, "gradients": gradients}, {"parameters": steps}


def schedule(random, name, steps, lr=0.5, metrics=None, parts=(), **settings):
    """The learning rates of some steps; of the plateau, after so many epochs with these figures."""
    optimizer, kinds = torch.optim.SGD([tensor([0.0])], lr), torch.optim.lr_scheduler
    if parts:
        settings["schedulers"] = [getattr(kinds, kind)(optimizer, **given) for kind, given in parts]
    scheduler, rates = getattr(kinds, name)(optimizer, **settings), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if metrics is None else [metrics[step]]))
    settings.pop("schedulers", None)
    config = {"name": name, "steps": steps, "lr": lr, "metrics": metrics, "parts": parts, **settings}
    return config, {}, {"rates": rates}


class Residual(nn.Module):
    """``body(x) + x``."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + x


def norm_relu_conv():
    return [nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]


def net(random, **settings):
    """A small net, trained for ten steps on one batch."""
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), *norm_relu_conv(), nn.BatchNorm2d(4))
    stem = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*stem, Residual(body), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            value = random(*parameter.shape, scale=0.25)
            if parameter.ndim == 1 and name.endswith("weight"):  # batch norm's
                value += 1
            parameter.copy_(torch.tensor(value))
    images, labels = random(6, 2, 8, 8), np.array([0, 2, 1, 1, 0, 2], np.int64)
    inputs = {"images": images, "labels": labels}
    inputs.update({f"initial/{name}": value.numpy().copy() for name, value in net.state_dict().items()})
    optimizer = torch.optim.SGD(net.parameters(), **settings)
    losses, outputs = [], {}
    for step in range(10):
        logits = net(torch.tensor(images))
        loss = F.cross_entropy(logits, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            outputs["logits"] = logits
            outputs.update({f"gradient/{name}": p.grad.clone() for name, p in net.named_parameters()})
        optimizer.step()
        losses.append(loss.item())
    outputs["losses"] = losses
    outputs.update({f"final/{name}": value for name, value in net.state_dict().items()})
    net.eval()
    outputs["eval_logits"] = net(torch.tensor(images))
    return settings, inputs, outputs


def training(
    random,
    optimizer,
    settings,
    clip_norm=None,
    clip_value=None,
    accumulate=1,
    groups=None,
    frozen=None,
    statistics=False,
):
    """A small net, trained for eight batches.

    ``groups`` are settings of their own for patterns of names, ``frozen`` the patterns that are frozen from a batch on,
    with ``statistics`` the batch norm too, in evaluation mode.
    """
    norm = nn.BatchNorm2d(4)
    layers = [
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        norm,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ]
    net = nn.Sequential(*layers).double()
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(random(*parameter.shape, scale=0.25) + (name == "1.weight")))
    images, labels = random(8, 6, 2, 4, 4), np.arange(48, dtype=np.int64).reshape(8, 6) * 7 % 3
    inputs = {"images": images, "labels": labels}
    inputs.update({f"initial/{name}": value.numpy().copy() for name, value in net.state_dict().items()})
    own = {name: {} for name in parameters}
    for pattern, different in (groups or {}).items():
        for name in filter(partial(fnmatchcase, pat=pattern), parameters):
            own[name] |= different
    update = getattr(torch.optim, optimizer)([{"params": parameters[n], **own[n]} for n in parameters], **settings)
    norms = []
    for batch in range(8):
        for pattern in (frozen or {}).get(str(batch), ()):
            for name, parameter in parameters.items():
                parameter.requires_grad_(not fnmatchcase(name, pattern))
            norm.train(not (statistics and fnmatchcase("1.running_mean", pattern)))
        loss = F.cross_entropy(net(torch.tensor(images[batch])), torch.tensor(labels[batch])) / accumulate
        loss.backward()
        if (batch + 1) % accumulate == 0:
            if clip_value is not None:
                nn.utils.clip_grad_value_(net.parameters(), clip_value)
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), np.inf if clip_norm is None else clip_norm).item())
            update.step()
            update.zero_grad()
    config = {"optimizer": optimizer, "settings": settings, "clip_norm": clip_norm, "clip_value": clip_value}
    config |= {"accumulate": accumulate, "groups": groups, "frozen": frozen, "statistics": statistics}
    return config, inputs, {"norms": norms} | {f"final/{name}": value for name, value in net.state_dict().items()}


def initialisation(random, layer, args, fan_in):
    """Default initialisation: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weight and bias."""
    torch.manual_seed(0)
    bound = 1 / np.sqrt(fan_in)
    config = {"layer": layer, "args": args, "fan_in": fan_in, "bound": bound, "layers_drawn": 200}
    layers = [getattr(nn, layer)(*args) for _ in range(200)]
    for parameter in ("weight", "bias"):
        values = torch.stack([getattr(one, parameter).detach().double() for one in layers]).numpy()
        assert 0.999 * bound < np.abs(values).max() < (1 + 1e-6) * bound
        assert abs(values.mean()) < 0.02 * bound
        assert abs(values.std() / (bound / np.sqrt(3)) - 1) < 0.01
        config[parameter] = {"absolute_maximum": np.abs(values).max(), "mean": values.mean(), "std": values.std()}
    return config, {}, {}


# The cases: family -> group -> (function, arguments by the case's name) ----------------------------------------------
BOTH_SIDES = ((0, 1), (2, 1))  # more than half a window: PyTorch refuses it, so the image is padded first
ADAPTIVE = {
    "global": {"x": (2, 3, 4, 5), "output_size": 1},
    "equal windows": {"x": (2, 2, 6, 8), "output_size": (3, 2)},
    "overlapping windows": {"x": (2, 2, 7, 8), "output_size": (3, 5)},
    "more than there are pixels": {"x": (2, 2, 3, 4), "output_size": (7, 6)},
    "an axis as it is": {"x": (2, 2, 5, 4), "output_size": (None, 3)},
}
BORDERS = [
    {"x": (2, 2, 5, 6), "channels": 3, "kernel_size": 3, "padding": 2},
    {"x": (2, 2, 5, 6), "channels": 2, "kernel_size": (3, 2), "padding": (0, 1), "stride": 2, "groups": 2},
    {"x": (1, 2, 5, 6), "channels": 3, "kernel_size": (2, 3), "padding": "same", "dilation": 2},
    {"x": (2, 2, 7), "channels": 4, "kernel_size": 3, "padding": 3, "stride": 2, "groups": 2},
    {"x": (2, 2, 7), "channels": 3, "kernel_size": 4, "padding": "same"},
]
ADAPTIVE_1D = {
    "global": {"x": (2, 3, 5), "output_size": 1},
    "equal windows": {"x": (2, 2, 6), "output_size": 2},
    "overlapping windows": {"x": (2, 2, 7), "output_size": 5},
    "more than there are places": {"x": (2, 2, 3), "output_size": 7},
}
REDUCTIONS = {
    "images": {"x": (2, 3, 4, 5), "dim": (2, 3)},
    "images, kept": {"x": (2, 3, 4, 5), "dim": (2, 3), "keepdim": True},
    "channels": {"x": (2, 3, 4, 5), "dim": 1},
    "rows": {"x": (2, 3, 4, 5), "dim": -2},
    "sequences": {"x": (2, 3, 4), "dim": 2},
}
PAIRS = {
    "images": {"x": (2, 3, 4, 5), "other": (2, 3, 4, 5)},
    "channels": {"x": (2, 3, 1, 1), "other": (2, 3, 4, 5)},
    "rows and columns": {"x": (2, 3, 1, 5), "other": (2, 1, 4, 1)},
    "features": {"x": (3, 6), "other": (3, 6)},
}
POSITIVE_PAIRS = {name: {**arguments, "positive": True} for name, arguments in PAIRS.items()}
TIES = {"equal ones": {"x": (2, 3, 4, 5), "other": (2, 3, 4, 1), "ties": True}}
METRICS = [5.0, 4.0, 4.0, 4.0, 4.0, 3.9999, 3.9998, 2.0, 2.5, 1.9999, 2.0, 2.1, 2.2, 1.0, 1.1, 1.2, 1.3, 1.0]
SCHEDULES = [
    {"name": "StepLR", "steps": 12, "step_size": 3},
    {"name": "StepLR", "steps": 12, "step_size": 5, "gamma": 0.3},
    {"name": "MultiStepLR", "steps": 12, "milestones": [2, 7, 8], "gamma": 0.5},
    {"name": "ExponentialLR", "steps": 12, "gamma": 0.9},
    {"name": "PolynomialLR", "steps": 12, "total_iters": 10, "power": 1.0},
    {"name": "PolynomialLR", "steps": 12, "total_iters": 8, "power": 2.5},
    {"name": "OneCycleLR", "steps": 20, "max_lr": 0.5, "total_steps": 21},
    {
        "name": "OneCycleLR",
        "steps": 20,
        "max_lr": 0.5,
        "total_steps": 21,
        "pct_start": 0.1,
        "anneal_strategy": "linear",
    },
    {
        "name": "OneCycleLR",
        "steps": 30,
        "max_lr": 0.5,
        "total_steps": 31,
        "three_phase": True,
        "div_factor": 10.0,
        "final_div_factor": 100.0,
    },
    {"name": "ReduceLROnPlateau", "steps": 18, "metrics": METRICS, "patience": 1},
    {"name": "ReduceLROnPlateau", "steps": 18, "metrics": METRICS, "patience": 0, "factor": 0.5, "cooldown": 2},
    {
        "name": "ReduceLROnPlateau",
        "steps": 18,
        "metrics": METRICS,
        "patience": 2,
        "mode": "max",
        "threshold": 0.01,
        "threshold_mode": "abs",
        "min_lr": 0.03,
    },
    {
        "name": "SequentialLR",
        "steps": 14,
        "milestones": [4, 9],
        "parts": [["StepLR", {"step_size": 2}], ["ExponentialLR", {"gamma": 0.8}], ["StepLR", {"step_size": 3}]],
    },
]
VECTORS, PICTURES = (6, 4), (3, 3, 2, 4)
AXES = {
    "channels": {"x": (3, 4, 3, 2), "dim": 1},
    "height": {"x": (2, 3, 4, 2), "dim": -2},
    "width": {"x": (2, 3, 2, 4), "dim": 3},
    "features": {"x": (5, 8), "dim": -1},
    "an axis of five": {"x": (2, 3, 2, 4, 3), "dim": 3},
    "far from 0": {"x": (3, 20), "dim": 1, "scale": 400.0},
}
PADDINGS = {
    "all sides": {"x": (2, 2, 4, 5), "padding": 2},
    "each side its own": {"x": (2, 2, 4, 5), "padding": (1, 2, 3, 0)},
    "as far as it goes": {"x": (1, 2, 4, 5), "padding": (4, 4, 3, 3)},
    "cut off": {"x": (2, 2, 4, 5), "padding": -1},
    "cut off on one side": {"x": (2, 2, 4, 5), "padding": (2, -3, -1, 2)},
}
NEAR = {"near": {"x": (3, 2, 4, 5), "scale": 3.0}}
NEAR_AND_FAR = NEAR | {"far from 0": {"x": (3, 20), "scale": 200.0}}
LOSSES = [
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "labels", "label_smoothing": 0.1},
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "some ignored"},
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "some ignored", "ignore_index": 2},
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "labels", "weight": [0.5, 2.0, 0.25, 1.0]},
    {
        "name": "CrossEntropyLoss",
        "shape": VECTORS,
        "targets": "some ignored",
        "weight": [0.5, 2.0, 0.25, 1.0],
        "label_smoothing": 0.2,
        "reduction": "sum",
    },
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "probabilities"},
    {
        "name": "CrossEntropyLoss",
        "shape": VECTORS,
        "targets": "probabilities",
        "weight": [0.5, 2.0, 0.25, 1.0],
        "label_smoothing": 0.2,
    },
    {"name": "CrossEntropyLoss", "shape": PICTURES, "targets": "labels"},
    {
        "name": "CrossEntropyLoss",
        "shape": PICTURES,
        "targets": "some ignored",
        "weight": [0.5, 2.0, 0.25],
        "ignore_index": 255,
        "label_smoothing": 0.1,
    },
    {"name": "CrossEntropyLoss", "shape": PICTURES, "targets": "probabilities", "weight": [0.5, 2.0, 0.25]},
    {"name": "CrossEntropyLoss", "shape": (2, 3, 5), "targets": "some ignored"},
    {"name": "NLLLoss", "shape": VECTORS, "targets": "labels"},
    {"name": "NLLLoss", "shape": PICTURES, "targets": "some ignored", "weight": [0.5, 2.0, 0.25]},
    {"name": "NLLLoss", "shape": PICTURES, "targets": "labels", "reduction": "sum"},
    {"name": "BCEWithLogitsLoss", "shape": VECTORS, "targets": "answers"},
    {"name": "BCEWithLogitsLoss", "shape": PICTURES, "targets": "answers", "reduction": "sum"},
    {
        "name": "BCEWithLogitsLoss",
        "shape": VECTORS,
        "targets": "answers",
        "weight": [0.5, 2.0, 0.25, 1.0],
        "pos_weight": [3.0, 1.0, 0.5, 2.0],
    },
    {"name": "BCEWithLogitsLoss", "shape": PICTURES, "targets": "answers", "pos_weight": [3.0, 1.0, 0.5]},
    {"name": "L1Loss", "shape": PICTURES, "targets": "numbers"},
    {"name": "L1Loss", "shape": VECTORS, "targets": "numbers", "reduction": "sum"},
    {"name": "SmoothL1Loss", "shape": PICTURES, "targets": "numbers"},
    {"name": "SmoothL1Loss", "shape": VECTORS, "targets": "numbers", "reduction": "sum", "beta": 0.5},
    {"name": "SmoothL1Loss", "shape": VECTORS, "targets": "numbers", "beta": 0.0},
    {"name": "HuberLoss", "shape": PICTURES, "targets": "numbers"},
    {"name": "HuberLoss", "shape": VECTORS, "targets": "numbers", "reduction": "sum", "delta": 0.5},
    {"name": "CrossEntropyLoss", "shape": VECTORS, "targets": "labels", "weight": [-0.5, 2.0, -0.25, 1.0]},
    {"name": "NLLLoss", "shape": PICTURES, "targets": "some ignored", "weight": [0.5, -2.0, 0.25]},
    {
        "name": "BCEWithLogitsLoss",
        "shape": VECTORS,
        "targets": "answers",
        "weight": [0.5, -2.0, 0.25, 1.0],
        "pos_weight": [3.0, 1.0, -0.5, 2.0],
    },
]

#: what functions do that no layer does, or that layers do otherwise: the table of layers has the rest
FUNCTIONS = [
    {"function": "softmax", "shapes": {"input": (3, 4)}, "dim": 0},
    {"function": "softmax", "shapes": {"input": (2, 3, 2, 2, 3)}, "dim": -3},
    {"function": "log_softmax", "shapes": {"input": (5,)}, "dim": 0},
    {"function": "glu", "shapes": {"input": (4, 3, 2)}, "dim": 0},
    {"function": "glu", "shapes": {"input": (2, 3, 2, 4)}},
    {"function": "prelu", "shapes": {"input": (2, 3, 2, 2, 2), "weight": (3,)}},
    {"function": "linear", "shapes": {"input": (2, 3, 5), "weight": (4, 5), "bias": (4,)}},
    {"function": "linear", "shapes": {"input": (5,), "weight": (4, 5)}},
    {"function": "conv2d", "shapes": {"input": (3, 5, 6), "weight": (4, 3, 3, 2), "bias": (4,)}, "stride": 2},
    {"function": "conv_transpose2d", "shapes": {"input": (3, 4, 3), "weight": (3, 2, 3, 2)}, "stride": 2},
    {"function": "max_pool2d", "shapes": {"input": (3, 7, 6)}, "kernel_size": 3, "return_indices": True},
    {"function": "avg_pool2d", "shapes": {"input": (3, 7, 6)}, "kernel_size": 2},
    {
        "function": "avg_pool2d",
        "shapes": {"input": (2, 3, 7, 6)},
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "ceil_mode": True,
        "divisor_override": 5,
    },
    {
        "function": "avg_pool2d",
        "shapes": {"input": (2, 3, 7, 6)},
        "kernel_size": 3,
        "padding": 1,
        "divisor_override": 2,
    },
    {"function": "adaptive_avg_pool2d", "shapes": {"input": (3, 7, 6)}, "output_size": (3, None)},
    {"function": "adaptive_max_pool2d", "shapes": {"input": (2, 3, 7, 6)}, "output_size": 2, "return_indices": True},
    {"function": "adaptive_max_pool2d", "shapes": {"input": (3, 6, 4)}, "output_size": (3, 2), "return_indices": True},
    {"function": "adaptive_max_pool2d", "shapes": {"input": (1, 2, 2, 3)}, "output_size": 5, "return_indices": True},
    {"function": "max_unpool2d", "shapes": {}, "indices_of": (2, 3, 6, 8), "kernel_size": 2},
    {"function": "max_unpool2d", "shapes": {}, "indices_of": (3, 7, 7), "kernel_size": 3, "stride": 2},
    {"function": "max_unpool2d", "shapes": {}, "indices_of": (2, 2, 6, 6), "kernel_size": 2, "stride": 2, "padding": 1},
    {"function": "unfold", "shapes": {"input": (3, 5, 6)}, "kernel_size": 2, "stride": 2},
    {"function": "fold", "shapes": {"input": (12, 6)}, "output_size": (4, 6), "kernel_size": 2, "stride": 2},
    {
        "function": "batch_norm",
        "shapes": {"input": (3, 2, 2, 3, 2), "running_mean": (2,), "running_var": (2,), "weight": (2,), "bias": (2,)},
        "positive": ["running_var"],
        "training": True,
        "momentum": 0.3,
        "eps": 0.01,
    },
    {
        "function": "batch_norm",
        "shapes": {"input": (4, 3), "running_mean": (3,), "running_var": (3,), "bias": (3,)},
        "positive": ["running_var"],
    },
    {
        "function": "batch_norm",
        "shapes": {"input": (4, 3, 2)},
        "running_mean": None,
        "running_var": None,
        "training": True,
    },
    {
        "function": "instance_norm",
        "shapes": {"input": (3, 2, 2, 3), "running_mean": (2,), "running_var": (2,), "weight": (2,), "bias": (2,)},
        "positive": ["running_var"],
        "momentum": 0.2,
    },
    {
        "function": "instance_norm",
        "shapes": {"input": (3, 2, 2, 3), "running_mean": (2,), "running_var": (2,), "weight": (2,)},
        "positive": ["running_var"],
        "use_input_stats": False,
        "eps": 0.01,
    },
    {"function": "instance_norm", "shapes": {"input": (3, 2, 5), "bias": (2,)}},
    {"function": "group_norm", "shapes": {"input": (2, 6, 2, 3, 2), "weight": (6,)}, "num_groups": 3},
    {"function": "layer_norm", "shapes": {"input": (5,), "weight": (5,)}, "normalized_shape": (5,)},
    {"function": "layer_norm", "shapes": {"input": (2, 3, 4, 5, 2), "bias": (5, 2)}, "normalized_shape": (5, 2)},
    {"function": "rms_norm", "shapes": {"input": (2, 3, 4, 5, 2), "weight": (5, 2)}, "normalized_shape": (5, 2)},
    {"function": "local_response_norm", "shapes": {"input": (2, 5, 4)}, "size": 3, "alpha": 0.5},
    {"function": "normalize", "shapes": {"input": (3, 4, 2)}},
    {"function": "normalize", "shapes": {"input": (3, 4)}, "p": 3.0, "dim": -1, "eps": 0.1},
    {"function": "normalize", "shapes": {"input": (3, 4)}, "p": 1.0, "dim": 0},
    {"function": "pad", "shapes": {"input": (2, 3, 4)}, "pad": [1, 2, 0, 3, 2, 1], "value": 0.5},
    {"function": "pad", "shapes": {"input": (3, 5, 4)}, "pad": [-1, 2, 1, -3]},
    {"function": "pad", "shapes": {"input": (2, 5, 4)}, "pad": [1, 2, 0, 3], "mode": "reflect"},
    {"function": "pad", "shapes": {"input": (2, 3, 4)}, "pad": [1, 3], "mode": "reflect"},
    {"function": "pad", "shapes": {"input": (2, 3, 2, 2)}, "pad": [3, 2, 0, 4], "mode": "replicate"},
    {"function": "pad", "shapes": {"input": (3, 4)}, "pad": [1, 5], "mode": "replicate"},
    {"function": "interpolate", "shapes": {"input": (2, 3, 4, 6)}, "scale_factor": 0.5},
    {"function": "interpolate", "shapes": {"input": (2, 3, 4, 6)}, "scale_factor": (1.5, 2), "mode": "bilinear"},
    {
        "function": "interpolate",
        "shapes": {"input": (2, 3, 5, 3)},
        "scale_factor": 1.7,
        "mode": "bilinear",
        "recompute_scale_factor": True,
    },
    {"function": "pixel_shuffle", "shapes": {"input": (8, 2, 3)}, "upscale_factor": 2},
    {"function": "pixel_unshuffle", "shapes": {"input": (2, 1, 3, 4, 6)}, "downscale_factor": 2},
    {"function": "channel_shuffle", "shapes": {"input": (2, 6, 3)}, "groups": 2},
    {"function": "cross_entropy", "shapes": {"input": (5, 3)}, "labels": [0, 2, -100, 1, 2], "reduction": "none"},
    {
        "function": "cross_entropy",
        "shapes": {"input": (2, 3, 2, 2), "weight": (3,)},
        "positive": ["weight"],
        "labels": [[[0, 1], [2, 0]], [[1, 1], [7, 2]]],
        "ignore_index": 7,
        "label_smoothing": 0.1,
        "reduction": "none",
    },
    {
        "function": "cross_entropy",
        "shapes": {"input": (2, 3, 2, 2), "weight": (3,)},
        "positive": ["weight"],
        "labels": [[[0, 1], [2, 0]], [[1, 1], [7, 2]]],
        "ignore_index": 7,
        "label_smoothing": 0.1,
    },
    {"function": "cross_entropy", "shapes": {"input": (3,)}, "labels": 2},
    {"function": "cross_entropy", "shapes": {"input": (2, 3)}, "labels": [-100, -100]},
    {
        "function": "nll_loss",
        "shapes": {"input": (3, 2, 4), "weight": (2,)},
        "positive": ["weight"],
        "labels": [[0, 1, 1, 0], [0, -100, 1, 0], [1, 1, 1, 0]],
    },
    {"function": "nll_loss", "shapes": {"input": (3, 2)}, "labels": [0, 1, 1], "reduction": "none"},
    {"function": "cross_entropy", "shapes": {"input": (2, 3, 4)}, "labels": "probabilities", "reduction": "none"},
    {
        "function": "binary_cross_entropy_with_logits",
        "shapes": {"input": (3, 2, 4), "weight": (2, 1), "pos_weight": (4,)},
        "positive": ["pos_weight"],
        "labels": "probabilities",
        "reduction": "none",
    },
    {"function": "binary_cross_entropy_with_logits", "shapes": {"input": (5,)}, "labels": "probabilities"},
    {"function": "mse_loss", "shapes": {"input": (3, 2), "target": (3, 2)}, "reduction": "none"},
    {"function": "mse_loss", "shapes": {"input": (), "target": ()}},
    {"function": "l1_loss", "shapes": {"input": (2, 1, 3, 2), "target": (2, 1, 3, 2)}, "reduction": "none"},
    {"function": "l1_loss", "shapes": {"input": (5,), "target": (5,)}, "reduction": "sum"},
    {"function": "huber_loss", "shapes": {"input": (3, 2), "target": (3, 2)}, "reduction": "none", "delta": 0.5},
    {"function": "smooth_l1_loss", "shapes": {"input": (3, 4), "target": (3, 4)}, "reduction": "none", "beta": 0.5},
    {"function": "interpolate", "shapes": {"input": (1, 2, 7, 5)}, "scale_factor": (0.3, 1.1)},
    {"function": "interpolate", "shapes": {"input": (1, 2, 4, 3)}, "scale_factor": (2.1, 3.4)},
    {"function": "interpolate", "shapes": {"input": (1, 2, 7, 5)}, "scale_factor": (1.1, 2.3), "mode": "bilinear"},
    {"function": "interpolate", "shapes": {"input": (1, 2, 4, 3)}, "scale_factor": 2.4, "recompute_scale_factor": True},
]

ADAM = {"lr": 0.02, "weight_decay": 0.1}
TRAININGS = {
    "clipped by norm": {"optimizer": "SGD", "settings": {"lr": 0.2, "momentum": 0.9}, "clip_norm": 0.5},
    "clipped by value": {"optimizer": "SGD", "settings": {"lr": 0.2}, "clip_value": 0.05},
    "clipped by both": {"optimizer": "Adam", "settings": ADAM, "clip_value": 0.05, "clip_norm": 0.1},
    "accumulated": {"optimizer": "Adam", "settings": ADAM, "accumulate": 2, "clip_norm": 0.4},
    "groups": {
        "optimizer": "AdamW",
        "settings": ADAM,
        "groups": {"*.bias": {"weight_decay": 0}, "5.*": {"lr": 0.05, "betas": [0.8, 0.99]}},
    },
    "groups of SGD": {
        "optimizer": "SGD",
        "settings": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        "groups": {"*": {"weight_decay": 0}, "0.weight": {"momentum": 0.0, "weight_decay": 0.2}},
    },
    "frozen and learning again": {
        "optimizer": "Adam",
        "settings": ADAM,
        "frozen": {"2": ["[01].*"], "5": ["none"]},
        "clip_norm": 0.3,
    },
    "frozen from the beginning": {"optimizer": "Adam", "settings": ADAM, "frozen": {"0": ["[01].*"], "4": ["none"]}},
    "frozen statistics": {
        "optimizer": "SGD",
        "settings": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        "frozen": {"3": ["1.*"], "6": ["none"]},
        "statistics": True,
    },
    "frozen statistics, and a weight that learns": {
        "optimizer": "SGD",
        "settings": {"lr": 0.1},
        "frozen": {"3": ["1.running*"]},
        "statistics": True,
    },
}

FAMILIES = {
    "convolution": {
        "conv2d": (
            conv2d,
            {
                "3x3": {"x": (2, 2, 5, 6), "w": (3, 2, 3, 3)},
                "3x3, stride 2": {"x": (2, 3, 6, 7), "w": (2, 3, 3, 3), "stride": 2, "padding": 1},
                "3x5, same": {"x": (1, 2, 6, 5), "w": (3, 2, 3, 5), "padding": "same"},
                "2x4, same": {"x": (1, 2, 5, 6), "w": (2, 2, 2, 4), "padding": "same"},
                "same, dilated": {"x": (1, 2, 7, 6), "w": (2, 2, 2, 3), "padding": "same", "dilation": (3, 2)},
                "dilation 2": {"x": (1, 2, 8, 7), "w": (2, 2, 3, 3), "padding": 2, "dilation": 2},
                "two groups": {"x": (2, 4, 5, 5), "w": (6, 2, 3, 3), "padding": 1, "groups": 2},
                "depthwise, two filters a channel": {
                    "x": (2, 3, 6, 5),
                    "w": (6, 1, 3, 3),
                    "stride": (2, 1),
                    "padding": (1, 0),
                    "groups": 3,
                },
                "1x1": {"x": (2, 4, 3, 4), "w": (5, 4, 1, 1), "padding": "valid"},
                "1x1, stride 2": {"x": (2, 3, 5, 6), "w": (4, 3, 1, 1), "stride": 2},
                "4x2, stride 1x3": {"x": (2, 2, 7, 8), "w": (2, 2, 4, 2), "stride": (1, 3), "padding": (2, 1)},
                "1x5": {"x": (1, 2, 6, 9), "w": (3, 2, 1, 5), "padding": (0, 2)},
                "7x7, stride 2": {"x": (1, 3, 13, 12), "w": (2, 3, 7, 7), "stride": 2, "padding": 3},
                "padded below and left": {
                    "x": (2, 2, 5, 6),
                    "w": (2, 2, 3, 2),
                    "stride": 2,
                    "padding": ((0, 2), (1, 0)),
                },
                "pixels that no window holds": {"x": (1, 1, 8, 9), "w": (2, 1, 2, 2), "stride": 3},
                "one window": {"x": (3, 2, 4, 3), "w": (4, 2, 4, 3)},
                "everything": {
                    "x": (1, 4, 7, 8),
                    "w": (4, 2, 3, 2),
                    "stride": (3, 2),
                    "padding": (2, 1),
                    "dilation": (2, 3),
                    "groups": 2,
                },
            },
        ),
        "conv_transpose2d": (
            conv_transpose2d,
            {
                "2x2, stride 2": {"x": (2, 4, 3, 4), "w": (4, 3, 2, 2), "stride": 2},
                "3x3": {"x": (2, 2, 5, 6), "w": (2, 3, 3, 3), "padding": 1},
                "4x4, stride 2": {"x": (2, 3, 4, 3), "w": (3, 2, 4, 4), "stride": 2, "padding": 1},
                "output padding": {
                    "x": (2, 3, 4, 5),
                    "w": (3, 2, 3, 3),
                    "stride": (2, 3),
                    "padding": (1, 0),
                    "output_padding": (1, 2),
                },
                "output padding below the dilation": {
                    "x": (2, 2, 4, 3),
                    "w": (2, 3, 2, 3),
                    "padding": (1, 0),
                    "output_padding": (2, 1),
                    "dilation": (3, 2),
                },
                "two groups": {"x": (2, 4, 4, 5), "w": (4, 3, 3, 2), "stride": 2, "groups": 2},
                "depthwise": {"x": (2, 3, 4, 5), "w": (3, 1, 3, 3), "stride": 2, "padding": 1, "groups": 3},
                "more padding than the kernel": {"x": (1, 2, 5, 6), "w": (2, 3, 1, 2), "padding": (1, 2)},
                "1x1, stride 2": {"x": (2, 3, 4, 3), "w": (3, 4, 1, 1), "stride": 2, "output_padding": (0, 1)},
                "everything": {
                    "x": (1, 4, 4, 5),
                    "w": (4, 2, 3, 2),
                    "stride": (3, 2),
                    "padding": (2, 1),
                    "output_padding": (1, 2),
                    "groups": 2,
                    "dilation": (2, 3),
                },
            },
        ),
        "conv1d": (
            conv1d,
            {
                "3": {"x": (2, 2, 7), "w": (3, 2, 3)},
                "stride 2, padded": {"x": (2, 3, 8), "w": (2, 3, 3), "stride": 2, "padding": 1},
                "same, dilated": {"x": (1, 2, 9), "w": (2, 2, 4), "padding": "same", "dilation": 2},
                "1, two groups": {"x": (2, 4, 5), "w": (6, 2, 1), "groups": 2, "padding": "valid"},
                "depthwise": {"x": (2, 3, 8), "w": (6, 1, 3), "groups": 3, "padding": (2,), "stride": (3,)},
                "one window": {"x": (3, 2, 4), "w": (4, 2, 4)},
            },
        ),
        "conv_transpose1d": (
            conv_transpose1d,
            {
                "2, stride 2": {"x": (2, 4, 5), "w": (4, 3, 2), "stride": 2},
                "3, padded": {"x": (2, 2, 6), "w": (2, 3, 3), "padding": 1},
                "output padding": {"x": (2, 3, 4), "w": (3, 2, 3), "stride": 3, "padding": 1, "output_padding": 2},
                "everything": {
                    "x": (1, 4, 5),
                    "w": (4, 2, 3),
                    "stride": (3,),
                    "padding": (2,),
                    "output_padding": (1,),
                    "groups": 2,
                    "dilation": (2,),
                },
            },
        ),
        "padding_mode": (
            padding_mode,
            {
                f"{mode}, {i}": {**arguments, "padding_mode": mode}
                for mode in ("reflect", "replicate", "circular")
                for i, arguments in enumerate(BORDERS)
            },
        ),
        "unfold": (
            unfold,
            {
                "3x3": {"x": (2, 2, 5, 6), "kernel_size": 3},
                "padded, strided": {"x": (1, 3, 6, 5), "kernel_size": (2, 3), "padding": (1, 2), "stride": (2, 1)},
                "dilated": {"x": (1, 2, 7, 8), "kernel_size": (3, 2), "dilation": (2, 3), "padding": 1, "stride": 2},
                "side by side": {"x": (2, 2, 4, 4), "kernel_size": 2, "stride": 2},
                "pixels that no window holds": {"x": (1, 1, 7, 8), "kernel_size": 2, "stride": 3},
            },
        ),
    },
    "pooling": {
        "max_pool2d": (
            max_pool2d,
            {
                "2x2": {"x": (2, 3, 6, 8), "kernel_size": 2},
                "3x3, stride 2": {"x": (2, 2, 7, 7), "kernel_size": 3, "stride": 2},
                "3x3, stride 2, padded": {"x": (2, 2, 7, 8), "kernel_size": 3, "stride": 2, "padding": 1},
                "ceil_mode": {"x": (2, 2, 6, 7), "kernel_size": 2, "ceil_mode": True},
                "ceil_mode, strided": {
                    "x": (1, 2, 6, 7),
                    "kernel_size": (3, 2),
                    "stride": (2, 3),
                    "padding": (1, 1),
                    "ceil_mode": True,
                },
                "dilated": {"x": (1, 2, 8, 9), "kernel_size": 3, "stride": 1, "dilation": 2},
                "ceil_mode, dilated": {
                    "x": (1, 2, 9, 8),
                    "kernel_size": (2, 3),
                    "stride": (1, 2),
                    "padding": (1, 1),
                    "dilation": (3, 2),
                    "ceil_mode": True,
                },
                "overlapping": {"x": (1, 2, 5, 6), "kernel_size": 3, "stride": 1, "padding": 1},
                "many equal maxima": {
                    "x": (2, 2, 7, 6),
                    "kernel_size": 3,
                    "stride": 2,
                    "padding": 1,
                    "ties": True,
                },
                "padded on each side": {"x": (1, 2, 5, 6), "kernel_size": 3, "stride": 2, "padding": BOTH_SIDES},
                "ceil_mode's last window is left out": {
                    "x": (1, 2, 5, 5),
                    "kernel_size": 2,
                    "stride": 3,
                    "padding": 1,
                    "ceil_mode": True,
                },
            },
        ),
        "avg_pool2d": (
            avg_pool2d,
            {
                "divisor_override": {
                    "x": (2, 2, 7, 8),
                    "kernel_size": 3,
                    "stride": 2,
                    "padding": 1,
                    "divisor_override": 4,
                },
                "divisor_override, ceil_mode": {
                    "x": (2, 2, 6, 7),
                    "kernel_size": 2,
                    "ceil_mode": True,
                    "divisor_override": 3,
                },
                "2x2": {"x": (2, 3, 6, 8), "kernel_size": 2},
                "3x3, stride 2": {"x": (2, 2, 7, 7), "kernel_size": 3, "stride": 2},
                "padded": {"x": (2, 2, 7, 8), "kernel_size": 3, "stride": 2, "padding": 1},
                "padding does not count": {
                    "x": (2, 2, 7, 8),
                    "kernel_size": 3,
                    "stride": 2,
                    "padding": 1,
                    "count_include_pad": False,
                },
                "ceil_mode": {"x": (2, 2, 6, 7), "kernel_size": 2, "ceil_mode": True},
                "ceil_mode, padded": {
                    "x": (1, 2, 6, 7),
                    "kernel_size": (3, 2),
                    "stride": (2, 3),
                    "padding": (1, 1),
                    "ceil_mode": True,
                },
                "ceil_mode, padding does not count": {
                    "x": (1, 2, 6, 7),
                    "kernel_size": (3, 2),
                    "stride": (2, 3),
                    "padding": (1, 1),
                    "ceil_mode": True,
                    "count_include_pad": False,
                },
                "ceil_mode, 4x4": {
                    "x": (1, 2, 6, 8),
                    "kernel_size": 4,
                    "stride": 3,
                    "padding": 2,
                    "ceil_mode": True,
                },
                "overlapping": {
                    "x": (1, 2, 5, 6),
                    "kernel_size": 3,
                    "stride": 1,
                    "padding": 1,
                    "count_include_pad": False,
                },
                "padded on each side": {"x": (1, 2, 5, 6), "kernel_size": 3, "stride": 2, "padding": BOTH_SIDES},
                "ceil_mode's last window is left out": {
                    "x": (1, 2, 5, 5),
                    "kernel_size": 2,
                    "stride": 3,
                    "padding": 1,
                    "ceil_mode": True,
                },
            },
        ),
        "lp_pool2d": (
            lp_pool2d,
            {
                "2": {"x": (2, 3, 6, 8), "norm_type": 2.0, "kernel_size": 2},
                "3, overlapping": {"x": (2, 2, 6, 7), "norm_type": 3.0, "kernel_size": (3, 2), "stride": 1},
                "1.5, ceil_mode": {
                    "x": (2, 2, 6, 7),
                    "norm_type": 1.5,
                    "kernel_size": 3,
                    "stride": 2,
                    "ceil_mode": True,
                },
                "zeros": {"x": (2, 2, 6, 8), "norm_type": 2.0, "kernel_size": 2, "zeros": True},
                "zeros, 1": {"x": (2, 2, 6, 8), "norm_type": 1.0, "kernel_size": 2, "zeros": True},
            },
        ),
        "adaptive_avg_pool2d": (layer(F.adaptive_avg_pool2d), ADAPTIVE),
        "adaptive_max_pool2d": (
            layer(F.adaptive_max_pool2d),
            ADAPTIVE | {"equal maxima": {"x": (2, 2, 7, 8), "output_size": (3, 5), "ties": True}},
        ),
        "mean": (layer(torch.mean), REDUCTIONS),
        "sum": (layer(torch.sum), REDUCTIONS),
        "amax": (layer(torch.amax), REDUCTIONS | {"equal ones": {"x": (2, 3, 4, 5), "dim": (1, 3), "ties": True}}),
        "amin": (layer(torch.amin), REDUCTIONS | {"equal ones": {"x": (2, 3, 4, 5), "dim": 2, "ties": True}}),
        "max_pool1d": (
            layer(F.max_pool1d),
            {
                "2": {"x": (2, 3, 8), "kernel_size": 2},
                "3, stride 2, padded": {"x": (2, 2, 8), "kernel_size": 3, "stride": 2, "padding": 1},
                "ceil_mode": {"x": (2, 2, 7), "kernel_size": (2,), "ceil_mode": True},
                "dilated": {"x": (1, 2, 9), "kernel_size": 3, "stride": 1, "dilation": 2},
                "many equal maxima": {"x": (2, 2, 9), "kernel_size": 3, "stride": 2, "padding": 1, "ties": True},
            },
        ),
        "avg_pool1d": (
            layer(F.avg_pool1d),
            {
                "2": {"x": (2, 3, 8), "kernel_size": 2},
                "padded": {"x": (2, 2, 8), "kernel_size": 3, "stride": 2, "padding": 1},
                "ceil_mode, padding does not count": {
                    "x": (1, 2, 8),
                    "kernel_size": (4,),
                    "stride": (3,),
                    "padding": (2,),
                    "ceil_mode": True,
                    "count_include_pad": False,
                },
            },
        ),
        "adaptive_avg_pool1d": (layer(F.adaptive_avg_pool1d), ADAPTIVE_1D),
        "adaptive_max_pool1d": (
            layer(F.adaptive_max_pool1d),
            ADAPTIVE_1D | {"equal maxima": {"x": (2, 2, 8), "output_size": 5, "ties": True}},
        ),
    },
    "activation": {
        "relu": (activation(F.relu), {"images": {"x": (3, 2, 4, 5)}}),
        "leaky_relu": (activation(F.leaky_relu, negative_slope=0.2), {"images": {"x": (3, 2, 4, 5)}}),
        "sigmoid": (
            activation(F.sigmoid),
            {"images": {"x": (3, 2, 4, 5)}, "far from 0": {"x": (3, 20), "scale": 200.0}},
        ),
        "tanh": (activation(F.tanh), {"images": {"x": (3, 2, 4, 5)}, "far from 0": {"x": (3, 20), "scale": 200.0}}),
        "silu": (activation(F.silu), {"images": {"x": (3, 2, 4, 5)}, "far from 0": {"x": (3, 20), "scale": 200.0}}),
        "elu": (activation(F.elu, alpha=0.7), NEAR_AND_FAR),
        "selu": (activation(F.selu), NEAR_AND_FAR),
        "celu": (activation(F.celu, alpha=0.5), NEAR_AND_FAR),
        "gelu": (activation(F.gelu), {"near": {"x": (3, 4, 4, 5)}}),
        "gelu_tanh": (activation(partial(F.gelu, approximate="tanh")), {"near": {"x": (3, 4, 4, 5)}}),
        "mish": (activation(F.mish), NEAR_AND_FAR),
        "softplus": (activation(F.softplus, beta=1.5, threshold=4.0), NEAR_AND_FAR),
        "softsign": (activation(F.softsign), NEAR_AND_FAR),
        "log_sigmoid": (activation(F.logsigmoid), NEAR_AND_FAR),
        "hardtanh": (activation(F.hardtanh, min_val=-0.5, max_val=0.25), NEAR_AND_FAR),
        "relu6": (activation(F.relu6), NEAR_AND_FAR),
        # F.hardsigmoid's gradient multiplies float64 by a sixth in float32
        "hardsigmoid": (activation(lambda x: F.relu6(x + 3) / 6), NEAR_AND_FAR),
        "hardswish": (activation(F.hardswish), NEAR_AND_FAR),
        "threshold": (activation(F.threshold, threshold=0.5, value=2.0), NEAR_AND_FAR),
        "exp": (activation(torch.exp), NEAR),
        "abs": (activation(torch.abs), NEAR_AND_FAR),
        "square": (activation(torch.square), NEAR_AND_FAR),
        "erf": (activation(torch.erf), NEAR_AND_FAR),
        "sin": (activation(torch.sin), NEAR_AND_FAR),
        "cos": (activation(torch.cos), NEAR_AND_FAR),
        "softmax_along": (layer(F.softmax), AXES),
        "log_softmax_along": (layer(F.log_softmax), AXES),
        "glu": (layer(F.glu), AXES),
        "prelu": (
            prelu,
            {
                "one weight": {"x": (3, 2, 4, 5), "num_parameters": 1},
                "a weight for each channel": {"x": (3, 2, 4, 5), "num_parameters": 2},
                "a weight for each feature": {"x": (6, 5), "num_parameters": 5},
            },
        ),
    },
    "resampling": {
        "upsample": (
            layer(F.interpolate),
            {
                "nearest, factor": {"x": (2, 3, 4, 5), "scale_factor": (2, 3)},
                "nearest, size": {"x": (2, 3, 4, 5), "size": (7, 3)},
                "bilinear, factor": {"x": (2, 3, 4, 5), "scale_factor": 2, "mode": "bilinear"},
                "bilinear, size": {"x": (2, 3, 4, 5), "size": (7, 3), "mode": "bilinear", "align_corners": False},
                "bilinear, corners": {"x": (2, 3, 4, 5), "size": (9, 3), "mode": "bilinear", "align_corners": True},
                "nearest, fractions": {"x": (2, 2, 4, 5), "scale_factor": (3.2, 0.7)},
                "nearest, nearly the same, nearly twice": {"x": (2, 2, 4, 5), "scale_factor": (1.1, 2.1)},
                "nearest, recomputed": {"x": (2, 2, 4, 5), "scale_factor": 1.7, "recompute_scale_factor": True},
                "bilinear, fractions": {"x": (2, 2, 4, 5), "scale_factor": (2.6, 0.7), "mode": "bilinear"},
                "bilinear, nearly the same": {"x": (2, 2, 4, 5), "scale_factor": (1.1, 2.1), "mode": "bilinear"},
                "bilinear, recomputed": {
                    "x": (2, 2, 4, 5),
                    "scale_factor": 1.7,
                    "mode": "bilinear",
                    "recompute_scale_factor": True,
                },
                "bilinear, corners, fractions": {
                    "x": (2, 2, 4, 5),
                    "scale_factor": 1.7,
                    "mode": "bilinear",
                    "align_corners": True,
                },
                "bicubic, factor": {"x": (2, 3, 4, 5), "scale_factor": 2, "mode": "bicubic"},
                "bicubic, size": {"x": (2, 2, 4, 5), "size": (9, 3), "mode": "bicubic", "align_corners": False},
                "bicubic, corners": {"x": (2, 2, 4, 5), "size": (9, 3), "mode": "bicubic", "align_corners": True},
                "bicubic, fractions": {"x": (2, 2, 4, 5), "scale_factor": (2.6, 0.7), "mode": "bicubic"},
                "bicubic, nearly the same": {"x": (2, 2, 4, 5), "scale_factor": (1.1, 2.1), "mode": "bicubic"},
                "bilinear, one row": {"x": (2, 3, 4, 5), "size": (1, 8), "mode": "bilinear", "align_corners": True},
            },
        ),
    },
    "shaping": {
        "pixel_shuffle": (
            layer(F.pixel_shuffle),
            {
                "2": {"x": (2, 8, 3, 2), "upscale_factor": 2},
                "3": {"x": (2, 9, 2, 3), "upscale_factor": 3},
            },
        ),
        "pixel_unshuffle": (
            layer(F.pixel_unshuffle),
            {"2": {"x": (2, 2, 6, 4), "downscale_factor": 2}, "3": {"x": (2, 1, 6, 9), "downscale_factor": 3}},
        ),
        "channel_shuffle": (
            layer(F.channel_shuffle),
            {"2": {"x": (2, 6, 3, 2), "groups": 2}, "3": {"x": (2, 6, 2, 3), "groups": 3}},
        ),
        "unflatten": (
            module(nn.Unflatten),
            {
                "images of features": {"x": (3, 24), "dim": 1, "unflattened_size": (4, 3, 2)},
                "what is left": {"x": (3, 24), "dim": -1, "unflattened_size": (4, -1)},
                "rows": {"x": (2, 3, 6, 2), "dim": -2, "unflattened_size": (2, 3)},
            },
        ),
        "reshape": (
            layer(lambda x, shape: x.reshape(len(x), *shape)),
            {
                "images as images": {"x": (2, 4, 3, 2), "shape": (3, 2, -1)},
                "images as sequences": {"x": (2, 4, 3, 2), "shape": (4, 6)},
                "features as images": {"x": (3, 24), "shape": (4, 3, 2)},
            },
        ),
        "permute": (
            layer(torch.permute),
            {
                "channels last": {"x": (2, 4, 3, 2), "dims": (0, 2, 3, 1)},
                "sequences": {"x": (2, 4, 3), "dims": (0, 2, 1)},
            },
        ),
        "transpose": (
            layer(torch.transpose),
            {
                "channels and columns": {"x": (2, 4, 3, 2), "dim0": 1, "dim1": -1},
                "sequences": {"x": (2, 4, 3), "dim0": 2, "dim1": 1},
            },
        ),
        "slice": (
            layer(lambda x, dim, start=None, stop=None, step=1: x[(*[slice(None)] * dim, slice(start, stop, step))]),
            {
                "channels": {"x": (2, 4, 3, 2), "dim": 1, "start": 1, "stop": -1},
                "rows": {"x": (2, 4, 5, 2), "dim": 2, "step": 2},
                "features": {"x": (3, 7), "dim": 1, "start": -3},
            },
        ),
        "zero_pad2d": (module(nn.ZeroPad2d), PADDINGS),
        "reflection_pad2d": (module(nn.ReflectionPad2d), PADDINGS),
        "replication_pad2d": (module(nn.ReplicationPad2d), PADDINGS),
        "circular_pad2d": (
            module(nn.CircularPad2d),
            PADDINGS | {"all of it": {"x": (1, 2, 4, 5), "padding": (5, 5, 4, 4)}},
        ),
        "constant_pad2d": (
            module(nn.ConstantPad2d),
            {name: {**arguments, "value": -1.5} for name, arguments in PADDINGS.items()},
        ),
    },
    "linear": {
        "linear": (linear, {"seven to five": {"x": (4, 7), "w": (5, 7)}, "rows": {"x": (2, 3, 2, 7), "w": (5, 7)}}),
        "matmul": (
            of_two(torch.matmul),
            {
                "sequences": {"x": (2, 3, 4), "other": (2, 4, 5)},
                "images": {"x": (2, 3, 2, 4), "other": (2, 3, 4, 3)},
                "of one channel": {"x": (2, 3, 2, 4), "other": (2, 1, 4, 3)},
            },
        ),
    },
    "merging": {
        "sub": (of_two(torch.sub), PAIRS),
        "div": (of_two(torch.div), POSITIVE_PAIRS),
        "power": (of_two(torch.pow), POSITIVE_PAIRS),
        "maximum": (of_two(torch.maximum), PAIRS | TIES),
        "minimum": (of_two(torch.minimum), PAIRS | TIES),
    },
    "normalization": {
        "batch_norm_training": (
            partial(norm_training, "BatchNorm"),
            {
                "three channels": {"x": (3, 3, 3, 4, 4), "momentum": 0.1, "eps": 1e-5},
                "two channels": {"x": (3, 2, 2, 3, 3), "momentum": 0.3, "eps": 1e-3},
                "features": {"x": (3, 5, 4), "momentum": 0.1, "eps": 1e-5},
                "sequences": {"x": (3, 3, 2, 5), "momentum": 0.3, "eps": 1e-3},
                "no momentum": {"x": (4, 3, 3, 4, 4), "momentum": None, "eps": 1e-5},
                "no momentum, sequences": {"x": (4, 3, 2, 5), "momentum": None, "eps": 1e-5},
            },
        ),
        "batch_norm_eval": (
            partial(norm_eval, "BatchNorm"),
            {
                "three channels": {"x": (3, 3, 4, 4), "momentum": 0.1, "eps": 1e-5},
                "two channels": {"x": (2, 2, 3, 3), "momentum": 0.3, "eps": 1e-3},
                "features": {"x": (5, 4), "momentum": 0.1, "eps": 1e-5},
                "sequences": {"x": (3, 2, 5), "momentum": 0.3, "eps": 1e-3},
            },
        ),
        "batch_norm_of_batch": (
            batch_norm_of_batch,
            {
                "images": {"x": (3, 3, 4, 4), "eps": 1e-5},
                "features": {"x": (5, 4), "eps": 0.01},
                "sequences": {"x": (3, 2, 5), "eps": 1e-3},
                "no bias": {"x": (3, 3, 4, 4), "eps": 1e-5, "bias": False},
                "features, no bias": {"x": (5, 4), "eps": 0.01, "bias": False},
            },
        ),
        "instance_norm_training": (
            partial(norm_training, "InstanceNorm"),
            {
                "three channels": {"x": (3, 3, 3, 4, 4), "momentum": 0.1, "eps": 1e-5},
                "two channels": {"x": (3, 2, 2, 3, 5), "momentum": 0.3, "eps": 1e-3},
                "no momentum": {"x": (3, 3, 2, 4, 4), "momentum": None, "eps": 1e-5},
            },
        ),
        "instance_norm_eval": (
            partial(norm_eval, "InstanceNorm"),
            {
                "three channels": {"x": (3, 3, 4, 4), "momentum": 0.1, "eps": 1e-5},
                "one pixel": {"x": (2, 2, 1, 1), "momentum": 0.3, "eps": 1e-3},
            },
        ),
        "group_norm": (
            norm_within_sample(nn.GroupNorm),
            {
                "two groups": {"x": (3, 6, 3, 4), "num_groups": 2, "num_channels": 6},
                "one group": {"x": (2, 3, 4, 3), "num_groups": 1, "num_channels": 3, "eps": 0.01},
                "a group for each channel": {"x": (2, 3, 2, 3), "num_groups": 3, "num_channels": 3},
                "no parameters": {"x": (2, 4, 3, 2), "num_groups": 2, "num_channels": 4, "affine": False},
                "features": {"x": (3, 8), "num_groups": 2, "num_channels": 8},
                "sequences": {"x": (2, 4, 5), "num_groups": 2, "num_channels": 4},
                "no bias": {"x": (2, 4, 3, 2), "num_groups": 2, "num_channels": 4, "bias": False},
            },
        ),
        "instance_norm2d": (
            norm_within_sample(nn.InstanceNorm2d),
            {
                "no parameters": {"x": (2, 3, 4, 3), "num_features": 3},
                "parameters": {"x": (3, 2, 3, 5), "num_features": 2, "eps": 0.01, "affine": True},
                "no bias": {"x": (3, 2, 3, 5), "num_features": 2, "affine": True, "bias": False},
            },
        ),
        "layer_norm": (
            norm_within_sample(nn.LayerNorm),
            {
                "features": {"x": (4, 7), "normalized_shape": [7]},
                "images": {"x": (2, 3, 4, 5), "normalized_shape": [3, 4, 5], "eps": 0.01},
                "each channel": {"x": (2, 3, 4, 5), "normalized_shape": [4, 5]},
                "each row": {"x": (2, 3, 4, 5), "normalized_shape": 5},
                "sequences": {"x": (2, 3, 5), "normalized_shape": [3, 5]},
                "no bias": {"x": (2, 3, 4, 5), "normalized_shape": [3, 4, 5], "bias": False},
                "no parameters": {"x": (4, 7), "normalized_shape": [7], "elementwise_affine": False},
            },
        ),
        "rms_norm": (
            norm_within_sample(nn.RMSNorm),
            {
                "features": {"x": (4, 7), "normalized_shape": [7]},
                "images": {"x": (2, 3, 4, 5), "normalized_shape": [3, 4, 5], "eps": 0.01},
                "each channel": {"x": (2, 3, 4, 5), "normalized_shape": [4, 5]},
                "no parameters": {"x": (2, 3, 4, 5), "normalized_shape": 5, "elementwise_affine": False},
            },
        ),
        "local_response_norm": (
            norm_within_sample(nn.LocalResponseNorm),
            {
                "defaults": {"x": (2, 7, 3, 4), "size": 5},
                "an even number": {"x": (2, 6, 3, 2), "size": 4, "alpha": 0.5, "beta": 0.5, "k": 2.0},
                "more than there are": {"x": (2, 3, 2, 3), "size": 9, "alpha": 1.5},
            },
        ),
    },
    "losses": {
        "cross_entropy": (
            cross_entropy,
            {
                "mean": {"labels": [0, 3, 1, 1, 2, 0], "classes": 4, "reduction": "mean"},
                "sum": {"labels": [2, 1, 0, 2, 2], "classes": 3, "reduction": "sum"},
                "huge logits": {
                    "logits": [[1000.0, 0.0, -1000.0], [-1000.0, -1000.0, -1000.0], [0.0, 500.0, 500.0]],
                    "labels": [2, 0, 1],
                    "reduction": "mean",
                },
            },
        ),
        "mse_loss": (
            mse_loss,
            {
                "features": {"shape": (5, 3), "reduction": "mean"},
                "images": {"shape": (3, 2, 4, 5), "reduction": "mean"},
                "sum": {"shape": (4, 2), "reduction": "sum"},
            },
        ),
        "loss": (loss, {f"{case['name']}, {i}": case for i, case in enumerate(LOSSES)}),
    },
    "functional": {"functional": (functional, {f"{case['function']}, {i}": case for i, case in enumerate(FUNCTIONS)})},
    "updates": {
        "optimizer": (
            optimizer,
            {
                "SGD": {"name": "SGD", "lr": 0.1},
                "SGD, momentum": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
                "SGD, nesterov": {
                    "name": "SGD",
                    "lr": 0.05,
                    "momentum": 0.9,
                    "nesterov": True,
                    "weight_decay": 0.01,
                },
                "SGD, weight decay": {"name": "SGD", "lr": 0.05, "weight_decay": 0.1},
                "Adam": {"name": "Adam", "lr": 0.01},
                "Adam, all arguments": {
                    "name": "Adam",
                    "lr": 0.02,
                    "betas": [0.8, 0.99],
                    "eps": 1e-6,
                    "weight_decay": 0.1,
                },
                "SGD, dampening": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True},
                "Adam, amsgrad": {"name": "Adam", "lr": 0.02, "betas": [0.5, 0.5], "amsgrad": True, "maximize": True},
                "AdamW, amsgrad": {"name": "AdamW", "lr": 0.02, "betas": [0.5, 0.5], "amsgrad": True},
                "RMSprop": {"name": "RMSprop", "lr": 0.01},
                "RMSprop, all arguments": {
                    "name": "RMSprop",
                    "lr": 0.02,
                    "alpha": 0.9,
                    "eps": 1e-6,
                    "weight_decay": 0.1,
                    "momentum": 0.8,
                    "centered": True,
                    "maximize": True,
                },
                "Adagrad": {"name": "Adagrad", "lr": 0.1},
                "Adagrad, all arguments": {
                    "name": "Adagrad",
                    "lr": 0.1,
                    "lr_decay": 0.2,
                    "weight_decay": 0.1,
                    "initial_accumulator_value": 0.3,
                    "eps": 1e-6,
                    "maximize": True,
                },
                "AdamW": {"name": "AdamW", "lr": 0.01},
                "AdamW, all arguments": {
                    "name": "AdamW",
                    "lr": 0.02,
                    "betas": [0.8, 0.99],
                    "eps": 1e-6,
                    "weight_decay": 0.2,
                },
            },
        ),
        "training": (training, TRAININGS),
        "schedule": (schedule, {f"{case['name']}, {i}": case for i, case in enumerate(SCHEDULES)}),
    },
    "networks": {
        "net": (net, {"residual": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}}),
        "initialisation": (
            initialisation,
            {
                "Conv2d": {"layer": "Conv2d", "args": [8, 16, 3], "fan_in": 8 * 3 * 3},
                "Conv1d": {"layer": "Conv1d", "args": [8, 16, 9], "fan_in": 8 * 9},
                "ConvTranspose1d": {"layer": "ConvTranspose1d", "args": [8, 16, 5], "fan_in": 16 * 5},
                "ConvTranspose2d": {"layer": "ConvTranspose2d", "args": [8, 16, 3], "fan_in": 16 * 3 * 3},
                "Linear": {"layer": "Linear", "args": [100, 50], "fan_in": 100},
            },
        ),
    },
}


# Writing -------------------------------------------------------------------------------------------------------------
def stored(name, value):
    """An input as it is stored: float32, in which it is exact, or integers as they are."""
    value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
    if value.dtype != np.float64:
        return value
    assert np.array_equal(value, value.astype(np.float32)), f"{name} is not exact in float32"
    return value.astype(np.float32)


def write(family):
    """Write the file of a family."""
    arrays = {}
    for group, (values, cases) in FAMILIES[family].items():
        for name, arguments in cases.items():
            case = f"{group}/{name}"
            config, inputs, outputs = values(Random(case), **arguments)
            arrays[f"{case}/config"] = np.array(json.dumps(config))
            arrays |= {f"{case}/{key}": stored(f"{case}/{key}", value) for key, value in inputs.items()}
            for key, value in outputs.items():
                arrays[f"{case}/{key}"] = np.array(value.detach() if isinstance(value, torch.Tensor) else value)
    path = FOLDER / f"{family}.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for family in sys.argv[1:] or FAMILIES:
        write(family)
