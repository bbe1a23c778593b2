"""Writes ``torch_values.npz``: what PyTorch 2.13.0 computes, for tests that do not need PyTorch.

    python tests/reference/make_torch_values.py

Inputs are multiples of 1/64, so they are exact in float32, which is how they are stored; everything is computed and
stored in float64. A case's configuration is a JSON string under "group/number/config"; see ``torch_values.py``.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

assert torch.__version__.split("+")[0] == "2.13.0", "made with another version of PyTorch"

PATH = Path(__file__).with_name("torch_values.npz")
rng = np.random.default_rng(20260901)
arrays = {}


def random(*shape, scale=1.0):
    """Normal numbers rounded to multiples of 1/64."""
    return np.round(rng.standard_normal(shape) * scale * 64) / 64


def tensor(array):
    """A float64 leaf that wants its gradient."""
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def add(group, config, inputs, outputs):
    """Store one case: ``inputs`` as float32 (integers as they are), ``outputs`` in their own precision."""
    number = sum(key.startswith(f"{group}/") and key.endswith("/config") for key in arrays)
    arrays[f"{group}/{number}/config"] = np.array(json.dumps(config))
    for name, value in inputs.items():
        value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        if value.dtype == np.float64:
            assert np.array_equal(value, value.astype(np.float32)), f"{group}/{number}/{name} is not exact in float32"
            value = value.astype(np.float32)
        arrays[f"{group}/{number}/{name}"] = value
    for name, value in outputs.items():
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        arrays[f"{group}/{number}/{name}"] = np.array(value)


def pad(x, padding, value=0.0):
    """Pad by ((top, bottom), (left, right))."""
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def is_asymmetric(padding):
    return not isinstance(padding, int | str) and not isinstance(padding[0], int)


# Windows ------------------------------------------------------------------------------------------------------------
def add_conv2d(x_shape, w_shape, stride=1, padding=0, dilation=1, groups=1):
    x, w, b = tensor(random(*x_shape)), tensor(random(*w_shape)), tensor(random(w_shape[0]))
    if is_asymmetric(padding):
        y = F.conv2d(pad(x, padding), w, b, stride, 0, dilation, groups)
    else:
        y = F.conv2d(x, w, b, stride, padding, dilation, groups)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    add("conv2d", config, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad})


def add_max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    x = tensor(x)
    if is_asymmetric(padding):
        (top, bottom), (left, right) = padding
        xp = pad(x, padding, -torch.inf)
        y, indices = F.max_pool2d(xp, kernel_size, stride, 0, dilation, ceil_mode, return_indices=True)
        height, width = xp.shape[2:]
        indices = (indices // width - top) * x.shape[3] + indices % width - left  # in the image without padding
        assert (indices >= 0).all()
        assert height == x.shape[2] + top + bottom
        assert width == x.shape[3] + left + right
    else:
        y, indices = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    add("max_pool2d", config, {"x": x, "dy": dy, "indices": indices.to(torch.int32)}, {"y": y, "dx": x.grad})


def add_avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    x = tensor(x)
    if is_asymmetric(padding):
        assert count_include_pad
        assert not ceil_mode
        y = F.avg_pool2d(pad(x, padding), kernel_size, stride)
    else:
        y = F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)
    dy = random(*y.shape)
    y.backward(torch.tensor(dy))
    config = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    add("avg_pool2d", config, {"x": x, "dy": dy}, {"y": y, "dx": x.grad})


def add_unfold(x_shape, kernel_size, dilation=1, padding=0, stride=1):
    """Unfold ``x`` to ``cols``; fold ``dcols`` to ``folded``, an image of x's size and also the gradient of x."""
    x = tensor(random(*x_shape))
    cols = F.unfold(x, kernel_size, dilation, padding, stride)
    dcols = random(*cols.shape)
    cols.backward(torch.tensor(dcols))
    folded = F.fold(torch.tensor(dcols), x_shape[2:], kernel_size, dilation, padding, stride)
    assert torch.equal(folded, x.grad)
    config = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    add("unfold", config, {"x": x, "cols": cols, "dcols": dcols}, {"folded": folded})


add_conv2d((2, 2, 5, 6), (3, 2, 3, 3))
add_conv2d((2, 3, 6, 7), (2, 3, 3, 3), stride=2, padding=1)
add_conv2d((1, 2, 6, 5), (3, 2, 3, 5), padding="same")
add_conv2d((1, 2, 5, 6), (2, 2, 2, 4), padding="same")
add_conv2d((1, 2, 7, 6), (2, 2, 2, 3), padding="same", dilation=(3, 2))
add_conv2d((1, 2, 8, 7), (2, 2, 3, 3), padding=2, dilation=2)
add_conv2d((2, 4, 5, 5), (6, 2, 3, 3), padding=1, groups=2)
add_conv2d((2, 3, 6, 5), (6, 1, 3, 3), stride=(2, 1), padding=(1, 0), groups=3)  # depthwise, two filters a channel
add_conv2d((2, 4, 3, 4), (5, 4, 1, 1), padding="valid")
add_conv2d((2, 3, 5, 6), (4, 3, 1, 1), stride=2)
add_conv2d((2, 2, 7, 8), (2, 2, 4, 2), stride=(1, 3), padding=(2, 1))
add_conv2d((1, 2, 6, 9), (3, 2, 1, 5), padding=(0, 2))
add_conv2d((1, 3, 13, 12), (2, 3, 7, 7), stride=2, padding=3)
add_conv2d((2, 2, 5, 6), (2, 2, 3, 2), stride=2, padding=((0, 2), (1, 0)))
add_conv2d((1, 1, 8, 9), (2, 1, 2, 2), stride=3)  # pixels that no window holds
add_conv2d((3, 2, 4, 3), (4, 2, 4, 3))  # one window
add_conv2d((1, 4, 7, 8), (4, 2, 3, 2), stride=(3, 2), padding=(2, 1), dilation=(2, 3), groups=2)

add_max_pool2d(random(2, 3, 6, 8), 2)
add_max_pool2d(random(2, 2, 7, 7), 3, stride=2)
add_max_pool2d(random(2, 2, 7, 8), 3, stride=2, padding=1)
add_max_pool2d(random(2, 2, 6, 7), 2, ceil_mode=True)
add_max_pool2d(random(1, 2, 6, 7), (3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True)
add_max_pool2d(random(1, 2, 8, 9), 3, stride=1, dilation=2)
add_max_pool2d(random(1, 2, 9, 8), (2, 3), stride=(1, 2), padding=(1, 1), dilation=(3, 2), ceil_mode=True)
add_max_pool2d(random(1, 2, 5, 6), 3, stride=1, padding=1)
add_max_pool2d(rng.integers(-1, 2, (2, 2, 7, 6)).astype(float), 3, stride=2, padding=1)  # many equal maxima
add_max_pool2d(random(1, 2, 5, 6), 3, stride=2, padding=((0, 1), (2, 1)))
add_max_pool2d(random(1, 2, 5, 5), 2, stride=3, padding=1, ceil_mode=True)  # ceil_mode's last window is left out

add_avg_pool2d(random(2, 3, 6, 8), 2)
add_avg_pool2d(random(2, 2, 7, 7), 3, stride=2)
add_avg_pool2d(random(2, 2, 7, 8), 3, stride=2, padding=1)
add_avg_pool2d(random(2, 2, 7, 8), 3, stride=2, padding=1, count_include_pad=False)
add_avg_pool2d(random(2, 2, 6, 7), 2, ceil_mode=True)
add_avg_pool2d(random(1, 2, 6, 7), (3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True)
add_avg_pool2d(random(1, 2, 6, 7), (3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True, count_include_pad=False)
add_avg_pool2d(random(1, 2, 6, 8), 4, stride=3, padding=2, ceil_mode=True)
add_avg_pool2d(random(1, 2, 5, 6), 3, stride=1, padding=1, count_include_pad=False)
add_avg_pool2d(random(1, 2, 5, 6), 3, stride=2, padding=((0, 1), (2, 1)))
add_avg_pool2d(random(1, 2, 5, 5), 2, stride=3, padding=1, ceil_mode=True)

add_unfold((2, 2, 5, 6), 3)
add_unfold((1, 3, 6, 5), (2, 3), padding=(1, 2), stride=(2, 1))
add_unfold((1, 2, 7, 8), (3, 2), dilation=(2, 3), padding=1, stride=2)
add_unfold((2, 2, 4, 4), 2, stride=2)
add_unfold((1, 1, 7, 8), 2, stride=3)

x = tensor(random(2, 3, 4, 5))
y = F.adaptive_avg_pool2d(x, 1)
dy = random(*y.shape)
y.backward(torch.tensor(dy))
add("adaptive_avg_pool2d", {"output_size": 1}, {"x": x, "dy": dy}, {"y": y, "dx": x.grad})


# Other layers -------------------------------------------------------------------------------------------------------
x = random(3, 2, 4, 5)
x[0, 0, 0] = [0.0, -0.0, 1.0, -1.0, 0.0]  # the gradient at 0 is 0
x, dy = tensor(x), random(3, 2, 4, 5)
y = F.relu(x)
y.backward(torch.tensor(dy))
add("relu", {}, {"x": x, "dy": dy, "y": y, "dx": x.grad}, {})

x, w, b, dy = tensor(random(4, 7)), tensor(random(5, 7)), tensor(random(5)), random(4, 5)
y = F.linear(x, w, b)
y.backward(torch.tensor(dy))
add("linear", {}, {"x": x, "w": w, "b": b, "dy": dy}, {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad})

# Three batches one after another; the first axis of every array is the batch's number, running statistics come before
# the first batch and after each.
for shape, momentum, eps in [((3, 3, 3, 4, 4), 0.1, 1e-5), ((3, 2, 2, 3, 3), 0.3, 1e-3)]:
    C = shape[2]
    layer = nn.BatchNorm2d(C, eps=eps, momentum=momentum, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(1 + random(C, scale=0.5)))
        layer.bias.copy_(torch.tensor(random(C)))
    inputs = {"x": 2 * random(*shape) + 1, "dy": random(*shape), "weight": layer.weight, "bias": layer.bias}
    statistics = {
        "running_mean": [layer.running_mean.numpy().copy()],
        "running_var": [layer.running_var.numpy().copy()],
    }
    outputs = {"y": [], "dx": [], "dw": [], "db": []}
    for x, dy in zip(inputs["x"], inputs["dy"], strict=True):
        x = tensor(x)
        layer.zero_grad()
        y = layer(x)
        y.backward(torch.tensor(dy))
        values = {"y": y.detach(), "dx": x.grad, "dw": layer.weight.grad, "db": layer.bias.grad}
        for name, value in values.items():
            outputs[name].append(value.numpy().copy())
        for name in statistics:
            statistics[name].append(getattr(layer, name).numpy().copy())
    add("batch_norm_training", {"momentum": momentum, "eps": eps}, inputs, {**outputs, **statistics})

    running_mean, running_var = random(C), 1 + np.abs(random(C))
    layer.running_mean.copy_(torch.tensor(running_mean))
    layer.running_var.copy_(torch.tensor(running_var))
    layer.eval()
    layer.zero_grad()
    x, dy = tensor(random(*shape[1:])), random(*shape[1:])
    y = layer(x)
    y.backward(torch.tensor(dy))
    inputs = {"x": x, "dy": dy, "weight": layer.weight, "bias": layer.bias}
    inputs.update(running_mean=running_mean, running_var=running_var)
    outputs = {"y": y, "dx": x.grad, "dw": layer.weight.grad, "db": layer.bias.grad}
    add("batch_norm_eval", {"momentum": momentum, "eps": eps}, inputs, outputs)

huge = np.array([[1000.0, 0.0, -1000.0], [-1000.0, -1000.0, -1000.0], [0.0, 500.0, 500.0]])
for logits, labels, reduction in [
    (random(6, 4), [0, 3, 1, 1, 2, 0], "mean"),
    (random(5, 3), [2, 1, 0, 2, 2], "sum"),
    (huge, [2, 0, 1], "mean"),
]:
    logits, labels = tensor(logits), np.array(labels, np.int64)
    loss = F.cross_entropy(logits, torch.tensor(labels), reduction=reduction)
    loss.backward()
    outputs = {"loss": loss, "dlogits": logits.grad, "probabilities": F.softmax(logits, 1)}
    add("cross_entropy", {"reduction": reduction}, {"logits": logits, "labels": labels}, outputs)


# Optimisers: ten steps with gradients that do not depend on the parameters, so only the update rule is tested -------
for config in [
    {"name": "SGD", "lr": 0.1},
    {"name": "SGD", "lr": 0.1, "momentum": 0.9},
    {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"name": "SGD", "lr": 0.05, "weight_decay": 0.1},
    {"name": "Adam", "lr": 0.01},
    {"name": "Adam", "lr": 0.02, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1},
    {"name": "AdamW", "lr": 0.01},
    {"name": "AdamW", "lr": 0.02, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.2},
]:
    initial, gradients = random(2, 3), random(10, 2, 3)
    parameter = tensor(initial)
    settings = {key: value for key, value in config.items() if key != "name"}
    optimizer = getattr(torch.optim, config["name"])([parameter], **settings)
    steps = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        steps.append(parameter.detach().numpy().copy())
    add("optimizer", config, {"initial": initial, "gradients": gradients}, {"parameters": steps})


# A small net, trained for ten steps on one batch --------------------------------------------------------------------
class Residual(nn.Module):
    """``body(x) + x``."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + x


net = nn.Sequential(
    nn.Conv2d(2, 4, 3, padding=1),
    nn.BatchNorm2d(4),
    nn.ReLU(),
    nn.MaxPool2d(2),
    Residual(
        nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
        )
    ),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64, 3),
).double()
with torch.no_grad():
    for name, parameter in net.named_parameters():
        value = random(*parameter.shape, scale=0.25)
        if parameter.ndim == 1 and name.endswith("weight"):  # batch norm's
            value += 1
        parameter.copy_(torch.tensor(value))

images, labels = random(6, 2, 8, 8), np.array([0, 2, 1, 1, 0, 2], np.int64)
settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
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
add("net", settings, inputs, outputs)


# Default initialisation: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weight and bias -------------------------------------
torch.manual_seed(0)
for name, args, fan_in in [("Conv2d", [8, 16, 3], 8 * 3 * 3), ("Linear", [100, 50], 100)]:
    bound = 1 / np.sqrt(fan_in)
    config = {"layer": name, "args": args, "fan_in": fan_in, "bound": bound, "layers_drawn": 200}
    layers = [getattr(nn, name)(*args) for _ in range(200)]
    for parameter in ("weight", "bias"):
        values = torch.stack([getattr(layer, parameter).detach().double() for layer in layers]).numpy()
        assert 0.999 * bound < np.abs(values).max() < (1 + 1e-6) * bound
        assert abs(values.mean()) < 0.02 * bound
        assert abs(values.std() / (bound / np.sqrt(3)) - 1) < 0.01
        config[parameter] = {"absolute_maximum": np.abs(values).max(), "mean": values.mean(), "std": values.std()}
    add("initialisation", config, {}, {})


np.savez_compressed(PATH, **arrays)
print(f"{PATH.name}: {len(arrays)} arrays, {PATH.stat().st_size / 1000:.0f} KB")
