"""Writes ``torchvision_models.json``: names and shapes of torchvision's networks, and what they compute.

    python tests/reference/make_torchvision_models.py      # with torchvision 0.28.0

Of each network: the entries of its state dict for 1,000 classes in their order, and the output for ten classes, with
the parameters of ``seeded.py``, of two images. Linear layers of VGG have fewer features there, since they would need
half a gigabyte.
"""

import json
from pathlib import Path

import torch
import torchvision

from reference.seeded import images, parameter

assert torchvision.__version__.split("+")[0] == "0.28.0", "made with another version of torchvision"

NAMES = ["resnet18", "resnet34", "resnet50", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "mobilenet_v2"]
NAMES += ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x1_0", "densenet121", "efficientnet_b0"]
SIZE, HIDDEN = 64, 32


def shapes(net):
    """Names and shapes, but for the numbers of batches."""
    state = net.state_dict().items()
    return {name: list(value.shape) for name, value in state if not name.endswith("num_batches_tracked")}


def output(net):
    """What the network computes with the seeded parameters."""
    net.load_state_dict({k: torch.tensor(parameter(k, shape)) for k, shape in shapes(net).items()}, strict=False)
    with torch.no_grad():
        return net.eval().double()(torch.tensor(images(SIZE)).double())


if __name__ == "__main__":
    found = {}
    for name in NAMES:
        build = getattr(torchvision.models, name)
        with torch.device("meta"):
            whole = build()
        net = build(num_classes=10)
        if name.startswith("vgg"):
            net.classifier[0] = torch.nn.Linear(512 * 7 * 7, HIDDEN)
            net.classifier[3] = torch.nn.Linear(HIDDEN, HIDDEN)
            net.classifier[6] = torch.nn.Linear(HIDDEN, 10)
        parameters = sum(p.numel() for p in whole.parameters())
        found[name] = {"parameters": parameters, "shapes": shapes(whole), "output": output(net).tolist()}
        print(name, found[name]["parameters"], found[name]["output"][0][:2])
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
    Path(__file__).with_name("torchvision_models.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
