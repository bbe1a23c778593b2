"""Train small networks and print the checksums of all that training and prediction give, as a line of JSON.

    python digests.py WORKERS [CASE ...]

It runs as one process or on the ranks of MPI, and must print the same on each.
"""

import json
import sys
import zlib
from dataclasses import dataclass

import numpy as np

import im2colnet as ic
from im2colnet.datasets import transforms


@dataclass(frozen=True)
class Whole(ic.Optimizer):
    """Makes steps of one length, so it must see the whole gradient of its parameters."""

    lr: float

    def state_slots(self):
        return ("steps",)

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr * g / np.sqrt((g * g).sum())
        state["steps"] += t


def conv(channels, filters):
    return ic.Conv2d(channels, filters, 3, padding=1)


def plain():
    return ic.Sequential(
        [conv(3, 5), ic.ReLU(), ic.MaxPool2d(2), conv(5, 4), ic.ReLU(), ic.Flatten(), ic.Linear(64, 4)]
    )


def normed():
    body = ic.Sequential([conv(6, 6), ic.BatchNorm2d(6), ic.ReLU(), conv(6, 6), ic.BatchNorm2d(6)])
    stem = [conv(3, 6), ic.BatchNorm2d(6), ic.ReLU(), ic.Residual(body), ic.ReLU()]
    return ic.Sequential([*stem, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(6, 4)])


def both():
    return ic.Sequential([conv(3, 6), ic.Dropout(0.3), ic.BatchNorm2d(6), ic.ReLU(), ic.Flatten(), ic.Linear(384, 4)])


def wide():
    """150 000 parameters: a gradient of 0.6 MB, which goes another way than small ones."""
    return ic.Sequential([conv(3, 8), ic.ReLU(), ic.Flatten(), ic.Linear(512, 288), ic.ReLU(), ic.Linear(288, 4)])


def batch(n, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, 8, 8)).astype(dtype), rng.integers(0, 4, n)


def crc(*arrays):
    """One checksum of some arrays: of their types, shapes and bytes."""
    found = 0
    for array in map(np.asarray, arrays):
        found = zlib.crc32(array.tobytes(), zlib.crc32(f"{array.dtype}{array.shape}".encode(), found))
    return f"{found:08x}"


def everything(trainer, losses, seed):
    """The checksums of all that training changes, and of what it then gives for new images."""
    images, labels = batch(13, seed=100 + seed, dtype=trainer.net.dtype)
    state, slots = trainer.net.state_dict(), trainer.optimizer_state
    evaluated = trainer.evaluate((images, labels))
    return {
        "losses": crc(losses),
        "parameters": crc(*trainer.net.parameters().values()),
        "state": crc(*state.values()),
        "slots": crc(*slots.values()),
        "evaluated": crc(*evaluated.values()),
        "predicted": crc(trainer.predict(images)),
        "one predicted": crc(trainer.predict(images[:1])),
        "predicted alone": crc(trainer.net.predict(images)),
    }


def steps(net, optimizer, sizes, shard=3, dtype="float32", **how):
    """Take a step for each batch size."""
    trainer = ic.Trainer(net().init(1, dtype), optimizer=optimizer, seed=3, shard=shard, **how)
    losses = [trainer.step(*batch(n, seed, dtype)) for seed, n in enumerate(sizes)]
    gradients = trainer.gradients(*batch(11, 50, dtype))
    return everything(trainer, losses, 0) | {"gradients": crc(*gradients.values())}


def fit(net, optimizer, callbacks=(), sizes=(37, 10), **how):
    """Two epochs with augmentation, an uneven last batch, and validation."""
    rng = np.random.default_rng(5)
    data, more = ((rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8), rng.integers(0, 4, n)) for n in sizes)
    trainer = ic.Trainer(net(), optimizer=optimizer, seed=4, shard=2, **how)
    augment = [transforms.RandomCrop(8, padding=1), transforms.RandomHorizontalFlip()]
    history = trainer.fit(
        data, 2, 12, more, progress=False, callbacks=callbacks, augment=augment, metrics={"f1": ic.metrics.f1_score}
    )
    records = [{k: v for k, v in record.items() if "seconds" not in k and "per_second" not in k} for record in history]
    mistakes = [(m.index, m.predicted, m.probability) for m in trainer.mistakes(more, 4)]
    return everything(trainer, [record["loss"] for record in records], 1) | {
        "history": json.dumps(records),
        "mistakes": repr(mistakes),
    }


SGD, ADAM = ic.SGD(0.05, momentum=0.9, weight_decay=1e-3), ic.Adam(1e-2)
#: the last batches have one shard, so that most ranks have none
CASES = {
    "sgd": lambda: steps(plain, SGD, [23, 23, 12, 24, 4, 1]),
    "batch norm": lambda: steps(normed, SGD, [22, 7, 24, 22, 2]),
    "both": lambda: steps(both, ADAM, [20, 20, 11, 3]),
    "powers of two": lambda: steps(normed, SGD, [32, 64, 32, 16], shard=4),
    "wide": lambda: steps(wide, SGD, [24, 20, 32, 5], shard=4),
    "float64": lambda: steps(both, ic.AdamW(1e-2), [21, 9, 21, 1], dtype="float64"),
    "default shard": lambda: steps(normed, SGD, [17, 17, 17], shard=None),
    "whole gradient": lambda: steps(plain, Whole(0.05), [17, 17, 4], clip_norm=0.5),
    "clipped": lambda: steps(normed, ic.RMSprop(1e-2), [17, 17, 4], clip_norm=0.1, clip_value=0.01),
    "accumulated": lambda: steps(plain, ic.SGD(0.1, momentum=0.9), [17, 4, 17, 17, 5], accumulate=2),
    "groups": lambda: steps(normed, SGD, [17, 17, 4], groups={"*.bias": {"lr": 0.01, "weight_decay": 0}}),
    "fit": lambda: fit(both, ADAM),
    "averaged": lambda: fit(normed, SGD, [ic.callbacks.EMA(0.9)], accumulate=2),
    "swa": lambda: fit(normed, SGD, [ic.callbacks.SWA(1)]),
}

if __name__ == "__main__":
    workers, *names = sys.argv[1:]
    ic.set_num_threads(int(workers))
    print(json.dumps({name: CASES[name]() for name in names or CASES}))
