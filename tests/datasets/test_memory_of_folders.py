"""A folder whose decoded images are larger than the memory that the training takes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image")
STATUS = Path("/proc/self/status")  # getrusage would tell of the process that started this one too
pytestmark = pytest.mark.skipif(
    not STATUS.exists() or "VmHWM" not in STATUS.read_text(), reason="the system does not tell the largest memory"
)
SCRIPT = """
import sys
from pathlib import Path
from PIL import Image
import im2colnet as ic

def peak():
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])

def make(root, count):
    for number in range(count):
        at = root / "ab"[number % 2]
        at.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(at / f"{number}.png")
    return root

def train(root, keep):
    train, test = ic.datasets.from_folder(root, size=128, keep=keep, progress=False)
    net = ic.Sequential([ic.AvgPool2d(32), ic.Flatten(), ic.Linear(48, 2)])
    ic.Trainer(net, seed=0).fit(train, 1, batch_size=32, validation=test, progress=False)
    return train.images.nbytes + test.images.nbytes

ic.set_num_threads(2)
ic.set_workers("threads")
few, many = make(Path(sys.argv[1], "few"), 400), make(Path(sys.argv[1], "many"), 1200)
for keep in ("none", "disk"):
    train(few, keep)  # what the training itself takes
before = peak()
for keep in ("none", "disk", "memory"):
    print(train(many, keep), peak() - before)
"""


def test_a_folder_larger_than_the_memory_of_its_training(tmp_path, monkeypatch):
    monkeypatch.setenv("IM2COLNET_CACHE", str(tmp_path / "cache"))
    run = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert not done.returncode, done.stderr
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    decoded = 1200 * 3 * 128 * 128
    assert [size for size, _ in found] == [decoded] * 3
    none, disk, memory = (growth for _, growth in found)
    assert none <= disk < decoded / 2 < memory, done.stdout
