"""Whole networks on compiled loops: the bits for any number of workers, the gradients, and what a step allocates."""

import tracemalloc

import numpy as np
import pytest
from helpers import assert_same_bits, normal

pytest.importorskip("numba")

import im2colnet as ic
from im2colnet.parallel import processes


def network():
    """A network that meets each family of loops."""
    return ic.Sequential(
        [
            *(ic.Conv2d(2, 8, 3, padding=1), ic.BatchNorm2d(8), ic.ReLU(), ic.MaxPool2d(3, 2, padding=1)),
            *(ic.Conv2d(8, 8, 3, padding=1), ic.GroupNorm(2, 8), ic.SiLU(), ic.AvgPool2d(2)),
            *(ic.Conv2d(8, 12, 1), ic.BatchNorm2d(12), ic.Hardswish(), ic.MaxPool2d(2)),
            *(ic.Flatten(), ic.LayerNorm(48), ic.Linear(48, 5)),
        ]
    )


def batch(samples=40, seed=0):
    images = normal(samples, 2, 16, 16, seed=seed, dtype="float32")
    return images, np.random.default_rng(seed).integers(0, 5, samples)


def trained(backend="numba", steps=3):
    with ic.use_backend(backend):
        net = network().init(seed=0)
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.05, momentum=0.9), shard=16, seed=0)
        losses = [trainer.step(*batch(seed=k)) for k in range(steps)]
        return losses, net.state_dict()


@pytest.fixture
def workers():
    """Sets number and kind of workers, until the end of the test."""
    before = ic.get_num_threads(), ic.get_workers()

    def choose(count, kind="threads"):
        ic.set_num_threads(count)
        ic.set_workers(kind)

    yield choose
    choose(*before)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_number_of_workers_gives_the_same_bits(kind, workers):
    if kind == "processes" and not processes.available():
        pytest.skip("needs Linux on x86-64")
    workers(1)
    losses, state = trained()
    workers(3, kind)
    again, state_again = trained()
    assert again == losses
    assert_same_bits(state_again, state)


def test_a_few_steps_are_those_of_numpy(workers):
    workers(1)
    losses, state = trained()
    expected, state_of_numpy = trained("numpy")
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    for name, value in state_of_numpy.items():
        assert np.abs(state[name] - value).max() <= 2e-2 * max(1, np.abs(value).max()), name


def test_a_step_allocates_no_images(workers):
    workers(1)
    with ic.use_backend("numba"):
        trainer = ic.Trainer(network().init(seed=0), optimizer=ic.SGD(0.01, momentum=0.9), seed=0)
        images, labels = batch(512)
        for _ in range(3):
            trainer.step(images, labels)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            trainer.step(images, labels)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak - before < images.nbytes / 4
