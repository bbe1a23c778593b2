"""The loader: its order, its buffers, and the life of its thread."""

import gc
import subprocess
import sys
import threading
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.loader import Loader
from im2colnet.errors import ShapeError


def numbered(count, shape=(1, 2, 3), dtype=np.float32):
    """Return a data set whose images and labels are their own numbers."""
    images = np.broadcast_to(np.arange(count, dtype=dtype).reshape(-1, 1, 1, 1), (count, *shape)).copy()
    return Dataset(images, np.arange(count))


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def wait_for(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("im2colnet-loader")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    wait_for(lambda: not loader_threads())


# The order


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    epoch=st.integers(0, 5),
)
def test_an_epoch_has_each_image_once(count, batch_size, shuffle, drop_last, epoch):
    if drop_last and batch_size > count:
        return
    loader = Loader(numbered(count), batch_size, 3, shuffle, drop_last)
    batches = [(images.copy(), labels.copy()) for images, labels in loader.epoch(epoch)]
    sizes = [len(labels) for _, labels in batches]
    expected = [batch_size] * (count // batch_size)
    if count % batch_size and not drop_last:
        expected.append(count % batch_size)
    assert sizes == expected
    assert len(loader) == len(expected)
    for images, labels in batches:
        assert images.shape == (len(labels), 1, 2, 3)
        assert (images == labels.reshape(-1, 1, 1, 1)).all()
    seen = np.concatenate([labels for _, labels in batches])
    assert len(set(seen.tolist())) == sum(expected)
    if not shuffle:
        assert seen.tolist() == list(range(sum(expected)))


def test_the_order_is_the_documented_one():
    bits = np.random.PCG64(np.random.SeedSequence([7, 2])).random_raw(10).tolist()
    order = sorted(range(10), key=bits.__getitem__)
    assert labels_of(Loader(numbered(10), 4, seed=7).epoch(2)) == [order[:4], order[4:8], order[8:]]


def test_the_order_depends_on_seed_and_epoch_only():
    loader = Loader(numbered(50), 10, seed=1)
    first = labels_of(loader.epoch(0))
    np.random.seed(0)  # noqa: NPY002
    assert labels_of(loader.epoch(1)) != first
    assert labels_of(loader.epoch(0)) == first
    assert labels_of(Loader(numbered(50), 10, seed=2).epoch(0)) != first
    other_size = labels_of(Loader(numbered(50), 7, seed=1).epoch(0))
    assert np.array_equal(np.concatenate(other_size), np.concatenate(first))
    assert labels_of(Loader(numbered(50), 10, seed=np.int64(1)).epoch(np.int32(0))) == first


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("drop_last", [False, True])
def test_going_on_within_an_epoch(start, drop_last):
    loader = Loader(numbered(23 if not drop_last else 27), 5, seed=4, drop_last=drop_last)
    assert len(loader) == 5
    assert labels_of(loader.epoch(3, start=start)) == labels_of(loader.epoch(3))[start:]


def test_two_iterators_do_not_disturb_each_other():
    loader = Loader(numbered(40), 4)
    pairs = list(zip(labels_of(loader.epoch(0)), labels_of(loader.epoch(1)), strict=True))
    together = [
        (one.tolist(), other.tolist()) for (_, one), (_, other) in zip(loader.epoch(0), loader.epoch(1), strict=True)
    ]
    assert together == pairs


# The arrays


def variants():
    data = numbered(12)
    read_only = data.images.copy()
    read_only.flags.writeable = False
    labels = data.labels.copy()
    labels.flags.writeable = False
    strided = np.repeat(data.images, 2, axis=0)[::2]
    odd = np.zeros(data.images.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(data.images.shape)
    odd[...] = data.images
    return {
        "read-only": Dataset(read_only, labels),
        "strided": Dataset(strided, np.repeat(data.labels, 3)[::3]),
        "transposed": Dataset(np.asfortranarray(data.images), data.labels[::-1][::-1]),
        "broadcast": Dataset(np.broadcast_to(data.images[:, :, :1, :1], data.images.shape), data.labels),
        "big-endian": Dataset(data.images.astype(">f4"), data.labels.astype(">i2")),
        "unaligned": Dataset(odd, data.labels),
        "uint8": Dataset(data.images.astype(np.uint8), data.labels.astype(np.uint8)),
    }


@pytest.mark.parametrize("kind", variants())
def test_kinds_of_arrays(kind):
    data = variants()[kind]
    before = data.images.copy()
    for images, labels in Loader(data, 5).epoch(0):
        assert (images == labels.reshape(-1, 1, 1, 1)).all()
        assert images.flags.c_contiguous
        assert images.flags.writeable
        assert images.dtype == data.images.dtype.newbyteorder("=")
        assert labels.dtype == data.labels.dtype.newbyteorder("=")
        images[...] = 99  # the data set keeps its own
    assert np.array_equal(data.images, before)


def test_contiguous_arrays_are_not_copied():
    data = Dataset(np.zeros((1000, 1, 32, 32), np.uint8), np.zeros(1000, int))
    tracemalloc.start()
    try:
        loader = Loader(data, 2)
        assert tracemalloc.get_traced_memory()[1] < data.labels.nbytes
    finally:
        tracemalloc.stop()
    assert loader.dataset is data


def test_a_batch_is_valid_until_the_next_but_one():
    batches = Loader(numbered(30, (1, 64, 64)), 2).epoch(0, reuse=True)
    before, before_copy = None, None
    for images, labels in batches:
        time.sleep(0.002)  # time for the thread to fill another buffer
        if before is not None:
            assert (before == before_copy).all()
        assert (images == labels.reshape(-1, 1, 1, 1)).all()
        before, before_copy = images, images.copy()


def test_batches_may_be_kept():
    batches = list(Loader(numbered(50, (1, 8, 8)), 4).epoch(0))
    for images, labels in batches:
        assert (images == labels.reshape(-1, 1, 1, 1)).all()
    assert sorted(np.concatenate([labels for _, labels in batches]).tolist()) == list(range(50))


@pytest.mark.parametrize("step", [1, 2])
def test_steady_state_allocates_nothing_large(step):
    batches = Loader(numbered(900 * step, (1, 28, 28))[::step], 32).epoch(0, reuse=True)
    addresses = {images.ctypes.data for images, _ in islice(batches, 4)}
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for images, _ in batches:
            addresses.add(images.ctypes.data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(addresses) == 3
    assert peak - before < 16_000  # a batch has 100,352 bytes, the order 7,200


# The thread


@pytest.fixture
def take(monkeypatch):
    """Watch what the loader gathers: calls of `np.take` can be counted, delayed, or made to fail."""
    original = np.take

    class Take:
        calls = 0
        action = staticmethod(lambda call: None)

        def __call__(self, *args, **kwargs):
            self.calls += 1
            self.action(self.calls)
            return original(*args, **kwargs)

    watch = Take()
    monkeypatch.setattr(np, "take", watch)
    return watch


def test_one_batch_is_gathered_ahead_in_another_thread(take):
    threads = set()
    take.action = lambda call: threads.add(threading.current_thread())
    batches = Loader(numbered(20), 4).epoch(0)
    assert take.calls == 0
    next(batches)
    wait_for(lambda: take.calls == 4)  # images and labels of two batches
    time.sleep(0.02)
    assert take.calls == 4
    next(batches)
    wait_for(lambda: take.calls == 6)
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    batches.close()


def test_an_error_in_the_thread_reaches_the_consumer(take):
    def fail(call):
        if call == 5:
            raise MemoryError("no room")

    take.action = fail
    batches = Loader(numbered(20), 4).epoch(0)
    next(batches)
    next(batches)
    with pytest.raises(MemoryError, match="no room"):
        next(batches)
    wait_for(lambda: not loader_threads())
    assert list(batches) == []


@pytest.mark.parametrize("way", ["break", "close", "delete", "exception", "exhaust", "never started"])
def test_the_thread_ends_with_the_iterator(way):
    loader = Loader(numbered(100), 4)
    batches = loader.epoch(0)
    if way != "never started":
        next(batches)
        assert len(loader_threads()) == 1
    if way == "break":
        for _ in loader.epoch(1):
            assert len(loader_threads()) == 2
            break
        del batches
    elif way == "close":
        batches.close()
    elif way in ("delete", "never started"):
        del batches
    elif way == "exception":
        with pytest.raises(GeneratorExit):
            batches.throw(GeneratorExit)
    else:
        assert len(list(batches)) == 24
    wait_for(lambda: not loader_threads(), seconds=1)


def test_closing_does_not_wait_for_a_slow_read(take):
    hold = threading.Event()
    take.action = lambda call: hold.wait(10) if call == 3 else None
    batches = Loader(numbered(20), 4).epoch(0)
    next(batches)
    begin = time.monotonic()
    batches.close()
    assert time.monotonic() - begin < 5
    hold.set()


def test_collected_in_its_own_thread(take):
    """The garbage collector may run in any thread, so also in the one that the iterator ends."""
    hold, collected = threading.Event(), threading.Event()

    def collect(call):
        if call == 3:
            hold.wait(10)
            gc.collect()
            collected.set()

    take.action = collect
    gc.disable()
    try:
        batches = Loader(numbered(20), 4).epoch(0)
        next(batches)
        cycle = [batches]
        cycle.append(cycle)
        del batches, cycle
        assert len(loader_threads()) == 1
        hold.set()
        assert collected.wait(10)
    finally:
        gc.enable()
    wait_for(lambda: not loader_threads(), seconds=1)  # pytest fails on an exception that the collector swallowed


def test_the_interpreter_exits_within_an_epoch():
    root = Path(__file__).parents[2]
    program = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np
from im2colnet.datasets import Dataset
from im2colnet.datasets.loader import Loader
kept = Loader(Dataset(np.zeros((100, 1, 8, 8)), np.zeros(100, int)), 4).epoch(0)
next(kept)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), str(root / "backends")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "done\n"
    assert done.stderr == ""


# Arguments


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "4", None, True])
def test_wrong_batch_size(batch_size):
    with pytest.raises(ShapeError, match="batch_size must be a positive integer"):
        Loader(numbered(5), batch_size)


def test_wrong_arguments():
    with pytest.raises(ShapeError, match="seed must be"):
        Loader(numbered(5), 2, seed=-1)
    with pytest.raises(ShapeError, match="drop_last leaves nothing of 5 images in batches of 6"):
        Loader(numbered(5), 6, drop_last=True)
    loader = Loader(numbered(5), 2)
    with pytest.raises(ShapeError, match="epoch must be"):  # at once, not at the first batch
        loader.epoch(-1)
    with pytest.raises(ShapeError, match="start must be"):
        loader.epoch(0, start=-1)
    with pytest.raises(ShapeError, match="start must be at most 3, the number of batches, got 4"):
        loader.epoch(0, start=4)
