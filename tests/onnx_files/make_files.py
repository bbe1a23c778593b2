"""Write the networks in ``files/``, as PyTorch exports them: ``python tests/onnx_files/make_files.py``.

The exporter is the one that needs nothing but PyTorch and onnx (``dynamo=False``). Tests read the files only.
"""

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

FILES = Path(__file__).parent / "files"


class Block(nn.Module):
    """A residual block that halves the image."""

    def __init__(self, channels, filters):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = nn.Sequential(nn.Conv2d(channels, filters, 1, 2, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 6), Block(6, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.layer1(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class View(nn.Module):
    """Features by way of ``x.view(x.size(0), -1)``, which becomes arithmetic with shapes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.fc = nn.Linear(108, 4)

    def forward(self, x):
        x = functional.silu(self.conv(x))
        x = x.view(x.size(0), x.size(1) * x.size(2), -1)
        return functional.softmax(self.fc(x.view(x.size(0), -1)), dim=1)


class Attention(nn.Module):
    """Squeeze and excitation, functions that older versions of ONNX lack, and two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc1, self.fc2 = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = functional.gelu(self.conv(x))
        scale = functional.hardsigmoid(self.fc2(functional.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
        x = functional.hardswish(x * scale)
        features = self.norm(functional.mish(x.mean((2, 3))))
        return self.head(features), x


class Decoder(nn.Module):
    """What makes images larger, and joins them."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, 2, 1)
        self.up = nn.ConvTranspose2d(4, 3, 4, 2, 1)
        self.odd = nn.ConvTranspose2d(3, 2, 3, 2, 1, output_padding=1, groups=1)
        self.last = nn.Conv2d(7, 4, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        low = functional.leaky_relu(self.down(x), 0.2)
        up = functional.interpolate(low, scale_factor=2, mode="nearest")
        joined = torch.cat([self.up(low), up], 1)
        joined = functional.interpolate(joined, scale_factor=2, mode="bilinear", align_corners=False)
        whole = functional.interpolate(self.last(joined), size=(9, 10), mode="bilinear", align_corners=True)
        return functional.pixel_shuffle(functional.pad(whole, (1, 1, 2, 1)), 2), self.odd(self.up(low))


class Shuffle(nn.Module):
    """Channels that are exchanged, in two branches."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, b * 2 + 1), dim=1)
        n, c, h, w = x.shape
        x = self.bn(self.conv(x)).view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return functional.max_pool2d(x, 3, 2, 1, ceil_mode=True).clamp(0, 6)


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, 4, 5, padding=2),
            nn.BatchNorm1d(4),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 6, 3, dilation=2),
            nn.PReLU(6),
            nn.AvgPool1d(3, 2, 1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(18, 2),
        )

    def forward(self, x):
        return self.net(x)


def lenet():
    """The layers of LeNet-5, with few channels."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )


#: file -> the module, the shape of a sample, the names of its outputs, and options of the export
NETWORKS = {
    "lenet": (lenet, (1, 12, 12), ["scores"], {}),
    "resnet": (ResNet, (3, 12, 12), ["scores"], {"training": torch.onnx.TrainingMode.PRESERVE}),
    "resnet_folded": (ResNet, (3, 12, 12), ["scores"], {}),
    "view": (View, (2, 8, 8), ["probabilities"], {}),
    "attention": (Attention, (2, 6, 6), ["scores", "features"], {"opset_version": 13}),
    "decoder": (Decoder, (2, 8, 8), ["larger", "odd"], {"opset_version": 16}),
    "shuffle": (Shuffle, (4, 7, 6), ["y"], {"training": torch.onnx.TrainingMode.PRESERVE}),
    "sequence": (Sequence, (3, 18), ["y"], {"training": torch.onnx.TrainingMode.PRESERVE}),
}


def main():
    FILES.mkdir(exist_ok=True)
    for name, (kind, shape, outputs, options) in NETWORKS.items():
        torch.manual_seed(0)
        module = kind()
        module.train()
        with torch.no_grad():
            for _ in range(3):  # the running statistics are to differ from 0 and 1
                module(torch.randn(8, *shape) * 2 + 1)
        module.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, which is an old one
            torch.onnx.export(
                module,
                (torch.randn(2, *shape),),
                FILES / f"{name}.onnx",
                dynamo=False,
                input_names=["images"],
                output_names=outputs,
                dynamic_axes={each: {0: "N"} for each in ("images", *outputs)},
                **options,
            )


if __name__ == "__main__":
    main()
