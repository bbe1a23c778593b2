"""A stand-in for CuPy on a machine without a GPU: its arrays are NumPy's, but they refuse what CuPy's refuse.

Nothing turns such an array into a NumPy array, a number or a truth value but ``get()``, and NumPy's arrays do not mix
with it. It lies on the device that was the current one of its thread, and what computes takes arrays of the current
device alone, also where CuPy would not look and compute nonsense. Kernels are compiled by g++ from their CUDA source
(``cuda_on_host.h``); cuBLAS's product keeps to its rules for leading dimensions, and neither may leave the memory that
it was given.
"""

import ctypes
import hashlib
import operator
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

HERE = Path(__file__).parent
C_TYPES = {"int": ctypes.c_int, "double": ctypes.c_double}
#: what of NumPy's functions CuPy has too, of those that the library may use
FUNCTIONS = [
    "abs",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "array",
    "asarray",
    "ascontiguousarray",
    "bitwise_and",
    "bitwise_or",
    "broadcast_to",
    "clip",
    "concatenate",
    "copyto",
    "cos",
    "count_nonzero",
    "divide",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expm1",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "isfinite",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "moveaxis",
    "multiply",
    "negative",
    "ones",
    "ones_like",
    "power",
    "prod",
    "reciprocal",
    "repeat",
    "reshape",
    "sign",
    "sin",
    "split",
    "sqrt",
    "square",
    "stack",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "tensordot",
    "transpose",
    "trunc",
    "where",
    "zeros",
    "zeros_like",
]
FROM_HOST = {"array", "asarray"}  # what takes NumPy's arrays
_memory = weakref.WeakValueDictionary()
_place, _one_at_a_time, _memory_lock = threading.local(), threading.Lock(), threading.Lock()


def current():
    """The number of this thread's current device."""
    return getattr(_place, "device", 0)


def captured():
    """What this thread has queued since it began to make a graph, or None if it makes none."""
    return getattr(_place, "captured", None)


def queued(call):
    """What a piece of work on the device gives; in a graph it is done again into the same memory."""
    result = call()
    if captured() is not None:
        if isinstance(result, np.generic):
            result = np.asarray(result)

        def again():
            fresh = call()
            if isinstance(result, np.ndarray) and fresh is not result:
                result[...] = fresh

        captured().append(again)
    return result


class ndarray:
    """An array on a device that there is none of."""

    __array_ufunc__ = None  # NumPy's functions refuse it

    def __init__(self, array, device=None):
        self._array = array
        self.device = SimpleNamespace(id=current() if device is None else device)
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        with _memory_lock:  # a thread may look for an array while another makes one
            _memory[id(owner)] = owner
        vars(_place).setdefault("memory", weakref.WeakValueDictionary())[id(owner)] = owner

    def there(self):
        """What it holds, for what runs on the current device."""
        if self.device.id != current():
            raise ValueError(f"an array of device {self.device.id} is used on device {current()}, the current one")
        return self._array

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def _refuse(self, *args):
        raise TypeError("a value of the device is used on the host: it would be waited for")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __contains__ = _refuse

    def get(self):
        assert captured() is None, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        return self._array.copy()

    def set(self, array, stream):
        assert captured() is None, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        assert isinstance(array, np.ndarray)
        assert array.flags.c_contiguous
        assert isinstance(stream, Stream)
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        assert stream.device == self.device.id
        stream.queue(lambda: self._array.__setitem__(..., array))

    def __len__(self):
        return len(self._array)

    @property
    def data(self):
        return SimpleNamespace(ptr=self._array.ctypes.data, device_id=self.device.id)

    def __getitem__(self, key):
        mine, key = self._array, unwrapped(key)
        found = np.asarray(mine[key])
        if not np.may_share_memory(found, mine):
            found = queued(lambda: np.asarray(mine[key]))
        return ndarray(found, self.device.id)

    def __setitem__(self, key, value):
        mine, key, value = self.there(), unwrapped(key), unwrapped(value)
        queued(lambda: mine.__setitem__(key, value))

    def __repr__(self):
        return f"strict array of shape {self._array.shape}, {self._array.dtype}"


for _name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
    setattr(ndarray, _name, property(operator.attrgetter(f"_array.{_name}")))
ndarray.T = property(lambda self: ndarray(self._array.T, self.device.id))


def _method(name):
    def method(self, *args, **kwargs):
        function, given = getattr(self.there(), name), list(map(unwrapped, args))
        options = {k: unwrapped(v) for k, v in kwargs.items()}
        return wrapped(queued(lambda: function(*given, **options)), kwargs.get("out"))

    return method


def _view(name):
    def view(self, *args, **kwargs):
        found = getattr(self._array, name)(*args, **kwargs)
        if not np.may_share_memory(found, self._array):
            function = getattr(self.there(), name)  # it is a copy, of a kernel's
            found = queued(lambda: function(*args, **kwargs))
        return ndarray(found, self.device.id)

    return view


for _name in ("astype", "clip", "copy", "sum", "max", "min", "argmax", "all", "any", "mean", "fill"):
    setattr(ndarray, _name, _method(_name))
for _name in ("reshape", "transpose", "swapaxes", "view", "ravel", "squeeze"):
    setattr(ndarray, _name, _view(_name))


def _operator(name, kind=""):
    function = getattr(operator, ("i" if kind == "i" else "") + name)

    def apply(self, other):
        mine, theirs = self.there(), unwrapped(other)
        result = queued(lambda: function(theirs, mine) if kind == "r" else function(mine, theirs))
        return self if kind == "i" else wrapped(result)

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or"):
    _of = {"and": "and_", "or": "or_"}.get(_name, _name)
    setattr(ndarray, f"__{_name}__", _operator(_of))
    if _name in ("add", "sub", "mul", "truediv"):
        setattr(ndarray, f"__i{_name}__", _operator(_name, "i"))
        setattr(ndarray, f"__r{_name}__", _operator(_name, "r"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
ndarray.__neg__ = _method("__neg__")


def wrapped(value, out=None):
    """An array of the device for one of NumPy's; every result is an array, also of no dimensions."""
    if out is not None:
        return out
    if isinstance(value, (list, tuple)):
        return type(value)(map(wrapped, value))
    return ndarray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def unwrapped(value):
    """NumPy's array for one of the device; those that are on the host already do not mix with it."""
    if isinstance(value, ndarray):
        return value.there()
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrapped, value))
    return value


def _function(name):
    function = getattr(np, name)

    def call(*args, **kwargs):
        as_it_is = name == "ascontiguousarray" and isinstance(args[0], ndarray) and args[0].flags.c_contiguous
        if as_it_is and np.dtype(kwargs.get("dtype") or args[0].dtype) == args[0].dtype:
            return args[0]  # and no device is looked at
        if name in FROM_HOST and isinstance(args[0], ndarray) and args[0].device.id != current():
            args = (ndarray(args[0]._array.copy()), *args[1:])  # CuPy copies from one device to another
        if captured() is not None:
            assert not any(isinstance(a, np.ndarray) for a in args), "memory of the host in a graph"
        given = [a.copy() if name in FROM_HOST and isinstance(a, np.ndarray) else unwrapped(a) for a in args]
        if name == "split":
            return [ndarray(part, args[0].device.id) for part in function(*given, **kwargs)]
        if name == "asarray" and isinstance(args[0], ndarray) and kwargs.get("dtype") in (None, args[0].dtype.name):
            return args[0]
        options = {k: unwrapped(v) for k, v in kwargs.items()}
        return wrapped(queued(lambda: function(*given, **options)), kwargs.get("out"))

    return call


# Kernels ------------------------------------------------------------------------------------------------------------
def prototypes(source):
    """Name, parameters as (type, name), and whether there are barriers, of each kernel of a source."""
    window = re.search(r"#define WINDOW \\\n\s*(.*)", source)[1]
    pieces = re.split(r'extern "C" __global__ void ', source)[1:]
    for piece in pieces:
        name, parameters = re.match(r"(\w+)\(([^)]*)\)", piece).groups()
        found = [p.split() for p in parameters.replace("WINDOW", window).split(",")]
        yield name, [(" ".join(p[:-1]), p[-1]) for p in found], "block_sum(" in piece or "__syncthreads" in piece


def build(source, flags=("-O1",)):
    """Compile a source of kernels for the host, once."""
    unit = [f'#include "{HERE / "cuda_on_host.h"}"', source]
    for name, parameters, barriers in prototypes(source):
        declared = "".join(f", {kind} {parameter}" for kind, parameter in parameters)
        passed = ", ".join(parameter for _, parameter in parameters)
        unit.append(
            f'extern "C" void run_{name}(const int* launched{declared})'
            f" {{ host::run(launched, {int(barriers)}, [&] {{ {name}({passed}); }}); }}"
        )
    text = "\n".join(unit)
    flags = [*flags, *os.environ.get("IM2COLNET_HOST_FLAGS", "").split()]
    digest = hashlib.sha256(repr((text, flags, (HERE / "cuda_on_host.h").read_text())).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"im2colnet-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    library = folder / f"{digest[:16]}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        command = [
            "g++",
            "-std=c++17",
            "-x",
            "c++",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unknown-pragmas",
            "-Wno-unused-function",
            "-Wno-unused-variable",
            "-Wno-unused-parameter",
            *flags,
            "-o",
            made,
            "-",
        ]
        subprocess.run(list(map(str, command)), input=text, text=True, check=True)
        made.replace(library)
    return ctypes.CDLL(str(library))


class RawModule:
    """Kernels compiled for the host."""

    def __init__(self, code, options=()):
        self._signatures = {name: parameters for name, parameters, _ in prototypes(code)}
        self._library = build(code)

    def get_function(self, name):
        parameters, function = self._signatures[name], getattr(self._library, f"run_{name}")

        def launch(grid, block, arguments):
            values = []
            for (kind, parameter), argument in zip(parameters, arguments, strict=True):
                if kind.endswith("*"):
                    assert isinstance(argument, ndarray), f"{parameter} of {name} is not on the device: {argument!r}"
                    assert argument.flags.c_contiguous, f"{parameter} of {name} is not contiguous"
                    argument.there()
                    values.append(ctypes.c_void_p(argument.data.ptr))
                else:
                    wanted = {"int": np.int32, "double": np.float64}[kind]
                    assert type(argument) is wanted, f"{parameter} of {name} must be {wanted}, is {type(argument)}"
                    values.append(C_TYPES[kind](argument.item()))
            sizes = [*grid, *[1] * (3 - len(grid)), *block, *[1] * (3 - len(block))]

            def run():
                with _one_at_a_time:  # what a kernel knows of its thread is global on the host
                    function((ctypes.c_int * 6)(*sizes), *values)

            queued(run)

        return launch


# cuBLAS -------------------------------------------------------------------------------------------------------------
def _matrices(pointer, dtype, count, stride, rows, columns, leading):
    """Matrices in column-major order, as cuBLAS sees memory; they must lie within one array."""
    assert leading >= rows, "CUBLAS_STATUS_INVALID_VALUE"
    with _memory_lock:
        owners = list(_memory.values())
    for owner in owners:
        offset = pointer - owner.ctypes.data
        if 0 <= offset < owner.nbytes:
            last = (count - 1) * stride + (columns - 1) * leading + rows
            assert offset + last * dtype.itemsize <= owner.nbytes, "the product leaves its memory"
            memory = owner.reshape(-1).view("u1")[offset:]
            memory = memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
            strides = [n * dtype.itemsize for n in (stride, 1, leading)]
            return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), strides)
    raise AssertionError("the product is of memory that is not the device's")


def gemm_strided_batched_ex(
    handle, ta, tb, m, n, k, alpha, a, a_type, lda, sa, b, b_type, ldb, sb, beta, c, c_type, ldc, sc, batch, kind, algo
):
    """CublasGemmStridedBatchedEx."""
    assert handle == 1 + current(), "the handle of another device"
    assert a_type == b_type
    assert (a_type, c_type, kind) in {
        (0, 0, 68),
        (0, 0, 77),
        (1, 1, 70),
        (2, 2, 68),
        (2, 0, 68),
        (14, 14, 68),
        (14, 0, 68),
    }
    factors, result = ({0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}[t] for t in (a_type, c_type))
    computed, scalar = ("float64", ctypes.c_double) if kind == 70 else ("float32", ctypes.c_float)
    one, before = scalar.from_address(alpha).value, scalar.from_address(beta).value
    assert one == 1
    assert before in (0, 1)
    of_a = _matrices(a, np.dtype(factors), batch, sa, *((k, m) if ta else (m, k)), lda)
    of_b = _matrices(b, np.dtype(factors), batch, sb, *((n, k) if tb else (k, n)), ldb)
    A, B = (lambda: of_a.astype(computed)), (lambda: of_b.astype(computed))
    C = _matrices(c, np.dtype(result), batch, sc, m, n, ldc)

    def run():
        with np.errstate(all="ignore"):  # no device warns of what is not finite
            products = np.matmul(A().swapaxes(1, 2) if ta else A(), B().swapaxes(1, 2) if tb else B())
            C[...] = products + C if before else products

    queued(run)


class Library:
    """The functions of cuBLAS."""

    def cublasCreate_v2(self, handle):
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 1 + current()
        return 0

    def cublasDestroy_v2(self, handle):
        return 0

    def cublasSetStream_v2(self, handle, stream):
        vars(_place).setdefault("cublas_streams", {})[handle.value] = stream.value or 0  # a handle is a thread's own
        return 0

    def cublasSetWorkspace_v2(self, handle, memory, size):
        assert _matrices(memory.value, np.dtype("u1"), 1, 0, size.value, 1, size.value).size == size.value
        return 0

    def cublasGemmStridedBatchedEx(self, handle, *arguments):
        assert _place.cublas_streams[handle.value] == getattr(_place, "stream", 0), (
            "the product would run on another stream"
        )
        gemm_strided_batched_ex(handle.value, *arguments)
        return 0


# The module ---------------------------------------------------------------------------------------------------------
class Device:
    """One of those that there are not; as a context it is the thread's current one."""

    def __init__(self, number=None):
        self.id, self._before, self.compute_capability = current() if number is None else number, [], "90"

    def __enter__(self):
        self._before.append(current())
        _place.device = self.id
        return self

    def __exit__(self, *args):
        _place.device = self._before.pop()

    def synchronize(self):
        pass


class Stream:
    """What is queued is not done before somebody waits for it."""

    def __init__(self, non_blocking=False):
        assert non_blocking
        self._queued, self.device, self.ptr = [], current(), id(self)

    def __enter__(self):
        _place.stream = self.ptr

    def __exit__(self, *args):
        _place.stream = 0

    def begin_capture(self):
        assert getattr(_place, "stream", 0) == self.ptr, "work is queued on another stream"
        _place.captured = []
        self._before = [(owner, owner.copy()) for owner in _place.memory.values()]

    def end_capture(self):
        calls, _place.captured = captured(), None
        for owner, before in self._before:  # nothing is computed while a graph is made
            owner[...] = before
        return SimpleNamespace(launch=lambda: [call() for call in calls])

    def queue(self, call):
        self._queued.append(call)

    def record(self):
        assert self.device == current(), "the stream is another device's"
        return self

    def synchronize(self):
        self.finish()

    def finish(self):
        assert self.device == current(), "the stream is another device's"
        for call in self._queued:
            call()
        self._queued.clear()


def module(devices=1):
    """Return the stand-in as modules by name.

    As in CuPy 14, where CUDA's libraries come from pip, cuBLAS is had as an attribute and not by ``import a.b``.
    """
    cupy, cupyx, backends, cuda, libs = (
        ModuleType(name) for name in ("cupy", "cupyx", "cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs")
    )
    for name in FUNCTIONS:
        setattr(cupy, name, _function(name))
    cupy.ndarray, cupy.RawModule, cupy.__version__ = ndarray, RawModule, "14.2.0"
    cupy.dtype, cupy.inf = np.dtype, np.inf
    for name in ("float32", "float64", "int32", "int64", "uint8"):
        setattr(cupy, name, getattr(np, name))
    cupy.get_default_memory_pool = lambda: SimpleNamespace(
        used_bytes=lambda: 0, free_bytes=lambda: 0, total_bytes=lambda: (3 + current()) << 20
    )
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda: SimpleNamespace(
            wait_event=lambda event: event.finish(), synchronize=lambda: None, ptr=getattr(_place, "stream", 0)
        ),
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: nullcontext(),
        device=SimpleNamespace(get_cublas_handle=lambda: 1 + current()),
        runtime=SimpleNamespace(
            getDevice=current,
            getDeviceCount=lambda: devices,
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
            memGetInfo=lambda: (1 + current() << 30, 1 << 31),
            getDeviceProperties=lambda number: {"name": b"a stand-in", "major": 9, "minor": 0},
        ),
    )
    cupyx.empty_pinned = np.empty
    libs.cublas = SimpleNamespace(gemmStridedBatchedEx=gemm_strided_batched_ex)
    backends.cuda, cuda.libs = cuda, libs
    return {m.__name__: m for m in (cupy, cupyx, backends, cuda, libs)}


def cupy_backend():
    """A started CuPy backend on the stand-in."""
    return cupy_modules()["im2colnet_cupy"].CupyBackend()


def from_host(backend, array):
    """An array of the backend, equal to one of NumPy's and with its order of strides."""
    order = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
    stored = backend.asarray(np.ascontiguousarray(array.transpose(order)))
    return stored.transpose(*np.argsort(order).tolist()) if array.ndim else stored


def cupy_modules(mine=None):
    """The CuPy backend's modules by name, a copy of their own, on the stand-in."""
    if shutil.which("g++") is None:  # which compiles the kernels
        lacking = pytest.fail if os.environ.get("IM2COLNET_REQUIRE_COMPILERS") == "1" else pytest.skip
        lacking("the stand-in for CuPy needs g++")
    mine = mine or module()
    names = "im2colnet_cupy", "cupy", "cupyx", "cupy_backends"
    ours = [name for name in sys.modules if name.partition(".")[0] in names]
    before = {name: sys.modules.pop(name) for name in ours}
    sys.modules.update(mine)
    try:
        import_module("im2colnet_cupy")
        made = {name: sys.modules[name] for name in list(sys.modules) if name.startswith("im2colnet_cupy")}
        made["im2colnet_cupy.cuda"].THREADS = 8  # a block's threads run one after the other
        made["im2colnet_cupy.sums"].SUM_BLOCKS = 3
        library = Library()
        made["im2colnet_cupy.graphs"].library = lambda: library
        return made
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("im2colnet_cupy", *mine)]:
            del sys.modules[name]
        sys.modules.update(before)
