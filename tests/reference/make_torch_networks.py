"""Write torch_networks.npz: outputs and gradients of a U-Net-like network and of a squeeze-and-excitation block.

    python tests/reference/make_torch_networks.py

The modules' parameters have the names that the same classes have in tests/network/test_graphs.py.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import nn
from torch.nn import functional

assert torch.__version__.split("+")[0] == "2.13.0", "made with another version of PyTorch"


class Excitation(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.se, self.fc = nn.Conv2d(2, 6, 3, padding=1), Excitation(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.se(self.conv(x)).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.norm1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.down2, self.middle = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.up2, self.up1 = nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.out, self.fc = nn.Conv2d(4, 2, 1), nn.Linear(2 * 8 * 8, 3)

    def forward(self, x):
        a = torch.relu(self.norm1(self.down1(x)))
        b = torch.relu(self.down2(functional.max_pool2d(a, 2)))
        c = torch.relu(self.middle(functional.max_pool2d(b, 2)))
        b = torch.relu(self.up2(torch.cat([functional.interpolate(c, scale_factor=2), b], 1)))
        a = torch.relu(self.up1(torch.cat([functional.interpolate(b, scale_factor=2), a], 1)))
        return self.fc(self.out(a).flatten(1))


def main():
    arrays = {}
    for make in (Squeezed, UNet):
        name = make.__name__
        seed = crc32(name.encode())
        torch.manual_seed(seed)
        net, rng = make().double(), np.random.default_rng(seed)
        images, labels = rng.standard_normal((5, 2, 8, 8)), rng.integers(0, 3, 5)
        found = {"images": images, "labels": labels}
        found |= {f"initial/{k}": v.numpy().copy() for k, v in net.state_dict().items() if v.ndim}
        loss = functional.cross_entropy(net(torch.tensor(images)), torch.tensor(labels))
        loss.backward()
        found |= {"loss": loss.item()} | {f"gradient/{k}": p.grad.numpy() for k, p in net.named_parameters()}
        net.eval()
        found |= {"logits": net(torch.tensor(images)).detach().numpy()}
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    np.savez_compressed(Path(__file__).with_name("torch_networks.npz"), **arrays)


if __name__ == "__main__":
    main()
