"""Too little memory has one name, wherever it is met, and says for what."""

import subprocess
import sys

import pytest

import im2colnet as ic
import im2colnet.functional as F
from im2colnet import get_backend

SCRIPT = """
import resource, sys, traceback
import numpy as np
import im2colnet as ic, im2colnet.functional as F

ic.set_num_threads({threads})
x = np.zeros((64, 4, 160, 160), "f4")       # 25 MiB
many = np.broadcast_to(np.float32(1), (900, 4, 160, 160))
large, labels = np.broadcast_to(np.float32(1), (2, 4, 3000, 3000)), np.zeros(2, int)
net = ic.Sequential([ic.Conv2d(4, 4, 3), ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(4, 2)]).init(0)
images = ic.Sequential([ic.Conv2d(4, 4, 3)]).init(0)
class Grows(ic.Layer):
    def forward(self, x, ctx):
        return np.concatenate([x] * 1000)[: len(x)]
own = ic.Sequential([Grows(), ic.Flatten(), ic.Linear(4 * 160 * 160, 2)]).init(0)
trainer, wide = ic.Trainer(net), ic.Sequential([ic.Linear(7000, 7000)]).init(0)
before = trainer.step(x[:2], labels)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), -1))
for name, call in dict(
    unfold=lambda: F.unfold(x, 9), conv2d=lambda: F.conv2d(x, np.zeros((64, 4, 3, 3), "f4")),
    indices=lambda: F.max_pool2d(x, 5, 1, return_indices=True), mean=lambda: F.avg_pool2d(many, 3, 1),
    fold=lambda: F.fold(np.broadcast_to(np.float32(1), (1, 8000, 16384)), 129, 2), state=lambda: wide.state_dict(),
    init=lambda: ic.Sequential([ic.Linear(20000, 20000)]).init(0), predict=lambda: images.predict(many),
    step=lambda: trainer.step(large, labels), own=lambda: own.predict(x[:8]),
    evaluate=lambda: trainer.evaluate((large, labels)),
    trainer=lambda: ic.Trainer(wide, optimizer=ic.Adam()),
).items():
    try:
        call()
    except ic.OutOfMemoryError as error:
        print(name, "told", error)
    except BaseException as error:
        print(name, "raw", repr(error))
    else:
        print(name, "done")
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(trainer.step(x[:2], labels) < before)       # it goes on
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory can be limited on Linux")
@pytest.mark.parametrize("threads", [1, 2])
def test_too_little_memory_has_one_name(threads):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{threads}", str(threads))], capture_output=True, text=True, timeout=120
    )
    *lines, last = done.stdout.splitlines()
    assert last == "True", done.stderr
    assert len(lines) == 12
    assert not [line for line in lines if line.split()[1] != "told"], lines
    assert all("MiB" in line or "GiB" in line for line in lines)


@pytest.mark.parametrize("shape", [(1 << 50,), (1 << 40, 1 << 40), (1 << 62,), (3, 1 << 61)])
@pytest.mark.parametrize("kind", ["empty", "empty_shared"])
def test_more_than_a_machine_can_have(kind, shape):
    text = r"no memory for an array of [\d,]+ MiB \(shape .* of float64\)"
    with pytest.raises(ic.OutOfMemoryError, match=text) as error:
        getattr(get_backend("numpy"), kind)(shape, "float64")
    assert isinstance(error.value, MemoryError)


def test_a_network_that_is_too_large():
    with pytest.raises(ic.OutOfMemoryError, match="MiB"):
        ic.Sequential([ic.Linear(1 << 30, 1 << 30)]).init(0)


def test_what_is_no_lack_of_memory_keeps_its_name():
    with pytest.raises(ic.ShapeError):
        F.unfold(get_backend("numpy").empty((1, 1, 2, 2), "float32"), 3)
    with pytest.raises(TypeError):
        F.unfold()
