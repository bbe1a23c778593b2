"""Pooling layers in networks: zeros, workers, checkpoints, and plug-ins that know no divisor."""

import numpy as np
import pytest
from helpers import GenericBackend, Probe, assert_close, assert_same_bits, everything, normal

import im2colnet as ic
from im2colnet.testing import evaluate
from im2colnet.testing.cases import LAYERS
from im2colnet.training.checkpoint import describe, rebuild

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = {case.kind: case for case in LAYERS}


def network():
    return ic.Sequential(
        [
            ic.Conv2d(3, 4, 3, padding=1),
            ic.LPPool2d(2, 2),
            ic.AvgPool2d(3, 1, 1, divisor_override=7, dilation=2),
            ic.Flatten(),
            ic.Linear(16, 3),
        ]
    )


@pytest.mark.usefixtures("shards_of_32")
def test_any_number_of_workers_gives_the_same_bits_and_a_checkpoint_goes_on(tmp_path):
    x, labels, found = normal(80, 3, 8, 8, dtype="float32"), np.arange(80) % 3, []
    for workers in 1, 2, 3:
        with ic.num_threads(workers):
            trainer = ic.Trainer(network(), optimizer=ic.SGD(0.05), seed=0)
            trainer.step(x, labels)
            trainer.save(tmp_path / "a.safetensors")
            trainer = ic.Trainer.load(tmp_path / "a.safetensors") if workers == 2 else trainer
            trainer.step(x, labels)
            found.append(everything(trainer) | {"y": trainer.net.predict(x)})
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def random_layer(rng, size):
    """LPPool2d or AvgPool2d of any arguments that fit images of a size, and images that suit it."""
    kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
    stride, ceil_mode = tuple(int(n) for n in rng.integers(1, 4, 2)), bool(rng.integers(2))
    if rng.integers(2):
        return ic.LPPool2d(float(rng.choice([1, 1.5, 2, 3, 4])), kernel, stride, ceil_mode), np.abs
    padding, divisor = tuple(int(rng.integers(k // 2 + 1)) for k in kernel), [None, 3][rng.integers(2)]
    dilation = tuple(int(n) for n in rng.integers(1, 4, 2))
    return ic.AvgPool2d(kernel, stride, padding, ceil_mode, bool(rng.integers(2)), divisor, dilation), np.positive


@pytest.mark.parametrize("seed", range(30))
def test_random_layers(seed):
    rng = np.random.default_rng(seed)
    layer, suited = random_layer(rng, (8, 9))
    x = suited(normal(3, 2, 8, 9, seed=seed))
    net, result = ic.Sequential([layer]).init(0, "float64"), Probe([layer], x, shard=2).step()
    assert_close(result.y, evaluate(net, x))
    assert_close(net.predict(x), evaluate(net, x))
    dy = normal(*result.y.shape, seed=2)
    (dx,), _ = CASES[type(layer)].backward(layer, None, dy, x)
    assert_close(result.dx, dx)


@pytest.mark.parametrize("p", [1, 2, 3.0, 4])
def test_the_gradient_where_all_of_a_window_is_0_is_0(p, every_backend):
    x = np.zeros((2, 3, 4, 4))
    x[1] = np.abs(normal(3, 4, 4)) + 0.1
    net = ic.Sequential([ic.Conv2d(3, 3, 1, bias=False), ic.LPPool2d(p, 2), ic.Flatten(), ic.Linear(12, 2)])
    net.init(0, "float64", every_backend)
    net.load_state_dict(net.state_dict() | {"0.weight": np.eye(3)[:, :, None, None]})
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1))
    trainer.step(x, [0, 1])
    assert all(np.isfinite(value).all() for value in net.state_dict().values())


def test_a_plug_in_whose_kernel_knows_no_divisor_pools_without_one():
    class Old(GenericBackend):
        def avg_pool2d(self, x, window, count_include_pad=True, out=None):
            return ic.Backend.avg_pool2d(self, x, window, count_include_pad, out=out)

    x = normal(2, 3, 6, 6)
    net = ic.Sequential([ic.AvgPool2d(2)]).init(0, "float64", Old())
    assert_close(net.predict(x), evaluate(net, x))


def test_a_description_from_before_there_was_a_divisor():
    description = describe(ic.AvgPool2d(3, 2, 1))
    for name in "divisor_override", "dilation":
        del description["arguments"][name]
    assert rebuild(description).config() == ic.AvgPool2d(3, 2, 1).config()


@pytest.mark.parametrize("kind", [ic.Amax, ic.Amin])
def test_the_best_numbers_along_an_axis_share_the_gradient(kind):
    x = np.array([[[2.0, 1.0, 2.0], [1.0, 1.0, 1.0], [3.0, 0.0, -3.0]]])
    x = x if kind is ic.Amax else -x
    dy = np.array([[4.0, 6.0, 1.0]])
    dx = Probe([kind(2)], x, dy).step().dx
    np.testing.assert_array_equal(dx, [[[2, 0, 2], [2, 2, 2], [1, 0, 0]]])


@pytest.mark.parametrize("layer", [ic.MaxPool2d(3, 1, padding=2), ic.AvgPool2d((2, 5), 1, padding=((1, 1), (3, 4)))])
def test_padding_above_half_of_the_window_is_that_of_padded_images(layer):
    x = normal(2, 3, 5, 6)
    value = -np.inf if isinstance(layer, ic.MaxPool2d) else 0.0
    pads = ((0, 0), (2, 2), (2, 2)) if isinstance(layer, ic.MaxPool2d) else ((0, 0), (1, 1), (3, 4))
    plain = type(layer)(layer.kernel_size, layer.stride)
    expected = ic.Sequential([ic.Pad(pads, value=value), plain]).init(0, "float64").predict(x)
    np.testing.assert_allclose(ic.Sequential([layer]).init(0, "float64").predict(x), expected, rtol=1e-12)
