"""im2colnet: small convolutional networks as im2col matrix products, on NumPy or any array module.

>>> import im2colnet as ic
>>> train, test = ic.datasets.load("digits")
>>> layers = [ic.Conv2d(1, 16, 3, padding=1), ic.ReLU(), ic.MaxPool2d(2), ic.Flatten(), ic.Linear(256, 10)]
>>> trainer = ic.Trainer(ic.Sequential(layers), optimizer=ic.SGD(lr=0.1, momentum=0.9), seed=0)
>>> history = trainer.fit(train, epochs=10, batch_size=64, validation=test)
"""

from __future__ import annotations

from im2colnet import startup  # isort: skip  # noqa: F401 - first, since all that follows takes time

from importlib import import_module
from typing import TYPE_CHECKING, Any

from im2colnet.version import __version__ as __version__

if TYPE_CHECKING:
    from im2colnet.public import *  # noqa: F403
    from im2colnet.public import __all__ as __all__
    from im2colnet.public import onnx as onnx
    from im2colnet.public import torch as torch


def __getattr__(name: str) -> Any:
    """Find a module of the package, or a public name, on first use: the import of the package waits for none."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'im2colnet' has no attribute {name!r}")
    module = f"{__name__}.{name}"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    public = import_module("im2colnet.public")
    found = getattr(public, name)
    globals().update({each: vars(public)[each] for each in public.__all__ if each in vars(public)} | {name: found})
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("im2colnet.public").__all__, "onnx", "torch"})
