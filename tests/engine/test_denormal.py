"""Denormal numbers: zero for every worker of a run, and what they were for everybody else."""

import threading

import numpy as np
import pytest
from helpers import divided
from im2colnet_numpy import denormal

import im2colnet as ic
from im2colnet.parallel import processes

pytestmark = pytest.mark.skipif(denormal.LIBRARY is None, reason="needs Linux on x86-64")
SMALL = {"float32": 2e-38, "float64": 4e-308}  # a little more than the smallest normal number


def products(dtype="float32"):
    """A quarter of a small number: by an operation of NumPy, by BLAS, and of a number that is denormal itself."""
    small, quarter = np.full(4, SMALL[dtype], dtype), np.full(4, 0.25, dtype)
    small.view(f"u{small.itemsize}")[2:] = 12345
    return [*(small * quarter), *(small * np.eye(4, dtype=dtype) @ quarter)]


def keeps_them():
    return all(np.count_nonzero(products(dtype)) == 8 for dtype in SMALL)


@pytest.mark.parametrize("dtype", SMALL)
def test_they_are_zero_within_the_block_only(dtype):
    assert keeps_them()
    with denormal.flush_denormal():
        assert not np.any(products(dtype))
        with denormal.flush_denormal():
            assert not np.any(products(dtype))
        assert not np.any(products(dtype))
    assert keeps_them()
    with pytest.raises(KeyError), denormal.flush_denormal():
        raise KeyError
    assert keeps_them()


def test_other_threads_keep_them():
    inside, found = threading.Event(), []
    other = threading.Thread(target=lambda: found.append(inside.wait(60) and keeps_them()))
    other.start()
    with denormal.flush_denormal():
        inside.set()
        other.join()
    assert found == [True]


WORKERS = [(1, "threads"), (3, "threads")] + [(3, "processes")] * processes.available()


@pytest.fixture(params=WORKERS, ids=lambda given: f"{given[0]} {given[1]}")
def workers(request):
    kind = ic.get_workers()
    ic.set_workers(request.param[1])
    with ic.num_threads(request.param[0]), divided(steps_before_fork=1):
        yield
    ic.set_workers(kind)


@pytest.mark.parametrize("dtype", SMALL)
def test_momentum_that_dies_away_ends_at_zero(workers, dtype):
    net = ic.Sequential([ic.Linear(64, 3)]).init(0, dtype=dtype)
    teacher = ic.Trainer(net, optimizer=ic.SGD(0.1, momentum=0.5), shard=4)
    images, labels = np.zeros((12, 64), dtype), np.arange(12) % 3  # no weight's gradient is anything but zero
    (momentum,) = teacher.optimizer_state.values()
    momentum[...] = SMALL[dtype]
    before = net.graph.nodes[0].params["weight"].copy()
    teacher.step(images, labels)
    of_weights = net.views(net.graph.nodes[0], momentum)["weight"]
    assert not np.any(of_weights.view(f"u{momentum.itemsize}"))
    assert np.array_equal(net.graph.nodes[0].params["weight"], before)
    assert keeps_them()
    images[-1, 0] = np.nan
    with pytest.raises(ic.NonFiniteError):
        teacher.step(images, labels)
    assert keeps_them()


def test_predictions_take_them_as_zero(workers):
    net = ic.Sequential([ic.Conv2d(1, 2, 1, bias=False), ic.ReLU()]).init(0)
    net.graph.nodes[0].params["weight"][...] = 1
    images = np.full((12, 1, 4, 4), np.float32(1e-39))
    images[6:] = SMALL["float32"]
    predicted = net.predict(images)
    assert not np.any(predicted[:6].view("u4"))
    assert np.array_equal(predicted[6:], np.broadcast_to(images[6:], (6, 2, 4, 4)))
    assert keeps_them()
