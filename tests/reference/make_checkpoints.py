"""Write the checkpoints of this version of the library to a folder, with what training gives after them.

    PYTHONPATH=.:backends python tests/reference/make_checkpoints.py tests/reference/checkpoints/COMMIT

A file of each kind: network, optimiser, schedule, the end of an epoch and the middle of one. ``after.json`` holds, by
the name of the file, the losses of three more steps and a prediction, as this version computes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import im2colnet as ic


def conv(channels, filters, kernel=3, **options):
    return ic.Conv2d(channels, filters, kernel, **{"padding": kernel // 2, **options})


def mixed():
    """A layer of each kind."""
    body = ic.Sequential([conv(4, 8, stride=2, bias=False), ic.BatchNorm2d(8), ic.ReLU(), conv(8, 8, groups=8)])
    layers = [conv(1, 4, padding="same"), ic.BatchNorm2d(4, affine=False), ic.ReLU()]
    layers += [ic.Residual(body, ic.ZeroPadShortcut(4, 8, 2)), ic.Dropout(0.2), ic.AvgPool2d(2, ceil_mode=True)]
    return ic.Sequential([*layers, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(8, 3)])


CASES = {
    "notebook-sgd": (lambda: ic.models.notebook(3), ic.SGD(lr=0.1), "float32"),
    "mixed-nesterov-cosine": (
        mixed,
        ic.SGD(lr=ic.Cosine(0.05, warmup=2), momentum=0.9, weight_decay=1e-3, nesterov=True),
        "float32",
    ),
    "mixed-adam-float64": (mixed, ic.Adam(lr=ic.Constant(1e-2, warmup=3)), "float64"),
    "mixed-adamw-middle": (mixed, ic.AdamW(lr=1e-2, eps=1e-2), "float32"),
}


def batches():
    """Images and labels of three more steps."""
    rng = np.random.default_rng(7)
    return [(rng.integers(0, 256, (6, 1, 8, 8)).astype("uint8"), rng.integers(0, 3, 6)) for _ in range(3)]


class Middle(Exception):
    """Stops a training in the middle of an epoch."""


class StopAfter:
    def __init__(self, batches):
        self.left = batches

    def step(self, progress):
        self.left -= 1
        if not self.left:
            raise Middle

    def epoch(self, record):
        pass


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (26, 1, 8, 8)).astype("uint8"), np.arange(26) % 3
    after = {}
    for name, (make, optimizer, dtype) in CASES.items():
        net = make().init(seed=5, dtype=dtype)
        trainer = ic.Trainer(net, optimizer=optimizer, seed=11, shard=4 if "mixed" in name else None)
        try:
            display = StopAfter(6) if name.endswith("middle") else None
            trainer.fit(data, epochs=2, batch_size=6, validation=data, display=display)
        except Middle:
            pass
        path = folder / f"{name}.safetensors"
        trainer.save(path)
        trainer = ic.Trainer.load(path)
        epochs = trainer.fit(data, epochs=3, batch_size=6, validation=data)["loss"]
        losses = [trainer.step(*batch) for batch in batches()]
        prediction = trainer.net.predict(data[0][:2]).tolist()
        after[name] = {"epochs": epochs, "losses": losses, "prediction": prediction}
    (folder / "after.json").write_text(json.dumps(after, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
