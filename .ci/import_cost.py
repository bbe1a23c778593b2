"""Fail if ``import im2colnet``, or what the first use of a name adds to it, costs much beside ``import numpy``."""

import subprocess
import sys
import time
from statistics import median

# times the import of NumPy; with "from im2colnet import" the end of Python would be slower, not the import
LIMITS = {"import im2colnet": 1.1, "import im2colnet; im2colnet.Sequential": 2.0}
RUNS = 15  # of each import, in turn; the figure is their median
ATTEMPTS = 3  # in case that the machine was busy with something else


def seconds(code: str) -> float:
    """Return how long a new interpreter takes for a line of code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


for _ in range(ATTEMPTS):
    codes = ["import numpy", *LIMITS]
    runs = [[seconds(code) for code in codes] for _ in range(1 + RUNS)][1:]
    numpy, *ours = (median(column) for column in zip(*runs, strict=True))
    print(f"import numpy: {numpy * 1e3:.0f} ms")
    for code, took in zip(LIMITS, ours, strict=True):
        print(f"{code}: {took * 1e3:.0f} ms, {took / numpy:.2f} times, at most {LIMITS[code]}")
    if all(took <= LIMITS[code] * numpy for code, took in zip(LIMITS, ours, strict=True)):
        sys.exit()
sys.exit("the import of im2colnet costs too much")
