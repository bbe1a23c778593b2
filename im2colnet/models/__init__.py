"""Ready-made networks. Each knows its ``input_shape`` and starts without parameters (``net.init(seed)``)."""

from im2colnet.models.classic import lenet5, notebook, vgg8
from im2colnet.models.mobilenet import mobilenet
from im2colnet.models.registry import MODELS, Model, Recipe, make, model
from im2colnet.models.resnet import resnet18, resnet20

__all__ = [
    "MODELS",
    "Model",
    "Recipe",
    "lenet5",
    "make",
    "mobilenet",
    "model",
    "notebook",
    "resnet18",
    "resnet20",
    "vgg8",
]
