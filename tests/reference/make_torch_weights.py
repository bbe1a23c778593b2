"""Write torch_weights_*.safetensors and torch_weights.npz: a module's state in three precisions, and what it computes.

    python tests/reference/make_torch_weights.py

The module is ``Small`` of tests/pytorch/test_weights.py, line by line.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

assert torch.__version__.split("+")[0] == "2.13.0", "made with another version of PyTorch"

HERE = Path(__file__).parent


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)) + x)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.pool(x).flatten(1))


def main():
    torch.manual_seed(0)
    net, images = Small(), torch.randn(3, 3, 9, 8)
    for _ in range(3):  # so that the running statistics are not those of a new module
        net(torch.randn(5, 3, 9, 8) + 0.5)
    outputs, original = {}, {k: v.clone() for k, v in net.state_dict().items()}
    for name, dtype in (("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in original.items()}
        save_file(state, HERE / f"torch_weights_{name}.safetensors")
        net.load_state_dict(state)  # in float32, with rounded numbers
        with torch.no_grad():
            outputs[name] = net.eval()(images).numpy()
    np.savez_compressed(HERE / "torch_weights.npz", images=images.numpy(), **outputs)


if __name__ == "__main__":
    main()
