"""``benchmarks/libraries.py`` measures the libraries that an environment has."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "libraries.py"
NAMES = {"im2colnet": "im2colnet", "scikit_learn": "sklearn", "pytorch": "torch"}


def start(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", NAMES)
def test_a_library_is_measured(name):
    if find_spec(NAMES[name]) is None:
        pytest.skip(f"{NAMES[name]} is not installed")
    done = start("--python", f"{name}={sys.executable}", "--rounds", "1", "--seconds", "0.01")
    assert done.returncode == 0, done.stderr
    head, _, row = (re.split(r"\s*\|\s*", line)[1:-1] for line in done.stdout.splitlines())
    assert head[0] == "library"
    assert row[0] == name
    assert all(float(cell) > 0 for cell in row[1:])


def test_a_library_that_is_not_there_is_named():
    assert start("--python", f"torch={sys.executable}").returncode == 2
    done = start("--python", f"im2colnet/nonsense={sys.executable}", "--rounds", "1")
    assert done.returncode == 1
    assert "im2colnet/nonsense: " in done.stderr
    assert "nonsense" in done.stderr.strip().splitlines()[-1]
