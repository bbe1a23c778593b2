"""Padding by what the image shows, as layers and as what a convolution does before it."""

import numpy as np
import pytest
from helpers import Probe, assert_close, assert_same_bits, everything, normal

import im2colnet as ic
from im2colnet.testing import differentiate, evaluate
from im2colnet.training.checkpoint import describe, rebuild

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = [ic.ZeroPad2d, ic.ReflectionPad2d, ic.ReplicationPad2d, ic.CircularPad2d]
MODES = ["reflect", "replicate", "circular"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", LAYERS)
def test_random_sides(kind, seed):
    rng = np.random.default_rng(seed)
    H, W = (int(n) for n in rng.integers(4, 8, 2))
    low, high = rng.integers(-1, 1), 3 if kind is ic.CircularPad2d else 4  # at most what is left of the image
    layer, x = kind(tuple(int(n) for n in rng.integers(low, high, 4))), normal(2, 3, H, W, seed=seed)
    net = ic.Sequential([layer]).init(0, "float64")
    result = Probe([layer], x).step()
    assert_same_bits(net.predict(x), evaluate(net, x))
    assert_same_bits(result.y, evaluate(net, x))
    dx, _ = differentiate(net, x, normal(*result.y.shape, seed=2))
    assert_close(result.dx, dx)


@pytest.mark.parametrize("kind", [ic.ReflectionPad2d, ic.ReplicationPad2d, ic.CircularPad2d])
def test_the_gradient_in_16_bits_is_summed_in_32(kind, every_backend):
    if "float16" not in every_backend.precisions:
        pytest.skip("this backend has no float16")
    x = normal(2, 3, 5, 6, dtype="float32")
    nets = [ic.Sequential([ic.Conv2d(3, 3, 1), kind(3), ic.Flatten(), ic.Linear(396, 3)]) for _ in range(2)]
    losses = []
    for net, precision in zip(nets, ("float32", "float16"), strict=True):
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.05), seed=0, backend=every_backend, precision=precision)
        losses.append([trainer.step(x, [0, 1]) for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def network(mode):
    return ic.Sequential(
        [
            ic.Conv2d(3, 6, 3, padding=2, padding_mode=mode),
            ic.BatchNorm2d(6),
            ic.ReLU(),
            ic.Conv2d(6, 6, 3, padding=1, groups=6, padding_mode=mode),
            ic.CircularPad2d((1, 0, -1, 2)),
            ic.Conv2d(6, 4, (1, 3), 2, padding="valid", padding_mode=mode),
            ic.AdaptiveAvgPool2d(1),
            ic.Flatten(),
        ]
    )


def batch(n=60):
    return normal(n, 3, 7, 8, dtype="float32"), np.arange(n) % 4


@pytest.mark.usefixtures("shards_of_32")
@pytest.mark.parametrize("mode", MODES)
def test_any_number_of_workers_gives_the_same_bits(mode):
    found, (x, labels) = [], batch()
    for workers in 1, 2, 3:
        with ic.num_threads(workers):
            trainer = ic.Trainer(network(mode), optimizer=ic.SGD(0.05, momentum=0.9), seed=0)
            for _ in range(3):
                trainer.step(x, labels)
            found.append(everything(trainer) | {"y": trainer.net.predict(x), "one": trainer.net.predict(x[:1])})
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_goes_on_to_the_bit(mode, tmp_path):
    x, labels = batch(8)
    trainer = ic.Trainer(network(mode), optimizer=ic.SGD(0.05), seed=0)
    trainer.step(x, labels)
    trainer.save(tmp_path / "a.safetensors")
    again = ic.Trainer.load(tmp_path / "a.safetensors")
    for one in (trainer, again):
        one.step(x, labels)
    assert_same_bits(everything(again), everything(trainer))


def test_a_description_from_before_there_was_a_padding_mode():
    description = describe(ic.Conv2d(3, 4, 3, padding=1))
    del description["arguments"]["padding_mode"]
    assert rebuild(description).config() == ic.Conv2d(3, 4, 3, padding=1).config()


def test_errors_of_a_sequence_s_padding_name_its_length():
    net = ic.Sequential([ic.Conv1d(3, 4, 3, padding=5, padding_mode="reflect")]).init(0)
    with pytest.raises(ic.ShapeError, match=r"padding \(5, 5\) along the length must be less than the input's 4"):
        net.predict(normal(2, 3, 4, dtype="float32"))
