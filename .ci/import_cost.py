"""Fail if ``import im2colnet`` takes more than 1.5 times as long as ``import numpy``."""

import subprocess
import sys
import time
from statistics import median

LIMIT = 1.5  # times the import of NumPy
RUNS = 15  # of each import, in turn; the figure is their median
ATTEMPTS = 3  # in case that the machine was busy with something else


def seconds(code: str) -> float:
    """Return how long a new interpreter takes for a line of code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


for _ in range(ATTEMPTS):
    runs = [(seconds("import numpy"), seconds("import im2colnet")) for _ in range(1 + RUNS)][1:]
    numpy, im2colnet = (median(column) for column in zip(*runs, strict=True))
    print(
        f"import numpy {numpy * 1e3:.0f} ms, import im2colnet {im2colnet * 1e3:.0f} ms: {im2colnet / numpy:.2f} times"
    )
    if im2colnet <= LIMIT * numpy:
        sys.exit()
sys.exit(f"import im2colnet costs more than {LIMIT} times import numpy")
