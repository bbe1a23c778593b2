"""PyTorch's side: the same network out of its modules, with the names of the same parameters.

PyTorch is imported in the functions, so that the suite can be listed without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import Case, NotHere, import_torch

LAYOUTS = ("NCHW", "NHWC")  # contiguous, and channels_last; the better one is compared


def module(layer: ic.Layer) -> Any:
    """Build the module that does what a layer or network does; its ``state_dict`` has the same names.

    Raises
    ------
    NotHere
        If there is none for this layer.
    """
    nn = import_torch().nn
    match layer:
        case ic.Sequential():
            return nn.Sequential(*(module(child) for child in layer.layers))
        case ic.Net():
            return _graph(layer)
        case ic.SqueezeExcitation() | ic.SeparableConv2d():
            return _of_children(layer, type(layer).define)  # which knows modules and layers by the same names
        case ic.Residual():
            return _residual(module(layer.body), nn.Identity() if layer.shortcut is None else module(layer.shortcut))
        case ic.Conv2d():
            padding = tuple(before for before, _ in layer.window.padding)
            if padding != tuple(after for _, after in layer.window.padding):
                raise NotHere(f"PyTorch has no module for the padding of {layer!r}")
            return nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.window.kernel,
                layer.window.stride,
                padding,
                layer.window.dilation,
                layer.groups,
                layer.bias,
            )
        case ic.Linear():
            return nn.Linear(layer.in_features, layer.out_features, layer.bias)
        case ic.BatchNorm2d():
            return nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine)
        case ic.ReLU():
            return nn.ReLU(inplace=True)
        case ic.MaxPool2d():
            how = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            return nn.MaxPool2d(*how, ceil_mode=layer.ceil_mode)
        case ic.GlobalAvgPool2d():
            return nn.AdaptiveAvgPool2d(1)
        case ic.Flatten():
            return nn.Flatten()
        case ic.ZeroPadShortcut():
            return _zero_pad_shortcut(layer.stride, layer.out_channels - layer.in_channels)
        case ic.Add() | ic.Mul() | ic.Concat() | ic.Slice():
            return _function(layer)
        case ic.Dropout(p=0.0):
            return nn.Identity()
    same = getattr(nn, type(layer).__name__, None)
    if same is None:
        raise NotHere(f"no module of PyTorch's is known for {layer!r}")
    known = inspect.signature(same).parameters
    return same(**{name: value for name, value in layer.config().items() if name in known})


def _of_children(net: ic.Network, forward: Callable[..., Any]) -> Any:
    """A module that has the layers of a network by the same names, and applies them by ``forward(module, x)``."""

    class OfChildren(import_torch().nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in net.children().items():
                self.add_module(name, module(layer))

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return OfChildren()


def _graph(net: ic.Net) -> Any:
    """The layers of a :class:`im2colnet.Net`, each called with what it reads."""

    def forward(modules: Any, x: Any) -> Any:
        values = {"input": x}
        for name, entry in net.layers.items():
            reads = entry[1:] if isinstance(entry, tuple) else [next(reversed(values))]
            values[name] = getattr(modules, name)(*(values[read] for read in reads))
        return values[net.outputs[0]]

    return _of_children(net, forward)


def _function(layer: ic.Layer) -> Any:
    torch = import_torch()

    class Function(torch.nn.Module):
        def forward(self, *values: Any) -> Any:
            match layer:
                case ic.Add():
                    return values[0] + values[1]
                case ic.Mul():
                    return values[0] * values[1]
                case ic.Concat():
                    return torch.cat(values, 1)
                case ic.Slice(dim=dim, start=start, stop=stop, step=step):
                    return values[0][(*[slice(None)] * dim, slice(start, stop, step))]

    return Function()


def _residual(body: Any, shortcut: Any) -> Any:
    class Residual(import_torch().nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    return Residual()


def _zero_pad_shortcut(stride: int, more: int) -> Any:
    torch = import_torch()

    class ZeroPadShortcut(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, more))

    return ZeroPadShortcut()


def as_tensor(array: np.ndarray, layout: str, device: str = "cpu") -> Any:
    """Return a tensor (N, C, H, W) in that memory layout, on that device."""
    return import_torch().from_numpy(array).to(device).contiguous(memory_format=_memory_format(layout))


def _memory_format(layout: str) -> Any:
    torch = import_torch()
    return {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}[layout]


class Peer:
    """A network of PyTorch's with the parameters of ours, and the same optimiser.

    Parameters
    ----------
    case : Case
    state : dict of str to array
        Ours, by ``net.state_dict()``; by default PyTorch's own first parameters.
    layout : {"NCHW", "NHWC"}
    device : str
        PyTorch's name of one.
    """

    def __init__(
        self, case: Case, layout: str, state: dict[str, np.ndarray] | None = None, device: str = "cpu"
    ) -> None:
        torch = import_torch()
        net = module(case.make())
        if state is not None:
            tensors = {name: torch.from_numpy(array) for name, array in state.items()}
            net = net.to(next(iter(tensors.values())).dtype)
            missing, unexpected = net.load_state_dict(tensors, strict=False)
            wrong = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
            if wrong:
                raise AssertionError(f"the two sides have different parameters: {wrong}")
        self.torch, self.net = torch, net.to(device, memory_format=_memory_format(layout))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

    def step(self, images: Any, labels: Any) -> float:
        """Train on one batch (tensors) and return the loss."""
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def predict(self, images: Any) -> np.ndarray:
        """Apply the network in evaluation mode."""
        if self.net.training:
            self.net.eval()
        with self.torch.inference_mode():
            result: np.ndarray = self.net(images).cpu().numpy()
        return result
