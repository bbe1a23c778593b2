"""Training steps and inference of whole networks, on one thread and on two."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import CASES, MORE_CASES, WARM_UP, interleave, start_backend, warm_up
from benchmarks.micro_transforms import transforms

NETS = [name for name in CASES if not name.startswith("resnet18")]  # half a minute of asv's time: in compare only
MODELS = [name for name in NETS if name != "lenet5-b256"]
THREADS = [1, 2]


@cache
def step(net: str, threads: int) -> Callable[[], Any]:
    """Return a training step."""
    start_backend()
    ic.set_num_threads(threads)
    case = (CASES | MORE_CASES)[net]
    trainer, (images, labels) = case.trainer(), case.data()
    taken = partial(trainer.step, images, labels)
    warm_up(taken)
    return taken


@cache
def prediction(net: str, threads: int, batch: int | None = None) -> Callable[[], Any]:
    """Return a prediction of the case's batch, or of another."""
    start_backend()
    ic.set_num_threads(threads)
    network, images = CASES[net].trainer().net, CASES[net].data(batch)[0]
    return lambda: network.predict(images)


class Nets:
    """How asv times them."""

    params: tuple[list[Any], ...] = (NETS, THREADS)
    param_names = ("net", "threads")
    version = "1"
    warmup_time, repeat = WARM_UP, (2, 10, 1.5)
    timeout = 300


class Training(Nets):
    """A training step: forward, loss, backward, SGD with momentum."""

    def time_step(self, net: str, threads: int) -> None:
        step(net, threads)()


class MoreTraining(Training):
    """The same of networks of any graph: U-Net, and two of torchvision's."""

    params = (["unet-b16", "mobilenet_v3_small-b16", "densenet121-b16"], THREADS)


class Inference(Nets):
    """A prediction of a batch."""

    def time_predict(self, net: str, threads: int) -> None:
        prediction(net, threads)()


class InferenceOne(Nets):
    """A prediction of one image, which is one shard and so the work of one thread."""

    params = (MODELS,)
    param_names = ("net",)

    def time_predict(self, net: str) -> None:
        prediction(net, 1, 1)()


class Throughput(Nets):
    """Images a second. More is better, so the search for regressions leaves it out: see asv.conf.json."""

    unit = "images/s"

    def track_training(self, net: str, threads: int) -> float:
        return CASES[net].batch / median_seconds(step(net, threads))

    def track_inference(self, net: str, threads: int) -> float:
        return CASES[net].batch / median_seconds(prediction(net, threads))


@cache
def epoch(net: str, names: str) -> Callable[[], Any]:
    """Return an epoch of ``fit`` on eight batches of uint8 images, changed by the transforms of these names."""
    start_backend()
    ic.set_num_threads(2)
    case, rng = CASES[net], np.random.default_rng(0)
    chain = transforms(names, case.shape[1])
    images = rng.integers(0, 256, (8 * case.batch, *case.shape), dtype=np.uint8)
    trainer, data = case.trainer(), (images, rng.integers(0, case.classes, len(images)))

    def taken() -> None:
        trainer.fit(data, trainer.epoch + 1, case.batch, progress=False, augment=chain)

    with warnings.catch_warnings():  # there is one more epoch each time, which is what the warning says
        warnings.simplefilter("ignore", ic.TrainingWarning)
        warm_up(taken)
    return taken


class Augmentation(Nets):
    """Images a second of ``fit``, on two threads, with the usual transforms and without; more is better."""

    params = (["lenet5-b256", "vgg8-b64", "resnet20-b64"], ["none", "crop,flip"])
    param_names = ("net", "transforms")
    unit = "images/s"

    def track_fit(self, net: str, names: str) -> float:
        call = epoch(net, names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return 8 * CASES[net].batch / median_seconds(call)


def median_seconds(call: Callable[[], Any]) -> float:
    """Return the time of a call."""
    return interleave({"call": call}, rounds=5, sample=0.1).median("call")
