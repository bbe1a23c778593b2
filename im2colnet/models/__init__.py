"""Ready-made networks. Each has an ``input_shape`` and starts without parameters (``net.init(seed)``)."""

from im2colnet.models.classic import lenet5, notebook
from im2colnet.models.densenet import densenet121
from im2colnet.models.efficientnet import efficientnet_b0
from im2colnet.models.images import autoencoder, unet
from im2colnet.models.mobilenet import mobilenet, mobilenet_v2, mobilenet_v3_small
from im2colnet.models.registry import MODELS, Model, Recipe, make, model
from im2colnet.models.resnet import resnet18, resnet20, resnet34, resnet50, wide_resnet
from im2colnet.models.shufflenet import shufflenet_v2_x1_0
from im2colnet.models.squeezenet import squeezenet1_1
from im2colnet.models.vgg import vgg8, vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = [
    "MODELS",
    "Model",
    "Recipe",
    "autoencoder",
    "densenet121",
    "efficientnet_b0",
    "lenet5",
    "make",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "model",
    "notebook",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "unet",
    "vgg8",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
    "wide_resnet",
]
