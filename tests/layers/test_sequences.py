"""Layers of sequences (N, C, L) are those of images of one row, to the bit, and networks of them work as others."""

import numpy as np
import pytest
from helpers import Probe, assert_close, assert_same_bits, divided, everything, normal, workers

import im2colnet as ic
from im2colnet.testing import check_layer, differentiate, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

TWINS = [
    (ic.Conv1d(4, 6, 3, padding=1), ic.Conv2d(4, 6, (1, 3), padding=(0, 1))),
    (ic.Conv1d(4, 6, 3, 2, groups=2, dilation=2), ic.Conv2d(4, 6, (1, 3), (1, 2), groups=2, dilation=(1, 2))),
    (ic.Conv1d(4, 4, 5, padding="same", groups=4), ic.Conv2d(4, 4, (1, 5), padding="same", groups=4)),
    (
        ic.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2),
        ic.ConvTranspose2d(4, 6, (1, 3), (1, 2), (0, 1), (0, 1), groups=2),
    ),
    (ic.MaxPool1d(3, 2, 1), ic.MaxPool2d((1, 3), (1, 2), (0, 1))),
    (ic.AvgPool1d(3, 2, 1, True), ic.AvgPool2d((1, 3), (1, 2), (0, 1), True)),
    (ic.AdaptiveAvgPool1d(4), ic.AdaptiveAvgPool2d((1, 4))),
    (ic.AdaptiveMaxPool1d(4), ic.AdaptiveMaxPool2d((1, 4))),
]


@pytest.mark.parametrize(("layer", "of_images"), TWINS, ids=lambda layer: repr(layer))
def test_a_sequence_is_an_image_of_one_row(layer, of_images):
    x = normal(3, 4, 11)
    found, expected = Probe([layer], x).step(), Probe([of_images], x[:, :, None]).step()
    assert_same_bits(found.y, expected.y[:, :, 0])
    assert_same_bits(found.dx, expected.dx[:, :, 0])
    for name, gradient in found.gradients.items():
        wanted = expected.gradients[name]
        assert_same_bits(gradient, wanted[:, :, 0] if name.endswith("weight") else wanted)


def random_layer(rng):
    """A layer of any arguments that fit 4 channels of 12 places."""
    G = int(rng.choice([1, 2, 4]))
    K, stride, dilation = (int(rng.integers(1, n)) for n in (5, 4, 3))
    sides = tuple(int(n) for n in rng.integers(0, 4, 2))
    F, pool_sides = G * int(rng.integers(1, 4)), tuple(min(side, K // 2) for side in sides)
    cut = tuple(min(side, 1) for side in sides)
    return [
        ic.Conv1d(4, F, K, stride, (sides,), dilation, G, bool(rng.integers(2))),
        ic.ConvTranspose1d(4, F, K, stride, (cut,), int(rng.integers(max(stride, dilation))), G, dilation=dilation),
        ic.MaxPool1d(K, stride, (pool_sides,), dilation, bool(rng.integers(2))),
        ic.AvgPool1d(K, stride, (pool_sides,), bool(rng.integers(2)), bool(rng.integers(2))),
        ic.AdaptiveAvgPool1d(int(rng.integers(1, 16))),
        ic.AdaptiveMaxPool1d(int(rng.integers(1, 16))),
    ][rng.integers(6)]


@pytest.mark.parametrize("seed", range(30))
def test_random_layers(seed):
    layer, x = random_layer(np.random.default_rng(seed)), normal(3, 4, 12, seed=seed)
    probe = Probe([layer], x, shard=2)
    result = probe.step()
    net = ic.Sequential([layer]).init(0, "float64")
    net.load_state_dict({"0" + name[1:]: value for name, value in probe.net.state_dict().items() if name[0] == "1"})
    assert_close(result.y, evaluate(net, x), rtol=1e-10)
    dx, gradients = differentiate(net, x, result.y * 0 + probe.dy)
    assert_close(result.dx, dx, rtol=1e-10)
    for name, gradient in result.gradients.items():
        assert_close(gradient, gradients["0" + name[1:]], rtol=1e-10)


def network():
    """Convolutions with batch norm, what follows one of them fused, and pooling of every kind."""
    return ic.Sequential(
        [
            ic.Conv1d(3, 8, 5, padding=2, bias=False),
            ic.BatchNorm1d(8),
            ic.ReLU(),
            ic.MaxPool1d(2),
            ic.Residual(ic.Sequential([ic.Conv1d(8, 8, 3, padding=1), ic.BatchNorm1d(8)])),
            ic.ReLU(),
            ic.ConvTranspose1d(8, 6, 2, 2),
            ic.AvgPool1d(3, 1),
            ic.AdaptiveMaxPool1d(9),
            ic.AdaptiveAvgPool1d(1),
            ic.Flatten(),
            ic.Linear(6, 4),
        ]
    )


def sequences(n=40, dtype="float32"):
    return normal(n, 3, 24, dtype=dtype), np.arange(n) % 4


def test_parameters_have_pytorch_s_names_and_shapes():
    shapes = {name: value.shape for name, value in network().init(0).state_dict().items() if "running" not in name}
    assert shapes == {
        "0.weight": (8, 3, 5),
        "1.weight": (8,),
        "1.bias": (8,),
        "4.body.0.weight": (8, 8, 3),
        "4.body.0.bias": (8,),
        "4.body.1.weight": (8,),
        "4.body.1.bias": (8,),
        "6.weight": (8, 6, 2),
        "6.bias": (6,),
        "11.weight": (4, 6),
        "11.bias": (4,),
    }


def test_in_evaluation_batch_norm_and_relu_are_joined_to_the_convolution(every_backend):
    net, (x, labels) = network().init(0, "float64", every_backend), sequences(6, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.05), seed=0)
    for _ in range(2):
        trainer.step(x, labels)
    layers = [repr(row.layer) for row in net.plan(1, (3, 24), training=False).graph.nodes]
    assert not any(text.startswith("BatchNorm1d") for text in layers)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-9)


@pytest.mark.usefixtures("shards_of_32")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_number_of_workers_gives_the_same_bits(kind):
    found, (x, labels) = [], sequences(100)
    for number in 1, 2, 3:
        with workers(number, kind):
            trainer = ic.Trainer(network().init(0), optimizer=ic.SGD(0.05, momentum=0.9), seed=0)
            for _ in range(3):
                trainer.step(x, labels)
            found.append(everything(trainer) | {"y": trainer.net.predict(x)})
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


@pytest.mark.parametrize("length", [3, 24], ids=["a weight larger than the sequences", "or smaller"])
def test_workers_share_one_sequence(length):
    """Each makes some of the channels."""
    x, found = normal(1, 3, length), []
    with divided(bands=2, band_min_flops=1):
        net = ic.Sequential([*network().layers[:4], ic.Conv1d(8, 5, 1)]).init(0, "float64")
        state = net.state_dict()
        net.load_state_dict({name: value + 0.5 * ("running" in name) for name, value in state.items()})
        plan = net.plan(1, x.shape[1:], training=False)
        for workers in 1, 2:
            with ic.num_threads(workers):
                found.append(net.predict(x))
    counts = [len(bands) for bands, node in zip(plan.largest.bands, plan.graph.nodes, strict=True) if not node.fused]
    assert counts == [2, 2, 2]
    assert_same_bits(found[1], found[0])
    assert_close(found[0], evaluate(net, x), rtol=1e-10)


def test_a_checkpoint_goes_on_to_the_bit(tmp_path):
    x, labels = sequences()
    trainer = ic.Trainer(network(), optimizer=ic.SGD(0.05, momentum=0.9), seed=0)
    trainer.step(x, labels)
    trainer.save(tmp_path / "a.safetensors")
    again = ic.Trainer.load(tmp_path / "a.safetensors")
    assert again.net.input_shape == (3, 24)
    for one in (trainer, again):
        one.step(x, labels)
    assert_same_bits(everything(again), everything(trainer))


def test_sequences_are_fitted_and_evaluated():
    x, labels = sequences()
    trainer = ic.Trainer(network(), optimizer=ic.SGD(0.05), seed=0)
    trainer.fit((x, labels), epochs=2, batch_size=16, validation=(x, labels))
    assert trainer.net.inputs.shape == (3, 24)
    assert trainer.history["validation_loss"][-1] == trainer.evaluate((x, labels))["loss"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ic.Conv1d(4, 6, (3, 2)), r"kernel_size must be an integer of at least 1, got \(3, 2\)"),
        (lambda: ic.Conv1d(4, 6, 3, 0), "stride must be an integer of at least 1, got 0"),
        (lambda: ic.Conv1d(4, 6, 3, padding=(1, 2)), r"padding must be .*\(\(left, right\),\), got \(1, 2\)"),
        (lambda: ic.Conv1d(4, 6, 3, 2, padding="same"), "needs stride 1"),
        (lambda: ic.ConvTranspose1d(4, 6, 3, output_padding=2), "output_padding 2 along the length"),
        (lambda: ic.MaxPool1d(3, padding=3), r"padding \(3, 3\) along the length must be less than the window"),
        (lambda: ic.AvgPool1d(()), "kernel_size must be an integer of at least 1"),
        (
            lambda: ic.AdaptiveAvgPool1d((3, 2)),
            "output_size must be a positive integer, or None, which leaves the length",
        ),
        (lambda: check_layer(ic.Conv1d(4, 6, 3), (3, 9)), r"expected 4 input channels, got 3: input shape \(3, 3, 9\)"),
        (lambda: check_layer(ic.Conv1d(3, 6, 11), (3, 9)), r"the length would be \(input 9 \+ padding 0\+0"),
        (lambda: check_layer(ic.ConvTranspose1d(3, 6, 2, padding=6), (3, 9)), r"the length would be \(input 9 - 1\)"),
        (lambda: check_layer(ic.MaxPool1d(2), (9,)), r"expected sequences \(N, C, L\), got shape \(3, 9\); .* an axis"),
        (lambda: check_layer(ic.AvgPool1d(2), (3, 4, 9)), r"expected sequences \(N, C, L\), got shape \(3, 3, 4, 9\)"),
    ],
)
def test_wrong_arguments(make, text):
    with pytest.raises(ic.ShapeError, match=text):
        make()
