"""Batch norm's running statistics are those of the whole batch, however it is divided."""

import numpy as np
import pytest
from helpers import assert_same_bits, everything, normal, workers
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import evaluate, oracles

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "shard"), [(10, 3), (7, 1), (5, 32)])
def test_running_statistics_are_those_of_the_whole_batch(n, shard, threads):
    ic.set_num_threads(threads)
    net = ic.Sequential([ic.BatchNorm2d(3, momentum=0.3), ic.Flatten(), ic.Linear(60, 2)]).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.0), shard=shard)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = normal(n, 3, 4, 5, seed=step) * 3 + 100
        trainer.step(x, np.zeros(n, int))
        _, mean, var = oracles.batch_norm(x, mean, var, np.ones(3), np.zeros(3), training=True, momentum=0.3)
        assert_allclose(net.state_dict()["0.running_mean"], mean, rtol=1e-12)
        assert_allclose(net.state_dict()["0.running_var"], var, rtol=1e-10)


def test_running_statistics_in_float32_of_pixels_far_from_zero():
    """The variance is not the difference of two large numbers."""
    net = ic.Sequential([ic.BatchNorm2d(1, momentum=1.0), ic.Flatten(), ic.Linear(100, 2)]).init(0)
    x = (normal(64, 1, 10, 10) + 1000).astype("float32")
    ic.Trainer(net, optimizer=ic.SGD(0.0), shard=8).step(x, np.zeros(64, int))
    assert_allclose(net.state_dict()["0.running_var"], [x.astype("f8").var(ddof=1)], rtol=1e-4)


def without_momentum():
    layers = [ic.Conv2d(2, 3, 3), ic.BatchNorm2d(3, momentum=None), ic.Flatten(), ic.Linear(12, 2)]
    return ic.Trainer(ic.Sequential(layers), optimizer=ic.SGD(0.1), seed=0)


def test_without_a_momentum_they_are_the_mean_of_all_batches_also_after_a_checkpoint(tmp_path):
    trainer = without_momentum()
    for step in range(5):
        if step == 2:
            trainer.save(tmp_path / "a.safetensors")
            again = ic.Trainer.load(tmp_path / "a.safetensors")
        for one in [trainer, again] if step >= 2 else [trainer]:
            one.step(normal(6, 2, 4, 4, seed=step, dtype="float32"), [0, 1] * 3)
    state = trainer.net.state_dict()
    assert state["1.num_batches_tracked"] == 5
    assert_same_bits(everything(again), everything(trainer))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_without_a_momentum_any_number_of_workers_gives_the_same_bits(kind):
    found = []
    for number in 1, 2:
        with workers(number, kind):
            trainer = ic.Trainer(without_momentum().net, optimizer=ic.SGD(0.1), seed=0, shard=2)
            for step in range(3):
                trainer.step(normal(6, 2, 4, 4, seed=step, dtype="float32"), [0, 1] * 3)
            found.append(everything(trainer))
    assert_same_bits(found[1], found[0])


def test_the_number_of_batches_is_taken_from_a_state_only_where_it_counts():
    state = without_momentum().net.state_dict() | {"1.num_batches_tracked": np.array(7)}  # PyTorch's is an integer
    net = without_momentum().net
    net.load_state_dict(state)
    assert net.state_dict()["1.num_batches_tracked"] == 7
    plain = ic.Sequential([ic.Conv2d(2, 3, 3), ic.BatchNorm2d(3), ic.Flatten(), ic.Linear(12, 2)]).init(0)
    plain.load_state_dict(state)
    assert "1.num_batches_tracked" not in plain.state_dict()
    with pytest.raises(ic.CheckpointError, match=r"1\.num_batches_tracked is missing"):
        net.load_state_dict(plain.state_dict())


def test_a_momentum_neither_comes_nor_goes():
    for layer, value in (ic.BatchNorm2d(3), None), (ic.BatchNorm1d(3, momentum=None), 0.1):
        with pytest.raises(ic.FrozenError, match="the number of batches is part of the state"):
            layer.momentum = value
    layer = ic.BatchNorm2d(3)
    layer.momentum = 0.3
    assert layer.momentum == 0.3


def without_statistics():
    body = ic.Sequential([ic.Conv2d(3, 3, 3, padding=1), ic.BatchNorm2d(3, track_running_stats=False)])
    layers = [ic.Conv2d(2, 3, 3, padding=1), ic.BatchNorm2d(3, track_running_stats=False), ic.ReLU(), ic.Residual(body)]
    return ic.Sequential([*layers, ic.Flatten(), ic.BatchNorm1d(48, track_running_stats=False), ic.Linear(48, 4)])


@pytest.mark.usefixtures("shards_of_32")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_batch_is_normalised_by_its_own_in_evaluation_by_any_number_of_workers(kind):
    x, labels, found = normal(100, 2, 4, 4), np.arange(100) % 4, []
    for number in 1, 2, 3:
        with workers(number, kind):
            net = without_statistics().init(0, "float64")
            trainer = ic.Trainer(net, optimizer=ic.SGD(0.05), seed=0)
            trainer.step(x, labels)
            y, two = net.predict(x), net.predict(x[:2])
            measured = trainer.evaluate((x, labels))
            found.append(everything(trainer) | {"y": y, "two": two, "loss": np.array(measured["loss"])})
            assert_allclose(y, evaluate(net, x), rtol=1e-10, atol=1e-12)
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def assert_a_checkpoint_goes_on(trainer, path):
    """After a step, a trainer and its checkpoint go on with the same bits: in the next step, and in a prediction."""
    x, labels = normal(8, 2, 4, 4, dtype="float32"), [0, 1, 2, 3] * 2
    trainer.step(x, labels)
    trainer.save(path)
    again = ic.Trainer.load(path)
    for one in trainer, again:
        one.step(x, labels)
    assert_same_bits(everything(again), everything(trainer))
    assert_same_bits(again.net.predict(x), trainer.net.predict(x))


def test_without_running_statistics_there_is_no_state_and_a_checkpoint_goes_on(tmp_path):
    trainer = ic.Trainer(without_statistics(), optimizer=ic.SGD(0.05), seed=0)
    assert not [name for name in trainer.net.state_dict() if "running" in name or "num_batches" in name]
    assert_a_checkpoint_goes_on(trainer, tmp_path / "a.safetensors")


# Of each image -------------------------------------------------------------------------------------------------------
def of_images(**config):
    body = ic.Sequential([ic.Conv2d(3, 3, 3, padding=1), ic.InstanceNorm2d(3, track_running_stats=True, **config)])
    first = ic.InstanceNorm2d(3, affine=True, track_running_stats=True, momentum=0.3)
    layers = [ic.Conv2d(2, 3, 3, padding=1), first, ic.BatchNorm2d(3), ic.ReLU(), ic.Residual(body)]
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(48, 4)])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "shard"), [(10, 3), (7, 1), (5, 32)])
def test_those_of_images_are_the_mean_over_the_whole_batch(n, shard, threads):
    ic.set_num_threads(threads)
    layers = [ic.InstanceNorm2d(3, momentum=0.3, track_running_stats=True), ic.Flatten(), ic.Linear(60, 2)]
    net = ic.Sequential(layers).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.0), shard=shard)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = normal(n, 3, 4, 5, seed=step) * 3 + 100
        trainer.step(x, np.zeros(n, int))
        mean, var = oracles.instance_norm_running(x, mean, var, momentum=0.3)
        assert_allclose(net.state_dict()["0.running_mean"], mean, rtol=1e-12)
        assert_allclose(net.state_dict()["0.running_var"], var, rtol=1e-10)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_those_of_images_have_the_same_bits_for_any_number_of_workers(kind):
    x, labels, found = normal(10, 2, 4, 4, dtype="float32"), np.arange(10) % 4, []
    for number in 1, 2, 3:
        with workers(number, kind):
            trainer = ic.Trainer(of_images().init(0), optimizer=ic.SGD(0.05), seed=0, shard=2)
            for _ in range(2):
                trainer.step(x, labels)
            found.append(everything(trainer) | {"y": trainer.net.predict(x)})
    assert found[0]["1.running_mean"].all()
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def test_those_of_images_go_on_after_a_checkpoint(tmp_path):
    trainer = ic.Trainer(of_images(affine=True, bias=False), optimizer=ic.SGD(0.05), seed=0)
    assert_a_checkpoint_goes_on(trainer, tmp_path / "a.safetensors")
    assert not [name for name in trainer.net.state_dict() if name.endswith("body.1.bias")]


def test_those_of_images_in_float32_of_pixels_far_from_zero():
    layers = [ic.InstanceNorm2d(1, momentum=1.0, track_running_stats=True), ic.Flatten(), ic.Linear(100, 2)]
    net, x = ic.Sequential(layers).init(0), (normal(64, 1, 10, 10) + 1000).astype("float32")
    ic.Trainer(net, optimizer=ic.SGD(0.0), shard=8).step(x, np.zeros(64, int))
    expected = x.astype("f8").var(axis=(1, 2, 3), ddof=1).mean()
    assert_allclose(net.state_dict()["0.running_var"], [expected], rtol=1e-4)


def test_numbers_too_large_to_be_squared_change_nothing():
    net = of_images().init(0)
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.05), seed=0)
    x = normal(8, 2, 4, 4, dtype="float32")
    trainer.step(x, [0, 1] * 4)
    before = everything(trainer)
    with pytest.raises(ic.NonFiniteError, match="infinite or NaN"):
        trainer.step(x * np.float32(1e30), [0, 1] * 4)
    assert_same_bits(everything(trainer), before)


def test_one_pixel_has_statistics_to_evaluate_by_but_none_to_train_by():
    net = ic.Sequential([ic.InstanceNorm2d(3, eps=0.5, track_running_stats=True), ic.Flatten(), ic.Linear(3, 2)])
    x = normal(4, 3, 1, 1, dtype="float32")
    net.init(0)
    assert_allclose(net.predict(x), evaluate(net, x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ic.ShapeError, match=r"'0'.*more than one pixel for each channel"):
        ic.Trainer(net, optimizer=ic.SGD(0.1)).step(x, [0, 1, 0, 1])


def test_pytorch_s_state_has_a_number_of_batches_that_is_left_out():
    net = of_images().init(0)
    state = net.state_dict()
    net.load_state_dict(state | {"1.num_batches_tracked": np.array(0)})
    assert "1.num_batches_tracked" not in net.state_dict()
