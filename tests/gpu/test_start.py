"""What somebody is told where CuPy, CUDA's libraries, its compiler or the memory are missing or broken."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import strict_cupy

import im2colnet as ic
from im2colnet.errors import EXTRAS

ROOT = Path(__file__).parents[2]
FAKE = {
    "missing": (
        "",
        ["CuPy is not installed: pip install 'cupy-cuda12x[ctk]'", "CUDA 13 pip install 'cupy-cuda13x[ctk]'"],
    ),
    "a part of it missing": (
        "import fastrlock_that_nobody_has",
        ["CuPy is installed, but cannot be imported (ModuleNotFoundError"],
    ),
    "an extension broken": (
        "raise ImportError('\\n=====\\nlibcuda_of_another: wrong ELF class\\n=====')",
        ["cannot be imported (ImportError: ===== libcuda_of_another: wrong ELF class", "Remove all of its packages"],
    ),
    "of another NumPy": ("import numpy; numpy.float_of_old", ["cannot be imported (AttributeError"]),
    "no CUDA at all": ("raise OSError('libcudart.so.13: no such file')", ["cannot be imported (OSError: libcudart"]),
}


@pytest.mark.parametrize(("source", "texts"), FAKE.values(), ids=FAKE)
def test_a_cupy_that_is_missing_or_broken(source, texts, tmp_path):
    script = "import im2colnet as ic\nprint([b.reason for b in ic.list_backends() if b.name == 'cupy'][0])"
    if source:
        (tmp_path / "cupy.py").write_text(source)
    else:
        script = f"import sys; sys.modules['cupy'] = None\n{script}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "backends")))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    for text in texts:
        assert text in done.stdout


def without(module, attribute, error):
    """Make looking an attribute of a module up an error."""
    delattr(module, attribute)

    def missing(name):
        raise error if name == attribute else AttributeError(name)

    module.__getattr__ = missing


def test_without_a_gpu_that_is_what_is_said_and_not_that_a_library_is_missing():
    mine = strict_cupy.module(devices=0)
    without(mine["cupy_backends.cuda.libs"], "cublas", ImportError("libcublas.so.13: cannot open shared object file"))

    def no_driver():
        raise RuntimeError("cudaErrorInsufficientDriver")

    mine["cupy"].cuda.runtime.getDeviceCount = no_driver
    with pytest.raises(ic.BackendError, match=r"no NVIDIA GPU can be used here.*InsufficientDriver"):
        strict_cupy.cupy_modules(mine)["im2colnet_cupy"].CupyBackend()


def test_a_driver_that_lists_no_gpu():
    with pytest.raises(ic.BackendError, match="no NVIDIA GPU can be used here"):
        strict_cupy.cupy_modules(strict_cupy.module(devices=0))["im2colnet_cupy"].CupyBackend()


def test_cublas_is_found_as_cupy_finds_it_or_named():
    mine = strict_cupy.module()
    assert "cupy_backends.cuda.libs.cublas" not in mine  # pip's is had as an attribute alone
    without(mine["cupy_backends.cuda.libs"], "cublas", ImportError("libcublas.so.13: cannot open shared object file"))
    with pytest.raises(ic.BackendError, match=r"cuBLAS is not found .*libcublas.*'cupy-cuda13x\[ctk\]'"):
        strict_cupy.cupy_modules(mine)["im2colnet_cupy"].CupyBackend()


class CompileException(Exception):
    """CuPy's derives from this too, and not from RuntimeError."""


@pytest.mark.parametrize("error", [CompileException("kernels.cu(3): error: expected a ';'"), RuntimeError("no NVRTC")])
def test_a_kernel_that_does_not_compile_is_an_error_with_the_compiler_s_words(error):
    mine = strict_cupy.module()

    def broken(code, options):
        raise error

    mine["cupy"].RawModule = broken
    backend = strict_cupy.cupy_modules(mine)["im2colnet_cupy"].CupyBackend()
    net = ic.Sequential([ic.Conv2d(1, 2, 3), ic.Flatten()]).init(backend=backend)
    with pytest.raises(ic.BackendError) as caught:
        net.predict(np.zeros((1, 1, 5, 5), "float32"))
    for text in (str(error), "'to_rows' (layout.cu, float32)", "pip install 'cupy-cuda13x[ctk]'", "report this text"):
        assert text in str(caught.value)


def test_memory_that_is_missing_beside_the_plan_is_the_same_error():
    backend = strict_cupy.cupy_backend()

    class CupysOutOfMemoryError(MemoryError):
        pass

    def no_room(*args):
        raise CupysOutOfMemoryError("out of memory allocating 12 bytes")

    x = backend.asarray(np.ones(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.xp, "isfinite", no_room)
        with pytest.raises(ic.OutOfMemoryError, match=r"all_finite.*allocating 12 bytes.*MiB are in use"):
            backend.all_finite(x)


# Arguments of kernels -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("nesterov", "momentum", "decay"),
    [
        (np.bool_(True), np.float32(0.5), np.int64(0)),
        (np.int64(1), np.float64(0.5), np.float32(0)),
        (True, 0.5, 0),
    ],
)
def test_numpy_s_numbers_reach_kernels_as_they_are_declared(nesterov, momentum, decay):
    """The stand-in refuses any other type than a kernel's own."""

    def trained(backend, momentum, decay, nesterov):
        optimizer = ic.SGD(0.1, momentum, decay, nesterov)
        trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(16, 3)]), optimizer=optimizer, backend=backend)
        images = np.random.default_rng(0).random((5, 1, 4, 4))
        return [trainer.step(images, [0, 1, 2, 0, 1]) for _ in range(3)]

    backend = strict_cupy.cupy_backend()
    assert trained(backend, momentum, decay, nesterov) == pytest.approx(trained("numpy", 0.5, 0, True), rel=1e-5)


def test_windows_of_numpy_s_integers():
    rng, one = np.random.default_rng(0), np.int64(1)
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 3))
    backend = strict_cupy.cupy_backend()
    with ic.use_backend(backend):
        found = ic.functional.conv2d(backend.asarray(x), backend.asarray(w), None, one, (one, np.uint8(2)), np.int16(1))
    np.testing.assert_allclose(found.get(), ic.functional.conv2d(x, w, None, 1, (1, 2)), rtol=1e-12)


def test_arguments_that_a_kernel_does_not_take():
    made = strict_cupy.cupy_modules()
    cuda, backend = made["im2colnet_cupy.cuda"], made["im2colnet_cupy"].CupyBackend()
    x = backend.asarray(np.ones(4, "float32"))
    with pytest.raises(TypeError, match=r"'sum_partial' takes an integer where 2\.5 is given"):
        cuda.launch("sums.cu", "sum_partial", x, x, x, 1, 2.5, 1.0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        cuda.launch("sums.cu", "sum_partial", x, x, x, 1)
    with pytest.raises(OverflowError):  # would be another number
        cuda.launch("sums.cu", "sum_partial", x, x, x, 1, 2**31, 1.0)


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "backends/im2colnet_cupy/kernels").glob("*.cu")))
def test_signatures_are_read_as_the_compiler_reads_them(file):
    cuda = strict_cupy.cupy_modules()["im2colnet_cupy.cuda"]
    kinds = {"int": "int", "double": "double"}
    expected = {
        name: tuple((kinds.get(kind, "pointer"), called) for kind, called in parameters)
        for name, parameters, _ in strict_cupy.prototypes(cuda.source(file, "float32", False))
    }
    found = cuda.parameters(file)
    assert {
        name: tuple(("pointer" if "*" in kind else kind, called) for kind, called in parameters)
        for name, parameters in found.items()
    } == expected
    assert {kind for found in expected.values() for kind, _ in found} <= {"pointer", "int", "double"}


# Copies under way ---------------------------------------------------------------------------------------------------
def test_memory_is_not_given_back_while_something_is_copied_into_it(monkeypatch):
    """A batch of a third shape, while one is on its way that nobody takes."""
    backend, done = strict_cupy.cupy_backend(), []
    stream = backend.xp.cuda.Stream
    queue = stream.queue
    monkeypatch.setattr(stream, "queue", lambda self, call: queue(self, lambda: (call(), done.append(1))))
    for n in (1, 2):
        backend.prefetch(np.zeros((n, 2), "float32"))
    assert done == []
    last = backend.prefetch(np.ones((3, 2), "float32"))
    assert len(done) == 2
    assert (last().get() == 1).all()


def test_what_is_collected_when_python_ends_says_nothing(tmp_path):
    """The last reference to a backend, to a file of images and to their buffers may be the interpreter's own."""
    np.save(tmp_path / "images.npy", np.zeros((4, 2, 2), "uint8"))
    script = f"""
import ctypes, sys, numpy as np, strict_cupy
from im2colnet import lazy
made = strict_cupy.cupy_modules()
sys.modules.update(made)
backend = made["im2colnet_cupy"].CupyBackend()
backend.prefetch(np.zeros((2, 2), "float32"))()
ctypes.kept = [backend, lazy.ArrayFile({str(tmp_path / "images.npy")!r}, (4, 2, 2), 128)]
for module in ctypes, lazy, made["im2colnet_cupy.cuda"]:  # extension modules hold on to modules so
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
"""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "backends", ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# What is said of packages -------------------------------------------------------------------------------------------
def test_what_is_said_to_be_installed_is_what_the_extras_bring():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        wanted, said = (
            {re.split("[<>=!]", requirement)[0].strip(" '") for requirement in requirements}
            for requirements in (extras[extra], packages.split())
        )
        assert said == wanted, extra
