"""Systems without what Linux has, such as Windows: the library works without it; and what BLAS does with threads."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from im2colnet_numpy import NumpyBackend, blas

import im2colnet as ic
from im2colnet.reports import doctor

ROOT = Path(__file__).parents[2]

#: takes away what other systems lack, after the standard library and NumPy, which have to know where they are
ELSEWHERE = """
import os, signal, sys
import numpy, threadpoolctl, safetensors.numpy
import argparse, csv, importlib.metadata, json, multiprocessing, pathlib, platform, random, shutil, socket, subprocess
import tempfile, threading, concurrent.futures, zipfile, gzip, copy, textwrap, queue

for name in ("fork", "forkpty", "register_at_fork", "sched_getaffinity", "sched_yield", "sysconf", "O_NOFOLLOW",
             "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "getuid", "geteuid", "fchmod", "fchown", "uname", "waitid",
             "posix_spawn", "posix_fallocate", "memfd_create", "fdatasync", "pread", "pwrite", "mkfifo", "killpg",
             "getpgid", "WNOHANG"):
    if hasattr(os, name):
        delattr(os, name)
kept = {"SIGINT", "SIGTERM"} if "--sigterm" in sys.argv else {"SIGINT"}
for name in [n for n in dir(signal) if n.startswith("SIG") and n[3] not in "_" and n not in kept]:
    delattr(signal, name)
for name in ("setitimer", "alarm", "pthread_sigmask", "sigwait", "pause", "siginterrupt", "pthread_kill"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
real_open = os.open
def no_folders(path, *arguments, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return real_open(path, *arguments, **options)
os.open = no_folders
threadpoolctl.ThreadpoolController._load_libraries = lambda self: None   # it would ask Windows itself
platform.system = lambda: "Windows"
sys.platform = "win32"

import im2colnet as ic
from im2colnet.cli import main

train, test = ic.datasets.load("digits")
net = ic.models.make("notebook", 10, 1, 8)
trainer = ic.Trainer(net, optimizer=ic.Adam(0.01))
trainer.fit(train, 1, 64, test, directory="fitted")
trainer.save("mine.safetensors")
loaded = ic.Trainer.load("mine.safetensors")
expected = net.predict(test.images)
assert numpy.array_equal(loaded.net.predict(test.images), expected)
for _ in range(3):
    loaded.step(train.images[:256], train.labels[:256])
numpy.save("x.npy", test.images[:2])
assert main(["train", "--model", "notebook", "--epochs", "1", "--out", "run", "--threads", "2"]) == 0
assert main(["train", "--model", "notebook", "--epochs", "1", "--out", "run"]) == 1     # it is another run's
assert main(["train", "--resume", "run/checkpoint.safetensors", "--epochs", "2"]) == 0
assert main(["evaluate", "run/checkpoint.safetensors"]) == 0
assert main(["predict", "run/checkpoint.safetensors", "x.npy", "--out", "p.csv"]) == 0
assert ic.get_num_threads() >= 1
print("done")
"""


@pytest.mark.parametrize("signals", [[], ["--sigterm"]])
def test_a_system_with_less(tmp_path, signals):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends")))}
    environment.pop("IM2COLNET_BACKEND", None)
    child = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *signals],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.endswith("done\n")
    assert "Traceback" not in child.stderr
    assert "is the folder of another run" in child.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["epochs"] == 2


# BLAS --------------------------------------------------------------------------------------------------------------
ONE = {"user_api": "blas", "internal_api": "openblas", "version": "0.3", "num_threads": 1}


@pytest.fixture
def built(monkeypatch):
    """Set what NumPy was built with, with no settings from outside."""
    ic.get_backend("numpy")  # it starts once in a process, and not with what is set here
    for variables in (*blas.VARIABLES.values(), blas.OTHERS):
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)

    def set_it(name):
        monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": {"blas": {"name": name}}})

    return set_it


@pytest.mark.parametrize(
    ("name", "pools", "said"),
    [
        ("scipy-openblas", [ONE], ""),
        ("scipy-openblas", [ONE | {"num_threads": 8}, ONE], ""),  # another package's
        ("scipy-openblas", [ONE | {"num_threads": 8}], "openblas uses 8 threads"),
        ("scipy-openblas", [], "does not find"),
        ("scipy-openblas", None, "install threadpoolctl, or set OPENBLAS_NUM_THREADS=1"),
        ("mkl", None, "set MKL_NUM_THREADS=1"),
        ("mkl", [ONE | {"internal_api": "mkl"}], ""),
        (
            "accelerate",
            [],
            "Apple's Accelerate, whose threads threadpoolctl cannot limit: set VECLIB_MAXIMUM_THREADS=1",
        ),
        ("none", [], ""),
    ],
)
def test_whether_the_threads_of_blas_are_limited(built, monkeypatch, name, pools, said):
    built(name)
    why = blas.uncontrolled(pools)
    assert said in why
    assert bool(why) == bool(said)
    monkeypatch.setenv(blas.VARIABLES.get(name, blas.OTHERS)[0], "1")
    assert blas.uncontrolled(pools) == ""


def test_a_numpy_that_does_not_say_what_it_was_built_with(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert blas.built_with() == "unknown"


def test_the_promise_of_equal_bits_is_withdrawn_aloud(built, monkeypatch):
    built("accelerate")
    with pytest.warns(RuntimeWarning, match="Accelerate.*the last bits of results may differ"):
        backend = ic.get_backend(NumpyBackend())
    report = doctor.examine(backend, steps=1, batch=2)
    assert "Accelerate" in report["unequal"]
    line = next(line for line in doctor.text(report).splitlines() if line.startswith("equal bits"))
    assert "NOT promised" in line
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    built("scipy-openblas")
    with pytest.warns(RuntimeWarning, match="install threadpoolctl"):
        ic.get_backend(NumpyBackend())


def test_the_promise_holds_here():
    if blas.loaded():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ic.get_backend("numpy").unequal() == ""
