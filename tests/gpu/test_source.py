"""The kernels' source without a GPU: compiled for the real targets, and an error in it would be found."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import strict_cupy

from im2colnet.window import make_window

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "backends" / "im2colnet_cupy" / "kernels"
FILES = sorted(path.name for path in KERNELS.glob("*.cu") if "__global__" in path.read_text())
TARGETS = ("sm_80", "sm_90")


def lacks(what):
    """Skip, or fail where ``.ci/run`` wants all of these tests."""
    __tracebackhide__ = True  # pytest names the test as the place of the skip, and .ci/run runs that file again
    (pytest.fail if os.environ.get("IM2COLNET_REQUIRE_COMPILERS") == "1" else pytest.skip)(what)


# Compiled for the real targets --------------------------------------------------------------------------------------
def nvrtc():
    """NVIDIA's run-time compiler, by which CuPy compiles them, from the package nvidia-cuda-nvrtc or the system's."""
    found = [
        path
        for folder in map(Path, sys.path)
        for path in sorted(folder.glob("nvidia/**/libnvrtc.so*"))
        if "builtins" not in path.name
    ]
    for path in [*found, "libnvrtc.so"]:
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None


def compile_with_nvrtc(library, text, options):
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
    given = [option.encode() for option in options]
    status = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode()


@pytest.fixture
def sources():
    """What the backend compiles."""
    return strict_cupy.cupy_modules()["im2colnet_cupy.cuda"].source


@pytest.mark.parametrize("file", FILES)
def test_they_compile_for_real_gpus(file, sources):
    library = nvrtc()
    if library is None:
        lacks("there is no NVRTC: pip install nvidia-cuda-nvrtc")
    for target in TARGETS:
        half = [] if file == "updates.cu" else [("float16", False), ("bfloat16", True)]  # parameters are float32
        for dtype, long in (("float32", False), ("float64", True), *half):
            text = sources(file, dtype, long, "uint8")
            options = [f"--gpu-architecture={target}", "--std=c++17", "-ftz=true"]
            status, log = compile_with_nvrtc(library, text, options)
            assert status == 0, log


# An error would be found --------------------------------------------------------------------------------------------
def convolution_error(backend):
    """How far off a padded convolution is."""
    rng = np.random.default_rng(0)
    x, w, window = rng.standard_normal((6, 4, 5, 3)), rng.standard_normal((5, 4, 3, 3)), make_window(3, 1, 1)
    found = backend.to_numpy(backend.conv2d(backend.asarray(x), backend.asarray(w), None, window))
    padded = np.pad(x, ((1, 1), (0, 0), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 2))
    return np.abs(found - np.einsum("hcwnij,fcij->hfwn", windows, w)).max()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("first = j * dw - left", "first = j * dw - left + 1"),
        ("f >= 0 && f < width", "f >= N && f < width"),
        ("h * G + g) * C + c", "h * G + g) * C + C - 1 - c"),
    ],
)
def test_an_index_that_is_wrong_is_found(right, wrong, monkeypatch):
    build = strict_cupy.build
    assert convolution_error(strict_cupy.cupy_backend()) < 1e-12

    def planted(text):
        lower = (
            text[text.index("struct alignas(16) Wide") : text.index("void im2col(")] if "void lower(" in text else ""
        )
        assert not lower or right in lower
        return build(text.replace(lower, lower.replace(right, wrong)) if lower else text)

    monkeypatch.setattr(strict_cupy, "build", planted)
    assert not convolution_error(strict_cupy.cupy_backend()) < 1e-3


#: says which kernels have run, and only then runs one with a planted fault
EVERY_KERNEL = """
import numpy as np
import strict_cupy
import im2colnet as ic
from im2colnet.reports import doctor
from im2colnet.window import make_window
from test_gpu import batch, small

ran, get_function = set(), strict_cupy.RawModule.get_function
strict_cupy.RawModule.get_function = lambda self, name: ran.add(name) or get_function(self, name)
backend, window = strict_cupy.cupy_backend(), make_window(3, 1, 1)
assert all(error < 1e-4 for _, error in doctor.errors(backend))
adaptive = ic.RMSprop(0.01, momentum=0.5, centered=True), ic.Adagrad()
for optimizer in ic.SGD(0.01, 0.9), ic.Adam(0.01, amsgrad=True), *adaptive:
    ic.Trainer(small(backend), optimizer=optimizer).step(*batch())
images = backend.asarray(np.ones((3, 1, 3, 1), "float32"))
backend.col2im(backend.im2col(images, window), window, (3, 3))
print(*sorted(ran), flush=True)
build = strict_cupy.build
strict_cupy.build = lambda text: build(text.replace("h >= 0 && h < H", "h >= 0 && h < H + 9"))
other = strict_cupy.cupy_backend()
other.im2col(other.asarray(np.ones((3, 1, 3, 1), "float32")), window)
"""


def test_what_leaves_its_memory_is_found(sources):
    """By AddressSanitizer, under which all kernels run once on small arrays."""
    library = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(library).is_absolute():
        lacks("g++ has no AddressSanitizer: apt-get install libasan8, or the one of its version")
    environment = os.environ | {
        "LD_PRELOAD": library,
        "IM2COLNET_HOST_FLAGS": "-fsanitize=address -O1 -g",
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONMALLOC": "default" if sysconfig.get_config_var("Py_GIL_DISABLED") else "malloc",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends", ROOT / "tests", ROOT / "tests" / "gpu"))),
    }
    texts = (sources(file, "float32", False) for file in FILES)
    kernels = sorted(name for text in texts for name, _, _ in strict_cupy.prototypes(text))
    done = subprocess.run(
        [sys.executable, "-c", EVERY_KERNEL], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == kernels, done.stderr  # AddressSanitizer ends the process at the first fault
    assert done.returncode
    assert "heap-buffer-overflow" in done.stderr


# What the stand-in refuses ------------------------------------------------------------------------------------------
def test_the_stand_in_refuses_what_cupy_refuses():
    backend = strict_cupy.cupy_backend()
    x = backend.asarray(np.ones((2, 3)))
    for refused in (
        lambda: np.asarray(x),
        lambda: np.add(x, 1),
        lambda: x + np.ones((2, 3)),
        lambda: float(x[0, 0]),
        lambda: list(x),
        lambda: bool((x == 1).all()),
        lambda: backend.xp.add(x, np.ones(3)),
        lambda: x.__setitem__(0, np.ones(3)),
    ):
        with pytest.raises(TypeError):
            refused()
    assert (x.get() == 1).all()


# What a machine lacks -----------------------------------------------------------------------------------------------
def started(device=None, **changes):
    """Start the backend where CuPy's runtime answers differently."""
    mine = strict_cupy.module()
    vars(mine["cupy"].cuda.runtime).update(changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_cupy, "module", lambda: mine)
        backend = strict_cupy.cupy_backend()
    return type(backend)(device)


def no_driver():
    raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")


@pytest.mark.parametrize(
    ("device", "changes", "text"),
    [
        (None, {"getDeviceCount": no_driver}, "no NVIDIA GPU can be used here.*no CUDA-capable device.*nvidia-smi"),
        ("1", {}, "there is no GPU 1: there are 1, from 'cupy:0' to 'cupy:0'"),
        ("x", {}, "named by its number, as in 'cupy:1', got 'x'"),
        (None, {"driverGetVersion": lambda: 12080}, r"uninstall cupy-cuda13x, then pip install 'cupy-cuda12x\[ctk\]'"),
    ],
)
def test_why_it_does_not_start(device, changes, text):
    import im2colnet as ic

    with pytest.raises(ic.BackendError, match=text):
        started(device, **changes)


def test_memory_that_is_not_there_is_told_of(monkeypatch):
    import im2colnet as ic

    backend, room = strict_cupy.cupy_backend(), 1 << 21
    allocate = backend.xp.empty

    def empty(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > room:
            raise MemoryError
        return allocate(shape, dtype=dtype)

    trainer = ic.Trainer(ic.models.lenet5(), backend=backend)
    images, labels = np.zeros((600, 1, 28, 28), "float32"), np.zeros(600, int)
    monkeypatch.setenv("IM2COLNET_CUDA_GRAPHS", "0")  # whose products have memory of their own to work in
    monkeypatch.setattr(backend.xp, "empty", empty)
    monkeypatch.setattr(backend.xp.cuda.runtime, "memGetInfo", lambda: (room, 1 << 30))
    with pytest.raises(ic.OutOfMemoryError, match="no room for an array of 4 MiB: 0 MiB are in use, 2 of 1,024 MiB"):
        backend.empty((1 << 20,), "float32")
    with pytest.raises(ic.OutOfMemoryError, match=r"Of this batch of 600 images \d+ would fit") as caught:
        trainer.step(images, labels)
    fits = int(re.search(r"a batch of (\d+) or fewer", str(caught.value))[1])
    for n in (fits, fits + 1):
        total = sum(trainer.net.plan(n, (1, 28, 28)).memory().values())
        assert (total <= room) == (n == fits)
    trainer.step(images[:fits], labels[:fits])
    monkeypatch.setattr(backend.xp.cuda.runtime, "memGetInfo", lambda: (1000, 1 << 30))
    with pytest.raises(ic.OutOfMemoryError, match="Not even one image would fit"):
        trainer.step(images, labels)


def test_a_batch_is_one_shard():
    import im2colnet as ic

    net = ic.models.resnet20().init(backend=strict_cupy.cupy_backend())
    assert net.plan(300, (3, 32, 32)).sizes == [300]


def test_a_precision_that_there_is_not(monkeypatch):
    import im2colnet as ic

    backend = type(strict_cupy.cupy_backend())
    monkeypatch.setenv("IM2COLNET_PRECISION", "tf32")
    assert backend().tf32
    monkeypatch.setenv("IM2COLNET_PRECISION", "int4")
    with pytest.raises(ic.BackendError, match="IM2COLNET_PRECISION must be one of float32, tf32, float16, bfloat16"):
        backend()
    monkeypatch.setenv("IM2COLNET_PRECISION", "")
    assert backend().precision == "float32"


def test_bfloat16_needs_a_gpu_that_has_it_and_its_package(monkeypatch):
    import im2colnet as ic

    backend = strict_cupy.cupy_backend()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ic.BackendError, match="pip install ml_dtypes"):
        backend.with_precision("bfloat16")
    properties = backend.xp.cuda.runtime.getDeviceProperties
    monkeypatch.setattr(backend.xp.cuda.runtime, "getDeviceProperties", lambda n: properties(n) | {"major": 7})
    with pytest.raises(ic.BackendError, match="compute capability is 7: bfloat16 needs 8"):
        backend.with_precision("bfloat16")
    assert backend.with_precision("float16").precision == "float16"


def test_a_compiler_is_there():
    """Without it the kernels would not be tested at all."""
    assert shutil.which("g++"), "install g++"
