"""Checksums of what training gives, to the last bit: does a change of the code change a result?

Results depend on the processor, NumPy and its BLAS, so the checksums of two commits are compared on one machine:

    git worktree add ../before HEAD~1
    PYTHONPATH=../before:../before/backends python tests/reference/checksums.py >before.txt
    PYTHONPATH=.:backends python tests/reference/checksums.py | diff before.txt - && echo "the same bits"

Each line has the name of a network, a checksum of its parameters and running statistics after ten steps, one of the ten
losses, one of a prediction, and the loss of an evaluation. Nothing but public names is used, so that the script runs
on commits before and after a change of the structure.
"""

from __future__ import annotations

import sys
from zlib import crc32

import numpy as np

import im2colnet as ic
from im2colnet.backend import Backend

STEPS = 10


class Generic(Backend):
    """The textbook kernels over NumPy."""

    name = "generic"
    xp = np


def conv(channels, filters, kernel=3, **options):
    return ic.Conv2d(channels, filters, kernel, **{"padding": kernel // 2, **options})


def small(*layers, features, classes=5):
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(features, classes)])


def small_nets():
    """Networks that reach what the models do not: (name, network, shape of an image)."""
    norm = ic.BatchNorm2d
    yield (
        "windows",
        small(
            conv(3, 8, padding=((1, 0), (2, 1)), stride=(1, 2)),
            ic.ReLU(),
            conv(8, 6, 3, dilation=2, padding=2, groups=2, bias=False),
            ic.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
            conv(6, 6, 5, groups=6, padding="same"),
            ic.MaxPool2d(3, 2, padding=1, ceil_mode=True),
            features=54,
        ),
        (3, 9, 13),
    )
    yield "dropout", small(conv(1, 8), ic.ReLU(), ic.Dropout(0.3), ic.MaxPool2d(2), features=128), (1, 8, 8)
    body = ic.Sequential([conv(16, 16), norm(16), ic.ReLU(), ic.Residual(conv(16, 16)), norm(16, affine=False)])
    shortcut = ic.Sequential([conv(16, 16, 1), norm(16)])
    yield "branches", small(conv(3, 16), norm(16), ic.ReLU(), ic.Residual(body, shortcut), features=16 * 36), (3, 6, 6)
    yield (
        "winograd",
        small(conv(3, 32), ic.ReLU(), conv(32, 32), ic.ReLU(), conv(32, 48), features=48 * 144),
        (3, 12, 12),
    )
    yield "linear", ic.Sequential([ic.Linear(20, 30), ic.ReLU(), ic.Dropout(0.1), ic.Linear(30, 5)]), (20,)


def checksum(*arrays):
    total = 0
    for array in arrays:
        total = crc32(np.ascontiguousarray(array).tobytes(), total)
    return f"{total:08x}"


def line(name, net, shape, classes, optimizer, batch=32, dtype="float32", **options):
    rng = np.random.default_rng(crc32(name.encode()))
    net.init(seed=1, dtype=dtype, backend=options.pop("backend", None))
    trainer = ic.Trainer(net, optimizer=optimizer, seed=2, **options)
    images = rng.random((STEPS + 1, batch, *shape), dtype=np.float32)
    if name.endswith("uint8"):
        images = (images * 255).astype(np.uint8)
    labels = rng.integers(0, classes, (STEPS + 1, batch))
    losses = [trainer.step(images[i], labels[i]) for i in range(STEPS)]
    state = net.state_dict()
    loss = trainer.evaluate((images[-1], labels[-1]))["loss"]
    some = [net.predict(images[-1][:n]) for n in (batch, 1, 5)]
    sums = checksum(*(state[key] for key in sorted(state))), checksum(np.array(losses)), checksum(*some)
    return " ".join([f"{name:28}", *sums, float(loss).hex()])


def main():
    sgd, adam = ic.SGD(lr=0.05, momentum=0.9), ic.Adam(lr=1e-3)
    others = [
        ic.SGD(lr=0.02, weight_decay=1e-3),
        ic.SGD(lr=ic.Cosine(0.05, steps=8, warmup=2), momentum=0.8, weight_decay=1e-3, nesterov=True),
        ic.AdamW(lr=ic.Constant(1e-3, warmup=3)),
        ic.Adam(lr=1e-3, weight_decay=1e-2, betas=(0.8, 0.99)),
    ]
    for threads, workers in ((1, "threads"), (2, "threads"), (2, "processes")):
        ic.set_num_threads(threads)
        ic.set_workers(workers)
        print(f"{threads} {workers}")
        for name, size, channels in (
            ("notebook", 8, 1),
            ("lenet5", 28, 1),
            ("vgg8", 16, 3),
            ("resnet20", 16, 3),
            ("resnet18", 8, 3),
            ("mobilenet", 16, 3),
        ):
            options = {"width": 0.25} if name == "mobilenet" else {}
            for optimizer in (sgd, adam)[: 1 + (name in ("notebook", "lenet5"))]:
                net = ic.models.make(name, 10, channels, size, **options)
                label = f"{name} {type(optimizer).__name__} uint8"
                print(line(label, net, (channels, size, size), 10, optimizer), flush=True)
        for name, net, shape in small_nets():
            print(line(f"{name} float32", net, shape, 5, sgd, batch=24), flush=True)
        for name, net, shape in small_nets():
            print(line(f"{name} float64 shard 7", net, shape, 5, adam, 20, "float64", shard=7), flush=True)
    for i, optimizer in enumerate(others):
        print(line(f"notebook optimizer {i}", ic.models.notebook(), (1, 8, 8), 2, optimizer), flush=True)
    for name, net, shape in small_nets():
        print(line(f"{name} generic", net, shape, 5, sgd, 10, backend=Generic()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
