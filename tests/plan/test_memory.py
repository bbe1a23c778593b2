"""What is planned is what is allocated, and a steady-state step allocates nothing."""

import gc
import os
import sys
import tracemalloc

import numpy as np
import pytest
from helpers import batches
from im2colnet_numpy import NumpyBackend

import im2colnet as ic
from im2colnet.plan import Buffer, Plan, lay_out
from im2colnet.reports import memory as report

NUMPY_ARRAYS = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
LIBRARY = tuple(os.path.dirname(os.path.abspath(m.__file__)) for m in (ic, sys.modules["im2colnet_numpy"]))


@pytest.fixture
def threads():
    before = ic.get_num_threads()
    yield ic.set_num_threads
    ic.set_num_threads(before)


@pytest.fixture
def not_shared(monkeypatch):
    """What several processes share is mapped by the system, where tracemalloc does not see it."""
    monkeypatch.setattr(NumpyBackend, "empty_shared", NumpyBackend.empty)


@pytest.mark.usefixtures("not_shared")
@pytest.mark.parametrize("model", ["notebook", "lenet5", "vgg8", "resnet20", "mobilenet"])
@pytest.mark.parametrize(("n", "workers"), [(64, 1), (150, 2), (20, 3)])
def test_planned_training_memory_is_what_is_held(model, n, workers, threads):
    threads(workers)
    optimizer = ic.Adam(0.001) if workers == 2 else ic.SGD(0.01)
    net = ic.models.make(model, 10, 1, 16, **({"width": 0.25} if model == "mobilenet" else {}))
    images, labels = batches((1, 16, 16), 10, n, pixels=True)()
    planned = report.plan(net, (1, 16, 16), n, optimizer)["training"]["total"]
    ic.Trainer(net, optimizer=optimizer).step(images, labels)  # fills the caches that live as long as the process
    gc.collect()
    tracemalloc.start()
    try:
        net.init(0)
        trainer = ic.Trainer(net, optimizer=optimizer)
        trainer.step(images, labels)
        held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([NUMPY_ARRAYS]).traces)
    finally:
        tracemalloc.stop()
    # beyond the plan: a few numbers per channel that batch norm keeps
    assert planned <= held <= 1.02 * planned + 16_000


@pytest.mark.usefixtures("not_shared")
@pytest.mark.parametrize("model", ["lenet5", "resnet20"])
def test_planned_inference_memory_is_what_is_held(model, threads):
    threads(2)
    net = ic.models.make(model, 10, 1, 28)
    images, _ = batches((1, 28, 28), 10, 100, pixels=True)()
    planned = report.plan(net, (1, 28, 28), 100, ic.SGD(0.1))["inference"]["total"]
    net.init(0).predict(images)
    gc.collect()
    tracemalloc.start()
    try:
        net.init(0)
        net.predict(images)
        held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([NUMPY_ARRAYS]).traces)
    finally:
        tracemalloc.stop()
    assert planned <= held <= 1.02 * planned + 16_000


def test_parameters_are_drawn_a_few_at_a_time():
    net = ic.Sequential([ic.Flatten(), ic.Linear(1024, 1024)])
    net.init(0)
    tracemalloc.start()
    try:
        net.init(0)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - held < net.flat.nbytes / 2  # not a copy of them, let alone one in float64


def test_memory_does_not_grow_with_the_batch_without_batch_norm():
    net = ic.models.lenet5()
    small, large = (net.plan(n, threads=2).memory()["activations"] for n in (256, 1024))
    assert small == large
    coupled = ic.models.resnet20()
    small, large = (coupled.plan(n, threads=2).memory()["activations"] for n in (64, 128))
    assert large > 1.5 * small


class LargestLine:
    """Traces the library line by line and remembers the line that allocated most, even if it was freed at once."""

    def __init__(self):
        self.most, self.where, self._before = 0, "", None

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        now, peak = tracemalloc.get_traced_memory()
        if self._before is not None and peak - self._before > self.most:  # not what tracing itself takes
            self.most, self.where = peak - self._before, f"before {frame.f_code.co_filename}:{frame.f_lineno}"
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]
        return self


def average_and_dropout(classes, channels, size):
    return ic.Sequential(
        [
            ic.Conv2d(channels, 8, 3, padding=1),
            ic.ReLU(),
            ic.AvgPool2d(3, 2, 1),
            ic.Conv2d(8, 8, 3, groups=8),
            ic.Dropout(0.3),
            ic.MaxPool2d(3, 2),
            ic.Flatten(),
            ic.Linear(8 * ((size + 1) // 2 // 2 - 2) ** 2, classes),
        ]
    )


@pytest.mark.parametrize(("model", "channels", "size"), [("lenet5", 1, 28), ("resnet20", 3, 32), ("other", 2, 28)])
def test_a_steady_state_step_allocates_no_array_over_4_kb(model, channels, size, threads):
    threads(1)
    make = ic.models.MODELS.get(model, average_and_dropout)
    net = make(
        classes=10,
        **({"channels": channels, "size": size} if model == "other" else {"in_channels": channels, "input_size": size}),
    )
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.01, 0.9, 1e-4))
    images, labels = batches((channels, size, size), 10, 64, pixels=True)()
    for _ in range(3):
        trainer.step(images, labels)
    line, previous, buffer_size = LargestLine(), sys.gettrace(), np.setbufsize(64)  # ufuncs' own buffers are no arrays
    tracemalloc.start()
    try:
        sys.settrace(line)
        trainer.step(images, labels)
    finally:
        sys.settrace(previous)
        tracemalloc.stop()
        np.setbufsize(buffer_size)
    assert 0 < line.most <= 4096 + 2048, line.where  # an array, and Python's own objects of a line


def test_the_tracer_finds_a_planted_allocation(monkeypatch, threads):
    original = ic.layers.ReLU.backward
    monkeypatch.setattr(ic.layers.ReLU, "backward", lambda self, dy, ctx: original(self, dy.copy(), ctx))
    with pytest.raises(AssertionError):
        test_a_steady_state_step_allocates_no_array_over_4_kb("lenet5", 1, 28, threads)


def test_layout_by_lifetime_never_overlaps_and_reuses():
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = rng.integers(0, 20, 12)
        buffers = [Buffer(int(rng.integers(1, 9)) * 64, int(s), int(s + rng.integers(0, 6)), "") for s in starts]
        size = lay_out(buffers)
        for i, a in enumerate(buffers):
            assert 0 <= a.offset <= size - a.nbytes
            for b in buffers[:i]:
                together = a.start <= b.end and b.start <= a.end
                assert not together or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
        live = [sum(b.nbytes for b in buffers if b.start <= t <= b.end) for t in range(26)]
        assert max(live) <= size <= sum(b.nbytes for b in buffers)


def test_buffers_that_share_memory_are_never_alive_together():
    net = ic.models.resnet20(input_size=16)
    plan = Plan(net.graph, (16, 3, 16, 4), "float32", ic.get_backend("numpy"), training=True)
    for across in (False, True):
        chosen = [b for b in plan.buffers if b.across is across]
        for i, a in enumerate(chosen):
            for b in chosen[:i]:
                if a.start <= b.end and b.start <= a.end:
                    assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset, (a, b)


def test_summary_counts_parameters_and_flops():
    net = ic.models.lenet5()
    table = net.summary_facts((1, 28, 28), 1)
    assert table["parameters"] == 61_706
    convolutions = 28 * 28 * 6 * (2 * 25 + 1) + 10 * 10 * 16 * (2 * 150 + 1)
    linear = 120 * (2 * 400 + 1) + 84 * (2 * 120 + 1) + 10 * (2 * 84 + 1)
    pooling, relu = 3 * (14 * 14 * 6 + 5 * 5 * 16), 28 * 28 * 6 + 10 * 10 * 16 + 120 + 84
    assert table["flops"] == convolutions + linear + pooling + relu
    text = net.summary()
    assert "61,706" in text
    assert "(1, 16, 10, 10)" in text
    with pytest.raises(ic.ShapeError, match="input_shape"):
        ic.Sequential([ic.Flatten()]).summary()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 5), (17, 1001)])
def test_the_numpy_backend_s_arrays_begin_on_a_line_of_the_cache(shape, dtype):
    arrays = [ic.get_backend("numpy").empty(shape, dtype) for _ in range(20)]
    for i, array in enumerate(arrays):
        array[...] = i % 2
        assert array.size == 0 or array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, dtype, True)
    for i, array in enumerate(arrays):
        assert (array == i % 2).all(), "an array of its own"


@pytest.mark.parametrize("model", ["lenet5", "resnet20"])
def test_every_buffer_of_a_step_begins_on_a_line_of_the_cache(model):
    images, labels = batches((1, 28, 28), 10, 40, pixels=True)()
    trainer = ic.Trainer(ic.models.make(model, 10, 1, 28))
    trainer.step(images, labels)
    for array in (trainer.net.flat, *trainer.engine.arrays()):
        assert array.ctypes.data % 64 == 0
