"""The names of the library, as ``im2colnet`` gives them on first use.

Programs write ``import im2colnet as ic``, not the name of this module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from im2colnet import layers, losses, optim
from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend, list_backends, use_backend
from im2colnet.errors import (
    BackendError,
    CheckpointError,
    DataError,
    DTypeError,
    FrozenError,
    Im2colnetError,
    InputWarning,
    InterruptedStepError,
    LayerError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    ShapeError,
    TrainingWarning,
    WorkerError,
    WorkerWarning,
)
from im2colnet.layers import *  # noqa: F403
from im2colnet.losses import *  # noqa: F403
from im2colnet.network import Net, Network, Residual, SeparableConv2d, Sequential, SqueezeExcitation
from im2colnet.optim import *  # noqa: F403
from im2colnet.parallel import get_num_threads, get_workers, num_threads, set_num_threads, set_workers
from im2colnet.types import Spec
from im2colnet.version import __version__

if TYPE_CHECKING:
    from im2colnet import datasets, functional, metrics, models, testing, visualize
    from im2colnet import onnx as onnx
    from im2colnet import torch as torch
    from im2colnet.datasets import Dataset, transforms
    from im2colnet.datasets.loader import Loader
    from im2colnet.reports.explain import explain
    from im2colnet.training import callbacks
    from im2colnet.training.callbacks.base import Callback
    from im2colnet.training.history import History
    from im2colnet.training.trainer import Trainer
    from im2colnet.weights import load_weights, save_weights

# without "onnx" and "torch": `from im2colnet import *` would hide the packages of these names
__all__ = [
    *layers.__all__,
    *losses.__all__,
    *optim.__all__,
    "Backend",
    "BackendError",
    "Callback",
    "CheckpointError",
    "DTypeError",
    "DataError",
    "Dataset",
    "FrozenError",
    "History",
    "Im2colnetError",
    "InputWarning",
    "InterruptedStepError",
    "LayerError",
    "Loader",
    "ModelError",
    "Net",
    "Network",
    "NonFiniteError",
    "OutOfMemoryError",
    "Residual",
    "SeparableConv2d",
    "Sequential",
    "ShapeError",
    "Spec",
    "SqueezeExcitation",
    "Trainer",
    "TrainingWarning",
    "WorkerError",
    "WorkerWarning",
    "__version__",
    "callbacks",
    "datasets",
    "explain",
    "functional",
    "get_backend",
    "get_num_threads",
    "get_workers",
    "list_backends",
    "load_weights",
    "metrics",
    "models",
    "num_threads",
    "save_weights",
    "set_num_threads",
    "set_workers",
    "testing",
    "transforms",
    "use_backend",
    "visualize",
]


#: what is imported on first use, since a program that only predicts never needs it
LAZY = {
    "Callback": "im2colnet.training.callbacks.base:Callback",
    "Dataset": "im2colnet.datasets:Dataset",
    "History": "im2colnet.training.history:History",
    "Loader": "im2colnet.datasets.loader:Loader",
    "Trainer": "im2colnet.training.trainer:Trainer",
    "callbacks": "im2colnet.training.callbacks",
    "explain": "im2colnet.reports.explain:explain",
    "load_weights": "im2colnet.weights:load_weights",
    "save_weights": "im2colnet.weights:save_weights",
    "transforms": "im2colnet.datasets.transforms",
    "visualize": "im2colnet.visualize",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'im2colnet' has no attribute {name!r}")
    module, _, attribute = LAZY[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found
